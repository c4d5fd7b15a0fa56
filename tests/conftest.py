"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# Examples are small, but a shared machine may be slow: time per example proves nothing here.
settings.register_profile("sitpayd", deadline=None)
settings.load_profile("sitpayd")

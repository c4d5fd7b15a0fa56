"""What holds for every test."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.proofs"]

# Examples are small, but a shared machine may be slow: time per example proves nothing here.
settings.register_profile("sitpayd", deadline=None)
settings.load_profile("sitpayd")

# Folders whose tests run daemons, browsers and other clients. On two workers (`make test`) they
# share one, and what they wait for is not held up by their like.
_LIVE: Final = frozenset({"browser", "end_to_end", "peers", "soak", "soak_protocol", "torture"})
_HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together: the live ones, and each other file's."""
    for item in items:
        place = item.path.relative_to(_HERE)
        group = "live" if place.parts[0] in _LIVE else str(place)
        item.add_marker(pytest.mark.xdist_group(group))

"""Errors of the daemon. The protocol package has its own base, since it stands alone."""

from __future__ import annotations


class SitpaydError(Exception):
    """Base of every error of sitpayd outside `whatsapp`."""


class ConfigurationError(SitpaydError):
    """The configuration cannot be used; the message is one line that names the key and its source."""

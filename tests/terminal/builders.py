"""Devices as the daemon tells of them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from sitpayd.terminal.screen import Paint
from sitpayd.terminal.views import DeviceView, Json

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def told_device(**changes: object) -> Json:
    """A device in the daemon's JSON."""
    return {
        "session_id": "wa_7Hq2mXy0CpWZ4tR8kVbN",
        "partner": 3,
        "partner_name": "ABC Reseller",
        "device_name": "John iPhone",
        "phone": "…3210",
        "status": "connected",
        "reason": None,
        "since": (NOW - timedelta(hours=3)).isoformat(),
        "until": None,
        "verified_at": (NOW - timedelta(seconds=12)).isoformat(),
        "evidence": "pong",
        **changes,
    }


def a_device(**changes: object) -> DeviceView:
    """A device."""
    return DeviceView.parse(told_device(**changes))


def told_history(*events: Json, **changes: object) -> Json:
    """A device's history in the daemon's JSON; events newest first."""
    return {
        "type": "success",
        "device": told_device(**changes),
        "explanation": {"cause": "It is so.", "next": "It stays so.", "advice": None},
        "events": list(events),
    }


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


def plain() -> Paint:
    """No colours."""
    return Paint(io.StringIO())

"""A daemon whose actors all crash when they start: `python -m tests.end_to_end.crashing_daemon`."""

from __future__ import annotations

from sitpayd.actors.device import DeviceActor
from sitpayd.actors.events import Started
from sitpayd.cli import main


async def _crash(_: DeviceActor) -> Started:
    raise ZeroDivisionError


if __name__ == "__main__":
    DeviceActor._started = _crash  # type: ignore[method-assign,assignment]
    main()

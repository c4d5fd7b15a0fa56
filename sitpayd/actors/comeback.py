"""Comeback: devices that wait for a network they share; who gets through brings others along.

After minutes without a network a device waits up to five minutes before it dials again, and knows
nothing of its neighbours. Here the first that gets through lets two of those that wait dial at
once, each of these two more: all are back as soon as the bucket of dials allows. Where only few get
through it dies out by itself, and a server that is short of room is not stormed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sitpayd.actors.messages import Reachable
from sitpayd.actors.registry import DeviceBusyError, DeviceHandle

BROUGHT_ALONG: Final = 2


class Comeback:
    """Which devices wait, longest first."""

    def __init__(self) -> None:
        # Not a plain dict: taking its first entry again and again walks over all that were taken.
        self._waiting: OrderedDict[DeviceHandle, None] = OrderedDict()

    def waits(self, handle: DeviceHandle) -> None:
        """A device waits for what keeps others away, too."""
        self._waiting[handle] = None

    def left(self, handle: DeviceHandle) -> None:
        """A device waits no more, or for something of its own."""
        self._waiting.pop(handle, None)

    def got_through(self) -> None:
        """A device is connected: let others try."""
        for _ in range(min(BROUGHT_ALONG, len(self._waiting))):
            handle, _ = self._waiting.popitem(last=False)
            try:
                handle.post(Reachable())
            except DeviceBusyError:
                # It has other work, and its own time to dial.
                continue

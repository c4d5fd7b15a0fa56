"""Timekeeping: what the daemon does when the wall clock jumps, or the machine slept.

Both look the same from here: the wall clock and the monotonic one have come apart. What waits in
the database is moved by the difference, so that no message expires before it has waited its time;
and every connection is asked at once whether it still stands, since a machine that slept has lost
them without being told.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Final

import trio

from sitpayd import clock
from sitpayd.actors.messages import Probe
from sitpayd.actors.registry import DeviceBusyError, DeviceRegistry
from sitpayd.errors import StorageBusyError, StorageFullError
from sitpayd.log import get_logger
from sitpayd.storage import deadlines
from sitpayd.storage.database import Database

LOOK_INTERVAL_S: Final = 1.0

_log = get_logger()


async def take_over(database: Database) -> None:
    """Count on from where an earlier process of this run of the machine has counted.

    A jump of the wall clock meanwhile is then one like any other. Called before anything looks at a
    deadline. After another start of the machine nobody can tell a jump from the time that has
    passed, and the wall clock is believed.
    """
    boot = clock.boot_id()
    if boot is None:
        return
    noted_s = await database.read(deadlines.noted_offset, boot)
    if noted_s is not None:
        clock.CLOCK.count_from(noted_s)
        return
    with suppress(StorageFullError, StorageBusyError):  # then a later process believes the wall
        await database.write(deadlines.note_clock, boot, clock.CLOCK.offset_s)


class Timekeeper:
    """Looks for jumps."""

    def __init__(self, database: Database, registry: DeviceRegistry) -> None:
        self._database = database
        self._registry = registry
        # What was told of a jump that is not in the database yet.
        self._told_s = 0.0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            with suppress(StorageFullError, StorageBusyError):  # the next look tries again
                await self.look()
            await trio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Follow the wall clock if it jumped, and have every connection proved.

        Raises:
            StorageError: If the deadlines could not be moved; nothing follows then.
        """
        steady = clock.CLOCK
        drift_s = steady.drift()
        if abs(drift_s) < deadlines.MIN_JUMP_S:
            return
        if abs(drift_s - self._told_s) >= deadlines.MIN_JUMP_S:
            self._told_s = drift_s
            _log.warning("clock.jumped", by_s=round(drift_s, 1))
            # First: a socket that died while the machine slept is found by nothing else as soon.
            self._probe()
        await self._database.write_last(
            partial(
                deadlines.shift,
                by_s=drift_s,
                boot=clock.boot_id(),
                offset_s=steady.offset_s + drift_s,
            ),
            then=partial(steady.follow, drift_s),
        )
        self._told_s = 0.0

    def _probe(self) -> None:
        for handle in self._registry:
            with suppress(DeviceBusyError):  # it has news from its connection to work through
                handle.post(Probe())

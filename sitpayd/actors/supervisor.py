"""DeviceSupervisor: runs every device's actor and is the only one that starts it again.

A crash of one device never touches another. Network trouble is no crash: the machine deals with it.
Now and then it rings every device that has something to send, for rows that nobody rang for.
The heartbeat shows that the loop still turns; the systemd watchdog is fed only while it is fresh.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from sitpayd.actors.device import DeviceActor
from sitpayd.actors.phase import Phase
from sitpayd.actors.recorder import Noted
from sitpayd.actors.registry import DeviceHandle, DeviceRegistry
from sitpayd.actors.restarts import Escalate, RestartPolicy
from sitpayd.actors.status import CHECK_EACH_S, DeviceStatus
from sitpayd.actors.world import World
from sitpayd.errors import (
    DatabaseUnusableError,
    SitpaydError,
    StorageBusyError,
    StorageFullError,
)
from sitpayd.log import get_logger
from sitpayd.storage.inbox import devices_that_owe_reads
from sitpayd.storage.outbox import devices_that_wait

HEARTBEAT_S: Final = 1.0
# Devices whose proof is looked at before others get their turn: about half a millisecond.
CHECKED_AT_A_TIME: Final = 500
REMIND_S: Final = 30.0

_log = get_logger()


class EscalationError(SitpaydError):
    """Too many devices crashed at once: the process had better start anew."""


class DeviceSupervisor:
    """Runs the actors of a registry.

    Attributes:
        beat_at: clock seconds of the last heartbeat.
    """

    def __init__(self, registry: DeviceRegistry, world: World) -> None:
        self._registry = registry
        self._world = world
        self._policy = RestartPolicy()
        self._count = 0
        self.beat_at = -float("inf")

    async def run(self) -> None:
        """Start an actor for every device that arrives, until cancelled.

        Raises:
            EscalationError: If too many different devices crash within a minute; in a group.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._world.alarms.run)
            nursery.start_soon(self._beat)
            nursery.start_soon(self._remind)
            nursery.start_soon(self._doubt)
            async for handle in self._registry.arrivals:
                nursery.start_soon(self._supervise, handle)

    async def _supervise(self, handle: DeviceHandle) -> None:
        self._count += 1
        try:
            while not await self._life(handle):
                pass
        finally:
            self._count -= 1
        self._policy.forget(handle.session_id)
        self._registry.release(handle.session_id)
        self._world.board.remove(handle.session_id, datetime.now(UTC))

    async def _life(self, handle: DeviceHandle) -> bool:
        """One life of an actor and what follows its crash; whether it ended for good."""
        ended = False
        try:
            with handle.life():
                await DeviceActor(handle, self._world).run()
                ended = True
        except Exception as error:
            if _is_of_the_database(error):
                raise  # damaged: no restart of an actor mends that
            row, handle.row_in_hand = handle.row_in_hand, None
            verdict = self._policy.crashed(handle.session_id, self._count, trio.current_time(), row)
            _log.exception("device.crashed", session_id=handle.session_id, row=row)
            handle.recorder.note(Noted.CRASH, ", ".join(sorted(_names(error))))
        else:
            if not ended:
                _log.info("device.restarted", session_id=handle.session_id)
                handle.recorder.note(Noted.OPERATION, "restart")
                handle.recorder.note(Noted.RESTART)
            return ended
        if isinstance(verdict, Escalate):
            raise EscalationError(f"{verdict.devices} devices crashed within a minute")
        if verdict.poison is not None:
            handle.poison = verdict.poison
        if verdict.faulted:
            record = handle.record
            now = datetime.now(UTC)
            self._world.board.publish(
                DeviceStatus(
                    record.session_id,
                    record.partner_id,
                    Phase.FAULTED.value,
                    "crashing",
                    now,
                    now + timedelta(seconds=verdict.delay_s),
                )
            )
            handle.recorder.note(Noted.FAULTED, f"{verdict.delay_s:.0f}")
            handle.notify()
            if verdict.alarm:
                _log.error("device.faulted", session_id=handle.session_id)
        else:
            handle.recorder.note(Noted.RESTART, f"{verdict.delay_s:.0f}")
        with handle.life():
            await trio.sleep(verdict.delay_s)
        return False

    async def _remind(self) -> None:
        """Ring for what was stored when its caller was gone before the commit, and nobody rang.

        One question for all devices: each asking for itself costs a thread's turn per device.
        """
        while True:
            await trio.sleep(REMIND_S)
            try:
                waiting = await self._world.database.read(devices_that_wait)
                owing = await self._world.database.read(devices_that_owe_reads)
            except (StorageBusyError, StorageFullError) as error:
                _log.warning("reminder.failed", error=str(error))
                continue
            for session_id in waiting:
                handle = self._registry.get(session_id)
                if handle is not None:
                    handle.ring()
            for session_id in owing:
                handle = self._registry.get(session_id)
                if handle is not None:
                    handle.ring_for_reads()

    async def _doubt(self) -> None:
        """Look again and again whether connected devices still prove that they are."""
        while True:
            await trio.sleep(CHECK_EACH_S)
            for number, handle in enumerate(self._registry, 1):
                self._world.board.check(
                    handle.session_id, handle.proof, trio.current_time(), datetime.now(UTC)
                )
                if number % CHECKED_AT_A_TIME == 0:
                    await trio.lowlevel.checkpoint()

    async def _beat(self) -> None:
        while True:
            self.beat_at = trio.current_time()
            await trio.sleep(HEARTBEAT_S)


def _names(error: BaseException) -> set[str]:
    """The classes of what was raised: a group's own tells nothing, a message may tell too much."""
    if isinstance(error, BaseExceptionGroup):
        return {name for inner in error.exceptions for name in _names(inner)}
    return {type(error).__name__}


def _is_of_the_database(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.subgroup(DatabaseUnusableError) is not None
    return isinstance(error, DatabaseUnusableError)

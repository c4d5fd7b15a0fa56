"""RevisionWatch: which revision of WhatsApp's web client the whole fleet announces.

WhatsApp refuses old revisions with failure 405, account by account, some months after they came
out. One refusal concerns all devices, so it is dealt with once: the current revision is looked up
where the operator said, at most once an hour, whoever asks. If it is higher, every device announces
it from then on, and those that rest as OUTDATED are told. Otherwise there is one alarm, not one for
each device, and the next look-up an hour later. What was learned and what was refused is remembered
over restarts; so a newer version of this program wakes its devices by itself.

A newer revision is never looked for unasked: it may change how the server behaves.

Source: failure 405 in whatsmeow types/events/events.go.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio

from sitpayd.actors.messages import Revised
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceBusyError, DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.errors import SitpaydError, StorageBusyError, StorageFullError
from sitpayd.log import get_logger
from sitpayd.metrics import Metrics
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.facts import fact, note_fact
from sitpayd.whatsapp.stanzas.login import ClientInfo

# Between two look-ups, whatever happens.
LOOK_UP_EVERY_S: Final = 3600.0
# A look-up that takes longer has failed.
LOOK_UP_WITHIN_S: Final = 10.0
# Devices told before others get their turn.
TOLD_AT_A_TIME: Final = 500

_LEARNED: Final = "learned_revision"
_REFUSED: Final = "refused_revision"

_log = get_logger()


class RevisionUnknownError(SitpaydError):
    """The current revision could not be looked up."""


LookUp = Callable[[], Awaitable[int]]
"""Finds the current revision, or raises RevisionUnknownError; the caller brings the deadline."""


class RevisionWatch:
    """What the fleet says it is.

    Attributes:
        client: what devices announce with their next login.
        alarm: WhatsApp refuses what they announce, and nothing newer is known.

    Args:
        look_up: None: there is nowhere to look.
    """

    def __init__(
        self,
        client: ClientInfo | None = None,
        look_up: LookUp | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.client = client or ClientInfo()
        self.alarm = False
        self._metrics = metrics or Metrics()
        self._look_up = look_up
        self._refused = 0
        self._refusal = trio.Event()

    async def restore(self, database: Database) -> None:
        """Remember what earlier lives of the daemon learned."""
        learned, self._refused = await database.read(_load)
        # This version's own revision may be the newer one.
        self._announce(max(learned, self.client.revision))

    def refused(self, revision: int | None) -> bool:
        """Take that WhatsApp refuses a revision.

        Args:
            revision: None: one that an earlier life announced.

        Returns:
            Whether a newer one is announced by now, so that another login makes sense.
        """
        self._refused = max(self._refused, revision or 0)
        if self.client.revision > self._refused:
            return True
        self._refusal.set()
        return False

    async def run(self, database: Database, registry: DeviceRegistry, board: StatusBoard) -> None:
        """Deal with refusals as they come."""
        next_at = -math.inf
        while True:
            await self._refusal.wait()
            self._refusal = trio.Event()
            await self._remember(database)
            while self.client.revision <= self._refused:
                if self._look_up is None or trio.current_time() < next_at:
                    self._sound_alarm()
                if self._look_up is None:
                    break
                await trio.sleep_until(next_at)
                next_at = trio.current_time() + LOOK_UP_EVERY_S
                found = await self._ask(self._look_up)
                if found > self._refused:
                    self._announce(found)
                    _log.info("client.revised", revision=found)
                else:
                    self._sound_alarm()
            else:
                self._alarm(False)
                await self._remember(database)
                await _tell(registry, board)

    async def _ask(self, look_up: LookUp) -> int:
        try:
            with trio.fail_after(LOOK_UP_WITHIN_S):
                return await look_up()
        except (RevisionUnknownError, trio.TooSlowError) as error:
            _log.warning("client.revision_unknown", error=str(error) or "it took too long")
            return 0

    async def _remember(self, database: Database) -> None:
        try:
            await database.write(_save, self.client.revision, self._refused)
        except (StorageFullError, StorageBusyError) as error:
            # Then it is learned anew after a restart.
            _log.warning("client.revision_not_stored", error=str(error))

    def _announce(self, revision: int) -> None:
        self.client = replace(self.client, revision=revision)

    def _sound_alarm(self) -> None:
        if not self.alarm:
            _log.error("client.outdated", revision=self.client.revision)
            self._alarm(True)

    def _alarm(self, alarm: bool) -> None:
        self.alarm = alarm
        self._metrics.outdated(alarm)


async def _tell(registry: DeviceRegistry, board: StatusBoard) -> None:
    for count, handle in enumerate(registry, start=1):
        known = board.get(handle.session_id)
        if known is not None and known.status == Phase.OUTDATED:
            # One whose mailbox is full asks again in its next life.
            with suppress(DeviceBusyError):
                handle.post(Revised())
        if count % TOLD_AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()


def _load(unit: Unit) -> tuple[int, int]:
    return fact(unit, _LEARNED) or 0, fact(unit, _REFUSED) or 0


def _save(unit: Unit, learned: int, refused: int) -> None:
    note_fact(unit, _LEARNED, learned)
    note_fact(unit, _REFUSED, refused)

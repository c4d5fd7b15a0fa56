"""Acquaintances: number checks, read marks and our own name, between machine and database.

Performs the machine's commands about people that read or commit. This file decides nothing and
knows no socket. Messages and receipts are reception.py, keys and the outbox memory.py.
"""

from __future__ import annotations

from typing import Final, assert_never

from sitpayd.actors.commands import AboutPeople, LoadReads, MarkReadsTold, SaveChecks, TakeChecks
from sitpayd.actors.events import ChecksTaken, ReadsLoaded
from sitpayd.actors.pacing import PacingLimits
from sitpayd.errors import StorageBusyError, StorageFullError
from sitpayd.metrics import Metrics
from sitpayd.storage import account, checks, inbox
from sitpayd.storage.database import Database
from sitpayd.storage.records import PUSH_NAME_FACT
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.presence import own_presence, shown_name

# Read marks loaded at a time.
READS_AT_A_TIME: Final = 200
# The fact that holds what the account calls itself, UTF-8.
# Shown where there is no name at all; what others see of a client that told none.
NAMELESS: Final = "-"


class Acquaintances:
    """What one device knows of people, and people of it.

    Args:
        limits: None: any number of numbers may be looked up.
    """

    def __init__(
        self, database: Database, device_id: int, limits: PacingLimits | None, metrics: Metrics
    ) -> None:
        self._database = database
        self._device_id = device_id
        self._per_hour = None if limits is None else limits.number_checks_per_hour
        self._metrics = metrics

    async def perform(self, command: AboutPeople) -> ChecksTaken | ReadsLoaded | None:
        """Perform a command."""
        match command:
            case TakeChecks():
                return await self._take_checks(command.numbers)
            case SaveChecks():
                await self._database.write(checks.note, self._device_id, command.answers)
            case LoadReads():
                return await self._load_reads(command.without)
            case MarkReadsTold():
                await self._database.write(inbox.mark_reads_told, self._device_id, command.row_ids)
            case _:
                assert_never(command)
        return None

    async def owes_reads(self) -> bool:
        """Whether messages were read that WhatsApp was not told of."""
        return await self._database.read(inbox.owes_reads, self._device_id)

    async def presence(self, device_name: str, *, available: bool) -> Node:
        """Tell whether we are online, under the account's own name if it is known."""
        told = await self._database.read(account.fact, self._device_id, PUSH_NAME_FACT)
        names = ((told or b"").decode(errors="ignore"), device_name, NAMELESS)
        name = next(name for name in names if shown_name(name))
        return own_presence(name, available=available)

    async def _take_checks(self, wanted: tuple[str, ...]) -> ChecksTaken:
        try:
            numbers = await self._database.write(
                checks.take, self._device_id, wanted, self._per_hour
            )
        except (StorageFullError, StorageBusyError):
            # Who asks is told; a question that was not asked is worth no connection.
            return ChecksTaken(None)
        self._metrics.number_checks(len(numbers))
        return ChecksTaken(numbers)

    async def _load_reads(self, without: tuple[int, ...]) -> ReadsLoaded:
        marks = await self._database.read(
            inbox.untold_reads, self._device_id, READS_AT_A_TIME, without
        )
        return ReadsLoaded(tuple(marks), more=len(marks) == READS_AT_A_TIME)

"""A daemon with one mistake: `python -m tests.torture.mutant_daemon MUTANT serve`.

The mistakes are those that a reasonable person makes. They are patched in here, in this process;
the product knows no such switch.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from sitpayd.actors.commands import Arm, Command, Mark, Write
from sitpayd.actors.device import DeviceActor
from sitpayd.actors.events import Armed, NotArmed
from sitpayd.actors.memory import DeviceMemory
from sitpayd.cli import main
from sitpayd.storage import outbox
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import OutboxRow, RowState
from sitpayd.whatsapp.message_id import new_wa_message_id


def late_commit() -> None:
    """Ratchet and stanza are stored after the frame has left."""
    late: dict[int, Callable[[], Awaitable[object]]] = {}
    write, perform = Database.write, DeviceActor._perform

    async def write_later(self: Database, operation: object, *args: object, **kw: object) -> object:
        if getattr(operation, "func", operation) is outbox.arm:
            row_id = args[1]
            assert isinstance(row_id, int)
            late[row_id] = partial(write, self, operation, *args, **kw)  # type: ignore[arg-type]
            return True
        return await write(self, operation, *args, **kw)  # type: ignore[arg-type]

    async def commit_afterwards(self: DeviceActor, command: Command, *more: object) -> object:
        result = await perform(self, command, *more)  # type: ignore[arg-type]
        if isinstance(command, Write) and command.armed.row.id in late:
            await late.pop(command.armed.row.id)()
        return result

    Database.write = write_later  # type: ignore[method-assign,assignment]
    DeviceActor._perform = commit_afterwards  # type: ignore[method-assign,assignment]


def encrypt_again() -> None:
    """The ciphertext is not kept: a repetition is encrypted anew."""
    _forget_stanza(lambda row: row.wa_message_id)


def new_id() -> None:
    """Every attempt is a message of its own, as a library's send function makes it."""
    _forget_stanza(lambda _: new_wa_message_id())


def early_sent() -> None:
    """A row counts as sent once it is written."""
    perform = DeviceActor._perform

    async def mark_first(self: DeviceActor, command: Command, *more: object) -> object:
        if isinstance(command, Write):
            await self._memory.mark(Mark(command.armed.row, RowState.SENT))
        return await perform(self, command, *more)  # type: ignore[arg-type]

    DeviceActor._perform = mark_first  # type: ignore[method-assign,assignment]


def _forget_stanza(id_of: Callable[[OutboxRow], str]) -> None:
    """Take every armed row for one that is yet to be encrypted."""
    next_row, arm = outbox.next_row, DeviceMemory.arm

    def next_bare_row(unit: Unit, device_id: int, **more: bool) -> OutboxRow | None:
        row = next_row(unit, device_id, **more)
        if row is None or row.stanza is None or row.missed_devices:
            return row
        return replace(row, stanza=None, wa_message_id=id_of(row))

    def reopen(unit: Unit, row: OutboxRow) -> None:
        unit.run(
            "UPDATE outbox SET state = 'accepted', wa_message_id = ?"
            " WHERE id = ? AND state = 'armed'",
            (row.wa_message_id, row.id),
        )

    async def arm_again(self: DeviceMemory, command: Arm) -> Armed | NotArmed:
        if command.row.state is RowState.ARMED:
            await self._database.write(reopen, command.row)
        return await arm(self, command)

    outbox.next_row = next_bare_row
    DeviceMemory.arm = arm_again  # type: ignore[method-assign]


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    mutant.__name__: mutant for mutant in (late_commit, encrypt_again, new_id, early_sent)
}


if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    main(sys.argv[2:])

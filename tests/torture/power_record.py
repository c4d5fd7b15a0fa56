"""Sends through a daemon that is watched by strace, and writes down what it promises when.

    python -m tests.torture.power_record DIRECTORY URL ROOT_KEY SENDS MUTANT TOKEN...

Marks go to a file of their own with one write each, so that they stand in the same order of system
calls as what the database does: a stanza is marked before it leaves, an answer when it begins.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from sitpayd.log import configure
from sitpayd.storage import database as product
from sitpayd.storage import outbox
from sitpayd.storage.records import RowState
from tests.support.waiting import eventually
from tests.torture.house import House, open_house, watched
from tests.torture.mutant_daemon import MUTANTS

MARKS: Final = "marks"
DATABASE: Final = "sitpayd.db"
# Ten times as often as the product, so that a short run sees what a long one would.
AUTOCHECKPOINT_PAGES: Final = 200
# A mistake of one word, besides those of the storm's mutants.
NORMAL: Final = "synchronous_normal"
NONE: Final = "none"
SETTLED_WITHIN_S: Final = 60.0
TEXT_LENS: Final = (1, 20, 160, 700)
# Of so many sends one takes 202 for an answer.
QUEUED_OF: Final = 3


class Recorder:
    """Marks what leaves the daemon."""

    def __init__(self, directory: Path) -> None:
        self._marks = os.open(directory / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def mark(self, kind: str, *values: object) -> None:
        """Write a mark."""
        os.write(self._marks, json.dumps([kind, *values]).encode() + b"\n")


async def record(directory: Path, url: str, root_key: bytes, sends: int, tokens: list[str]) -> None:
    """Send so many messages in all, each device one after the other."""
    recorder = Recorder(directory)

    def answered(key: str, status: int) -> None:
        recorder.mark("answered", key, status)

    def left(stanza: bytes) -> None:
        recorder.mark("wire", stanza.hex())

    async with open_house(
        directory / DATABASE, url, root_key, converse=watched(left), answered=answered
    ) as house:
        await house.connected()
        async with trio.open_nursery() as nursery:
            for device, token in enumerate(tokens):
                serials = range(device, sends, len(tokens))
                nursery.start_soon(_send_all, house, recorder, token, serials)
        await house.database.truncate_log()
        await eventually(partial(_is_settled, house, len(tokens)), "all is sent", SETTLED_WITHIN_S)


async def _send_all(house: House, recorder: Recorder, token: str, serials: range) -> None:
    for serial in serials:
        key, text = f"send-{serial}", "x" * TEXT_LENS[serial % len(TEXT_LENS)]
        headers = {"Prefer": "respond-async"} if serial % QUEUED_OF == 0 else {}
        body = await (await house.send(token, key, text, **headers)).get_json()
        recorder.mark("named", key, body.get("wa_message_id"))
        if serial == serials[len(serials) // 2]:
            await house.database.truncate_log()


async def _is_settled(house: House, devices: int) -> bool:
    for device_id in range(1, devices + 1):
        row = await house.database.read(outbox.messages, device_id, None, 1_000_000)
        assert row is not None
        if not all(RowState(view.state).is_settled for view in row.messages):
            return False
    return True


def _configure_normal(
    pragmas: tuple[str, ...], driver: sqlite3.Connection, _record: object
) -> None:
    _configure(pragmas, driver, _record)
    driver.execute("PRAGMA synchronous=NORMAL")


_configure = product._configure


def main(directory: str, url: str, root_key: str, sends: str, mutant: str, *tokens: str) -> None:
    """Record."""
    product.WAL_AUTOCHECKPOINT_PAGES = AUTOCHECKPOINT_PAGES  # type: ignore[misc]
    if mutant == NORMAL:
        product._configure = _configure_normal
    elif mutant != NONE:
        MUTANTS[mutant]()
    configure("warning", "text")
    trio.run(record, Path(directory), url, bytes.fromhex(root_key), int(sends), list(tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])

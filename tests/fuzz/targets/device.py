"""A whole device: actor, machine, sessions and database, with a server and peers that are hostile.

An input is a list of turns (`turns.py`). The first byte of each says who speaks: the server with
any stanza, a friend or our own phone with any message inside a right ciphertext. Afterwards a
stranger writes to the device, and that message must have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import IntEnum
from functools import partial
from random import Random
from typing import Final, TypeVar
from unittest.mock import patch

import trio
from sqlalchemy import Connection
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.storage import database as database_module
from sitpayd.storage import inbox
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas.content import pad, text_message
from tests.fuzz import seeds, trees, turns
from tests.fuzz.mutators import change
from tests.fuzz.payloads import payloads
from tests.fuzz.people import steady
from tests.fuzz.protos import grown, rewired
from tests.fuzz.target import Outcome, Target
from tests.storage.builders import some_tenant, some_vault
from tests.whatsapp.signal.parties import Party

with steady("device"):
    # Their keys are made when they are first looked at.
    from tests.actors.builders import FRIEND_LID, OWN_LID, SERVER_T
    from tests.actors.test_device import Stage

T = TypeVar("T")

_STRANGER: Final = lid("300000000000003")
# To begin a device's life costs more than what it hears.
_TOGETHER: Final = 6
_WORDS: Final = "Can you hear me?"


class Speaker(IntEnum):
    """Who has a turn."""

    SERVER = 0
    FRIEND = 1
    PHONE = 2


_PEERS: Final = {Speaker.FRIEND: FRIEND_LID, Speaker.PHONE: OWN_LID.bare}


class Device(Target):
    """`actors.device` and everything below it."""

    name = "device"
    summary = "no stanza and no message brings a device down, or keeps another person from it"
    base_s = 2.0
    per_byte_s = 1e-3

    def __init__(self) -> None:
        self._schema = trio.run(_schema)

    def seeds(self) -> Sequence[bytes]:
        said = [
            *(bytes((Speaker.SERVER,)) + seed for seed in seeds.stanzas() if not _ends(seed)),
            *(
                bytes((speaker,)) + message
                for speaker in _PEERS
                for message in payloads()["stanzas.content.parse_message"]
            ),
        ]
        last = [bytes((Speaker.SERVER,)) + seed for seed in seeds.stanzas() if _ends(seed)]
        conversations = [said[at : at + _TOGETHER] for at in range(0, len(said), _TOGETHER)]
        return [turns.joined(some) for some in (*conversations, *([turn] for turn in last))]

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        return turns.changed(rng, data, other, _changed_turn)

    def check(self, data: bytes) -> Sequence[Outcome]:
        with steady("check"), ExitStack() as stack:
            # To migrate a fresh database takes longer than everything else.
            stack.enter_context(patch.object(database_module, "upgrade", self._make_tables))
            # To a clock that jumps, whoever waits for a thread looks idle.
            stack.enter_context(patch.object(trio.to_thread, "run_sync", _at_once))
            live = partial(_live, turns.turns_of(data))
            try:
                return trio.run(live, clock=MockClock(autojump_threshold=0))
            except BaseExceptionGroup as group:
                raise _first_of(group) from None

    def _make_tables(self, connection: Connection) -> None:
        for statement in self._schema:
            connection.exec_driver_sql(statement)


def _ends(seed: bytes) -> bool:
    return decode(seed).tag in ("failure", "stream:error", "xmlstreamend")


async def _at_once(work: Callable[..., T], *arguments: object, limiter: trio.CapacityLimiter) -> T:
    await trio.lowlevel.checkpoint()
    return work(*arguments)


async def _schema() -> list[str]:
    """What makes a database of the newest schema, statement by statement."""
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        return await database.read(_statements)


def _statements(unit: Unit) -> list[str]:
    made = unit.rows("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    version = unit.one("SELECT version_num FROM alembic_version")[0]
    return [*(row[0] for row in made), f"INSERT INTO alembic_version VALUES ('{version}')"]


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first_of(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _changed_turn(rng: Random, turn: bytes, donor: bytes) -> bytes:
    speaker, body, other = turn[:1], turn[1:], donor[1:]
    if speaker[0] % len(Speaker) == Speaker.SERVER:
        return speaker + (trees.changed(rng, body, other) or change(rng, body, other))
    choice = rng.random()
    if choice < 0.5:
        return speaker + grown(rng, pb.Message, body)
    return speaker + (rewired if choice < 0.9 else change)(rng, body, other)


async def _live(said: Sequence[bytes]) -> list[Outcome]:
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        stage = Stage(database, await some_tenant(database))
        keys = await stage.link()
        peers = {speaker: _acquainted(keys) for speaker in _PEERS}
        heard: list[Outcome] = []
        async with stage.life():
            line = await stage.log_in()
            await stage.send()
            await wait_all_tasks_blocked()
            for turn in said:
                before = len(line.heard)
                node = _stanza(turn, peers)
                if node is None or line.ended.is_set():
                    continue
                await line.say(node)
                await wait_all_tasks_blocked()
                answers = tuple(answer.tag for answer in line.heard[before:])
                heard.append((node.tag, answers[:3], stage.status))
            if not line.ended.is_set():
                await line.say(_message(_acquainted(keys), _STRANGER, text_message(_WORDS)))
                await wait_all_tasks_blocked()
                # Unless it was what ended the connection after all.
                if not line.ended.is_set():
                    assert await _has_arrived(database, stage), "a stranger's message is lost"
        return heard


def _acquainted(keys: DeviceKeys) -> Party:
    """Somebody who has fetched the device's keys when it had no one-time prekeys left."""
    party = Party(1)
    party.begin(
        PreKeyBundle(
            keys.registration_id,
            keys.identity.public_key,
            keys.signed_prekey.key_id,
            keys.signed_prekey.key_pair.public_key,
            keys.signed_prekey.signature,
            None,
            None,
        )
    )
    return party


def _stanza(turn: bytes, peers: dict[Speaker, Party]) -> Node | None:
    speaker = Speaker(turn[0] % len(Speaker))
    if speaker is Speaker.SERVER:
        try:
            return decode(turn[1:])
        except RemoteProtocolError:
            return None
    return _message(peers[speaker], _PEERS[speaker], turn[1:])


def _message(sender: Party, from_: Jid, plaintext: bytes) -> Node:
    encrypted = sender.send(pad(plaintext))
    enc = Node("enc", {"v": "2", "type": encrypted.kind}, encrypted.body)
    sender.handed_out += 1
    attrs: dict[str, Attr] = {"id": f"M{sender.handed_out}", "from": from_, "t": str(SERVER_T)}
    return Node("message", attrs, (enc,))


async def _has_arrived(database: Database, stage: Stage) -> bool:
    stored = await database.read(inbox.messages_after, stage.device.id, 0, 100)
    return any(view.text == _WORDS for _, view in stored)

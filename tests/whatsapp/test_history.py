"""Histories and migrations, as they stream in."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sitpayd.whatsapp import history
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.history import (
    MAX_FIELD_LEN,
    Chat,
    HistoryItem,
    NctSalt,
    PushName,
    inflated,
    read_history,
    read_mappings,
)
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas.message import LidMapping

NUMBER, LID = pn("4915112345678"), lid("200000000000002")
T = 1_760_000_000
A_MESSAGE = pb.HistorySyncMsg(
    message=pb.WebMessageInfo(
        key=pb.MessageKey(id="3EB0", fromMe=True), message=pb.Message(conversation="hello")
    )
)
A_NOTE = pb.HistorySyncMsg(message=pb.WebMessageInfo(key=pb.MessageKey(id="3EB1")))


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(message: pb.HistorySync, size: int = 3) -> list[HistoryItem]:
    return all_of(read_history(chunks(message.SerializeToString(), size)))


def all_of(lists: Iterable[list[HistoryItem]]) -> list[HistoryItem]:
    return [item for items in lists for item in items]


def chat(**fields: object) -> list[HistoryItem]:
    conversation = pb.Conversation(**fields)  # type: ignore[arg-type]  # of the message
    return read(pb.HistorySync(conversations=[conversation]))


# --- what is told ---


def test_numbers_and_lids_are_told() -> None:
    pair = pb.PhoneNumberToLIDMapping(pnJid=str(NUMBER), lidJid=str(LID))
    assert read(pb.HistorySync(phoneNumberToLidMappings=[pair])) == [LidMapping(NUMBER, LID)]


def test_names_are_told() -> None:
    named = pb.Pushname(id=str(NUMBER), pushname="Jürgen")
    assert read(pb.HistorySync(pushnames=[named])) == [PushName(NUMBER, "Jürgen")]


def test_salt_is_told() -> None:
    assert read(pb.HistorySync(nctSalt=b"salt")) == [NctSalt(b"salt")]


def test_chat_tells_its_token_and_when_ours_was_given() -> None:
    told = chat(id=str(LID), tcToken=b"token", tcTokenTimestamp=T, tcTokenSenderTimestamp=T - 5)
    assert told == [Chat(LID, b"token", T, T - 5)]


@pytest.mark.parametrize("messages", [[A_MESSAGE], [A_NOTE, A_MESSAGE, A_MESSAGE]])
def test_chat_in_which_something_was_written_tells_that(messages: list[pb.HistorySyncMsg]) -> None:
    assert chat(id=str(NUMBER), messages=messages) == [Chat(NUMBER, has_messages=True)]


@pytest.mark.parametrize("messages", [[], [A_NOTE]], ids=["empty", "a note of the system"])
def test_chat_in_which_nothing_was_written_tells_nothing(
    messages: list[pb.HistorySyncMsg],
) -> None:
    assert chat(id=str(NUMBER), messages=messages) == []


def test_messages_of_one_chat_are_not_those_of_the_next() -> None:
    told = read(
        pb.HistorySync(
            conversations=[
                pb.Conversation(id=str(NUMBER), messages=[A_MESSAGE]),
                pb.Conversation(id=str(LID), tcToken=b"token", tcTokenTimestamp=T),
            ]
        )
    )
    assert told == [Chat(NUMBER, has_messages=True), Chat(LID, b"token", T)]


def test_chat_tells_who_has_which_lid() -> None:
    assert chat(id=str(LID), pnJid=str(NUMBER)) == [LidMapping(NUMBER, LID)]
    assert chat(id=str(NUMBER), lidJid=str(LID)) == [LidMapping(NUMBER, LID)]


@pytest.mark.parametrize(
    "id", ["1203630@g.us", "status@broadcast", "0@s.whatsapp.net", "", "x@lid", "nobody"]
)
def test_chat_that_is_not_with_a_person_tells_nothing(id: str) -> None:
    assert chat(id=id, tcToken=b"token", tcTokenTimestamp=T, messages=[A_MESSAGE]) == []


@pytest.mark.parametrize(
    "entry",
    [
        pb.HistorySync(pushnames=[pb.Pushname(id="nobody", pushname="x")]),
        pb.HistorySync(pushnames=[pb.Pushname(id=str(NUMBER))]),
        pb.HistorySync(phoneNumberToLidMappings=[pb.PhoneNumberToLIDMapping(pnJid=str(NUMBER))]),
        pb.HistorySync(
            phoneNumberToLidMappings=[
                pb.PhoneNumberToLIDMapping(pnJid=str(LID), lidJid=str(NUMBER))
            ]
        ),
    ],
)
def test_entry_that_makes_no_sense_does_not_take_the_others_away(entry: pb.HistorySync) -> None:
    entry.nctSalt = b"salt"
    assert read(entry) == [NctSalt(b"salt")]


def test_migration_tells_the_latest_lid() -> None:
    payload = pb.LIDMigrationMappingSyncPayload(
        pnToLidMappings=[
            pb.LIDMigrationMapping(pn=4915112345678, assignedLid=200000000000002),
            pb.LIDMigrationMapping(pn=4915112345679, assignedLid=1, latestLid=200000000000003),
            pb.LIDMigrationMapping(pn=4915112345670),
        ]
    ).SerializeToString()
    told = all_of(read_mappings(chunks(payload, 2)))
    assert told == [
        LidMapping(NUMBER, LID),
        LidMapping(pn("4915112345679"), lid("200000000000003")),
    ]


# --- any bytes ---


def people() -> SearchStrategy[str]:
    digits = st.from_regex("[1-9][0-9]{5,14}", fullmatch=True)
    return st.builds(lambda d, s: f"{d}@{s}", digits, st.sampled_from(["lid", "s.whatsapp.net"]))


def histories() -> SearchStrategy[pb.HistorySync]:
    conversations = st.builds(
        pb.Conversation,
        id=people(),
        messages=st.lists(st.sampled_from([A_MESSAGE, A_NOTE]), max_size=3),
        tcToken=st.none() | st.binary(max_size=20),
        tcTokenTimestamp=st.none() | st.integers(0, 2**64 - 1),
        tcTokenSenderTimestamp=st.none() | st.integers(0, 2**40),
    )
    return st.builds(
        pb.HistorySync,
        conversations=st.lists(conversations, max_size=4),
        pushnames=st.lists(st.builds(pb.Pushname, id=people(), pushname=st.text(max_size=9))),
        nctSalt=st.none() | st.binary(max_size=40),
    )


def expected(message: pb.HistorySync) -> list[HistoryItem]:
    """What the runtime reads of the same bytes."""
    found: list[HistoryItem] = []
    for one in message.conversations:
        user, _, server = one.id.partition("@")
        person = lid(user) if server == "lid" else pn(user)
        written = any(item.message.HasField("message") for item in one.messages)
        token, given_t = one.tcToken or None, one.tcTokenSenderTimestamp or None
        told = Chat(person, token, one.tcTokenTimestamp, given_t, written)
        found += [told] if told != Chat(person) else []
    for named in message.pushnames:
        user, _, server = named.id.partition("@")
        person = lid(user) if server == "lid" else pn(user)
        found += [PushName(person, named.pushname)] if named.pushname else []
    found += [NctSalt(message.nctSalt)] if message.nctSalt else []
    return found


@given(histories(), st.integers(1, 50))
def test_walking_tells_what_the_runtime_reads_however_it_is_cut(
    message: pb.HistorySync, size: int
) -> None:
    assert read(message, size) == expected(message)


@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_bytes_give_items_or_a_remote_error(data: bytes, size: int) -> None:
    for reader in (read_history, read_mappings):
        with suppress(RemoteProtocolError):
            list(reader(chunks(data, size)))


@given(histories(), st.binary(min_size=1, max_size=4), st.integers(0, 200))
def test_damaged_history_gives_items_or_a_remote_error(
    message: pb.HistorySync, patch: bytes, at: int
) -> None:
    good = message.SerializeToString()
    with suppress(RemoteProtocolError):
        list(read_history([good[:at] + patch + good[at + len(patch) :]]))


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05abc", b"\x08", b"\x08\x80", b"\x12\x02\x0a\x05abcde", b"\x12\x01\x09"],
    ids=["length", "bytes", "number", "half a number", "beyond its message", "beyond the chat"],
)
def test_history_that_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(read_history([data]))


@pytest.mark.parametrize(
    "data", [b"\x00\x00", b"\x0b", b"\x0c", b"\x0f", b"\xff" * 11, b"\x08" + b"\xff" * 9 + b"\x7f"]
)
def test_what_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(read_history([data]))


# --- limits ---


def test_field_that_is_too_long_is_passed_over() -> None:
    named = pb.Pushname(id=str(NUMBER), pushname="x" * MAX_FIELD_LEN)
    told = read(pb.HistorySync(pushnames=[named], nctSalt=b"salt"), size=1000)
    assert told == [NctSalt(b"salt")]


def test_history_of_too_many_people_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ITEMS", 2)
    named = [pb.Pushname(id=str(NUMBER), pushname="x")] * 3
    with pytest.raises(RemoteProtocolError, match="too many"):
        read(pb.HistorySync(pushnames=named))


@pytest.mark.parametrize("deflate", [zlib.compress, gzip.compress], ids=["zlib", "gzip"])
def test_both_ways_to_deflate_are_inflated(deflate: type[bytes]) -> None:
    data = os.urandom(1000) + bytes(200_000)
    assert b"".join(inflated(chunks(deflate(data), 100))) == data


@pytest.mark.parametrize(
    "data",
    [b"", b"x", zlib.compress(b"x")[:-1], zlib.compress(b"x") + b"y", bytes(100)],
    ids=["nothing", "garbage", "cut off", "more behind it", "zeros"],
)
def test_what_is_not_deflated_as_it_should_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(inflated(chunks(data, 2)))


def test_bomb_is_refused_at_its_limit() -> None:
    """T-49: a history inflates no further than its limit, and no step is large."""
    bomb = zlib.compress(bytes(10_000_000), 9)
    steps: list[int] = []
    with pytest.raises(RemoteProtocolError, match="beyond all measure"):
        steps.extend(map(len, inflated([bomb], 1_000_000)))
    assert sum(steps) <= 1_000_000
    assert max(steps) <= history.STEP_LEN


def test_long_history_costs_little_memory() -> None:
    """T-49, T-52: one chat of 64 MiB between two names."""
    filler = pb.HistorySyncMsg(
        message=pb.WebMessageInfo(message=pb.Message(conversation="x" * 2**20))
    )
    chat = pb.Conversation(
        id=str(LID), messages=[filler] * 64, tcToken=b"token", tcTokenTimestamp=T
    )
    named = pb.Pushname(id=str(NUMBER), pushname="Bob")
    whole = pb.HistorySync(conversations=[chat], pushnames=[named]).SerializeToString()
    deflated = zlib.compress(whole, 1)
    del filler, chat, whole
    tracemalloc.start()
    told = all_of(read_history(inflated(chunks(deflated, 65536))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told == [Chat(LID, b"token", T, has_messages=True), PushName(NUMBER, "Bob")]
    assert peak < 2 * 2**20

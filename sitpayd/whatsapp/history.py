"""history: what a phone tells a new companion about its chats, read as it streams in.

A history may inflate to hundreds of megabytes, nearly all of it messages that nobody here reads. So
nothing is ever held whole: the bytes are inflated in steps, the protobuf fields are walked one by
one, and what is not wanted, or longer than anything wanted can be, is skipped while it passes.
Who is who, how people call themselves, and their privacy tokens come out.

Source: public field lists of the WhatsApp Web schema 2.3000; whatsmeow message.go (history, LID
migration), Baileys lib/Utils/history.js.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .errors import RemoteProtocolError
from .jid import LID_SERVER, PN_SERVER, Jid
from .schema import whatsapp_pb2 as pb
from .stanzas.message import LidMapping
from .stanzas.wire import checked_text, parse_proto

MAX_HISTORY_LEN: Final = 512 * 1024 * 1024
# Bytes inflated in one step.
STEP_LEN: Final = 64 * 1024
# A field that is wanted and longer than this is skipped: names, addresses and tokens are short.
MAX_FIELD_LEN: Final = 4 * 1024
# More people than any account knows.
MAX_ITEMS: Final = 500_000

# Either of zlib and gzip. Source: zlib.h, inflateInit2.
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS
_MAX_VARINT_LEN: Final = 10
_MAX_U64: Final = 2**64 - 1
# A number or a LID; "0" is WhatsApp itself, which tells its users news.
_DIGITS: Final = re.compile("[1-9][0-9]{4,19}")


@dataclass(frozen=True, slots=True)
class PushName:
    """How a person calls itself."""

    jid: Jid
    name: str

    def __repr__(self) -> str:
        return "PushName()"


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat with one person.

    Attributes:
        token: the privacy token they gave us; None: none is told. token_t: its time, UTC seconds.
        given_t: when they were given ours, UTC seconds; None: never, as far as is told.
        has_messages: whether anything was written in it.
    """

    jid: Jid
    token: bytes | None = None
    token_t: int = 0
    given_t: int | None = None
    has_messages: bool = False

    def __repr__(self) -> str:
        return f"Chat(has_messages={self.has_messages})"


@dataclass(frozen=True, slots=True)
class NctSalt:
    """The secret that stands in for tokens of people who gave none."""

    salt: bytes

    def __repr__(self) -> str:
        return "NctSalt()"


HistoryItem = LidMapping | PushName | Chat | NctSalt


def inflated(pieces: Iterable[bytes], max_len: int = MAX_HISTORY_LEN) -> Iterator[bytes]:
    """Inflate zlib or gzip in small steps.

    Raises:
        RemoteProtocolError: If it is neither, ends too soon, goes on behind its end, or becomes
            longer than this.
    """
    inflater, length = zlib.decompressobj(_ANY_HEADER), 0
    for piece in pieces:
        waiting = piece
        while waiting and not inflater.eof:
            try:
                step = inflater.decompress(waiting, STEP_LEN)
            except zlib.error as error:
                raise RemoteProtocolError("not deflated") from error
            waiting = inflater.unconsumed_tail
            length += len(step)
            if length > max_len:
                raise RemoteProtocolError("it inflates beyond all measure")
            yield step
        if waiting or inflater.unused_data:
            raise RemoteProtocolError("bytes behind the end of what was deflated")
    if not inflater.eof:
        raise RemoteProtocolError("what was deflated is cut off")


def read_history(pieces: Iterable[bytes]) -> Iterator[list[HistoryItem]]:
    """Read a HistorySync, inflated, in pieces of any size.

    Returns:
        What each piece has completed, which may be nothing: so a reader can stop in between.

    Raises:
        RemoteProtocolError: If it is no protobuf, or tells of more people than anybody knows.
    """
    return _read(pieces, _Place.HISTORY)


def read_mappings(pieces: Iterable[bytes]) -> Iterator[list[HistoryItem]]:
    """Read a LIDMigrationMappingSyncPayload, inflated, in pieces of any size.

    Returns:
        As `read_history`.

    Raises:
        RemoteProtocolError: As `read_history`.
    """
    return _read(pieces, _Place.MIGRATION)


def _read(pieces: Iterable[bytes], place: _Place) -> Iterator[list[HistoryItem]]:
    walker, count = _Walker(place), 0
    for piece in pieces:
        items = walker.feed(piece)
        count += len(items)
        if count > MAX_ITEMS:
            raise RemoteProtocolError("a history of too many people")
        yield items
    walker.finish()


# Numbers of fields: of the history, and of a chat.
_PUSH_NAME, _PAIR, _NCT_SALT = 7, 15, 19
_CHAT_ID, _CHAT_TOKEN, _CHAT_PN, _CHAT_LID = 1, 21, 39, 42
_CHAT_TOKEN_T, _CHAT_GIVEN_T = 22, 28


class _Place(Enum):
    """Inside of which message the walker is."""

    HISTORY = auto()
    MIGRATION = auto()
    CHAT = auto()
    HISTORY_MESSAGE = auto()
    WEB_MESSAGE = auto()


# Fields that are walked into, and fields that are taken whole; all others are skipped.
_INTO: Final[Mapping[tuple[_Place, int], _Place]] = {
    (_Place.HISTORY, 2): _Place.CHAT,
    (_Place.CHAT, 2): _Place.HISTORY_MESSAGE,
    (_Place.HISTORY_MESSAGE, 1): _Place.WEB_MESSAGE,
}
_WHOLE: Final = {
    (_Place.HISTORY, _PUSH_NAME),
    (_Place.HISTORY, _PAIR),
    (_Place.HISTORY, _NCT_SALT),
    (_Place.MIGRATION, 1),
    (_Place.CHAT, _CHAT_ID),
    (_Place.CHAT, _CHAT_TOKEN),
    (_Place.CHAT, _CHAT_PN),
    (_Place.CHAT, _CHAT_LID),
}
_MESSAGE_CONTENT: Final = (_Place.WEB_MESSAGE, 2)


class _Walker:
    """Walks the fields of a message that comes in pieces."""

    def __init__(self, place: _Place) -> None:
        self._root = place
        self._open: list[tuple[_Place, int]] = []  # inside of what, and where that ends
        self._data = b""
        self._at = 0  # in the data
        self._passed = 0  # bytes before the data
        self._skip = 0
        self._chat: dict[int, bytes | int] = {}
        self._has_messages = False

    def feed(self, piece: bytes) -> list[HistoryItem]:
        """Take the next bytes; gives what is complete."""
        self._passed += self._at
        self._data = self._data[self._at :] + piece
        self._at = 0
        items: list[HistoryItem] = []
        while self._step(items):
            pass
        return items

    def finish(self) -> None:
        """All bytes were fed.

        Raises:
            RemoteProtocolError: If something is open.
        """
        if self._skip or self._open or self._at < len(self._data):
            raise RemoteProtocolError("a history that is cut off")

    def _step(self, items: list[HistoryItem]) -> bool:
        """Go one field on; False: more bytes are needed."""
        if self._skip:
            passing = min(self._skip, len(self._data) - self._at)
            self._at += passing
            self._skip -= passing
            if self._skip:
                return False
        self._leave(items)
        if self._at == len(self._data):
            return False
        key = self._varint(self._at)
        if key is None:
            return False
        tag, at = key
        number, wire_type = tag >> 3, tag & 7
        place = self._open[-1][0] if self._open else self._root
        if number == 0 or tag >= 2**32:
            raise RemoteProtocolError("no protobuf field")
        if wire_type == 2:
            return self._bytes_field(place, number, at, items)
        if wire_type == 0:
            value = self._varint(at)
            if value is None:
                return False
            self._go_to(value[1])
            if place is _Place.CHAT and number in (_CHAT_TOKEN_T, _CHAT_GIVEN_T):
                self._chat[number] = value[0]
            return True
        if wire_type not in (1, 5):
            raise RemoteProtocolError("a protobuf field of an unknown kind")
        self._go_to(at)
        self._pass(8 if wire_type == 1 else 4)
        return True

    def _bytes_field(self, place: _Place, number: int, at: int, items: list[HistoryItem]) -> bool:
        value = self._varint(at)
        if value is None:
            return False
        length, start = value
        if (place, number) == _MESSAGE_CONTENT and length:
            self._has_messages = True
        inner = _INTO.get((place, number))
        if inner is _Place.HISTORY_MESSAGE and self._has_messages:
            inner = None  # one message tells as much as all
        if inner is not None:
            self._go_to(start)
            self._enter(inner, length)
            return True
        if (place, number) not in _WHOLE or length > MAX_FIELD_LEN:
            self._go_to(start)
            self._pass(length)
            return True
        if len(self._data) < start + length:
            return False
        self._go_to(start + length)
        self._take(place, number, self._data[start : start + length], items)
        return True

    def _take(self, place: _Place, number: int, value: bytes, items: list[HistoryItem]) -> None:
        if place is _Place.CHAT:
            self._chat[number] = value
            return
        with suppress(RemoteProtocolError):  # one entry that makes no sense: others do
            items.append(_item(place, number, value))

    def _enter(self, place: _Place, length: int) -> None:
        end = self._passed + self._at + length
        self._check_end(end)
        self._open.append((place, end))
        if place is _Place.CHAT:
            self._chat, self._has_messages = {}, False

    def _leave(self, items: list[HistoryItem]) -> None:
        while self._open and self._open[-1][1] == self._passed + self._at:
            place, _ = self._open.pop()
            if place is _Place.CHAT:
                items += _chat_items(self._chat, self._has_messages)

    def _go_to(self, at: int) -> None:
        self._check_end(self._passed + at)
        self._at = at

    def _pass(self, length: int) -> None:
        self._check_end(self._passed + self._at + length)
        self._skip = length

    def _check_end(self, end: int) -> None:
        if self._open and end > self._open[-1][1]:
            raise RemoteProtocolError("a protobuf field passes the end of its message")

    def _varint(self, at: int) -> tuple[int, int] | None:
        """A number and where it ends; None: more bytes are needed."""
        if at < len(self._data) and self._data[at] < 0x80:
            return self._data[at], at + 1  # nearly all of them
        value = 0
        for index in range(_MAX_VARINT_LEN):
            if at + index >= len(self._data):
                return None
            byte = self._data[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value > _MAX_U64:
                    break
                return value, at + index + 1
        raise RemoteProtocolError("a protobuf number without end")


def _item(place: _Place, number: int, value: bytes) -> HistoryItem:
    if place is _Place.MIGRATION:
        moved = parse_proto(pb.LIDMigrationMapping, value)
        latest = moved.latestLid or moved.assignedLid
        return _mapping(_person(f"{moved.pn}@{PN_SERVER}"), _person(f"{latest}@{LID_SERVER}"))
    if number == _PUSH_NAME:
        named = parse_proto(pb.Pushname, value)
        name = checked_text(named.pushname)
        if not name:
            raise RemoteProtocolError("a name of no letters")
        return PushName(_person(checked_text(named.id)), name)
    if number == _PAIR:
        pair = parse_proto(pb.PhoneNumberToLIDMapping, value)
        return _mapping(_person(checked_text(pair.pnJid)), _person(checked_text(pair.lidJid)))
    if not value:
        raise RemoteProtocolError("a salt of no bytes")
    return NctSalt(value)


def _chat_items(fields: Mapping[int, bytes | int], has_messages: bool) -> list[HistoryItem]:
    """What a conversation tells: who the person is, and how we stand with it."""
    try:
        person = _person(_text(fields.get(_CHAT_ID)))
    except RemoteProtocolError:
        return []  # a group, a channel, or nobody
    items: list[HistoryItem] = []
    alternate = fields.get(_CHAT_PN if person.is_lid else _CHAT_LID)
    if alternate:
        with suppress(RemoteProtocolError):
            other = _person(_text(alternate))
            items.append(_mapping(*((other, person) if person.is_lid else (person, other))))
    token, given_t = fields.get(_CHAT_TOKEN), _number(fields.get(_CHAT_GIVEN_T))
    chat = Chat(
        person,
        token if isinstance(token, bytes) and token else None,
        _number(fields.get(_CHAT_TOKEN_T)),
        given_t or None,
        has_messages,
    )
    if chat != Chat(person):
        items.append(chat)
    return items


def _mapping(number: Jid, other: Jid) -> LidMapping:
    if number.server != PN_SERVER or other.server != LID_SERVER:
        raise RemoteProtocolError("not a number and a LID")
    return LidMapping(number, other)


def _person(text: str) -> Jid:
    jid = Jid.parse(text)
    if jid.server not in (PN_SERVER, LID_SERVER) or not _DIGITS.fullmatch(jid.user):
        raise RemoteProtocolError("not a person")
    return jid.bare


def _text(value: bytes | int | None) -> str:
    if not isinstance(value, bytes):
        raise RemoteProtocolError("no address")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("an address that is not UTF-8") from error


def _number(value: bytes | int | None) -> int:
    return value if isinstance(value, int) else 0

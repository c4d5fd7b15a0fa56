"""Changes of protobuf messages: of their wire form, and of what a schema says they may hold."""

from __future__ import annotations

from random import Random
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.fuzz import mutators
from tests.fuzz.mutators import change
from tests.fuzz.target import CANARY

# Wire types.
_VARINT: Final = 0
_FIXED_64: Final = 1
BYTES: Final = 2
_FIXED_32: Final = 5
_NUMBERS: Final = (0, 1, 2, 5, 6, 14, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_PIECES: Final = (
    b"",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\x05" + bytes(32),
    bytes(32),
    bytes(64),
    b"x" * 300,
)
_MAX_FIELDS: Final = 4096
_MAX_NESTING: Final = 200

# Number, wire type, value: a number, or bytes.
Field = tuple[int, int, int | bytes]


def varint(value: int) -> bytes:
    """Write a number as protobuf does, 64 bits of it."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields_of(data: bytes) -> list[Field] | None:
    """The fields of a message, one level deep; None if it is none."""
    fields: list[Field] = []
    at = 0
    try:
        while at < len(data) and len(fields) < _MAX_FIELDS:
            key, at = _read_varint(data, at)
            kind = key & 7
            if kind == _VARINT:
                value: int | bytes
                value, at = _read_varint(data, at)
            elif kind == BYTES:
                length, at = _read_varint(data, at)
                value = data[at : at + length]
                at += length
            elif kind in (_FIXED_32, _FIXED_64):
                length = 4 if kind == _FIXED_32 else 8
                value = data[at : at + length]
                at += length
            else:
                return None
            if at > len(data) or not key >> 3:
                return None
            fields.append((key >> 3, kind, value))
    except IndexError:
        return None
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value, at


def message_of(fields: list[Field]) -> bytes:
    """The bytes of these fields."""
    out = bytearray()
    for number, kind, value in fields:
        out += varint(number << 3 | kind)
        if isinstance(value, int):
            out += varint(value)
        else:
            out += varint(len(value)) + value if kind == BYTES else value
    return bytes(out)


def rewired(rng: Random, data: bytes, other: bytes) -> bytes:
    """Change one thing in the wire form, at any depth."""
    fields = fields_of(data)
    if not fields:
        return change(rng, data, other, most=2)
    at = int(rng.random() * len(fields))
    number, kind, value = fields[at]
    if isinstance(value, bytes) and value and rng.random() < 0.6:
        inner = rewired(rng, value, other) if fields_of(value) else _changed_piece(rng, value)
        fields[at] = (number, kind, inner)
        return message_of(fields)
    choice = int(rng.random() * 9)
    if choice == 0:
        del fields[at]
    elif choice == 1:
        fields.insert(int(rng.random() * (len(fields) + 1)), fields[at])
    elif choice == 2:
        rng.shuffle(fields)
    elif choice == 3:
        fields[at] = (1 + int(rng.random() * 60), kind, value)
    elif choice == 4:
        fields[at] = (number, _VARINT, _NUMBERS[int(rng.random() * len(_NUMBERS))])
    elif choice == 5:
        fields[at] = (number, BYTES, _PIECES[int(rng.random() * len(_PIECES))])
    elif choice == 6:
        fields.append((1 + int(rng.random() * 2 ** rng.randrange(29)), BYTES, b"unknown"))
    elif choice == 7:
        borrowed = fields_of(other) or fields
        fields.insert(at, borrowed[int(rng.random() * len(borrowed))])
    else:
        return _nested(rng, fields, at)
    return message_of(fields)


def _changed_piece(rng: Random, value: bytes) -> bytes:
    choice = rng.random()
    if choice < 0.2:
        return CANARY.encode()
    if choice < 0.4:
        return _PIECES[int(rng.random() * len(_PIECES))]
    return change(rng, value, value, mutators.BYTES, most=2)


def _nested(rng: Random, fields: list[Field], at: int) -> bytes:
    """A message inside itself, and again, and again."""
    number = fields[at][0]
    data = message_of(fields)
    for _ in range(1 + int(rng.random() ** 4 * _MAX_NESTING)):
        data = message_of([(number, BYTES, data)])
    return data


def grown(rng: Random, kind: type[Message], data: bytes) -> bytes:
    """Set, or clear, one field that the schema knows, at any depth."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        message = kind()
    inner = message
    for _ in range(6):
        below = [
            field
            for field, _ in inner.ListFields()
            if field.message_type is not None and not field.is_repeated
        ]
        if not below or rng.random() < 0.4:
            break
        inner = getattr(inner, below[int(rng.random() * len(below))].name)
    _set_any(rng, inner)
    return message.SerializeToString()


def _set_any(rng: Random, message: Message) -> None:
    fields = message.DESCRIPTOR.fields
    if not fields:
        return
    field = fields[int(rng.random() * len(fields))]
    if rng.random() < 0.2:
        message.ClearField(field.name)
        return
    if field.message_type is not None:
        target = getattr(message, field.name)
        if field.is_repeated:
            for _ in range(1 + int(rng.random() ** 8 * 100)):
                _set_any(rng, target.add())
        else:
            target.SetInParent()
            _set_any(rng, target)
        return
    value = _value(rng, field.cpp_type, field.type)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _value(rng: Random, cpp_type: int, kind: int) -> int | bool | str | bytes:
    match cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_STRING if kind == FieldDescriptor.TYPE_BYTES:
            return _PIECES[int(rng.random() * len(_PIECES))]
        case FieldDescriptor.CPPTYPE_STRING:
            return ("", "1@s.whatsapp.net", CANARY, "\u00e9" * 9)[int(rng.random() * 4)]
        case FieldDescriptor.CPPTYPE_UINT32:
            return _NUMBERS[int(rng.random() * len(_NUMBERS))] % 2**32
        case FieldDescriptor.CPPTYPE_INT32:
            return _NUMBERS[int(rng.random() * len(_NUMBERS))] % 2**32 - 2**31
        case FieldDescriptor.CPPTYPE_INT64:
            return _NUMBERS[int(rng.random() * len(_NUMBERS))] % 2**64 - 2**63
        case _:
            return _NUMBERS[int(rng.random() * len(_NUMBERS))]

"""Changes of bytes that know nothing of what the bytes mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

# Where lengths, counters and tags change their meaning.
EDGES: Final = (0, 1, 2, 0x0F, 0x10, 0x1F, 0x20, 0x7F, 0x80, 0xFE, 0xFF)
_WIDE_EDGES: Final = (
    *(0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**20 - 1, 2**20, 2**24 - 1, 2**24),
    *(2**31 - 1, 2**31, 2**32 - 1),
)
# Longer inputs cost throughput and find nothing that these do not; targets make them on purpose.
MAX_LEN: Final = 1 << 16

Mutator = Callable[[Random, bytearray, bytes], None]


def _at(rng: Random, data: bytes | bytearray) -> int:
    return int(rng.random() * len(data))


def _span(rng: Random, data: bytes | bytearray) -> tuple[int, int]:
    """A piece, short ones more often than long ones."""
    start = _at(rng, data)
    length = 1 + int((len(data) - start) * rng.random() ** 3)
    return start, start + length


def flip_bit(rng: Random, data: bytearray, other: bytes) -> None:
    """Flip one bit."""
    if data:
        data[_at(rng, data)] ^= 1 << int(rng.random() * 8)


def set_byte(rng: Random, data: bytearray, other: bytes) -> None:
    """Set one byte, mostly to where something changes."""
    if data:
        value = EDGES[int(rng.random() * len(EDGES))] if rng.random() < 0.6 else rng.randrange(256)
        data[_at(rng, data)] = value


def nudge(rng: Random, data: bytearray, other: bytes) -> None:
    """Make a big-endian number of one to four bytes a little larger or smaller, or an edge."""
    width = 1 + int(rng.random() * 4)
    if len(data) < width:
        return
    at = int(rng.random() * (len(data) - width + 1))
    if rng.random() < 0.5:
        value = int.from_bytes(data[at : at + width], "big") + rng.randrange(-4, 5)
    else:
        value = _WIDE_EDGES[int(rng.random() * len(_WIDE_EDGES))]
    data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "big")


def leave_out(rng: Random, data: bytearray, other: bytes) -> None:
    """Leave out a piece."""
    if data:
        start, stop = _span(rng, data)
        del data[start:stop]


def repeat(rng: Random, data: bytearray, other: bytes) -> None:
    """Put a piece in a second time, or many times."""
    if data:
        start, stop = _span(rng, data)
        times = 1 + int(rng.random() ** 16 * 64)
        data[stop:stop] = data[start:stop] * times


def put_in(rng: Random, data: bytearray, other: bytes) -> None:
    """Put in random bytes."""
    at = int(rng.random() * (len(data) + 1))
    data[at:at] = rng.randbytes(1 + int(rng.random() ** 2 * 16))


def cut_off(rng: Random, data: bytearray, other: bytes) -> None:
    """End early."""
    if data:
        del data[_at(rng, data) :]


def swap(rng: Random, data: bytearray, other: bytes) -> None:
    """Exchange a piece with what stands behind it."""
    if len(data) > 2:
        start, stop = _span(rng, data)
        end = min(len(data), stop + stop - start)
        data[start:end] = data[stop:end] + data[start:stop]


def splice(rng: Random, data: bytearray, other: bytes) -> None:
    """Go on with the end of another input."""
    if data and other:
        data[_at(rng, data) :] = other[_at(rng, other) :]


def borrow(rng: Random, data: bytearray, other: bytes) -> None:
    """Put in, or write over, a piece of another input."""
    if data and other:
        start, stop = _span(rng, other)
        at = _at(rng, data)
        data[at : at + (stop - start) * (rng.random() < 0.5)] = other[start:stop]


BYTES: Final[tuple[Mutator, ...]] = (
    flip_bit,
    set_byte,
    set_byte,
    nudge,
    leave_out,
    repeat,
    put_in,
    cut_off,
    swap,
    splice,
    borrow,
)


def change(
    rng: Random, data: bytes, other: bytes, mutators: Sequence[Mutator] = BYTES, most: int = 4
) -> bytes:
    """Apply one mutator, or a few."""
    changed = bytearray(data)
    count = 1 if rng.random() < 0.5 else 1 + int(rng.random() * most)
    for _ in range(count):
        mutators[int(rng.random() * len(mutators))](rng, changed, other)
    return bytes(changed[:MAX_LEN])


def wording(words: Sequence[bytes]) -> Mutator:
    """A mutator that puts in, or writes over, one of these words."""

    def put_word(rng: Random, data: bytearray, other: bytes) -> None:
        word = words[int(rng.random() * len(words))]
        at = int(rng.random() * (len(data) + 1))
        data[at : at + len(word) * (rng.random() < 0.5)] = word

    return put_word

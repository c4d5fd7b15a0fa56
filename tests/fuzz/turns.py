"""Inputs that are conversations: a list of turns, each with its length before it (two bytes)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from tests.fuzz.mutators import change

MAX_TURNS: Final = 12

# Changes one turn; the second one is from elsewhere.
ChangeTurn = Callable[[Random, bytes, bytes], bytes]


def turns_of(data: bytes) -> list[bytes]:
    """The turns of an input."""
    turns = []
    while len(data) > 2:
        stop = 2 + int.from_bytes(data[:2], "big")
        turns.append(data[2:stop])
        data = data[stop:]
    return [turn for turn in turns if turn][:MAX_TURNS]


def joined(turns: Sequence[bytes]) -> bytes:
    """The other way."""
    return b"".join(len(turn).to_bytes(2, "big") + turn for turn in turns if len(turn) < 2**16)


def changed(rng: Random, data: bytes, other: bytes, change_turn: ChangeTurn) -> bytes:
    """Change a conversation: its turns, their order, or one of them."""
    turns, more = turns_of(data), turns_of(other)
    choice = rng.random()
    if not turns or choice < 0.05:
        return change(rng, data, other)
    at = int(rng.random() * len(turns))
    if choice < 0.35 and more:
        turns.insert(at, more[int(rng.random() * len(more))])
    elif choice < 0.4:
        del turns[at]
    else:
        donor = more[int(rng.random() * len(more))] if more else turns[at]
        turns[at] = change_turn(rng, turns[at], donor)
    return joined(turns[:MAX_TURNS])

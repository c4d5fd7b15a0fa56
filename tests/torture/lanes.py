"""A lane: one way to torture the product, with sizes of its own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane.

    Attributes:
        summary: what it proves, in one line.
        configure: adds its options; those of every lane are `share` and `seed`.
        run: does it; whether everything it promises held.
        in_share: whether it belongs to the small share of all lanes.
    """

    summary: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Awaitable[bool]]
    in_share: bool = True

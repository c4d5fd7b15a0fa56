"""Waiting for what happens in another process: asked again and again, until a deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

WITHIN_S: Final = 20.0
ASK_EVERY_S: Final = 0.02


async def eventually(
    look: Callable[[], Awaitable[T | None]], what: str, within_s: float = WITHIN_S
) -> T:
    """Look until there is something, which is returned; fail if there is nothing in time.

    Args:
        look: None and False mean "not yet".
    """
    with trio.move_on_after(within_s):
        while True:
            found = await look()
            if found is not None and found is not False:
                return found
            await trio.sleep(ASK_EVERY_S)
    raise AssertionError(f"not within {within_s:g} s: {what}")

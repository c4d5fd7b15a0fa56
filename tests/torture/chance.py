"""Chance: in a simulated world everything that differs from run to run comes from one seed.

Random numbers, keys, ids, both wall clocks, the order in which tasks run and the work of threads.
All of it is patched in here, for the time of one world; the product knows no such switch. What is
left is the order of sets of strings: the process has to run with PYTHONHASHSEED=0.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, tzinfo
from heapq import heappush
from itertools import count
from random import Random
from typing import Final, TypeVar
from unittest.mock import patch

import trio
from trio._core import _run as trio_run

from sitpayd import clock
from sitpayd.simulator.accounts import Account, Device
from sitpayd.simulator.client import Client

T = TypeVar("T")

# 2026-01-01, UTC: when every world begins.
BEGINNING_S: Final = 1_767_225_600.0


class Chance:
    """Where a world's randomness and its clocks come from.

    Attributes:
        skew_s: how wrong the daemon's wall clock is; the server's is right.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.skew_s = 0.0

    def draws(self, purpose: str) -> Random:
        """Random numbers for one purpose: what another one draws does not change them."""
        return Random(f"{self.seed}|{purpose}")

    def server_time(self) -> float:
        """The wall clock of WhatsApp, UTC seconds."""
        try:
            return BEGINNING_S + trio.current_time()
        except RuntimeError:
            return BEGINNING_S  # nothing runs yet

    def daemon_time(self) -> float:
        """The wall clock of the daemon's machine, UTC seconds."""
        return self.server_time() + self.skew_s


@contextmanager
def seeded(chance: Chance) -> Iterator[None]:
    """Let everything in this process come from the seed."""
    with ExitStack() as stack:
        _patch_random(stack, chance)
        _patch_clocks(stack, chance)
        _patch_order(stack, chance)
        yield


def _patch_random(stack: ExitStack, chance: Chance) -> None:
    draws = chance.draws("secrets")

    def token_bytes(length: int | None = None) -> bytes:
        return draws.randbytes(32 if length is None else length)

    def token_hex(length: int | None = None) -> str:
        return token_bytes(length).hex()

    def choice(items: Sequence[T]) -> T:
        return draws.choice(items)

    def generator(seed: int | None = None) -> Random:
        return Random(draws.getrandbits(64) if seed is None else seed)

    stack.enter_context(patch.object(os, "urandom", draws.randbytes))
    for name, replacement in (
        ("token_bytes", token_bytes),
        ("token_hex", token_hex),
        ("token_urlsafe", token_hex),
        ("randbits", draws.getrandbits),
        ("randbelow", draws.randrange),
        ("choice", choice),
    ):
        stack.enter_context(patch.object(secrets, name, replacement))
    for module in ("sitpayd.actors.device", "sitpayd.simulator.faults"):
        stack.enter_context(patch.object(sys.modules[module], "Random", generator))


def _patch_clocks(stack: ExitStack, chance: Chance) -> None:
    class WallClock(datetime):
        """The daemon's wall clock."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> WallClock:
            return cls.fromtimestamp(chance.daemon_time(), tz or UTC)

    stack.enter_context(patch.object(time, "time", chance.server_time))
    steady = clock.SteadyClock(wall=chance.daemon_time, monotonic=chance.server_time)
    stack.enter_context(patch.object(clock, "CLOCK", steady))
    for name, module in sorted(sys.modules.items()):
        if name.startswith("sitpayd.") and getattr(module, "datetime", None) is datetime:
            stack.enter_context(patch.object(module, "datetime", WallClock))


def _patch_order(stack: ExitStack, chance: Chance) -> None:
    """Let nothing depend on where an object lies in memory, and nothing run in a thread."""
    numbers = count()

    def add(self: trio_run.Deadlines, deadline: float, scope: trio.CancelScope) -> None:
        # trio orders equal deadlines by the address of their scopes.
        heappush(self._heap, (deadline, next(numbers), scope))
        self._active += 1

    async def run_sync(work: Callable[..., T], *args: object, **_: object) -> T:
        # A task that waits for a thread counts as idle, and the clock would jump over it.
        await trio.lowlevel.checkpoint()
        return work(*args)

    stack.enter_context(patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True))
    stack.enter_context(patch.object(trio_run, "_r", chance.draws("scheduler")))
    stack.enter_context(patch.object(trio_run.Deadlines, "add", add))
    stack.enter_context(patch.object(trio.to_thread, "run_sync", run_sync))
    # The simulator keeps these in sets.
    for kind, hashed in (
        (Account, lambda account: hash(account.number)),
        (Device, lambda device: hash((device.account.number, device.number))),
        (Client, lambda client: int(client.connected_at * 1e6)),
    ):
        stack.enter_context(patch.object(kind, "__hash__", hashed))

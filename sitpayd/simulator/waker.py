"""Waker: lets the endpoints that have something in their queues work, in a task of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import trio


class Worker(Protocol):
    """Somebody with a queue."""

    def work(self) -> bool:
        """Handle the next stanza of the queue; False if there is none."""


class Waker:
    """The endpoints that have something to do."""

    def __init__(self) -> None:
        self._awake: OrderedDict[Worker, None] = OrderedDict()
        self._bell = trio.Event()

    def wake(self, worker: Worker) -> None:
        """Let somebody work soon."""
        self._awake[worker] = None
        self._bell.set()

    async def run(self) -> None:
        """Let them work, one stanza each in turn, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._awake:
                worker, _ = self._awake.popitem(last=False)
                if worker.work():
                    self._awake[worker] = None
                await trio.lowlevel.checkpoint()

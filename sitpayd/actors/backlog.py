"""Backlog: what the server held back while the device was away, asked for piece by piece. Pure.

The server announces how many stanzas wait and hands out as many as it is asked for; some servers
hand out all of them unasked. Each one is answered when its effect is durable, so what is on its way
stays small however much waits. Nothing waits for the end of it: live stanzas come between, rows are
sent meanwhile, and a server that stops in the middle is asked a few times more and then left alone.

Source: Baileys lib/Socket/socket.js; whatsmeow connectionevents.go takes what comes.
"""

from __future__ import annotations

from typing import Final

from sitpayd.actors.commands import Command, Send
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq

# How many Baileys asks for.
BATCH: Final = 100
# In which time something of a batch has to come, seconds.
STALLED_AFTER_S: Final = 5.0
MAX_NUDGES: Final = 3


class Backlog:
    """The backlog of one connection after another."""

    __slots__ = ("_due", "_left", "_nudge_at", "_nudges")

    def __init__(self) -> None:
        # Of what was announced, and of what was asked for: how many have not come.
        self._left = self._due = 0
        self._nudge_at: float | None = None
        self._nudges = 0

    def announced(self, count: int, now: float) -> list[Command]:
        """So many stanzas wait at the server."""
        self._left, self._nudges = count, 0
        return self._ask(now)

    def took(self, node: Node, now: float) -> list[Command]:
        """A stanza was dealt with; ask for more if it was the last of those asked for."""
        if self._left == 0 or "offline" not in node.attrs:
            return []
        self._left -= 1
        self._due -= 1
        self._nudges, self._nudge_at = 0, now + STALLED_AFTER_S
        return self._ask(now) if self._due <= 0 else []

    def end(self) -> None:
        """The backlog is finished, or the connection gone."""
        self._left = self._due = 0
        self._nudge_at = None

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds; None: nothing is expected."""
        return self._nudge_at

    def tick(self, now: float) -> list[Command]:
        """Ask again where nothing came for a while, or give up."""
        if self._nudge_at is None or now < self._nudge_at:
            return []
        if self._nudges == MAX_NUDGES:
            self.end()
            return []
        self._nudges += 1
        return self._ask(now)

    def _ask(self, now: float) -> list[Command]:
        if self._left == 0:
            self.end()
            return []
        self._due = min(BATCH, self._left)
        self._nudge_at = now + STALLED_AFTER_S
        return [Send(iq.offline_batch(self._due))]

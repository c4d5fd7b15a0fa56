"""Keepalive: when to ping, and when a silent connection counts as dead. Pure.

A ping goes out every 20 to 30 s. Any stanza counts as life. 10 s after an unanswered ping another
goes out; a connection that has been silent for 45 s is dead, whatever the operating system thinks
of the socket. Where a machine may have slept, the connection is probed: a ping at once, and dead
after 10 s in which nothing came.

Source: whatsmeow keepalive.go for the interval; Baileys lib/Socket/socket.js for the bound.
"""

from __future__ import annotations

from random import Random
from typing import Final

MIN_INTERVAL_S: Final = 20.0
MAX_INTERVAL_S: Final = 30.0
ASK_AGAIN_S: Final = 10.0
DEAD_AFTER_S: Final = 45.0
PROBE_S: Final = 10.0


class Keepalive:
    """Liveness of one connection."""

    __slots__ = ("_heard_at", "_ping_at", "_pinged_at", "_probed_until", "_random", "_unanswered")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heard_at: float | None = None
        self._ping_at = self._pinged_at = 0.0
        self._probed_until: float | None = None
        self._unanswered = 0

    def start(self, now: float) -> None:
        """A connection came up."""
        self._heard_at = now
        self._probed_until = None
        self._unanswered = 0
        self._ping_at = now + self._random.uniform(MIN_INTERVAL_S, MAX_INTERVAL_S)

    def stop(self) -> None:
        """The connection is gone."""
        self._heard_at = None

    def heard(self, now: float) -> None:
        """A stanza came in."""
        if self._heard_at is not None:
            self._heard_at = now
            self._probed_until = None
            self._unanswered = 0

    def probe(self, now: float) -> None:
        """Doubt the connection: a ping is due, and something has to come soon."""
        if self._heard_at is not None and self._probed_until is None:
            self._ping_at = now
            self._probed_until = now + PROBE_S

    def deadline(self) -> float | None:
        """When to look again, clock seconds; None: no connection."""
        if self._heard_at is None:
            return None
        return min(self._next_ping(), self._dead_at(self._heard_at))

    @property
    def unanswered(self) -> int:
        """How many pings went out since anything was heard."""
        return self._unanswered

    @property
    def running(self) -> bool:
        """Whether there is a connection that was logged in."""
        return self._heard_at is not None

    def dead(self, now: float) -> bool:
        """Whether nothing was heard for too long."""
        return self._heard_at is not None and now >= self._dead_at(self._heard_at)

    def ping_due(self, now: float) -> bool:
        """Whether to ping now; a yes plans the next one."""
        if self._heard_at is None or now < self._next_ping():
            return False
        self._unanswered += 1
        self._pinged_at = now
        self._ping_at = now + self._random.uniform(MIN_INTERVAL_S, MAX_INTERVAL_S)
        return True

    def _dead_at(self, heard_at: float) -> float:
        silent = heard_at + DEAD_AFTER_S
        return silent if self._probed_until is None else min(silent, self._probed_until)

    def _next_ping(self) -> float:
        if self._unanswered == 1:
            return min(self._pinged_at + ASK_AGAIN_S, self._ping_at)
        return self._ping_at

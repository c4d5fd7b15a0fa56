"""Acquaintance: the server that a device may resume its Noise handshake with. Pure.

Each device remembers the server it met itself: WhatsApp's name stands for many servers, and nothing
says that they share keys. It is remembered in memory alone, so a process that starts knows nobody,
and what was learnt under another root key or of another host meets nothing.

A resumption that fails is forgotten, and the next dial shakes hands in full: only that passes a
verdict on a server. After a few failures the device resumes no more, since each costs it a dial: a
server may know of no resumption, and something on the way may not let it through.
"""

from __future__ import annotations

from typing import Final

from sitpayd.whatsapp.noise import KnownServer

MAX_FAILURES: Final = 3


class Acquaintance:
    """Whom a device knows.

    Attributes:
        server: to resume with; None: nobody.
    """

    __slots__ = ("_failures", "server")

    def __init__(self) -> None:
        self.server: KnownServer | None = None
        self._failures = 0

    def met(self, server: KnownServer | None) -> None:
        """Remember who was at the other end of a handshake that is complete."""
        if self._failures < MAX_FAILURES:
            self.server = server

    def failed(self) -> None:
        """Forget the server: the connection that resumed with it ended in its handshake."""
        self.server = None
        self._failures += 1

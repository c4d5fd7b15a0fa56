"""Resumption: what a reconnect's handshake costs where it is resumed, beside a full one.

Both roles run in this process, the kinds of handshakes in turns, so that whatever else the machine
does falls on all alike. A round trip saved shows on no machine that talks to itself: the messages
are counted instead.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.noise import KnownServer, Pattern, Resumption, ServerKeys
from sitpayd.whatsapp.stanzas.login import ClientInfo, login_payload

WARM_UP: Final = 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HandshakeCost:
    """One kind of handshake.

    Attributes:
        client_us: microseconds of processor time of the client, median; server_us: of the server.
        up: bytes the client sends before its first stanza; down: bytes the server does.
        messages: of both sides, before the server may send its first stanza.
    """

    pattern: str
    client_us: float
    server_us: float
    up: int
    down: int
    messages: int


class _Ends:
    """A client that knows its server, and the server."""

    def __init__(self) -> None:
        self._root, self._noise, now = KeyPair.generate(), KeyPair.generate(), time.time()
        self._keys = ServerKeys.generate(self._root, now)
        self._payload = login_payload(pn("4915111111111", 1), ClientInfo())
        self._known: KnownServer | None = None
        self.shake_hands(Pattern.XX)

    def shake_hands(self, pattern: Pattern) -> HandshakeCost:
        """Shake hands once."""
        spent = {"client": 0.0, "server": 0.0}

        def timed(end: str, function: Callable[[], _T]) -> _T:
            began = time.process_time_ns()
            result = function()
            spent[end] += (time.process_time_ns() - began) / 1000
            return result

        declines = pattern is Pattern.XX_FALLBACK
        server = Connection.responder(
            self._keys, resumption=Resumption.REFUSE if declines else Resumption.ACCEPT
        )
        client = timed("client", lambda: self._dial(pattern))
        up, down, messages = 0, 0, 0
        is_done = False
        while not is_done:
            hello = b"".join(client.data_to_send())
            up, messages = up + len(hello), messages + 1
            is_done = bool(timed("server", lambda data=hello: server.receive(data)))
            answer = b"".join(server.data_to_send())
            if answer:
                down, messages = down + len(answer), messages + (not is_done)
                timed("client", lambda data=answer: client.receive(data))
        assert client.pattern is pattern
        self._known = client.server
        return HandshakeCost(pattern.value, spent["client"], spent["server"], up, down, messages)

    def _dial(self, pattern: Pattern) -> Connection:
        return Connection.initiator(
            noise=self._noise,
            payload=self._payload,
            root_key=self._root.public_key,
            now=time.time(),
            server=None if pattern is Pattern.XX else self._known,
        )


def measure_resumption(count: int) -> list[HandshakeCost]:
    """Measure all kinds, so many handshakes of each."""
    ends = _Ends()
    turns = [[ends.shake_hands(pattern) for pattern in Pattern] for _ in range(WARM_UP + count)]
    return [_median(runs) for runs in zip(*turns[WARM_UP:], strict=True)]


def _median(runs: Sequence[HandshakeCost]) -> HandshakeCost:
    return replace(
        runs[0],
        client_us=statistics.median(run.client_us for run in runs),
        server_us=statistics.median(run.server_us for run in runs),
    )

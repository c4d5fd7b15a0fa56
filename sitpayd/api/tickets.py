"""Tickets: one-time credentials that let a browser open the feed.

A page cannot send a header with a WebSocket, and the admin key must not stand in an address, where
logs of proxies would keep it. A ticket may: it is worth nothing once it was used, or after seconds.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

import trio

from sitpayd.api.errors import ApiError

TICKET_S: Final = 30.0
# Far more than one operator's tabs; each holder proved the admin key before.
MAX_TICKETS: Final = 256
_TICKET_LEN: Final = 32  # random bytes


class Tickets:
    """The tickets that were given out and not used yet."""

    def __init__(self) -> None:
        # Digest -> clock seconds; in the order in which they end.
        self._ends: dict[bytes, float] = {}

    def issue(self) -> str:
        """Make a ticket, good for one use within TICKET_S.

        Raises:
            ApiError: 429 if too many are outstanding.
        """
        now = trio.current_time()
        self._drop_old(now)
        if len(self._ends) >= MAX_TICKETS:
            oldest = next(iter(self._ends.values()))
            raise ApiError(
                "too_many_requests", "Too many tickets are unused.", retry_after_s=oldest - now
            )
        ticket = secrets.token_urlsafe(_TICKET_LEN)
        self._ends[_digest(ticket)] = now + TICKET_S
        return ticket

    def spend(self, ticket: str) -> bool:
        """Use a ticket up; whether it was good."""
        self._drop_old(trio.current_time())
        # Found by digest: how long that takes tells nothing of the tickets there are.
        return self._ends.pop(_digest(ticket), None) is not None

    def _drop_old(self, now: float) -> None:
        for digest, ends_at in tuple(self._ends.items()):
            if now < ends_at:
                return
            del self._ends[digest]


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode("utf-8", "surrogateescape")).digest()

"""Queries: which iq is waiting for which answer. Pure.

Every query has a purpose, so the machine knows what an answer is for, and a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from sitpayd.actors.commands import Send
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.iq import IqError, IqIds

ANSWER_WITHIN_S: Final = 60.0
# The server's word for a pause is believed up to this far.
MAX_BACKOFF_S: Final = 3600

PurposeT = TypeVar("PurposeT")


def backoff_of(error: IqError | None) -> int:
    """Seconds for which the server wants not to be asked again; None: no answer came."""
    return 0 if error is None else min(error.backoff or 0, MAX_BACKOFF_S)


class Queries(Generic[PurposeT]):
    """The unanswered queries of one connection."""

    __slots__ = ("_asked_at", "_ids", "_waiting")

    def __init__(self) -> None:
        self._ids = IqIds()
        self._asked_at: dict[PurposeT, float] = {}
        self._waiting: dict[str, tuple[PurposeT, float]] = {}

    def ask(
        self,
        purpose: PurposeT,
        build: Callable[[str], Node],
        now: float,
        within_s: float = ANSWER_WITHIN_S,
    ) -> Send:
        """Make a query: `build` gets the id."""
        query_id = self._ids.next()
        self._waiting[query_id] = (purpose, now + within_s)
        self._asked_at[purpose] = now
        return Send(build(query_id))

    def asked_at(self, purpose: PurposeT) -> float | None:
        """When something was asked last for this purpose, clock seconds; None: not yet."""
        return self._asked_at.get(purpose)

    def next_id(self) -> str:
        """An id for a stanza whose answer nobody waits for."""
        return self._ids.next()

    def answered(self, node: Node) -> PurposeT | None:
        """What this iq answers; None: nothing of ours."""
        if node.text("type") not in ("result", "error"):
            return None
        waiting = self._waiting.pop(node.text("id") or "", None)
        return waiting[0] if waiting else None

    def is_answered(self, node: Node, purpose: PurposeT) -> bool:
        """Take the question off the list if this answers one of this purpose."""
        waiting = self._waiting.get(node.text("id") or "")
        if waiting is None or waiting[0] is not purpose:
            return False
        return self.answered(node) is not None

    def expired(self, now: float) -> list[PurposeT]:
        """Take out the queries whose time is over."""
        ids = [query_id for query_id, (_, deadline) in self._waiting.items() if deadline <= now]
        return [self._waiting.pop(query_id)[0] for query_id in ids]

    def deadline(self) -> float | None:
        """The earliest deadline, clock seconds; None: nothing is asked."""
        return min((deadline for _, deadline in self._waiting.values()), default=None)

    def reset(self) -> None:
        """A new connection: forget what was asked on the old one, and take new ids."""
        self._ids = IqIds()
        self._waiting.clear()

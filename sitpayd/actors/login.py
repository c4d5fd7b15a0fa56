"""LoginMachine: from `<success>` until the device may be called connected. Pure.

The server is asked how many one-time prekeys it still holds for us; where they are few, more are
made, saved and uploaded. Then the device says that it is active, and is ready. None of these
answers is worth a connection: an error or silence is taken for a yes. A notification that prekeys
run short later goes the same way.

Source: whatsmeow prekeys.go, connectionevents.go.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from typing import Final, assert_never

from sitpayd.actors.commands import Command, MakePreKeys, MarkUploaded
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.keys import DeviceKeys, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, prekeys

# Both libraries send 812 to an account that has none, then 50 at a time when fewer than 5 are left.
FIRST_PREKEYS: Final = 812
MORE_PREKEYS: Final = 50
FEW_PREKEYS: Final = 5


class Errand(Enum):
    """What the login asks the server."""

    COUNT = auto()
    UPLOAD = auto()
    ACTIVE = auto()


class LoginMachine:
    """The errands of one connection after another.

    Args:
        queries: of the connection; the login's purposes are `Errand`s.

    Attributes:
        ready: all is done that a connected device has behind it.
    """

    __slots__ = ("_queries", "_running", "_uploading", "ready")

    def __init__(self, queries: Queries[object]) -> None:
        self._queries = queries
        self._uploading: tuple[PreKey, ...] | None = None
        self._running = False
        self.ready = False

    def begin(self, now: float) -> list[Command]:
        """`<success>` came."""
        self._running = True
        return [self._queries.ask(Errand.COUNT, prekeys.count_query, now)]

    def end(self) -> None:
        """The connection is gone."""
        self._running = self.ready = False
        self._uploading = None

    def left(self, count: int) -> list[Command]:
        """The server tells how many prekeys it still has."""
        return self._make(MORE_PREKEYS) if count < FEW_PREKEYS else []

    def made(self, made: tuple[PreKey, ...], keys: DeviceKeys | None, now: float) -> list[Command]:
        """Upload what was saved; for a connection that is gone it waits for the next."""
        if not self._running or keys is None:
            self._uploading = None
            return []
        self._uploading = made
        build = partial(prekeys.upload, keys=keys, prekeys=made)
        return [self._queries.ask(Errand.UPLOAD, build, now)]

    def answered(self, errand: Errand, node: Node, now: float) -> list[Command]:
        """Take the answer to one of our questions.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        if iq.parse_iq_error(node) is not None:
            return self.unanswered(errand, now)
        match errand:
            case Errand.COUNT:
                count = prekeys.parse_count(node)
                if count >= FEW_PREKEYS:
                    return self._activate(now)
                return self._make(FIRST_PREKEYS if count == 0 else MORE_PREKEYS)
            case Errand.UPLOAD:
                uploaded = tuple(prekey.key_id for prekey in self._uploading or ())
                return [MarkUploaded(uploaded), *self.unanswered(errand, now)]
            case Errand.ACTIVE:
                return self.unanswered(errand, now)
            case _:
                assert_never(errand)

    def unanswered(self, errand: Errand, now: float) -> list[Command]:
        """An error or no answer: go on without."""
        match errand:
            case Errand.COUNT:
                return self._activate(now)
            case Errand.UPLOAD:
                self._uploading = None
                return [] if self.ready else self._activate(now)
            case Errand.ACTIVE:
                self.ready = True
                return []
            case _:
                assert_never(errand)

    def _activate(self, now: float) -> list[Command]:
        return [self._queries.ask(Errand.ACTIVE, iq.active, now)]

    def _make(self, count: int) -> list[Command]:
        if self._uploading is not None:
            return []  # one upload at a time
        self._uploading = ()
        return [MakePreKeys(count)]

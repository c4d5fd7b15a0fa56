"""LoginMachine: what is asked after `<success>`, and what follows from the answers. Pure.

The server is asked how many one-time prekeys it still holds for us, and is given more where they
are few (stock.py). Then the device says that it is active, and is ready. Behind that it asks
whether the server holds its keys at all, and what is switched on for the account. None of these
answers is worth a connection: an error or silence is taken for a yes.

Source: whatsmeow prekeys.go, connectionevents.go; Baileys lib/Socket/socket.js.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import Final, assert_never

from sitpayd.actors.commands import Command, SaveFact
from sitpayd.actors.queries import Queries
from sitpayd.actors.stock import Stock
from sitpayd.storage.records import PROPS_FACT
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, prekeys
from sitpayd.whatsapp.stanzas import props as switches
from sitpayd.whatsapp.stanzas.iq import IqError
from sitpayd.whatsapp.stanzas.login import parse_success
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.props import Props

# The server's words for keys that it does not have or cannot use.
KEYS_MISSING: Final = (404, 406)


def welcome_of(node: Node) -> tuple[int | None, Jid | None]:
    """What `<success>` tells: server time (UTC seconds) and our own LID, as far as it can be read.

    It is a login even if nothing else in it can be.
    """
    try:
        welcome = parse_success(node)
    except RemoteProtocolError:
        return None, None
    return welcome.t, welcome.lid


def under_other_lid(own: PairedIdentity, told: Jid | None) -> PairedIdentity | None:
    """Our identity under the LID that the server names; None: it is the one we know."""
    if told is None or not told.is_lid or told.user in ("", own.lid.user):
        return None
    return replace(own, lid=told.bare.with_device(own.jid.device))


class Errand(Enum):
    """What the login asks the server."""

    COUNT = auto()
    UPLOAD = auto()
    ACTIVE = auto()
    DIGEST = auto()
    PROPS = auto()


class LoginMachine:
    """The errands of one connection after another.

    Args:
        queries: of the connection; the login's purposes are `Errand`s.

    Attributes:
        stock: the one-time prekeys.
        props: what is switched on for the account, as the server last told.
        ready: all is done that a connected device has behind it.
    """

    __slots__ = ("_is_active", "_queries", "props", "ready", "stock")

    def __init__(self, queries: Queries[object]) -> None:
        self._queries = queries
        self.stock: Final = Stock(queries, Errand.UPLOAD)
        self.props = Props()
        # Whether the server was told to hand out what it holds back.
        self._is_active = False
        self.ready = False

    def begin(self, keys: DeviceKeys, now: float) -> list[Command]:
        """`<success>` came."""
        self.stock.begin(keys)
        return [self._queries.ask(Errand.COUNT, prekeys.count_query, now)]

    def end(self) -> None:
        """The connection is gone."""
        self.stock.end()
        self.ready = self._is_active = False

    def check(self, now: float) -> list[Command]:
        """Ask whether the server holds our keys."""
        return [self._queries.ask(Errand.DIGEST, prekeys.digest_query, now)]

    def ask_props(self, now: float) -> list[Command]:
        """Ask what is switched on for the account."""
        build = partial(switches.query, known=self.props)
        return [self._queries.ask(Errand.PROPS, build, now)]

    def answered(self, errand: Errand, node: Node, now: float) -> list[Command]:
        """Take the answer to one of our questions.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        error = iq.parse_iq_error(node)
        if error is not None:
            return self._failed(errand, error, now)
        match errand:
            case Errand.COUNT:
                more = self.stock.counted(prekeys.parse_count(node), now)
                return more or self._activate(now)
            case Errand.UPLOAD:
                return [*self.stock.uploaded(now), *self._activate(now)]
            case Errand.ACTIVE:
                return self._failed(errand, None, now)
            case Errand.DIGEST:
                # What stands in it is not compared: no library does, and its hash is not known.
                return self.stock.missing(now) if node.child("digest") is None else []
            case Errand.PROPS:
                return self._learn(switches.parse_props(node, self.props))
            case _:
                assert_never(errand)

    def unanswered(self, errand: Errand, now: float) -> list[Command]:
        """No answer came, or none that can be read: go on without."""
        return self._failed(errand, None, now)

    def _failed(self, errand: Errand, error: IqError | None, now: float) -> list[Command]:
        match errand:
            case Errand.COUNT:
                return self._activate(now)
            case Errand.UPLOAD:
                self.stock.failed(error, now)
                return self._activate(now)
            case Errand.ACTIVE:
                self.ready = True
                return []
            case Errand.DIGEST:
                missing = error is not None and error.code in KEYS_MISSING
                return self.stock.missing(now) if missing else []
            case Errand.PROPS:
                return []
            case _:
                assert_never(errand)

    def _activate(self, now: float) -> list[Command]:
        if self._is_active:
            return []  # a later upload
        self._is_active = True
        return [self._queries.ask(Errand.ACTIVE, iq.active, now)]

    def _learn(self, props: Props) -> list[Command]:
        if props == self.props:
            return []
        self.props = props
        return [SaveFact(PROPS_FACT, props.to_bytes())]

"""Notices: what the server sends by itself, and how each is answered. Pure.

A stanza is answered when its effect is durable: the ack stands behind the commands that bring it
about, and where they read or decide something first, it comes back as their result. If one of them
cannot be committed, no later one is performed: the server gets no ack and sends the stanza again.
What cannot be read is acknowledged as well: the server would send it on every connect, and end the
connection over it. What concerns the linking of a device is machine.py.

Source: whatsmeow receipt.go, notification.go, connectionevents.go.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import partial
from typing import Final, assert_never

from sitpayd.actors.backlog import Backlog
from sitpayd.actors.commands import (
    Command,
    DropSessions,
    KeepToken,
    Learn,
    LearnAll,
    MakePreKeys,
    MarkReceipt,
    Oddity,
    Receive,
    Remark,
    SaveFact,
    Send,
)
from sitpayd.actors.delivery import DeliveryMachine
from sitpayd.actors.people import People
from sitpayd.actors.queries import Queries
from sitpayd.actors.routing import Routing
from sitpayd.actors.stock import Stock
from sitpayd.storage.records import DIRTY_FACT
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import aliases, ib, iq, message, mex, notification, receipt
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.usync import UserDevices

# Names of announcements that are remarked upon, each once; beyond so many a server is just odd.
MAX_REMARKED: Final = 16
# A name of the protocol, which may stand in a log; anything else may not.
_NAME: Final = re.compile(r"[a-z][a-z0-9:_-]{0,39}")


class Courtesy(Enum):
    """What is asked for its own sake; the answer means nothing but that the server is there."""

    CLEAN = auto()
    PING = auto()


class Notices:
    """The server's own stanzas on one connection after another.

    Args:
        queries: of the connection; purposes asked for here are `Courtesy`s.
    """

    __slots__ = (
        "_delivery",
        "_dirty",
        "_people",
        "_queries",
        "_remarked",
        "_routing",
        "_stock",
        "backlog",
    )

    def __init__(
        self,
        queries: Queries[object],
        stock: Stock,
        delivery: DeliveryMachine,
        routing: Routing,
        people: People,
    ) -> None:
        self._queries = queries
        self._stock = stock
        self._delivery = delivery
        self._people = people
        self._routing = routing
        self.backlog: Final = Backlog()
        self._remarked: set[str] = set()
        # Collections of the app state that are stored as changed, and their versions.
        self._dirty: dict[str, int] = {}

    def heard(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        """Take a stanza that answers no question.

        Args:
            own: the linked account; None: not linked yet.

        Raises:
            RemoteProtocolError: If it is malformed and cannot be acknowledged.
        """
        # Behind the rest: what is asked for comes when this stanza is dealt with.
        return [*self._heard(node, own, now), *self.backlog.took(node, now)]

    def _heard(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        match node.tag:
            case "message":
                return [] if own is None else [Receive(node)]
            case "receipt":
                return self._receipt(node, own, now)
            case "ack":
                return self._acked(node, now)
            case "notification":
                return self._notified(node, own, now)
            case "ib":
                return self._announced(node, own, now)
            case "call":
                return [_ack(node, own)]
            case _:
                # Presence and chat states of others need no answer, and nobody here asked for them;
                # what we do not know gets none.
                return []

    def _receipt(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        answer = _ack(node, own)
        try:
            got = receipt.parse_receipt(node)
        except RemoteProtocolError:
            return [answer]
        if own is None:
            return [answer]
        # Before the receipt is looked at: whose device it is from may be known only now.
        learned: list[Command] = [LearnAll(got.mappings)] if got.mappings else []
        if got.retry is None:
            return [*learned, MarkReceipt(got, answer.node)]
        return [*learned, *self._delivery.repairs.asked(got, answer.node, now)]

    def _acked(self, node: Node, now: float) -> list[Command]:
        match node.text("class"):
            case "message":
                return self._delivery.acked(message.parse_message_ack(node), now)
            case "receipt":
                return self._people.reading.acked(node)
            case _:
                return []

    def _notified(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        answer = _ack(node, own)
        try:
            mappings = aliases.in_notification(node)
            effects: list[Command] = [LearnAll(mappings)] if mappings else []
            effects += self._notification(node, own, now)
        except RemoteProtocolError:
            return [answer]
        if any(isinstance(effect, MakePreKeys) for effect in effects):
            # It takes its time, and what is missing is found again at each login.
            return [answer, *effects]
        return [*effects, answer]

    def _notification(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        match notification.parse_notification(node):
            case notification.PreKeyCount(count=count):
                return self._stock.counted(count, now)
            case notification.IdentityChanged(user=user):
                changed = self._delivery.identity_changed(user, "notification")
                return [DropSessions(user), changed]
            case notification.DevicesChanged() as notice:
                self._delivery.directory.change(notice, now)
                if notice.action == "remove" and notice.devices:
                    gone = frozenset(device.jid.device for device in notice.devices)
                    return [DropSessions(notice.user, gone)]
            case notification.OwnDevices() as listed if own is not None:
                ours = UserDevices(own.jid.bare, own.lid.bare, ())
                gone = self._delivery.directory.replace_own(ours, listed, now)
                return [DropSessions(own.jid.bare, gone)] if gone else []
            case notification.AppStateChanged(collections=collections) if own is not None:
                return self._app_state(collections)
            case notification.PrivacyToken() as given if own is not None:
                return self._given(given)
            case notification.OtherNotification(type="mex"):
                return self._restricted(node, now)
            case _:
                pass  # nothing is kept of groups, pictures, channels and the like
        return []

    def _app_state(self, collections: tuple[tuple[str, int], ...]) -> list[Command]:
        """Remember which collections would have to be fetched: nobody does so here."""
        news = {name: version for name, version in collections if self._dirty.get(name) != version}
        self._dirty.update(news)
        return [
            SaveFact(f"{DIRTY_FACT}{name}", str(version).encode()) for name, version in news.items()
        ]

    def _given(self, given: notification.PrivacyToken) -> list[Command]:
        if given.user.is_lid or given.lid is None:
            return [KeepToken(given.user, given.token, given.t)]
        # Before the token: it is kept under the LID.
        learn = Learn(given.user, given.lid)
        return [learn, KeepToken(given.lid, given.token, given.t)]

    def _restricted(self, node: Node, now: float) -> list[Command]:
        """Take what the server says about the account's beginning of chats."""
        if (lock := mex.parse_timelock_notice(node)) is not None:
            return self._delivery.timelock(lock, now)
        if (cap := mex.parse_capping_notice(node)) is not None:
            return self._delivery.capped(cap, now)
        return []

    def _announced(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        if own is None:
            return []  # what concerns the linking of a device is linking.py's
        commands: list[Command] = []
        for announcement in ib.parse_ib(node):
            match announcement:
                case ib.Dirty(type=dirty_type, timestamp=timestamp):
                    if dirty_type == "account_sync":
                        self._delivery.directory.forget(own.jid)
                    # Nothing else of what may be meant is kept here.
                    build = partial(iq.clean_dirty, dirty_type=dirty_type, timestamp=timestamp)
                    commands.append(self._queries.ask(Courtesy.CLEAN, build, now))
                case ib.OfflinePreview(count=count):
                    commands += self.backlog.announced(count, now)
                case ib.OfflineDone():
                    self.backlog.end()
                case ib.EdgeRouting(routing_info=info):
                    commands += self._routing.announced(info)
                case ib.DowngradeWebClient():
                    commands += self._remark_once(Oddity.NO_MULTI_DEVICE, None)
                case ib.OtherAnnouncement(tag=tag):
                    commands += self._remark_once(Oddity.UNKNOWN_ANNOUNCEMENT, name_of(tag))
                case _:
                    assert_never(announcement)
        return commands

    def _remark_once(self, oddity: Oddity, detail: str | None) -> list[Command]:
        what = detail or oddity.value
        if what in self._remarked or len(self._remarked) >= MAX_REMARKED:
            return []
        self._remarked.add(what)
        return [Remark(oddity, detail)]


def unknown_request(node: Node) -> Remark:
    """A request of the server that nobody here answers."""
    names = (node.text("type"), node.text("xmlns"), *(child.tag for child in node.children[:1]))
    return Remark(Oddity.UNKNOWN_REQUEST, " ".join(name_of(name) for name in names if name))


def name_of(text: str) -> str:
    """A name of the protocol as it may stand in a log."""
    return text if _NAME.fullmatch(text) else "?"


def _ack(node: Node, own: PairedIdentity | None) -> Send:
    return Send(receipt.ack(node, SERVER_JID if own is None else own.jid))

"""Notices: what the server sends by itself, and how each is answered. Pure.

Everything is answered when its effect is durable: the answer stands behind the commands, or comes
back as their result. What cannot be read is acknowledged as well: the server would send it on every
connect, and end the connection over it. What concerns the linking of a device is machine.py.

Source: whatsmeow receipt.go, notification.go, connectionevents.go.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial

from sitpayd.actors.commands import (
    Command,
    DropSessions,
    KeepToken,
    Learn,
    LearnAll,
    MakePreKeys,
    MarkReceipt,
    Receive,
    Send,
)
from sitpayd.actors.delivery import DeliveryMachine
from sitpayd.actors.login import LoginMachine
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import aliases, ib, iq, message, mex, notification, receipt
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.usync import UserDevices


class Courtesy(Enum):
    """What is asked for its own sake; the answer means nothing but that the server is there."""

    CLEAN = auto()
    PING = auto()


class Notices:
    """The server's own stanzas on one connection after another.

    Args:
        queries: of the connection; purposes asked for here are `Courtesy`s.
    """

    __slots__ = ("_delivery", "_login", "_queries")

    def __init__(
        self, queries: Queries[object], login: LoginMachine, delivery: DeliveryMachine
    ) -> None:
        self._queries = queries
        self._login = login
        self._delivery = delivery

    def heard(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        """Take a stanza that answers no question.

        Args:
            own: the linked account; None: not linked yet.

        Raises:
            RemoteProtocolError: If it is malformed and needs no acknowledgement.
        """
        match node.tag:
            case "message":
                return [] if own is None else [Receive(node)]
            case "receipt":
                return self._receipt(node, own, now)
            case "ack":
                return self._message_ack(node, now)
            case "notification":
                return self._notified(node, own, now)
            case "ib":
                return self._announced(node, now)
            case "call":
                return [Send(_ack(node, own))]
            case _:
                return []  # presence, chatstate and what we do not know need no answer

    def _receipt(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        answer = _ack(node, own)
        try:
            got = receipt.parse_receipt(node)
        except RemoteProtocolError:
            return [Send(answer)]
        if own is None:
            return [Send(answer)]
        # Before the receipt is looked at: whose device it is from may be known only now.
        learned: list[Command] = [LearnAll(got.mappings)] if got.mappings else []
        if got.retry is None:
            return [*learned, MarkReceipt(got, answer)]
        return [*learned, *self._delivery.repairs.asked(got, answer, now)]

    def _message_ack(self, node: Node, now: float) -> list[Command]:
        if node.text("class") != "message":
            return []
        return self._delivery.acked(message.parse_message_ack(node), now)

    def _notified(self, node: Node, own: PairedIdentity | None, now: float) -> list[Command]:
        answer = Send(_ack(node, own))
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
                return self._login.left(count)
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
            case notification.PrivacyToken() as given if own is not None:
                return self._given(given)
            case notification.OtherNotification(type="mex"):
                if (lock := mex.parse_timelock_notice(node)) is not None:
                    return self._delivery.timelock(lock, now)
                if (cap := mex.parse_capping_notice(node)) is not None:
                    return self._delivery.capped(cap, now)
            case _:
                pass
        return []

    def _given(self, given: notification.PrivacyToken) -> list[Command]:
        if given.user.is_lid or given.lid is None:
            return [KeepToken(given.user, given.token, given.t)]
        # Before the token: it is kept under the LID.
        learn = Learn(given.user, given.lid)
        return [learn, KeepToken(given.lid, given.token, given.t)]

    def _announced(self, node: Node, now: float) -> list[Command]:
        commands: list[Command] = []
        for announcement in ib.parse_ib(node):
            match announcement:
                case ib.Dirty(type=dirty_type, timestamp=timestamp):
                    build = partial(iq.clean_dirty, dirty_type=dirty_type, timestamp=timestamp)
                    commands.append(self._queries.ask(Courtesy.CLEAN, build, now))
                case ib.OfflinePreview():
                    commands.append(Send(iq.offline_batch(100)))
                case _:
                    pass  # the end of the backlog needs nothing; routing is left to the server
        return commands


def _ack(node: Node, own: PairedIdentity | None) -> Node:
    return receipt.ack(node, SERVER_JID if own is None else own.jid)

"""Router: takes stanzas from one device and queues them for others.

Sockets and phones come in by the same door: `message`, `receipt` and `ack` take a device and a
stanza and return what to answer. Everything is synchronous; whom a stanza goes to learns it through
its queue. A message is acknowledged only after its copies stand in the queues.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import LID_SERVER, PN_SERVER, SERVER_JID, Jid
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import message as messages
from sitpayd.whatsapp.stanzas import mex
from sitpayd.whatsapp.stanzas import notification as notifications
from sitpayd.whatsapp.stanzas import receipt as receipts
from sitpayd.whatsapp.stanzas.pairing import verify_signed_identity

from .accounts import PHONE, Account, Accounts, Device
from .ciphertexts import CiphertextLedger
from .faults import FaultKind, Faults
from .journal import Entry, Journal
from .options import Options, Repeats
from .queues import Pending
from .trust import NO_TOKEN_HERE, Trust, cap_of, lock_of
from .violations import Kind, Violations

# Error codes of message acks.
MIXED_ADDRESSES: Final = 400
UNKNOWN_RECIPIENT: Final = 404
OVERLOADED: Final = 503
LEAVES_OUT: Final = "leaves out the device"
# Sent ids remembered per device, to tell a repetition.
_MAX_SENT: Final = 2_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a stanza gets.

    Attributes:
        delay_s: seconds to wait before it.
        drops: whether the sender's socket is cut instead.
    """

    nodes: tuple[Node, ...] = ()
    delay_s: float = 0
    drops: bool = False


class Router:
    """The switchboard of one server."""

    def __init__(
        self, accounts: Accounts, options: Options, faults: Faults, violations: Violations
    ) -> None:
        self.accounts = accounts
        self.options = options
        self.faults = faults
        self.violations = violations
        self.journal = Journal()
        self.trust = Trust()
        self._ledger = CiphertextLedger()
        self._sent: dict[Device, OrderedDict[str, dict[Device, bytes]]] = {}
        self._asked_again: OrderedDict[tuple[Device, str], None] = OrderedDict()
        # Bounded by the faults that somebody ordered.
        self._late: dict[Device, list[tuple[Entry, Node]]] = {}

    # --- messages ---

    def message(self, sender: Device, node: Node) -> Answer:
        """Take a message."""
        try:
            sent = messages.parse_outgoing(node)
        except RemoteProtocolError as malformed:
            self.violations.record(sender, Kind.STANZA, f"message: {malformed}")
            if node.text("id") is None:
                return Answer()
            return Answer((receipts.message_ack(node, now(), error=MIXED_ADDRESSES),))
        fault = None
        if sender.number != PHONE:
            fault = self.faults.take(
                sender,
                FaultKind.NACK,
                FaultKind.LOSE,
                FaultKind.LOSE_ACK,
                FaultKind.REPEAT_ACK,
                FaultKind.DELAY_ACK,
                FaultKind.DROP_BEFORE,
                FaultKind.DROP_AFTER,
            )
        kind = fault.kind if fault else None
        if kind in (FaultKind.DROP_BEFORE, FaultKind.LOSE):
            self._overhear(sender, sent)
            return Answer(drops=kind == FaultKind.DROP_BEFORE)
        if fault and kind == FaultKind.NACK:
            self.journal.sent(sender, sent.id, sent.to, fault.code)
            return Answer((receipts.message_ack(node, now(), error=fault.code),))

        error, phash = self.submit(sender, sent, is_fanout=node.child("participants") is not None)
        ack = receipts.message_ack(node, now(), error=error, phash=phash)
        if kind == FaultKind.DROP_AFTER:
            return Answer(drops=True)
        if kind == FaultKind.LOSE_ACK:
            return Answer()
        if kind == FaultKind.REPEAT_ACK:
            return Answer((ack, ack))
        delay_s = fault.seconds or 0 if fault and kind == FaultKind.DELAY_ACK else 0
        return Answer((ack,), delay_s)

    def submit(
        self, sender: Device, sent: messages.OutgoingMessage, *, is_fanout: bool = True
    ) -> tuple[int | None, str | None]:
        """Queue the copies of a message.

        Args:
            is_fanout: whether it is meant for every device, not for a single one.

        Returns:
            The error code if it is refused, and the server's hash of the devices if the sender
            missed some.
        """
        recipient = self.accounts.of(sent.to)
        error = self._refusal(sender, sent, recipient, is_fanout)
        entry = self.journal.sent(sender, sent.id, sent.to, error)
        entry.proof = None if sent.proof is None else sent.proof.kind
        if error is not None or recipient is None:
            return error, None
        self._check_identity(sender, sent)
        self.trust.wrote(sender.account, recipient)
        targets = self._targets(sender, recipient, sent)
        if any(target.queue.is_full for target in targets):
            return OVERLOADED, None
        sent_before = self._sent_ids(sender).get(sent.id)
        if is_fanout and not sent.is_partial:
            if sent_before is None:
                self._check_fanout(sender, recipient, sent.id, targets)
            else:
                self._check_repeat(sender, sent.id, targets, sent_before)
        for target, enc in targets.items():
            if self._is_to_deliver(sender, sent.id, target, enc):
                self._deliver_copy(sender, recipient, target, sent, enc, entry)
        if not is_fanout:
            return None, None
        reached = {sender, *self._sent_ids(sender)[sent.id]} if targets else {sender}
        wanted = {*recipient.devices.values(), *sender.account.devices.values()}
        if reached == wanted:
            return None, None
        return None, messages.phash(device.address(sent.to.server) for device in wanted)

    def _refusal(
        self,
        sender: Device,
        sent: messages.OutgoingMessage,
        recipient: Account | None,
        is_fanout: bool,
    ) -> int | None:
        if sent.group_body is not None or not sent.to.is_user:
            self.violations.unsupported(sender, f"message to {sent.to.server}")
            return UNKNOWN_RECIPIENT
        if recipient is None:
            return UNKNOWN_RECIPIENT
        if any(jid.is_lid != sent.to.is_lid for jid, _ in sent.participants):
            self.violations.record(
                sender, Kind.ADDRESS, f"message {sent.id} mixes addresses by number and by LID"
            )
            return MIXED_ADDRESSES
        fault = self.trust.fault(sender, recipient, sent, is_fanout=is_fanout)
        if fault is not None:
            self._fault(sender, Kind.TOKEN, sent.id, fault)
            if sent.category == "peer" or not is_fanout:
                return NO_TOKEN_HERE
        # Devices of this process are not put to the test, and notes to oneself are no messages.
        if sender.noise is None or recipient is sender.account:
            return None
        if is_fanout and not sent.is_partial:
            demanded = self.options.token_refusal
            refusal = self.trust.refusal(sender, recipient, sent, demanded)
            if refusal is not None:
                return refusal
        return recipient.lid_refusal if sent.to.is_lid else self.options.pn_refusal

    def _targets(
        self, sender: Device, recipient: Account, sent: messages.OutgoingMessage
    ) -> dict[Device, messages.Enc]:
        targets: dict[Device, messages.Enc] = {}
        for jid, enc in sent.participants:
            account = self.accounts.of(jid)
            device = None if account is None else account.devices.get(jid.device)
            if account not in (recipient, sender.account) or account is None:
                self._fault(sender, Kind.FANOUT, sent.id, f"a ciphertext for a stranger, {jid}")
            elif device is None:
                # A list may be older than the removal of a device; the hash of the ack tells.
                if jid.device not in account.former:
                    self._fault(sender, Kind.FANOUT, sent.id, f"for the unknown device {jid}")
            elif device is sender:
                self._fault(sender, Kind.FANOUT, sent.id, "a ciphertext for the sender itself")
            elif device in targets:
                # In a note to oneself the recipient's devices are the own ones, and both Baileys
                # and whatsmeow encrypt for them in either quality.
                if recipient is not sender.account:
                    self._fault(sender, Kind.FANOUT, sent.id, f"two ciphertexts for {jid}")
            else:
                targets[device] = enc
        return targets

    def _check_fanout(
        self, sender: Device, recipient: Account, id: str, targets: dict[Device, messages.Enc]
    ) -> None:
        for account in {recipient, sender.account}:
            told = sender.told.get(account.lid_user, frozenset())
            # What it was told since its last message may be news: this one may have been encrypted
            # before, lost on its way, and sent again as it was.
            told &= sender.told_before.get(account.lid_user, told)
            for device in account.devices.values():
                is_known = device.number in told and device not in sender.refused
                if is_known and device is not sender and device not in targets:
                    self._fault(sender, Kind.FANOUT, id, f"{LEAVES_OUT} {device}")
        sender.told_before = dict(sender.told)

    def _check_repeat(
        self, sender: Device, id: str, targets: Iterable[Device], before: Iterable[Device]
    ) -> None:
        """A repetition that is for some devices only has to say so; else it leaves others out."""
        for device in set(before) - set(targets):
            if device.account.devices.get(device.number) is device:
                self._fault(sender, Kind.FANOUT, id, f"repeated without {device}, not as a part")

    def _check_identity(self, sender: Device, sent: messages.OutgoingMessage) -> None:
        if sender.number == PHONE or all(enc.kind != "pkmsg" for _, enc in sent.participants):
            return
        identity = sent.device_identity
        if identity is None:
            self._fault(sender, Kind.IDENTITY, sent.id, "a pkmsg without device-identity")
        elif identity != sender.signed_identity:
            try:
                verify_signed_identity(identity, sender.identity)
            except RemoteProtocolError as error:
                self._fault(sender, Kind.IDENTITY, sent.id, str(error))

    def _is_to_deliver(self, sender: Device, id: str, target: Device, enc: messages.Enc) -> bool:
        """Whether a copy goes out; remembers it."""
        sent = self._sent_ids(sender)
        copies = sent.setdefault(id, {})
        if len(sent) > _MAX_SENT:
            sent.popitem(last=False)
        digest = hashlib.sha256(enc.body).digest()
        before = copies.get(target)
        copies[target] = digest
        if before == digest:
            return self.options.repeats == Repeats.DELIVER
        # After a retry receipt of a phone Baileys encrypts for all devices anew.
        if before is not None and not enc.count and (sender, id) not in self._asked_again:
            self._fault(sender, Kind.DUPLICATE, id, f"another ciphertext for {target}")
        self._check_ciphertext(sender, id, target, enc)
        return True

    def _check_ciphertext(self, sender: Device, id: str, target: Device, enc: messages.Enc) -> None:
        for fault in self._ledger.faults(sender, target, enc.kind, enc.body):
            self._fault(sender, Kind.SIGNAL, id, f"to {target}: {fault}")

    def _overhear(self, sender: Device, sent: messages.OutgoingMessage) -> None:
        """Look at a message that is lost: the counters it used are used."""
        for jid, enc in sent.participants:
            target = self.accounts.device(jid)
            if target is not None:
                self._check_ciphertext(sender, sent.id, target, enc)

    def _deliver_copy(
        self,
        sender: Device,
        recipient: Account,
        target: Device,
        sent: messages.OutgoingMessage,
        enc: messages.Enc,
        entry: Entry,
    ) -> None:
        server = LID_SERVER if sent.to.is_lid else PN_SERVER
        is_peer = sent.category == "peer"
        is_own = target.account is sender.account and not is_peer
        chat = None
        if is_own:
            chat = (sent.recipient or sent.to).bare
        chat_account = None if chat is None else self.accounts.of(chat)
        alternate = sender.account if is_peer else chat_account
        node = messages.deliver(
            sent,
            (enc,),
            from_=sender.address(server),
            t=now(),
            recipient=chat,
            # Not beside `recipient`: Baileys takes it for the other address of the chat, and
            # from then on for that of the wrong person.
            sender_alt=None
            if is_peer or is_own
            else sender.account.alternate(server, target.account),
            recipient_alt=(
                None if alternate is None else alternate.alternate(server, target.account)
            ),
            push_name=sender.account.name or None,
        )
        if self.faults.take(target, FaultKind.LATE_MESSAGE):
            self._late.setdefault(target, []).append((entry, node))
            return
        times = 2 if self.faults.take(target, FaultKind.REPEAT_MESSAGE) else 1
        for told, stanza in (*((entry, node),) * times, *self._late.pop(target, ())):
            self.journal.delivered(told, target)
            self.deliver(target, stanza)

    def _sent_ids(self, sender: Device) -> OrderedDict[str, dict[Device, bytes]]:
        return self._sent.setdefault(sender, OrderedDict())

    def _fault(self, sender: Device, kind: Kind, id: str, text: str) -> None:
        self.violations.record(sender, kind, f"message {id}: {text}")

    # --- receipts and acks ---

    def receipt(self, sender: Device, node: Node) -> Answer:
        """Take a receipt: it answers a message, and its author learns of it."""
        try:
            parsed = receipts.parse_receipt(node)
            answer = receipts.receipt_ack(node)
        except RemoteProtocolError as error:
            self.violations.record(sender, Kind.STANZA, f"receipt: {error}")
            return Answer()
        for id in parsed.ids:
            self.journal.receipt(sender, id, parsed.type)
            if parsed.type != "retry":
                self._answer(sender, "message", id, parsed.to, "receipt")
        if parsed.retry is not None and parsed.retry.bundle is not None:
            self._remember_retry_keys(sender, parsed.retry)
        for target in self._receipt_targets(sender, parsed):
            if parsed.type == "retry":
                self._asked_again[target, parsed.ids[0]] = None
                if len(self._asked_again) > _MAX_SENT:
                    self._asked_again.popitem(last=False)
            to = parsed.to or target.pn
            is_own = target.account is sender.account
            forwarded = receipts.forward(
                node,
                from_=sender.address(to.server),
                t=now(),
                recipient=parsed.recipient if is_own else None,
            )
            self.deliver(target, forwarded)
        return Answer((answer,))

    def _receipt_targets(self, sender: Device, receipt: receipts.Receipt) -> list[Device]:
        match receipt.type:
            case "hist_sync" | "peer_msg" | "server-error":
                targets: Iterable[Device] = (sender.account.phone,)
            case "retry" | "sender":
                device = None if receipt.to is None else self.accounts.device(receipt.to)
                targets = () if device is None else (device,)
            case "read-self" | "played-self":
                targets = sender.account.devices.values()
            case _:
                account = None if receipt.to is None else self.accounts.of(receipt.to)
                targets = () if account is None else account.devices.values()
        return [target for target in targets if target is not sender]

    def _remember_retry_keys(self, sender: Device, retry: receipts.Retry) -> None:
        bundle = retry.bundle
        if bundle is None:
            return
        if bundle.identity != sender.identity:
            self.violations.record(sender, Kind.IDENTITY, "a retry receipt with a foreign identity")
        sender.signed_prekey_ids.add(bundle.signed_prekey_id)
        if bundle.prekey_id is not None and bundle.prekey is not None:
            if bundle.prekey_id in sender.known_prekeys:
                self.violations.record(
                    sender, Kind.PREKEYS, f"a retry receipt with a used prekey {bundle.prekey_id}"
                )
            sender.known_prekeys[bundle.prekey_id] = bundle.prekey
        if sender.number != PHONE and retry.device_identity is None:
            self.violations.record(
                sender, Kind.IDENTITY, "keys in a retry receipt without device-identity"
            )

    def ack(self, sender: Device, node: Node) -> Answer:
        """Take an ack: the stanza it answers is forgotten."""
        try:
            parsed = receipts.parse_ack(node)
        except RemoteProtocolError as error:
            self.violations.record(sender, Kind.STANZA, f"ack: {error}")
            return Answer()
        answer = "ack" if parsed.error is None else str(parsed.error)
        self._answer(sender, parsed.stanza, parsed.id, parsed.to, answer, expected=True)
        return Answer()

    def _answer(
        self,
        device: Device,
        tag: str,
        id: str,
        to: Jid | None,
        answer: str,
        *,
        expected: bool = False,
    ) -> None:
        """Forget the stanza that is answered.

        Args:
            to: whom the answer addresses; a receipt of Baileys may name nobody.
            expected: whether it is a fault to answer what does not wait.
        """
        queue = device.queue
        for pending in queue.candidates(tag, id):
            if to is None or self._is_same_person(pending.sender, to):
                queue.answer(pending)
                if tag == "message":
                    self.journal.answered(device, id, answer)
                if pending.told is not None:
                    lid_user, numbers = pending.told
                    device.told[lid_user] = numbers
                if device.link is not None:
                    device.link.wake()
                return
        if expected and not queue.was_answered(tag, id):
            self.violations.record(
                device, Kind.UNEXPECTED, f"an answer to {tag} {id}, which does not wait for one"
            )

    def _is_same_person(self, left: Jid | None, right: Jid) -> bool:
        if left is None or left.bare == right.bare:
            return True
        account = self.accounts.of(left)
        return account is not None and account is self.accounts.of(right)

    # --- tokens ---

    def give_token(self, giver: Account, to: Account, t: int) -> None:
        """Let a person have another one's privacy token: its devices hear of it."""
        given = self.trust.give(giver, to, t)
        told = notifications.PrivacyToken(giver.pn, giver.lid, given.token, given.t)
        for device in to.devices.values():
            self.notify(device, told)

    def tell_restriction(self, account: Account) -> None:
        """Tell an account's companions what it may not do."""
        lock = lock_of(account) or mex.ReachoutTimelock(False)
        for device in account.companions:
            for told in (lock, cap_of(account)):
                self.deliver(device, mex.notice(str(secrets.randbits(31)), told, t=now()))

    # --- from the server itself ---

    def deliver(
        self, device: Device, node: Node, told: tuple[str, frozenset[int]] | None = None
    ) -> None:
        """Queue a stanza for a device, which holds it until the device answers."""
        if not device.queue.put(Pending(node, told)):
            _log.warning("queue full device=%s stanza=%s", device, node.tag)
            return
        if device.link is not None:
            device.link.wake()

    def notify(
        self,
        device: Device,
        value: notifications.Notification,
        *,
        from_: Jid | None = None,
        told: tuple[str, frozenset[int]] | None = None,
    ) -> None:
        """Queue a notification."""
        if self.faults.take(device, FaultKind.LOSE_NOTIFICATION):
            return
        arguments = {} if from_ is None else {"from_": from_}
        id = str(secrets.randbits(31))
        self.deliver(device, notifications.notification(id, value, t=now(), **arguments), told=told)

    def announce(
        self, device: Device, kind: str, content: tuple[Node, ...], *, from_: Jid | None = None
    ) -> Node:
        """Queue a notification that somebody wrote; gives it as it was queued.

        Args:
            from_: the server by default.
        """
        attrs: dict[str, Attr] = {
            "id": str(secrets.randbits(31)),
            "t": str(now()),
            "type": kind,
            "from": SERVER_JID if from_ is None else from_,
        }
        node = Node("notification", attrs, content or None)
        if not self.faults.take(device, FaultKind.LOSE_NOTIFICATION):
            self.deliver(device, node)
        return node

    def devices_changed(
        self, account: Account, changed: Device, action: notifications.DeviceAction
    ) -> None:
        """Tell the own devices and all who asked that a device was added or removed."""
        told = (account.lid_user, account.numbers)
        own = notifications.OwnDevices(
            tuple(device.pn for device in account.devices.values()), account.hash(PN_SERVER)
        )
        for device in account.devices.values():
            if device is not changed:
                self.notify(device, own, from_=account.pn, told=told)
        is_told = not account.lid_is_hidden
        listed = notifications.ListedDevice(
            changed.pn, changed.lid if is_told else None, changed.key_index
        )
        others = notifications.DevicesChanged(
            account.pn,
            account.lid if is_told else None,
            action,
            (listed,),
            account.hash(PN_SERVER),
            account.hash(LID_SERVER) if is_told else None,
        )
        for watcher in account.watchers - {account}:
            for device in watcher.devices.values():
                # It is not held to this: whatsmeow ignores it if it asked by LID, and learns of the
                # device from the hash in its next ack.
                if account.lid_user in device.told:
                    self.notify(device, others)

    def identity_changed(self, account: Account) -> None:
        """Tell all who asked for an account's devices that its phone has other keys."""
        for watcher in account.watchers - {account}:
            told = account.alternate(PN_SERVER, watcher)
            changed = notifications.IdentityChanged(account.pn, told)
            for device in watcher.devices.values():
                self.notify(device, changed)

    def prekeys_taken(self, device: Device) -> None:
        """Tell a device that few of its one-time prekeys are left."""
        if device.number != PHONE and len(device.prekeys) <= self.options.low_prekeys:
            self.notify(device, notifications.PreKeyCount(len(device.prekeys)))

    def forget(self, device: Device) -> None:
        """Drop what is remembered of a device that is gone."""
        self._sent.pop(device, None)
        self._late.pop(device, None)
        device.queue.clear()


def now() -> int:
    """The server's time, UTC seconds."""
    return int(time.time())

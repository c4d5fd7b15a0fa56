"""Endpoint: a device in this process, with real keys and Signal sessions.

It sends, decrypts, asks again and answers who asks. Its stanzas take the same way as everybody
else's, through the router and its queue; only the socket is missing. Sessions are kept by LID. What
a phone does besides is phone.py, a companion companions.py.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from sitpayd.whatsapp.errors import (
    DecryptError,
    DuplicateMessageError,
    NoSessionError,
    RemoteProtocolError,
    UnknownPreKeyError,
    WhatsAppError,
)
from sitpayd.whatsapp.jid import LID_SERVER, Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey, prekey_id_after
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.signal import session as signal
from sitpayd.whatsapp.signal.record import SessionRecord
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import receipt as receipts
from sitpayd.whatsapp.stanzas.message import (
    PADDED_VERSION,
    Enc,
    IncomingMessage,
    OutgoingMessage,
    parse_incoming,
    unhosted,
)

from .accounts import Account, Device
from .faults import FaultKind
from .queues import Pending
from .routing import Router
from .violations import Kind
from .waker import Waker

_PREKEY_BATCH: Final = 20
_MIN_PREKEYS: Final = 10
_MAX_SENT: Final = 1_000
_MAX_INBOX: Final = 10_000
# As in the libraries: a device that asks oftener does not get it.
_MAX_RETRIES: Final = 5
# So many times it can begin anew before what was encrypted for the first time counts as a fault.
_MAX_LOST: Final = 8
# Messages for a session that is lost, by somebody who has begun another one since.
_MAX_LATE: Final = 5


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the phone decrypted it.

    Attributes:
        seq: counts up by one with each message of this phone, from 1.
        peer: digits of the other person.
        from_me: whether a companion of the own account sent it.
        kind: as in `content.Content`.
        t: server time, UTC seconds.
    """

    seq: int
    id: str
    peer: str
    sender: str
    text: str | None
    kind: str
    t: int
    from_me: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    message: bytes
    recipient: Account
    server: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """A message of a chat, as this device could tell it again.

    Attributes:
        message: serialised Message.
        t: server time, UTC seconds.
    """

    chat: Account
    from_me: bool
    message: bytes
    t: int
    push_name: str | None


@dataclass(frozen=True, slots=True)
class _Lost:
    """What could be read once: nobody is to blame for what was encrypted for it.

    Attributes:
        met: who has written since in a way that is read.
        late: how often each of those has written as before all the same. A client repeats what it
            encrypted before it knew better; what was written to it before makes the old session the
            newest again; and a first request to send once more brings no keys.
    """

    keys: DeviceKeys
    sessions: dict[Jid, SessionRecord]
    prekeys: dict[int, KeyPair]
    met: set[Jid] = field(default_factory=set)
    late: Counter[Jid] = field(default_factory=Counter)


class Endpoint:
    """One device.

    Attributes:
        inbox: what it decrypted, oldest first.
        received: how many messages that were in all.
        receipts: types of receipts that came for its messages, by id.
    """

    def __init__(
        self,
        account: Account,
        number: int,
        router: Router,
        waker: Waker,
        keys: DeviceKeys,
        *,
        name: str,
        key_index: int | None = None,
        signed_identity: bytes | None = None,
    ) -> None:
        self.account = account
        self.keys = keys
        self.inbox: list[Received] = []
        self.received = 0
        self.receipts: OrderedDict[str, list[str]] = OrderedDict()
        self._router = router
        self._waker = waker
        self._sessions: dict[Jid, SessionRecord] = {}
        self._prekeys: dict[int, KeyPair] = {}
        self._next_prekey_id = 1
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._retries: dict[tuple[str, Jid], int] = {}
        # By which message each one-time prekey was used.
        self._spent: OrderedDict[int, str] = OrderedDict()
        self._lost: deque[_Lost] = deque(maxlen=_MAX_LOST)
        self._arrived = trio.Event()
        signed_prekey = keys.signed_prekey
        self.device = Device(
            account,
            number,
            identity=keys.identity.public_key,
            registration_id=keys.registration_id,
            signed_prekey_id=signed_prekey.key_id,
            signed_prekey=signed_prekey.key_pair.public_key,
            signature=signed_prekey.signature,
            key_index=key_index,
            signed_identity=signed_identity,
            name=name,
        )
        account.devices[number] = self.device
        self.device.link = self
        self._top_up()

    # --- sending ---

    def send(self, to: Account, text: str, *, server: str = LID_SERVER) -> str:
        """Send a text to every device of an account and to the own companions; return its id.

        Args:
            server: whether people are addressed by LID or by number.
        """
        message_id = new_id()
        message = contents.text_message(text)
        self._sent[message_id] = _Sent(message, to, server)
        if len(self._sent) > _MAX_SENT:
            self._sent.popitem(last=False)
        self._keep(message_id, _Kept(to, True, message, int(time.time()), None))
        devices = [*to.devices.values()]
        if to is not self.account:
            devices += self.account.devices.values()
        devices.remove(self.device)
        participants = []
        for device in devices:
            enc = self._encrypt_copy(device, message, to, server)
            if enc is not None:
                participants.append((device.address(server), enc))
        peer_pn = to.pn if server == LID_SERVER and to is not self.account else None
        sent = outgoing(
            message_id,
            to.address(server),
            participants,
            peer_recipient_pn=peer_pn,
            device_identity=self.device.signed_identity,
        )
        self._router.submit(self.device, sent)
        self._meet(to, gives=True)
        return message_id

    def read(self, message_id: str) -> bool:
        """Send a read receipt for a message of the inbox; False if it is not there."""
        for received in self.inbox:
            if received.id == message_id and not received.from_me:
                account = self._router.accounts.by_number(received.peer)
                if account is not None:
                    to = account.pn if self.account.lid_is_hidden else account.lid
                    node = receipts.read([message_id], to, t=int(time.time()))
                    self._router.receipt(self.device, node)
                    return True
        return False

    async def arrival(self) -> None:
        """Wait for the next message in the inbox; the caller brings the deadline."""
        await self._arrived.wait()

    def _encrypt_copy(self, device: Device, message: bytes, to: Account, server: str) -> Enc | None:
        if device.account is self.account:
            message = contents.device_sent(to.address(server), message)
        enc = self._encrypt(device, message)
        if enc is None:
            return None
        # A device of this process would only make itself heard as if somebody had broken a rule.
        if device.noise is not None and self._router.faults.take(self.device, FaultKind.CORRUPT):
            return replace(enc, body=_corrupted(enc))
        return enc

    def _encrypt(self, device: Device, message: bytes, count: int = 0) -> Enc | None:
        """Encrypt for a device, None if its keys are unusable."""
        place = unhosted(device.lid)
        record = self._sessions.get(place)
        if record is None:
            record = self._begin(device, device.take_bundle())
            self._router.prekeys_taken(device)
        if record is None:
            return None
        encrypted = signal.encrypt(
            record, self.keys.identity, self.keys.registration_id, contents.pad(message)
        )
        self._sessions[place] = encrypted.record
        return Enc(encrypted.kind, PADDED_VERSION, encrypted.body, count)

    def _begin(self, device: Device, bundle: signal.PreKeyBundle) -> SessionRecord | None:
        place = unhosted(device.lid)
        previous = self._sessions.get(place)
        try:
            record = signal.start(bundle, self.keys.identity, previous=previous)
        except RemoteProtocolError as error:
            self._router.violations.record(device, Kind.PREKEYS, f"unusable keys: {error}")
            return None
        self._sessions[place] = record
        return record

    def _keep(self, message_id: str, kept: _Kept) -> None:
        self._kept[message_id] = kept
        if len(self._kept) > _MAX_SENT:
            self._kept.popitem(last=False)

    # --- receiving ---

    def wake(self) -> None:
        """There is something in the queue; the waker's task empties it."""
        self._waker.wake(self)

    def work(self) -> bool:
        """Handle the next stanza of the queue; False if there is none."""
        pending = self.device.queue.next(trio.current_time())
        if pending is None:
            return False
        if pending.node.tag == "message":
            self._receive_message(pending)
        elif pending.node.tag == "receipt":
            self._receive_receipt(pending.node)
        else:
            self._router.ack(self.device, receipts.ack(pending.node, self.device.pn))
        return True

    def _receive_message(self, pending: Pending) -> None:
        node = pending.node
        incoming = parse_incoming(node, self.account.pn, self.account.lid)
        is_forgetful = self._router.faults.take(self.device, FaultKind.FORGET) is not None
        if is_forgetful:
            self._lose_sessions()
        sender = self._session_address(incoming.sender)
        for enc in incoming.encs:
            try:
                plaintext = self._decrypt(sender, enc, incoming.id)
            except DuplicateMessageError:
                continue
            except DecryptError as error:
                if not self._was_readable(sender, enc):
                    self._fault(incoming, Kind.UNDECRYPTABLE, self._explained(enc, error))
                self._ask_again(node, sender, incoming.id, error)
                return
            self._retries.pop((incoming.id, sender), None)
            for lost in self._lost:
                lost.met.add(sender)
            self._take(incoming, enc, plaintext)
        if self._router.faults.take(self.device, FaultKind.SILENT) is not None:
            self._router.ack(self.device, receipts.ack(node, self.device.pn))
            return
        receipt = receipts.delivery(node, active=True, from_me=incoming.from_me)
        self._router.receipt(self.device, receipt)

    def _decrypt(self, sender: Jid, enc: Enc, message_id: str) -> bytes:
        decrypted = _decrypted(self.keys, self._prekeys, self._sessions.get(sender), enc)
        prekey_id = _prekey_of(enc)
        if prekey_id is not None and prekey_id in self._prekeys:
            del self._prekeys[prekey_id]
            self._spent[prekey_id] = message_id
            if len(self._spent) > _MAX_SENT:
                self._spent.popitem(last=False)
            self._top_up()
        self._sessions[sender] = decrypted.record
        return decrypted.plaintext

    def _explained(self, enc: Enc, error: DecryptError) -> str:
        """Why something is unreadable, in one line."""
        text, prekey_id = str(error) or type(error).__name__, _prekey_of(enc)
        if enc.count:
            text += f", in answer to request {enc.count}"
        if prekey_id is not None and prekey_id in self._spent:
            text += f"; message {self._spent[prekey_id]} has used prekey {prekey_id}"
        return text

    def _lose_sessions(self) -> None:
        """Begin with no session; what was encrypted for the old ones may be on its way."""
        self._lost.append(_Lost(self.keys, self._sessions, dict(self._prekeys)))
        self._sessions = {}

    def _was_readable(self, sender: Jid, enc: Enc) -> bool:
        """Whether it was encrypted for what this device has lost."""
        for lost in self._lost:
            if lost.late[sender] >= _MAX_LATE:
                continue
            try:
                found = _decrypted(lost.keys, lost.prekeys, lost.sessions.get(sender), enc)
                lost.sessions[sender] = found.record
            except DuplicateMessageError:
                pass
            except DecryptError:
                continue
            if sender in lost.met:
                lost.late[sender] += 1
            return True
        return False

    def _take(self, incoming: IncomingMessage, enc: Enc, plaintext: bytes) -> None:
        try:
            padded = enc.version == PADDED_VERSION
            content = contents.parse_message(contents.unpad(plaintext) if padded else plaintext)
        except WhatsAppError as error:
            self._fault(incoming, Kind.CONTENT, str(error))
            return
        is_peer = incoming.category == "peer"
        if content.destination is not None and not incoming.from_me:
            self._fault(incoming, Kind.CONTENT, "a stranger sends a copy for own devices")
            return
        # In a note to oneself the own devices are the recipients, too.
        is_note = self._account(incoming.chat) is self.account
        if incoming.from_me and content.destination is None and not (is_peer or is_note):
            self._fault(incoming, Kind.CONTENT, "the copy for an own device is not wrapped")
        if is_peer:
            self._peer_message(incoming, content)
            return
        if content.kind in ("none", "protocol"):
            return
        chat = content.destination or incoming.chat
        if incoming.from_me and self._account(chat) is not self._account(incoming.chat):
            self._fault(incoming, Kind.CONTENT, "the copy names another chat than its stanza")
        peer, author = self._account(chat), self._account(incoming.sender)
        if peer is not None:
            message = _plain_message(contents.unpad(plaintext) if padded else plaintext)
            kept = _Kept(peer, incoming.from_me, message, incoming.t or 0, incoming.push_name)
            self._keep(incoming.id, kept)
            self._meet(peer)
        self.received += 1
        self.inbox.append(
            Received(
                seq=self.received,
                id=incoming.id,
                peer=chat.user if peer is None else peer.number,
                sender=incoming.sender.user if author is None else author.number,
                text=content.text,
                kind=content.kind,
                t=incoming.t or 0,
                from_me=incoming.from_me,
            )
        )
        del self.inbox[:-_MAX_INBOX]
        self._arrived.set()
        self._arrived = trio.Event()

    def _ask_again(self, node: Node, sender: Jid, message_id: str, error: DecryptError) -> None:
        count = self._retries.get((message_id, sender), 0) + 1
        if count < _MAX_RETRIES:
            self._retries[(message_id, sender)] = count
            nothing_to_decrypt_with = isinstance(error, NoSessionError | UnknownPreKeyError)
            prekey = self._fresh_prekey() if count > 1 or nothing_to_decrypt_with else None
            receipt = receipts.retry_receipt(
                node,
                count,
                self.keys,
                prekey=prekey,
                device_identity=self.device.signed_identity if prekey else None,
            )
            self._router.receipt(self.device, receipt)
        self._router.ack(self.device, receipts.ack(node, self.device.pn))

    def _receive_receipt(self, node: Node) -> None:
        receipt = receipts.parse_receipt(node)
        for message_id in receipt.ids:
            kinds = self.receipts.setdefault(message_id, [])
            kinds.append(receipt.type or "delivered")
            if len(self.receipts) > _MAX_SENT:
                self.receipts.popitem(last=False)
            if receipt.retry is not None:
                self._send_again(message_id, receipt, receipt.retry)
        self._router.ack(self.device, receipts.ack(node, self.device.pn))

    def _send_again(
        self, message_id: str, receipt: receipts.Receipt, retry: receipts.Retry
    ) -> None:
        sent = self._sent.get(message_id)
        device = None if receipt.from_ is None else self._router.accounts.device(receipt.from_)
        if sent is None or device is None or retry.count > _MAX_RETRIES:
            return
        if self._router.faults.take(self.device, FaultKind.DEAF) is not None:
            return
        # A companion that could not decrypt gets a new session, from its own keys if it sent some.
        bundle = retry.bundle
        if bundle is None:
            bundle = device.take_bundle()
            self._router.prekeys_taken(device)
        if self._begin(device, bundle) is None:
            return
        message, recipient = sent.message, None
        if device.account is self.account:
            recipient = sent.recipient.address(sent.server)
            message = contents.device_sent(recipient, message)
        address = device.address(sent.server)
        enc = self._encrypt(device, message, retry.count)
        if enc is None:
            return
        again = outgoing(
            message_id,
            address,
            [(address, enc)],
            recipient=recipient,
            device_identity=self.device.signed_identity,
        )
        self._router.submit(self.device, again, is_fanout=False)

    def _peer_message(self, incoming: IncomingMessage, content: contents.Content) -> None:
        """Take a message between devices of the own account; most mean nothing here."""

    def _meet(self, person: Account, *, gives: bool = False) -> None:
        """Take note of somebody in a chat; only phones remember whom they met.

        Args:
            gives: it was written to, so that it may be owed our token.
        """

    # --- small things ---

    def _session_address(self, jid: Jid) -> Jid:
        account = self._account(jid)
        return jid if account is None else account.lid.with_device(jid.device)

    def _account(self, jid: Jid) -> Account | None:
        return self._router.accounts.of(jid)

    def _fault(self, incoming: IncomingMessage, kind: Kind, text: str) -> None:
        sender = self._router.accounts.device(incoming.sender) or incoming.sender
        self._router.violations.record(sender, kind, f"message {incoming.id}: {text}")

    def _top_up(self) -> None:
        if len(self.device.prekeys) >= _MIN_PREKEYS:
            return
        for _ in range(_PREKEY_BATCH):
            prekey = self._fresh_prekey()
            self.device.prekeys[prekey.key_id] = prekey.key_pair.public_key
            self.device.known_prekeys[prekey.key_id] = prekey.key_pair.public_key

    def _fresh_prekey(self) -> PreKey:
        prekey = PreKey(self._next_prekey_id, KeyPair.generate())
        self._next_prekey_id = prekey_id_after(prekey.key_id)
        self._prekeys[prekey.key_id] = prekey.key_pair
        return prekey


def _prekey_of(enc: Enc) -> int | None:
    """The one-time prekey a ciphertext was made for."""
    return signal.parse_prekey_message(enc.body).prekey_id if enc.kind == "pkmsg" else None


def _decrypted(
    keys: DeviceKeys, prekeys: Mapping[int, KeyPair], record: SessionRecord | None, enc: Enc
) -> signal.Decrypted:
    """Decrypt with these keys and this session.

    Raises:
        DecryptError: If they do not fit.
    """
    if enc.kind == "pkmsg":
        message = signal.parse_prekey_message(enc.body)
        signed_prekey, prekey_id = keys.signed_prekey, message.prekey_id
        return signal.decrypt_prekey_message(
            record,
            keys.identity,
            signed_prekey.key_pair if message.signed_prekey_id == signed_prekey.key_id else None,
            None if prekey_id is None else prekeys.get(prekey_id),
            message,
        )
    if record is None:
        raise NoSessionError("no session with this device")
    return signal.decrypt(record, keys.identity, enc.body)


def _plain_message(plaintext: bytes) -> bytes:
    """The message itself, without the wrapping of a copy for own devices."""
    message = pb.Message.FromString(plaintext)
    if message.HasField("deviceSentMessage"):
        message = message.deviceSentMessage.message
    return message.SerializeToString()


def outgoing(
    id: str,
    to: Jid,
    participants: list[tuple[Jid, Enc]],
    *,
    category: str | None = None,
    peer_recipient_pn: Jid | None = None,
    recipient: Jid | None = None,
    device_identity: bytes | None = None,
) -> OutgoingMessage:
    """A message as the server reads it from a client."""
    return OutgoingMessage(
        id=id,
        to=to,
        type="text",
        category=category,
        participants=tuple(participants),
        group_body=None,
        peer_recipient_pn=peer_recipient_pn,
        recipient=recipient,
        phash=None,
        device_identity=device_identity,
    )


def _corrupted(enc: Enc) -> bytes:
    """The ciphertext with a flipped bit in its MAC."""
    if enc.kind == "msg":
        return enc.body[:-1] + bytes((enc.body[-1] ^ 1,))
    version, outer = enc.body[:1], pb.PreKeySignalMessage.FromString(enc.body[1:])
    outer.message = outer.message[:-1] + bytes((outer.message[-1] ^ 1,))
    return version + outer.SerializeToString()


def new_id() -> str:
    """A message id as an Android phone makes it: 32 hex digits."""
    return secrets.token_hex(16).upper()

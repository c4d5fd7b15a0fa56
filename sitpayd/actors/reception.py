"""Reception: what comes in for one device, between its machine and the database.

Receipts move rows, retry receipts bring resends, messages are decrypted and stored; each is
committed before it is answered. This file decides nothing and knows no socket. Keys and the outbox
are memory.py.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime
from typing import Final, Literal

import trio

from sitpayd.actors import receiving
from sitpayd.actors.arming import address_of, arm_resend, participants_of
from sitpayd.actors.commands import MarkReceipt, Resend
from sitpayd.actors.events import Answer
from sitpayd.actors.memory import DeviceMemory, utc_of
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.receiving import Opening, Repeated, Unreadable
from sitpayd.actors.shelf import serialised
from sitpayd.log import get_logger
from sitpayd.metrics import Metrics
from sitpayd.storage import inbox, outbox, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import Address, Incoming, RowState, utc_now
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair, PreKey, prekey_id_after
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.content import Content
from sitpayd.whatsapp.stanzas.message import Enc, IncomingMessage, parse_incoming
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.receipt import Receipt

# How many messages are remembered as asked for again.
MAX_RETRIES: Final = 128
# Beyond this many requests a message that cannot be read is let go. Source: whatsmeow retry.go.
MAX_RETRY_COUNT: Final = 4
# A device may ask this often for one message.
MAX_RESENDS: Final = 5
# Resends of this device within a minute, to whomever: storms of requests have been reported.
MAX_RESENDS_A_MINUTE: Final = 60
# The server's reason code for a stanza whose handling failed. Source: whatsmeow retry.go.
UNHANDLED: Final = 500
UNPARSABLE: Final = 487

_DELIVERED_TYPES: Final = frozenset({None, "inactive", "delivery"})
_READ_TYPES: Final = frozenset({"read", "played"})

_log = get_logger()


class Reception:
    """One device's incoming stanzas.

    Args:
        memory: the keys and sessions of the same device.
        metrics: None: nobody looks.
    """

    def __init__(
        self,
        database: Database,
        outcomes: Outcomes,
        memory: DeviceMemory,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics or Metrics()
        self._outcomes = outcomes
        self._memory = memory
        self._shelf = memory.shelf
        self._device_id = memory.device_id
        self._asked_again: OrderedDict[str, int] = OrderedDict()
        self._resent: deque[float] = deque()

    # --- receipts ---

    async def mark_receipt(self, command: MarkReceipt) -> Answer:
        """Move the rows a receipt names on."""
        got = command.receipt
        state = _state_of(got.type)
        sender = got.participant or got.from_
        if state is not None and sender is not None:
            # A live receipt is as new as now; its own time is cut to the second.
            at = (utc_of(got.t) if got.offline else None) or utc_now()
            moved = await self._database.write(
                _mark_receipt,
                self._device_id,
                got.ids,
                state,
                at,
                sender=sender,
                number=self._number_at_hand(sender),
            )
            for message_id in moved:
                self._outcomes.announce(message_id, RowState(state))
            if len(moved) < len(got.ids):
                await self._count_strays(got, sender)
        return Answer((command.ack,))

    async def _count_strays(self, got: Receipt, sender: Jid) -> None:
        """Count what is no repetition either: somebody tells of messages that are not theirs."""
        number = await self._number_of(sender)
        peers = () if number is None else (number,)
        self._metrics.stray_receipts(
            await self._database.read(outbox.stray_receipts, self._device_id, got.ids, peers)
        )

    async def resend(self, command: Resend) -> Answer:
        """Encrypt a message anew for a device that could not read it, if it is entitled to that."""
        assert self._memory.credentials is not None
        asked = command.receipt
        device, wa_message_id = asked.from_, asked.ids[0]
        refused = Answer((command.ack,))
        row = await self._database.read(outbox.row_by_wa_message_id, self._device_id, wa_message_id)
        if device is None or row is None or not row.text:
            return refused
        if device not in participants_of(row):
            return refused  # it was never sent to this device
        address = address_of(device)
        record = (await self._shelf.take([address])).get(address)
        armed = arm_resend(row, asked, self._memory.credentials, record)
        now = trio.current_time()
        while self._resent and self._resent[0] <= now - 60.0:
            self._resent.popleft()
        if armed is None or len(self._resent) >= MAX_RESENDS_A_MINUTE:
            return refused
        self._resent.append(now)
        entitled = await self._database.write(
            outbox.count_resend,
            self._device_id,
            row.id,
            str(device),
            MAX_RESENDS,
            serialised(armed.sessions),
        )
        if not entitled:
            return refused
        self._shelf.keep(armed.sessions)
        return Answer((armed.stanza, command.ack))

    # --- messages ---

    async def learn(self, pn: Jid, lid: Jid) -> None:
        """Remember that a number has this LID."""
        known = await self._database.read(sessions.lid_of, self._device_id, pn.user)
        if known != lid.user:
            await self._database.write(sessions.learn_mapping, self._device_id, pn.user, lid.user)
            self._shelf.drop(pn.bare)
            self._shelf.drop(lid.bare)

    async def drop_sessions(self, user: Jid) -> None:
        """Delete the sessions with a person whose identity changed, under number and LID."""
        people = [user.bare]
        if user.is_lid:
            number = await self._database.read(sessions.pn_of, self._device_id, user.user)
            people += [Jid(number, "s.whatsapp.net")] if number else []
        else:
            lid = await self._database.read(sessions.lid_of, self._device_id, user.user)
            people += [Jid(lid, "lid")] if lid else []
        for person in people:
            await self._database.write(sessions.delete_sessions, self._device_id, str(person))
            await self._database.write(sessions.delete_identities, self._device_id, str(person))
            self._shelf.drop(person)

    async def receive(self, node: Node) -> Answer:
        """Decrypt and store a message; the answer is due once this returns."""
        assert self._memory.credentials is not None
        paired = self._memory.credentials.paired
        assert paired is not None
        try:
            message = parse_incoming(node, paired.jid, paired.lid)
        except RemoteProtocolError as error:
            _log.warning("message.unparsable", device_id=self._device_id, error=str(error))
            return _nack(node, paired, UNPARSABLE)
        if message.mapping is not None:
            # Before decrypting: the session may be about to move to the LID.
            await self.learn(message.mapping.pn, message.mapping.lid)
        sender = await self._signal_address(message.sender)
        answers: list[Node] = []
        for enc in message.encs:
            if enc.kind not in receiving.PAIRWISE:
                continue  # a group's text: its keys are not kept, so it is acknowledged only
            opened = await self._open(enc, sender)
            if isinstance(opened, Unreadable):
                return await self._ask_again(node, message, enc, opened, paired)
            if isinstance(opened, Opening):
                answers += await self._store(message, enc, sender, opened, paired)
        self._asked_again.pop(message.id, None)
        if not any(enc.kind in receiving.PAIRWISE for enc in message.encs):
            return Answer((receipt.ack(node, paired.jid),))
        confirmation = receipt.delivery(node, active=False, from_me=message.from_me)
        return Answer((confirmation, *answers))

    async def _open(self, enc: Enc, sender: Address) -> Opening | Repeated | Unreadable:
        assert self._memory.credentials is not None
        digest = receiving.digest_of(enc)
        if await self._database.read(inbox.seen_ciphertext, self._device_id, digest):
            return Repeated()
        record = (await self._shelf.take([sender])).get(sender)
        prekey = None
        try:
            prekey_id = receiving.needed_prekey(enc, record)
        except RemoteProtocolError:
            prekey_id = None  # open_pairwise says what is wrong with it
        if prekey_id is not None:
            private_key = await self._database.read(sessions.prekey, self._device_id, prekey_id)
            prekey = None if private_key is None else KeyPair.from_private(private_key)
        return receiving.open_pairwise(enc, record, self._memory.credentials.keys, prekey)

    async def _store(
        self,
        message: IncomingMessage,
        enc: Enc,
        sender: Address,
        opened: Opening,
        paired: PairedIdentity,
    ) -> list[Node]:
        """Commit session, spent prekey and inbox row in one transaction."""
        content = opened.content
        if content is not None and content.destination is not None and not message.from_me:
            content = None  # only our own account may speak for us
        stepped = {sender: opened.record}
        await self._database.write(
            inbox.receive,
            self._device_id,
            None if content is None else await self._incoming(message, content),
            sessions=serialised(stepped),
            identities=self._shelf.identities_news(stepped),
            used_prekey_id=opened.spent_prekey_id,
            ciphertext_digests=[receiving.digest_of(enc)],
        )
        self._shelf.keep(stepped)
        if content is not None and content.kind == "history_sync" and message.from_me:
            return [receipt.history_sync(message.id, paired.jid)]
        return []

    async def _incoming(self, message: IncomingMessage, content: Content) -> Incoming | None:
        chat = content.destination or message.chat
        if content.text is None or message.category == "peer" or not chat.is_user:
            return None  # not from a person to us: a group, a channel, somebody's status
        number = await self._number_of(chat)
        peer = number or str(chat.bare)
        return Incoming(
            wa_message_id=message.id,
            chat=peer,
            sender=str(message.sender.bare),
            from_me=message.from_me,
            text=content.text,
            timestamp=utc_of(message.t) or utc_now(),
            push_name=message.push_name,
        )

    async def _ask_again(
        self,
        node: Node,
        message: IncomingMessage,
        enc: Enc,
        unreadable: Unreadable,
        paired: PairedIdentity,
    ) -> Answer:
        """Ask the sender to encrypt anew; after some attempts let the message go."""
        assert self._memory.credentials is not None
        count = 1 + max(self._asked_again.get(message.id, 0), enc.count)
        _log.warning(
            "message.unreadable",
            device_id=self._device_id,
            code=unreadable.code,
            kind=enc.kind,
            count=count,
        )
        if count > MAX_RETRY_COUNT:
            return Answer((receipt.ack(node, paired.jid),))
        self._asked_again[message.id] = count
        if len(self._asked_again) > MAX_RETRIES:
            self._asked_again.popitem(last=False)
        prekey = None
        if count > 1 or unreadable.needs_keys:
            prekey = await self._spare_prekey()
        again = receipt.retry_receipt(
            node,
            count,
            self._memory.credentials.keys,
            prekey=prekey,
            device_identity=paired.signed_identity if prekey else None,
            error=unreadable.code,
        )
        return Answer((again, receipt.ack(node, paired.jid, UNHANDLED)))

    async def _spare_prekey(self) -> PreKey:
        """A prekey for one sender alone: saved, and never uploaded."""
        highest = await self._database.read(sessions.highest_prekey_id, self._device_id)
        prekey = PreKey(prekey_id_after(highest), KeyPair.generate())
        await self._database.write(_save_spare, self._device_id, prekey)
        return prekey

    # --- names ---

    async def _signal_address(self, sender: Jid) -> Address:
        """Under which address the session with a sender stands: by LID, once that is known."""
        if not sender.is_lid:
            lid = await self._database.read(sessions.lid_of, self._device_id, sender.user)
            if lid is not None:
                return address_of(Jid(lid, "lid", sender.device))
        return address_of(sender)

    async def _number_of(self, jid: Jid) -> str | None:
        """The phone number of a person, digits; None if only a LID is known."""
        number = self._number_at_hand(jid)
        if number is None:
            number = await self._database.read(sessions.pn_of, self._device_id, jid.user)
        return number

    def _number_at_hand(self, jid: Jid) -> str | None:
        """The phone number of a person, where that needs no look-up."""
        if not jid.is_lid:
            return jid.user
        paired = self._memory.credentials.paired if self._memory.credentials else None
        return paired.jid.user if paired is not None and jid.user == paired.lid.user else None


def _mark_receipt(
    unit: Unit,
    device_id: int,
    wa_message_ids: tuple[str, ...],
    state: outbox.Receipt,
    at: datetime,
    *,
    sender: Jid,
    number: str | None,
) -> list[str]:
    """Note a receipt, in the transaction that also looks up whose it is."""
    number = number or sessions.pn_of(unit, device_id, sender.user)
    # The device gets no resend any more: some ask again for a repetition that they have read.
    peers = {number} if number else ()
    return outbox.mark_receipt(unit, device_id, wa_message_ids, state, at, peers, str(sender))


def _save_spare(unit: Unit, device_id: int, prekey: PreKey) -> None:
    # Together: one that does not count as uploaded would be, and two people would be given it.
    sessions.add_prekeys(unit, device_id, [(prekey.key_id, prekey.key_pair.private_key)])
    sessions.mark_uploaded(unit, device_id, [prekey.key_id])


def _nack(node: Node, paired: PairedIdentity, code: int) -> Answer:
    try:
        return Answer((receipt.ack(node, paired.jid, code),))
    except RemoteProtocolError:
        return Answer(())  # it names nobody to answer


def _state_of(receipt_type: str | None) -> Literal["delivered", "read"] | None:
    if receipt_type in _DELIVERED_TYPES:
        return "delivered"
    return "read" if receipt_type in _READ_TYPES else None

"""Reception: what comes in for one device, between its machine and the database.

Receipts move rows, messages are decrypted and stored, mappings and identities are remembered; each
is committed before it is answered. Decisions are made in receiving.py and by the machine; this file
knows no socket. Keys and the outbox are memory.py, what is encrypted once more is resender.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal

import trio

from sitpayd.actors import receiving
from sitpayd.actors.arming import address_of, canonical
from sitpayd.actors.commands import MarkReceipt
from sitpayd.actors.events import Answer, Unread
from sitpayd.actors.memory import DeviceMemory, devices_of, utc_of
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.receiving import Opening, Repeated, RetryBudget, Unreadable
from sitpayd.actors.shelf import merged, serialised
from sitpayd.actors.telling import told_by
from sitpayd.log import get_logger
from sitpayd.metrics import Metrics
from sitpayd.storage import addressing, inbox, outbox, resends, retries, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import Address, Incoming, RowState, utc_now
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import PN_SERVER, Jid
from sitpayd.whatsapp.keys import KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.aliases import LidMapping
from sitpayd.whatsapp.stanzas.content import Content, KeptMessage
from sitpayd.whatsapp.stanzas.message import Enc, IncomingMessage, parse_incoming
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.receipt import Receipt

_DELIVERED_TYPES: Final = frozenset({None, "inactive", "delivery"})
_READ_TYPES: Final = frozenset({"read", "played"})
# Another device of our own account has the message.
_OWN_COPY: Final = "sender"

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Stored:
    """What came of a ciphertext that was opened.

    Attributes:
        answers: beside the confirmation of the stanza.
        read: messages that are stored by now, as in `Answer`.
        is_message: whether there was a message inside.
    """

    answers: tuple[Node, ...]
    read: tuple[str, ...]
    changed: tuple[Jid, ...]
    is_message: bool


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
        # Whether we said that we are online: our receipts say so, too.
        self.is_available = False
        self._budget = RetryBudget()

    # --- receipts ---

    async def mark_receipt(self, command: MarkReceipt) -> Answer:
        """Move the rows a receipt names on."""
        got = command.receipt
        state = _state_of(got.type)
        sender = got.participant or got.from_
        if sender is None:
            return Answer((command.ack,))
        if state is not None:
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
        elif got.type == _OWN_COPY and self._is_ours(sender):
            await self._database.write(_note_own_copy, self._device_id, got.ids, sender)
        return Answer((command.ack,))

    async def _count_strays(self, got: Receipt, sender: Jid) -> None:
        """Count what is no repetition either: somebody tells of messages that are not theirs."""
        number = await self._number_of(sender)
        peers = () if number is None else (number,)
        self._metrics.stray_receipts(
            await self._database.read(outbox.stray_receipts, self._device_id, got.ids, peers)
        )

    # --- who is who ---

    async def learn(self, pn: Jid, lid: Jid) -> None:
        """Remember that a number has this LID."""
        await self.learn_all((LidMapping(pn.bare, lid.bare),))

    async def learn_all(self, mappings: tuple[LidMapping, ...]) -> None:
        """Remember which numbers have which LIDs; what is kept about them moves to the LIDs."""
        news = await self._database.read(_news_of, self._device_id, mappings)
        if not news:
            return
        await self._database.write(_learn, self._device_id, news)
        for mapping in news:
            self._shelf.drop(mapping.pn)
            self._shelf.drop(mapping.lid)
        self._memory.contacts.clear()

    async def address_by_number(self, pn: Jid, wanted: bool) -> None:
        """Remember whether a person is addressed by number."""
        write = self._database.write
        await write(addressing.address_by_number, self._device_id, pn.user, wanted)

    async def drop_sessions(self, user: Jid, numbers: frozenset[int] | None = None) -> None:
        """Delete sessions with a person whose identity or devices changed, and what it was."""
        names = await self._database.read(sessions.names_of, self._device_id, str(user.bare))
        await self._database.write(sessions.forget_person, self._device_id, names[0], numbers)
        for name in names:
            self._shelf.drop(Jid.parse(name))

    # --- messages ---

    async def receive(self, node: Node) -> Answer:
        """Decrypt and store a message; the answer is due once this returns."""
        assert self._memory.credentials is not None
        paired = self._memory.credentials.paired
        assert paired is not None
        try:
            message = parse_incoming(node, paired.jid, paired.lid)
        except RemoteProtocolError as error:
            _log.warning("message.unparsable", device_id=self._device_id, error=str(error))
            return _nack(node, paired, receiving.UNPARSABLE)
        if message.mapping is not None:
            # Before decrypting: the session may be about to move to the LID.
            await self.learn(message.mapping.pn, message.mapping.lid)
        sender = await self._signal_address(message.sender)
        known_as = _known_as(sender, message.id)
        pairwise = [enc for enc in message.encs if enc.kind in receiving.PAIRWISE]
        if not pairwise:
            return self._without_text(node, message, known_as, paired)
        stored: list[_Stored] = []
        for enc in pairwise:
            opened = await self._open(enc, sender)
            if isinstance(opened, Unreadable):
                changed = tuple(user for one in stored for user in one.changed)
                return await self._ask_again(node, message, enc, opened, known_as, changed)
            if isinstance(opened, Opening):
                stored.append(await self._store(message, enc, sender, opened, known_as, paired))
        if stored and not any(one.is_message for one in stored):
            confirmed = (receipt.ack(node, paired.jid, receiving.INVALID_PROTOBUF),)
        else:
            confirmed = (receipt.delivery(node, active=self.is_available, from_me=message.from_me),)
        return Answer(
            confirmed + tuple(node for one in stored for node in one.answers),
            read=(known_as, *(name for one in stored for name in one.read)),
            changed=tuple(user for one in stored for user in one.changed),
        )

    def _without_text(
        self, node: Node, message: IncomingMessage, known_as: str, paired: PairedIdentity
    ) -> Answer:
        """Answer a stanza without a ciphertext for us."""
        ack = receipt.ack(node, paired.jid, receiving.refusal_of(message))
        if message.unavailable is None or not receiving.phone_may_know(message):
            return Answer((ack,))
        return Answer((ack,), unread=Unread(receiving.name_of(message), known_as, message.t))

    async def _open(self, enc: Enc, sender: Address) -> Opening | Repeated | Unreadable:
        # First: what was opened before is no longer readable, and nobody needs to send it again.
        digest = receiving.digest_of(enc)
        if await self._database.read(inbox.seen_ciphertext, self._device_id, digest):
            return Repeated()
        opened = await self._try(enc, sender)
        if isinstance(opened, Unreadable) and await self._adopt(sender):
            # Of a session that stood under the number still, although its LID is known.
            opened = await self._try(enc, sender)
        return opened

    async def _try(self, enc: Enc, sender: Address) -> Opening | Repeated | Unreadable:
        assert self._memory.credentials is not None
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

    async def _adopt(self, sender: Address) -> bool:
        """Move what stands under the sender's number to the LID; whether there was anything."""
        lid = Jid.parse(sender[0])
        number = await self._number_of(lid) if lid.is_lid else None
        if number is None:
            return False
        pn = Jid(number, PN_SERVER)
        read, write = self._database.read, self._database.write
        if not await read(sessions.load_sessions, self._device_id, str(pn)):
            return False
        await write(sessions.adopt, self._device_id, number, lid.user, merged)
        self._shelf.drop(pn)
        self._shelf.drop(lid)
        return True

    async def _store(
        self,
        message: IncomingMessage,
        enc: Enc,
        sender: Address,
        opened: Opening,
        known_as: str,
        paired: PairedIdentity,
    ) -> _Stored:
        """Commit session, spent prekey and inbox row in one transaction."""
        content = opened.content
        if content is not None:
            content = receiving.admitted(content, message)
        incoming = [] if content is None else await self._incoming(message, content)
        kept = () if content is None else content.kept
        read = tuple([await self._kept_as(one) for one in kept])
        stepped = {sender: opened.record}
        news = await self._shelf.identities_news(stepped)
        told = None if content is None else told_by(message, content)
        await self._database.write(
            _store,
            self._device_id,
            incoming,
            partial(
                inbox.receive,
                sessions=serialised(stepped),
                identities=news.keys,
                used_prekey_id=opened.spent_prekey_id,
                ciphertext_digests=[receiving.digest_of(enc)],
                told=None if told is None else (message.id, told),
            ),
            read=(known_as, *read),
        )
        if told is not None and told.notice is not None:
            self._memory.notices += 1
        self._shelf.keep(stepped)
        answers: tuple[Node, ...] = ()
        if content is not None and content.kind == "history_sync":
            answers = (receipt.history_sync(message.id, paired.jid),)
        return _Stored(answers, read, devices_of(news), opened.content is not None)

    async def _incoming(self, message: IncomingMessage, content: Content) -> list[Incoming]:
        """What a reader gets to see of a message: it, or those that our phone has kept."""
        kept = [await self._incoming_of(one) for one in content.kept]
        found = [incoming for incoming in kept if incoming is not None]
        chat = content.destination or message.chat
        if content.text is None or message.category == "peer" or not chat.is_user:
            return found  # not from a person to us: a group, a channel, somebody's status
        incoming = Incoming(
            wa_message_id=message.id,
            chat=await self._peer_of(chat),
            sender=str(message.sender.bare),
            from_me=message.from_me,
            text=content.text,
            timestamp=utc_of(message.t) or utc_now(),
            push_name=message.push_name,
        )
        return [*found, incoming]

    async def _incoming_of(self, kept: KeptMessage) -> Incoming | None:
        """A message that our phone has kept, as if it had come in."""
        assert self._memory.credentials is not None
        name, text = kept.name, kept.content.text
        paired = self._memory.credentials.paired
        if text is None or not name.chat.is_user or paired is None:
            return None
        return Incoming(
            wa_message_id=name.id,
            chat=await self._peer_of(name.chat),
            sender=str(paired.lid.bare if name.from_me else name.chat.bare),
            from_me=name.from_me,
            text=text,
            timestamp=utc_of(kept.t) or utc_now(),
            push_name=kept.push_name,
        )

    async def _kept_as(self, kept: KeptMessage) -> str:
        """By which a message is known that our phone has kept."""
        assert self._memory.credentials is not None
        name, paired = kept.name, self._memory.credentials.paired
        assert paired is not None
        author = paired.lid.bare if name.from_me else name.participant or name.chat
        return _known_as(await self._signal_address(author), name.id)

    async def _ask_again(
        self,
        node: Node,
        message: IncomingMessage,
        enc: Enc,
        unreadable: Unreadable,
        known_as: str,
        changed: tuple[Jid, ...],
    ) -> Answer:
        """Ask the sender to encrypt anew; after some attempts let the message go."""
        assert self._memory.credentials is not None
        paired = self._memory.credentials.paired
        assert paired is not None
        before = await self._database.read(retries.requests_of, self._device_id, known_as)
        plan = receiving.retry_plan(before, enc, unreadable)
        _log.warning(
            "message.unreadable",
            device_id=self._device_id,
            code=unreadable.code,
            kind=enc.kind,
            count=None if plan is None else plan.count,
        )
        if plan is None:
            return Answer((receipt.ack(node, paired.jid),), changed=changed)
        if not self._budget.take(trio.current_time()):
            # Not even acknowledged: the server then sends it again, with the next connection, when
            # the storm is over. An ack would let go of it for ever.
            _log.warning("message.left_for_later", device_id=self._device_id)
            return Answer((), changed=changed)
        prekey = await self._note_request(known_as, plan.count, with_keys=plan.with_keys)
        again = receipt.retry_receipt(
            node,
            plan.count,
            self._memory.credentials.keys,
            prekey=prekey,
            device_identity=paired.signed_identity if prekey else None,
            error=unreadable.code,
        )
        unread = None
        if receiving.phone_may_know(message):
            unread = Unread(receiving.name_of(message), known_as, message.t)
        ack = receipt.ack(node, paired.jid, receiving.UNHANDLED)
        return Answer((again, ack), unread=unread, changed=changed)

    async def _note_request(self, known_as: str, count: int, *, with_keys: bool) -> PreKey | None:
        """Remember a request, and make the prekey that goes along: for one sender alone."""
        prekey = None
        if with_keys:
            (key_id,) = await self._memory.free_prekey_ids(1)
            prekey = PreKey(key_id, KeyPair.generate())
        await self._database.write(_note_request, self._device_id, known_as, count, prekey)
        return prekey

    # --- names ---

    async def _signal_address(self, sender: Jid) -> Address:
        """Under which address the session with a sender stands: by LID, once that is known."""
        return address_of(sender, await self._shelf.lids_of([sender]))

    async def _peer_of(self, chat: Jid) -> str:
        """How a chat is named to readers: by number, digits, once that is known."""
        return await self._number_of(chat) or str(chat.bare)

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

    def _is_ours(self, jid: Jid) -> bool:
        paired = self._memory.credentials.paired if self._memory.credentials else None
        return paired is not None and jid.user in (paired.jid.user, paired.lid.user)


def _known_as(sender: Address, message_id: str) -> str:
    """By which a message of a sender is recognised while it cannot be read."""
    return f"{sender[0]}|{message_id}"


def _canonical(unit: Unit, device_id: int, device: Jid) -> Jid:
    """The one name of a device, in a transaction that looks it up."""
    if device.is_lid:
        return canonical(device)
    lid = sessions.lid_of(unit, device_id, device.user)
    return canonical(device, {} if lid is None else {device.user: lid})


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
    device = str(_canonical(unit, device_id, sender))
    return outbox.mark_receipt(unit, device_id, wa_message_ids, state, at, peers, device)


def _note_own_copy(unit: Unit, device_id: int, wa_message_ids: Iterable[str], sender: Jid) -> None:
    device = _canonical(unit, device_id, sender)
    resends.note_served(unit, device_id, wa_message_ids, str(device))


def _news_of(unit: Unit, device_id: int, mappings: Iterable[LidMapping]) -> tuple[LidMapping, ...]:
    """Those mappings that are not known yet."""
    return tuple(
        mapping
        for mapping in mappings
        if sessions.lid_of(unit, device_id, mapping.pn.user) != mapping.lid.user
    )


def _learn(unit: Unit, device_id: int, mappings: Iterable[LidMapping]) -> None:
    for mapping in mappings:
        sessions.learn_mapping(unit, device_id, mapping.pn.user, mapping.lid.user, merged)


def _store(
    unit: Unit,
    device_id: int,
    incoming: list[Incoming],
    receive: Callable[[Unit, int, Incoming | None], bool],
    *,
    read: Iterable[str],
) -> None:
    """Store what was decrypted, all of it or nothing."""
    receive(unit, device_id, incoming[0] if incoming else None)
    for another in incoming[1:]:
        inbox.receive(unit, device_id, another, sessions={}, identities={})
    for known_as in read:
        retries.forget_request(unit, device_id, known_as)


def _note_request(
    unit: Unit, device_id: int, known_as: str, count: int, prekey: PreKey | None
) -> None:
    retries.note_request(unit, device_id, known_as, count)
    if prekey is not None:
        # Together: one that does not count as uploaded would be, and two people be given it.
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

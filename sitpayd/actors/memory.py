"""DeviceMemory: what one device remembers, between its machine and the database.

Performs the machine's commands that read or commit, and keeps the Signal sessions in use at hand.
A session in the cache is replaced only after the commit that holds its successor; an error throws
the actor away and the cache with it. This file decides nothing and knows no socket.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal

import trio

from sitpayd.actors import receiving
from sitpayd.actors.arming import address_of, arm, arm_resend, participants_of
from sitpayd.actors.commands import (
    Arm,
    Hold,
    HoldFirstContacts,
    Mark,
    MarkLate,
    MarkReceipt,
    NextRow,
    Resend,
    SaveNewChatHold,
)
from sitpayd.actors.events import (
    Answer,
    Armed,
    CodeAgreed,
    NotArmed,
    PreKeysMade,
    RowLoaded,
    SessionsLoaded,
)
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.receiving import Opening, Repeated, Unreadable
from sitpayd.actors.strangers import DAY_S
from sitpayd.log import get_logger
from sitpayd.storage import contacts, devices, inbox, outbox, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.missed import arm_missed, forget_missed
from sitpayd.storage.poison import set_aside
from sitpayd.storage.records import Address, Incoming, NewChatHold, Rest, RowState, utc_now
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey, prekey_id_after
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import SessionRecord
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.content import Content
from sitpayd.whatsapp.stanzas.message import Enc, IncomingMessage, parse_incoming
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.pairing_code import CodeOffer, PrimaryHello, agree, new_offer

# Sessions kept at hand per device; the least used go back to where they are stored.
MAX_SESSIONS: Final = 32
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

# Last instant a datetime can name, UTC seconds: the wire has room for later ones.
_LAST_TIME_S: Final = 253_402_300_799

_DELIVERED_TYPES: Final = frozenset({None, "inactive", "delivery"})
_READ_TYPES: Final = frozenset({"read", "played"})

_log = get_logger()


class DeviceMemory:
    """One device's rows, keys and sessions.

    Args:
        keygen: limiter of the threads that make prekeys, shared by all devices.
    """

    def __init__(
        self,
        database: Database,
        outcomes: Outcomes,
        device_id: int,
        keygen: trio.CapacityLimiter,
    ) -> None:
        self._database = database
        self._outcomes = outcomes
        self._device_id = device_id
        self._keygen = keygen
        self._sessions: OrderedDict[Address, SessionRecord] = OrderedDict()
        self._asked_again: OrderedDict[str, int] = OrderedDict()
        self._resent: deque[float] = deque()
        self._looked_ahead: RowLoaded | None = None
        self.credentials: Credentials | None = None

    # --- keys ---

    async def load_credentials(self) -> None:
        """Load keys and identity, if there are any."""
        stored = await self._database.read(sessions.load_credentials, self._device_id)
        self.credentials = None if stored is None else Credentials.from_bytes(stored)

    async def make_keys(self) -> DeviceKeys:
        """Make fresh keys; whatever belonged to the old ones is deleted with the save."""
        credentials = Credentials(DeviceKeys.generate())
        await self._database.write(devices.start_anew, self._device_id, credentials.to_bytes())
        self._sessions.clear()
        self.credentials = credentials
        return credentials.keys

    async def make_code(self) -> CodeOffer:
        """Make a pairing code. Nothing of it is stored: it ends with its connection."""
        return await trio.to_thread.run_sync(new_offer, limiter=self._keygen)

    async def agree_on_code(self, offer: CodeOffer, hello: PrimaryHello) -> CodeAgreed:
        """Work out the answer to a typed code, and take over the secret that goes with it."""
        assert self.credentials is not None
        keys = self.credentials.keys
        try:
            agreed = await trio.to_thread.run_sync(
                agree, offer, hello, keys.identity, limiter=self._keygen
            )
        except RemoteProtocolError:
            return CodeAgreed(None)
        # Stored with the identity: if a crash comes before, this registration is over anyway.
        self.credentials = Credentials(replace(keys, adv_secret=agreed.adv_secret))
        return CodeAgreed(agreed)

    async def save_identity(self, paired: PairedIdentity) -> None:
        """Save what pairing brought."""
        assert self.credentials is not None
        credentials = Credentials(self.credentials.keys, paired)
        await self._database.write(_save_identity, self._device_id, credentials)
        self.credentials = credentials

    def forget_sessions_at_hand(self) -> None:
        """Drop the cache: after a failed commit only what is stored is true."""
        self._sessions.clear()
        self._looked_ahead = None

    async def forget_keys(self) -> None:
        """Delete everything that belongs to the linked account."""
        await self._database.write(devices.forget_keys, self._device_id)
        self._sessions.clear()
        self.credentials = None

    async def save_rest(self, rest: Rest | None) -> None:
        """Save why the device rests, or that it does not."""
        await self._database.write(devices.set_rest, self._device_id, rest)

    async def make_prekeys(self, count: int) -> PreKeysMade:
        """Bring the prekeys that the server may lack up to a count."""
        stored = await self._database.read(sessions.prekeys_not_uploaded, self._device_id)
        highest = await self._database.read(sessions.highest_prekey_id, self._device_id)
        # Hundreds of key pairs take longer than the event loop may be kept waiting.
        prekeys = await trio.to_thread.run_sync(
            _make_prekeys, stored[:count], count, highest, limiter=self._keygen
        )
        fresh = [(p.key_id, p.key_pair.private_key) for p in prekeys[len(stored) :]]
        await self._database.write(sessions.add_prekeys, self._device_id, fresh)
        return PreKeysMade(prekeys)

    async def mark_uploaded(self, key_ids: tuple[int, ...]) -> None:
        """Note which prekeys the server has."""
        await self._database.write(sessions.mark_uploaded, self._device_id, key_ids)

    # --- the outbox ---

    async def next_row(self, command: NextRow) -> RowLoaded:
        """Load the row to send next."""
        loaded, self._looked_ahead = self._looked_ahead, None
        if loaded is None:
            loaded = await self._database.read(_next_row, self._device_id, command)
        return loaded

    async def load_sessions(self, wanted: tuple[Jid, ...]) -> SessionsLoaded:
        """Bring these devices' sessions to hand."""
        found = await self._sessions_of(address_of(jid) for jid in wanted)
        return SessionsLoaded(frozenset(jid for jid in wanted if address_of(jid) not in found))

    async def arm(self, command: Arm) -> Armed | NotArmed:
        """Encrypt and commit."""
        assert self.credentials is not None
        row = command.row
        addresses = [address_of(jid) for jid in command.devices + command.own_devices]
        armed = arm(command, self.credentials, await self._sessions_of(addresses))
        if armed is None:
            return NotArmed(row, "no_devices")
        had = participants_of(row) if row.missed_devices else ()
        participants = " ".join(map(str, had + armed.devices)).encode()
        commit = arm_missed if row.missed_devices else partial(outbox.arm, again=command.again)
        committed = await self._database.write(
            commit,
            self._device_id,
            row.id,
            armed.stanza,
            sessions=_serialised(armed.sessions),
            identities=self._identities_news(armed.sessions),
            participants=participants,
            phash=command.phash,
        )
        if not committed:
            return NotArmed(row, None)
        self._keep(armed.sessions)
        return Armed(replace(row, participants=participants, phash=command.phash), armed.stanza)

    async def forget_missed(self, row_id: int) -> None:
        """Note that the devices a sent row missed have it now, or will not get it."""
        await self._database.write(forget_missed, self._device_id, row_id)

    async def count_attempt(self, row_id: int) -> None:
        """Note that a row's bytes were written once more."""
        await self._database.write(outbox.count_attempt, self._device_id, row_id)

    async def mark(self, command: Mark, *, look_ahead: NextRow | None = None) -> None:
        """Move a row on and tell who waits for it.

        Args:
            look_ahead: what follows at once: if the row was sent, its answer is fetched in the
                same transaction.
        """
        row, write, reason = command.row, self._database.write, command.reason or ""
        match command.state:
            case RowState.SENT:
                await self._mark_sent(
                    row.wa_message_id, command.server_time, look_ahead, missed=command.missed
                )
                return
            case RowState.FAILED:
                moved = await write(outbox.mark_failed, self._device_id, row.id, reason)
            case RowState.UNKNOWN:
                moved = await write(outbox.mark_unknown, self._device_id, row.id, reason)
            case state:
                raise AssertionError(f"the machine does not mark rows {state}")
        if moved:
            # Otherwise it was taken back, expired or delivered, and that was announced.
            self._outcomes.announce(row.message_id, command.state, command.reason)

    async def mark_late(self, command: MarkLate) -> None:
        """Note an ack that came after its row was given up."""
        await self._mark_sent(command.wa_message_id, command.server_time, None)

    async def _mark_sent(
        self,
        wa_message_id: str,
        server_time: int | None,
        look_ahead: NextRow | None,
        *,
        missed: bool = False,
    ) -> None:
        message_id, self._looked_ahead = await self._database.write(
            _mark_sent,
            self._device_id,
            wa_message_id,
            _utc(server_time),
            look_ahead,
            missed=missed,
        )
        if message_id is not None:
            self._outcomes.announce(message_id, RowState.SENT)

    async def hold(self, command: Hold) -> None:
        """Note why a row waits, and tell who waits for it."""
        until = _at(command.until)
        await self._database.write(
            outbox.hold, self._device_id, command.row.id, until, command.reason
        )
        self._outcomes.announce(command.row.message_id, RowState.ACCEPTED, command.reason)

    async def hold_first_contacts(self, command: HoldFirstContacts) -> None:
        """Note on every first message why it waits, and tell who waits for it."""
        held = await self._database.write(
            outbox.hold_first_contacts, self._device_id, _at(command.until), command.reason
        )
        for message_id in held:
            self._outcomes.announce(message_id, RowState.ACCEPTED, command.reason)

    async def save_new_chat_hold(self, command: SaveNewChatHold) -> None:
        """Save that WhatsApp lets the account begin no chats, or that it does again."""
        barred = command.hold
        hold = None if barred is None else NewChatHold(barred.reason, _at(barred.until))
        await self._database.write(devices.hold_new_chats, self._device_id, hold)

    async def first_contacts(self) -> tuple[float, ...]:
        """When first messages left in the last day, clock seconds."""
        since = utc_now() - timedelta(seconds=DAY_S)
        sent = await self._database.read(contacts.first_contacts_since, self._device_id, since)
        return tuple(clock_of(at) for at in sent)

    async def set_aside(self, row_id: int) -> None:
        """Settle a row that brought the device down again and again."""
        settled = await self._database.write(set_aside, self._device_id, row_id)
        if settled is not None:
            self._outcomes.announce(settled.message_id, settled.state, settled.reason)
            _log.error(
                "outbox.poison",
                device_id=self._device_id,
                message_id=settled.message_id,
                state=settled.state.value,
            )

    async def settle_logged_out(self) -> None:
        """End every row that waits: nothing will go."""
        for settled in await self._database.write(outbox.settle_logged_out, self._device_id):
            self._outcomes.announce(settled.message_id, settled.state, settled.reason)

    async def mark_receipt(self, command: MarkReceipt) -> Answer:
        """Move the rows a receipt names on."""
        got = command.receipt
        state = _state_of(got.type)
        sender = got.participant or got.from_
        if state is not None and sender is not None:
            # A live receipt is as new as now; its own time is cut to the second.
            at = (_utc(got.t) if got.offline else None) or utc_now()
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
        return Answer((command.ack,))

    async def resend(self, command: Resend) -> Answer:
        """Encrypt a message anew for a device that could not read it, if it is entitled to that."""
        assert self.credentials is not None
        asked = command.receipt
        device, wa_message_id = asked.from_, asked.ids[0]
        refused = Answer((command.ack,))
        row = await self._database.read(outbox.row_by_wa_message_id, self._device_id, wa_message_id)
        if device is None or row is None or not row.text:
            return refused
        if device not in participants_of(row):
            return refused  # it was never sent to this device
        address = address_of(device)
        record = (await self._sessions_of([address])).get(address)
        armed = arm_resend(row, asked, self.credentials, record)
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
            _serialised(armed.sessions),
        )
        if not entitled:
            return refused
        self._keep(armed.sessions)
        return Answer((armed.stanza, command.ack))

    # --- what comes in ---

    async def learn(self, pn: Jid, lid: Jid) -> None:
        """Remember that a number has this LID."""
        known = await self._database.read(sessions.lid_of, self._device_id, pn.user)
        if known != lid.user:
            await self._database.write(sessions.learn_mapping, self._device_id, pn.user, lid.user)
            self._drop_cached(pn.bare)
            self._drop_cached(lid.bare)

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
            self._drop_cached(person)

    async def receive(self, node: Node) -> Answer:
        """Decrypt and store a message; the answer is due once this returns."""
        assert self.credentials is not None
        paired = self.credentials.paired
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
        assert self.credentials is not None
        digest = receiving.digest_of(enc)
        if await self._database.read(inbox.seen_ciphertext, self._device_id, digest):
            return Repeated()
        record = (await self._sessions_of([sender])).get(sender)
        prekey = None
        try:
            prekey_id = receiving.needed_prekey(enc, record)
        except RemoteProtocolError:
            prekey_id = None  # open_pairwise says what is wrong with it
        if prekey_id is not None:
            private_key = await self._database.read(sessions.prekey, self._device_id, prekey_id)
            prekey = None if private_key is None else KeyPair.from_private(private_key)
        return receiving.open_pairwise(enc, record, self.credentials.keys, prekey)

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
            sessions=_serialised(stepped),
            identities=self._identities_news(stepped),
            used_prekey_id=opened.spent_prekey_id,
            ciphertext_digests=[receiving.digest_of(enc)],
        )
        self._keep(stepped)
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
            timestamp=_utc(message.t) or utc_now(),
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
        assert self.credentials is not None
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
            self.credentials.keys,
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

    # --- sessions and names ---

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
        paired = self.credentials.paired if self.credentials else None
        return paired.jid.user if paired is not None and jid.user == paired.lid.user else None

    async def _sessions_of(self, addresses: Iterable[Address]) -> dict[Address, SessionRecord]:
        wanted = list(addresses)
        missing = [address for address in wanted if address not in self._sessions]
        if missing:
            stored = await self._database.read(sessions.load_sessions_of, self._device_id, missing)
            self._keep({a: SessionRecord.from_bytes(data) for a, data in stored.items()})
        found = {}
        for address in wanted:
            record = self._sessions.get(address)
            if record is not None:
                self._sessions.move_to_end(address)
                found[address] = record
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return found

    def _identities_news(self, stepped: Mapping[Address, SessionRecord]) -> dict[Address, bytes]:
        """The identity keys that differ from what the sessions at hand were made with.

        They are trusted, as official clients do by default; that one changed is worth a line.
        """
        news = {}
        for address, record in stepped.items():
            before = self._sessions.get(address)
            if before is not None and before.remote_identity == record.remote_identity:
                continue
            news[address] = record.remote_identity
            if before is not None:
                _log.warning("identity.changed", device_id=self._device_id)
        return news

    def _keep(self, records: Mapping[Address, SessionRecord]) -> None:
        """Take over what is committed."""
        self._sessions.update(records)

    def _drop_cached(self, user: Jid) -> None:
        for address in [a for a in self._sessions if a[0] == str(user)]:
            del self._sessions[address]


def _save_identity(unit: Unit, device_id: int, credentials: Credentials) -> None:
    """Store what pairing brought, all in one transaction."""
    assert credentials.paired is not None
    pn, lid = credentials.paired.jid.user, credentials.paired.lid.user
    sessions.save_credentials(unit, device_id, credentials.to_bytes())
    sessions.learn_mapping(unit, device_id, pn, lid)
    # The phone's identity under both its names: it has signed ours.
    key = credentials.paired.account_key
    phone = {(str(jid.bare), 0): key for jid in (credentials.paired.jid, credentials.paired.lid)}
    sessions.save_identities(unit, device_id, phone)
    devices.set_phone(unit, device_id, pn)


def _next_row(unit: Unit, device_id: int, command: NextRow) -> RowLoaded:
    row = outbox.next_row(unit, device_id, first_contacts=command.first_contacts)
    passed_over = row is None and not command.first_contacts
    return RowLoaded(row, passed_over and outbox.waiting_count(unit, device_id) > 0)


def _mark_sent(
    unit: Unit,
    device_id: int,
    wa_message_id: str,
    server_time: datetime | None,
    look_ahead: NextRow | None,
    *,
    missed: bool,
) -> tuple[str | None, RowLoaded | None]:
    """Note an ack; look for the next row in the same transaction, if that is wanted."""
    message_id = outbox.mark_sent(unit, device_id, wa_message_id, server_time, missed=missed)
    return message_id, None if look_ahead is None else _next_row(unit, device_id, look_ahead)


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


def _make_prekeys(stored: list[tuple[int, bytes]], count: int, highest: int) -> tuple[PreKey, ...]:
    prekeys = [PreKey(key_id, KeyPair.from_private(private)) for key_id, private in stored]
    for step in range(1, count - len(prekeys) + 1):
        prekeys.append(PreKey(prekey_id_after(highest, step), KeyPair.generate()))
    return tuple(prekeys)


def _serialised(records: Mapping[Address, SessionRecord]) -> dict[Address, bytes]:
    return {address: record.to_bytes() for address, record in records.items()}


def _nack(node: Node, paired: PairedIdentity, code: int) -> Answer:
    try:
        return Answer((receipt.ack(node, paired.jid, code),))
    except RemoteProtocolError:
        return Answer(())  # it names nobody to answer


def _state_of(receipt_type: str | None) -> Literal["delivered", "read"] | None:
    if receipt_type in _DELIVERED_TYPES:
        return "delivered"
    return "read" if receipt_type in _READ_TYPES else None


def clock_of(at: datetime) -> float:
    """When that is, or was, by the clock; seconds."""
    return trio.current_time() + (at - utc_now()).total_seconds()


def _at(clock_s: float) -> datetime:
    return utc_now() + timedelta(seconds=clock_s - trio.current_time())


def _utc(unix_s: int | None) -> datetime | None:
    if unix_s is None or unix_s > _LAST_TIME_S:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s)

"""DeviceMemory: what one device remembers, between its machine and the database.

Performs the machine's commands about keys and the outbox. The Signal sessions in use are on its
shelf (shelf.py); what comes in is reception.py. This file decides nothing and knows no socket.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import trio

from sitpayd.actors.arming import address_of, arm, participants_of
from sitpayd.actors.commands import (
    Arm,
    Hold,
    HoldFirstContacts,
    Mark,
    MarkLate,
    NextRow,
    SaveFact,
    SaveNewChatHold,
)
from sitpayd.actors.contacts import Contacts, owed_to
from sitpayd.actors.events import (
    Armed,
    CodeAgreed,
    NotArmed,
    PreKeysMade,
    RowLoaded,
    SessionsLoaded,
    TokenOwed,
)
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.shelf import IdentityNews, SessionShelf, merged, serialised
from sitpayd.actors.stock import FEW_PREKEYS
from sitpayd.actors.strangers import DAY_S
from sitpayd.log import get_logger
from sitpayd.storage import account, checks, contacts, devices, outbox, sessions
from sitpayd.storage.addressing import addressing_of
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.missed import arm_missed, forget_missed
from sitpayd.storage.phone import has_notices
from sitpayd.storage.poison import set_aside
from sitpayd.storage.records import (
    PROPS_FACT,
    ROUTING_FACT,
    NewChatHold,
    Rest,
    RowState,
    utc_now,
)
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey, free_prekey_ids
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.pairing_code import CodeOffer, PrimaryHello, agree, new_offer
from sitpayd.whatsapp.stanzas.props import Props

# Last instant a datetime can name, UTC seconds: the wire has room for later ones.
_LAST_TIME_S: Final = 253_402_300_799

_log = get_logger()


@dataclass(frozen=True, slots=True)
class KnownOfLogin:
    """What earlier connections left for the next one; see `Started`."""

    uploaded_prekeys: int
    routing_info: bytes | None
    props: Props


class DeviceMemory:
    """One device's rows, keys and sessions.

    Args:
        keygen: limiter of the threads that make prekeys, shared by all devices.

    Attributes:
        shelf: the sessions in use; contacts: what is known of people.
        notices: how many of the phone's notices came in this life, and one if any waited before.
        credentials: keys and identity; None: none were made yet.
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
        self.device_id: Final = device_id
        self._keygen = keygen
        self.shelf: Final = SessionShelf(database, device_id)
        self.contacts: Final = Contacts(database, device_id)
        self._looked_ahead: RowLoaded | None = None
        self.notices = 0
        self.credentials: Credentials | None = None

    # --- keys ---

    async def load_credentials(self) -> None:
        """Load keys and identity, if there are any, and look whether a notice waits."""
        stored, waits = await self._database.read(_load_credentials, self.device_id)
        self.notices = int(waits)
        self.credentials = None if stored is None else Credentials.from_bytes(stored)

    async def make_keys(self) -> DeviceKeys:
        """Make fresh keys; whatever belonged to the old ones is deleted with the save."""
        credentials = Credentials(DeviceKeys.generate())
        await self._database.write(devices.start_anew, self.device_id, credentials.to_bytes())
        self.shelf.clear()
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
        await self._database.write(_save_identity, self.device_id, credentials)
        self.contacts.clear()
        self.credentials = credentials

    async def save_lid(self, paired: PairedIdentity) -> None:
        """Save that our account has another LID; sessions with our own devices move to it."""
        await self.save_identity(paired)
        self.shelf.clear()

    async def save_fact(self, command: SaveFact) -> None:
        """Save what the server told about the account."""
        name, value = command.name, command.value
        if value is None:
            await self._database.write(account.drop_fact, self.device_id, name)
        else:
            await self._database.write(account.set_fact, self.device_id, name, value)

    async def known_of_login(self) -> KnownOfLogin:
        """Load what earlier connections left for the next one."""
        return await self._database.read(_known_of_login, self.device_id)

    def forget_sessions_at_hand(self) -> None:
        """Drop the cache: after a failed commit only what is stored is true."""
        self.shelf.clear()
        self.contacts.clear()
        self._looked_ahead = None

    async def forget_keys(self) -> None:
        """Delete everything that belongs to the linked account."""
        await self._database.write(devices.forget_keys, self.device_id)
        self.shelf.clear()
        self.contacts.clear()
        self.credentials = None

    async def save_rest(self, rest: Rest | None) -> None:
        """Save why the device rests, or that it does not."""
        await self._database.write(devices.set_rest, self.device_id, rest)

    async def make_prekeys(self, count: int) -> PreKeysMade:
        """Bring the prekeys that the server may lack up to a count."""
        stored = await self._database.read(sessions.prekeys_not_uploaded, self.device_id)
        ids = await self.free_prekey_ids(max(0, count - len(stored)))
        # Hundreds of key pairs take longer than the event loop may be kept waiting.
        prekeys = await trio.to_thread.run_sync(
            _make_prekeys, stored[:count], ids, limiter=self._keygen
        )
        fresh = [(p.key_id, p.key_pair.private_key) for p in prekeys[len(stored) :]]
        await self._database.write(sessions.add_prekeys, self.device_id, fresh)
        return PreKeysMade(prekeys)

    async def free_prekey_ids(self, count: int) -> tuple[int, ...]:
        """Ids for new prekeys, none of which is that of a prekey still kept."""
        return await self._database.read(_free_prekey_ids, self.device_id, count)

    async def mark_uploaded(self, key_ids: tuple[int, ...]) -> None:
        """Note which prekeys the server has."""
        await self._database.write(sessions.mark_uploaded, self.device_id, key_ids)

    # --- the outbox ---

    async def next_row(self, command: NextRow) -> RowLoaded:
        """Load the row to send next."""
        loaded, self._looked_ahead = self._looked_ahead, None
        if loaded is None:
            loaded = await self._database.read(_next_row, self.device_id, command)
        return loaded

    async def load_sessions(self, wanted: tuple[Jid, ...]) -> SessionsLoaded:
        """Bring these devices' sessions to hand."""
        lids = await self.shelf.lids_of(wanted)
        found = await self.shelf.take(address_of(jid, lids) for jid in wanted)
        missing = (jid for jid in wanted if address_of(jid, lids) not in found)
        return SessionsLoaded(frozenset(missing))

    async def arm(self, command: Arm) -> Armed | NotArmed:
        """Encrypt and commit."""
        assert self.credentials is not None
        row, devices = command.row, command.devices + command.own_devices
        lids = await self.shelf.lids_of(devices)
        records = await self.shelf.take(address_of(jid, lids) for jid in devices)
        # A note to oneself needs no proof.
        proof = await self.contacts.proof_for(command.to) if command.devices else None
        armed = arm(command, self.credentials, records, lids, proof)
        if armed is None:
            return NotArmed(row, "no_devices")
        news = await self.shelf.identities_news(armed.sessions)
        had = participants_of(row) if row.missed_devices else ()
        participants = " ".join(map(str, had + armed.devices)).encode()
        commit = arm_missed if row.missed_devices else partial(outbox.arm, again=command.again)
        committed = await self._database.write(
            commit,
            self.device_id,
            row.id,
            armed.stanza,
            sessions=serialised(armed.sessions),
            identities=news.keys,
            participants=participants,
            phash=command.phash,
        )
        if not committed:
            return NotArmed(row, None)
        self.shelf.keep(armed.sessions)
        row = replace(row, participants=participants, phash=command.phash)
        return Armed(row, armed.stanza, changed=devices_of(news))

    async def forget_missed(self, row_id: int) -> None:
        """Note that the devices a sent row missed have it now, or will not get it."""
        await self._database.write(forget_missed, self.device_id, row_id)

    async def count_attempt(self, row_id: int) -> None:
        """Note that a row's bytes were written once more."""
        await self._database.write(outbox.count_attempt, self.device_id, row_id)

    async def mark(self, command: Mark, *, look_ahead: NextRow | None = None) -> TokenOwed | None:
        """Move a row on and tell who waits for it.

        Args:
            look_ahead: what follows at once: if the row was sent, its answer is fetched in the
                same transaction.

        Returns:
            If the row was sent: whether its recipient is owed our privacy token.
        """
        row, write, reason = command.row, self._database.write, command.reason or ""
        match command.state:
            case RowState.SENT:
                return await self._mark_sent(
                    row.wa_message_id,
                    command.server_time,
                    look_ahead,
                    missed=command.missed,
                    number=self._may_be_owed(row.recipient),
                )
            case RowState.FAILED:
                moved = await write(outbox.mark_failed, self.device_id, row.id, reason)
            case RowState.UNKNOWN:
                moved = await write(outbox.mark_unknown, self.device_id, row.id, reason)
            case state:
                raise AssertionError(f"the machine does not mark rows {state}")
        if moved:
            # Otherwise it was taken back, expired or delivered, and that was announced.
            self._outcomes.announce(row.message_id, command.state, command.reason)
        return None

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
        number: str | None = None,
    ) -> TokenOwed | None:
        message_id, self._looked_ahead, owed = await self._database.write(
            _mark_sent,
            self.device_id,
            wa_message_id,
            utc_of(server_time),
            look_ahead,
            missed=missed,
            number=number,
        )
        if message_id is not None:
            self._outcomes.announce(message_id, RowState.SENT)
        if number is not None and owed is None:
            self.contacts.owed_nothing(number)
        return owed

    def _may_be_owed(self, number: str) -> str | None:
        """The number, unless it is our own or known to be owed nothing."""
        paired = self.credentials.paired if self.credentials else None
        is_own = paired is not None and number == paired.jid.user
        return None if is_own or self.contacts.is_owed_nothing(number) else number

    async def hold(self, command: Hold) -> None:
        """Note why a row waits, and tell who waits for it."""
        until = _at(command.until)
        await self._database.write(
            outbox.hold, self.device_id, command.row.id, until, command.reason
        )
        self._outcomes.announce(command.row.message_id, RowState.ACCEPTED, command.reason)

    async def hold_first_contacts(self, command: HoldFirstContacts) -> None:
        """Note on every first message why it waits, and tell who waits for it."""
        held = await self._database.write(
            outbox.hold_first_contacts,
            self.device_id,
            _at(command.until),
            command.reason,
            unanswered=command.unanswered,
        )
        for message_id in held:
            self._outcomes.announce(message_id, RowState.ACCEPTED, command.reason)

    async def save_new_chat_hold(self, command: SaveNewChatHold) -> None:
        """Save that WhatsApp lets the account begin no chats, or that it does again."""
        barred = command.hold
        hold = None if barred is None else NewChatHold(barred.reason, _at(barred.until))
        await self._database.write(devices.hold_new_chats, self.device_id, hold)

    async def first_contacts(self) -> tuple[float, ...]:
        """When first messages left in the last day, clock seconds."""
        since = utc_now() - timedelta(seconds=DAY_S)
        sent = await self._database.read(contacts.first_contacts_since, self.device_id, since)
        return tuple(clock_of(at) for at in sent)

    async def set_aside(self, row_id: int) -> None:
        """Settle a row that brought the device down again and again."""
        settled = await self._database.write(set_aside, self.device_id, row_id)
        if settled is not None:
            self._outcomes.announce(settled.message_id, settled.state, settled.reason)
            _log.error(
                "outbox.poison",
                device_id=self.device_id,
                message_id=settled.message_id,
                state=settled.state.value,
            )

    async def settle_logged_out(self) -> None:
        """End every row that waits: nothing will go."""
        for settled in await self._database.write(outbox.settle_logged_out, self.device_id):
            self._outcomes.announce(settled.message_id, settled.state, settled.reason)


def devices_of(news: IdentityNews) -> tuple[Jid, ...]:
    """The devices that have other identity keys than before."""
    return tuple(Jid.parse(user_key).with_device(number) for user_key, number in news.changed)


def _load_credentials(unit: Unit, device_id: int) -> tuple[bytes | None, bool]:
    return sessions.load_credentials(unit, device_id), has_notices(unit, device_id)


def _known_of_login(unit: Unit, device_id: int) -> KnownOfLogin:
    known = account.facts(unit, device_id, (ROUTING_FACT, PROPS_FACT))
    try:
        props = Props.from_bytes(known[PROPS_FACT]) if PROPS_FACT in known else Props()
    except LocalProtocolError:
        props = Props()  # of another version, perhaps: they are told anew at the next login
    uploaded = sessions.uploaded_prekeys(unit, device_id, at_most=FEW_PREKEYS)
    return KnownOfLogin(uploaded, known.get(ROUTING_FACT), props)


def _save_identity(unit: Unit, device_id: int, credentials: Credentials) -> None:
    """Store what pairing brought, all in one transaction."""
    assert credentials.paired is not None
    pn = credentials.paired.jid.user
    # Before the mapping: with another number it belongs to another account.
    devices.linked_to(unit, device_id, pn)
    sessions.save_credentials(unit, device_id, credentials.to_bytes())
    sessions.learn_mapping(unit, device_id, pn, credentials.paired.lid.user, merged)
    # The phone's identity: it has signed ours.
    phone = (str(credentials.paired.lid.bare), 0)
    sessions.save_identities(unit, device_id, {phone: credentials.paired.account_key})


def _next_row(unit: Unit, device_id: int, command: NextRow) -> RowLoaded:
    row = outbox.next_row(
        unit,
        device_id,
        first_contacts=command.first_contacts,
        unanswered=command.unanswered,
    )
    if row is None:
        passed_over = not command.first_contacts
        return RowLoaded(None, passed_over and outbox.waiting_count(unit, device_id) > 0)
    checked = checks.checked(unit, device_id, row.recipient)
    known = addressing_of(unit, device_id, row.recipient)
    return RowLoaded(
        row,
        checked=checked is not None,
        absent=checked is not None and checked.registered is False,
        lid=None if known.lid is None else lid(known.lid),
        by_number=known.by_number,
    )


def _mark_sent(
    unit: Unit,
    device_id: int,
    wa_message_id: str,
    server_time: datetime | None,
    look_ahead: NextRow | None,
    *,
    missed: bool,
    number: str | None,
) -> tuple[str | None, RowLoaded | None, TokenOwed | None]:
    """Note an ack; look for the next row in the same transaction, if that is wanted.

    Args:
        number: whose it is, if that person may be owed our privacy token.
    """
    message_id = outbox.mark_sent(unit, device_id, wa_message_id, server_time, missed=missed)
    ahead = None if look_ahead is None else _next_row(unit, device_id, look_ahead)
    owed = None if number is None else owed_to(unit, device_id, number)
    return message_id, ahead, owed


def _free_prekey_ids(unit: Unit, device_id: int, count: int) -> tuple[int, ...]:
    highest = sessions.highest_prekey_id(unit, device_id)
    return free_prekey_ids(highest, count, sessions.prekey_ids_in_use(unit, device_id))


def _make_prekeys(
    stored: list[tuple[int, bytes]], fresh_ids: tuple[int, ...]
) -> tuple[PreKey, ...]:
    known = (PreKey(key_id, KeyPair.from_private(private)) for key_id, private in stored)
    return (*known, *(PreKey(key_id, KeyPair.generate()) for key_id in fresh_ids))


def clock_of(at: datetime) -> float:
    """When that is, or was, by the clock; seconds."""
    return trio.current_time() + (at - utc_now()).total_seconds()


def _at(clock_s: float) -> datetime:
    return utc_now() + timedelta(seconds=clock_s - trio.current_time())


def utc_of(unix_s: int | None) -> datetime | None:
    """When WhatsApp says that is; None: it names none."""
    if unix_s is None or unix_s > _LAST_TIME_S:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s)

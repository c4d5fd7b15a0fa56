"""DeviceMemory on a real database, in memory; the other side holds real sessions, too."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
import trio

from sitpayd.actors.arming import participants_of
from sitpayd.actors.commands import (
    Arm,
    Hold,
    KeepToken,
    Mark,
    MarkLate,
    MarkReceipt,
    NextRow,
    Resend,
)
from sitpayd.actors.events import Answer, Armed, NotArmed
from sitpayd.actors.memory import DeviceMemory
from sitpayd.actors.messages import HistoryPart
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.phase import Phase
from sitpayd.actors.reception import (
    MAX_RESENDS,
    MAX_RETRY_COUNT,
    UNHANDLED,
    UNPARSABLE,
    Reception,
)
from sitpayd.actors.shelf import MAX_SESSIONS
from sitpayd.storage import account, devices, inbox, outbox, people, phone, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.records import (
    NCT_SALT_FACT,
    PUSH_NAME_FACT,
    Accepted,
    MessageView,
    OutboxRow,
    RowState,
    SharedKey,
    Told,
)
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.history import Chat, NctSalt, PushName
from sitpayd.whatsapp.jid import GROUP_SERVER, Jid
from sitpayd.whatsapp.keys import MAX_PREKEY_ID, DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.signal.session import Encrypted, PreKeyBundle, start
from sitpayd.whatsapp.stanzas import pairing_code, receipt
from sitpayd.whatsapp.stanzas.content import (
    AppStateKey,
    app_state_key_share,
    device_sent,
    inline_history_sync,
    lid_migration,
    pad,
    parse_message,
    text_message,
    unpad,
)
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION, Enc, LidMapping, parse_outgoing
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_LID,
    OWN_PN,
    SERVER_T,
    rest,
    some_identity,
)
from tests.storage.builders import NOON, Tenant, a_message
from tests.whatsapp.signal.parties import Party

COMPANION = FRIEND_LID.with_device(2)
OUR_PHONE = OWN_LID.bare
# The wire has room for twenty digits.
END_OF_TIME = 10**19
HELLO = text_message("Hello!")


class Home:
    """A device's memory and what stands behind it."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database = database
        self.device = tenant.device
        self.outcomes = Outcomes()
        self.restart()

    def anew(self) -> DeviceMemory:
        """The memory of the next life."""
        limiter = trio.CapacityLimiter(1)
        return DeviceMemory(self.database, self.outcomes, self.device.id, limiter)

    def restart(self) -> None:
        """Begin the next life, with nothing but what is stored."""
        self.memory = self.anew()
        self.reception = Reception(self.database, self.outcomes, self.memory)

    @property
    def keys(self) -> DeviceKeys:
        assert self.memory.credentials is not None
        return self.memory.credentials.keys

    @property
    def paired(self) -> PairedIdentity:
        assert self.memory.credentials is not None
        assert self.memory.credentials.paired is not None
        return self.memory.credentials.paired

    async def accepted(self, to: str = FRIEND_PN.user) -> OutboxRow:
        message = a_message(self.device, recipient=to)
        acceptance = await self.database.write(outbox.accept, message)
        assert isinstance(acceptance, Accepted)
        return acceptance.row

    async def armed(self, *parties: Party, devices: tuple[Jid, ...] = (FRIEND_LID,)) -> Armed:
        row = await self.accepted()
        bundles = {jid: party.bundle() for jid, party in zip(devices, parties, strict=True)}
        answer = await self.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, devices, (), "2:", bundles))
        assert isinstance(answer, Armed)
        return answer

    async def state_of(self, row: OutboxRow) -> tuple[str, str | None]:
        view = await self.database.read(outbox.message, self.device.id, row.message_id)
        assert view is not None
        return view.state, view.reason

    async def inbox(self) -> list[MessageView]:
        found = await self.database.read(inbox.messages_after, self.device.id, 0, 100)
        return [view for _, view in found]

    async def notices(self) -> int:
        """How many of the phone's notices wait: none, or at least one."""
        waiting = await self.database.read(phone.next_notice, self.device.id)
        return 0 if waiting is None else 1

    async def sessions(self, user: Jid) -> set[int]:
        return set(await self.database.read(sessions.load_sessions, self.device.id, str(user)))

    async def bundle(self) -> PreKeyBundle:
        """What the server hands out of our keys, with a one-time prekey of ours."""
        made = await self.memory.make_prekeys(1)
        prekey, signed = made.prekeys[0], self.keys.signed_prekey
        return PreKeyBundle(
            self.keys.registration_id,
            self.keys.identity.public_key,
            signed.key_id,
            signed.key_pair.public_key,
            signed.signature,
            prekey.key_id,
            prekey.key_pair.public_key,
        )

    async def a_friend(self) -> Party:
        """Somebody who has fetched our keys."""
        friend = Party(1)
        friend.begin(await self.bundle())
        return friend


@pytest.fixture
async def home(database: Database, tenant: Tenant) -> Home:
    home = Home(database, tenant)
    keys = await home.memory.make_keys()
    await home.memory.save_identity(some_identity(keys))
    return home


def enc(encrypted: Encrypted) -> Node:
    attrs = {"v": str(PADDED_VERSION), "type": encrypted.kind}
    return Node("enc", attrs, encrypted.body)


def message(*encs: Node, from_: Jid = FRIEND_LID, id: str = "M1", **attrs: str | Jid) -> Node:
    return Node("message", {"id": id, "from": from_, "t": str(SERVER_T), **attrs}, encs)


def delivered(node: Node, *, from_me: bool = False) -> Answer:
    return Answer((receipt.delivery(node, active=False, from_me=from_me),))


def retries(answer: Answer) -> Node:
    again, plain = answer.nodes
    assert (again.tag, again.text("type")) == ("receipt", "retry")
    assert plain.tag == "ack"
    return again


# --- keys ---


async def test_keys_and_identity_survive_a_restart(home: Home) -> None:
    next_life = home.anew()
    await next_life.load_credentials()
    assert next_life.credentials == Credentials(home.keys, home.paired)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.phone == OWN_PN.user


async def test_device_without_keys_remembers_none(database: Database, tenant: Tenant) -> None:
    memory = Home(database, tenant).memory
    await memory.load_credentials()
    assert memory.credentials is None


async def test_fresh_keys_come_without_anything_old(home: Home) -> None:
    await home.armed(Party(1))
    old = home.keys
    fresh = await home.memory.make_keys()
    assert fresh != old
    assert await home.sessions(FRIEND_LID) == set()
    missing = (await home.memory.load_sessions((FRIEND_LID,))).missing
    assert missing == {FRIEND_LID}


async def test_typed_code_replaces_the_secret_which_is_stored_with_the_identity(
    home: Home,
) -> None:
    keys = await home.memory.make_keys()
    offer, phone, ephemeral = await home.memory.make_code(), KeyPair.generate(), KeyPair.generate()
    companion, hello = pairing_code.answer_hello(
        offer.code, offer.wrapped, b"ref", ephemeral, phone.public_key
    )
    agreed = (await home.memory.agree_on_code(offer, hello)).agreed
    assert agreed is not None
    secret = pairing_code.open_finish(agreed.finish, companion, ephemeral, phone)
    assert secret != keys.adv_secret
    await home.memory.save_identity(some_identity())
    next_life = home.anew()
    await next_life.load_credentials()
    assert next_life.credentials is not None
    assert next_life.credentials.keys == replace(keys, adv_secret=secret)


async def test_unusable_keys_of_a_phone_replace_nothing(home: Home) -> None:
    keys = await home.memory.make_keys()
    offer = await home.memory.make_code()
    hello = pairing_code.PrimaryHello(b"ref", offer.wrapped, bytes(32))
    assert (await home.memory.agree_on_code(offer, hello)).agreed is None
    assert home.memory.credentials == Credentials(keys)


async def test_forgotten_keys_are_gone(home: Home) -> None:
    await home.memory.forget_keys()
    next_life = home.anew()
    await next_life.load_credentials()
    assert (home.memory.credentials, next_life.credentials) == (None, None)


async def test_rest_survives_a_restart_until_it_is_cleared(home: Home) -> None:
    banned = replace(rest(Phase.BANNED), until=NOON + timedelta(hours=1))
    await home.memory.save_rest(banned)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.rest == banned
    await home.memory.save_rest(None)
    record = await home.database.read(devices.device_by_id, home.device.id)
    assert record is not None
    assert record.rest is None


async def test_prekeys_are_saved_before_they_are_uploaded(home: Home) -> None:
    made = (await home.memory.make_prekeys(3)).prekeys
    assert [prekey.key_id for prekey in made] == [1, 2, 3]
    stored = await home.database.read(sessions.prekey, home.device.id, 2)
    assert stored == made[1].key_pair.private_key


async def test_prekeys_not_yet_uploaded_are_offered_again(home: Home) -> None:
    first = (await home.memory.make_prekeys(3)).prekeys
    assert (await home.memory.make_prekeys(5)).prekeys[:3] == first
    assert (await home.memory.make_prekeys(2)).prekeys == first[:2]


async def test_uploaded_prekeys_are_not_offered_again(home: Home) -> None:
    await home.memory.make_prekeys(3)
    await home.memory.mark_uploaded((1, 2, 3))
    assert [p.key_id for p in (await home.memory.make_prekeys(2)).prekeys] == [4, 5]


async def test_new_prekeys_pass_over_those_still_kept_when_the_ids_come_round(home: Home) -> None:
    last = [(MAX_PREKEY_ID - 1, b"l" * 32)]
    await home.database.write(sessions.add_prekeys, home.device.id, [(1, b"o" * 32), *last])
    await home.memory.mark_uploaded((1, MAX_PREKEY_ID - 1))
    made = (await home.memory.make_prekeys(3)).prekeys
    assert [prekey.key_id for prekey in made] == [MAX_PREKEY_ID, 2, 3]


# --- arming ---


async def test_armed_row_is_committed_with_its_sessions(home: Home) -> None:
    friend = Party(1)
    armed = await home.armed(friend)
    assert await home.state_of(armed.row) == ("armed", None)
    loaded = (await home.memory.next_row(NextRow())).row
    assert loaded is not None
    assert loaded.stanza == armed.stanza
    assert await home.sessions(FRIEND_LID) == {0}


async def test_second_message_continues_the_session_after_a_restart(home: Home) -> None:
    friend = Party(1)
    await home.armed(friend)
    home.restart()
    await home.memory.load_credentials()
    assert (await home.memory.load_sessions((FRIEND_LID,))).missing == frozenset()
    row = await home.accepted()
    armed = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert isinstance(armed, Armed)
    ((_, got),) = parse_outgoing(decode(armed.stanza)).participants
    # The friend never saw the first message; the session is the one begun with it.
    assert read(friend, got) == "Hello!"


def read(party: Party, got: Enc) -> str | None:
    """What the other side makes of it."""
    kind: Literal["pkmsg", "msg"] = "pkmsg" if got.kind == "pkmsg" else "msg"
    # A reader does not look at the record: it is the sender's.
    encrypted = Encrypted(start(Party(1).bundle(), party.identity), kind, got.body)
    return parse_message(unpad(party.receive(encrypted))).text


async def test_row_nobody_can_read_is_not_armed(home: Home) -> None:
    row = await home.accepted()
    answer = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert answer == NotArmed(row, "no_devices")
    assert await home.state_of(row) == ("accepted", None)


async def test_row_that_was_taken_back_leaves_the_sessions_alone(home: Home) -> None:
    friend, row = Party(1), await home.accepted()
    await home.database.write(outbox.cancel, home.device.id, row.message_id)
    order = Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {FRIEND_LID: friend.bundle()})
    assert await home.memory.arm(order) == NotArmed(row, None)
    assert await home.sessions(FRIEND_LID) == set()
    assert (await home.memory.load_sessions((FRIEND_LID,))).missing == {FRIEND_LID}


async def test_cache_of_sessions_stays_small(home: Home) -> None:
    everybody = tuple(FRIEND_LID.with_device(number) for number in range(MAX_SESSIONS + 9))
    await home.armed(*(Party(1) for _ in everybody), devices=everybody)
    assert (await home.memory.load_sessions(everybody)).missing == frozenset()
    assert len(home.memory.shelf) == MAX_SESSIONS


# --- what becomes of a row ---


async def test_acknowledged_row_is_sent_and_told(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
        assert watch.state is RowState.SENT
    assert await home.state_of(row) == ("sent", None)


@pytest.mark.parametrize("state", [RowState.FAILED, RowState.UNKNOWN])
async def test_settled_row_is_told_with_its_reason(home: Home, state: RowState) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, state, "why"))
        assert (watch.state, watch.reason) == (state, "why")
    assert await home.state_of(row) == (state.value, "why")


@pytest.mark.parametrize("state", [RowState.FAILED, RowState.UNKNOWN])
async def test_row_that_went_another_way_is_not_told_as_lost(home: Home, state: RowState) -> None:
    row = await home.accepted()
    await home.database.write(outbox.cancel, home.device.id, row.message_id)
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, state, "why"))
        assert watch.state is None
    assert (await home.state_of(row))[0] == "canceled"


async def test_machine_marks_no_row_delivered(home: Home) -> None:
    with pytest.raises(AssertionError, match="delivered"):
        await home.memory.mark(Mark(await home.accepted(), RowState.DELIVERED))


async def missed_row(home: Home, phone: Party) -> OutboxRow:
    """A row that was sent to a phone, and missed its companion."""
    row = (await home.armed(phone)).row
    ahead = NextRow()
    mark = Mark(row, RowState.SENT, server_time=SERVER_T, missed=True)
    await home.memory.mark(mark, look_ahead=ahead)
    loaded = (await home.memory.next_row(ahead)).row
    assert loaded is not None
    assert (loaded.id, loaded.missed_devices, loaded.stanza) == (row.id, True, None)
    return loaded


async def test_missed_device_is_encrypted_for_with_the_same_id_and_remembered(home: Home) -> None:
    """F-31: sessions, stanza and participants in one transaction; the state stays."""
    phone, companion = Party(1), Party(2)
    row = await missed_row(home, phone)
    order = Arm(row, FRIEND_LID, FRIEND_PN, (COMPANION,), (), "2:", {COMPANION: companion.bundle()})
    armed = await home.memory.arm(order)
    assert isinstance(armed, Armed)
    message = parse_outgoing(decode(armed.stanza))
    assert (message.id, message.is_partial) == (row.wa_message_id, True)
    assert await home.sessions(FRIEND_LID) == {0, COMPANION.device}
    loaded = (await home.anew().next_row(NextRow())).row
    assert loaded is not None
    assert (loaded.stanza, loaded.state) == (armed.stanza, RowState.SENT)
    assert participants_of(loaded) == (FRIEND_LID, COMPANION)
    await home.memory.forget_missed(row.id)
    assert (await home.memory.next_row(NextRow())).row is None
    assert await home.state_of(row) == ("sent", None)


async def test_caller_is_told_before_missed_devices_are_looked_after(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T, missed=True))
        assert watch.state is RowState.SENT


async def test_missed_device_that_cannot_be_reached_leaves_the_sessions_alone(home: Home) -> None:
    row = await missed_row(home, Party(1))
    order = Arm(row, FRIEND_LID, FRIEND_PN, (COMPANION,), (), "2:", {})
    assert await home.memory.arm(order) == NotArmed(row, "no_devices")
    assert await home.sessions(FRIEND_LID) == {0}


async def test_late_ack_mends_a_row_that_was_given_up(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    await home.memory.mark(Mark(row, RowState.UNKNOWN, "attempts_over"))
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.mark_late(MarkLate(row.wa_message_id, None))
        assert watch.state is RowState.SENT
    assert (await home.state_of(row))[0] == "sent"


async def test_ack_of_a_stranger_is_nothing(home: Home) -> None:
    await home.memory.mark_late(MarkLate("3EB0", SERVER_T))


async def test_server_time_behind_all_calendars_is_no_time(home: Home) -> None:
    row = (await home.armed(Party(1))).row
    await home.memory.mark(Mark(row, RowState.SENT, server_time=END_OF_TIME))
    stored = await home.database.read(
        outbox.row_by_wa_message_id, home.device.id, row.wa_message_id
    )
    assert stored is not None
    assert (stored.state, stored.server_time) == (RowState.SENT, None)


async def test_row_that_waits_is_told_why(home: Home) -> None:
    row = await home.accepted()
    with home.outcomes.watch(row.message_id) as watch:
        await home.memory.hold(Hold(row, 7.0, "paced"))
        assert (watch.state, watch.reason) == (RowState.ACCEPTED, "paced")
    view = await home.database.read(outbox.message, row.device_id, row.message_id)
    assert view is not None
    assert view.held_reason == "paced"
    assert view.held_until is not None


async def test_logged_out_device_settles_what_waits(home: Home) -> None:
    armed, accepted = (await home.armed(Party(1))).row, await home.accepted()
    with (
        home.outcomes.watch(armed.message_id) as one,
        home.outcomes.watch(accepted.message_id) as two,
    ):
        await home.memory.settle_logged_out()
        assert (one.state, two.state) == (RowState.UNKNOWN, RowState.FAILED)


# --- receipts ---


async def sent_row(home: Home, party: Party | None = None, device: Jid = FRIEND_LID) -> OutboxRow:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = (await home.armed(party or Party(1), devices=(device,))).row
    await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
    return row


def receipt_for(row: OutboxRow, kind: str | None, from_: Jid = FRIEND_LID) -> MarkReceipt:
    attrs: dict[str, str | Jid] = {"id": row.wa_message_id, "from": from_}
    if kind is not None:
        attrs["type"] = kind
    node = Node("receipt", attrs)
    return MarkReceipt(receipt.parse_receipt(node), receipt.ack(node, OWN_PN))


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (None, "delivered"),
        ("inactive", "delivered"),
        ("delivery", "delivered"),
        ("read", "read"),
        ("played", "read"),
        ("sender", "sent"),
        ("peer_msg", "sent"),
    ],
)
async def test_receipt_moves_its_row(home: Home, kind: str | None, state: str) -> None:
    row = await sent_row(home)
    got = receipt_for(row, kind)
    assert await home.reception.mark_receipt(got) == Answer((got.ack,))
    assert (await home.state_of(row))[0] == state


@pytest.mark.parametrize("from_", [FRIEND_PN, FRIEND_LID, COMPANION], ids=str)
async def test_receipt_counts_under_number_and_lid(home: Home, from_: Jid) -> None:
    row = await sent_row(home)
    await home.reception.mark_receipt(receipt_for(row, None, from_))
    assert (await home.state_of(row))[0] == "delivered"


@pytest.mark.parametrize("from_", [Jid("1", "lid"), Jid("1", "s.whatsapp.net")], ids=str)
async def test_receipt_of_somebody_else_moves_nothing(home: Home, from_: Jid) -> None:
    row = await sent_row(home)
    got = receipt_for(row, "read", from_)
    assert await home.reception.mark_receipt(got) == Answer((got.ack,))
    assert (await home.state_of(row))[0] == "sent"


async def test_receipt_before_the_ack_wakes_who_waits(home: Home) -> None:
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = (await home.armed(Party(1))).row
    with home.outcomes.watch(row.message_id) as watch:
        await home.reception.mark_receipt(receipt_for(row, None))
        assert watch.state is RowState.DELIVERED
        await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
        assert watch.state is RowState.DELIVERED


async def test_receipt_of_the_backlog_has_its_own_time(home: Home) -> None:
    row = await sent_row(home)
    node = Node(
        "receipt",
        {"id": row.wa_message_id, "from": FRIEND_LID, "t": str(SERVER_T - 60), "offline": "1"},
    )
    got = MarkReceipt(receipt.parse_receipt(node), receipt.ack(node, OWN_PN))
    await home.reception.mark_receipt(got)
    view = await home.database.read(outbox.message, home.device.id, row.message_id)
    assert view is not None
    assert view.history[-1].at == NOON - timedelta(minutes=1)


async def test_receipt_from_behind_all_calendars_is_taken(home: Home) -> None:
    row = await sent_row(home)
    attrs = {"id": row.wa_message_id, "t": str(END_OF_TIME), "offline": "0"}
    node = Node("receipt", {**attrs, "from": FRIEND_LID})
    await home.reception.mark_receipt(MarkReceipt(receipt.parse_receipt(node), node))
    assert (await home.state_of(row))[0] == "delivered"


# --- resends ---


def asks_again(
    row: OutboxRow, friend: Party | None, *, from_: Jid = COMPANION, count: int = 1
) -> Resend:
    bundle = None if friend is None else friend.bundle()
    node = Node("receipt", {"id": row.wa_message_id, "from": from_, "type": "retry"})
    got = receipt.Receipt(
        (row.wa_message_id,),
        from_,
        None,
        "retry",
        None,
        None,
        SERVER_T,
        False,
        receipt.Retry(count, SERVER_T, 7, None, bundle, None),
    )
    return Resend(got, receipt.ack(node, OWN_PN))


async def test_device_that_could_not_read_gets_new_bytes(home: Home) -> None:
    friend = Party(1)
    row = await sent_row(home, friend, COMPANION)
    fresh = Party(2)
    asked = asks_again(row, fresh)
    answer = await home.reception.resend(asked)
    again, ack = answer.nodes
    assert ack == asked.ack
    ((_, got),) = parse_outgoing(again).participants
    assert read(fresh, got) == "Hello!"


async def test_resend_steps_the_stored_session(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    before = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    await home.reception.resend(asks_again(row, None))
    after = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert before[2] != after[2]


async def test_device_that_was_not_written_to_gets_nothing(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    asked = asks_again(row, Party(2), from_=FRIEND_LID.with_device(3))
    assert await home.reception.resend(asked) == Answer((asked.ack,))


async def test_message_that_is_unknown_is_not_sent_again(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    asked = asks_again(replace(row, wa_message_id="3EB0"), Party(2))
    assert await home.reception.resend(asked) == Answer((asked.ack,))


async def test_device_without_session_and_keys_gets_nothing(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    await home.reception.drop_sessions(FRIEND_LID)
    asked = asks_again(row, None)
    assert await home.reception.resend(asked) == Answer((asked.ack,))


async def test_resends_of_a_message_to_a_device_are_counted(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    for _ in range(MAX_RESENDS):
        assert len((await home.reception.resend(asks_again(row, None))).nodes) == 2
    asked = asks_again(row, None)
    assert await home.reception.resend(asked) == Answer((asked.ack,))


async def test_device_that_said_it_has_the_message_gets_no_other(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    await home.reception.mark_receipt(receipt_for(row, None, COMPANION))
    asked = asks_again(row, Party(2))
    assert await home.reception.resend(asked) == Answer((asked.ack,))


async def test_count_of_resends_outlives_a_restart(home: Home) -> None:
    row = await sent_row(home, Party(1), COMPANION)
    for _ in range(MAX_RESENDS):
        assert len((await home.reception.resend(asks_again(row, None))).nodes) == 2
    home.restart()
    await home.memory.load_credentials()
    assert len((await home.reception.resend(asks_again(row, None))).nodes) == 1


# --- names ---


async def test_learning_a_lid_moves_the_session_there(home: Home) -> None:
    friend = Party(1)
    row = await home.accepted()
    order = Arm(row, FRIEND_PN, None, (FRIEND_PN,), (), "2:", {FRIEND_PN: friend.bundle()})
    assert isinstance(await home.memory.arm(order), Armed)
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    missing = (await home.memory.load_sessions((FRIEND_PN, FRIEND_LID))).missing
    assert missing == {FRIEND_PN}


@pytest.mark.parametrize("user", [FRIEND_PN, FRIEND_LID], ids=["number", "lid"])
async def test_changed_identity_drops_sessions_under_both_names(home: Home, user: Jid) -> None:
    everywhere = (FRIEND_PN, FRIEND_LID, COMPANION)
    await home.armed(Party(1), Party(2), devices=(FRIEND_LID, COMPANION))
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = await home.accepted()
    order = Arm(row, FRIEND_PN, None, (FRIEND_PN,), (), "2:", {FRIEND_PN: Party(1).bundle()})
    await home.memory.arm(order)
    await home.reception.drop_sessions(user)
    assert (await home.memory.load_sessions(everywhere)).missing == set(everywhere)


@pytest.mark.parametrize("user", [FRIEND_PN, FRIEND_LID], ids=["number", "lid"])
async def test_identity_of_somebody_without_other_name_may_change(home: Home, user: Jid) -> None:
    await home.reception.drop_sessions(user)


# --- receiving ---


async def test_message_is_stored_and_then_confirmed(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))), notify="Friend", sender_pn=FRIEND_PN)
    assert await home.reception.receive(node) == delivered(node)
    (stored,) = await home.inbox()
    assert (stored.peer, stored.text, stored.direction) == (FRIEND_PN.user, "Hello!", "in")
    assert stored.timestamp == NOON


async def test_spent_prekey_is_deleted_with_the_message(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    assert await home.database.read(sessions.prekey, home.device.id, 1) is None


async def test_repeated_message_is_confirmed_and_stored_once(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))))
    await home.reception.receive(node)
    assert await home.reception.receive(node) == delivered(node)
    home.restart()
    await home.memory.load_credentials()
    assert await home.reception.receive(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_conversation_goes_both_ways(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    row = await home.accepted()
    armed = await home.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:", {}))
    assert isinstance(armed, Armed)
    ((_, got),) = parse_outgoing(decode(armed.stanza)).participants
    assert (got.kind, read(friend, got)) == ("msg", "Hello!")
    await home.reception.receive(message(enc(friend.send(pad(HELLO))), id="M2"))
    assert len(await home.inbox()) == 2


async def test_sender_without_a_known_number_is_named_by_lid(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    (stored,) = await home.inbox()
    assert stored.peer == str(FRIEND_LID)


async def test_session_of_a_known_lid_serves_the_number(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO))), sender_pn=FRIEND_PN))
    node = message(enc(friend.send(pad(HELLO))), from_=FRIEND_PN, id="M2")
    assert await home.reception.receive(node) == delivered(node)
    assert len(await home.inbox()) == 2


async def test_message_from_behind_all_calendars_is_dated_today(home: Home) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(pad(HELLO))), t=str(END_OF_TIME))
    assert await home.reception.receive(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_own_message_on_another_device_is_stored_as_sent(home: Home) -> None:
    phone = await home.a_friend()
    copy = pad(device_sent(FRIEND_PN, HELLO))
    node = message(enc(phone.send(copy)), from_=OUR_PHONE, recipient=FRIEND_LID)
    assert await home.reception.receive(node) == delivered(node, from_me=True)
    (stored,) = await home.inbox()
    assert (stored.direction, stored.peer, stored.text) == ("out", FRIEND_PN.user, "Hello!")


async def test_note_to_oneself_is_filed_under_the_own_number(home: Home) -> None:
    phone = await home.a_friend()
    copy = pad(device_sent(OWN_LID.bare, HELLO))
    await home.reception.receive(
        message(enc(phone.send(copy)), from_=OUR_PHONE, recipient=OUR_PHONE)
    )
    (stored,) = await home.inbox()
    assert stored.peer == OWN_PN.user


async def test_stranger_cannot_speak_for_us(home: Home) -> None:
    stranger = await home.a_friend()
    node = message(enc(stranger.send(pad(device_sent(Jid("1", "s.whatsapp.net"), HELLO)))))
    assert await home.reception.receive(node) == delivered(node)
    assert await home.inbox() == []


@pytest.mark.parametrize(
    "plaintext",
    [pad(b"\xff\xff"), pad(pb.Message(imageMessage={}).SerializeToString())],
    ids=["no message", "no text"],
)
async def test_what_is_no_text_is_confirmed_and_not_stored(home: Home, plaintext: bytes) -> None:
    friend = await home.a_friend()
    node = message(enc(friend.send(plaintext)))
    assert await home.reception.receive(node) == delivered(node)
    assert await home.inbox() == []


async def test_history_of_the_phone_is_confirmed_twice(home: Home) -> None:
    phone = await home.a_friend()
    history = pad(inline_history_sync(b""))
    node = message(enc(phone.send(history)), from_=OUR_PHONE, category="peer")
    confirmed, second = (await home.reception.receive(node)).nodes
    assert confirmed == receipt.delivery(node, active=False, from_me=True)
    assert second == receipt.history_sync("M1", OWN_PN)


async def test_history_of_a_stranger_is_confirmed_once(home: Home) -> None:
    stranger = await home.a_friend()
    node = message(enc(stranger.send(pad(inline_history_sync(b"")))))
    assert await home.reception.receive(node) == delivered(node)
    assert await home.notices() == 0


@pytest.mark.parametrize(
    "told", [inline_history_sync(b"x"), lid_migration([("4915112345678", "123456789")])]
)
async def test_what_the_phone_tells_is_kept_before_it_is_answered(home: Home, told: bytes) -> None:
    phone_of_ours = await home.a_friend()
    node = message(enc(phone_of_ours.send(pad(told))), from_=OUR_PHONE, category="peer")
    for _ in range(2):  # as the server sends it again
        await home.reception.receive(node)
    assert (home.memory.notices, await home.notices()) == (1, 1)
    home.restart()
    await home.memory.load_credentials()
    assert home.memory.notices == 1


async def test_another_own_device_cannot_tell_what_only_the_phone_may(home: Home) -> None:
    colleague = await home.a_friend()
    for number, told in enumerate((inline_history_sync(b"x"), lid_migration([("4915", "12345")]))):
        node = message(
            enc(colleague.send(pad(told))),
            from_=OWN_LID.with_device(3),
            id=f"M{number}",
            category="peer",
            notify="Somebody",
        )
        await home.reception.receive(node)
    assert await home.notices() == 0
    assert await home.database.read(account.fact, home.device.id, PUSH_NAME_FACT) is None


async def test_app_state_keys_of_our_account_are_kept_before_they_are_answered(home: Home) -> None:
    colleague = await home.a_friend()
    key = AppStateKey(b"key 1", b"d" * 32, 7)
    node = message(
        enc(colleague.send(pad(app_state_key_share([key])))),
        from_=OWN_LID.with_device(3),
        category="peer",
    )
    await home.reception.receive(node)
    kept = await home.database.read(phone.shared_keys, home.device.id)
    assert kept == [SharedKey(b"key 1", b"d" * 32, 7)]


async def test_app_state_keys_of_a_stranger_are_not_kept(home: Home) -> None:
    stranger = await home.a_friend()
    key = AppStateKey(b"key 1", b"d" * 32, 7)
    await home.reception.receive(message(enc(stranger.send(pad(app_state_key_share([key]))))))
    assert await home.database.read(phone.shared_keys, home.device.id) == []


async def test_name_of_who_writes_is_kept(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(
        message(enc(friend.send(pad(HELLO))), sender_pn=FRIEND_PN, notify="Bob")
    )
    for key in (str(FRIEND_LID), str(FRIEND_PN)):
        assert await home.database.read(people.name_of, home.device.id, key) == "Bob"


@pytest.mark.parametrize(("notify", "known"), [("The shop", b"The shop"), ("-", None), ("", None)])
async def test_own_name_is_learned_from_the_phone(
    home: Home, notify: str, known: bytes | None
) -> None:
    phone_of_ours = await home.a_friend()
    copy = pad(device_sent(FRIEND_PN, HELLO))
    await home.reception.receive(
        message(enc(phone_of_ours.send(copy)), from_=OUR_PHONE, recipient=FRIEND_LID, notify=notify)
    )
    assert await home.database.read(account.fact, home.device.id, PUSH_NAME_FACT) == known
    assert await home.database.read(people.name_of, home.device.id, str(OUR_PHONE)) is None


# --- what was read of the phone's notices ---


async def a_notice(home: Home) -> int:
    """The id of a notice that waits."""
    await home.database.write(phone.keep_told, home.device.id, "M1", Told(notice=b"notice"))
    waiting = await home.database.read(phone.next_notice, home.device.id)
    assert waiting is not None
    return waiting.id


async def test_part_of_a_history_is_kept(home: Home) -> None:
    notice_id, contacts = await a_notice(home), home.memory.contacts
    items = (
        PushName(FRIEND_LID, "Bob"),
        PushName(OWN_PN.bare, "The shop"),
        Chat(FRIEND_LID, b"token", SERVER_T, SERVER_T - 5),
        Chat(Jid("300000000000003", "lid"), has_messages=True),
        Chat(OWN_LID.bare, b"own", SERVER_T),
        NctSalt(b"salt"),
    )
    part = HistoryPart(notice_id, items, is_last=False)
    assert await contacts.keep_history(part, home.paired) == Answer(())
    read, device_id = home.database.read, home.device.id
    assert await read(people.name_of, device_id, str(FRIEND_LID)) == "Bob"
    assert await read(account.fact, device_id, PUSH_NAME_FACT) == b"The shop"
    assert await read(account.fact, device_id, NCT_SALT_FACT) == b"salt"
    standing = await read(people.standing, device_id, str(FRIEND_LID))
    assert standing.token is not None
    assert (standing.token.token, standing.token.t) == (b"token", SERVER_T)
    assert standing.given_t == SERVER_T - 5
    known = await read(people.standing, device_id, str(OWN_LID.bare))
    assert known.token is None
    assert await contacts.is_waiting(notice_id)
    await contacts.keep_history(HistoryPart(notice_id, (), is_last=True), home.paired)
    assert not await contacts.is_waiting(notice_id)


async def test_older_token_of_a_history_changes_nothing(home: Home) -> None:
    notice_id, contacts = await a_notice(home), home.memory.contacts
    await contacts.keep_token(KeepToken(FRIEND_LID, b"newer", SERVER_T))
    items = (Chat(FRIEND_LID, b"older", SERVER_T - 1),)
    await contacts.keep_history(HistoryPart(notice_id, items, is_last=True), home.paired)
    standing = await home.database.read(people.standing, home.device.id, str(FRIEND_LID))
    assert standing.token is not None
    assert standing.token.token == b"newer"


async def test_chat_of_before_is_no_first_contact(home: Home) -> None:
    notice_id = await a_notice(home)
    await home.reception.learn_all((LidMapping(FRIEND_PN, FRIEND_LID),))
    items = (Chat(FRIEND_LID, has_messages=True),)
    await home.memory.contacts.keep_history(HistoryPart(notice_id, items, True), home.paired)
    row = await home.accepted()
    assert not row.first_contact


@pytest.mark.parametrize("server", [GROUP_SERVER, "broadcast"])
async def test_text_that_is_not_to_us_is_not_stored(home: Home, server: str) -> None:
    friend = await home.a_friend()
    node = message(
        enc(friend.send(pad(HELLO))), from_=Jid("status", server), participant=FRIEND_LID
    )
    assert await home.reception.receive(node) == delivered(node)
    assert await home.inbox() == []


async def test_text_of_a_group_is_only_acknowledged(home: Home) -> None:
    body = Node("enc", {"v": "2", "type": "skmsg"}, b"sealed")
    node = message(body, from_=Jid("1", GROUP_SERVER), participant=FRIEND_LID)
    assert await home.reception.receive(node) == Answer((receipt.ack(node, OWN_PN),))


async def test_placeholder_is_only_acknowledged(home: Home) -> None:
    node = message(Node("unavailable"))
    assert await home.reception.receive(node) == Answer((receipt.ack(node, OWN_PN),))


async def test_two_ciphertexts_of_one_stanza_are_both_opened(home: Home) -> None:
    friend = await home.a_friend()
    sealed = Node("enc", {"v": "2", "type": "skmsg"}, b"sealed")
    first, second = friend.send(pad(b"")), friend.send(pad(HELLO))
    node = message(enc(first), enc(second), sealed)
    assert await home.reception.receive(node) == delivered(node)
    assert len(await home.inbox()) == 1


async def test_message_without_a_sender_cannot_be_answered(home: Home) -> None:
    assert await home.reception.receive(Node("message", {"id": "M"})) == Answer(())


async def test_message_that_cannot_be_parsed_is_refused(home: Home) -> None:
    node = message(Node("enc", {"v": "2"}, b""))
    assert await home.reception.receive(node) == Answer((receipt.ack(node, OWN_PN, UNPARSABLE),))


# --- what cannot be read ---


async def test_message_without_session_is_asked_for_with_keys(home: Home) -> None:
    node = message(Node("enc", {"v": "2", "type": "msg"}, b"garbage"))
    answer = await home.reception.receive(node)
    again = retries(answer)
    assert answer.nodes[1] == receipt.ack(node, OWN_PN, UNHANDLED)
    got = receipt.parse_receipt(again).retry
    assert got is not None
    assert (got.count, got.error) == (1, 1)
    assert got.bundle is not None
    assert got.device_identity == home.paired.signed_identity


async def test_keys_of_a_retry_receipt_open_what_is_sent_again(home: Home) -> None:
    node = message(Node("enc", {"v": "2", "type": "msg"}, b"garbage"))
    got = receipt.parse_receipt(retries(await home.reception.receive(node))).retry
    assert got is not None
    assert got.bundle is not None
    friend = Party(1)
    friend.begin(got.bundle)
    again = message(enc(friend.send(pad(HELLO))))
    assert await home.reception.receive(again) == delivered(again)
    assert len(await home.inbox()) == 1


async def test_spare_prekey_is_never_uploaded(home: Home) -> None:
    await home.reception.receive(message(Node("enc", {"v": "2", "type": "msg"}, b"garbage")))
    assert [p.key_id for p in (await home.memory.make_prekeys(1)).prekeys] == [2]


async def test_broken_message_is_asked_for_without_keys_first(home: Home) -> None:
    node = message(Node("enc", {"v": "2", "type": "pkmsg"}, b"garbage"))
    first = receipt.parse_receipt(retries(await home.reception.receive(node))).retry
    second = receipt.parse_receipt(retries(await home.reception.receive(node))).retry
    assert first is not None
    assert second is not None
    assert (first.count, first.bundle) == (1, None)
    assert second.count == 2
    assert second.bundle is not None


async def test_message_is_let_go_after_some_requests(home: Home) -> None:
    node = message(Node("enc", {"v": "2", "type": "pkmsg"}, b"garbage"))
    for _ in range(MAX_RETRY_COUNT):
        retries(await home.reception.receive(node))
    assert await home.reception.receive(node) == Answer((receipt.ack(node, OWN_PN),))


async def test_count_of_the_sender_counts(home: Home) -> None:
    attrs = {"v": "2", "type": "pkmsg", "count": str(MAX_RETRY_COUNT)}
    node = message(Node("enc", attrs, b"garbage"))
    assert await home.reception.receive(node) == Answer((receipt.ack(node, OWN_PN),))


async def test_count_of_requests_forgets_the_oldest(home: Home) -> None:
    garbage = Node("enc", {"v": "2", "type": "pkmsg"}, b"garbage")
    for number in range(200):
        await home.reception.receive(message(garbage, id=f"M{number}"))
    again = receipt.parse_receipt(retries(await home.reception.receive(message(garbage, id="M0"))))
    assert again.retry is not None
    assert again.retry.count == 1


async def test_session_stays_as_it_was_behind_a_broken_message(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(message(enc(friend.send(pad(HELLO)))))
    before = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    encrypted = friend.send(pad(HELLO))
    broken = replace(encrypted, body=encrypted.body[:-20])
    retries(await home.reception.receive(message(enc(broken), id="M2")))
    after = await home.database.read(sessions.load_sessions, home.device.id, str(FRIEND_LID))
    assert before == after
    node = message(enc(encrypted), id="M2")
    assert await home.reception.receive(node) == delivered(node)

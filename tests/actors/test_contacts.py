"""Contacts: whose token goes into a message, who is owed ours; on a real database, in memory."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import Arm, KeepToken, Mark, NoteGiven, Resend
from sitpayd.actors.contacts import MAX_PEOPLE
from sitpayd.actors.events import Answer, Armed, TokenOwed
from sitpayd.storage import account, contacts, outbox, people
from sitpayd.storage.database import Database
from sitpayd.storage.records import NCT_SALT_FACT, Closeness, OutboxRow, RowState
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.message import parse_outgoing
from sitpayd.whatsapp.stanzas.privacy import BUCKET_S, GivenToken, Proof, cstoken
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_LID, bundle_of, some_identity
from tests.actors.home import Home
from tests.storage.builders import NOON, Clock, Tenant

NOW = int(NOON.timestamp())
TOKEN = KeepToken(FRIEND_LID, b"token", NOW)
OWED = TokenOwed(FRIEND_PN, FRIEND_LID)


@pytest.fixture
async def home(database: Database, tenant: Tenant) -> Home:
    home = Home(database, tenant)
    await home.memory.make_keys()
    await home.memory.save_identity(some_identity(home.keys))
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    return home


@pytest.fixture(autouse=True)
def _one_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and database look at the same clock."""
    monkeypatch.setattr("sitpayd.actors.contacts.utc_now", clock)


async def stanza(home: Home, to: Jid = FRIEND_LID, *, to_self: bool = False) -> Node:
    """What is armed for a message to a friend, or to ourselves."""
    row = await home.accepted()
    devices, own = ((), (OWN_LID.with_device(9),)) if to_self else ((to,), ())
    bundles = dict.fromkeys(devices + own, bundle_of(KeyPair.generate()))
    pn = FRIEND_PN if to.is_lid and not to_self else None
    armed = await home.memory.arm(Arm(row, to, pn, devices, own, "2:", bundles))
    assert isinstance(armed, Armed)
    return decode(armed.stanza)


async def proof(home: Home) -> Proof | None:
    return parse_outgoing(await stanza(home)).proof


async def salt(home: Home) -> None:
    await home.database.write(account.set_fact, home.device.id, NCT_SALT_FACT, b"salt")
    home.memory.contacts.clear()


async def sent(home: Home, row: OutboxRow) -> TokenOwed | None:
    await home.memory.arm(
        Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:",
            {FRIEND_LID: bundle_of(KeyPair.generate())})
    )  # fmt: skip
    return await home.memory.mark(Mark(row, RowState.SENT))


# --- what goes into a message ---


async def test_message_to_a_stranger_carries_nothing(home: Home) -> None:
    assert await proof(home) is None


async def test_message_carries_the_token_of_the_person(home: Home) -> None:
    assert await proof(home) is None
    assert await home.memory.contacts.keep_token(TOKEN) == Answer(())
    assert await proof(home) == Proof("tctoken", b"token")


async def test_message_without_a_token_carries_what_the_salt_proves(home: Home) -> None:
    await salt(home)
    assert await proof(home) == Proof("cstoken", cstoken(b"salt", FRIEND_LID))
    await home.memory.contacts.keep_token(TOKEN)
    assert await proof(home) == Proof("tctoken", b"token")


async def test_token_that_is_over_gives_way_to_the_salt(home: Home, clock: Clock) -> None:
    await salt(home)
    await home.memory.contacts.keep_token(TOKEN)
    assert await proof(home) == Proof("tctoken", b"token")
    clock.forward(seconds=4 * BUCKET_S)
    assert await proof(home) == Proof("cstoken", cstoken(b"salt", FRIEND_LID))


async def test_salt_proves_nothing_to_a_number(home: Home) -> None:
    await salt(home)
    assert parse_outgoing(await stanza(home, FRIEND_PN)).proof is None


async def test_token_goes_also_where_a_friend_is_addressed_by_number(home: Home) -> None:
    await home.memory.contacts.keep_token(TOKEN)
    by_number = parse_outgoing(await stanza(home, FRIEND_PN))
    assert by_number.proof == Proof("tctoken", b"token")


async def test_note_to_oneself_carries_nothing(home: Home) -> None:
    await salt(home)
    await home.memory.contacts.keep_token(KeepToken(OWN_LID.bare, b"own", NOW))
    assert parse_outgoing(await stanza(home, OWN_LID.bare, to_self=True)).proof is None


async def test_resend_for_a_retry_receipt_carries_nothing(home: Home) -> None:
    await home.memory.contacts.keep_token(TOKEN)
    node = await stanza(home)
    asked = receipt.parse_receipt(
        Node(
            "receipt",
            {"id": node.required_text("id"), "from": FRIEND_LID, "type": "retry", "t": "1"},
            (
                Node("retry", {"count": "1", "id": node.required_text("id"), "t": "1", "v": "1"}),
                Node("registration", {}, bytes(4)),
            ),
        )
    )
    answer = await home.resender.resend(Resend(asked, Node("ack")))
    again, _ = answer.nodes
    assert parse_outgoing(again).proof is None


async def test_many_people_do_not_fill_the_memory(home: Home) -> None:
    for number in range(MAX_PEOPLE + 9):
        await home.memory.contacts.proof_for(lid(str(300000000000000 + number)))
        home.memory.contacts.owed_nothing(str(number))
    assert len(home.memory.contacts._proofs) == len(home.memory.contacts._settled) == MAX_PEOPLE


# --- who is owed ours ---


async def test_person_is_owed_our_token_once_a_week(home: Home, clock: Clock) -> None:
    assert await sent(home, await home.accepted()) == OWED
    # Until it is noted that it was given.
    assert await sent(home, await home.accepted()) == OWED
    await home.memory.contacts.note_given(NoteGiven(FRIEND_LID, NOW))
    assert await sent(home, await home.accepted()) is None
    assert await sent(home, await home.accepted()) is None
    clock.forward(seconds=BUCKET_S)
    assert await sent(home, await home.accepted()) == OWED


async def test_person_is_owed_it_also_where_a_receipt_came_first(home: Home) -> None:
    row = await home.accepted()
    await home.memory.arm(
        Arm(row, FRIEND_LID, FRIEND_PN, (FRIEND_LID,), (), "2:",
            {FRIEND_LID: bundle_of(KeyPair.generate())})
    )  # fmt: skip
    ids, peers = (row.wa_message_id,), {FRIEND_PN.user}
    await home.database.write(
        outbox.mark_receipt, home.device.id, ids, "delivered", NOON, peers, None
    )
    assert await home.memory.mark(Mark(row, RowState.SENT)) == OWED


async def test_we_owe_ourselves_nothing(home: Home) -> None:
    row = await home.accepted(home.paired.jid.user)
    assert await home.memory.mark(Mark(row, RowState.SENT)) is None


async def test_failed_row_owes_nobody_anything(home: Home) -> None:
    assert await home.memory.mark(Mark(await home.accepted(), RowState.FAILED, "x")) is None


async def test_changed_identity_is_owed_the_token_it_had(home: Home) -> None:
    known = home.memory.contacts
    assert await known.given_to(FRIEND_LID) is None
    await known.note_given(NoteGiven(FRIEND_LID, NOW - 5))
    assert await known.given_to(FRIEND_LID) == TokenOwed(None, FRIEND_LID, NOW - 5)
    assert await known.given_to(FRIEND_PN) == TokenOwed(FRIEND_PN, FRIEND_LID, NOW - 5)


async def test_tokens_in_the_answer_are_kept(home: Home) -> None:
    theirs = (GivenToken(b"theirs", NOW), GivenToken(b"older", NOW - 1))
    await home.memory.contacts.note_given(NoteGiven(FRIEND_LID, NOW, theirs))
    assert await proof(home) == Proof("tctoken", b"theirs")


async def test_token_lets_what_waits_for_a_stranger_go(home: Home) -> None:
    await home.accepted()
    await home.memory.contacts.keep_token(TOKEN)
    known = await home.database.read(contacts.closeness, home.device.id, FRIEND_PN.user)
    assert known is Closeness.CLOSE


async def test_mapping_that_is_learned_brings_the_token_along(
    database: Database, tenant: Tenant
) -> None:
    home = Home(database, tenant)
    await home.memory.make_keys()
    await home.memory.save_identity(some_identity(home.keys))
    assert await proof(home) is None
    await home.memory.contacts.keep_token(KeepToken(FRIEND_PN, b"token", NOW))
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    assert await proof(home) == Proof("tctoken", b"token")


async def test_token_survives_a_restart_and_another_link(home: Home) -> None:
    await home.memory.contacts.keep_token(TOKEN)
    await home.memory.make_keys()
    await home.memory.save_identity(some_identity(home.keys))
    home.restart()
    await home.memory.load_credentials()
    assert await proof(home) == Proof("tctoken", b"token")
    standing = await home.database.read(people.standing, home.device.id, str(FRIEND_LID))
    assert standing.token is not None

"""T-55 to T-59 on whole devices: what hostile peers reach, and what they never reach.

The pure parts are tested beside them (signal/, test_receiving.py, storage/test_isolation.py); here
stand actor, sessions and database together, as in test_device.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.receiving import MAX_RETRIES_A_MINUTE
from sitpayd.storage import inbox, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.signal.session import Encrypted, PreKeyBundle
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.content import pad, text_message
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_PN, SERVER_T
from tests.actors.test_device import Stage
from tests.fuzz import seeds, trees
from tests.storage.builders import Tenant, make_tenant, some_tenant
from tests.support.transport import Line
from tests.whatsapp.signal.parties import Party

STRANGER = lid("300000000000003")


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    return Stage(database, tenant)


@pytest.fixture
async def line(stage: Stage, autojump_clock: MockClock) -> AsyncIterator[Line]:
    """The server's end of a connected device."""
    await stage.link()
    async with stage.life():
        yield await stage.log_in()


def acquainted(keys: DeviceKeys, *, prekey_id: int | None = None) -> Party:
    """Somebody who has fetched a device's keys; with an id, a one-time prekey that is not there."""
    party = Party(1)
    party.begin(
        PreKeyBundle(
            keys.registration_id,
            keys.identity.public_key,
            keys.signed_prekey.key_id,
            keys.signed_prekey.key_pair.public_key,
            keys.signed_prekey.signature,
            prekey_id,
            None if prekey_id is None else Party(2).identity.public_key,
        )
    )
    return party


def message(encrypted: Encrypted, id: str, from_: Jid = FRIEND_LID) -> Node:
    enc = Node("enc", {"v": "2", "type": encrypted.kind}, encrypted.body)
    return Node("message", {"id": id, "from": from_, "t": str(SERVER_T)}, (enc,))


async def said(line: Line, *nodes: Node) -> list[Node]:
    """What the device answers to these."""
    before = len(line.heard)
    await line.say(*nodes)
    await wait_all_tasks_blocked()
    return line.heard[before:]


async def keys_of(stage: Stage) -> DeviceKeys:
    credentials = await stage.credentials()
    assert credentials is not None
    return credentials.keys


async def sent_id(stage: Stage, line: Line) -> tuple[str, str]:
    """A message that the server has taken: our id and WhatsApp's."""
    message_id = await stage.send()
    await wait_all_tasks_blocked()
    stanza = next(node for node in reversed(line.heard) if node.tag == "message")
    return message_id, stanza.required_text("id")


def stored_sessions(unit: Unit, device_id: int) -> list[tuple[object, ...]]:
    """Sessions as they lie there, sealed."""
    rows = unit.rows(
        "SELECT user_digest, device_number, record_sealed FROM signal_session WHERE device_id = ?"
        " ORDER BY user_digest, device_number",
        (device_id,),
    )
    return [tuple(row) for row in rows]


async def texts(stage: Stage) -> list[str | None]:
    found = await stage.database.read(inbox.messages_after, stage.device.id, 0, 100)
    return [view.text for _, view in found]


# --- T-55: messages that do not verify, and repetitions ---


async def test_message_that_does_not_verify_leaves_what_is_stored_bit_for_bit(
    stage: Stage, line: Line
) -> None:
    """T-55: and the session goes on as if nothing had come."""
    friend = acquainted(await keys_of(stage))
    await said(line, message(friend.send(pad(text_message("one"))), "M1"))
    before = await stage.database.read(stored_sessions, stage.device.id)
    assert before
    genuine = friend.send(pad(text_message("two")))
    rng = Random(1)
    for number in range(MAX_RETRIES_A_MINUTE):
        body = bytearray(genuine.body)
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        forged = Encrypted(genuine.record, genuine.kind, bytes(body))
        answers = await said(line, message(forged, f"F{number}"))
        assert answers[-1].tag == "ack"
        assert await stage.database.read(stored_sessions, stage.device.id) == before
    await said(line, message(genuine, "M2"))
    assert await texts(stage) == ["one", "two"]


async def test_repeated_message_changes_nothing_and_is_answered(stage: Stage, line: Line) -> None:
    """T-55: also under another id, which no ratchet knows."""
    friend = acquainted(await keys_of(stage))
    once = friend.send(pad(text_message("one")))
    await said(line, message(once, "M1"))
    before = await stage.database.read(stored_sessions, stage.device.id)
    for id in ("M1", "M1", "M2"):
        answers = await said(line, message(once, id))
        assert [answer.tag for answer in answers] == ["receipt"]
        assert answers[0].text("type") != "retry"
    assert await stage.database.read(stored_sessions, stage.device.id) == before
    assert await texts(stage) == ["one"]


# --- T-56: prekeys that are gone ---


async def test_message_for_a_prekey_that_is_gone_is_asked_for_with_fresh_keys(
    stage: Stage, line: Line
) -> None:
    """T-56: the sender would otherwise use the same prekey again. Nothing of it is stored."""
    friend = acquainted(await keys_of(stage), prekey_id=4711)
    again, ack = await said(line, message(friend.send(pad(text_message("one"))), "M1"))
    assert again.text("type") == "retry"
    assert again.required("retry").number("error") == 3
    assert again.required("keys").child("key") is not None
    assert ack.tag == "ack"
    assert await stage.database.read(stored_sessions, stage.device.id) == []
    assert await texts(stage) == []


async def test_each_request_for_a_message_offers_a_prekey_of_its_own(
    stage: Stage, line: Line
) -> None:
    """T-56: none of them is offered to two senders."""
    offered = []
    for number in range(5):
        stranger = acquainted(await keys_of(stage), prekey_id=4711)
        from_ = lid(f"30000000000000{number}")
        answers = await said(line, message(stranger.send(pad(b"x")), f"M{number}", from_))
        offered.append(answers[0].required("keys").required("key").data_of("value"))
    assert len(set(offered)) == 5


# --- T-57: storms of requests ---


async def test_thousand_requests_of_a_device_bring_at_most_five_messages(
    stage: Stage, line: Line
) -> None:
    """T-57: each request is answered all the same, or the server would repeat it."""
    _, id = await sent_id(stage, line)
    heard = []
    for count in range(1, 1001):
        attrs: dict[str, Attr] = {"id": id, "from": FRIEND_LID, "type": "retry"}
        heard += await said(line, Node("receipt", attrs, (Node("retry", {"count": str(count)}),)))
    assert 0 < sum(node.tag == "message" for node in heard) <= 5
    assert sum(node.tag == "ack" for node in heard) == 1000


async def test_device_that_was_not_written_to_gets_nothing_however_often_it_asks(
    stage: Stage, line: Line
) -> None:
    """T-57: whoever knows an id is entitled to nothing, also with keys to encrypt for."""
    _, id = await sent_id(stage, line)
    thief = DeviceKeys.generate()
    for from_ in (STRANGER, FRIEND_LID.with_device(77), FRIEND_PN.with_device(77)):
        for count in range(1, 11):
            prekey = PreKey(count, KeyPair.generate())
            asked = Node("message", {"id": id, "from": OWN_PN})
            retry = receipt.retry_receipt(asked, count, thief, prekey=prekey)
            forged = receipt.forward(retry, from_=from_, t=SERVER_T)
            assert [answer.tag for answer in await said(line, forged)] == ["ack"]


# --- T-58: receipts for what was never sent ---


def strays(stage: Stage) -> float:
    (metric,) = (
        metric
        for metric in stage.world.metrics.registry.collect()
        if metric.name == "sitpayd_stray_receipts"
    )
    return metric.samples[0].value


def receipt_of(id: str, from_: Jid = FRIEND_LID, *more: str, type: str | None = None) -> Node:
    items = tuple(Node("item", {"id": other}) for other in more)
    attrs: dict[str, Attr] = {"id": id, "from": from_}
    if type is not None:
        attrs["type"] = type
    return Node("receipt", attrs, (Node("list", {}, items),) if items else None)


@pytest.mark.parametrize("type", [None, "read"])
async def test_forged_receipt_moves_nothing_is_counted_and_acknowledged(
    stage: Stage, line: Line, type: str | None
) -> None:
    """T-58: for an id never sent, and from another chat than the message's."""
    message_id, id = await sent_id(stage, line)
    for node in (
        receipt_of("3EB0NEVERSENT", type=type),
        receipt_of(id, STRANGER, type=type),
        receipt_of(id, Jid("", "s.whatsapp.net"), type=type),
        receipt_of(id, Jid("120363000000000000", "g.us"), type=type),
    ):
        before = strays(stage)
        assert [answer.tag for answer in await said(line, node)] == ["ack"]
        assert strays(stage) == before + 1
        assert await stage.state_of(message_id) == "sent"


async def test_receipt_for_a_message_is_no_stray_however_often_it_comes(
    stage: Stage, line: Line
) -> None:
    """T-58: each device of the recipient sends one, and some come twice."""
    message_id, id = await sent_id(stage, line)
    for from_ in (FRIEND_LID, FRIEND_LID.with_device(2), FRIEND_LID):
        await said(line, receipt_of(id, from_))
    assert strays(stage) == 0
    await said(line, receipt_of(id, FRIEND_LID, "3EB0X", "3EB0Y", type="read"))
    assert strays(stage) == 2
    assert await stage.state_of(message_id) == "read"


async def test_receipt_for_another_tenants_device_moves_nothing(
    stage: Stage, line: Line, database: Database
) -> None:
    """T-58, T-59: two tenants write to the same friend; ids of one mean nothing to the other."""
    theirs = Stage(database, await database.write(make_tenant, "Other"))
    await theirs.link()
    async with theirs.life():
        their_line = await theirs.log_in()
        their_message, their_id = await sent_id(theirs, their_line)
        our_message, _ = await sent_id(stage, line)
        await said(line, receipt_of(their_id, type="read"))
        assert await theirs.state_of(their_message) == "sent"
        assert await stage.state_of(our_message) == "sent"
        assert (strays(stage), strays(theirs)) == (1, 0)


# --- one device's bad peer never disturbs another device ---


async def test_device_under_fire_disturbs_no_other(
    stage: Stage, line: Line, database: Database
) -> None:
    """T-59: two devices in one process; the server and the peers of one say anything."""
    calm = Stage(database, await some_tenant(database))
    await calm.link()
    rng, valid = Random(59), seeds.stanzas()
    async with calm.life():
        calm_line = await calm.log_in()
        friend = acquainted(await keys_of(calm))
        for number in range(60):
            data, other = rng.choice(valid), rng.choice(valid)
            node = decode(trees.changed(rng, data, other) or data)
            if not line.ended.is_set() and node.tag not in ("failure", "stream:error"):
                await said(line, node)
            if number % 10 == 0:
                text = f"still here {number}"
                await said(calm_line, message(friend.send(pad(text_message(text))), f"M{number}"))
                message_id, _ = await sent_id(calm, calm_line)
                assert await calm.state_of(message_id) == "sent"
        assert len(await texts(calm)) == 6
        assert calm.status == ("connected", None)
        assert await database.read(sessions.load_credentials, calm.device.id) is not None

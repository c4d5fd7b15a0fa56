"""What the server tells by itself, and hands out as it is asked: dirty, batches, props, routing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.jid import SERVER_JID, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, prekeys, props
from sitpayd.whatsapp.stanzas.ib import Dirty, EdgeRouting, OfflineDone, OfflinePreview, parse_ib
from sitpayd.whatsapp.stanzas.notification import AppStateChanged, parse_notification
from sitpayd.whatsapp.stanzas.props import Props
from tests.simulator.conftest import QUICK, Start
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.support.companion import PATIENCE_S, Companion, Wire, kinds

ALICES_DEVICE = f"{ALICE}:1"


async def announced(wire: Wire, kind: type) -> object:
    """The next announcement of this kind."""
    while True:
        (value,) = parse_ib(await wire.expect("ib"))
        if isinstance(value, kind):
            return value


async def announcements(wire: Wire) -> Sequence[object]:
    """What was announced until now."""
    await wire.handled()
    said = [value for node in wire.unread if node.tag == "ib" for value in parse_ib(node)]
    wire.unread.clear()
    return said


# --- digest, routing ---


async def test_digest_lacks_the_keys_once(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        sim.server.faults.add(Fault(FaultKind.NO_DIGEST, ALICE))
        answer = await wire.ask(prekeys.digest_query(wire.ids.next()))
        assert prekeys.parse_digest(answer) is None
        answer = await wire.ask(prekeys.digest_query(wire.ids.next()))
        digest = prekeys.parse_digest(answer)
        assert digest is not None
        assert digest.identity == companion.keys.identity.public_key


async def routing_of(companion: Companion, routing_info: bytes | None = None) -> bytes:
    async with companion.connect(routing_info=routing_info) as wire:
        await wire.expect("success")
        value = await announced(wire, EdgeRouting)
        assert isinstance(value, EdgeRouting)
        return value.routing_info


async def test_routing_that_is_refused_is_replaced(sim: Simulator) -> None:
    async with linked(sim) as (companion, _):
        pass
    old = await routing_of(companion)
    assert await routing_of(companion, routing_info=old) == old
    sim.server.faults.add(Fault(FaultKind.REFUSE_ROUTING, ALICE))
    # Who comes without is not concerned.
    assert await routing_of(companion) == old
    with pytest.raises(ConnectionClosed):
        await routing_of(companion, routing_info=old)
    new = await routing_of(companion)
    assert new != old
    assert await routing_of(companion, routing_info=new) == new


async def test_routing_bytes_of_before_are_none_of_now(sim: Simulator) -> None:
    async with linked(sim) as (companion, _):
        pass
    await routing_of(companion, routing_info=b"stale")
    assert kinds(sim) == [Kind.LOGIN]


# --- dirty ---


async def test_dirty_is_told_at_each_login_until_it_is_cleaned(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        device = sim.phone(ALICE).account.devices[1]
        sim.server.make_dirty(device, "groups")
        told = await announced(wire, Dirty)
        assert told == Dirty("groups", device.dirty["groups"])
    async with companion.online() as wire:
        assert await announced(wire, Dirty) == told
        await wire.ask(iq.clean_dirty(wire.ids.next(), "groups", device.dirty["groups"] - 1))
        assert device.dirty
        await wire.ask(iq.clean_dirty(wire.ids.next(), "account_sync", None))
        assert device.dirty
        await wire.ask(iq.clean_dirty(wire.ids.next(), "groups", device.dirty["groups"]))
        assert device.dirty == {}
    async with companion.online() as wire:
        assert not any(isinstance(value, Dirty) for value in await announcements(wire))


async def test_what_gets_dirty_again_has_to_be_cleaned_again(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        device = sim.phone(ALICE).account.devices[1]
        sim.server.make_dirty(device, "account_sync")
        first = device.dirty["account_sync"]
        sim.server.make_dirty(device, "account_sync")
        await wire.ask(iq.clean_dirty(wire.ids.next(), "account_sync", first))
        assert device.dirty["account_sync"] > first


async def test_cleaning_of_nothing_is_no_request(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        answer = await wire.ask(iq.set_("urn:xmpp:whatsapp:dirty", id=wire.ids.next()))
        assert answer.text("type") == "error"
    assert kinds(sim) == [Kind.STANZA]


# --- the backlog in batches ---


async def test_backlog_comes_in_the_batches_that_are_asked_for(start: Start) -> None:
    async with start(replace(QUICK, batches=True)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            await companion.hear_peers(wire)
        for number in range(5):
            bob.send(sim.phone(ALICE).account, f"text {number}")
        async with companion.online() as wire:
            assert await announced(wire, OfflinePreview) == OfflinePreview(5, 5)
            await wire.handled()
            assert "message" not in [node.tag for node in wire.unread]
            await wire.send(iq.offline_batch(3))
            texts = [(await companion.hear(wire)).content.text for _ in range(3)]
            await wire.handled()
            assert "message" not in [node.tag for node in wire.unread]
            await wire.send(iq.offline_batch(3))
            texts += [(await companion.hear(wire)).content.text for _ in range(2)]
            assert texts == [f"text {number}" for number in range(5)]
            assert await announced(wire, OfflineDone) == OfflineDone(5)
            bob.send(sim.phone(ALICE).account, "live")
            assert (await companion.hear(wire)).content.text == "live"


async def test_whole_backlog_comes_where_batches_are_off(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
    for number in range(3):
        bob.send(sim.phone(ALICE).account, f"text {number}")
    async with companion.online() as wire:
        await wire.send(iq.offline_batch(1))
        for number in range(3):
            assert (await companion.hear(wire)).content.text == f"text {number}"


async def test_batch_without_a_size_is_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send(Node("ib", {}, (Node("offline_batch"),)))
        await wire.handled()
    assert kinds(sim) == [Kind.STANZA]


# --- props ---


async def test_props_are_told_to_who_does_not_know_them(sim: Simulator) -> None:
    sim.server.desk.props = {"10518": "true", "14303": "false"}
    async with linked(sim) as (_, wire):

        async def asked(known: Props) -> Node:
            return await wire.ask(props.query(wire.ids.next(), known))

        told = props.parse_props(await asked(Props()), Props())
        assert (told.tokens_with_messages, told.tokens_to_lid) == (True, False)
        assert (await asked(told)).required("props").children == ()
        sim.server.desk.props = {"10518": "false"}
        news = props.parse_props(await asked(told), told)
        assert news.hash != told.hash
        assert news.tokens_with_messages is False


# --- the control API ---


@pytest.fixture
async def sim_with_control() -> AsyncIterator[Simulator]:
    async with Simulator.start(QUICK, control_port=0) as running:
        yield running
        assert running.server.violations.broken == []


@pytest.fixture
async def control(sim_with_control: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    assert sim_with_control.control_url is not None
    url = sim_with_control.control_url
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        yield client


async def test_notification_is_sent_as_it_was_written(
    sim_with_control: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim_with_control) as (companion, wire):
        await companion.hear_peers(wire)
        collection = {"tag": "collection", "attrs": {"name": "regular", "version": "7"}}
        answer = await control.post(
            f"/devices/{ALICES_DEVICE}/notifications",
            json={"type": "server_sync", "content": [collection]},
        )
        node = await wire.expect("notification", type_="server_sync")
        assert node.text("id") == answer.json()["id"]
        assert node.jid("from") == SERVER_JID
        assert parse_notification(node) == AppStateChanged((("regular", 7),))
        await wire.send(companion.ack(node))
        await wire.handled()
        assert (await control.get(f"/devices/{ALICES_DEVICE}")).json()["unanswered"] == 0


async def test_notification_may_hold_people_texts_and_elements(
    sim_with_control: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim_with_control) as (companion, wire):
        who = f"{BOB}@s.whatsapp.net"
        child = {"tag": "rmr", "attrs": {"jid": who, "from_me": "false"}}
        outer = {"tag": "outer", "children": [child, {"tag": "update", "text": "{}"}]}
        await control.post(
            f"/devices/{ALICES_DEVICE}/notifications",
            json={"type": "mediaretry", "from": who, "content": [outer]},
        )
        node = await wire.expect("notification", type_="mediaretry")
        assert node.jid("from") == pn(BOB)
        inner = node.required("outer")
        assert inner.required("rmr").attrs == {"jid": pn(BOB), "from_me": "false"}
        assert inner.required("update").data == b"{}"
        await wire.send(companion.ack(node))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "x", "from": "nobody"}, "from"),
        ({"type": "x", "content": {}}, "content"),
        ({"type": "x", "content": [{"attrs": {}}]}, "tag"),
        ({"type": "x", "content": [{"tag": "y", "attrs": {"jid": "nobody"}}]}, "jid"),
        ({"type": "x", "content": [{"tag": "y", "attrs": {"n": 1}}]}, "n"),
        ({"type": "x", "content": [{"tag": "y", "children": "z"}]}, "children"),
    ],
)
async def test_notification_that_is_none_is_refused_by_field(
    sim_with_control: Simulator,
    control: httpx.AsyncClient,
    body: dict[str, object],
    field: str,
) -> None:
    async with linked(sim_with_control):
        answer = await control.post(f"/devices/{ALICES_DEVICE}/notifications", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_element_that_is_no_object_is_refused(
    sim_with_control: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim_with_control):
        body = {"type": "x", "content": ["y"]}
        answer = await control.post(f"/devices/{ALICES_DEVICE}/notifications", json=body)
        assert answer.status_code == 400


async def test_device_is_made_dirty_and_shown_so(
    sim_with_control: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim_with_control) as (_, wire):
        path = f"/devices/{ALICES_DEVICE}"
        answer = await control.post(f"{path}/dirty", json={"type": "groups"})
        dirty = answer.json()["dirty"]
        assert (await control.get(path)).json()["dirty"] == dirty
        assert await announced(wire, Dirty) == Dirty("groups", dirty["groups"])


async def test_props_and_batches_are_set(control: httpx.AsyncClient) -> None:
    assert (await control.put("/props", json={"10518": "true"})).json() == {"10518": "true"}
    assert (await control.get("/props")).json() == {"10518": "true"}
    assert (await control.put("/props", json={"10518": True})).status_code == 422
    assert (await control.patch("/options", json={"batches": True})).json()["batches"] is True
    refused = await control.patch("/options", json={"batches": "yes"})
    assert (refused.status_code, refused.json()["field"]) == (422, "batches")

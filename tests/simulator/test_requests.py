"""Requests of a logged-in client: prekeys, usync and the small ones; logins and their refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.events import NodeReceived
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.keys import KeyPair, PreKey, SignedPreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import iq, prekeys, usync
from sitpayd.whatsapp.stanzas.ib import EdgeRouting, parse_ib
from sitpayd.whatsapp.stanzas.notification import PreKeyCount, parse_notification
from tests.simulator.conftest import QUICK, Start
from tests.simulator.test_routing import ALICE, BOB, fault, linked
from tests.support.companion import PATIENCE_S, Companion, Wire, kinds

STRANGER = lid("199999999999999")


# --- prekeys ---


async def test_count_follows_upload_and_use(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        before = prekeys.parse_count(await wire.ask(prekeys.count_query(wire.ids.next())))
        await companion.upload(wire, range(100, 105))
        bob.send(sim.phone(ALICE).account, "takes one")
        after = prekeys.parse_count(await wire.ask(prekeys.count_query(wire.ids.next())))
        assert after - before == 5 - 1


async def test_one_time_prekey_is_handed_out_once_and_bundles_outlast_them(sim: Simulator) -> None:
    phone = sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        seen = []
        for _ in range(len(phone.device.prekeys) + 1):
            request = prekeys.bundles_query(wire.ids.next(), [phone.device.lid])
            bundle = prekeys.parse_bundles(await wire.ask(request))[phone.device.lid]
            assert isinstance(bundle, PreKeyBundle)
            seen.append(bundle.prekey_id)
        assert len(set(seen)) == len(seen)
        assert seen[-1] is None


async def test_bundles_are_given_in_the_form_they_are_asked_for(sim: Simulator) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        by_number, by_lid = pn(BOB), sim.phone(BOB).account.lid
        request = prekeys.bundles_query(wire.ids.next(), [by_number, by_lid, STRANGER])
        answer = prekeys.parse_bundles(await wire.ask(request))
        assert list(answer) == [by_number, by_lid, STRANGER]
        assert answer[STRANGER] == prekeys.BundleRefused(404, "item-not-found")


async def test_bundle_of_a_companion_carries_its_signed_identity(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire), linked(sim, BOB) as (_, other_wire):
        request = prekeys.bundles_query(other_wire.ids.next(), [companion.identity.lid])
        user = (await other_wire.ask(request)).required("list").required("user")
        assert user.data_of("device-identity") == companion.identity.signed_identity
        await wire.handled()


async def test_bundle_can_be_refused_for_one_device(sim: Simulator) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        fault(sim, FaultKind.REFUSE_BUNDLE, BOB, code=406)
        request = prekeys.bundles_query(wire.ids.next(), [pn(BOB), pn(ALICE)])
        answer = prekeys.parse_bundles(await wire.ask(request))
        assert answer[pn(BOB)] == prekeys.BundleRefused(406, "not-acceptable")
        assert isinstance(answer[pn(ALICE)], PreKeyBundle)


async def test_device_that_runs_out_of_prekeys_is_told(start: Start) -> None:
    async with start(replace(QUICK, low_prekeys=29)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            await companion.hear_peers(wire)
            bob.send(sim.phone(ALICE).account, "takes one")
            node = await wire.expect("notification", type="encrypt")
            assert parse_notification(node) == PreKeyCount(28)
            await wire.send(companion.ack(node))
            await companion.hear(wire)


async def test_digest_names_the_keys_the_server_holds(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        digest = prekeys.parse_digest(await wire.ask(prekeys.digest_query(wire.ids.next())))
        assert digest is not None
        assert digest.identity == companion.keys.identity.public_key
        assert set(digest.prekey_ids) <= set(companion.prekeys)


async def test_repeated_upload_of_the_same_keys_is_taken(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        request = prekeys.upload(wire.ids.next(), companion.keys, companion.prekeys.values())
        assert (await wire.ask(request)).text("type") == "result"


async def test_rotated_signed_prekey_is_taken(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        rotated = SignedPreKey.generate(2, companion.keys.identity)
        upload = prekeys.upload(wire.ids.next(), replace(companion.keys, signed_prekey=rotated), [])
        rotate = Node("rotate", {}, (upload.required("skey"),))
        await wire.ask(iq.set_("encrypt", rotate, id=wire.ids.next()))
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        assert device.signed_prekey == rotated.key_pair.public_key


def spoiled_upload(companion: Companion, wire: Wire, change: str) -> Node:
    keys, ids = companion.keys, [200, 201]
    match change:
        case "signature":
            signed = replace(keys.signed_prekey, signature=bytes(64))
            keys = replace(keys, signed_prekey=signed)
        case "identity":
            identity = KeyPair.generate()
            keys = replace(
                keys, identity=identity, signed_prekey=SignedPreKey.generate(1, identity)
            )
        case "registration id":
            keys = replace(keys, registration_id=keys.registration_id + 1)
        case "same id twice":
            ids = [200, 200]
        case "id zero":
            ids = [0]
        case "used id":
            ids = [2]
    fresh = [PreKey(key_id, KeyPair.generate()) for key_id in ids]
    node = prekeys.upload(wire.ids.next(), keys, fresh)
    if change == "length":
        short = Node("list", {}, (Node("key", {}, (Node("id", {}, b"\x01"),)),))
        children = tuple(short if child.tag == "list" else child for child in node.children)
        node = replace(node, content=children)
    return node


@pytest.mark.parametrize(
    "change",
    ["signature", "identity", "registration id", "same id twice", "id zero", "used id", "length"],
)
async def test_wrong_upload_is_refused_and_a_violation(sim: Simulator, change: str) -> None:
    async with linked(sim) as (companion, wire):
        answer = await wire.ask(spoiled_upload(companion, wire, change))
        assert answer.text("type") == "error"
        assert kinds(sim) == [Kind.PREKEYS]


# --- usync ---


@pytest.mark.parametrize("form", ["pn", "lid"])
async def test_devices_and_lid_are_told_for_either_address(sim: Simulator, form: str) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (_, wire), linked(sim, BOB):
        account = sim.phone(BOB).account
        user = account.pn if form == "pn" else account.lid
        answer = await wire.ask(usync.devices_query(wire.ids.next(), [user], sid="1"))
        found = usync.parse_devices(answer)[user]
        assert found.lid == account.lid
        assert found.devices == (usync.Device(0), usync.Device(1, 1))


async def test_devices_of_nobody_are_an_error_not_an_empty_list(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        answer = await wire.ask(usync.devices_query(wire.ids.next(), [STRANGER], sid="1"))
        assert usync.parse_devices(answer)[STRANGER].error == 404


async def test_number_check_tells_who_has_an_account(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        request = usync.contact_query(wire.ids.next(), [BOB, "4915199999999"], sid="1")
        answer = usync.parse_contacts(await wire.ask(request))
        assert answer[BOB] == usync.Contact(BOB, True, bob.account.pn, bob.account.lid)
        assert not answer["4915199999999"].exists


async def test_device_query_can_be_refused(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        fault(sim, FaultKind.REFUSE_DEVICES, BOB)
        request = usync.devices_query(wire.ids.next(), [bob.account.lid], sid="1")
        assert usync.parse_devices(await wire.ask(request))[bob.account.lid].error == 404


async def test_who_is_refused_a_list_is_not_held_to_the_one_before(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await companion.devices(wire, bob.account.lid)
        sim.server.add_companion(bob)
        await companion.devices(wire, bob.account.lid)
        fault(sim, FaultKind.REFUSE_DEVICES, BOB)
        await wire.ask(usync.devices_query(wire.ids.next(), [bob.account.lid], sid="1"))
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        assert bob.account.lid_user not in device.told


# --- the small ones ---


@pytest.mark.parametrize(
    ("xmlns", "kind", "child", "tag"),
    [
        ("abt", "get", Node("props", {"protocol": "1"}), "props"),
        ("privacy", "get", Node("privacy"), "privacy"),
        ("blocklist", "get", None, "list"),
        ("w:m", "set", Node("media_conn"), "media_conn"),
        ("w:g2", "get", Node("participating"), "groups"),
        ("w:mex", "get", Node("query", {"query_id": "23983697327930364"}, b"{}"), "result"),
        ("w:mex", "get", Node("query", {"query_id": "24503548349331633"}, b"{}"), "result"),
    ],
)
async def test_small_requests_have_their_answer(
    sim: Simulator, xmlns: str, kind: str, child: Node | None, tag: str
) -> None:
    async with linked(sim) as (_, wire):
        children = () if child is None else (child,)
        build = iq.get if kind == "get" else iq.set_
        answer = await wire.ask(build(xmlns, *children, id=wire.ids.next()))
        assert answer.text("type") == "result"
        assert answer.child(tag) is not None


async def test_app_state_collections_are_empty(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        names = ["critical_block", "regular"]
        sync = Node("sync", {}, tuple(Node("collection", {"name": name}) for name in names))
        answer = await wire.ask(iq.set_("w:sync:app:state", sync, id=wire.ids.next()))
        collections = answer.required("sync").children
        assert [collection.text("name") for collection in collections] == names


@pytest.mark.parametrize(
    "request_node",
    [
        iq.get("w:unheard", id="1"),
        iq.get("encrypt", Node("unheard"), id="1"),
        iq.get("w:g2", Node("query"), id="1"),
        iq.get("w:mex", Node("query", {"query_id": "1"}), id="1"),
    ],
)
async def test_unknown_request_is_refused_not_ignored(sim: Simulator, request_node: Node) -> None:
    async with linked(sim) as (_, wire):
        answer = await wire.ask(request_node)
        assert answer.required("error").number("code") == 501
        assert len(sim.server.violations.refused) == 1


async def test_request_can_be_refused_or_swallowed(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        fault(sim, FaultKind.REFUSE_IQ, code=429)
        assert (await wire.ask(iq.ping("1"))).required("error").number("code") == 429
        fault(sim, FaultKind.LOSE_IQ)
        await wire.send(iq.ping("2"))
        assert (await wire.ask(iq.ping("3"))).text("type") == "result"


async def test_foreign_device_cannot_be_unlinked(sim: Simulator) -> None:
    async with linked(sim) as (_, wire), linked(sim, BOB) as (other, _):
        answer = await wire.ask(iq.logout(wire.ids.next(), other.identity.jid))
        assert answer.text("type") == "error"
        assert kinds(sim) == [Kind.ADDRESS]


# --- logins ---


async def test_success_names_the_lid_and_gives_edge_routing(sim: Simulator) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    async with companion.connect() as wire:
        assert (await wire.expect("success")).jid("lid") == companion.identity.lid
        (routing,) = parse_ib(await wire.expect("ib"))
        assert isinstance(routing, EdgeRouting)
    async with companion.connect(routing_info=routing.routing_info) as wire:
        await wire.expect("success")
    async with companion.connect(routing_info=b"invented") as wire:
        await wire.expect("success")
    assert kinds(sim) == [Kind.LOGIN]


async def test_foreign_noise_key_is_refused_and_a_violation(sim: Simulator) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    companion.keys = replace(companion.keys, noise=KeyPair.generate())
    async with companion.connect() as wire:
        await wire.expect("failure", reason="401")
    assert kinds(sim) == [Kind.LOGIN]


async def test_outdated_revision_is_refused_with_405(start: Start) -> None:
    options = replace(QUICK, minimum_revision=2_000_000_000)
    async with start(options) as sim, Companion(sim).register() as wire:
        await wire.expect("failure", reason="405")


async def test_next_login_can_fail_with_a_temporary_ban(sim: Simulator) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    sim.server.faults.add(
        Fault(FaultKind.FAIL_LOGIN, ALICE, 1, code=402, seconds=3600, ban_code=101)
    )
    async with companion.connect() as wire:
        refused = await wire.expect("failure", reason="402")
        assert (refused.number("expire"), refused.number("code")) == (3600, 101)
    async with companion.connect() as wire:
        await wire.expect("success")


async def test_server_ping_wants_an_answer(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        (client,) = sim.server.connected
        client.ping()
        ping = await wire.expect("iq", xmlns="urn:xmpp:ping")
        await wire.send(iq.result(ping))
        await wire.handled()
        client.ping()
        sim.server.look_at_deadlines(trio.current_time() + QUICK.answer_s + 1)
        ended = await wire.expect("stream:error")
        assert ended.child("ping") is not None
        assert kinds(sim)[0] == Kind.UNANSWERED


async def test_silent_client_is_closed(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        sim.server.look_at_deadlines(trio.current_time() + QUICK.idle_s + 1)
        await wire.closed()
        assert kinds(sim) == [Kind.SILENT]


# --- frames ---


async def test_damaged_frame_ends_the_connection_and_is_a_violation(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.send_bytes(b"\x00\x00\x20" + bytes(32))
        await wire.closed()
        assert kinds(sim) == [Kind.NOISE]


async def test_garbage_instead_of_a_prologue_is_a_violation(sim: Simulator) -> None:
    async with connect(sim.url, proxy=None, ping_interval=None) as websocket:
        await websocket.send(b"GET / HTTP/1.1")
        with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed):
            await websocket.recv()
    assert kinds(sim) == [Kind.NOISE]


async def test_silence_instead_of_a_handshake_is_a_violation(sim: Simulator) -> None:
    async with connect(sim.url, proxy=None, ping_interval=None) as websocket:
        await websocket.ping()
        sim.server.look_at_deadlines(trio.current_time() + QUICK.handshake_s + 1)
        with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed):
            await websocket.recv()
    assert kinds(sim) == [Kind.NOISE]


async def test_text_frames_are_ignored(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        await wire.websocket.send("hello")
        await wire.handled()


async def test_frames_may_come_split_or_joined(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        fault(sim, FaultKind.SPLIT)
        await wire.handled()
        fault(sim, FaultKind.JOIN)
        await wire.send(iq.ping("joined"))
        await wire.handled()
        assert (await wire.expect("iq", id="joined")).text("type") == "result"


async def test_client_notices_a_garbled_frame(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        fault(sim, FaultKind.GARBLE)
        await wire.send(iq.ping("1"))
        with pytest.raises(Exception, match="decrypt"):
            await wire.receive()


async def test_long_answers_are_deflated(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        await companion.upload(wire, range(1000, 1400))
        await wire.send(prekeys.digest_query("1"))
        data = await wire.websocket.recv(decode=False)
        (event,) = wire.connection.receive(data)
        assert isinstance(event, NodeReceived)
        assert len(data) < len(encode(event.node)) / 2

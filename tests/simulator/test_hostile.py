"""Whatever a logged-in client sends, the server and its phones stand."""

from __future__ import annotations

import contextlib

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sitpayd.simulator.accounts import Device
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.options import Options
from sitpayd.simulator.queues import MAX_WAITING, Pending
from sitpayd.simulator.server import Server
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, Jid, lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import iq, prekeys
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.support.companion import Companion, heard_by, kinds
from tests.support.strategies import jids

STANZAS = ("message", "receipt", "ack", "iq", "presence", "chatstate", "dance")
PARTS = ("participants", "to", "enc", "device-identity", "retry", "registration", "keys", "list")
REQUESTS = (
    "item",
    "usync",
    "query",
    "user",
    "devices",
    "contact",
    "key",
    "skey",
    "rotate",
    "count",
)
NAMESPACES = ("encrypt", "usync", "w:p", "md", "privacy", "w:sync:app:state", "w:g2", "w:mex", "x")
NAMES = ("id", "to", "jid", "type", "v", "class", "xmlns", "category", "count", "recipient", "t")
WORDS = (
    "get",
    "set",
    "result",
    "msg",
    "pkmsg",
    "skmsg",
    "retry",
    "sender",
    "read",
    "peer",
    "1",
    "x",
)


def addresses() -> SearchStrategy[Jid]:
    known = (pn(ALICE), pn(ALICE, 1), pn(BOB), pn(BOB, 9), SERVER_JID, lid("100000000000000"))
    return st.sampled_from(known) | jids()


def stanzas() -> SearchStrategy[Node]:
    values: SearchStrategy[Attr] = st.sampled_from(WORDS + NAMESPACES) | addresses()
    attrs = st.dictionaries(st.sampled_from(NAMES), values, max_size=6)
    bodies = st.none() | st.binary(max_size=40) | st.binary(max_size=40).map(b"\x33".__add__)
    parts = st.recursive(
        st.builds(Node, st.sampled_from(PARTS + REQUESTS), attrs, bodies),
        lambda children: st.builds(
            Node,
            st.sampled_from(PARTS + REQUESTS),
            attrs,
            st.lists(children, max_size=3).map(lambda some: tuple(some)),
        ),
        max_leaves=8,
    )
    return st.builds(
        Node,
        st.sampled_from(STANZAS),
        attrs,
        st.lists(parts, max_size=3).map(lambda some: tuple(some)),
    )


def take(server: Server, device: Device, node: Node) -> None:
    with contextlib.suppress(RemoteProtocolError):
        match node.tag:
            case "message":
                server.router.message(device, node)
            case "receipt":
                server.router.receipt(device, node)
            case "ack":
                server.router.ack(device, node)
            case "iq":
                server.desk.answer(device, node)
            case "presence":
                server.sightings.presence(device, node)
            case _:
                server.sightings.chat_state(device, node)


@settings(max_examples=40, deadline=None)
@given(st.lists(stanzas(), min_size=1, max_size=8))
def test_no_stanza_of_a_client_breaks_the_server(sent: list[Node]) -> None:
    async def main() -> None:
        server = Server(Options())
        phones = [server.add_account(number) for number in (ALICE, BOB)]
        keys = DeviceKeys.generate()
        device = Device(
            phones[0].account,
            1,
            identity=keys.identity.public_key,
            registration_id=keys.registration_id,
            signed_prekey_id=1,
            signed_prekey=keys.signed_prekey.key_pair.public_key,
            signature=keys.signed_prekey.signature,
            noise=keys.noise.public_key,
        )
        phones[0].account.devices[1] = device
        for node in sent:
            take(server, device, node)
            while any(phone.work() for phone in phones):
                pass
        phones[1].send(phones[0].account, "the server stands")

    trio.run(main)


async def test_unusable_prekey_breaks_no_phone(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    async with companion.connect() as wire:
        await wire.expect("success")
        zero = PreKey(1, KeyPair(bytes(32), bytes(32)))
        await wire.ask(prekeys.upload(wire.ids.next(), companion.keys, [zero]))
        await wire.ask(iq.active(wire.ids.next()))
        assert kinds(sim) == [Kind.PREKEYS]
        bob.send(sim.phone(ALICE).account, "hi")
        assert await heard_by(sim, ALICE) == ["hi"]


async def test_message_for_a_full_queue_is_refused(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        node = await companion.stanza(wire, bob.account.lid, "one too many")
        async with linked(sim, BOB) as (other, other_wire):
            await other_wire.handled()
        device = sim.server.accounts.device(other.identity.jid)
        assert device is not None
        filler = Pending(Node("notification", {"id": "1", "from": SERVER_JID}))
        while device.queue.put(filler):
            pass
        assert len(device.queue) == MAX_WAITING
        participants = await companion.encrypt(
            wire, [other.identity.lid], lambda _: contents.text_message("one too many")
        )
        fanout = (
            *node.required("participants").children,
            Node(
                "to",
                {"jid": participants[0].jid},
                (Node("enc", {"v": "2", "type": participants[0].kind}, participants[0].body),),
            ),
        )
        rest = tuple(child for child in node.children if child.tag != "participants")
        full = Node("message", node.attrs, (Node("participants", {}, fanout), *rest))
        await wire.send(full)
        ack = await wire.expect("ack", id=node.required_text("id"))
        assert ack.text("error") == "503"
        assert bob.received == 0

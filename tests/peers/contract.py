"""What every third-party client is able to do with the simulator: one contract, a class per client.

The subclasses in `test_baileys_and_simulator.py`, `test_whatsmeow_and_simulator.py` and
`test_rust_and_simulator.py` say how the client is started. The simulator lists no violation at the
end of any test (`conftest.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

from tests.peers.process import (
    ChatStateShown,
    ConnectionChanged,
    MessageReceived,
    Peer,
    PresenceShown,
    QrShown,
    Registered,
    StatusChanged,
    Undecryptable,
)
from tests.peers.simulator import Person, SimulatedWhatsApp
from tests.support.matrix import RECEIVES, SENDS, Feature, proves
from tests.support.waiting import eventually

DEADLINE_S = 60
LOGGED_OUT = 401

# What a client is sent that concerns nobody's messages.
_QUOTA = {"xwa2_notify_new_chat_messages_capping_info_update": {"capping_status": "NONE"}}
NOTIFICATIONS: dict[str, list[dict[str, object]]] = {
    "server_sync": [{"tag": "collection", "attrs": {"name": "regular", "version": "1"}}],
    "mex": [
        {
            "tag": "update",
            "attrs": {"op_name": "MessageCappingInfoNotification"},
            "text": json.dumps({"data": _QUOTA}),
        }
    ],
    "psa": [],
    "mystery": [],
}

Start = Callable[[str], AbstractAsyncContextManager[Peer]]


async def link(peer: Peer, whatsapp: SimulatedWhatsApp, person: Person) -> str:
    """Link a fresh client to the person's phone and wait until it is logged in; its JID."""
    await peer.connect()
    qr = await peer.wait_for(QrShown)
    device = await whatsapp.scan(person, qr.text)
    await opened(peer)
    return device


async def opened(peer: Peer) -> None:
    """Wait until the client is logged in."""
    await peer.wait_for(ConnectionChanged, lambda change: change.state == "open")


async def shown(peer: Peer, text: str) -> MessageReceived:
    """Wait until the client has decrypted this text."""
    return await peer.wait_for(MessageReceived, lambda message: message.text == text)


async def reached(peer: Peer, message_id: str, status: str) -> None:
    """Wait until the client knows this of a message it sent."""
    await peer.wait_for(
        StatusChanged, lambda change: (change.id, change.status) == (message_id, status)
    )


async def typed(peer: Peer, chat: str, state: str) -> None:
    """Wait until the client sees somebody type or record."""
    await peer.wait_for(ChatStateShown, lambda shown: (shown.chat, shown.state) == (chat, state))


async def appeared(peer: Peer, chat: str, *, available: bool) -> None:
    """Wait until the client sees somebody come online, or go."""
    await peer.wait_for(
        PresenceShown, lambda shown: (shown.chat, shown.available) == (chat, available)
    )


class Contract:
    """The tests; `whatsapp` and `start` are fixtures."""

    @proves(Feature.LINK_BY_QR, SENDS, RECEIVES)
    @proves(Feature.SIGNATURES, SENDS)
    @proves(Feature.RESTART, RECEIVES)
    async def test_links_by_qr_code_and_logs_in(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                registered = await peer.wait_for(Registered)
        assert registered.jid == device
        assert registered.lid == alice.lid.replace("@", ":1@")

    @proves(Feature.LINK_BY_CODE, SENDS, RECEIVES)
    async def test_links_by_pairing_code_and_logs_in(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                await peer.connect()
                await peer.wait_for(QrShown)
                code = await peer.pair_code(alice.phone)
                device = await whatsapp.enter_code(alice, code)
                registered = await peer.wait_for(Registered)
                await opened(peer)
        assert registered.jid == device

    async def test_talks_with_a_phone_both_ways(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "hello Alice")
                received = await shown(peer, "hello Alice")
                sent = await peer.send(received.chat, "hello Bob")
                heard = await whatsapp.heard(bob, "hello Bob")
                await reached(peer, sent, "delivered")
        assert (received.chat, received.from_me) == (bob.lid, False)
        assert (heard.id, heard.peer, heard.from_me) == (sent, alice.phone, False)

    async def test_talks_by_number_as_well(self, whatsapp: SimulatedWhatsApp, start: Start) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await peer.send(bob.jid, "hello Bob")
                await whatsapp.heard(bob, "hello Bob")
                await whatsapp.say(bob, alice, "hello Alice", addressing="pn")
                received = await shown(peer, "hello Alice")
                # The session began under the number and goes on under the LID.
                await whatsapp.say(bob, alice, "still me", addressing="lid")
                await shown(peer, "still me")
        assert received.chat == bob.jid

    @proves(Feature.OWN_MESSAGES, SENDS, RECEIVES)
    async def test_own_phone_and_client_see_what_the_other_sent(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await peer.send(bob.lid, "from the client")
                heard = await whatsapp.heard(alice, "from the client")
                await whatsapp.say(alice, bob, "from the phone")
                received = await shown(peer, "from the phone")
        assert (heard.peer, heard.from_me) == (bob.phone, True)
        assert (received.chat, received.from_me) == (bob.lid, True)

    async def test_learns_that_a_message_was_read(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                sent = await peer.send(bob.lid, "read me")
                await whatsapp.heard(bob, "read me")
                await whatsapp.read(bob, sent)
                await reached(peer, sent, "read")

    async def test_tells_what_was_read(self, whatsapp: SimulatedWhatsApp, start: Start) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                sent = await whatsapp.say(bob, alice, "read me")
                received = await shown(peer, "read me")
                await peer.read(received.chat, sent)
                await whatsapp.was_read(bob, sent)

    async def test_is_seen_online_and_typing(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_business("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await peer.appear(available=True)
                await whatsapp.online(alice, available=True)
                for state in ("composing", "recording", "paused"):
                    await peer.type(bob.lid, state)
                await whatsapp.saw(bob, alice, "composing", "recording", "paused")

                async def disappeared() -> bool:
                    # Again: Baileys shows itself once more when its phone tells the account's name.
                    await peer.appear(available=False)
                    return not await whatsapp.is_online(alice)

                await eventually(disappeared, "nobody sees it online")

    async def test_sees_who_is_online_and_types(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_business("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await peer.appear(available=True)
                await peer.subscribe(bob.lid)
                await appeared(peer, bob.lid, available=False)
                await whatsapp.appear(bob, available=True)
                await appeared(peer, bob.lid, available=True)
                await whatsapp.type(bob, alice, "composing")
                await typed(peer, bob.lid, "composing")
                await whatsapp.type(bob, alice, "recording")
                await typed(peer, bob.lid, "recording")
                await whatsapp.appear(bob, available=False)
                await appeared(peer, bob.lid, available=False)

    async def test_restarts_from_its_files_and_receives_what_came_meanwhile(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "before")
                await shown(peer, "before")
                await peer.quit()
            await whatsapp.say(bob, alice, "meanwhile 1")
            await whatsapp.say(bob, alice, "meanwhile 2")
            async with start("alice") as peer:
                await peer.connect()
                await opened(peer)
                await shown(peer, "meanwhile 2")
                await peer.send(bob.lid, "afterwards")
                await whatsapp.heard(bob, "afterwards")
        assert [message.text for message in peer.seen(MessageReceived)] == [
            "meanwhile 1",
            "meanwhile 2",
        ]
        assert not peer.seen(QrShown)

    @proves(Feature.CUT_SOCKET, SENDS, RECEIVES)
    async def test_comes_back_by_itself_after_its_socket_was_cut(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                # Cut any earlier, Baileys waits 20 s for the history that it has already got.
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                await whatsapp.drop(device)
                await whatsapp.say(bob, alice, "are you there")
                await opened(peer)
                await shown(peer, "are you there")

    @proves(Feature.ENDINGS, RECEIVES)
    async def test_rests_when_it_is_unlinked(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.unlink(device)
                await peer.wait_for(
                    ConnectionChanged, lambda change: change.status_code == LOGGED_OUT
                )
                await peer.quit()
        assert peer.seen(ConnectionChanged)[-1].state == "close"

    @proves(Feature.LOGOUT, SENDS)
    async def test_logs_out(self, whatsapp: SimulatedWhatsApp, start: Start) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.companions(alice, 1)
                await peer.log_out()
                await whatsapp.companions(alice, 0)

    async def test_message_of_a_phone_that_does_not_decrypt_is_asked_for_again(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.cause("corrupt", bob)
                sent = await whatsapp.say(bob, alice, "once more")
                garbled = await peer.wait_for(Undecryptable)
                received = await shown(peer, "once more")
        assert garbled.id == received.id == sent

    async def test_message_that_a_phone_cannot_decrypt_is_sent_again(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                # Only behind an answer the client sends messages that need a session.
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                await whatsapp.cause("forget", bob)
                sent = await peer.send(bob.lid, "once more")
                heard = await whatsapp.heard(bob, "once more")
        assert heard.id == sent

    async def test_message_that_is_delivered_twice_is_shown_once(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.cause("repeat_message", alice, count=2)
                await whatsapp.say(bob, alice, "twice")
                await whatsapp.say(bob, alice, "the next")
                await shown(peer, "the next")
        assert [message.text for message in peer.seen(MessageReceived)] == ["twice", "the next"]

    @proves(Feature.NOTIFICATIONS, SENDS, RECEIVES)
    async def test_answers_every_notification(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                for kind, content in NOTIFICATIONS.items():
                    await whatsapp.announce(device, kind, content)
                await whatsapp.until(device, "all is answered", lambda told: told["queued"] == 0)


class Upkeep:
    """What whatsmeow does not do; `whatsapp` and `start` are fixtures."""

    @proves(Feature.DIRTY, SENDS, RECEIVES)
    async def test_cleans_what_is_dirty(self, whatsapp: SimulatedWhatsApp, start: Start) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.make_dirty(device, "groups")
                await whatsapp.until(device, "it is clean", lambda told: told["dirty"] == {})

    @proves(Feature.PREKEYS_LOW, SENDS, RECEIVES)
    async def test_gives_more_prekeys_when_few_are_left(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                before = (await whatsapp.device(device))["prekeys"]
                assert isinstance(before, int)
                count: dict[str, object] = {"tag": "count", "attrs": {"value": "3"}}
                await whatsapp.announce(device, "encrypt", [count])
                await whatsapp.until(
                    device,
                    "more prekeys are there",
                    lambda told: int(str(told["prekeys"])) > before,
                )

    @proves(Feature.ROUTING, SENDS, RECEIVES)
    async def test_comes_with_the_routing_bytes_it_was_given(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                assert not (await whatsapp.device(device))["routed"]
                await whatsapp.drop(device)
                await whatsapp.until(
                    device, "it comes with them", lambda told: bool(told["routed"])
                )
                await opened(peer)

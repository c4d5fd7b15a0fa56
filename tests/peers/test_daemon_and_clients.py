"""The daemon talks with unmodified clients: through its HTTP API here, over WhatsApp there.

Baileys, whatsmeow and whatsapp-rust are companions of the other person, so what the daemon encrypts
is decrypted by code that is not ours, and the other way round. whatsmeow verifies every signature
besides.
"""

from __future__ import annotations

import trio

from tests.peers.contract import appeared, link, opened, reached, shown, typed
from tests.peers.process import MessageReceived
from tests.peers.shop import DEADLINE_S, Shop, Start, linked
from tests.peers.simulator import SimulatedWhatsApp
from tests.support.matrix import RECEIVES, SENDS, Feature, proves
from tests.support.waiting import eventually


@proves(Feature.TEXTS, RECEIVES)
@proves(Feature.FIRST_MESSAGES, RECEIVES)
@proves(Feature.RECEIPTS, SENDS)
async def test_client_decrypts_what_the_send_url_sent_and_its_receipt_reaches_the_row(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            # Bob's phone says nothing, so that the receipt can be the client's alone.
            await whatsapp.cause("silent", bob)
            await shop.send(bob, "your order has left")
            received = await shown(peer, "your order has left")
            await shop.device.message("your order has left", state="delivered")
    assert (received.chat, received.from_me) == (shop.owner.lid, False)


@proves(Feature.TEXTS, SENDS, RECEIVES)
async def test_device_decrypts_and_stores_what_the_client_answers(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            for turn in range(3):
                await shop.send(bob, f"question {turn}")
                received = await shown(peer, f"question {turn}")
                await peer.send(received.chat, f"answer {turn}")
                await shop.received(f"answer {turn}", bob)


@proves(Feature.FIRST_MESSAGES, SENDS)
@proves(Feature.BY_NUMBER, SENDS)
async def test_client_that_writes_first_is_understood(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await peer.send(shop.owner.jid, "is anybody there")
            await shop.received("is anybody there", bob)
            await shop.send(bob, "yes")
            await shown(peer, "yes")


@proves(Feature.RELOGIN, SENDS, RECEIVES)
async def test_both_go_on_after_both_were_restarted(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "before")
            received = await shown(peer, "before")
            await peer.send(received.chat, "before as well")
            await shop.received("before as well", bob)
            await peer.quit()
        assert await shop.daemon.stop() == 0
        await shop.daemon.start(shop.partner.http)
        await shop.device.until("connected")
        async with start("bob") as peer:
            await peer.connect()
            await opened(peer)
            await shop.send(bob, "after")
            await shown(peer, "after")
            await peer.send(received.chat, "after as well")
            await shop.received("after as well", bob)


@proves(Feature.BACKLOG, RECEIVES)
async def test_what_was_sent_while_the_client_was_offline_is_there_when_it_comes_back(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "hello")
            await shown(peer, "hello")
            await peer.quit()
        for turn in range(3):
            await shop.send(bob, f"meanwhile {turn}")
        async with start("bob") as peer:
            await peer.connect()
            await shown(peer, "meanwhile 2")
    assert [message.text for message in peer.seen(MessageReceived)] == [
        f"meanwhile {turn}" for turn in range(3)
    ]


@proves(Feature.BACKLOG, SENDS)
@proves(Feature.KILLED, SENDS)
async def test_what_was_sent_while_the_daemon_was_killed_is_there_when_it_comes_back(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "hello")
            received = await shown(peer, "hello")
            await shop.daemon.kill()
            for turn in range(3):
                await peer.send(received.chat, f"meanwhile {turn}")
            await shop.daemon.start(shop.partner.http)
            await shop.received("meanwhile 2", bob)
            await shop.send(bob, "back again")
            await shown(peer, "back again")
        texts = [m["text"] for m in await shop.device.messages()]
    assert texts == ["hello", "meanwhile 0", "meanwhile 1", "meanwhile 2", "back again"]


@proves(Feature.FAN_OUT, SENDS, RECEIVES)
async def test_fan_out_reaches_both_companions_and_our_own_second_device(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        second = await linked(shop.partner, whatsapp, shop.owner)
        async with start("bob 1") as one, start("bob 2") as two:
            await link(one, whatsapp, bob)
            await link(two, whatsapp, bob)
            await shop.send(bob, "to all of you")
            for peer in (one, two):
                await shown(peer, "to all of you")
            await whatsapp.heard(bob, "to all of you")
            await whatsapp.heard(shop.owner, "to all of you")
            await second.message("to all of you", direction="out", peer=bob.phone)
            await one.send(shop.owner.lid, "to both of you")
            await shop.received("to both of you", bob)
            await second.message("to both of you", direction="in", peer=bob.phone)
            await shown(two, "to both of you")


@proves(Feature.DEVICE_CHANGES, RECEIVES)
async def test_client_that_is_linked_later_is_written_to(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob 1") as one, start("bob 2") as two:
            await link(one, whatsapp, bob)
            await shop.send(bob, "hello")
            await shown(one, "hello")
            await link(two, whatsapp, bob)
            sent = await shop.send(bob, "to both of you")
            for peer in (one, two):
                await shown(peer, "to both of you")
            # At once, not only after the server said that one was missed.
            assert await whatsapp.sendings(sent) == 1


@proves(Feature.MISSED, RECEIVES)
async def test_client_that_was_linked_unnoticed_gets_what_it_missed(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        await shop.send(bob, "before")
        await whatsapp.wrong("lose_notification", shop.device.jid)
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await whatsapp.all_happened()
            sent = await shop.send(bob, "to all of you")
            received = await shown(peer, "to all of you")
            assert received.id == sent
            assert await whatsapp.sendings(sent) == 2


@proves(Feature.TOKENS, SENDS, RECEIVES)
async def test_device_and_client_give_each_other_their_tokens(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "hello")
            received = await shown(peer, "hello")

            async def answered() -> bool:
                # Ours is given behind the ack of the message.
                sent = await peer.send(received.chat, "hello yourself")
                return await whatsapp.proof(sent) == "tctoken"

            await eventually(answered, "the client's answer carries our token")
            await shop.received("hello yourself", bob)

            async def carried() -> bool:
                return await whatsapp.proof(await shop.send(bob, "well")) == "tctoken"

            await eventually(carried, "our message carries the client's token")


@proves(Feature.HISTORY, RECEIVES, by_phone=True)
@proves(Feature.APP_STATE_KEYS, RECEIVES, by_phone=True)
async def test_client_understands_what_the_phone_tells_as_we_do(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        await whatsapp.say(bob, shop.owner, "long ago")
        async with start("shop") as colleague:
            await link(colleague, whatsapp, shop.owner)
            for what in ("keys", "lids", "history"):
                await whatsapp.tell(shop.owner, what)
            # It comes behind them: some clients step a session twice when they send meanwhile.
            await whatsapp.say(bob, shop.owner, "are you there?")
            await shown(colleague, "are you there?")

            async def both_know() -> bool:
                sent = await colleague.send(bob.lid, "from the colleague")
                ours = await shop.send(bob, "from the daemon")
                return [await whatsapp.proof(one) for one in (sent, ours)] == ["tctoken"] * 2

            # Clients read what their phone tells in their own time.
            await eventually(both_know, "both know Bob's token and LID from the phone")


@proves(Feature.OWN_MESSAGES, SENDS, RECEIVES)
async def test_client_is_the_second_device_of_our_own_account(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("shop") as colleague:
            await link(colleague, whatsapp, shop.owner)
            await shop.send(bob, "from the daemon")
            copy = await shown(colleague, "from the daemon")
            await colleague.send(bob.lid, "from the colleague")
            await shop.device.message("from the colleague", direction="out", peer=bob.phone)
    assert (copy.chat, copy.from_me) == (bob.lid, True)


@proves(Feature.PRESENCE, RECEIVES)
@proves(Feature.TYPING, RECEIVES)
@proves(Feature.READ_MARKS, RECEIVES)
@proves(Feature.RECEIPTS, RECEIVES)
async def test_client_sees_the_device_online_typing_and_what_it_read(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_business("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await peer.appear(available=True)
            await peer.subscribe(shop.owner.lid)
            await appeared(peer, shop.owner.lid, available=False)
            await shop.ask("presence", presence="available")
            await appeared(peer, shop.owner.lid, available=True)
            sent = await peer.send(shop.owner.lid, "a question")
            question = await shop.received("a question", bob)
            await reached(peer, sent, "delivered")
            await shop.ask(f"messages/{question['message_id']}/read")
            await reached(peer, sent, "read")
            for state in ("composing", "recording"):
                await shop.ask("typing", to=bob.phone, state=state)
                await typed(peer, shop.owner.lid, state)
            await shop.ask("typing", to=bob.phone, state="paused")
            await shop.send(bob, "an answer")
            await shown(peer, "an answer")
            await shop.ask("presence", presence="unavailable")
            await appeared(peer, shop.owner.lid, available=False)


@proves(Feature.PRESENCE, SENDS)
@proves(Feature.TYPING, SENDS)
@proves(Feature.READ_MARKS, SENDS)
async def test_what_the_client_shows_and_reads_disturbs_nothing(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_business("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            # Only who is online is shown what others do.
            await shop.ask("presence", presence="available")
            await shop.send(bob, "hello")
            received = await shown(peer, "hello")
            await peer.appear(available=True)
            await peer.type(received.chat, "composing")
            await whatsapp.saw(shop.owner, bob, "composing")
            await peer.read(received.chat, received.id)
            await shop.device.message("hello", state="read")
            await peer.send(received.chat, "hello yourself")
            await shop.received("hello yourself", bob)


@proves(Feature.CHECK, RECEIVES)
async def test_device_finds_out_who_is_on_whatsapp_as_clients_do(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    """What a check has told is used: the first message goes to the LID that it named."""
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            told = await shop.ask("check", numbers=[bob.phone, "4915199999999"])
            results = told["results"]
            assert isinstance(results, list)
            assert [result["registered"] for result in results] == [True, False]
            await shop.send(bob, "hello")
            received = await shown(peer, "hello")
    assert received.chat == shop.owner.lid

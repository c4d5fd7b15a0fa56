"""Sessions between the daemon and unmodified clients, where they are put to the test."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from tests.peers.contract import link, opened, shown
from tests.peers.process import MessageReceived, Undecryptable
from tests.peers.shop import DEADLINE_S, Shop, Start
from tests.peers.simulator import SimulatedWhatsApp
from tests.support.matrix import RECEIVES, SENDS, Feature, proves


@proves(Feature.BOTH_BEGIN, SENDS, RECEIVES)
async def test_both_beginning_at_once_converge(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.send, shop.owner.lid, "you first")
                nursery.start_soon(shop.send, bob, "no, you")
            await shown(peer, "no, you")
            await shop.received("you first", bob)
            for turn in range(3):
                await shop.send(bob, f"question {turn}")
                await shown(peer, f"question {turn}")
                await peer.send(shop.owner.lid, f"answer {turn}")
                await shop.received(f"answer {turn}", bob)
    assert len(peer.seen(MessageReceived)) == 4


@proves(Feature.OUT_OF_ORDER, SENDS, RECEIVES)
async def test_messages_that_overtake_each_other_are_read(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            theirs = await link(peer, whatsapp, bob)
            await shop.send(bob, "hello")
            received = await shown(peer, "hello")
            await peer.send(received.chat, "hello yourself")
            await shop.received("hello yourself", bob)
            await whatsapp.wrong("late_message", theirs, count=2)
            for text in ("one", "two", "three"):
                await shop.send(bob, text)
            for text in ("three", "one", "two"):
                await shown(peer, text)
            await whatsapp.wrong("late_message", shop.device.jid, count=2)
            answers = [await peer.send(received.chat, f"answer {turn}") for turn in range(3)]
            for turn in (2, 0, 1):
                await shop.received(f"answer {turn}", bob)
        assert not peer.seen(Undecryptable)
        for answer in answers:
            assert "retry" not in await whatsapp.receipts(answer, shop.device.jid)


@proves(Feature.TWICE, SENDS, RECEIVES)
async def test_message_that_comes_twice_is_shown_once(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            theirs = await link(peer, whatsapp, bob)
            await whatsapp.wrong("repeat_message", theirs)
            await shop.send(bob, "twice")
            await shop.send(bob, "the next")
            received = await shown(peer, "the next")
            await whatsapp.wrong("repeat_message", shop.device.jid)
            await peer.send(received.chat, "twice as well")
            await peer.send(received.chat, "the last")
            await shop.received("the last", bob)
            await whatsapp.all_happened()
        texts = [m["text"] for m in await shop.device.messages() if m["direction"] == "in"]
    assert [message.text for message in peer.seen(MessageReceived)] == ["twice", "the next"]
    assert texts == ["twice as well", "the last"]


def forget_sessions(auth_dir: Path) -> None:
    """Let a client that is not running lose every Signal session."""
    for path in auth_dir.glob("session-*.json"):
        path.unlink()
    for name, table in (("whatsmeow.db", "whatsmeow_sessions"), ("whatsapp.db", "sessions")):
        if (store := auth_dir / name).exists():
            with sqlite3.connect(store) as database:
                database.execute(f"DELETE FROM {table}")


@proves(Feature.UNREADABLE, RECEIVES)
async def test_client_that_lost_its_sessions_gets_the_message_once_more(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop, tmp_path: Path
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
        forget_sessions(tmp_path / "bob")
        async with start("bob") as peer:
            await peer.connect()
            await opened(peer)
            await shop.send(bob, "in a session that is gone")
            await shown(peer, "in a session that is gone")
            await peer.send(received.chat, "got it")
            await shop.received("got it", bob)
            await shop.send(bob, "fine")
            await shown(peer, "fine")


@proves(Feature.UNREADABLE, SENDS)
async def test_daemon_that_lost_its_sessions_gets_the_message_once_more(
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
            assert await shop.daemon.stop() == 0
            with sqlite3.connect(shop.daemon.database) as database:
                database.execute("DELETE FROM signal_session")
            await shop.daemon.start(shop.partner.http)
            await shop.device.until("connected")
            await peer.send(received.chat, "in a session that is gone")
            await shop.received("in a session that is gone", bob)
            await shop.send(bob, "got it")
            await shown(peer, "got it")
        texts = [m["text"] for m in await shop.device.messages() if m["direction"] == "in"]
    assert texts == ["before as well", "in a session that is gone"]


@proves(Feature.MIGRATION, SENDS, RECEIVES)
async def test_client_is_understood_while_number_and_lid_turn_out_to_be_one(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    """The daemon writes to a number and may hear from a LID; nobody says that they are one."""
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        await whatsapp.treat(bob, lid_is_hidden=True)
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "by number")
            await shown(peer, "by number")
            await peer.send(shop.owner.lid, "from a stranger")
            await shop.device.message("from a stranger", direction="in")
            await whatsapp.treat(bob, lid_is_hidden=False)
            await peer.send(shop.owner.lid, "it was me")
            await shop.received("it was me", bob)
            for turn in range(2):
                await shop.send(bob, f"by lid {turn}")
                await shown(peer, f"by lid {turn}")
                await peer.send(shop.owner.lid, f"answer {turn}")
                await shop.received(f"answer {turn}", bob)


@proves(Feature.REFUSED_LID, SENDS, RECEIVES)
@proves(Feature.BY_NUMBER, RECEIVES)
async def test_client_understands_who_cannot_address_it_by_lid(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "by lid")
            received = await shown(peer, "by lid")
            await whatsapp.treat(bob, lid_refusal=479)
            for turn in range(2):
                await shop.send(bob, f"by number {turn}")
                await shown(peer, f"by number {turn}")
                await peer.send(received.chat, f"answer {turn}")
                await shop.received(f"answer {turn}", bob)


@pytest.mark.parametrize("writes_first", ["daemon", "client"])
@proves(Feature.NEW_PHONE, SENDS, RECEIVES)
async def test_client_goes_on_with_an_owner_on_a_new_phone(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop, writes_first: str
) -> None:
    """The client is the contact who has other keys: it was unlinked, and is linked again."""
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "to the old phone")
            await shown(peer, "to the old phone")
        await whatsapp.reinstall(bob)
        async with start("bob again") as peer:
            await link(peer, whatsapp, bob)
            if writes_first == "client":
                await peer.send(shop.owner.lid, "it is me")
                await shop.received("it is me", bob)
            await shop.send(bob, "to the new phone")
            await shown(peer, "to the new phone")
            await whatsapp.heard(bob, "to the new phone")


@proves(Feature.NEW_PHONE, RECEIVES)
async def test_client_understands_the_device_behind_a_new_phone_of_its_owner(
    whatsapp: SimulatedWhatsApp, start: Start, shop: Shop
) -> None:
    """Here the daemon's device is the contact who has other keys."""
    with trio.fail_after(DEADLINE_S):
        bob = await whatsapp.make_person("Bob")
        async with start("bob") as peer:
            await link(peer, whatsapp, bob)
            await shop.send(bob, "from the old phone")
            received = await shown(peer, "from the old phone")
            await peer.send(received.chat, "to the old phone")
            await shop.received("to the old phone", bob)
            await whatsapp.reinstall(shop.owner)
            await shop.device.until("logged_out")
            shop.device.jid = await whatsapp.scan(shop.owner, await shop.device.qr_text())
            await shop.device.until("connected")
            await shop.send(bob, "from the new phone")
            await shown(peer, "from the new phone")

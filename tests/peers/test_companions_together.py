"""Baileys and whatsmeow together: companions of one account, and of two."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.peers.baileys import BaileysPeer, ensure_baileys
from tests.peers.contract import DEADLINE_S, link, shown
from tests.peers.simulator import SimulatedWhatsApp
from tests.peers.whatsmeow import WhatsmeowPeer, ensure_whatsmeow


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    ensure_baileys()
    ensure_whatsmeow()


async def test_companions_of_one_account_see_what_the_other_sent(
    whatsapp: SimulatedWhatsApp, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
        carol = await whatsapp.make_person("Carol")
        async with (
            BaileysPeer.start(whatsapp.url, tmp_path / "baileys") as baileys,
            WhatsmeowPeer.start(
                whatsapp.url, tmp_path / "whatsmeow", whatsapp.root_key
            ) as whatsmeow,
        ):
            await link(baileys, whatsapp, alice)
            await link(whatsmeow, whatsapp, alice)
            await baileys.send(bob.jid, "for the list of devices")
            await whatsmeow.send(bob.lid, "from whatsmeow")
            copy = await shown(baileys, "from whatsmeow")
            # Were the sender's other address in the copy, Baileys would take it for Bob's and ask
            # for prekeys of a device that does not exist.
            await baileys.send(carol.jid, "from Baileys")
            other_copy = await shown(whatsmeow, "from Baileys")
            await whatsapp.heard(bob, "from whatsmeow")
            await whatsapp.heard(carol, "from Baileys")
    assert (copy.chat, copy.from_me) == (bob.lid, True)
    assert (other_copy.chat, other_copy.from_me) == (carol.jid, True)


async def test_baileys_and_whatsmeow_write_to_each_other_at_once(
    whatsapp: SimulatedWhatsApp, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
        async with (
            BaileysPeer.start(whatsapp.url, tmp_path / "baileys") as baileys,
            WhatsmeowPeer.start(
                whatsapp.url, tmp_path / "whatsmeow", whatsapp.root_key
            ) as whatsmeow,
        ):
            await link(baileys, whatsapp, alice)
            await link(whatsmeow, whatsapp, bob)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(baileys.send, bob.lid, "to Bob")
                nursery.start_soon(whatsmeow.send, alice.lid, "to Alice")
            await shown(baileys, "to Alice")
            await shown(whatsmeow, "to Bob")


async def test_note_to_oneself_reaches_the_own_devices(
    whatsapp: SimulatedWhatsApp, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice = await whatsapp.make_person("Alice")
        async with (
            BaileysPeer.start(whatsapp.url, tmp_path / "baileys") as baileys,
            WhatsmeowPeer.start(
                whatsapp.url, tmp_path / "whatsmeow", whatsapp.root_key
            ) as whatsmeow,
        ):
            await link(baileys, whatsapp, alice)
            await link(whatsmeow, whatsapp, alice)
            await baileys.send(alice.jid, "milk")
            await whatsmeow.send(alice.jid, "bread")
            await shown(whatsmeow, "milk")
            await shown(baileys, "bread")
            await whatsapp.heard(alice, "milk")
            await whatsapp.heard(alice, "bread")

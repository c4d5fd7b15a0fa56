"""Unmodified Baileys against the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.peers.baileys import BaileysPeer, ensure_baileys
from tests.peers.contract import DEADLINE_S, Contract, Start, Upkeep, link, shown
from tests.peers.process import ConnectionChanged
from tests.peers.simulator import SimulatedWhatsApp
from tests.support.matrix import RECEIVES, SENDS, Client, Feature, by, proves

pytestmark = by(Client.BAILEYS)

RESTART_REQUIRED = 515


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    ensure_baileys()


@pytest.fixture
def start(whatsapp: SimulatedWhatsApp, tmp_path: Path) -> Start:
    return lambda name: BaileysPeer.start(whatsapp.url, tmp_path / name)


class TestBaileys(Contract, Upkeep):
    async def test_is_told_to_restart_after_pairing(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
        changes = [(change.state, change.status_code) for change in peer.seen(ConnectionChanged)]
        assert changes[:4] == [
            ("connecting", None),
            ("close", RESTART_REQUIRED),
            ("connecting", None),
            ("open", None),
        ]

    @proves(Feature.DIGEST, SENDS, RECEIVES)
    async def test_gives_new_prekeys_to_a_server_that_has_no_digest_of_its_keys(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                # Cut any earlier, Baileys waits 20 s for the history that it has already got.
                await whatsapp.say(bob, alice, "hello")
                await shown(peer, "hello")
                before = (await whatsapp.device(device))["prekeys"]
                assert isinstance(before, int)
                await whatsapp.cause("no_digest", alice)
                await whatsapp.drop(device)
                await whatsapp.until(
                    device, "more prekeys are there", lambda told: told["prekeys"] == before + 5
                )

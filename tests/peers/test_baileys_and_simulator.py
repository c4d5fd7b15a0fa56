"""Unmodified Baileys against the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.peers.baileys import BaileysPeer, ensure_baileys
from tests.peers.contract import DEADLINE_S, Contract, Start, link
from tests.peers.process import ConnectionChanged
from tests.peers.simulator import SimulatedWhatsApp

RESTART_REQUIRED = 515


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    ensure_baileys()


@pytest.fixture
def start(whatsapp: SimulatedWhatsApp, tmp_path: Path) -> Start:
    return lambda name: BaileysPeer.start(whatsapp.url, tmp_path / name)


class TestBaileys(Contract):
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

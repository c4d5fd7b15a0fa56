"""Unmodified whatsmeow against the simulator: the client that verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.peers.contract import DEADLINE_S, Contract, Start
from tests.peers.process import ConnectionChanged
from tests.peers.simulator import SimulatedWhatsApp
from tests.peers.whatsmeow import WhatsmeowPeer, ensure_whatsmeow
from tests.support.matrix import Client, by

pytestmark = by(Client.WHATSMEOW)

ANOTHER_ROOT_KEY = "11" * 32


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    ensure_whatsmeow()


@pytest.fixture
def start(whatsapp: SimulatedWhatsApp, tmp_path: Path) -> Start:
    return lambda name: WhatsmeowPeer.start(whatsapp.url, tmp_path / name, whatsapp.root_key)


class TestWhatsmeow(Contract):
    pass


async def test_whatsmeow_does_not_talk_to_a_server_with_another_root_key(
    whatsapp: SimulatedWhatsApp, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        async with WhatsmeowPeer.start(whatsapp.url, tmp_path, ANOTHER_ROOT_KEY) as peer:
            await peer.connect()
            closed = await peer.wait_for(ConnectionChanged, lambda change: change.state == "close")
    assert "failed to verify intermediate cert signature" in (closed.reason or "")

"""A daemon with one linked device, and a client of others that is a companion of its customer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from tests.peers.baileys import BaileysPeer, ensure_baileys
from tests.peers.process import Peer
from tests.peers.rust import RustPeer, ensure_rust
from tests.peers.simulator import Person, SimulatedWhatsApp
from tests.peers.whatsmeow import WhatsmeowPeer, ensure_whatsmeow
from tests.support.daemon import Daemon
from tests.support.matrix import Client, by
from tests.support.partner import Json, Partner, PartnerDevice

DEADLINE_S = 60

Start = Callable[[str], AbstractAsyncContextManager[Peer]]


@dataclass(frozen=True, slots=True)
class Shop:
    """A linked device of the daemon; `owner` holds its phone."""

    daemon: Daemon
    partner: Partner
    device: PartnerDevice
    owner: Person

    async def send(self, to: Person, text: str) -> str:
        """Send through the permanent URL; WhatsApp acknowledges it. WhatsApp's id of it."""
        response = await self.device.send(to.phone, text)
        assert response.status_code == 200, response.text
        return str(response.json()["wa_message_id"])

    async def received(self, text: str, peer: Person) -> Json:
        """Wait until the device has stored this text of this person."""
        return await self.device.message(text, direction="in", peer=peer.phone)

    async def ask(self, route: str, **body: object) -> Json:
        """Ask the device for something that succeeds."""
        response = await self.device.post(route, body)
        assert response.status_code == 200, response.text
        told: Json = response.json()
        return told


@pytest.fixture(
    params=[pytest.param(client, id=client.value.lower(), marks=by(client)) for client in Client]
)
def start(request: pytest.FixtureRequest, whatsapp: SimulatedWhatsApp, tmp_path: Path) -> Start:
    if request.param == Client.BAILEYS:
        ensure_baileys()
        return lambda name: BaileysPeer.start(whatsapp.url, tmp_path / name)
    if request.param == Client.RUST:
        ensure_rust()
        return lambda name: RustPeer.start(whatsapp.url, tmp_path / name)
    ensure_whatsmeow()
    return lambda name: WhatsmeowPeer.start(whatsapp.url, tmp_path / name, whatsapp.root_key)


@pytest.fixture
async def shop(whatsapp: SimulatedWhatsApp, tmp_path: Path) -> AsyncIterator[Shop]:
    daemon = Daemon(tmp_path, whatsapp.url, bytes.fromhex(whatsapp.root_key))
    try:
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            await daemon.start(http)
            partner = await Partner.register(http, daemon.base_url)
            owner = await whatsapp.make_person("The shop")
            yield Shop(daemon, partner, await linked(partner, whatsapp, owner), owner)
            assert not daemon.errors()
    finally:
        daemon.end()
        with trio.CancelScope(shield=True):
            await daemon.ended()


async def linked(partner: Partner, whatsapp: SimulatedWhatsApp, owner: Person) -> PartnerDevice:
    device = await partner.device()
    device.jid = await whatsapp.scan(owner, await device.qr_text())
    await device.until("connected")
    return device

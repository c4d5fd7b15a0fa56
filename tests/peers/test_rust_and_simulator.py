"""Unmodified whatsapp-rust against the simulator: the client that resumes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from sitpayd.whatsapp.noise import ServerKeys
from tests.peers.contract import DEADLINE_S, Contract, Start, Upkeep, link, opened, shown
from tests.peers.process import ErrorReported, MessageReceived, Peer, QrShown, Registered
from tests.peers.rust import RustPeer, ensure_rust
from tests.peers.simulator import Person, SimulatedWhatsApp
from tests.peers.test_whatsmeow_and_signatures import (
    ROOT,
    Sign,
    authenticated_by_another_secret,
    running,
    signed_for_another_identity,
)
from tests.support.matrix import RECEIVES, SENDS, Client, Feature, by, proves

pytestmark = by(Client.RUST)

# More than the client asks for at once (200).
BACKLOG = 250


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    ensure_rust()


@pytest.fixture
def start(whatsapp: SimulatedWhatsApp, tmp_path: Path) -> Start:
    return lambda name: RustPeer.start(whatsapp.url, tmp_path / name)


class TestRust(Contract, Upkeep):
    @proves(Feature.SERVER_PING, SENDS, RECEIVES)
    async def test_answers_a_ping_of_the_server(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice = await whatsapp.make_person("Alice")
            async with start("alice") as peer:
                device = await link(peer, whatsapp, alice)
                await whatsapp.ping(device)
                await whatsapp.until(device, "answered", lambda told: told["unanswered"] == 0)

    @proves(Feature.BATCHES, SENDS, RECEIVES)
    async def test_takes_a_backlog_as_it_is_handed_out(
        self, whatsapp: SimulatedWhatsApp, start: Start
    ) -> None:
        with trio.fail_after(DEADLINE_S):
            alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
            async with start("alice") as peer:
                await link(peer, whatsapp, alice)
                await whatsapp.say(bob, alice, "before")
                await shown(peer, "before")
                await peer.quit()
            await whatsapp.batches()
            for turn in range(BACKLOG):
                await whatsapp.say(bob, alice, f"meanwhile {turn}")
            async with start("alice") as peer:
                await peer.connect()
                await shown(peer, f"meanwhile {BACKLOG - 1}")
        texts = [message.text for message in peer.seen(MessageReceived)]
        assert texts == [f"meanwhile {turn}" for turn in range(BACKLOG)]


async def again(peer: Peer, whatsapp: SimulatedWhatsApp, device: str) -> str:
    """Cut the client's socket; how it shook hands when it came back."""
    await whatsapp.drop(device)
    await opened(peer)
    return await whatsapp.handshake(device)


async def talk(peer: Peer, whatsapp: SimulatedWhatsApp, own: Person, other: Person) -> None:
    """A text in each direction: the keys of the handshake fit."""
    await whatsapp.say(other, own, "are you there")
    await shown(peer, "are you there")
    await peer.send(other.lid, "yes")
    await whatsapp.heard(other, "yes")


@proves(Feature.RESUME, SENDS, RECEIVES)
async def test_resumes_after_its_socket_was_cut_and_after_a_restart(
    whatsapp: SimulatedWhatsApp, start: Start
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
        async with start("alice") as peer:
            device = await link(peer, whatsapp, alice)
            # What it saw while it was registered it does not resume with.
            assert await whatsapp.handshake(device) == "xx"
            assert await again(peer, whatsapp, device) == "ik"
            await talk(peer, whatsapp, alice, bob)
            await peer.quit()
        async with start("alice") as peer:
            await peer.connect()
            await opened(peer)
            assert await whatsapp.handshake(device) == "ik"


@proves(Feature.FALLBACK, SENDS, RECEIVES)
async def test_goes_on_with_a_full_handshake_where_it_may_not_resume(
    whatsapp: SimulatedWhatsApp, start: Start
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
        async with start("alice") as peer:
            device = await link(peer, whatsapp, alice)
            await whatsapp.resume("refuse")
            assert await again(peer, whatsapp, device) == "xxfallback"
            await talk(peer, whatsapp, alice, bob)


@proves(Feature.FALLBACK, SENDS, RECEIVES)
async def test_meets_the_new_keys_of_the_server_and_resumes_with_them(
    whatsapp: SimulatedWhatsApp, start: Start
) -> None:
    with trio.fail_after(DEADLINE_S):
        alice, bob = await whatsapp.make_person("Alice"), await whatsapp.make_person("Bob")
        async with start("alice") as peer:
            device = await link(peer, whatsapp, alice)
            await whatsapp.renew_keys()
            assert await again(peer, whatsapp, device) == "xxfallback"
            assert await again(peer, whatsapp, device) == "ik"
            await talk(peer, whatsapp, alice, bob)


@pytest.mark.parametrize(
    ("sign", "refusal"),
    [
        (signed_for_another_identity, "signature-mismatch"),
        (authenticated_by_another_secret, "hmac-mismatch"),
    ],
)
@proves(Feature.SIGNATURES, RECEIVES)
async def test_refuses_a_false_account_signature(sign: Sign, refusal: str, tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with (
            running(ServerKeys.generate(ROOT, time.time()), sign) as server,
            RustPeer.start(server.url, tmp_path) as peer,
        ):
            await peer.connect()
            answer = await server.answer_to_scan((await peer.wait_for(QrShown)).text)
            await peer.wait_for(ErrorReported)
    assert answer.required("error").text("text") == refusal
    assert not peer.seen(Registered)

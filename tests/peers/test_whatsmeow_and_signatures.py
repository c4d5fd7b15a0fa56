"""whatsmeow as the judge of what our server half signs: it accepts the true and refuses the false.

The refusals are the point: they show that the acceptance here, and in every other test with
whatsmeow, rests on a check.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.events import Event, HandshakeCompleted, NodeReceived
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import ServerKeys
from sitpayd.whatsapp.stanzas import pairing
from tests.peers.process import ConnectionChanged, ErrorReported, QrShown, Registered
from tests.peers.whatsmeow import WhatsmeowPeer, ensure_whatsmeow
from tests.support.matrix import RECEIVES, SENDS, Client, Feature, by, proves

pytestmark = by(Client.WHATSMEOW)

DEADLINE_S = 60
YEAR_S = 365 * 86400
ROOT = KeyPair.generate()
ACCOUNT = KeyPair.generate()
REGISTRATION_ID = "1"
SUCCESS_ID = "2"

Sign = Callable[[pairing.QrCode], bytes]


@pytest.fixture(scope="session", autouse=True)
def _whatsmeow() -> None:
    ensure_whatsmeow()


def signed(qr: pairing.QrCode) -> bytes:
    return pairing.make_signed_identity(
        ACCOUNT, qr.identity, qr.adv_secret, key_index=1, timestamp=int(time.time()), raw_id=7
    )


def signed_for_another_identity(qr: pairing.QrCode) -> bytes:
    return signed(dataclasses.replace(qr, identity=KeyPair.generate().public_key))


def authenticated_by_another_secret(qr: pairing.QrCode) -> bytes:
    return signed(dataclasses.replace(qr, adv_secret=bytes(32)))


class Server:
    """Registers one companion: shows it a ref, and its phone signs what `scan` is given."""

    def __init__(self, keys: ServerKeys, sign: Sign) -> None:
        self.url = ""
        self._answers, self._receive_answer = trio.open_memory_channel[Node](1)
        self._keys = keys
        self._sign = sign
        self._scans, self._scanned = trio.open_memory_channel[str](1)

    async def answer_to_scan(self, qr_text: str) -> Node:
        """Let the phone read the code; the companion's answer to pair-success."""
        await self._scans.send(qr_text)
        return await self._receive_answer.receive()

    async def serve(self, websocket: ServerConnection) -> None:
        connection = Connection.responder(self._keys)
        try:
            async for data in websocket:
                assert isinstance(data, bytes)
                for event in connection.receive(data):
                    await self._react(connection, event)
                for chunk in connection.data_to_send():
                    await websocket.send(chunk)
        except (ConnectionClosed, RemoteProtocolError):
            return  # A companion that refuses us leaves as it likes.

    async def _react(self, connection: Connection, event: Event) -> None:
        if isinstance(event, HandshakeCompleted):
            connection.send(pairing.pair_device(REGISTRATION_ID, ["2@ref"]))
        elif isinstance(event, NodeReceived) and event.node.text("id") == REGISTRATION_ID:
            qr = pairing.parse_qr_text(await self._scanned.receive())
            connection.send(
                pairing.pair_success(
                    SUCCESS_ID,
                    self._sign(qr),
                    jid=pn("15550000001", 1),
                    lid=lid("100000000000001", 1),
                    platform="android",
                    t=int(time.time()),
                )
            )
        elif isinstance(event, NodeReceived) and event.node.text("id") == SUCCESS_ID:
            await self._answers.send(event.node)


@asynccontextmanager
async def running(keys: ServerKeys, sign: Sign = signed) -> AsyncGenerator[Server]:
    server = Server(keys, sign)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, server.serve, 0, host="127.0.0.1"))
        server.url = f"ws://127.0.0.1:{bound.listeners[0].socket.getsockname()[1]}/ws/chat"
        yield server
        nursery.cancel_scope.cancel()


async def answer_to_pair_success(sign: Sign, auth_dir: Path) -> tuple[WhatsmeowPeer, Node]:
    root_key = ROOT.public_key.hex()
    async with (
        running(ServerKeys.generate(ROOT, time.time()), sign) as server,
        WhatsmeowPeer.start(server.url, auth_dir, root_key) as peer,
    ):
        await peer.connect()
        qr = await peer.wait_for(QrShown)
        answer = await server.answer_to_scan(qr.text)
        await peer.wait_for(Registered if sign is signed else ErrorReported)
    return peer, answer


@proves(Feature.SIGNATURES, SENDS, RECEIVES)
async def test_whatsmeow_accepts_our_chain_and_account_signature(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        peer, answer = await answer_to_pair_success(signed, tmp_path)
    qr = pairing.parse_qr_text(peer.seen(QrShown)[0].text)
    assert pairing.check_device_signature(answer, ACCOUNT.public_key, qr.identity)
    assert peer.seen(Registered) == [
        Registered(jid="15550000001:1@s.whatsapp.net", lid="100000000000001:1@lid")
    ]


@pytest.mark.parametrize(
    ("sign", "refusal"),
    [
        (signed_for_another_identity, "signature-mismatch"),
        (authenticated_by_another_secret, "hmac-mismatch"),
    ],
)
@proves(Feature.SIGNATURES, RECEIVES)
async def test_whatsmeow_refuses_a_false_account_signature(
    sign: Sign, refusal: str, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        peer, answer = await answer_to_pair_success(sign, tmp_path)
    assert answer.required("error").text("text") == refusal
    assert not peer.seen(Registered)


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        (
            ServerKeys.generate(KeyPair.generate(), time.time()),
            "failed to verify intermediate cert signature",
        ),
        (ServerKeys.generate(ROOT, time.time() - 2 * YEAR_S), "certificate expired"),
        (ServerKeys.generate(ROOT, time.time() + YEAR_S), "certificate not valid yet"),
        (
            dataclasses.replace(ServerKeys.generate(ROOT, time.time()), static=KeyPair.generate()),
            "cert key doesn't match decrypted static",
        ),
    ],
    ids=["another root", "expired", "not yet valid", "another static key"],
)
@proves(Feature.SIGNATURES, RECEIVES)
async def test_whatsmeow_refuses_a_false_chain(
    keys: ServerKeys, refusal: str, tmp_path: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        async with (
            running(keys) as server,
            WhatsmeowPeer.start(server.url, tmp_path, ROOT.public_key.hex()) as peer,
        ):
            await peer.connect()
            closed = await peer.wait_for(ConnectionChanged, lambda change: change.state == "close")
            assert refusal in (closed.reason or "")

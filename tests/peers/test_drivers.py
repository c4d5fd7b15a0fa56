"""The drivers by themselves: what they dial and how they end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from websockets.trio.server import ServerConnection, serve

from tests.peers import baileys, process
from tests.peers.baileys import BaileysPeer, ensure_baileys
from tests.peers.process import ConnectionChanged, PeerError
from tests.peers.rust import RustPeer, ensure_rust
from tests.peers.whatsmeow import WhatsmeowPeer, ensure_whatsmeow

DEADLINE_S = 60
ROOT_KEY = "00" * 32
NOWHERE = "ws://127.0.0.1:9/ws/chat"
# The prologue, then one frame: HandshakeMessage{2: ClientHello{1: 32 bytes}}.
CLIENT_HELLO_START = bytes.fromhex("57410603 000024 1222 0a20")
CLIENT_HELLO_LEN = len(CLIENT_HELLO_START) + 32


@pytest.fixture(scope="session")
def _baileys() -> None:
    ensure_baileys()


@pytest.fixture(scope="session")
def _whatsmeow() -> None:
    ensure_whatsmeow()


@pytest.fixture(scope="session")
def _rust() -> None:
    ensure_rust()


@asynccontextmanager
async def recording_server() -> AsyncGenerator[tuple[str, trio.MemoryReceiveChannel[bytes]]]:
    """A WebSocket server that answers nothing and passes on the first message of each client."""
    send, receive = trio.open_memory_channel[bytes](1)

    async def record(websocket: ServerConnection) -> None:
        await send.send(await websocket.recv(decode=False))
        await websocket.wait_closed()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, record, 0, host="127.0.0.1"))
        port = server.listeners[0].socket.getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws/chat", receive
        nursery.cancel_scope.cancel()


def is_gone(pid: int) -> bool:
    """Neither running nor a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.usefixtures("_baileys")
async def test_baileys_sends_its_hello_to_the_given_address(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with recording_server() as (url, hellos), BaileysPeer.start(url, tmp_path) as peer:
            await peer.connect()
            hello = await hellos.receive()
            assert hello.startswith(CLIENT_HELLO_START)
            assert len(hello) == CLIENT_HELLO_LEN


@pytest.mark.usefixtures("_whatsmeow")
async def test_whatsmeow_sends_its_hello_to_the_given_address(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with (
            recording_server() as (url, hellos),
            WhatsmeowPeer.start(url, tmp_path, ROOT_KEY) as peer,
        ):
            await peer.connect()
            hello = await hellos.receive()
            assert hello.startswith(CLIENT_HELLO_START)
            assert len(hello) == CLIENT_HELLO_LEN


@pytest.mark.usefixtures("_rust")
async def test_whatsapp_rust_sends_its_hello_to_the_given_address(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with recording_server() as (url, hellos), RustPeer.start(url, tmp_path) as peer:
            await peer.connect()
            hello = await hellos.receive()
            assert hello.startswith(CLIENT_HELLO_START)
            assert len(hello) == CLIENT_HELLO_LEN


@pytest.mark.usefixtures("_baileys")
async def test_baileys_reports_a_refused_connection(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with BaileysPeer.start(NOWHERE, tmp_path) as peer:
            await peer.connect()
            closed = await peer.wait_for(ConnectionChanged, lambda change: change.state == "close")
            assert "ECONNREFUSED" in (closed.reason or "")


@pytest.mark.usefixtures("_whatsmeow")
async def test_whatsmeow_reports_a_refused_connection(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with WhatsmeowPeer.start(NOWHERE, tmp_path, ROOT_KEY) as peer:
            await peer.connect()
            closed = await peer.wait_for(ConnectionChanged, lambda change: change.state == "close")
            assert "connection refused" in (closed.reason or "")


@pytest.mark.usefixtures("_rust")
async def test_whatsapp_rust_reports_a_refused_connection(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with RustPeer.start(NOWHERE, tmp_path) as peer:
            await peer.connect()
            closed = await peer.wait_for(ConnectionChanged, lambda change: change.state == "close")
            assert "Connection refused" in (closed.reason or "")


@pytest.mark.usefixtures("_baileys")
async def test_baileys_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with BaileysPeer.start(NOWHERE, tmp_path) as peer:
            assert not is_gone(peer.pid)
        assert is_gone(peer.pid)


@pytest.mark.usefixtures("_whatsmeow")
async def test_whatsmeow_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with WhatsmeowPeer.start(NOWHERE, tmp_path, ROOT_KEY) as peer:
            assert not is_gone(peer.pid)
        assert is_gone(peer.pid)


@pytest.mark.usefixtures("_rust")
async def test_whatsapp_rust_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with RustPeer.start(NOWHERE, tmp_path) as peer:
            assert not is_gone(peer.pid)
        assert is_gone(peer.pid)


@pytest.mark.usefixtures("_baileys")
async def test_a_driver_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "QUIT_GRACE_S", 0.1)
    with trio.fail_after(DEADLINE_S):
        async with BaileysPeer.start(NOWHERE, tmp_path) as peer:
            os.kill(peer.pid, signal.SIGSTOP)
        assert is_gone(peer.pid)


@pytest.mark.usefixtures("_baileys")
async def test_order_to_a_dead_driver_is_an_error(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with BaileysPeer.start(NOWHERE, tmp_path) as peer:
            os.kill(peer.pid, signal.SIGKILL)
            with pytest.raises(PeerError, match="has ended"):
                await peer.connect()


@pytest.mark.usefixtures("_baileys")
async def test_refused_order_says_why(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        async with BaileysPeer.start(NOWHERE, tmp_path) as peer:
            with pytest.raises(PeerError, match="not connected"):
                await peer.send("15550000001@s.whatsapp.net", "too early")


def test_lock_file_names_no_registry() -> None:
    lock = json.loads((baileys.HOME / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]

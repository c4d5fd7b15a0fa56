"""SIGTERM: what is under way is answered, nobody holds the end up, and the next start goes on."""

from __future__ import annotations

import httpx
import trio

from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.feed import reading_feed
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


async def test_nobody_who_only_stays_connected_holds_the_end_up(
    mortal: Daemon, http: httpx.AsyncClient
) -> None:
    assert (await http.get(f"{mortal.base_url}/healthz")).is_success
    async with await _stalled_feed(mortal):
        with trio.fail_after(8):
            assert await mortal.stop() == 0


async def test_feed_is_closed_as_going_away(mortal: Daemon) -> None:
    async with reading_feed(mortal.base_url, ADMIN_KEY) as feed:
        assert await mortal.stop() == 0
        await feed.closed.wait()
    assert feed.close_code == 1001


async def test_requests_under_way_are_answered_before_the_end(
    tenant: Partner, people: People, alice: str, bob: str, mortal: Daemon
) -> None:
    device, absent = await tenant.linked(people, alice), await tenant.linked(people, bob)
    await people.take_offline(absent)
    await people.wrong("lose", device)
    open_ended: list[httpx.Response] = []
    certain: list[httpx.Response] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send, device, bob, "wait=75", open_ended)
        nursery.start_soon(_send, absent, alice, "wait=75", certain)
        await device.message("under way", state="armed")
        await absent.message("under way", state="accepted")
        assert await mortal.stop() == 0
    assert [(a.status_code, a.json()["type"]) for a in open_ended] == [(202, "pending")]
    assert [(a.status_code, a.json()["code"]) for a in certain] == [(503, "stopping")]


async def test_device_connects_again_at_the_next_start(
    tenant: Partner, people: People, alice: str, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    device = await tenant.linked(people, alice)
    assert await mortal.stop() == 0
    [linked] = await people.devices(alice)
    assert not linked["connected"]
    await mortal.start(http)
    await device.until("connected")


async def _stalled_feed(daemon: Daemon) -> trio.SocketStream:
    """A reader of the feed that reads nothing after the handshake, not even a goodbye."""
    stalled = await trio.open_tcp_stream("127.0.0.1", daemon.port)
    await stalled.send_all(
        (
            f"GET /admin/feed HTTP/1.1\r\nhost: 127.0.0.1:{daemon.port}\r\n"
            f"x-admin-key: {ADMIN_KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: c2l0cGF5ZCBzaXRwYXlkIQ==\r\n\r\n"
        ).encode()
    )
    assert (await stalled.receive_some(1000)).startswith(b"HTTP/1.1 101")
    return stalled


async def _send(device: PartnerDevice, to: str, prefer: str, answers: list[httpx.Response]) -> None:
    answers.append(await device.send(to, "under way", Prefer=prefer))

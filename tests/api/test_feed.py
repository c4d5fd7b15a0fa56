from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
import trio
from quart.testing.connections import WebsocketResponseError
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.trio.client import ClientConnection, connect
from werkzeug.datastructures import Headers

from sitpayd.actors.phase import Phase
from sitpayd.actors.status import MAX_CHANGES_BEHIND, DeviceStatus
from sitpayd.api.app import FEED_RULE
from sitpayd.settings import Settings
from tests.support.fake_actor import QR_TEXT
from tests.support.front import ADMIN_KEY, BASE_URL, Front, Tenant, open_front
from tests.support.server import Served

ADMIN = {"x-admin-key": ADMIN_KEY}


async def refusal(
    front: Front, headers: dict[str, str] | Headers, path: str = FEED_RULE
) -> tuple[int, str]:
    """Status and code of the answer to a handshake that is refused."""
    async with front.client.websocket(path, headers=headers) as feed:
        with pytest.raises(WebsocketResponseError) as caught:
            await feed.receive()
    response = caught.value.response
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, (await response.get_json())["code"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-admin-key": ""},
        {"x-admin-key": ADMIN_KEY[:-1]},
        {"x-admin-key": ADMIN_KEY + "k"},
        {"x-admin-key": "schlüssel"},
        {"authorization": f"Bearer {ADMIN_KEY}"},
        {"x-api-key": ADMIN_KEY},
    ],
)
async def test_feed_needs_the_admin_key_before_it_opens(
    front: Front, headers: dict[str, str]
) -> None:
    assert await refusal(front, headers) == (401, "unauthorized")


async def test_two_admin_keys_are_ambiguous(front: Front) -> None:
    headers = Headers([("x-admin-key", ADMIN_KEY), ("x-admin-key", "other")])

    assert await refusal(front, headers) == (400, "ambiguous_credentials")


async def test_key_in_the_address_is_not_read(front: Front) -> None:
    path = f"{FEED_RULE}?x-admin-key={ADMIN_KEY}&key={ADMIN_KEY}"

    assert await refusal(front, {}, path) == (401, "unauthorized")


async def test_feed_without_an_admin_key_stays_closed() -> None:
    async with open_front(Settings(base_url=BASE_URL)) as front:
        assert await refusal(front, {}) == (401, "no_admin_key")
        assert await refusal(front, {"x-admin-key": ""}) == (401, "no_admin_key")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://robotics.sitpay.in",
        "https://robotics.sitpay.in:8443",
        "https://robotics.sitpay.in.evil.tld",
        "https://ROBOTICS.sitpay.in",
        "https://robotics.sitpay.in/",
        f"{BASE_URL} https://evil.example",
    ],
)
async def test_foreign_origin_is_refused(front: Front, origin: str) -> None:
    assert await refusal(front, {**ADMIN, "origin": origin}) == (403, "forbidden_origin")


async def test_foreign_host_is_refused(front: Front) -> None:
    assert await refusal(front, {**ADMIN, "host": "evil.example"}) == (421, "unknown_host")


async def test_two_origins_are_refused(front: Front) -> None:
    headers = Headers([("x-admin-key", ADMIN_KEY), ("origin", BASE_URL), ("origin", "null")])

    assert await refusal(front, headers) == (403, "forbidden_origin")


@pytest.mark.parametrize("headers", [ADMIN, {**ADMIN, "origin": BASE_URL}])
async def test_feed_tells_every_device_then_every_change(
    front: Front, tenant: Tenant, headers: dict[str, str]
) -> None:
    async with front.client.websocket(FEED_RULE, headers=headers) as feed:
        snapshot = json.loads(await feed.receive())
        tenant.actor.enter(Phase.WAITING, "network")
        change = json.loads(await feed.receive())

    (device,) = snapshot.pop("devices")
    assert set(snapshot) == {"type", "seq"}
    assert snapshot["type"] == "snapshot"
    assert set(device) == {"session_id", "status", "reason", "since"}
    assert (device["session_id"], device["status"]) == (tenant.session_id, "connected")
    assert set(change) == {"type", "seq", "device"}
    assert (change["type"], change["seq"]) == ("status", snapshot["seq"] + 1)
    assert set(change["device"]) == {"session_id", "status", "reason", "since"}
    assert (change["device"]["status"], change["device"]["reason"]) == ("waiting", "network")
    assert datetime.fromisoformat(change["device"]["since"]).tzinfo is not None


async def test_whole_life_of_a_device_shows_no_secret(front: Front) -> None:
    heard: list[str | bytes] = []
    async with front.client.websocket(FEED_RULE, headers=ADMIN) as feed:
        heard.append(await feed.receive())
        tenant = await front.tenant(linked=False)
        await front.ask("GET", f"/partner/devices/{tenant.session_id}/qr", headers=tenant.headers)
        await tenant.actor.link("919876543210")
        await front.send(tenant, "a canary's song")
        await front.ask("DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers)
        while json.loads(heard[-1]).get("device", {}).get("status") != "removed":
            heard.append(await feed.receive())

    statuses = [json.loads(message)["device"]["status"] for message in heard[1:]]
    assert statuses == ["unpaired", "pairing", "connected", "removed"]
    text = str(heard)
    secrets = (tenant.api_key, tenant.user_token, tenant.device_token, QR_TEXT, "919876543210")
    for secret in (*secrets, "canary", "John"):
        assert secret not in text


# --- on a real socket ---


@asynccontextmanager
async def listening(served: Served) -> AsyncIterator[ClientConnection]:
    """A client of the feed that has read its snapshot."""
    async with connect(served.feed_url, additional_headers=ADMIN, proxy=None) as feed:
        assert json.loads(await feed.recv())["type"] == "snapshot"
        yield feed


async def close_code(feed: ClientConnection) -> int | None:
    """Read until the server closes."""
    with suppress(ConnectionClosed):
        while True:
            await feed.recv()
    return feed.close_code


async def test_refusal_on_the_wire_is_no_101(served: Served) -> None:
    for headers, status in (
        ({}, 401),
        ({**ADMIN, "origin": "https://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(served.feed_url, additional_headers=headers, proxy=None):
                pass
        assert caught.value.response.status_code == status


async def test_compression_is_not_negotiated(served: Served) -> None:
    async with listening(served) as feed:
        assert feed.response is not None
        assert "sec-websocket-extensions" not in feed.response.headers


async def test_stopping_daemon_says_that_it_goes_away(served: Served) -> None:
    async with listening(served) as feed:
        served.stop.set()

        assert await close_code(feed) == 1001


async def test_talking_client_is_cut(served: Served) -> None:
    async with listening(served) as feed:
        await feed.send("hello")

        assert await close_code(feed) == 1008


async def test_large_message_is_cut(served: Served) -> None:
    async with listening(served) as feed:
        await feed.send("x" * 5000)

        assert await close_code(feed) == 1009


async def test_message_in_pieces_is_cut_where_it_grows_too_large(served: Served) -> None:
    async with listening(served) as feed:
        with suppress(ConnectionClosed):
            await feed.send("x" * 100 for _ in range(1000))

        assert await close_code(feed) == 1009


async def test_unmasked_frame_ends_the_connection(served: Served) -> None:
    async with await served.connect() as stream:
        await stream.send_all(
            f"GET {FEED_RULE} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
            f"connection: upgrade\r\nsec-websocket-version: 13\r\nx-admin-key: {ADMIN_KEY}\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        await stream.send_all(Frame(Opcode.TEXT, b"hello").serialize(mask=False))
        with trio.fail_after(5):
            while await stream.receive_some():
                pass


async def test_slow_reader_is_cut_and_may_come_back(served: Served) -> None:
    tenant = await served.front.tenant()
    heard: list[str] = []
    async with listening(served) as feed:
        # One is on its way to the reader, so many may wait, and this is one more.
        for number in range(MAX_CHANGES_BEHIND + 2):
            served.front.board.publish(
                DeviceStatus(tenant.session_id, 1, "waiting", str(number), datetime.now(UTC))
            )
        with suppress(ConnectionClosed):
            while True:
                heard.append(json.loads(await feed.recv())["device"]["reason"])
        assert feed.close_code == 1013
    async with connect(served.feed_url, additional_headers=ADMIN, proxy=None) as feed:
        snapshot = json.loads(await feed.recv())

    assert heard == [str(number) for number in range(MAX_CHANGES_BEHIND + 1)]
    assert snapshot["devices"][0]["reason"] == str(MAX_CHANGES_BEHIND + 1)

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import quart.typing
import trio
from quart.testing.connections import WebsocketResponseError
from trio.testing import MockClock
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.trio.client import ClientConnection, connect
from werkzeug.datastructures import Headers

from sitpayd.actors.changes import MAX_BEHIND, RING_LEN
from sitpayd.actors.phase import Phase
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.app import FEED_RULE
from sitpayd.api.feed import MAX_READERS, PART_LEN
from sitpayd.settings import Settings
from tests.support.fake_actor import QR_TEXT
from tests.support.front import ADMIN_KEY, BASE_URL, Front, Tenant, open_front
from tests.support.server import Served

ADMIN = {"x-admin-key": ADMIN_KEY}
SINCE = datetime(2026, 11, 23, tzinfo=UTC)


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


class Listener:
    """A reader in the test client."""

    def __init__(self, socket: quart.typing.TestWebsocketConnectionProtocol) -> None:
        self._socket = socket

    async def told(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(await self._socket.receive())
        return message


@asynccontextmanager
async def listening_to(
    front: Front, query: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Listener]:
    """Read the feed as the operator, or as somebody with other headers."""
    path = f"{FEED_RULE}?{query}" if query else FEED_RULE
    async with front.client.websocket(path, headers=ADMIN if headers is None else headers) as feed:
        yield Listener(feed)


def fill(front: Front, count: int) -> None:
    """Put so many devices on the board."""
    for number in range(count):
        front.board.publish(DeviceStatus(f"wa_{number:020}", 1, "unpaired", None, SINCE))


def change_often(front: Front, tenant: Tenant, count: int) -> None:
    """Let a device change so many times."""
    for number in range(count):
        front.board.publish(DeviceStatus(tenant.session_id, 1, "waiting", str(number), SINCE))


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
    """T-37: without the credential, or with another one, there is no 101."""
    assert await refusal(front, headers) == (401, "unauthorized")


async def test_two_admin_keys_are_ambiguous(front: Front) -> None:
    headers = Headers([("x-admin-key", ADMIN_KEY), ("x-admin-key", "other")])

    assert await refusal(front, headers) == (400, "ambiguous_credentials")


async def test_key_in_the_address_is_not_read(front: Front) -> None:
    """T-39: an address stands in the logs of every proxy it passed."""
    path = f"{FEED_RULE}?x-admin-key={ADMIN_KEY}&key={ADMIN_KEY}"

    assert await refusal(front, {}, path) == (401, "unauthorized")
    assert await refusal(front, ADMIN, path) == (400, "invalid_query")
    assert await refusal(front, {}, f"{FEED_RULE}?ticket={ADMIN_KEY}") == (403, "forbidden_origin")
    page = {"origin": BASE_URL}
    assert await refusal(front, page, f"{FEED_RULE}?ticket={ADMIN_KEY}") == (401, "unauthorized")


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
    """T-38: scheme, host and port have to be ours; the credential alone does not help a page."""
    assert await refusal(front, {**ADMIN, "origin": origin}) == (403, "forbidden_origin")


async def test_foreign_host_is_refused(front: Front) -> None:
    assert await refusal(front, {**ADMIN, "host": "evil.example"}) == (421, "unknown_host")


async def test_two_origins_are_refused(front: Front) -> None:
    headers = Headers([("x-admin-key", ADMIN_KEY), ("origin", BASE_URL), ("origin", "null")])

    assert await refusal(front, headers) == (403, "forbidden_origin")


VIEW = {
    "session_id",
    "partner",
    "partner_name",
    "device_name",
    "phone",
    "status",
    "reason",
    "since",
    "until",
    "verified_at",
    "evidence",
}


@pytest.mark.parametrize("headers", [ADMIN, {**ADMIN, "origin": BASE_URL}])
async def test_feed_tells_every_device_then_every_change(
    front: Front, tenant: Tenant, headers: dict[str, str]
) -> None:
    async with front.client.websocket(FEED_RULE, headers=headers) as feed:
        snapshot = json.loads(await feed.receive())
        tenant.actor.enter(Phase.WAITING, "network")
        change = json.loads(await feed.receive())

    (device,) = snapshot.pop("devices")
    assert set(snapshot) == {"type", "cursor", "seq", "counts", "more"}
    assert (snapshot["type"], snapshot["more"]) == ("snapshot", False)
    assert snapshot["counts"] == {"connected": 1}
    assert set(device) == VIEW
    assert (device["session_id"], device["status"]) == (tenant.session_id, "connected")
    assert device["evidence"] == "login"
    assert set(change) == {"type", "cursor", "seq", "device"}
    assert (change["type"], change["seq"]) == ("status", snapshot["seq"] + 1)
    assert set(change["device"]) == VIEW
    assert (change["device"]["status"], change["device"]["reason"]) == ("waiting", "network")
    assert datetime.fromisoformat(change["device"]["since"]).tzinfo is not None


async def test_snapshot_comes_in_parts_and_its_cursor_with_the_last(front: Front) -> None:
    count = 2 * PART_LEN + 1
    fill(front, count)
    async with listening_to(front) as feed:
        parts = [await feed.told()]
        while parts[-1]["more"]:
            parts.append(await feed.told())

    assert [part["type"] for part in parts] == ["snapshot", "more", "more"]
    assert [part["cursor"] is None for part in parts] == [True, True, False]
    names = [device["session_id"] for part in parts for device in part["devices"]]
    assert names == sorted(names)
    assert len(set(names)) == count


async def test_snapshot_that_is_shared_with_another_reader_leads_to_the_same_end(
    front: Front, tenant: Tenant, mock_clock: MockClock
) -> None:
    async with listening_to(front) as feed:
        await feed.told()
    tenant.actor.enter(Phase.WAITING, "network")
    async with listening_to(front) as feed:
        # Of the same second: what the first reader was told will do, and the change follows.
        shared, change = await feed.told(), await feed.told()
    mock_clock.jump(1)
    async with listening_to(front) as feed:
        fresh = await feed.told()

    assert shared["devices"][0]["status"] == "connected"
    assert change["device"]["status"] == "waiting"
    assert fresh["devices"][0]["status"] == "waiting"
    assert fresh["seq"] == change["seq"]


async def test_snapshot_of_some_statuses_holds_no_others(
    front: Front, tenant: Tenant, mock_clock: MockClock
) -> None:
    async with listening_to(front) as feed:
        await feed.told()
    tenant.actor.enter(Phase.WAITING, "network")
    async with listening_to(front, "status=waiting") as feed:
        snapshot = await feed.told()

    assert [device["status"] for device in snapshot["devices"]] == ["waiting"]


async def test_empty_board_is_a_snapshot_too(front: Front) -> None:
    async with listening_to(front) as feed:
        snapshot = await feed.told()

    assert (snapshot["type"], snapshot["devices"], snapshot["more"]) == ("snapshot", [], False)


async def test_lost_reader_resumes_and_is_told_what_it_missed(front: Front, tenant: Tenant) -> None:
    async with listening_to(front) as feed:
        cursor = (await feed.told())["cursor"]
    tenant.actor.enter(Phase.WAITING, "network")
    tenant.actor.enter(Phase.CONNECTING)
    async with listening_to(front, f"after={cursor}") as feed:
        resumed = await feed.told()
        told = [await feed.told(), await feed.told()]

    assert resumed == {"type": "resumed", "cursor": cursor}
    assert [change["device"]["status"] for change in told] == ["waiting", "connecting"]


@pytest.mark.parametrize("after", ["", "null", "0123456789ab-1", "-1", "x" * 500])
async def test_cursor_that_leads_nowhere_brings_a_snapshot(
    front: Front, tenant: Tenant, after: str
) -> None:
    async with listening_to(front, f"after={after}") as feed:
        assert (await feed.told())["type"] == "snapshot"


async def test_cursor_that_is_too_old_brings_a_snapshot(front: Front, tenant: Tenant) -> None:
    async with listening_to(front) as feed:
        cursor = (await feed.told())["cursor"]
    change_often(front, tenant, RING_LEN + 1)
    async with listening_to(front, f"after={cursor}") as feed:
        assert (await feed.told())["type"] == "snapshot"


async def test_feed_of_a_partner_tells_of_its_devices_alone(front: Front) -> None:
    one, other = await front.tenant(), await front.tenant()
    partner = other.actor.handle.record.partner_id
    async with listening_to(front, f"partner={partner}") as feed:
        snapshot = await feed.told()
        one.actor.enter(Phase.WAITING, "network")
        other.actor.enter(Phase.BANNED, "banned")
        change = await feed.told()

    assert [device["session_id"] for device in snapshot["devices"]] == [other.session_id]
    assert snapshot["counts"] == {"connected": 1}
    assert change["device"]["session_id"] == other.session_id
    # The board's numbers: a filtered feed has gaps.
    assert change["seq"] == snapshot["seq"] + 2


async def test_device_that_is_no_longer_asked_for_has_left(front: Front) -> None:
    one, other = await front.tenant(), await front.tenant()
    async with listening_to(front, "status=connected,banned") as feed:
        snapshot = await feed.told()
        one.actor.enter(Phase.WAITING, "network")
        left = await feed.told()
        one.actor.enter(Phase.CONNECTING)
        one.actor.enter(Phase.CONNECTED)
        back = await feed.told()
        await front.ask("DELETE", f"/partner/devices/{one.session_id}", headers=one.headers)
        removed = await feed.told()
        other.actor.enter(Phase.WAITING, "network")
        await feed.told()
        await front.ask("DELETE", f"/partner/devices/{other.session_id}", headers=other.headers)
        third = await front.tenant()
        last = await feed.told()

    assert len(snapshot["devices"]) == 2
    assert set(left) == {"type", "cursor", "seq", "session_id"}
    assert (left["type"], left["session_id"]) == ("left", one.session_id)
    assert (back["type"], back["device"]["status"]) == ("status", "connected")
    assert (removed["type"], removed["session_id"]) == ("removed", one.session_id)
    # Nothing of the one that had left before it was removed.
    assert last["device"]["session_id"] == third.session_id


@pytest.mark.parametrize("query", ["status=asleep", "partner=x", "unheard=of"])
async def test_query_that_makes_no_sense_is_refused(front: Front, query: str) -> None:
    assert await refusal(front, ADMIN, f"{FEED_RULE}?{query}") == (400, "invalid_query")


async def test_quiet_feed_shows_every_10_s_that_it_lives(
    front: Front, autojump_clock: MockClock
) -> None:
    async with listening_to(front) as feed:
        snapshot = await feed.told()
        for beat in (1, 2, 3):
            heartbeat = await feed.told()
            assert trio.current_time() == pytest.approx(10.0 * beat, abs=0.1)
            assert datetime.fromisoformat(heartbeat.pop("at")).tzinfo is not None
            assert heartbeat == {"type": "heartbeat", "cursor": snapshot["cursor"]}


async def test_heartbeat_of_a_filtered_feed_moves_its_cursor_on(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    async with listening_to(front, "status=banned") as feed:
        snapshot = await feed.told()
        tenant.actor.enter(Phase.WAITING, "network")
        heartbeat = await feed.told()

    assert heartbeat["cursor"] != snapshot["cursor"]
    assert heartbeat["cursor"] == front.board.changes.cursor(snapshot["seq"] + 1)


async def test_too_many_readers_are_refused(front: Front) -> None:
    front.board.watchers = MAX_READERS
    assert await refusal(front, ADMIN) == (503, "overloaded")
    front.board.watchers = MAX_READERS - 1
    async with listening_to(front) as feed:
        await feed.told()


# --- tickets ---


async def a_ticket(front: Front) -> str:
    answer = await front.post("/admin/tickets", {}, ADMIN)
    return str((await answer.get_json())["ticket"])


async def test_ticket_opens_the_feed_once_for_a_page_of_ours(front: Front) -> None:
    ticket = await a_ticket(front)
    async with listening_to(front, f"ticket={ticket}", {"origin": BASE_URL}) as feed:
        assert (await feed.told())["type"] == "snapshot"

    path = f"{FEED_RULE}?ticket={ticket}"
    assert await refusal(front, {"origin": BASE_URL}, path) == (401, "unauthorized")


async def test_ticket_ends_after_30_s(front: Front, mock_clock: MockClock) -> None:
    """T-37: a credential that has expired."""
    ticket, other = await a_ticket(front), await a_ticket(front)
    mock_clock.jump(29.9)
    async with listening_to(front, f"ticket={ticket}", {"origin": BASE_URL}) as feed:
        await feed.told()
    mock_clock.jump(0.1)

    path = f"{FEED_RULE}?ticket={other}"
    assert await refusal(front, {"origin": BASE_URL}, path) == (401, "unauthorized")


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example"])
async def test_ticket_is_good_for_pages_of_ours_alone(front: Front, origin: str | None) -> None:
    """T-38: who read it where addresses are kept can do nothing with it."""
    ticket = await a_ticket(front)
    headers = {} if origin is None else {"origin": origin}
    path = f"{FEED_RULE}?ticket={ticket}"

    assert await refusal(front, headers, path) == (403, "forbidden_origin")
    # Nor does the attempt use it up.
    async with listening_to(front, f"ticket={ticket}", {"origin": BASE_URL}) as feed:
        await feed.told()


async def test_ticket_and_key_are_ambiguous(front: Front) -> None:
    ticket = await a_ticket(front)
    page = {**ADMIN, "origin": BASE_URL}

    for query in (f"ticket={ticket}", f"ticket={ticket}&ticket={ticket}"):
        refused = await refusal(front, page, f"{FEED_RULE}?{query}")
        assert refused == (400, "ambiguous_credentials")


async def test_page_that_is_reached_through_a_tunnel_may_read_the_feed(front: Front) -> None:
    headers = {**ADMIN, "host": "localhost:8080", "origin": "http://localhost:8080"}
    async with listening_to(front, headers=headers) as feed:
        await feed.told()
    for origin in ("http://localhost:3000", "https://localhost:8080", "http://localhost"):
        refused = await refusal(front, {**headers, "origin": origin})
        assert refused == (403, "forbidden_origin")


async def test_whole_life_of_a_device_shows_no_secret(front: Front) -> None:
    heard: list[str | bytes] = []
    async with front.client.websocket(FEED_RULE, headers=ADMIN) as feed:
        heard.append(await feed.receive())
        tenant = await front.tenant(linked=False)
        await front.ask("GET", f"/partner/devices/{tenant.session_id}/qr", headers=tenant.headers)
        await tenant.actor.link("919876543210")
        await front.send(tenant, "a canary's song")
        await front.ask("DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers)
        while json.loads(heard[-1])["type"] != "removed":
            heard.append(await feed.receive())

    statuses = [json.loads(message)["device"]["status"] for message in heard[1:-1]]
    assert statuses == ["unpaired", "pairing", "connected"]
    text = str(heard)
    secrets = (tenant.api_key, tenant.user_token, tenant.device_token, QR_TEXT, "919876543210")
    for secret in (*secrets, "canary", "John Doe", "john@example.com"):
        assert secret not in text


# --- on a real socket ---


@asynccontextmanager
async def listening(served: Served, query: str = "") -> AsyncIterator[ClientConnection]:
    """A client of the feed that has read its snapshot."""
    url = served.feed_url + query
    async with connect(url, additional_headers=ADMIN, proxy=None, ping_interval=None) as feed:
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


async def test_coalesced_change_reaches_a_filtered_reader_as_left(served: Served) -> None:
    tenant = await served.front.tenant()
    async with listening(served, "?status=connected") as feed:
        # It was connected; the step out of that is left out, for there are too many.
        change_often(served.front, tenant, MAX_BEHIND + 2)
        told = json.loads(await feed.recv())

    assert (told["type"], told["session_id"]) == ("left", tenant.session_id)


async def test_reader_that_is_behind_is_told_the_newest_alone(served: Served) -> None:
    """F-20: coalesced by device, the newest wins."""
    tenant = await served.front.tenant()
    async with listening(served) as feed:
        change_often(served.front, tenant, MAX_BEHIND + 2)
        told = json.loads(await feed.recv())
        assert told["device"]["reason"] == str(MAX_BEHIND + 1)
        tenant.actor.enter(Phase.CONNECTED)
        assert json.loads(await feed.recv())["device"]["status"] == "connected"


async def test_reader_that_is_too_far_behind_gets_a_fresh_snapshot(served: Served) -> None:
    """F-20: more than can be coalesced is told as `resync`, and a snapshot follows."""
    async with listening(served) as feed:
        fill(served.front, MAX_BEHIND + 1)
        told = [json.loads(await feed.recv()) for _ in range(3)]

    assert [message["type"] for message in told] == ["resync", "snapshot", "more"]
    assert sum(len(message.get("devices", ())) for message in told) == MAX_BEHIND + 1

"""Downloads from media servers of the tests' own, on loopback; T-42 to T-45 and T-60 for them."""

from __future__ import annotations

import hashlib
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio

from sitpayd.actors import connector, downloads
from sitpayd.actors.connector import Route
from sitpayd.actors.downloads import AT_A_TIME, PATIENCE_S, Downloads, Media
from sitpayd.actors.messages import HistoryPart
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.resolver import Address, resolving
from sitpayd.storage import phone
from sitpayd.storage.database import Database
from sitpayd.storage.devices import create_device
from sitpayd.storage.records import Told
from sitpayd.whatsapp.history import HistoryItem, PushName
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.media import HISTORY, MediaFile, encrypt, media_file
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas.content import (
    history_sync_at,
    inline_history_sync,
    lid_migration,
    parse_message,
)
from sitpayd.whatsapp.stanzas.message import LidMapping
from tests.actors.test_transport import self_signed
from tests.storage.builders import NOON, Clock, Tenant
from tests.support.proxy import RecordingProxy, listening
from tests.support.waiting import eventually

PATIENCE = 10.0
KEY = bytes(range(32))
NUMBER = pn("4915112345678")
NAMED = PushName(NUMBER, "Bob")
HISTORY_BYTES = pb.HistorySync(
    pushnames=[pb.Pushname(id=str(NUMBER), pushname="Bob")]
).SerializeToString()

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


def sealed(history: bytes, path: str = "/v/t62?oh=1") -> tuple[bytes, MediaFile]:
    """The blob of a history, and how it is known."""
    plain = zlib.compress(history)
    blob = encrypt(plain, KEY, HISTORY)
    hashes = hashlib.sha256(blob).digest(), hashlib.sha256(plain).digest()
    return blob, media_file(path, KEY, *hashes, len(plain))


BLOB, FILE = sealed(HISTORY_BYTES)


@dataclass
class MediaServer:
    """Answers every request with the same bytes.

    Attributes:
        heads: the requests it got.
    """

    answer: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    port: int = 0
    waits_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.abc.Stream) -> None:
        head = b""
        with suppress(trio.BrokenResourceError):
            async with stream:
                while b"\r\n\r\n" not in head:
                    head += await stream.receive_some()
                self.heads.append(head)
                await trio.sleep(self.waits_s)
                await stream.send_all(self.answer)


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(
    server: MediaServer, context: ssl.SSLContext | None = None
) -> AsyncIterator[MediaServer]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]

    async def handle(stream: trio.SocketStream) -> None:
        secure = None if context is None else trio.SSLStream(stream, context, server_side=True)
        with suppress(trio.BrokenResourceError):
            await server.serve(secure or stream)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, listeners)
            yield server
            nursery.cancel_scope.cancel()


class Desk:
    """A device's downloads, and an actor that takes every part at once.

    Attributes:
        got: the parts; given_up: why notices were given up.
    """

    def __init__(self, database: Database, tenant: Tenant, media: Media) -> None:
        self.database, self.device_id = database, tenant.device.id
        self.route = Route("ws://nowhere")
        self.got: list[HistoryPart] = []
        self.given_up: list[str] = []
        self.takes_parts = True
        self.downloads = Downloads(
            database, self.device_id, media, lambda: self.route, self._take, self.given_up.append
        )

    async def _take(self, part: HistoryPart) -> None:
        self.got.append(part)
        if part.is_last:
            await self.database.write(phone.forget_notice, self.device_id, part.notice_id)
        if self.takes_parts:
            self.downloads.kept()

    async def tell(self, message: bytes, id: str = "3EB0") -> None:
        notice = parse_message(message).notice
        await self.database.write(phone.keep_told, self.device_id, id, Told(notice=notice))

    async def work(self, *messages: bytes) -> None:
        """Tell these, and work until nothing more is due."""
        for number, message in enumerate(messages):
            await self.tell(message, f"3EB{number}")
        async with trio.open_nursery() as nursery:
            self.downloads.begin(nursery)
            await self.idle()
            nursery.cancel_scope.cancel()

    async def idle(self, now: datetime = NOON) -> None:
        """Wait until every notice is done or put off."""

        async def look() -> bool:
            waiting = await self.waiting()
            return waiting is None or waiting.due_at > now

        await eventually(look, "nothing is due")

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until something has happened."""

        async def look() -> bool:
            return happened()

        await eventually(look, "it has happened")

    async def waiting(self) -> phone.Waiting | None:
        return await self.database.read(phone.next_notice, self.device_id)

    @property
    def items(self) -> list[HistoryItem]:
        return [item for part in self.got for item in part.items]


@pytest.fixture(autouse=True)
def _one_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "utc_now", clock)


@pytest.fixture
def desk(database: Database, tenant: Tenant) -> Desk:
    return Desk(database, tenant, Media("http://127.0.0.1:9", public_only=False))


def at(desk: Desk, url: str, *, public_only: bool = False) -> Desk:
    """The desk, fetching from there."""
    desk.downloads._media = replace(desk.downloads._media, url=url, public_only=public_only)
    return desk


# --- what comes with the notice ---


async def test_history_that_comes_with_its_notice_is_read(desk: Desk) -> None:
    await desk.work(inline_history_sync(HISTORY_BYTES))
    assert desk.items == [NAMED]
    assert [part.is_last for part in desk.got] == [True]
    assert await desk.waiting() is None


async def test_empty_history_is_done_at_once(desk: Desk) -> None:
    await desk.work(inline_history_sync(b""))
    assert [(part.items, part.is_last) for part in desk.got] == [((), True)]


async def test_migration_to_lids_is_read(desk: Desk) -> None:
    await desk.work(lid_migration([("4915112345678", "200000000000002")]))
    (item,) = desk.items
    assert isinstance(item, LidMapping)


@pytest.mark.parametrize("sync_type", [1, 6, 7, 8])
async def test_history_of_which_nothing_is_kept_is_not_even_fetched(
    desk: Desk, sync_type: int
) -> None:
    await desk.work(history_sync_at(FILE, sync_type))
    assert desk.got == []
    assert await desk.waiting() is None


async def test_history_that_makes_no_sense_is_given_up_at_once(desk: Desk) -> None:
    broken = pb.Message.FromString(inline_history_sync(b""))
    notice = broken.protocolMessage.historySyncNotification
    notice.initialHistBootstrapInlinePayload = b"not deflated"
    await desk.work(broken.SerializeToString(), inline_history_sync(HISTORY_BYTES))
    assert desk.given_up == ["not deflated"]
    assert desk.items == [NAMED]


async def test_long_history_comes_in_parts_one_after_the_other(desk: Desk) -> None:
    names = [pb.Pushname(id=str(NUMBER), pushname=f"Bob {n}") for n in range(450)]
    desk.takes_parts = False
    await desk.tell(inline_history_sync(pb.HistorySync(pushnames=names).SerializeToString()))
    async with trio.open_nursery() as nursery:
        desk.downloads.begin(nursery)
        for count in (1, 2, 3):
            await desk.until(partial(lambda n: len(desk.got) >= n, count))
            # The next one waits until this one is stored.
            await trio.sleep(0.02)
            assert len(desk.got) == count
            desk.downloads.kept()
    assert [part.is_last for part in desk.got] == [False, False, True]
    assert [item.name for item in desk.items if isinstance(item, PushName)] == [
        f"Bob {n}" for n in range(450)
    ]


async def test_part_that_nobody_takes_is_tried_again_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "KEPT_WITHIN_S", 0.05)
    names = [pb.Pushname(id=str(NUMBER), pushname=f"Bob {n}") for n in range(450)]
    desk.takes_parts = False
    await desk.work(inline_history_sync(pb.HistorySync(pushnames=names).SerializeToString()))
    waiting = await desk.waiting()
    assert waiting is not None
    assert (waiting.attempts, len(desk.got)) == (1, 1)


# --- what is to be fetched ---


async def test_history_is_fetched_checked_and_read(desk: Desk) -> None:
    async with serving(MediaServer(ok(BLOB))) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    (head,) = server.heads
    lines = head.decode().split("\r\n")
    assert lines[0].startswith("GET /v/t62?oh=1&hash=")
    assert lines[0].endswith("&mms-type=md-msg-hist&__wa-mms= HTTP/1.1")
    assert f"host: 127.0.0.1:{server.port}" in (line.lower() for line in lines)
    assert "accept-encoding: identity" in (line.lower() for line in lines)
    assert desk.items == [NAMED]


async def test_blob_is_never_decrypted_to_disk_and_leaves_no_file(
    desk: Desk, tmp_path: Path
) -> None:
    media = Media(public_only=False, spool=tmp_path)
    desk.downloads._media = media
    async with serving(MediaServer(ok(BLOB))) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    assert desk.items == [NAMED]
    assert list(tmp_path.iterdir()) == []


async def test_https_checks_whose_certificate_it_is(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serving(MediaServer(ok(BLOB)), context) as server:
        url = f"https://127.0.0.1:{server.port}"
        await at(desk, url).work(history_sync_at(FILE))
        assert (desk.items, server.heads) == ([], [])
        trusting = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr(downloads, "client_tls", lambda: trusting)
        await desk.work(history_sync_at(FILE), history_sync_at(FILE))
    assert desk.items == [NAMED]


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_device_with_a_proxy_fetches_through_it_alone(desk: Desk, kind: str) -> None:
    def nobody(host: bytes | None, *_: object) -> list[Address]:
        raise AssertionError(f"{host!r} was looked up here")

    proxy = RecordingProxy()
    async with serving(MediaServer(ok(BLOB))) as server, listening(proxy):
        proxy.hosts["media.test"] = ("127.0.0.1", server.port)
        desk.route = Route("ws://nowhere", parse_proxy(proxy.url(kind)), True)
        async with resolving(look_up=nobody):
            # The proxy resolves the name, so its address is not ours to judge.
            await at(desk, "http://media.test", public_only=True).work(history_sync_at(FILE))
    assert proxy.tunnels == [("media.test", 80)]
    assert desk.items == [NAMED]


async def test_proxy_that_is_set_while_it_dials_is_gone_through(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = RecordingProxy()
    async with serving(MediaServer(ok(BLOB))) as server, listening(proxy):
        proxied = Route("ws://nowhere", parse_proxy(proxy.url("http")), True)

        async def dial_and_set(route: Route) -> trio.SocketStream:
            stream = await connector.open_stream(route)
            desk.route = proxied
            return stream

        monkeypatch.setattr(downloads, "open_stream", dial_and_set)
        await at(desk, server.url).work(history_sync_at(FILE))
    assert len(proxy.tunnels) == len(server.heads) == 1


# --- who answers wrongly ---


WRONG = {
    "another blob": ok(sealed(b"\x0a\x00")[0]),
    "flipped bit": ok(BLOB[:-1] + bytes((BLOB[-1] ^ 1,))),
    "cut off": ok(BLOB)[:-1],
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "server error": b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
    "encoded": ok(BLOB, "content-encoding: gzip"),
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
async def test_wrong_answer_is_used_for_nothing_and_tried_again(desk: Desk, answer: bytes) -> None:
    async with serving(MediaServer(answer)) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    assert (desk.got, desk.given_up) == ([], [])
    waiting = await desk.waiting()
    assert waiting is not None
    assert (waiting.attempts, waiting.due_at) == (1, NOON + timedelta(seconds=PATIENCE_S[0]))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(desk: Desk, status: int) -> None:
    """T-44: whoever answers 3xx has not answered."""
    elsewhere = MediaServer(ok(BLOB))
    async with serving(elsewhere), serving(MediaServer()) as server:
        head = f"HTTP/1.1 {status} Moved\r\nlocation: {elsewhere.url}/v\r\ncontent-length: 0\r\n"
        server.answer = f"{head}\r\n".encode()
        await at(desk, server.url).work(history_sync_at(FILE))
    assert (elsewhere.heads, desk.got) == ([], [])


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_blob_that_is_gone_is_given_up_at_once(desk: Desk, status: int) -> None:
    answer = f"HTTP/1.1 {status} Gone\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(MediaServer(answer)) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    assert desk.given_up == [f"HTTP {status}"]
    assert await desk.waiting() is None


@pytest.mark.parametrize("framing", ["told", "chunked", "until the end"])
async def test_blob_that_is_too_long_is_read_no_further(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    """T-45: a body that does not end costs its limit, and no more."""
    monkeypatch.setattr(downloads, "MAX_BLOB_LEN", 100_000)
    body = bytes(1_000_000)
    head = {
        "told": f"content-length: {len(body)}",
        "chunked": "transfer-encoding: chunked",
        "until the end": "connection: close",
    }[framing]
    if framing == "chunked":
        body = f"{len(body):x}\r\n".encode() + body
    answer = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body
    async with serving(MediaServer(answer)) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    assert (desk.given_up, desk.got) == (["too long"], [])


async def test_file_that_says_it_is_too_long_is_not_asked_for(desk: Desk) -> None:
    async with serving(MediaServer(ok(BLOB))) as server:
        long = replace(FILE, length=downloads.MAX_BLOB_LEN + 1)
        await at(desk, server.url).work(history_sync_at(long))
    assert (desk.given_up, server.heads) == (["too long"], [])


async def test_server_that_is_slow_for_ever_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-45: one byte now and then holds nobody beyond the deadline."""
    monkeypatch.setattr(downloads, "DOWNLOAD_S", 0.1)

    class Slow(MediaServer):
        async def serve(self, stream: trio.abc.Stream) -> None:
            with suppress(trio.BrokenResourceError):
                for byte in self.answer:
                    await stream.send_all(bytes((byte,)))
                    await trio.sleep(0.02)

    async with serving(Slow(ok(BLOB))) as server:
        await at(desk, server.url).work(history_sync_at(FILE))
    waiting = await desk.waiting()
    assert waiting is not None
    assert (waiting.attempts, desk.got) == (1, [])


async def test_nobody_at_the_address_is_tried_again_and_given_up_in_the_end(
    desk: Desk, clock: Clock
) -> None:
    await desk.tell(history_sync_at(FILE))
    for attempt, patience_s in enumerate(PATIENCE_S, 1):
        await desk_once(desk, clock)
        waiting = await desk.waiting()
        assert waiting is not None
        assert waiting.attempts == attempt
        assert waiting.due_at == clock.now + timedelta(seconds=patience_s)
        clock.now = waiting.due_at
    await desk_once(desk, clock)
    assert await desk.waiting() is None
    assert desk.given_up == ["unreachable: OSError"]


async def desk_once(desk: Desk, clock: Clock) -> None:
    """Work until the one notice is done or put off."""
    async with trio.open_nursery() as nursery:
        desk.downloads.begin(nursery)
        await desk.idle(clock.now)
        nursery.cancel_scope.cancel()


# --- where it may lead ---


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"],
     ["64:ff9b::7f00:1"], ["93.184.216.34", "127.0.0.1"]],
    ids=str,
)  # fmt: skip
async def test_host_that_leads_inside_is_not_dialled(desk: Desk, addresses: list[str]) -> None:
    """T-42, T-60: it is the resolved address that counts, and one inside refuses all."""
    dialled = await dials(desk, [addresses])
    assert (dialled, desk.got) == ([], [])
    waiting = await desk.waiting()
    assert waiting is not None
    assert waiting.attempts == 1


async def test_address_that_was_looked_at_is_the_one_that_is_dialled(desk: Desk) -> None:
    """T-43: a name that leads inside at a second look is looked up once."""
    dialled = await dials(desk, [["93.184.216.34"], ["127.0.0.1"]])
    assert dialled == ["93.184.216.34"]


async def dials(desk: Desk, answers: list[list[str]]) -> list[str]:
    """Let the name have these addresses, one answer after the other; returns what was dialled."""
    dialled: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        assert host == "mmg.whatsapp.test"
        return [(0, 0, 0, "", (address, port)) for address in answers.pop(0)]

    async def open_tcp_stream(address: str, port: int) -> trio.SocketStream:
        dialled.append(address)
        raise OSError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
        patch.setattr(trio, "open_tcp_stream", open_tcp_stream)
        url = "https://mmg.whatsapp.test"
        await at(desk, url, public_only=True).work(history_sync_at(FILE))
    return dialled


# --- many, and the end ---


async def test_a_few_devices_fetch_at_a_time(database: Database, tenant: Tenant) -> None:
    most = running = 0

    class Counting(MediaServer):
        async def serve(self, stream: trio.abc.Stream) -> None:
            nonlocal most, running
            running += 1
            most = max(most, running)
            await super().serve(stream)
            running -= 1

    async with serving(Counting(ok(BLOB), waits_s=0.05)) as server:
        media = Media(server.url, public_only=False)
        desks = []
        for number in range(3 * AT_A_TIME):
            made = await database.write(
                create_device, tenant.partner.id, tenant.user.id, f"device {number}"
            )
            desks.append(Desk(database, replace(tenant, device=made), media))
        async with trio.open_nursery() as nursery:
            for desk in desks:
                nursery.start_soon(desk.work, history_sync_at(FILE))
    assert all(desk.items == [NAMED] for desk in desks)
    assert most <= AT_A_TIME


async def test_work_that_is_stopped_begins_anew(desk: Desk) -> None:
    async with serving(MediaServer(ok(BLOB), waits_s=60.0)) as server:
        await at(desk, server.url).tell(history_sync_at(FILE))
        async with trio.open_nursery() as nursery:
            desk.downloads.begin(nursery)
            await desk.until(lambda: bool(server.heads))
            desk.downloads.stop()
            server.waits_s = 0.0
            desk.downloads.begin(nursery)
            await desk.idle()
        assert desk.items == [NAMED]
        assert len(server.heads) == 2


async def test_notice_that_comes_while_another_is_put_off_is_read_at_once(desk: Desk) -> None:
    await desk.tell(history_sync_at(FILE), "3EBA")
    async with trio.open_nursery() as nursery:
        desk.downloads.begin(nursery)
        await desk.idle()
        await desk.tell(inline_history_sync(HISTORY_BYTES), "3EBB")
        desk.downloads.begin(nursery)
        await desk.until(lambda: bool(desk.items))
        nursery.cancel_scope.cancel()
    waiting = await desk.waiting()
    assert waiting is not None
    assert waiting.attempts == 1

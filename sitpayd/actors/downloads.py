"""Downloads: the notices of one device's phone, fetched, read and handed to its actor.

A history comes with the notice or lies on WhatsApp's media servers. It is fetched through the
device's own proxy, from a host that we chose and at an address that was looked at: whoever sent the
notice chose the path alone. Nothing of it is used before all of it was checked, and it is read in
small steps in a thread, so that neither memory nor the event loop feels it. What was read goes to
the actor in parts, through its mailbox: it alone touches sessions. A part is stored before the next
one is sent, and with the last one the notice is gone; whatever fails begins anew from the notice.

Source: whatsmeow download.go; Baileys lib/Utils/messages-media.js.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final, TypeVar
from urllib.parse import urlsplit

import h11
import trio

from sitpayd.actors.connector import (
    ProxyRefusedError,
    ProxyUnreachableError,
    Route,
    client_tls,
    open_stream,
)
from sitpayd.actors.messages import HistoryPart
from sitpayd.actors.telling import is_wanted
from sitpayd.errors import SitpaydError, StorageError
from sitpayd.log import get_logger
from sitpayd.storage import phone
from sitpayd.storage.database import Database
from sitpayd.storage.phone import Waiting
from sitpayd.storage.records import utc_now
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.history import HistoryItem, inflated, read_history, read_mappings
from sitpayd.whatsapp.media import HISTORY, HISTORY_PATH, MediaFile, opened, request_target
from sitpayd.whatsapp.stanzas.content import HistorySync, LidMigration, PhoneNotice, parse_notice

# Bytes; the histories of large accounts come in pieces of some megabytes.
MAX_BLOB_LEN: Final = 128 * 1024 * 1024
MAX_HEAD_LEN: Final = 16 * 1024
CONNECT_S: Final = 20.0
DOWNLOAD_S: Final = 300.0
# How long the actor may take for a part; it may have much else to do.
KEPT_WITHIN_S: Final = 60.0
# Items in one part, and pieces of a history looked at in one step of the thread.
PART_LEN: Final = 200
STEP_PIECES: Final = 32
# Devices that fetch and read at a time, and threads they do it in.
AT_A_TIME: Final = 3
THREADS: Final = 2
# Between the attempts at a notice; after the last one it is given up.
PATIENCE_S: Final = (60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)

_CHUNK_LEN: Final = 64 * 1024
_ORIGIN: Final = "https://web.whatsapp.com"
# The media servers have deleted it, or never had it.
_GONE: Final = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)

_T = TypeVar("_T")

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Media:
    """Where media lie, and what all devices share in fetching them.

    Attributes:
        url: of the host; a scheme, a name and perhaps a port.
        public_only: whether its address has to be a public one.
        spool: where a blob is kept while it is read, still encrypted; None: where others do so.
    """

    url: str = "https://mmg.whatsapp.net"
    public_only: bool = True
    spool: Path | None = None
    turns: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(AT_A_TIME))
    threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(THREADS))


class MediaError(SitpaydError):
    """A file could not be fetched.

    Attributes:
        is_final: it will not be there later either.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Downloads:
    """What the phone of one device has told and nobody has read.

    Args:
        way: asked before each dial: through what the device goes.
        deliver: puts a message into the device's mailbox.
        given_up: told the reason when a notice is given up.
    """

    def __init__(
        self,
        database: Database,
        device_id: int,
        media: Media,
        way: Callable[[], Route],
        deliver: Callable[[HistoryPart], Awaitable[None]],
        given_up: Callable[[str], None],
    ) -> None:
        self._database = database
        self._device_id = device_id
        self._media = media
        self._way = way
        self._deliver = deliver
        self._given_up = given_up
        self._scope: trio.CancelScope | None = None
        self._kept = trio.Event()
        self._came = trio.Event()

    def begin(self, nursery: trio.Nursery) -> None:
        """Work on the notices; if that is under way, look at those that came since."""
        self._came.set()
        if self._scope is None or self._scope.cancel_called:
            self._scope = trio.CancelScope()
            nursery.start_soon(self._run, self._scope)

    def stop(self) -> None:
        """End the work: the device is not connected any more, or goes another way."""
        if self._scope is not None:
            self._scope.cancel()

    def kept(self) -> None:
        """The actor has taken the last part: it is stored."""
        self._kept.set()

    async def _run(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while (waiting := await self._next()) is not None:
                    async with self._media.turns:
                        await self._attempt(waiting)
        except StorageError as error:
            # Begun anew when the device connects, or with the next notice.
            _log.warning("history.failed", device_id=self._device_id, error=str(error))
        finally:
            if self._scope is scope:
                self._scope = None

    async def _next(self) -> Waiting | None:
        """Wait for the next notice that is due; None: there is none."""
        while True:
            self._came = trio.Event()
            waiting = await self._database.read(phone.next_notice, self._device_id)
            if waiting is None and not self._came.is_set():
                return None
            wait_s = 0.0 if waiting is None else (waiting.due_at - utc_now()).total_seconds()
            if waiting is not None and wait_s <= 0.0:
                return waiting
            # One that comes meanwhile is due at once.
            with trio.move_on_after(wait_s):
                await self._came.wait()

    async def _attempt(self, waiting: Waiting) -> None:
        try:
            notice = parse_notice(waiting.notice)
            if is_wanted(notice):
                await self._read(waiting, notice)
            else:
                await self._forget(waiting)
            return
        except MediaError as error:
            reason, is_final = str(error), error.is_final
        except RemoteProtocolError as error:
            # What came with the notice, or was checked, is no better at the next look.
            reason, is_final = str(error), True
        except trio.TooSlowError:
            reason, is_final = "too slow", False
        await self._failed(waiting, reason, is_final=is_final)

    async def _failed(self, waiting: Waiting, reason: str, *, is_final: bool) -> None:
        attempts = waiting.attempts + 1
        ends = is_final or attempts > len(PATIENCE_S)
        _log.warning(
            "history.given_up" if ends else "history.unreachable",
            device_id=self._device_id,
            attempts=attempts,
            error=reason,
        )
        if ends:
            await self._forget(waiting)
            self._given_up(reason)
        else:
            delay = timedelta(seconds=PATIENCE_S[attempts - 1])
            await self._database.write(phone.put_off, self._device_id, waiting.id, delay)

    async def _forget(self, waiting: Waiting) -> None:
        await self._database.write(phone.forget_notice, self._device_id, waiting.id)

    async def _read(self, waiting: Waiting, notice: PhoneNotice) -> None:
        match notice:
            case LidMigration(payload=payload):
                await self._hand_over(waiting, read_mappings(inflated([payload])))
            case HistorySync(inline=bytes(inline)):
                await self._hand_over(waiting, read_history(inflated([inline])))
            case HistorySync(file=file):
                assert file is not None
                await self._read_file(waiting, file)

    async def _read_file(self, waiting: Waiting, file: MediaFile) -> None:
        if file.length > MAX_BLOB_LEN:
            raise MediaError("too long", is_final=True)
        try:
            blob = await self._in_thread(partial(_spool, self._media.spool))
        except OSError as error:
            raise MediaError(f"no place to keep it: {type(error).__name__}") from error
        try:
            with trio.fail_after(DOWNLOAD_S):
                await self._fetch(file, blob)
            pieces = opened(partial(_pieces, blob), file, HISTORY, max_len=MAX_BLOB_LEN)
            # Apart from what follows: a blob that was damaged on its way may be whole next time.
            first = await self._checked(pieces)
            await self._hand_over(waiting, read_history(inflated(_chained(first, pieces))))
        finally:
            blob.close()

    async def _checked(self, pieces: Iterator[bytes]) -> bytes:
        """The first piece, which comes after all checks."""
        try:
            return await self._in_thread(partial(next, pieces, b""))
        except RemoteProtocolError as error:
            raise MediaError(str(error)) from error

    async def _hand_over(self, waiting: Waiting, lists: Iterator[list[HistoryItem]]) -> None:
        """Read on and give the actor part after part; each is stored before the next one."""
        items: list[HistoryItem] = []
        count, is_over, is_last = 0, False, False
        while not is_last:
            while len(items) < PART_LEN and not is_over:
                more, is_over = await self._in_thread(partial(_step, lists, PART_LEN))
                items += more
            part, items = items[:PART_LEN], items[PART_LEN:]
            is_last = is_over and not items
            await self._give(HistoryPart(waiting.id, tuple(part), is_last))
            count += len(part)
        _log.info("history.read", device_id=self._device_id, items=count)

    async def _give(self, part: HistoryPart) -> None:
        self._kept = trio.Event()
        with trio.fail_after(KEPT_WITHIN_S):
            await self._deliver(part)
            await self._kept.wait()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(work, limiter=self._media.threads)

    # --- HTTP ---

    async def _fetch(self, file: MediaFile, blob: IO[bytes]) -> None:
        """Download a blob into a file.

        Raises:
            MediaError: If that fails.
        """
        try:
            with trio.move_on_after(CONNECT_S) as connecting:
                stream: trio.abc.Stream = await self._open()
                async with stream:
                    parts = urlsplit(self._media.url)
                    if parts.scheme == "https":
                        stream = await _secured(stream, parts.hostname or "")
                    connecting.deadline = float("inf")
                    target = request_target(file, HISTORY_PATH)
                    await self._exchange(stream, parts.netloc, target, blob)
                    return
            raise MediaError("unreachable: nobody answers")
        except (ProxyUnreachableError, ProxyRefusedError) as error:
            raise MediaError(str(error)) from error
        except (OSError, UnicodeError, trio.BrokenResourceError) as error:
            raise MediaError(f"unreachable: {type(error).__name__}") from error
        except h11.RemoteProtocolError as error:
            raise MediaError("the media server does not speak HTTP") from error

    async def _open(self) -> trio.SocketStream:
        media = self._media
        while True:
            way = self._way()
            route = Route(media.url, way.proxy, way.allow_private_proxies, media.public_only)
            stream = await open_stream(route)
            if self._way() == way:
                return stream
            # A proxy was set meanwhile: not a byte of the device goes another way any more.
            await trio.aclose_forcefully(stream)

    async def _exchange(
        self, stream: trio.abc.Stream, host: str, target: str, blob: IO[bytes]
    ) -> None:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_LEN)
        request = h11.Request(
            method="GET",
            target=target,
            headers=[
                ("host", host),
                ("origin", _ORIGIN),
                ("referer", f"{_ORIGIN}/"),
                ("accept", "*/*"),
                # An encoded body could grow beyond any bound when it is decoded.
                ("accept-encoding", "identity"),
                ("connection", "close"),
            ],
        )
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        length = 0
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_CHUNK_LEN)))
                case h11.Response() as response:
                    _check_head(response)
                case h11.Data(data=data):
                    length += len(data)
                    if length > MAX_BLOB_LEN:
                        raise MediaError("too long", is_final=True)
                    await self._in_thread(partial(blob.write, bytes(data)))
                case h11.EndOfMessage():
                    return
                case h11.ConnectionClosed():
                    raise MediaError("the media server closed")


async def _secured(stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
    secure = trio.SSLStream(stream, client_tls(), server_hostname=host, https_compatible=True)
    await secure.do_handshake()
    return secure


def _check_head(response: h11.Response) -> None:
    """Take an answer that brings the file; 3xx is none: no redirect is followed."""
    if response.status_code != HTTPStatus.OK:
        raise MediaError(f"HTTP {response.status_code}", is_final=response.status_code in _GONE)
    for name, value in response.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            raise MediaError("the media server encodes")
        if name == b"content-length" and int(value) > MAX_BLOB_LEN:
            raise MediaError("too long", is_final=True)


def _spool(directory: Path | None) -> IO[bytes]:
    """A file that is gone with its descriptor, whatever happens."""
    return tempfile.TemporaryFile(dir=directory)


def _pieces(blob: IO[bytes]) -> Iterator[bytes]:
    blob.seek(0)
    while piece := blob.read(_CHUNK_LEN):
        yield piece


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _step(lists: Iterator[list[HistoryItem]], wanted: int) -> tuple[list[HistoryItem], bool]:
    """Read a little further; returns what that brought, and whether it was the end."""
    items: list[HistoryItem] = []
    for _ in range(STEP_PIECES):
        more = next(lists, None)
        if more is None:
            return items, True
        items += more
        if len(items) >= wanted:
            break
    return items, False

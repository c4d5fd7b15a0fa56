"""WebSocket: the client's end of one WebSocket, on a stream that is open already.

The protocol is the library's; its sockets are not used. They keep a task, a queue and several locks
per connection, and with thousands of idle devices those are most of what a device costs. Here who
asks for a message is who reads the stream, and who sends one writes it. So nothing is read while
nobody asks: what the server sends then stays in the buffers of the system.

A write that does not end, because it failed or was cancelled, leaves a truncated frame behind:
nothing is written after it. This is the only file of the daemon that imports websockets.
"""

from __future__ import annotations

from typing import Final

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Origin
from websockets.uri import parse_uri

from sitpayd.actors.connector import client_tls
from sitpayd.errors import SitpaydError

# Stanzas are small; what is longer comes in pieces.
RECEIVE_LEN: Final = 16 * 1024

_NORMAL: Final = 1000


class ClosedError(SitpaydError):
    """The connection is over.

    Attributes:
        code: what the server gave as the reason; None: it gave none.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"close code {code}")
        self.code = code


class UpgradeError(SitpaydError):
    """Whoever answered does not speak WebSocket with us.

    Attributes:
        status: of the HTTP answer; None: it was no answer, or a wrong one.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class WebSocket:
    """One open WebSocket; made by `open_websocket`.

    One task may receive while another one sends.
    """

    __slots__ = ("_is_torn", "_messages", "_part", "_protocol", "_stream", "_writing")

    def __init__(self, stream: trio.abc.Stream, protocol: ClientProtocol) -> None:
        """Only for `open_websocket`."""
        self._stream = stream
        self._protocol = protocol
        self._messages: list[bytes] = []
        self._part: bytearray | None = None
        self._writing: trio.Event | None = None
        self._is_torn = False

    async def receive(self) -> bytes:
        """Wait for the next binary message; text is skipped.

        Raises:
            ClosedError: If the connection is over and everything before its end was received.
        """
        while not self._messages:
            if self._is_torn or self._protocol.state is not State.OPEN:
                raise self._closed()
            await self._read()
        return self._messages.pop(0)

    async def send(self, data: bytes) -> None:
        """Write one binary message.

        Raises:
            ClosedError: If the connection is over.
        """
        if self._is_torn or self._protocol.state is not State.OPEN:
            raise self._closed()
        self._protocol.send_binary(data)
        await self._write()

    async def aclose(self) -> None:
        """Say goodbye and wait until the server has closed; the caller brings the deadline."""
        try:
            if not self._is_torn and self._protocol.state is State.OPEN:
                self._protocol.send_close(_NORMAL)
                await self._write()
            while not self._is_torn and self._protocol.state is not State.CLOSED:
                await self._read()
        except ClosedError:
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _upgrade(self) -> None:
        await self._write()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            await self._read()
        refusal = self._protocol.handshake_exc
        if isinstance(refusal, InvalidStatus):
            status = refusal.response.status_code
            raise UpgradeError(f"HTTP {status}", status)
        if isinstance(refusal, InvalidHandshake):
            raise UpgradeError(type(refusal).__name__)
        if refusal is not None or self._protocol.state is not State.OPEN:
            raise UpgradeError("no answer")

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_LEN)
        except trio.BrokenResourceError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        # Answers to pings, and to a close.
        await self._write()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY and frame.fin:
            self._messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.BINARY:
            self._part = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._part is not None:
            self._part += frame.data
            if frame.fin:
                self._messages.append(bytes(self._part))
                self._part = None

    async def _write(self) -> None:
        """Write what the protocol has to say."""
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return  # a reader with nothing to say does not wait for a writer that is stuck
        while self._writing is not None:
            await self._writing.wait()
        if self._is_torn:
            raise self._closed()
        self._writing, is_whole = trio.Event(), False
        try:
            await self._stream.send_all(data)
            is_whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._closed() from None
        finally:
            self._is_torn = not is_whole
            self._writing.set()
            self._writing = None

    def _closed(self) -> ClosedError:
        told = self._protocol.close_rcvd
        return ClosedError(None if told is None else told.code)


async def open_websocket(
    stream: trio.abc.Stream, url: str, *, origin: str, user_agent: str, max_len: int
) -> WebSocket:
    """Ask for a WebSocket over a stream; the caller brings the deadline, and closes the stream.

    Args:
        url: `wss` begins with a TLS handshake and checks the certificate.
        max_len: bytes; a longer message ends the connection.

    Raises:
        UpgradeError: If the answer is not the one that was asked for, or the URL is none.
        ClosedError: If the connection ends instead.
        trio.BrokenResourceError: If the TLS handshake fails; the cause says why.
    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise UpgradeError("not the URL of a WebSocket") from error
    if uri.secure:
        stream = trio.SSLStream(
            stream, client_tls(), server_hostname=uri.host, https_compatible=True
        )
        await stream.do_handshake()
    protocol = ClientProtocol(uri, origin=Origin(origin), max_size=max_len)
    request = protocol.connect()
    request.headers["User-Agent"] = user_agent
    protocol.send_request(request)
    websocket = WebSocket(stream, protocol)
    await websocket._upgrade()
    return websocket

"""Runs a third-party WhatsApp client as a child process and speaks JSON lines with it.

Here: the protocol of the drivers, their events as values, and the life of the process. Not here:
how a client is installed and started (`baileys.py`, `whatsmeow.py`, `rust.py`), and what the client
does with our orders (`baileys/driver.mjs`, `whatsmeow/main.go`, `rust/src/main.rs`).

One JSON object per line. Orders go to stdin: `{"request", "command", ...}` with the commands
`connect`, `pair_code` (`phone`, once a QR code was shown), `send` (`to`, `text`), `presence`
(`state`), `subscribe` (`to`), `typing` (`to`, `state`), `read` (`to`, `id`), `logout` (of the
phone's companions), `close` (ends the socket, logs out of nothing) and `quit`. Each is answered on
stdout by `{"event": "answer", "request", "value", "error"}`. All other lines of stdout are the
events below, by the names in `_EVENTS` and with the fields of their class. Logs go to stderr, which
is kept as `driver.log` beside the client's keys; PEER_LOG_LEVEL=trace makes them tell all.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import BinaryIO, Self, TypeVar

import trio

QUIT_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Ready:
    """The driver runs."""

    library: str
    version: str


@dataclass(frozen=True, slots=True)
class QrShown:
    """The client shows this text as a QR code."""

    text: str


@dataclass(frozen=True, slots=True)
class Registered:
    """Pairing succeeded; the client knows its own addresses."""

    jid: str
    lid: str


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection is `connecting`, `open` (logged in) or `close`."""

    state: str
    status_code: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A text was received and decrypted; `participant` only in groups."""

    id: str
    chat: str
    from_me: bool
    text: str
    participant: str | None


@dataclass(frozen=True, slots=True)
class Undecryptable:
    """A message came that the client could not decrypt."""

    id: str
    chat: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A message sent by the client is `server_ack`, `delivered`, `read`, `error`, ..."""

    id: str
    status: str
    participant: str | None


@dataclass(frozen=True, slots=True)
class PresenceShown:
    """Somebody is online, or is no more. Baileys calls `available`, too, who types no more."""

    chat: str
    available: bool


@dataclass(frozen=True, slots=True)
class ChatStateShown:
    """Somebody is `composing` or `recording`, or has `paused`."""

    chat: str
    state: str


@dataclass(frozen=True, slots=True)
class ErrorReported:
    """The client or its driver has run into something unexpected."""

    text: str


@dataclass(frozen=True, slots=True)
class _Answer:
    request: int
    value: str | None
    error: str | None


Event = (
    Ready
    | QrShown
    | Registered
    | ConnectionChanged
    | MessageReceived
    | Undecryptable
    | StatusChanged
    | PresenceShown
    | ChatStateShown
    | ErrorReported
    | _Answer
)
E = TypeVar("E", bound=Event)

_EVENTS: dict[str, type[Event]] = {
    "ready": Ready,
    "qr": QrShown,
    "registered": Registered,
    "connection": ConnectionChanged,
    "message": MessageReceived,
    "undecryptable": Undecryptable,
    "status": StatusChanged,
    "presence": PresenceShown,
    "chat_state": ChatStateShown,
    "error": ErrorReported,
    "answer": _Answer,
}


class PeerError(Exception):
    """The client refused an order, or its process has ended."""


def _any(_: object) -> bool:
    return True


def _open_log(auth_dir: Path) -> BinaryIO:
    auth_dir.mkdir(parents=True, exist_ok=True)
    return (auth_dir / "driver.log").open("ab")


class Peer:
    """A running client; made by `start` of its subclasses.

    Attributes:
        history: every event so far, oldest first.
    """

    def __init__(self, process: trio.Process, log_path: Path) -> None:
        self.history: list[Event] = []
        self._process = process
        self._log_path = log_path
        self._waiting: list[Event] = []
        self._changed = trio.Event()
        self._ended = False
        self._requests = 0

    @property
    def pid(self) -> int:
        """The process id of the driver."""
        return self._process.pid

    async def wait_for(self, kind: type[E], predicate: Callable[[E], bool] = _any) -> E:
        """Take the oldest event of this kind that fulfils the predicate, waiting for it if need be.

        An event is taken once: waiting again for the same means another one. The deadline is the
        caller's.

        Raises:
            PeerError: If the process has ended and no such event is left.
        """
        while True:
            for index, event in enumerate(self._waiting):
                if isinstance(event, kind) and predicate(event):
                    del self._waiting[index]
                    return event
            if self._ended:
                raise PeerError(f"the client has ended; {self._log_path} says why")
            await self._changed.wait()

    def seen(self, kind: type[E], predicate: Callable[[E], bool] = _any) -> list[E]:
        """List the events of this kind so far that fulfil the predicate, taken or not."""
        return [event for event in self.history if isinstance(event, kind) and predicate(event)]

    async def connect(self) -> None:
        """Begin to connect; events tell the rest."""
        await self._order("connect")

    async def pair_code(self, phone: str) -> str:
        """Ask for a pairing code for this number; to be called once a QR code was shown."""
        code = await self._order("pair_code", phone=phone)
        assert code is not None, "the driver answers `pair_code` with the code"
        return code

    async def send(self, to: str, text: str) -> str:
        """Send a text to a JID and return the WhatsApp message id."""
        message_id = await self._order("send", to=to, text=text)
        assert message_id is not None, "the driver answers `send` with an id"
        return message_id

    async def appear(self, *, available: bool) -> None:
        """Tell whether we are online."""
        await self._order("presence", state="available" if available else "unavailable")

    async def subscribe(self, to: str) -> None:
        """Ask to be told whether somebody is online."""
        await self._order("subscribe", to=to)

    async def type(self, to: str, state: str) -> None:
        """Show somebody that we are `composing`, `recording`, or have `paused`."""
        await self._order("typing", to=to, state=state)

    async def read(self, chat: str, message_id: str) -> None:
        """Tell the sender of a message that it was read."""
        await self._order("read", to=chat, id=message_id)

    async def log_out(self) -> None:
        """Take ourselves off the list of the phone's companions."""
        await self._order("logout")

    async def close(self) -> None:
        """End the connection and stay paired."""
        await self._order("close")

    async def quit(self) -> None:
        """End the process in an orderly way; what it has learnt is on disk afterwards."""
        await self._order("quit")
        await self._process.wait()

    async def _order(self, command: str, **arguments: str) -> str | None:
        self._requests += 1
        request = self._requests
        line = json.dumps({"request": request, "command": command, **arguments})
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line.encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerError(f"the client has ended; {self._log_path} says why") from error
        answer = await self.wait_for(_Answer, lambda answer: answer.request == request)
        if answer.error is not None:
            raise PeerError(f"{command}: {answer.error}")
        return answer.value

    async def _read(self) -> None:
        assert self._process.stdout is not None
        pending = b""
        async for chunk in self._process.stdout:
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                fields = json.loads(line)
                event = _EVENTS[fields.pop("event")](**fields)
                self.history.append(event)
                self._waiting.append(event)
            self._notify()
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _leave(self) -> None:
        """See the process out: by closing its stdin, and by killing it if that does not help."""
        assert self._process.stdin is not None
        with trio.move_on_after(QUIT_GRACE_S, shield=True):
            await self._process.stdin.aclose()
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            # No deadline on purpose: nothing survives SIGKILL, and who is not awaited is a zombie.
            with trio.CancelScope(shield=True):
                await self._process.wait()

    @classmethod
    @asynccontextmanager
    async def _run(cls, argv: Sequence[str], auth_dir: Path) -> AsyncGenerator[Self]:
        """Start the driver, wait until it is ready, and end it with the block."""
        with _open_log(auth_dir) as log:
            process = await trio.lowlevel.open_process(argv, stdin=PIPE, stdout=PIPE, stderr=log)
        peer = cls(process, Path(log.name))
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(peer._read)
                await peer.wait_for(Ready)
                yield peer
            finally:
                await peer._leave()
                nursery.cancel_scope.cancel()

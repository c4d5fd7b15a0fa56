"""`sitpayd devices --watch`: the table, drawn again with every change, from the live feed.

`Board` keeps what the feed tells; `watch` draws it. When the feed is lost the table says so, grows
old in sight, and the feed is taken up again where it was left.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sitpayd.errors import ConfigurationError, SitpaydError
from sitpayd.terminal.client import ADMIN_KEY_HEADER, Access, DaemonClient
from sitpayd.terminal.screen import Colour, Paint, age, fit
from sitpayd.terminal.table import device_lines, summary
from sitpayd.terminal.views import AnswerError, DeviceView, Json, optional
from sitpayd.terminal.views import field as told_field
from sitpayd.terminal.wanted import Wanted

# Ages grow even where nothing happens.
REDRAW_S: Final = 1.0
# Changes that come together are drawn together.
GATHER_S: Final = 0.2
# The feed tells changes, and a pong is none: how old the proofs on the screen are is asked.
PROOFS_EACH_S: Final = 5.0
MAX_PROOFS: Final = 200
# Heartbeats come every 10 s: this much silence means that the daemon, or the way to it, is gone.
SILENCE_S: Final = 25.0
RETRY_S: Final = 2.0
OPEN_WITHIN_S: Final = 10.0
# A part of a snapshot is some 100 KiB.
MAX_MESSAGE_LEN: Final = 4 * 1024 * 1024

# Source: ECMA-48; the alternate screen is xterm's.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_END_OF_LINE: Final = "\x1b[K"
_END_OF_SCREEN: Final = "\x1b[J"


@dataclass(slots=True)
class Board:
    """What the feed has told so far.

    Attributes:
        cursor: where to go on after the feed was lost; None: at the beginning.
    """

    wanted: Wanted
    cursor: str | None = None
    _devices: dict[str, DeviceView] = field(default_factory=dict)
    _coming: dict[str, DeviceView] = field(default_factory=dict)

    def take(self, told: Json) -> None:
        """Take in one message of the feed.

        Raises:
            AnswerError: If it has not the shape we know.
        """
        cursor = optional(told, "cursor", str)
        match told.get("type"):
            case "snapshot" | "more" as kind:
                if kind == "snapshot":
                    self._coming = {}
                devices = map(DeviceView.parse, told_field(told, "devices", list))
                self._coming.update((device.session_id, device) for device in devices)
                if not told.get("more"):
                    # Not before its last part: half a fleet would look like a catastrophe.
                    self._devices = self._coming
            case "status":
                device = DeviceView.parse(told_field(told, "device", dict))
                self._devices[device.session_id] = device
            case "removed" | "left":
                self._devices.pop(told_field(told, "session_id", str), None)
            case _:
                pass  # a heartbeat, the word that we go on, or that a new snapshot comes
        if cursor is not None:
            self.cursor = cursor

    def renew(self, device: DeviceView) -> None:
        """Take in what was asked of a device, unless it is gone meanwhile."""
        if device.session_id in self._devices:
            self._devices[device.session_id] = device

    @property
    def devices(self) -> list[DeviceView]:
        """The devices wanted, trouble first."""
        wanted = (device for device in self._devices.values() if self.wanted.takes(device))
        return sorted(wanted, key=lambda device: device.rank)


def watch(access: Access, wanted: Wanted) -> int:
    """Draw until interrupted.

    Raises:
        ConfigurationError: If the admin key is missing or not the daemon's.
    """
    if access.admin_key is None:
        raise ConfigurationError("no admin key: set SITPAYD_ADMIN_KEY")
    board, screen = Board(wanted), _Screen(access.url)
    with screen.taken(), DaemonClient(access) as daemon:
        while True:
            try:
                with _feed(access, board) as socket:
                    screen.lost_at = None
                    _follow(socket, daemon, board, screen)
            except InvalidStatus as error:
                status = error.response.status_code
                if status == 401:
                    raise ConfigurationError("the daemon does not take this admin key") from None
                if status == 400:
                    raise ConfigurationError("the daemon knows no such status or partner") from None
                screen.lost(f"it answers {status}")
            except ConnectionClosed:
                screen.lost("it closed the feed")
            except TimeoutError:
                screen.lost("it is silent")
            except (OSError, InvalidHandshake) as error:
                screen.lost(getattr(error, "strerror", None) or "it cannot be reached")
            screen.draw(board.devices)
            time.sleep(RETRY_S)


def _feed(access: Access, board: Board) -> ClientConnection:
    query = {name: board.wanted.query.get(name) for name in ("partner", "status")}
    query["after"] = board.cursor
    asked = urlencode({name: value for name, value in query.items() if value})
    return connect(
        f"{access.feed_url}?{asked}" if asked else access.feed_url,
        additional_headers={ADMIN_KEY_HEADER: access.admin_key or ""},
        open_timeout=OPEN_WITHIN_S,
        close_timeout=1.0,
        max_size=MAX_MESSAGE_LEN,
        compression=None,
        proxy=None,
    )


def _follow(socket: ClientConnection, daemon: DaemonClient, board: Board, screen: _Screen) -> None:
    """Draw what comes, until the feed ends or falls silent."""
    heard_at = asked_at = time.monotonic()
    while True:
        try:
            told = _parsed(socket.recv(timeout=REDRAW_S))
        except TimeoutError:
            if time.monotonic() - heard_at > SILENCE_S:
                raise
        else:
            board.take(told)
            for more in _at_hand(socket):
                board.take(more)
            heard_at = time.monotonic()
        if time.monotonic() - asked_at >= PROOFS_EACH_S:
            _renew_proofs(daemon, board, screen.shown)
            asked_at = time.monotonic()
        screen.draw(board.devices)


def _renew_proofs(daemon: DaemonClient, board: Board, shown: list[str]) -> None:
    if not shown:
        return
    try:
        told = daemon.get("/admin/devices", {"ids": ",".join(shown[:MAX_PROOFS])})
    except SitpaydError:
        return  # the feed says it, if the daemon is gone
    for device in told_field(told, "devices", list):
        board.renew(DeviceView.parse(device))


def _at_hand(socket: ClientConnection) -> Iterator[Json]:
    """What comes within the moment: a storm of changes is drawn ten times a second."""
    ends_at = time.monotonic() + GATHER_S
    while (left := ends_at - time.monotonic()) > 0:
        try:
            yield _parsed(socket.recv(timeout=left))
        except TimeoutError:
            return


def _parsed(message: str | bytes) -> Json:
    try:
        told = json.loads(message)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise AnswerError("the feed is not sitpayd's")
    return told


class _Screen:
    """The terminal while it is drawn on.

    Attributes:
        lost_at: when the feed was lost; None: it is there.
        shown: session ids of the devices that stand there.
    """

    def __init__(self, url: str) -> None:
        self.lost_at: datetime | None = None
        self.shown: list[str] = []
        self._why = ""
        self._url = url
        self._paint = Paint(sys.stdout)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Draw on a screen of our own, and leave the old one as it was."""
        sys.stdout.write(_ENTER)
        try:
            yield
        finally:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()

    def lost(self, why: str) -> None:
        """Note that the feed is gone."""
        self.lost_at, self._why = self.lost_at or datetime.now(UTC), why

    def draw(self, devices: list[DeviceView]) -> None:
        """Draw it all."""
        size = shutil.get_terminal_size()
        self.shown = [device.session_id for device in devices[: size.lines]]
        heading = self._heading(bool(devices))
        lines = watch_lines(
            devices, datetime.now(UTC), size.columns, size.lines, heading, self._paint
        )
        sys.stdout.write(_HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines[:-1]))
        sys.stdout.write(lines[-1] + _END_OF_LINE + _END_OF_SCREEN)
        sys.stdout.flush()

    def _heading(self, shows_any: bool) -> tuple[Colour, str]:
        now = datetime.now(UTC)
        if self.lost_at is None:
            return Colour.GOOD, f"live from {self._url}, {now:%H:%M:%S} UTC"
        ago = age(self.lost_at, now)
        what_was = " What was:" if shows_any else ""
        return Colour.BAD, f"LOST {self._url} {ago} ago: {self._why}; trying again.{what_was}"


def watch_lines(
    devices: Iterable[DeviceView],
    now: datetime,
    columns: int,
    height: int,
    heading: tuple[Colour, str],
    paint: Paint,
) -> list[str]:
    """Draw a screen of `height` lines: whether it is live, the sum, as many devices as fit."""
    shown = list(devices)
    colour, text = heading
    lines = [
        paint(colour, fit(text, columns)),
        fit(summary(Counter(device.status for device in shown)), columns),
        "",
    ]
    room = max(1, height - len(lines) - 2)  # below the table's heading, above the last line
    if shown:
        lines += device_lines(shown[:room], now, columns, paint)
    hidden = len(shown) - room
    last = f"and {hidden} more; --status and --search show fewer. " if hidden > 0 else ""
    return [*lines, paint(Colour.QUIET, fit(f"{last}Ctrl-C leaves", columns))]

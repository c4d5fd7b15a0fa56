"""Against a server that speaks HTTP, on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from websockets.sync.server import serve

from sitpayd.settings import Settings
from sitpayd.terminal.findings import State
from sitpayd.terminal.reach import clock, whatsapp
from tests.support.daemon import free_port
from tests.terminal.builders import NOW


class Refusing(BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Refuse."""
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(shutdown: Callable[[], None], forever: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=forever)
    thread.start()
    try:
        yield
    finally:
        shutdown()
        thread.join()


def settings(port: int) -> Settings:
    return Settings(whatsapp_url=f"ws://127.0.0.1:{port}/ws/chat")


def test_open_door_is_found_open_and_nothing_is_said_there() -> None:
    heard: list[object] = []
    with serve(lambda socket: heard.extend(socket), "127.0.0.1", 0) as server:
        port = server.socket.getsockname()[1]
        with serving(server.shutdown, server.serve_forever):
            found = whatsapp(settings(port))

    assert [(finding.check, finding.state) for finding in found] == [
        ("dns", State.OK),
        ("whatsapp", State.OK),
        ("clock", State.OK),
    ]
    assert heard == []


def test_refused_upgrade_is_told_with_its_status() -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server,
        serving(server.shutdown, server.serve_forever),
    ):
        found = whatsapp(settings(server.server_port))

    assert (found[1].state, "HTTP 403" in found[1].found) == (State.FAIL, True)
    # Whoever refuses tells the time all the same.
    assert found[2].check == "clock"


def test_closed_port_fails() -> None:
    found = whatsapp(settings(free_port()))

    assert (found[-1].check, found[-1].state) == ("whatsapp", State.FAIL)
    assert "Connection refused" in found[-1].found


def test_unknown_name_ends_the_look() -> None:
    found = whatsapp(Settings(whatsapp_url="ws://nobody.invalid/ws/chat"))

    assert [(finding.check, finding.state) for finding in found] == [("dns", State.FAIL)]


@pytest.mark.parametrize(
    ("ahead_s", "state"),
    [
        (0.5, State.OK),
        (4.0, State.OK),
        (8.0, State.WARN),
        (-5.0, State.WARN),
        (3600.0, State.FAIL),
    ],
)
def test_clock_is_held_against_the_answer(ahead_s: float, state: State) -> None:
    date = format_datetime(NOW - timedelta(seconds=ahead_s), usegmt=True)

    assert clock(date, NOW).state is state


@pytest.mark.parametrize("date", ["", "yesterday", "99:99"])
def test_time_that_is_none_is_no_verdict(date: str) -> None:
    assert clock(date, NOW).state is State.WARN

"""`devices --watch` against a feed of a few lines, on a terminal that is a string."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from sitpayd.errors import ConfigurationError
from sitpayd.terminal import watch as watching
from sitpayd.terminal.client import Access
from sitpayd.terminal.views import Json
from sitpayd.terminal.wanted import Wanted
from sitpayd.terminal.watch import watch
from tests.support.terminal import LEFT
from tests.terminal.builders import FakeTerminal, told_device
from tests.terminal.daemon import KEY

SNAPSHOT: Json = {"type": "snapshot", "cursor": "e-1", "seq": 1, "devices": [told_device()]}

Visit = Callable[[ServerConnection], None] | int


class FakeFeed:
    """A feed whose visits are written down beforehand; after the last one the key is refused.

    Attributes:
        visits: what becomes of each: a conversation, or an HTTP status.
        paths: where each went.
        device: what GET /admin/devices?ids= answers.
    """

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.paths: list[str] = []
        self.device = told_device()

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no WebSocket."""
        if request.path.startswith("/admin/devices"):
            return _answer(200, {"devices": [self.device]})
        self.paths.append(request.path)
        assert request.headers["x-admin-key"] == KEY
        visit = self.visits[0] if self.visits else 401
        if isinstance(visit, int):
            self.visits[:1] = []
            return _answer(visit, {})
        return None

    def talk(self, connection: ServerConnection) -> None:
        """Converse as it is written."""
        visit = self.visits.pop(0)
        assert not isinstance(visit, int)
        visit(connection)


def _answer(status: int, body: Json) -> Response:
    data = json.dumps(body).encode()
    headers = Headers({"content-length": str(len(data)), "connection": "close"})
    return Response(status, "", headers, data)


def saying(*messages: Json | str) -> Visit:
    """A feed that says this and closes."""

    def visit(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message if isinstance(message, str) else json.dumps(message))

    return visit


def mute(connection: ServerConnection) -> None:
    """A feed that says nothing until its reader leaves."""
    with pytest.raises(ConnectionClosed):
        connection.recv()


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeFeed, Access]]:
    """A feed, and the way to it; what is lost is tried again at once."""
    monkeypatch.setattr(watching, "RETRY_S", 0.0)
    monkeypatch.setattr(watching, "REDRAW_S", 0.01)
    monkeypatch.setattr(watching, "GATHER_S", 0.0)  # draws each message
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("NO_COLOR", "1")
    fake = FakeFeed()
    with serve(fake.talk, "127.0.0.1", 0, process_request=fake.admit) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield fake, Access(f"http://127.0.0.1:{server.socket.getsockname()[1]}", KEY)
        finally:
            server.shutdown()
            thread.join()


def frames(access: Access, monkeypatch: pytest.MonkeyPatch, wanted: Wanted | None = None) -> str:
    """Watch until the key is refused; returns all that was drawn."""
    terminal = FakeTerminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(ConfigurationError):
        watch(access, wanted or Wanted())
    return terminal.getvalue()


def test_feed_that_closes_is_told_as_lost_and_taken_up_where_it_was_left(
    feed: tuple[FakeFeed, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, access = feed
    changed = told_device(status="waiting", reason="network")
    fake.visits = [saying(SNAPSHOT, {"type": "status", "cursor": "e-2", "device": changed})]

    drawn = frames(access, monkeypatch, Wanted(status="waiting", partner="3"))

    assert f"live from {access.url}" in drawn
    assert "1 device: 1 waiting" in drawn
    assert "LOST" in drawn
    assert "it closed the feed; trying again. What was:" in drawn
    assert drawn.endswith(LEFT)
    assert fake.paths == [
        "/admin/feed?partner=3&status=waiting",
        "/admin/feed?partner=3&status=waiting&after=e-2",
    ]


def test_silent_feed_is_lost(
    feed: tuple[FakeFeed, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, access = feed
    monkeypatch.setattr(watching, "SILENCE_S", 0.05)
    fake.visits = [mute]

    assert "it is silent" in frames(access, monkeypatch)


@pytest.mark.parametrize(("status", "words"), [(503, "it answers 503"), (502, "it answers 502")])
def test_daemon_that_does_not_serve_is_asked_again(
    feed: tuple[FakeFeed, Access], monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    fake, access = feed
    fake.visits = [status]

    assert words in frames(access, monkeypatch)
    assert len(fake.paths) == 2


def test_question_that_makes_no_sense_ends_it(
    feed: tuple[FakeFeed, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, access = feed
    fake.visits = [400]
    frames(access, monkeypatch)

    assert len(fake.paths) == 1


def test_proofs_on_the_screen_are_asked_for(
    feed: tuple[FakeFeed, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed tells no pongs: without asking, a healthy device would seem to fall silent."""
    fake, access = feed
    monkeypatch.setattr(watching, "PROOFS_EACH_S", 0.0)
    now = datetime.now(UTC)
    old, new = (now - timedelta(days=9)).isoformat(), (now - timedelta(hours=5)).isoformat()
    fake.device = told_device(since=now.isoformat(), verified_at=new)
    before = told_device(since=now.isoformat(), verified_at=old)
    first = {**SNAPSHOT, "devices": [before]}
    heartbeat: Json = {"type": "heartbeat", "cursor": "e-1"}

    fake.visits = [saying(first, heartbeat)]
    drawn = frames(access, monkeypatch)

    assert drawn.index(" 9d") < drawn.index(" 5h")


def test_watching_without_a_key_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="SITPAYD_ADMIN_KEY"):
        watch(Access("http://127.0.0.1:1", None), Wanted())

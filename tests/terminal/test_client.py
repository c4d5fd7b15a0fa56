from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from sitpayd.errors import ConfigurationError, SitpaydError
from sitpayd.settings import Settings
from sitpayd.terminal.client import (
    Access,
    DaemonClient,
    RefusedError,
    UnreachableError,
    access_of,
)
from sitpayd.terminal.views import AnswerError, Json
from tests.terminal.builders import told_device

KEY = "k" * 32
HERE = Access("http://127.0.0.1:8080", KEY)


def answering(answer: httpx.Response | httpx.TransportError, access: Access = HERE) -> DaemonClient:
    """A client whose daemon gives one answer to everything."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, httpx.Response):
            return answer
        raise answer

    return DaemonClient(access, httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("10.0.0.7:80", "http://10.0.0.7:80"),
        ("localhost:8080", "http://localhost:8080"),
    ],
)
def test_daemon_is_where_it_listens(listen: str, url: str) -> None:
    assert access_of(Settings(listen=listen), None).url == url


def test_other_daemon_can_be_named() -> None:
    access = access_of(Settings(admin_key=SecretStr(KEY)), "https://robotics.example.com/")

    assert access.url == "https://robotics.example.com"
    assert access.feed_url == "wss://robotics.example.com/admin/feed"
    assert access.admin_key == KEY


def test_admin_key_is_not_in_what_is_printed_of_an_access() -> None:
    assert KEY not in repr(HERE)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://x", "http://", "http://u:p@x", "http://x/?k=1", "http://x:0"]
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--url"):
        access_of(Settings(), url)


def test_devices_are_asked_for_page_by_page() -> None:
    asked: list[dict[str, str]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        assert request.headers["x-admin-key"] == KEY
        name, following = ("wa_a", "wa_a") if len(asked) == 1 else ("wa_b", None)
        page: Json = {"devices": [told_device(session_id=name)], "counts": {}, "next": following}
        return httpx.Response(200, json=page)

    with DaemonClient(HERE, httpx.MockTransport(handle)) as client:
        told = client.devices({"status": "waiting"})["devices"]

    assert isinstance(told, list)
    assert [device["session_id"] for device in told] == ["wa_a", "wa_b"]
    assert [(query["status"], query["after"]) for query in asked] == [
        ("waiting", ""),
        ("waiting", "wa_a"),
    ]


def test_session_id_cannot_reach_another_route() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json={})

    with DaemonClient(HERE, httpx.MockTransport(handle)) as client:
        client.operate("../../x?y#z", "pause")

    assert asked == ["/admin/devices/..%2F..%2Fx%3Fy%23z/pause"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), UnreachableError, "reached: Conn"),
        (httpx.ReadTimeout("late"), UnreachableError, "does not answer in time"),
        (httpx.Response(200, text="<html>"), AnswerError, "not as sitpayd"),
        (httpx.Response(200, json=[]), AnswerError, "not as sitpayd"),
        (httpx.Response(502, text="<html>"), RefusedError, "answered 502"),
        (
            httpx.Response(409, json={"code": "device_banned", "message": "It is banned."}),
            RefusedError,
            "It is banned.",
        ),
        (httpx.Response(401, json={"code": "unauthorized"}), ConfigurationError, "not take this"),
    ],
)
def test_trouble_is_told_in_a_line(
    answer: httpx.Response | httpx.TransportError, error: type[SitpaydError], words: str
) -> None:
    with answering(answer) as client, pytest.raises(error, match=words) as raised:
        client.get("/x")

    assert "\n" not in str(raised.value)


def test_missing_admin_key_is_told_apart_from_a_wrong_one() -> None:
    refusal = httpx.Response(401, json={"code": "unauthorized"})
    with (
        answering(refusal, Access("http://x", None)) as client,
        pytest.raises(ConfigurationError, match="no admin key: set SITPAYD_ADMIN_KEY"),
    ):
        client.get("/x")

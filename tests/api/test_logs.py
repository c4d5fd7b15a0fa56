"""No secret reaches the log, whatever happens to a request."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
import trio

from sitpayd import log
from sitpayd.storage.vault import new_token
from tests.support.front import ADMIN_KEY, Front, Tenant
from tests.support.server import Served

TEXT = "a canary's song"
NUMBER = "919812345678"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that is logged."""
    stream = io.StringIO()
    hook = sys.excepthook
    log.configure("info", "text", stream)
    yield stream
    log.configure("info", "text")
    sys.excepthook = hook


async def test_no_secret_is_logged_whatever_happens(
    lines: io.StringIO, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = served.front
    tenant = await front.tenant()
    dead = new_token("dt")
    body = {"to": NUMBER, "message": TEXT}
    await front.send(tenant, TEXT, NUMBER)
    for path in (tenant.send_path, f"/wa/{dead}/send", f"/wa/{tenant.device_token}/nowhere"):
        for method in ("GET", "POST", "PUT"):
            await front.ask(method, path, b"x" * 70_000, tenant.headers)
            await front.ask(method, path, b"{", tenant.headers)
    await front.ask("GET", f"/partner/users/{tenant.user_token}/devices", headers=tenant.headers)
    await front.ask("GET", f"/partner/devices/{tenant.session_id}/qr", headers=tenant.headers)
    for route, asked in (
        ("check", {"numbers": [NUMBER, f"{NUMBER}1"]}),
        ("check", {"numbers": [NUMBER, "4915112345678"]}),
        ("typing", {"to": NUMBER, "state": "composing"}),
        ("typing", {"to": NUMBER, "state": NUMBER}),
        ("presence", {"presence": NUMBER}),
    ):
        await front.post(f"/wa/{tenant.device_token}/{route}", asked)

    async def fail(*_: object) -> object:
        raise RuntimeError(f"no row for {tenant.device_token}")

    monkeypatch.setattr(front.database, "write", fail)
    assert (await front.post(tenant.send_path, body)).status_code == 500
    # The caller leaves in the middle of a request.
    async with await served.connect() as stream:
        head = f"POST {tenant.send_path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n"
        await stream.send_all(head.encode() + b"{")
    await served.exchange(f"NONSENSE {tenant.send_path}\r\n\r\n".encode())
    logging.getLogger("hypercorn.error").error("lost %s", tenant.send_path)
    served.stop.set()
    await served.ended.wait()

    text = lines.getvalue()
    assert text.count("event=http.request") > 20
    for secret in (tenant.api_key, tenant.user_token, tenant.device_token, dead, ADMIN_KEY):
        assert secret not in text
        assert secret[3:] not in text
    assert TEXT not in text
    assert NUMBER not in text
    assert "ref" * 20 not in text


async def test_request_is_one_line_with_its_rule_and_public_ids(
    lines: io.StringIO, front: Front, tenant: Tenant
) -> None:
    lines.truncate(0)

    answer = await front.send(tenant)

    sent = await answer.get_json()
    (line,) = lines.getvalue().strip("\0").splitlines()
    for field in (
        "event=http.request",
        "method=POST",
        "/wa/<device_token>/send",
        "status=200",
        "seconds=0",
        f"session_id={tenant.session_id}",
        f"message_id={sent['message_id']}",
        f"request_id={answer.headers['x-request-id']}",
    ):
        assert field in line


async def test_hostile_names_stay_on_their_line(lines: io.StringIO, front: Front) -> None:
    hostile = "GET\x1b[31m\nlevel=error event=forged"

    await front.ask(hostile, "/partner/me\nx", headers={"user-agent": "a\x1b[31m"})

    for line in lines.getvalue().splitlines():
        assert line.startswith("at=20")
        assert line.isprintable()


async def test_unexpected_error_is_logged_with_its_request_and_told_as_internal(
    lines: io.StringIO, front: Front, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> object:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_raise)
        return None

    monkeypatch.setattr(front.database, "write", fail)

    answer = await front.send(tenant)

    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (500, "internal")
    assert "it broke" not in str(body)
    (line,) = [line for line in lines.getvalue().splitlines() if "api.failed" in line]
    assert "RuntimeError: it broke" in line
    assert body["request_id"] in line


async def _raise() -> None:
    raise RuntimeError("it broke")

"""The server on the wire: framing, protocols, deadlines, shutdown."""

from __future__ import annotations

import socket
from contextlib import suppress

import h2.connection
import h2.events
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sitpayd.api import gate, server
from sitpayd.api.server import open_listener, serve
from sitpayd.errors import ConfigurationError
from sitpayd.settings import Settings
from tests.support.front import Front, Tenant, open_front
from tests.support.server import Served, open_server, read_all, statuses

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
SMUGGLED = b"GET /partner/me HTTP/1.1\r\nhost: localhost\r\n\r\n"

PIECES = [
    b"GET /healthz HTTP/1.1\r\n",
    b"POST /wa/x/send HTTP/1.1\r\n",
    b"GET /admin/feed HTTP/1.1\r\n",
    b"HTTP/1.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"host: localhost\r\n",
    b"content-length: 4\r\n",
    b"transfer-encoding: chunked\r\n",
    b"expect: 100-continue\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"\r\n",
    b"4\r\n{}{}\r\n0\r\n\r\n",
    b"\x81\x05hello",
]


def post(tenant: Tenant, *headers: str, body: bytes = b"") -> bytes:
    """A raw send request."""
    lines = [
        f"POST {tenant.send_path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_plain_request_is_answered(served: Served) -> None:
    data = await served.exchange(GET)

    assert statuses(data) == [200]
    assert b"\r\nserver:" not in data.lower()
    assert b"\r\ndate:" in data.lower()


async def test_connection_is_kept_for_the_next_request(served: Served) -> None:
    data = await served.exchange(GET.replace(b"connection: close\r\n", b"") + GET)

    assert statuses(data) == [200, 200]


async def test_two_lengths_are_refused_and_nothing_behind_is_read(served: Served) -> None:
    tenant = await served.front.tenant()
    request = post(
        tenant, "content-length: 4", "transfer-encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED
    )

    assert statuses(await served.exchange(request)) == [400]


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
    ],
)
async def test_broken_head_is_refused_and_the_connection_closed(
    served: Served, head: bytes
) -> None:
    found = statuses(await served.exchange(head + SMUGGLED))

    assert found[0] in (400, 413, 421, 431, 501)
    assert len(found) == 1


async def test_peer_that_talks_into_a_refused_handshake_ends_only_itself(
    served: Served,
) -> None:
    """hypercorn lets an error out here, which would end every connection."""
    handshake = (
        b"GET /admin/feed HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
        b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with trio.fail_after(10):
        for _ in range(20):
            async with await served.connect() as stream:
                await stream.send_all(handshake + b"\x81\x05hello")
                await read_all(stream)

    assert statuses(await served.exchange(GET)) == [200]
    assert not served.ended.is_set()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=8), st.integers(0, 200))
def test_any_bytes_end_only_their_own_connection(pieces: list[bytes], cut: int) -> None:
    data = b"".join(pieces)

    async def run() -> list[int]:
        async with open_server() as served:
            async with await served.connect() as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data[:cut])
                    await trio.testing.wait_all_tasks_blocked()
                    await stream.send_all(data[cut:])
                    await stream.send_eof()
                    await read_all(stream)
            return statuses(await served.exchange(GET))

    assert trio.run(run) == [200]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("192.0.2.1:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:8080", 421),
        ("[", 421),
        ("", 421),
    ],
)
async def test_host_must_be_ours(served: Served, host: str, status: int) -> None:
    request = f"GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"

    assert statuses(await served.exchange(request.encode())) == [status]


async def test_old_client_need_not_name_a_host(served: Served) -> None:
    assert statuses(await served.exchange(b"GET /healthz HTTP/1.0\r\n\r\n")) == [200]


async def test_application_starts_and_stops_under_any_asgi_server(front: Front) -> None:
    async with front.app.test_app() as running:
        answer = await running.test_client().get("/healthz")

    assert answer.status_code == 200


async def test_public_host_is_ours(front: Front) -> None:
    for host, status in (("robotics.sitpay.in", 200), ("ROBOTICS.sitpay.in:443", 200)):
        answer = await front.ask("GET", "/healthz", headers={"host": host})
        assert answer.status_code == status


async def test_urls_come_from_the_settings_and_never_from_the_host(
    front: Front, tenant: Tenant
) -> None:
    answer = await front.ask(
        "GET",
        f"/partner/devices/{tenant.session_id}/status",
        headers={**tenant.headers, "host": "192.0.2.1", "x-forwarded-host": "evil.example"},
    )

    assert (await answer.get_json())["send_url"].startswith("https://robotics.sitpay.in/wa/")


async def test_offer_of_http2_is_answered_in_http1(served: Served) -> None:
    data = await served.exchange(
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings, close"
        b"\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    )

    assert data.startswith(b"HTTP/1.1 200")


async def test_http2_without_asking_reaches_nothing(served: Served) -> None:
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(
        1,
        [
            (":method", "GET"),
            (":path", "/healthz"),
            (":scheme", "http"),
            (":authority", "localhost"),
        ],
        end_stream=True,
    )

    data = await served.exchange(client.data_to_send())

    assert data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert b'"ok"' not in data


async def test_body_that_is_declared_too_large_is_refused_before_it_comes(
    served: Served,
) -> None:
    tenant = await served.front.tenant()
    async with await served.connect() as stream:
        await stream.send_all(post(tenant, "content-length: 70000"))
        with trio.fail_after(1):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("chunked", [False, True])
async def test_caller_who_sends_too_much_still_hears_why(served: Served, chunked: bool) -> None:
    tenant = await served.front.tenant()
    body = b"x" * 3_000_000
    if chunked:
        framing, body = "transfer-encoding: chunked", b"2dc6c0\r\n" + body + b"\r\n0\r\n\r\n"
    else:
        framing = f"content-length: {len(body)}"
    request = post(tenant, framing, body=body)
    async with await served.connect() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            with suppress(trio.BrokenResourceError):  # the server has closed
                await stream.send_all(request)

        nursery.start_soon(send)
        with trio.fail_after(5):
            answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer


async def test_bodies_that_never_come_leave_no_connection_behind(served: Served) -> None:
    tenant = await served.front.tenant()
    answers: list[int] = []

    async def announce() -> None:
        answers.extend(statuses(await served.exchange(post(tenant, "content-length: 10000000"))))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(announce)

    assert answers == [413] * 50


async def test_slow_body_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gate.BODY_WITHIN_S <= 10
    monkeypatch.setattr(gate, "BODY_WITHIN_S", 0.3)
    monkeypatch.setattr(gate, "LINGER_S", 0.2)
    tenant = await served.front.tenant()
    async with await served.connect() as stream, trio.open_nursery() as nursery:

        async def drip() -> None:
            await stream.send_all(post(tenant, "content-length: 60"))
            with suppress(trio.BrokenResourceError):
                for _ in range(60):
                    await stream.send_all(b"x")
                    await trio.sleep(0.05)  # the slowness is the subject

        nursery.start_soon(drip)
        with trio.fail_after(5):
            answer = await read_all(stream)
        nursery.cancel_scope.cancel()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer


async def test_slow_head_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.KEEP_ALIVE_S <= 10
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.3)
    listener = open_listener("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    shutdown = trio.Event()
    async with open_front() as front, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: server.serve_on(listener, front.app, shutdown=shutdown))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nx")
            with trio.fail_after(5):
                assert await read_all(stream) == b""
        shutdown.set()


async def test_request_under_way_is_answered_during_a_stop(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sitpayd.api.drain.DRAIN_S", 0.2)
    tenant = await served.front.tenant()
    tenant.actor.behaviour = "arm"
    body = b'{"to": "919876543210", "message": "Hello!"}'
    async with await served.connect() as stream:
        await stream.send_all(post(tenant, f"content-length: {len(body)}", body=body))
        await tenant.actor.armed.wait()
        served.stop.set()
        with trio.fail_after(5):
            answer = await read_all(stream)
            await served.ended.wait()

    assert answer.startswith(b"HTTP/1.1 202")


async def test_nobody_new_is_let_in_after_the_stop(served: Served) -> None:
    served.stop.set()
    await served.ended.wait()

    with pytest.raises(OSError, match="all attempts"):
        await served.connect()


async def test_idle_connection_does_not_hold_the_stop_back(served: Served) -> None:
    stream = await served.connect()
    await stream.send_all(GET.replace(b"connection: close\r\n", b""))
    await stream.receive_some()

    served.stop.set()
    with trio.fail_after(2):
        await served.ended.wait()
    await stream.aclose()


async def test_taken_port_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with open_front() as front:
            with pytest.raises(ConfigurationError) as caught:
                await serve(front.app, Settings(listen=f"127.0.0.1:{port}"), shutdown=trio.Event())

    assert str(caught.value) == f"listen: cannot use 127.0.0.1:{port}: Address already in use"


async def test_unknown_host_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^listen: cannot use host\.invalid:1: "):
        open_listener("host.invalid", 1)


async def test_socket_gives_up_on_who_takes_nothing() -> None:
    listener = open_listener("127.0.0.1", 0)

    assert (
        listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        == server.TCP_USER_TIMEOUT_MS
    )
    await listener.aclose()


async def test_address_is_told_once_it_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutdown = trio.Event()
    async with open_front() as front, trio.open_nursery() as nursery:
        settings = Settings(listen=f"127.0.0.1:{port}")

        async def run(*, task_status: trio.TaskStatus[str]) -> None:
            await serve(front.app, settings, shutdown=shutdown, task_status=task_status)

        assert await nursery.start(run) == f"127.0.0.1:{port}"
        shutdown.set()

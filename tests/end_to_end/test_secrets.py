"""Canaries: every secret is used in every way, then looked for where it must not be."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio
from websockets.trio.client import connect

from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.feed import reading_feed
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People

OUT, IN, REFUSED = "canary that flies out", "canary that flies in", "canary that was refused"


async def _misuse(partner: Partner, device: PartnerDevice, to: str) -> None:
    """Every way in which a request with secrets in it can fail."""
    http, base = partner.http, partner.base_url
    long = {"to": to, "message": OUT * 10_000}
    assert (await http.post(device.send_url, json=long)).status_code == 413
    assert (await http.post(device.send_url, content=f'{{"to":"{to}",')).status_code in (400, 415)
    assert (await http.get(device.send_url)).status_code == 405
    assert (await http.get(f"{base}/wa/{device.token}/nothing")).status_code == 404
    assert (await http.get(f"{base}/{partner.key}/{partner.user_token}")).status_code == 404
    assert (await http.get(f"{base}/admin/feed?key={ADMIN_KEY}")).status_code in (400, 404)
    bad = {"x-api-key": partner.key + "x"}
    assert (await http.get(f"{base}/partner/me", headers=bad)).status_code == 401
    assert (await http.post(device.send_url + "x", json=long)).status_code in (404, 413)
    # A caller that leaves in the middle of its request.
    port = int(base.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            f"POST /wa/{device.token}/send HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: application/json\r\ncontent-length: 500\r\n\r\n{OUT}".encode()
        )


async def _told_to_operators(http: httpx.AsyncClient, base: str, device: PartnerDevice) -> str:
    """Everything that is shown of a device without a word of its partner's: T-13's other places."""
    admin = {"x-admin-key": ADMIN_KEY}
    paths = ("/admin/devices", f"/admin/devices?ids={device.session_id}&q=John", "/metrics")
    one = f"/admin/devices/{device.session_id}"
    answers = [
        await http.get(base + path, headers=admin) for path in (*paths, one, f"{one}/history")
    ]
    answers.append(await http.get(f"{base}{device.path}/history", headers=device.partner.headers))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return "\n".join(answer.text for answer in answers)


async def _ticket_used(http: httpx.AsyncClient, base: str) -> str:
    """Open the feed with a ticket, as a page does; gives the ticket."""
    answer = await http.post(f"{base}/admin/tickets", headers={"x-admin-key": ADMIN_KEY})
    ticket = str(answer.json()["ticket"])
    url = f"{base.replace('http', 'ws')}/admin/feed?ticket={ticket}"
    async with connect(url, additional_headers={"origin": base}, proxy=None) as socket:
        await socket.recv()
    return ticket


async def test_no_secret_is_written_anywhere(
    tenant: Partner, people: People, alice: str, bob: str, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    """T-13: log, database, feed, lists, histories and metrics are searched for every secret."""
    async with reading_feed(mortal.base_url, ADMIN_KEY) as feed:
        device = await tenant.linked(people, alice)
        assert (await device.send(bob, OUT, Idempotency_Key="canary-key")).status_code == 200
        await people.say(bob, alice, IN)
        await device.message(IN, direction="in")
        await people.wrong("nack", device, code=403)
        assert (await device.send(bob, REFUSED)).status_code == 422
        await _misuse(tenant, device, bob)
        await people.stream_error(device, 503)
        await device.until("waiting")
        await device.until("connected")
        shown = await _told_to_operators(http, mortal.base_url, device)
        ticket = await _ticket_used(http, mortal.base_url)
        told = "\n".join(feed.raw)
    # Killed, so that the write-ahead log is still there to be looked at.
    await mortal.kill()
    written = b"".join(path.read_bytes() for path in _files(mortal.state_dir))
    logged = mortal.log.read_bytes()
    secrets = [
        tenant.key,
        tenant.user_token,
        device.token,
        ADMIN_KEY,
        ticket,
        *device.qr_texts,
        OUT,
        IN,
        REFUSED,
        alice,
        bob,
    ]
    assert mortal.database.with_name("sitpayd.db-wal").exists()
    assert [secret for secret in secrets if secret.encode() in logged] == []
    assert [secret for secret in secrets if secret in told] == []
    assert alice[-4:] in shown
    assert [secret for secret in secrets if secret in shown] == []
    assert [secret for secret in secrets if secret.encode() in written] == []


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]

"""Proxies over the API, against a proxy of the tests' own and a port that stands for WhatsApp's."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from pydantic import SecretStr
from quart import Response
from trio.testing import wait_all_tasks_blocked

from sitpayd import log
from sitpayd.actors.messages import StartPairing
from sitpayd.actors.recorder import Noted
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.api import proxies, trials
from sitpayd.settings import Settings
from sitpayd.storage.devices import device_by_id
from tests.support.front import ADMIN_KEY, BASE_URL, Front, Tenant, open_front
from tests.support.proxy import Doorkeeper, RecordingProxy, listening

PATIENCE_S = 20.0


@asynccontextmanager
async def fronting(url: str, *, allow: bool = True) -> AsyncIterator[tuple[Front, Tenant]]:
    settings = Settings(
        base_url=BASE_URL,
        admin_key=SecretStr(ADMIN_KEY),
        whatsapp_url=url,
        allow_private_proxies=allow,
    )
    with trio.fail_after(PATIENCE_S):
        async with open_front(settings) as front:
            yield front, await front.tenant()


@asynccontextmanager
async def whatsapp() -> AsyncIterator[str]:
    """A port that is dialled for a trial."""
    door = Doorkeeper(behind=9)
    async with listening(door):
        yield f"ws://127.0.0.1:{door.port}/ws/chat"


async def put(front: Front, tenant: Tenant, proxy: object) -> Response:
    return await front.client.put(
        f"/partner/devices/{tenant.session_id}/proxy", json={"proxy": proxy}, headers=tenant.headers
    )


async def stored(front: Front, tenant: Tenant) -> str | None:
    record = await front.database.read(device_by_id, tenant.actor.handle.record.id)
    assert record is not None
    return record.proxy


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that is logged."""
    stream, hook = io.StringIO(), sys.excepthook
    log.configure("debug", "text", stream)
    yield stream
    log.configure("info", "text")
    sys.excepthook = hook


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_proxy_is_tried_stored_and_told_to_the_actor(kind: str, lines: io.StringIO) -> None:
    proxy = RecordingProxy(user="user", password="secret")
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        address = proxy.url(kind, "user:secret@")
        answer = await put(front, tenant, address)
        await wait_all_tasks_blocked()

        assert answer.status_code == 200
        assert (await answer.get_json())["proxy"] == proxy.url(kind)
        assert len(proxy.tunnels) == 1
        assert await stored(front, tenant) == tenant.actor.handle.record.proxy == address
        assert tenant.actor.reroutes == 1
        noted = tenant.actor.handle.recorder.events()[0]
        assert (noted.kind, noted.detail) == (Noted.PROXY, "set")
    assert "secret" not in lines.getvalue()


async def test_proxy_is_shown_without_credentials() -> None:
    proxy = RecordingProxy(user="user", password="secret")
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        await put(front, tenant, proxy.url("http", "user:secret@"))
        path = f"/partner/devices/{tenant.session_id}/status"
        status = await (await front.ask("GET", path, headers=tenant.headers)).get_json()
        path = f"/partner/users/{tenant.user_token}/devices"
        listed = await (await front.ask("GET", path, headers=tenant.headers)).get_json()

    assert status["proxy"] == listed["devices"][0]["proxy"] == proxy.url("http")


async def test_proxy_is_taken_away() -> None:
    proxy = RecordingProxy()
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        await put(front, tenant, proxy.url("http"))
        answer = await put(front, tenant, None)
        await wait_all_tasks_blocked()

        assert answer.status_code == 200
        assert await stored(front, tenant) is tenant.actor.handle.record.proxy is None
        assert tenant.actor.reroutes == 2


async def test_device_is_made_with_a_proxy() -> None:
    proxy = RecordingProxy()
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        headers = {**tenant.headers, "x-user-token": tenant.user_token}
        body = {"device_name": "d", "proxy": proxy.url("socks5")}
        made = await (await front.post("/partner/devices", body, headers)).get_json()
        actor = await front.actor(made["session_id"])

        assert actor.handle.record.proxy == proxy.url("socks5")


async def test_no_device_is_made_with_a_proxy_that_refuses() -> None:
    proxy = RecordingProxy(refusal=403)
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        headers = {**tenant.headers, "x-user-token": tenant.user_token}
        body = {"device_name": "d", "proxy": proxy.url("http")}
        answer = await front.post("/partner/devices", body, headers)
        profile = await (await front.ask("GET", "/partner/me", headers=headers)).get_json()

    assert (answer.status_code, (await answer.get_json())["code"]) == (422, "proxy_refused")
    assert profile["stats"]["devices"]["total"] == 1


async def test_proxy_that_does_not_lead_to_whatsapp_changes_nothing() -> None:
    good, bad = RecordingProxy(), RecordingProxy(user="user", password="right")
    async with (
        whatsapp() as url,
        listening(good),
        listening(bad),
        fronting(url) as (front, tenant),
    ):
        await put(front, tenant, good.url("http"))
        answer = await put(front, tenant, bad.url("socks5", "user:wrong@"))
        body = await answer.get_json()

        assert (answer.status_code, body["code"], body["field"]) == (422, "proxy_refused", "proxy")
        assert await stored(front, tenant) == good.url("http")
        assert tenant.actor.reroutes == 1


async def test_proxy_inside_is_refused_unless_the_operator_allows_it() -> None:
    """T-42: over the API, too."""
    proxy = RecordingProxy()
    async with (
        whatsapp() as url,
        listening(proxy),
        fronting(url, allow=False) as (front, tenant),
    ):
        answer = await put(front, tenant, proxy.url("http"))

        assert (await answer.get_json())["code"] == "proxy_unreachable"
        assert await stored(front, tenant) is None
    assert proxy.asked == []


async def test_proxy_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TRIAL_S", 0.1)
    proxy = RecordingProxy(mute=True)
    async with whatsapp() as url, listening(proxy), fronting(url) as (front, tenant):
        answer = await put(front, tenant, proxy.url("http"))

    assert (await answer.get_json())["code"] == "proxy_unreachable"


@pytest.mark.parametrize("proxy", ["", "proxy:80", "https://proxy:80", 7, ["http://proxy:80"]])
async def test_what_is_no_proxy_is_invalid(front: Front, tenant: Tenant, proxy: object) -> None:
    answer = await put(front, tenant, proxy)
    body = await answer.get_json()

    assert (answer.status_code, body["code"], body["field"]) == (422, "invalid", "proxy")


async def test_partner_tries_two_proxies_at_a_time() -> None:
    proxy = RecordingProxy(mute=True)
    async with (
        whatsapp() as url,
        listening(proxy),
        fronting(url) as (front, tenant),
        trio.open_nursery() as nursery,
    ):
        for _ in range(trials.MAX_TRIALS_OF_PARTNER):
            nursery.start_soon(put, front, tenant, proxy.url("http"))
        while len(proxy.open) < trials.MAX_TRIALS_OF_PARTNER:
            await wait_all_tasks_blocked(0.01)
        refused = await put(front, tenant, proxy.url("http"))
        other = await front.tenant()
        proxy.cut()
        admitted = await put(front, other, None)
        nursery.cancel_scope.cancel()

    assert (await refused.get_json())["code"] == "too_many_requests"
    assert admitted.status_code == 200


async def test_trials_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MAX_TRIALS", 1)
    proxy = RecordingProxy(mute=True)
    async with (
        whatsapp() as url,
        listening(proxy),
        fronting(url) as (front, tenant),
        trio.open_nursery() as nursery,
    ):
        other = await front.tenant()
        nursery.start_soon(put, front, tenant, proxy.url("http"))
        while not proxy.open:
            await wait_all_tasks_blocked(0.01)
        answer = await put(front, other, proxy.url("http"))
        nursery.cancel_scope.cancel()

    assert (answer.status_code, (await answer.get_json())["code"]) == (503, "overloaded")


async def test_actor_that_cannot_be_told_dials_the_stored_way_all_the_same(
    front: Front, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "REROUTE_WITHIN_S", 0.1)
    handle = tenant.actor.handle
    handle.record = replace(handle.record, proxy="http://proxy.test:80")
    tenant.actor.stop()
    await wait_all_tasks_blocked()
    for _ in range(MAILBOX_SIZE):
        handle.post(StartPairing())

    answer = await put(front, tenant, None)

    assert (answer.status_code, (await answer.get_json())["code"]) == (503, "device_busy")
    assert handle.record.proxy is None


async def test_device_without_an_actor_gets_a_proxy(front: Front, tenant: Tenant) -> None:
    front.registry.release(tenant.session_id)

    assert (await put(front, tenant, None)).status_code == 200

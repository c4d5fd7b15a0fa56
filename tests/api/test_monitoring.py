"""The page of metrics: who may read it, and what it tells."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from werkzeug.datastructures import Headers

from sitpayd.actors.status import DeviceStatus
from sitpayd.errors import StorageBusyError
from tests.support.front import ADMIN_KEY, PHONE, Front, Tenant

ADMIN = {"x-admin-key": ADMIN_KEY}
DEVICES = 10_000
# Of the event loop, for counting all devices.
COUNT_WITHIN_S = 0.005


async def page(front: Front) -> list[str]:
    answer = await front.ask("GET", "/metrics", headers=ADMIN)
    assert answer.status_code == 200
    return (await answer.get_data(True)).splitlines()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", f"Bearer {ADMIN_KEY}")], 200),
        ([("authorization", f"bearer {ADMIN_KEY}")], 200),
        ([("x-admin-key", ADMIN_KEY)], 200),
        ([], 401),
        ([("authorization", f"Basic {ADMIN_KEY}")], 401),
        ([("authorization", ADMIN_KEY)], 401),
        ([("authorization", "Bearer")], 401),
        ([("authorization", f"Bearer {ADMIN_KEY}x")], 401),
        ([("authorization", f"Bearer {ADMIN_KEY}"), ("x-admin-key", ADMIN_KEY)], 400),
        ([("authorization", f"Bearer {ADMIN_KEY}")] * 2, 400),
        ([("x-admin-key", ADMIN_KEY)] * 2, 400),
    ],
)
async def test_page_is_for_the_admin_key(
    front: Front, headers: list[tuple[str, str]], status: int
) -> None:
    assert (await front.ask("GET", "/metrics", headers=Headers(headers))).status_code == status


async def test_bearer_token_opens_nothing_else(front: Front) -> None:
    bearer = {"authorization": f"Bearer {ADMIN_KEY}"}

    assert (await front.ask("GET", "/partner/me", headers=bearer)).status_code == 401


async def test_devices_are_counted_by_status(front: Front) -> None:
    await front.tenant()
    await front.tenant(linked=False)

    told = await page(front)

    assert 'sitpayd_devices{status="connected"} 1.0' in told
    assert 'sitpayd_devices{status="unpaired"} 1.0' in told
    # None yet, but an alert on it needs a beginning.
    assert 'sitpayd_devices{status="banned"} 0.0' in told


async def test_messages_that_wait_are_counted_by_state(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    await front.send(tenant, headers={"prefer": "respond-async"})
    tenant.actor.behaviour = "ack"
    other = await front.tenant()
    await front.send(other)

    told = await page(front)

    assert 'sitpayd_outbox_rows{state="accepted"} 1.0' in told
    assert 'sitpayd_outbox_rows{state="armed"} 0.0' in told


async def test_database_that_does_not_answer_hides_its_own_numbers_only(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> object:
        raise StorageBusyError("overloaded")

    monkeypatch.setattr(front.database, "read", refuse)

    told = await page(front)

    assert not any(line.startswith("sitpayd_outbox_rows{") for line in told)
    assert "sitpayd_feed_subscribers 0.0" in told


async def test_tasks_that_live_are_counted(front: Front) -> None:
    async def counted() -> float:
        (line,) = (line for line in await page(front) if line.startswith("sitpayd_tasks "))
        return float(line.split()[1])

    before = await counted()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(trio.sleep_forever)
        await wait_all_tasks_blocked()
        assert await counted() == before + 10
        nursery.cancel_scope.cancel()


async def test_requests_are_counted_by_the_rule_that_matched(front: Front, tenant: Tenant) -> None:
    await front.send(tenant)
    await front.ask("GET", "/wa/anything/at/all")

    told = await page(front)

    sends = 'sitpayd_http_requests_total{code="200",route="/wa/<device_token>/send"} 1.0'
    assert sends in told
    assert 'sitpayd_http_requests_total{code="404",route="none"} 1.0' in told


async def test_page_tells_no_secret(front: Front, tenant: Tenant) -> None:
    """T-13: whatever was asked, and however it ended."""
    text = "canary that flies out"
    await front.send(tenant, text)
    await front.ask("GET", tenant.send_path)
    await front.ask("GET", f"/wa/{tenant.device_token}/nothing")
    await front.ask("GET", f"/{tenant.api_key}/{tenant.user_token}?key={ADMIN_KEY}")
    await front.ask("GET", "/partner/me", headers={"x-api-key": tenant.api_key + "x"})
    await front.ask("GET", f"/partner/devices/{tenant.session_id}/status", headers=tenant.headers)

    told = "\n".join(await page(front))

    secrets = (tenant.api_key, tenant.user_token, tenant.device_token, ADMIN_KEY, PHONE, text)
    assert [secret for secret in (*secrets, tenant.session_id) if secret in told] == []


async def test_ten_thousand_devices_are_counted_within_milliseconds(front: Front) -> None:
    since = datetime.now(UTC)
    for number in range(DEVICES):
        front.board.publish(DeviceStatus(f"wa_{number}", number, "connected", None, since))

    def seconds() -> float:
        began = time.perf_counter()
        front.board.counts()
        return time.perf_counter() - began

    assert front.board.counts()["connected"] == DEVICES
    # The best of many: this machine has other things to do.
    assert min(seconds() for _ in range(20)) < COUNT_WITHIN_S

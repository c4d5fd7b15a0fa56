"""Messages that wait: why, until when, what they would do, and how they are taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import trio
import trio.testing
from quart import Response
from trio.testing import MockClock

from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.registry import Outlook
from sitpayd.api.limits import REQUEST_BURST, REQUESTS_AT_ONCE, REQUESTS_PER_S
from sitpayd.storage import checks
from tests.api.test_send import ASYNC, COMES_BACK, KEY, code_of, rows
from tests.support.fake_actor import HOLD
from tests.support.front import Front, Tenant

STRANGER = "919812345678"


async def preflight(front: Front, tenant: Tenant, to: str = STRANGER) -> dict[str, object]:
    answer = await front.post(f"/wa/{tenant.device_token}/preflight", {"to": to})
    assert answer.status_code == 200
    told: dict[str, object] = await answer.get_json()
    return told


async def cancel(front: Front, tenant: Tenant, message_id: str) -> tuple[int, str]:
    path = f"/wa/{tenant.device_token}/messages/{message_id}"
    answer = await front.ask("DELETE", path)
    told = await answer.get_json()
    return answer.status_code, told.get("code", told["type"])


async def queued(front: Front, tenant: Tenant) -> str:
    told = await (await front.send(tenant, headers=ASYNC)).get_json()
    assert told["type"] == "queued"
    return str(told["message_id"])


# --- holds ---


@pytest.mark.parametrize("reason", ["paced", "first_contact_budget", "reachout_locked"])
async def test_held_message_says_why_and_until_when(
    front: Front, tenant: Tenant, autojump_clock: MockClock, reason: str
) -> None:
    tenant.actor.behaviour, tenant.actor.held_because = "hold", reason

    answer = await front.send(tenant)
    kept = await front.send(tenant, headers=KEY)

    assert await code_of(answer) == (429, reason)
    until = datetime.fromisoformat((await answer.get_json())["until"])
    assert timedelta(0) < until - datetime.now(UTC) <= HOLD
    assert 0 < int(answer.headers["retry-after"]) <= HOLD.total_seconds()
    assert kept.status_code == 202
    shown = (await rows(front, tenant))[-1]
    assert (shown.state, shown.held_reason) == ("accepted", reason)
    assert shown.held_until is not None


async def test_device_that_may_queue_needs_no_word_of_the_sender(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    headers = {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token}
    body = {"device_name": "d", "queue_when_offline": True}
    told = await (await front.post("/partner/devices", body, headers)).get_json()
    actor = await front.actor(told["session_id"])
    await actor.link("919876543210")
    actor.behaviour = "away"

    answer = await front.post(
        f"/wa/{told['device_token']}/send", {"to": STRANGER, "message": "later"}
    )

    assert (answer.status_code, (await answer.get_json())["type"]) == (202, "queued")


async def test_wish_to_queue_must_be_a_boolean(front: Front, tenant: Tenant) -> None:
    headers = {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token}
    body = {"device_name": "d", "queue_when_offline": "yes"}
    answer = await front.post("/partner/devices", body, headers)
    assert await code_of(answer) == (422, "invalid")
    assert (await answer.get_json())["field"] == "queue_when_offline"


# --- taking back ---


async def test_accepted_message_can_be_taken_back_and_again(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    message_id = await queued(front, tenant)

    assert await cancel(front, tenant, message_id) == (200, "success")
    assert await cancel(front, tenant, message_id) == (200, "success")

    assert [row.state for row in await rows(front, tenant)] == ["canceled"]


async def test_armed_message_cannot_be_taken_back(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "arm"
    message_id = await queued(front, tenant)
    await tenant.actor.armed.wait()

    assert await cancel(front, tenant, message_id) == (409, "not_cancelable")

    assert [row.state for row in await rows(front, tenant)] == ["armed"]


async def test_message_of_another_tenant_cannot_be_taken_back(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    message_id = await queued(front, tenant)

    assert await cancel(front, await front.tenant(), message_id) == (404, "not_found")

    assert [row.state for row in await rows(front, tenant)] == ["accepted"]


# --- preflight ---


async def test_preflight_says_now_and_stores_nothing(front: Front, tenant: Tenant) -> None:
    told = await preflight(front, tenant)
    assert (told["decision"], told["reason"], told["until"]) == ("now", None, None)
    assert told["first_contact"] is True
    assert await rows(front, tenant) == []


async def test_preflight_knows_who_was_written_to(front: Front, tenant: Tenant) -> None:
    await front.send(tenant)
    sent_to = (await rows(front, tenant))[0].peer
    assert (await preflight(front, tenant, sent_to))["first_contact"] is False


async def test_preflight_says_until_when_a_message_would_wait(front: Front, tenant: Tenant) -> None:
    until = datetime.now(UTC) + HOLD
    tenant.actor.handle.outlook = lambda to, first: Outlook("paced", until)
    told = await preflight(front, tenant)
    assert (told["decision"], told["reason"], told["until"]) == (
        "wait",
        "paced",
        until.isoformat(),
    )


@pytest.mark.parametrize("phase", COMES_BACK)
async def test_preflight_waits_for_a_device_that_comes_back(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase)
    told = await preflight(front, tenant)
    assert (told["decision"], told["reason"]) == ("wait", f"device_{phase}")


@pytest.mark.parametrize("phase", sorted(NEEDS_A_PERSON))
async def test_preflight_refuses_where_a_person_has_to_act(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase, "because")
    told = await preflight(front, tenant)
    assert (told["decision"], told["reason"]) == ("refuse", f"device_{phase}")


async def test_preflight_refuses_where_a_send_would_be(front: Front, tenant: Tenant) -> None:
    """Also for a device that is away: its connection would change nothing."""
    await front.database.write(checks.note, tenant.actor.handle.record.id, {STRANGER: False})
    tenant.actor.enter(Phase.WAITING)
    told = await preflight(front, tenant)
    assert (told["decision"], told["reason"]) == ("refuse", "not_on_whatsapp")


async def test_preflight_checks_the_number(front: Front, tenant: Tenant) -> None:
    answer = await front.post(f"/wa/{tenant.device_token}/preflight", {"to": "12"})
    assert await code_of(answer) == (422, "invalid")
    assert (await answer.get_json())["field"] == "to"


# --- one partner among others ---


async def test_partner_that_asks_too_often_is_slowed_down_and_nobody_else(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    other = await front.tenant()
    await trio.sleep(10.0)
    began, answers = trio.current_time(), list[tuple[float, Response]]()

    async def ask() -> None:
        answer = await front.ask("GET", "/partner/me", headers=tenant.headers)
        answers.append((trio.current_time() - began, answer))

    async with trio.open_nursery() as nursery:
        for _ in range(REQUEST_BURST + 5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        fair = await front.ask("GET", "/partner/me", headers=other.headers)
        assert (fair.status_code, trio.current_time() - began) == (200, 0.0)

    refused = [(at, answer) for at, answer in answers if answer.status_code != 200]
    assert [at for at, _ in refused] == [0.0] * 5
    assert await code_of(refused[0][1]) == (429, "too_many_requests")
    assert int(refused[0][1].headers["retry-after"]) >= 1
    taken = sorted(at for at, answer in answers if answer.status_code == 200)
    # A head start, then one after the other.
    assert taken[:REQUESTS_AT_ONCE] == [0.0] * REQUESTS_AT_ONCE
    steps = [later - at for at, later in pairwise(taken[REQUESTS_AT_ONCE - 1 :])]
    assert steps == pytest.approx([1 / REQUESTS_PER_S] * len(steps))
    assert (await front.ask("GET", "/partner/me", headers=tenant.headers)).status_code == 200

"""Is it on WhatsApp: what is known, what is asked, and what nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import trio
from pydantic import SecretStr
from quart import Response
from trio.testing import MockClock

from sitpayd.actors.messages import CheckNumbers, Later, NotNow
from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.api.schemas import MAX_CHECKED
from sitpayd.settings import Settings
from sitpayd.storage import checks
from tests.support.front import ADMIN_KEY, BASE_URL, PHONE, Front, Tenant, open_front

HERE, ABSENT, UNKNOWN = "919876543210", "919812345678", "4915112345678"
Result = dict[str, object]


@pytest.fixture
async def paced() -> AsyncIterator[Front]:
    """The front door of a daemon that slows devices down."""
    settings = Settings(
        base_url=BASE_URL, admin_key=SecretStr(ADMIN_KEY), pacing="on", number_checks_per_hour=2
    )
    async with open_front(settings) as front:
        yield front


async def check(front: Front, tenant: Tenant, *numbers: object, **headers: str) -> Response:
    path = f"/wa/{tenant.device_token}/check"
    return await front.post(path, {"numbers": list(numbers)}, headers)


async def results(answer: Response) -> list[Result]:
    told = await answer.get_json()
    assert (answer.status_code, told["type"], set(told)) == (200, "success", {"type", "results"})
    found: list[Result] = told["results"]
    return found


async def problem(answer: Response) -> tuple[int, str, str | None]:
    told = await answer.get_json()
    return answer.status_code, told["code"], told.get("field")


def asked(tenant: Tenant) -> list[tuple[str, ...]]:
    """The numbers of each question that reached the actor."""
    return [q.numbers for q in tenant.actor.questions if isinstance(q, CheckNumbers)]


async def test_numbers_are_looked_up_and_then_known(front: Front, tenant: Tenant) -> None:
    tenant.actor.accounts = {HERE: True, ABSENT: False}
    first = await results(await check(front, tenant, f"+{HERE[:2]} {HERE[2:]}", ABSENT))
    again = await results(await check(front, tenant, ABSENT, HERE))

    at = first[0]["checked_at"]
    assert isinstance(at, str)
    assert datetime.now(UTC) - datetime.fromisoformat(at) < timedelta(minutes=1)
    assert first == [
        {"number": HERE, "registered": True, "checked_at": at, "cached": False},
        {"number": ABSENT, "registered": False, "checked_at": at, "cached": False},
    ]
    assert again == [
        {"number": ABSENT, "registered": False, "checked_at": at, "cached": True},
        {"number": HERE, "registered": True, "checked_at": at, "cached": True},
    ]
    assert asked(tenant) == [(HERE, ABSENT)]


async def test_number_of_which_whatsapp_says_nothing_is_not_called_absent(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.accounts = {HERE: True}
    here, unknown = await results(await check(front, tenant, HERE, UNKNOWN))
    (again,) = await results(await check(front, tenant, UNKNOWN))

    assert here["registered"] is True
    for result in (unknown, again):
        retry_after = result.pop("retry_after")
        assert isinstance(retry_after, int)
        assert 3590 <= retry_after <= 3600
        assert result == {
            "number": UNKNOWN,
            "registered": None,
            "checked_at": unknown["checked_at"],
            "cached": False,
            "reason": "no_answer",
        }
    assert unknown["checked_at"] is not None
    assert asked(tenant) == [(HERE, UNKNOWN)]


async def test_same_number_is_one(front: Front, tenant: Tenant) -> None:
    tenant.actor.accounts = {HERE: True}
    found = await results(await check(front, tenant, HERE, f"+{HERE}", "+91 98765-43210"))
    assert [result["number"] for result in found] == [HERE]
    assert asked(tenant) == [(HERE,)]


async def test_people_one_has_a_chat_with_are_known(front: Front, tenant: Tenant) -> None:
    await front.send(tenant, to=PHONE)
    (known,) = await results(await check(front, tenant, PHONE))
    assert known == {"number": PHONE, "registered": True, "checked_at": None, "cached": True}
    assert asked(tenant) == []


async def test_what_is_known_needs_no_connection(front: Front, tenant: Tenant) -> None:
    device_id = tenant.actor.handle.record.id
    await front.database.write(checks.note, device_id, {HERE: True, ABSENT: False})
    tenant.actor.enter(Phase.WAITING)
    found = await results(await check(front, tenant, HERE, ABSENT))
    assert [result["registered"] for result in found] == [True, False]


async def test_look_ups_beyond_the_hours_are_not_made(paced: Front) -> None:
    tenant = await paced.tenant()
    tenant.actor.accounts = dict.fromkeys([HERE, ABSENT, UNKNOWN], True)
    first = await results(await check(paced, tenant, HERE, ABSENT))
    assert [result["registered"] for result in first] == [True, True]
    known, (limited,) = first[:1], await results(await check(paced, tenant, UNKNOWN))
    retry_after = limited.pop("retry_after")
    assert isinstance(retry_after, int)
    assert 3590 <= retry_after <= 3600
    assert limited == {
        "number": UNKNOWN,
        "registered": None,
        "checked_at": None,
        "cached": False,
        "reason": "check_limit",
    }
    both = await results(await check(paced, tenant, HERE, UNKNOWN))
    assert both[0]["registered"] == known[0]["registered"]
    assert both[1]["reason"] == "check_limit"
    assert asked(tenant) == [(HERE, ABSENT)]


async def test_only_what_the_hour_allows_is_asked(paced: Front) -> None:
    tenant = await paced.tenant()
    tenant.actor.accounts = dict.fromkeys([HERE, ABSENT, UNKNOWN], True)
    found = await results(await check(paced, tenant, HERE, ABSENT, UNKNOWN))
    assert [result["registered"] for result in found] == [True, True, None]
    assert asked(tenant) == [(HERE, ABSENT)]


async def test_device_that_checks_no_more_for_now_says_when_it_does(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.reactions = [Later(trio.current_time() + 90.0)]
    (result,) = await results(await check(front, tenant, HERE))
    assert (result["registered"], result["checked_at"]) == (None, None)
    assert result["reason"] == "no_answer"
    assert 85 <= int(str(result["retry_after"])) <= 90


# --- what is asked ---


@pytest.mark.parametrize(
    "numbers",
    [[], [HERE] * (MAX_CHECKED + 1), HERE, None, [HERE, "hello"], [HERE, "0919876543210"], [1]],
    ids=["none", "too many", "no list", "null", "no number", "impossible", "integer"],
)
async def test_what_is_no_list_of_numbers_is_refused(
    front: Front, tenant: Tenant, numbers: object
) -> None:
    answer = await front.post(f"/wa/{tenant.device_token}/check", {"numbers": numbers})
    assert await problem(answer) == (422, "invalid", "numbers")
    assert asked(tenant) == []


async def test_refusal_does_not_repeat_a_number(front: Front, tenant: Tenant) -> None:
    answer = await check(front, tenant, HERE, "91987654321x")
    assert "9198" not in await answer.get_data(True)


async def test_so_many_numbers_may_be_checked_at_a_time() -> None:
    """The daemon may be told that it need not slow devices down."""
    numbers = [f"9198765{number:05}" for number in range(MAX_CHECKED)]
    settings = Settings(base_url=BASE_URL, admin_key=SecretStr(ADMIN_KEY), pacing="off")
    async with open_front(settings) as front:
        tenant = await front.tenant()
        found = await results(await check(front, tenant, *numbers))
        assert [result["number"] for result in found] == numbers
        assert asked(tenant) == [tuple(numbers)]


# --- devices that are not there ---


@pytest.mark.parametrize("phase", sorted(NEEDS_A_PERSON))
async def test_device_that_needs_a_person_is_refused_at_once(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase, "because", for_s=60)
    answer = await check(front, tenant, HERE)
    assert await problem(answer) == (409, f"device_{phase}", None)
    told = await answer.get_json()
    assert told["reason"] == "because"
    assert datetime.fromisoformat(told["until"]) > datetime.now(UTC)


async def test_what_is_known_is_not_told_for_a_device_that_needs_a_person(
    front: Front, tenant: Tenant
) -> None:
    """As with a send: a device that was logged out does nothing for anybody."""
    await front.database.write(checks.note, tenant.actor.handle.record.id, {HERE: True})
    tenant.actor.enter(Phase.LOGGED_OUT)
    assert await problem(await check(front, tenant, HERE)) == (409, "device_logged_out", None)


async def test_device_that_is_gone_answers_as_one_that_was_removed(
    front: Front, tenant: Tenant
) -> None:
    front.registry.release(tenant.session_id)
    answer = await check(front, tenant, HERE)
    assert await problem(answer) == (401, "unauthorized", None)


async def test_device_that_comes_back_in_time_answers(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.accounts = {HERE: True}
    tenant.actor.enter(Phase.WAITING)

    async def come_back() -> None:
        await trio.sleep(20.0)
        tenant.actor.enter(Phase.CONNECTED)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        (result,) = await results(await check(front, tenant, HERE))
    assert result["registered"] is True
    assert trio.current_time() < 25.0


@pytest.mark.parametrize(("prefer", "waited"), [({}, 25.0), ({"Prefer": "wait=3"}, 3.0)])
async def test_device_that_stays_away_is_told_after_the_wait(
    front: Front,
    tenant: Tenant,
    autojump_clock: MockClock,
    prefer: dict[str, str],
    waited: float,
) -> None:
    tenant.actor.enter(Phase.WAITING)
    began = trio.current_time()
    answer = await check(front, tenant, HERE, **prefer)
    assert await problem(answer) == (503, "device_offline", None)
    assert answer.headers["retry-after"] == "10"
    assert trio.current_time() - began == pytest.approx(waited)
    assert asked(tenant) == []


async def test_device_that_is_unlinked_while_somebody_waits_is_told(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.enter(Phase.WAITING)

    async def leave() -> None:
        await trio.sleep(5.0)
        tenant.actor.enter(Phase.LOGGED_OUT, "device_removed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        answer = await check(front, tenant, HERE)
    assert await problem(answer) == (409, "device_logged_out", None)


async def test_question_is_asked_again_when_the_device_is_back(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.accounts = {HERE: True}
    tenant.actor.reactions = [NotNow()]

    async def blink() -> None:
        await trio.sleep(1.0)
        tenant.actor.enter(Phase.WAITING)
        await trio.sleep(1.0)
        tenant.actor.enter(Phase.CONNECTED)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(blink)
        (result,) = await results(await check(front, tenant, HERE))
    assert result["registered"] is True
    assert asked(tenant) == [(HERE,), (HERE,)]


async def test_device_that_came_back_while_it_said_no_is_asked_at_once(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.accounts = {HERE: True}
    tenant.actor.reactions = [NotNow()]

    def come_back() -> None:
        for phase in (Phase.WAITING, Phase.CONNECTED):
            tenant.actor.enter(phase)

    tenant.actor.before_reaction = come_back
    began = trio.current_time()
    (result,) = await results(await check(front, tenant, HERE))
    assert result["registered"] is True
    assert trio.current_time() - began < 1.0


async def test_device_that_goes_down_over_a_question_is_not_asked_again(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.reactions = [None]
    answer = await check(front, tenant, HERE)
    assert await problem(answer) == (503, "device_offline", None)
    assert len(asked(tenant)) == 1


async def test_device_that_does_not_get_round_to_it_is_called_busy(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.stop()
    answer = await check(front, tenant, HERE, Prefer="wait=5")
    assert await problem(answer) == (503, "device_busy", None)


async def test_full_mailbox_is_told(front: Front, tenant: Tenant) -> None:
    tenant.actor.stop()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(MAILBOX_SIZE):
        tenant.actor.handle.ring()
    answer = await check(front, tenant, HERE)
    assert await problem(answer) == (503, "device_busy", None)


async def test_daemon_that_stops_lets_go(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.enter(Phase.WAITING)

    async def stop() -> None:
        await trio.sleep(1.0)
        front.app.drain.begin()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        answer = await check(front, tenant, HERE)
    assert await problem(answer) == (503, "stopping", None)

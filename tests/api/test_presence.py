"""Online, offline, typing: what is asked of a device, and what is answered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from quart import Response
from trio.testing import MockClock

from sitpayd.actors.messages import Later, SetPresence, ShowTyping, TooManyChats
from sitpayd.actors.phase import Phase
from sitpayd.storage import checks, inbox, sessions
from sitpayd.storage.records import Incoming
from sitpayd.whatsapp.jid import lid, pn
from tests.storage.builders import merged
from tests.support.front import PHONE, Front, Tenant

STRANGER = "919812345678"


async def post(front: Front, tenant: Tenant, route: str, body: dict[str, object]) -> Response:
    return await front.post(f"/wa/{tenant.device_token}/{route}", body)


async def told(answer: Response) -> dict[str, object]:
    assert answer.status_code == 200
    body: dict[str, object] = await answer.get_json()
    return body


async def problem(answer: Response) -> tuple[int, str, str | None]:
    body = await answer.get_json()
    return answer.status_code, body["code"], body.get("field")


def seconds_to(until: object) -> float:
    assert isinstance(until, str)
    return (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds()


async def chat(front: Front, tenant: Tenant, number: str = PHONE) -> None:
    """Somebody has written to the device."""
    incoming = Incoming("3A", number, number, False, "Hi", datetime.now(UTC))
    device_id = tenant.actor.handle.record.id
    await front.database.write(inbox.receive, device_id, incoming, sessions={}, identities={})


# --- presence ---


@pytest.mark.parametrize(("more", "seconds"), [({}, 60), ({"seconds": 600}, 600)])
async def test_device_appears_online_for_a_while(
    front: Front, tenant: Tenant, more: dict[str, object], seconds: int
) -> None:
    answer = await told(await post(front, tenant, "presence", {"presence": "available", **more}))
    (asked,) = tenant.actor.questions
    assert isinstance(asked, SetPresence)
    assert (asked.available, asked.seconds) == (True, seconds)
    assert seconds - 5 <= seconds_to(answer.pop("until")) <= seconds
    assert answer == {
        "type": "success",
        "message": "Device appears online",
        "presence": "available",
    }


async def test_device_appears_offline(front: Front, tenant: Tenant) -> None:
    answer = await told(await post(front, tenant, "presence", {"presence": "unavailable"}))
    (asked,) = tenant.actor.questions
    assert isinstance(asked, SetPresence)
    assert not asked.available
    assert answer == {
        "type": "success",
        "message": "Device appears offline",
        "presence": "unavailable",
        "until": None,
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "presence"),
        ({"presence": "here"}, "presence"),
        ({"presence": None}, "presence"),
        ({"presence": True}, "presence"),
        ({"presence": "available", "seconds": 0}, "seconds"),
        ({"presence": "available", "seconds": 601}, "seconds"),
        ({"presence": "available", "seconds": "60"}, "seconds"),
        ({"presence": "available", "seconds": 1.5}, "seconds"),
        ({"presence": "available", "seconds": True}, "seconds"),
        ({"presence": "available", "seconds": None}, "seconds"),
    ],
)
async def test_presence_that_there_is_not_is_refused(
    front: Front, tenant: Tenant, body: dict[str, object], field: str
) -> None:
    assert await problem(await post(front, tenant, "presence", body)) == (422, "invalid", field)
    assert tenant.actor.questions == []


async def test_presence_of_a_device_that_needs_a_person_is_refused(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.enter(Phase.PAUSED)
    answer = await post(front, tenant, "presence", {"presence": "available"})
    assert await problem(answer) == (409, "device_paused", None)


async def test_presence_of_a_device_that_is_away_is_not_kept(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.enter(Phase.WAITING)
    answer = await post(front, tenant, "presence", {"presence": "available"})
    assert await problem(answer) == (503, "device_offline", None)
    assert tenant.actor.questions == []


# --- typing ---


@pytest.mark.parametrize("state", ["composing", "recording"])
async def test_typing_is_shown_and_ends_by_itself(front: Front, tenant: Tenant, state: str) -> None:
    await chat(front, tenant)
    answer = await told(await post(front, tenant, "typing", {"to": f"+{PHONE}", "state": state}))
    (asked,) = tenant.actor.questions
    assert isinstance(asked, ShowTyping)
    assert (asked.chat, asked.state) == (pn(PHONE), state)
    assert (answer["type"], answer["state"]) == ("success", state)
    assert 20 <= seconds_to(answer["until"]) <= 25


async def test_typing_is_ended(front: Front, tenant: Tenant) -> None:
    await chat(front, tenant)
    answer = await told(await post(front, tenant, "typing", {"to": PHONE, "state": "paused"}))
    (asked,) = tenant.actor.questions
    assert isinstance(asked, ShowTyping)
    assert asked.state == "paused"
    assert answer == {
        "type": "success",
        "message": "Typing is shown no more",
        "state": "paused",
        "until": None,
    }


async def test_typing_goes_to_the_lid_where_it_is_known(front: Front, tenant: Tenant) -> None:
    await chat(front, tenant)
    device_id = tenant.actor.handle.record.id
    await front.database.write(sessions.learn_mapping, device_id, PHONE, "123456789012345", merged)
    await told(await post(front, tenant, "typing", {"to": PHONE, "state": "composing"}))
    (asked,) = tenant.actor.questions
    assert isinstance(asked, ShowTyping)
    assert asked.chat == lid("123456789012345")


async def test_number_that_was_checked_needs_no_chat(front: Front, tenant: Tenant) -> None:
    device_id = tenant.actor.handle.record.id
    await front.database.write(checks.note, device_id, {STRANGER: True})
    await told(await post(front, tenant, "typing", {"to": STRANGER, "state": "composing"}))
    assert len(tenant.actor.questions) == 1


@pytest.mark.parametrize(
    ("registered", "code"), [(False, "not_on_whatsapp"), (None, "unknown_number")]
)
async def test_nobody_is_looked_up_for_typing(
    front: Front, tenant: Tenant, registered: bool | None, code: str
) -> None:
    if registered is not None:
        device_id = tenant.actor.handle.record.id
        await front.database.write(checks.note, device_id, {STRANGER: registered})
    answer = await post(front, tenant, "typing", {"to": STRANGER, "state": "composing"})
    assert await problem(answer) == (422, code, "to")
    assert tenant.actor.questions == []


async def test_device_that_types_in_too_many_chats_says_so(front: Front, tenant: Tenant) -> None:
    await chat(front, tenant)
    tenant.actor.reactions = [TooManyChats()]
    answer = await post(front, tenant, "typing", {"to": PHONE, "state": "composing"})
    assert await problem(answer) == (429, "typing_limit", None)
    assert answer.headers["retry-after"] == "25"


@pytest.mark.parametrize("route", ["typing", "presence"])
async def test_device_that_shows_too_much_says_when_it_may_again(
    front: Front, tenant: Tenant, autojump_clock: MockClock, route: str
) -> None:
    await chat(front, tenant)
    tenant.actor.reactions = [Later(trio.current_time() + 30.0)]
    body = {"to": PHONE, "state": "composing", "presence": "available"}
    answer = await post(front, tenant, route, dict(body))
    assert await problem(answer) == (429, "paced", None)
    assert 29 <= int(answer.headers["retry-after"]) <= 30


async def test_typing_of_a_device_that_needs_a_person_is_refused(
    front: Front, tenant: Tenant
) -> None:
    tenant.actor.enter(Phase.BANNED)
    answer = await post(front, tenant, "typing", {"to": STRANGER, "state": "composing"})
    assert await problem(answer) == (409, "device_banned", None)


async def test_typing_of_a_device_that_is_away_is_not_kept(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    await chat(front, tenant)
    tenant.actor.enter(Phase.CONNECTING)
    answer = await post(front, tenant, "typing", {"to": PHONE, "state": "composing"})
    assert await problem(answer) == (503, "device_offline", None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"to": PHONE}, "state"),
        ({"to": PHONE, "state": "dancing"}, "state"),
        ({"to": PHONE, "state": ["composing"]}, "state"),
        ({"state": "composing"}, "to"),
        ({"to": "hello", "state": "composing"}, "to"),
        ({"to": f"{PHONE}@s.whatsapp.net", "state": "composing"}, "to"),
    ],
)
async def test_typing_that_there_is_not_is_refused(
    front: Front, tenant: Tenant, body: dict[str, object], field: str
) -> None:
    assert await problem(await post(front, tenant, "typing", body)) == (422, "invalid", field)

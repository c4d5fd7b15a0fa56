"""The send pipeline: what is answered for what becomes of the row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from quart import Response
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.refusals import REFUSALS
from sitpayd.api.drain import DRAIN_S
from sitpayd.api.errors import REFUSED, STATUS
from sitpayd.errors import StorageBusyError, StorageError, StorageFullError
from sitpayd.storage import devices, outbox
from sitpayd.storage.database import Unit
from sitpayd.storage.records import MessageView
from tests.support.front import BASE_URL, Front, Tenant

KEY = {"Idempotency-Key": "order-1"}
ASYNC = {"Prefer": "respond-async"}

COMES_BACK = sorted(set(Phase) - NEEDS_A_PERSON - {Phase.CONNECTED})


async def row_of(front: Front, tenant: Tenant, message_id: str) -> MessageView:
    """The row as storage has it."""
    row = await front.database.read(outbox.message, tenant.actor.handle.record.id, message_id)
    assert row is not None
    return row


async def rows(front: Front, tenant: Tenant) -> list[MessageView]:
    """All rows of the device."""
    page = await front.database.read(outbox.messages, tenant.actor.handle.record.id)
    assert page is not None
    return list(page.messages)


class Pending:
    """A request under way."""

    def __init__(self, ask: Callable[[], Awaitable[Response]]) -> None:
        self._ask = ask
        self._done = trio.Event()
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            self._answer = await self._ask()
            self._done.set()

    async def answer(self) -> Response:
        await self._done.wait()
        return self._answer


async def begin(
    nursery: trio.Nursery, front: Front, tenant: Tenant, headers: dict[str, str] | None = None
) -> Pending:
    """Start a send and let it come as far as it can."""
    pending = Pending(lambda: front.send(tenant, headers=headers))
    nursery.start_soon(pending.run)
    await wait_all_tasks_blocked()
    return pending


async def code_of(answer: Response) -> tuple[int, str]:
    """Status and code of an error."""
    return answer.status_code, (await answer.get_json())["code"]


# --- what WhatsApp says ---


async def test_acknowledged_message_is_sent(front: Front, tenant: Tenant) -> None:
    answer = await front.send(tenant, "Hello!", "+91 (98765) 43-210")

    body = await answer.get_json()
    row = await row_of(front, tenant, body["message_id"])
    assert answer.status_code == 200
    assert (row.state, row.text, row.peer) == ("sent", "Hello!", "919876543210")
    assert row.wa_message_id == body["wa_message_id"]


@pytest.mark.parametrize(
    ("reason", "status", "field"),
    [
        ("not_on_whatsapp", 422, "to"),
        ("malformed", 422, None),
        ("rate_limited", 429, None),
        ("reachout_locked", 429, None),
        ("server_error", 502, None),
        ("refused_599", 502, None),
        ("never_heard_of", 502, None),
        ("device_logged_out", 409, None),
    ],
)
async def test_refusal_is_certain_and_names_its_reason(
    front: Front, tenant: Tenant, reason: str, status: int, field: str | None
) -> None:
    tenant.actor.behaviour = reason

    answer = await front.send(tenant)

    body = await answer.get_json()
    assert (answer.status_code, body["type"], body["code"]) == (status, "error", reason)
    assert body.get("field") == field
    assert ("retry-after" in answer.headers) is (status == 429)
    assert (await row_of(front, tenant, body["message_id"])).state == "failed"


def test_every_refusal_has_a_status() -> None:
    reasons = {refusal.reason for refusal in REFUSALS.values()}
    whatsapps_fault = {"not_authorised", "stale_addressing", "server_error", "server_unavailable"}

    assert reasons - set(REFUSED) == whatsapps_fault


# --- the wait ---


async def test_device_that_comes_back_in_time_sends(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING, "network")
    async with trio.open_nursery() as nursery:
        pending = await begin(nursery, front, tenant)
        await trio.sleep(24)
        tenant.actor.behaviour = "ack"
        await tenant.actor.deliver()

        assert (await pending.answer()).status_code == 200


@pytest.mark.parametrize("phase", COMES_BACK)
async def test_device_that_stays_away_is_offline_and_nothing_stays_queued(
    front: Front, tenant: Tenant, autojump_clock: MockClock, phase: Phase
) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.enter(phase)
    began = trio.current_time()

    answer = await front.send(tenant)

    assert await code_of(answer) == (503, "device_offline")
    assert int(answer.headers["retry-after"]) > 0
    assert trio.current_time() - began == pytest.approx(25)
    assert [row.state for row in await rows(front, tenant)] == ["canceled"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=3", 3),
        ("Wait = 3", 3),
        ("wait=0", 1),
        ("wait=100", 75),
        ("handling=lenient, wait=3", 3),
        ("wait=soon", 25),
        ("wait=99999", 25),
    ],
)
async def test_client_chooses_how_long_to_wait(
    front: Front, tenant: Tenant, autojump_clock: MockClock, prefer: str, seconds: float
) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING)
    began = trio.current_time()

    await front.send(tenant, headers={"Prefer": prefer})

    assert trio.current_time() - began == pytest.approx(seconds)


async def test_held_message_is_paced(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "hold"

    answer = await front.send(tenant)

    assert await code_of(answer) == (429, "paced")
    assert int(answer.headers["retry-after"]) > 0
    assert [row.state for row in await rows(front, tenant)] == ["canceled"]


async def test_message_behind_others_of_a_connected_device_is_paced(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"

    assert await code_of(await front.send(tenant)) == (429, "paced")


async def test_device_that_begins_to_need_a_person_during_the_wait_says_so(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING)
    async with trio.open_nursery() as nursery:
        pending = await begin(nursery, front, tenant)
        tenant.actor.enter(Phase.REPLACED, "replaced")

        assert await code_of(await pending.answer()) == (409, "device_replaced")
    assert [row.state for row in await rows(front, tenant)] == ["canceled"]


@pytest.mark.parametrize("headers", [{}, KEY])
async def test_armed_message_is_pending_for_everybody(
    front: Front, tenant: Tenant, autojump_clock: MockClock, headers: dict[str, str]
) -> None:
    tenant.actor.behaviour = "arm"

    answer = await front.send(tenant, headers=headers)

    body = await answer.get_json()
    assert (answer.status_code, body["type"]) == (202, "pending")
    assert (body["message"], body["device"]) == ("Message pending", "John iPhone")
    assert (await row_of(front, tenant, body["message_id"])).state == "armed"


async def test_acknowledgement_at_the_last_moment_wins_over_taking_back(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    """The row leaves `accepted` between the end of the wait and the attempt to cancel it."""
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING)
    async with trio.open_nursery() as nursery:
        pending = await begin(nursery, front, tenant)
        device_id = tenant.actor.handle.record.id
        row = await front.database.read(outbox.next_row, device_id)
        assert row is not None
        # Armed and acknowledged, but nobody was told: only the row knows.
        tenant.actor.behaviour = "arm"
        await tenant.actor.deliver()
        await front.database.write(outbox.mark_sent, device_id, row.wa_message_id, None)

        answer = await pending.answer()

    assert answer.status_code == 200
    assert (await answer.get_json())["message_id"] == row.message_id


async def test_row_is_committed_before_the_bell_rings(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.handle.doorbell = False
    answer = await front.send(tenant, headers=ASYNC)

    assert answer.status_code == 202
    assert tenant.actor.handle.doorbell
    assert [row.state for row in await rows(front, tenant)] == ["accepted"]


# --- queueing ---


async def test_async_request_is_queued_at_once(
    front: Front, tenant: Tenant, mock_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"

    answer = await front.send(tenant, headers=ASYNC)

    body = await answer.get_json()
    assert (answer.status_code, body["type"], body["message"]) == (202, "queued", "Message queued")
    assert body["device"] == "John iPhone"
    assert (
        body["status_url"] == f"{BASE_URL}/wa/{tenant.device_token}/messages/{body['message_id']}"
    )


async def test_status_url_tells_what_became_of_it(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    body = await (await front.send(tenant, headers=ASYNC)).get_json()
    path = body["status_url"].removeprefix(BASE_URL)
    assert (await (await front.ask("GET", path)).get_json())["state"] == "accepted"

    tenant.actor.behaviour = "ack"
    await tenant.actor.deliver()

    shown = await (await front.ask("GET", path)).get_json()
    assert shown["state"] == "sent"
    assert [change["state"] for change in shown["history"]] == ["accepted", "armed", "sent"]


async def test_message_with_a_key_stays_queued_when_the_wait_is_over(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING)

    answer = await front.send(tenant, headers=KEY)

    assert answer.status_code == 202
    assert (await answer.get_json())["type"] == "queued"
    assert [row.state for row in await rows(front, tenant)] == ["accepted"]


async def test_device_that_queues_by_itself_needs_no_word_of_the_client(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    await front.database.write(_queue_when_offline, tenant.actor.handle.record.id)
    tenant.actor.behaviour = "away"
    tenant.actor.enter(Phase.WAITING)

    answer = await front.send(tenant)

    assert answer.status_code == 202
    assert [row.state for row in await rows(front, tenant)] == ["accepted"]


def _queue_when_offline(unit: Unit, device_id: int) -> None:
    unit.run("UPDATE device SET queue_when_offline = 1 WHERE id = ?", (device_id,))


async def test_full_queue_is_refused_and_stores_nothing(
    front: Front, tenant: Tenant, mock_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"
    for _ in range(1000):
        await front.send(tenant, headers=ASYNC)
        mock_clock.jump(0.01)

    answer = await front.send(tenant, headers=ASYNC)

    assert await code_of(answer) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0


# --- devices that need a person ---


@pytest.mark.parametrize("headers", [{}, KEY, ASYNC])
@pytest.mark.parametrize("phase", sorted(NEEDS_A_PERSON))
async def test_device_that_needs_a_person_refuses_at_once(
    front: Front, tenant: Tenant, mock_clock: MockClock, phase: Phase, headers: dict[str, str]
) -> None:
    tenant.actor.enter(phase, "because", for_s=3600)

    answer = await front.send(tenant, headers=headers)

    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (409, f"device_{phase}")
    assert body["reason"] == "because"
    assert body["until"].startswith("20")
    assert await rows(front, tenant) == []


def test_every_phase_that_needs_a_person_has_a_code() -> None:
    assert {f"device_{phase}" for phase in NEEDS_A_PERSON} <= set(STATUS)


async def test_device_removed_after_its_token_was_checked_is_refused(
    front: Front, tenant: Tenant
) -> None:
    await front.send(tenant)  # the token is remembered from here on
    await front.database.write(devices.remove_device, tenant.actor.handle.record.id)

    answer = await front.send(tenant)

    assert await code_of(answer) == (401, "unauthorized")


# --- repeats ---


async def test_repeat_gets_the_first_answer_and_sends_nothing(front: Front, tenant: Tenant) -> None:
    first = await front.send(tenant, headers=KEY)

    second = await front.send(tenant, headers=KEY)

    assert await second.get_json() == await first.get_json()
    assert second.status_code == 200
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(await rows(front, tenant)) == 1


async def test_repeat_of_a_refusal_is_refused_the_same_way(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "not_on_whatsapp"
    await front.send(tenant, headers=KEY)
    tenant.actor.behaviour = "ack"

    answer = await front.send(tenant, headers=KEY)

    assert await code_of(answer) == (422, "not_on_whatsapp")
    assert answer.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(("end", "status"), [("expired", 503), ("canceled", 503), ("unknown", 202)])
async def test_repeat_of_what_ended_otherwise_says_so(
    front: Front, tenant: Tenant, end: str, status: int
) -> None:
    tenant.actor.behaviour = "arm" if end == "unknown" else "away"
    body = await (await front.send(tenant, headers=KEY | ASYNC)).get_json()
    await wait_all_tasks_blocked()
    device_id = tenant.actor.handle.record.id
    row = await front.database.read(outbox.next_row, device_id)
    assert row is not None
    if end == "expired":
        await front.database.write(outbox.expire, row.expires_at)
    elif end == "canceled":
        await front.database.write(outbox.cancel, device_id, body["message_id"])
    else:
        await front.database.write(outbox.mark_unknown, device_id, row.id, "unanswered")

    answer = await front.send(tenant, headers=KEY)

    shown = await answer.get_json()
    assert answer.status_code == status
    assert shown.get("code", "unknown") == end
    assert shown["message_id"] == body["message_id"]


async def test_repeat_of_a_message_in_flight_joins_it(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "arm"
    async with trio.open_nursery() as nursery:
        first = await begin(nursery, front, tenant, KEY)
        second = await begin(nursery, front, tenant, KEY)
        await tenant.actor.acknowledge(await tenant.actor.armed_row())

        bodies = [await (await pending.answer()).get_json() for pending in (first, second)]

    assert bodies[0] == bodies[1]
    assert bodies[0]["type"] == "success"
    assert len(await rows(front, tenant)) == 1


async def test_repeat_is_answered_although_the_device_was_logged_out_since(
    front: Front, tenant: Tenant
) -> None:
    first = await (await front.send(tenant, headers=KEY)).get_json()
    tenant.actor.enter(Phase.LOGGED_OUT, "device_removed")

    answer = await front.send(tenant, headers=KEY)

    assert answer.status_code == 200
    assert await answer.get_json() == first


@pytest.mark.parametrize("phase", [Phase.CONNECTED, Phase.LOGGED_OUT])
async def test_key_with_another_body_is_refused(front: Front, tenant: Tenant, phase: Phase) -> None:
    await front.send(tenant, "Hello!", headers=KEY)
    tenant.actor.enter(phase)

    answer = await front.send(tenant, "Something else", headers=KEY)

    assert await code_of(answer) == (422, "idempotency_key_reused")
    assert len(await rows(front, tenant)) == 1


async def test_same_request_in_other_json_is_the_same_request(front: Front, tenant: Tenant) -> None:
    await front.send(tenant, "Hello!", "919876543210", headers=KEY)

    answer = await front.send(tenant, "Hello!", "+91 98765 43210", headers=KEY)

    assert answer.status_code == 200


async def test_key_belongs_to_one_device(front: Front, tenant: Tenant) -> None:
    other = await front.tenant()
    first = await (await front.send(tenant, headers=KEY)).get_json()

    second = await (await front.send(other, "Something else", headers=KEY)).get_json()

    assert second["type"] == "success"
    assert second["message_id"] != first["message_id"]


async def test_same_text_twice_without_a_key_is_two_messages(front: Front, tenant: Tenant) -> None:
    await front.send(tenant)
    await front.send(tenant)

    assert len(await rows(front, tenant)) == 2


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "tab\t", "schlüssel"])
async def test_unusable_key_is_refused(front: Front, tenant: Tenant, key: str) -> None:
    answer = await front.send(tenant, headers={"Idempotency-Key": key})

    assert await code_of(answer) == (400, "invalid_idempotency_key")
    assert await rows(front, tenant) == []


# --- trouble ---


async def test_caller_who_leaves_does_not_stop_the_message(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"
    async with trio.open_nursery() as nursery:
        pending = await begin(nursery, front, tenant)
        pending.scope.cancel()
        await wait_all_tasks_blocked()
        tenant.actor.behaviour = "ack"
        await tenant.actor.deliver()

    assert [row.state for row in await rows(front, tenant)] == ["sent"]


async def test_stopping_daemon_ends_the_wait_soon(
    front: Front, tenant: Tenant, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "arm"
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        before = await begin(nursery, front, tenant)
        front.app.drain.begin()
        after = await begin(nursery, front, tenant, {"Prefer": "wait=75"})
        answers = [await pending.answer() for pending in (before, after)]

    assert [answer.status_code for answer in answers] == [202, 503]
    assert trio.current_time() - began == pytest.approx(DRAIN_S)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageFullError("full"), "storage_full"),
        (StorageBusyError("overloaded"), "overloaded"),
        (StorageError("odd"), "storage_unavailable"),
    ],
)
async def test_database_in_trouble_stores_nothing_and_says_so(
    front: Front,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    error: StorageError,
    code: str,
) -> None:
    async def refuse(*_: object) -> object:
        raise error

    monkeypatch.setattr(front.database, "write", refuse)

    answer = await front.send(tenant)

    assert await code_of(answer) == (503, code)
    assert int(answer.headers["retry-after"]) > 0


async def test_message_that_cannot_be_taken_back_is_never_told_as_not_sent(
    front: Front, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    tenant.actor.behaviour = "away"

    async with trio.open_nursery() as nursery:
        pending = await begin(nursery, front, tenant)
        _refuse_all(front, monkeypatch)
        answer = await pending.answer()

    assert answer.status_code == 202
    assert (await answer.get_json())["type"] == "queued"


async def test_repeat_finds_its_message_while_nothing_can_be_stored(
    front: Front, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.actor.behaviour = "away"
    first = await front.send(tenant, headers=KEY | ASYNC)

    _refuse_writes(front, monkeypatch)
    again = await front.send(tenant, headers=KEY | ASYNC)

    assert again.status_code == 202
    assert (await again.get_json())["message_id"] == (await first.get_json())["message_id"]


def _refuse_writes(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> object:
        raise StorageFullError("full")

    monkeypatch.setattr(front.database, "write", refuse)


def _refuse_all(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> object:
        raise StorageBusyError("overloaded")

    monkeypatch.setattr(front.database, "write", refuse)
    monkeypatch.setattr(front.database, "read", refuse)

"""POST .../pairing-code: a code that a person types on the phone."""

from __future__ import annotations

import pytest
import trio
from quart import Response
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import PairingWish
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.phase import Phase
from sitpayd.api.pairing import MAX_PAIRINGS
from tests.support.fake_actor import CODE_TEXT
from tests.support.front import PHONE, Front, Tenant

PENDING = {"type": "pending", "message": "Code not ready, retry in 3s", "retry_after": 3}
OTHER = "919812345678"


@pytest.fixture
async def unlinked(front: Front) -> Tenant:
    """A partner with a device that is not linked."""
    return await front.tenant(linked=False)


async def ask(front: Front, tenant: Tenant, **body: object) -> Response:
    """Ask for a code for this phone."""
    path = f"/partner/devices/{tenant.session_id}/pairing-code"
    return await front.post(path, {"phone": PHONE, **body}, tenant.headers)


async def told(front: Front, tenant: Tenant, **body: object) -> dict[str, object]:
    """The answer, which is none of the errors."""
    answer = await ask(front, tenant, **body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    got: dict[str, object] = await answer.get_json()
    return got


async def test_code_is_shown_with_its_end(front: Front, unlinked: Tenant) -> None:
    body = await told(front, unlinked)

    assert (body["type"], body["code"]) == ("success", CODE_TEXT)
    shown = unlinked.actor.handle.code
    assert shown is not None
    assert body["expires_at"] == shown.expires_at.isoformat()
    assert unlinked.actor.wishes == [PairingWish(forced=True, phone=PHONE)]


async def test_number_may_be_written_as_people_do(front: Front, unlinked: Tenant) -> None:
    await told(front, unlinked, phone="+91 98765-43210")

    assert unlinked.actor.wishes[0].phone == PHONE


async def test_second_call_shows_the_same_code(front: Front, unlinked: Tenant) -> None:
    assert await told(front, unlinked) == await told(front, unlinked)
    assert len(unlinked.actor.wishes) == 1


async def test_code_of_another_number_is_not_shown(front: Front, unlinked: Tenant) -> None:
    await told(front, unlinked)
    unlinked.actor.code_text = "WXYZ-9876"

    assert (await told(front, unlinked, phone=OTHER))["code"] == "WXYZ-9876"
    assert [wish.phone for wish in unlinked.actor.wishes] == [PHONE, OTHER]


async def test_code_joins_the_qr_codes_on_show(front: Front, unlinked: Tenant) -> None:
    path = f"/partner/devices/{unlinked.session_id}/qr"
    await front.ask("GET", path, headers=unlinked.headers)
    await told(front, unlinked)

    assert unlinked.actor.rounds == 1


async def test_code_that_takes_long_is_pending_after_eight_seconds(
    front: Front, unlinked: Tenant, autojump_clock: MockClock
) -> None:
    unlinked.actor.code_text = None
    began = trio.current_time()

    assert await told(front, unlinked) == PENDING
    assert trio.current_time() - began == pytest.approx(8)


async def test_code_that_comes_during_the_wait_is_shown(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.code_text = None
    bodies: list[dict[str, object]] = []

    async def wait() -> None:
        bodies.append(await told(front, unlinked))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        unlinked.actor.show_code("LATE-1234", PHONE)

    assert bodies[0]["code"] == "LATE-1234"


async def test_expired_code_is_not_shown(
    front: Front, unlinked: Tenant, autojump_clock: MockClock
) -> None:
    unlinked.actor.code_text = None
    unlinked.actor.enter(Phase.PAIRING)
    unlinked.actor.show_code("PAST-1234", PHONE, seconds=-1)

    assert await told(front, unlinked) == PENDING


@pytest.mark.parametrize(
    "phone", ["", "12", "0" * 10, "９１９８７６５４３２１０", 919876543210, None]
)
async def test_number_that_is_none_is_refused_by_field(
    front: Front, unlinked: Tenant, phone: object
) -> None:
    answer = await ask(front, unlinked, phone=phone)

    assert answer.status_code == 422
    assert (await answer.get_json())["field"] == "phone"


@pytest.mark.parametrize("phase", [Phase.PAIRED, Phase.CONNECTING, Phase.CONNECTED, Phase.WAITING])
async def test_linked_device_needs_no_code(front: Front, tenant: Tenant, phase: Phase) -> None:
    tenant.actor.enter(phase)

    answer = await ask(front, tenant)

    assert answer.status_code == 409
    assert (await answer.get_json())["code"] == "device_linked"


async def test_other_number_than_the_first_is_refused_at_once(front: Front, tenant: Tenant) -> None:
    """T-18: before WhatsApp hears of it."""
    tenant.actor.enter(Phase.LOGGED_OUT, "logged_out")

    answer = await ask(front, tenant, phone=OTHER)

    body = await answer.get_json()
    assert (answer.status_code, body["code"], body["field"]) == (409, "other_number", "phone")
    assert tenant.actor.wishes == []


async def test_other_number_may_be_wished(front: Front, tenant: Tenant) -> None:
    """T-18: the explicit flag."""
    tenant.actor.enter(Phase.LOGGED_OUT, "logged_out")
    await told(front, tenant, phone=OTHER, relink=True)

    assert tenant.actor.wishes == [PairingWish(forced=True, relink=True, phone=OTHER)]


async def test_first_number_comes_back_without_a_flag(front: Front, tenant: Tenant) -> None:
    """T-18: the same number is never another one."""
    tenant.actor.enter(Phase.LOGGED_OUT, "logged_out")

    assert (await told(front, tenant))["type"] == "success"


async def test_too_many_codes_are_refused(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.bar = PairingBar("too_many_rounds", 100.0)

    answer = await ask(front, unlinked)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "100")
    assert (await answer.get_json())["code"] == "too_many_rounds"


async def test_fourth_device_gets_no_code(front: Front, unlinked: Tenant) -> None:
    """T-20: a code takes a connection as well."""
    for _ in range(MAX_PAIRINGS):
        await told(front, await front.another(unlinked))

    answer = await ask(front, unlinked)

    assert (await answer.get_json())["code"] == "too_many_pairings"


async def refused_during_the_wait(
    front: Front, tenant: Tenant, reason: str, for_s: float = 0
) -> Response:
    """WhatsApp refuses the code while somebody waits for it."""
    tenant.actor.code_text = None
    answers: list[Response] = []

    async def wait() -> None:
        answers.append(await ask(front, tenant))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        tenant.actor.enter(Phase.UNPAIRED, reason, for_s=for_s)
    return answers[0]


async def test_number_that_whatsapp_refuses_is_told_by_field(
    front: Front, unlinked: Tenant
) -> None:
    answer = await refused_during_the_wait(front, unlinked, "code_refused")

    body = await answer.get_json()
    assert (answer.status_code, body["code"], body["field"]) == (422, "code_refused", "phone")


async def test_refusal_of_an_earlier_number_does_not_stand_in_the_way(
    front: Front, unlinked: Tenant
) -> None:
    unlinked.actor.enter(Phase.UNPAIRED, "code_refused")

    assert (await told(front, unlinked))["type"] == "success"


async def test_limit_of_whatsapp_is_told_with_its_end(front: Front, unlinked: Tenant) -> None:
    first = await refused_during_the_wait(front, unlinked, "code_rate_limited", for_s=300)
    unlinked.actor.wishes.clear()
    second = await ask(front, unlinked)

    for answer in (first, second):
        assert answer.status_code == 429
        assert 295 <= int(answer.headers["retry-after"]) <= 300
        assert (await answer.get_json())["code"] == "code_rate_limited"
    assert unlinked.actor.wishes == []


@pytest.mark.parametrize("phase", [Phase.BANNED, Phase.PAUSED])
async def test_device_that_needs_something_else_first_says_so(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase, "because")

    body = await told(front, tenant)

    assert (body["type"], body["reason"]) == ("action_required", "because")


async def test_device_without_an_actor_is_pending(front: Front, unlinked: Tenant) -> None:
    front.registry.release(unlinked.session_id)

    assert await told(front, unlinked) == PENDING


async def test_code_is_shown_to_its_owner_alone(front: Front, unlinked: Tenant) -> None:
    """T-17: for the other way to link."""
    stranger = await front.tenant()
    await told(front, unlinked)
    path = f"/partner/devices/{unlinked.session_id}/pairing-code"
    answer = await front.post(path, {"phone": PHONE}, stranger.headers)

    assert answer.status_code == 404
    assert CODE_TEXT not in await answer.get_data(as_text=True)


async def test_neither_code_nor_number_is_logged_or_on_the_board(
    front: Front, unlinked: Tenant, capsys: pytest.CaptureFixture[str]
) -> None:
    """T-17: what a code opens stands nowhere but in the answer."""
    await told(front, unlinked)
    written = "".join(capsys.readouterr())
    shown = unlinked.actor.handle.code

    assert "pairing-code" in written
    for secret in (CODE_TEXT, PHONE):
        assert secret not in written
        assert secret not in repr(front.board.get(unlinked.session_id))
        assert secret not in repr((shown, unlinked.actor.wishes))

from __future__ import annotations

import base64
import io

import pytest
import trio
import zxingcpp
from PIL import Image
from quart import Response
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import PairingWish
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.api import qr
from sitpayd.api.pairing import MAX_PAIRINGS
from tests.support.fake_actor import QR_TEXT
from tests.support.front import ADMIN_KEY, PHONE, Front, Tenant

PENDING = {"type": "pending", "message": "QR not ready, retry in 3s", "retry_after": 3}


@pytest.fixture
async def unlinked(front: Front) -> Tenant:
    """A partner with a device that is not linked."""
    return await front.tenant(linked=False)


async def ask(front: Front, tenant: Tenant) -> dict[str, object]:
    """Ask for the code."""
    answer = await front.ask(
        "GET", f"/partner/devices/{tenant.session_id}/qr", headers=tenant.headers
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, object] = await answer.get_json()
    return body


def read_picture(body: dict[str, object]) -> str | None:
    """Read the code in an answer, as a phone does."""
    prefix, _, data = str(body["qr"]).partition(",")
    assert prefix == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.format == "PNG"
    return scan(picture)


def scan(picture: Image.Image) -> str | None:
    """Read a code."""
    found = zxingcpp.read_barcode(picture)
    return None if found is None else str(found.text)


async def test_first_call_starts_a_round_and_shows_its_code(front: Front, unlinked: Tenant) -> None:
    body = await ask(front, unlinked)

    assert body["type"] == "success"
    assert read_picture(body) == QR_TEXT
    assert unlinked.actor.rounds == 1


async def test_code_as_long_as_whatsapps_can_be_scanned(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.qr_text = "2@" + "Ab1+/" * 59  # 297 characters

    assert read_picture(await ask(front, unlinked)) == unlinked.actor.qr_text


async def test_next_code_is_shown_when_it_comes(front: Front, unlinked: Tenant) -> None:
    await ask(front, unlinked)
    unlinked.actor.show_qr("the next one")

    assert read_picture(await ask(front, unlinked)) == "the next one"
    assert unlinked.actor.rounds == 1


async def test_a_hundred_calls_share_one_round_and_one_picture(
    front: Front, unlinked: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-20: what polls cost does not grow with their number."""
    drawn: list[str] = []
    draw = qr.png

    def counted(text: str) -> bytes:
        drawn.append(text)
        return draw(text)

    monkeypatch.setattr(qr, "png", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask, front, unlinked)

    assert drawn == [QR_TEXT]
    assert len(unlinked.actor.wishes) == 1


async def test_code_that_is_late_is_pending_after_two_seconds(
    front: Front, unlinked: Tenant, autojump_clock: MockClock
) -> None:
    unlinked.actor.qr_text = None
    began = trio.current_time()

    assert await ask(front, unlinked) == PENDING
    assert trio.current_time() - began == pytest.approx(2)


async def test_code_that_comes_during_the_wait_is_shown(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.qr_text = None
    bodies: list[dict[str, object]] = []

    async def wait() -> None:
        bodies.append(await ask(front, unlinked))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        unlinked.actor.show_qr("late")

    assert read_picture(bodies[0]) == "late"


async def test_expired_code_is_not_shown(
    front: Front, unlinked: Tenant, autojump_clock: MockClock
) -> None:
    unlinked.actor.enter(Phase.PAIRING)
    unlinked.actor.show_qr("old", seconds=-1)

    assert await ask(front, unlinked) == PENDING


async def test_linked_device_is_connected(front: Front, unlinked: Tenant) -> None:
    await ask(front, unlinked)
    await unlinked.actor.link(PHONE)

    assert await ask(front, unlinked) == {"type": "connected", "phone": PHONE}
    assert unlinked.actor.rounds == 1


async def test_scan_during_the_wait_is_connected(
    front: Front, unlinked: Tenant, autojump_clock: MockClock
) -> None:
    unlinked.actor.qr_text = None
    bodies: list[dict[str, object]] = []

    async def wait() -> None:
        bodies.append(await ask(front, unlinked))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await unlinked.actor.link(PHONE)

    assert bodies == [{"type": "connected", "phone": PHONE}]


@pytest.mark.parametrize("phase", [Phase.PAIRED, Phase.CONNECTING, Phase.WAITING, Phase.FAULTED])
async def test_linked_device_that_comes_back_by_itself_is_pending(
    front: Front, tenant: Tenant, mock_clock: MockClock, phase: Phase
) -> None:
    tenant.actor.enter(phase)

    assert await ask(front, tenant) == PENDING
    assert tenant.actor.rounds == 0


async def test_logged_out_device_is_linked_anew(front: Front, tenant: Tenant) -> None:
    tenant.actor.enter(Phase.LOGGED_OUT, "device_removed")

    assert (await ask(front, tenant))["type"] == "success"
    assert tenant.actor.rounds == 1


@pytest.mark.parametrize(
    "phase",
    [Phase.REPLACED, Phase.BANNED, Phase.OUTDATED, Phase.ACTION_REQUIRED, Phase.PAUSED],
)
async def test_device_that_needs_something_else_first_says_so(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    tenant.actor.enter(phase, "because", age_s=3600)

    body = await ask(front, tenant)

    assert (body["type"], body["status"], body["reason"]) == ("action_required", phase, "because")
    assert body["message"]
    assert tenant.actor.rounds == 0


async def test_passkey_is_told_for_a_minute_then_a_new_round_may_begin(
    front: Front, unlinked: Tenant
) -> None:
    unlinked.actor.enter(Phase.ACTION_REQUIRED, "passkey", age_s=50)
    body = await ask(front, unlinked)
    assert body["type"] == "action_required"
    assert "passkey" in str(body["message"])

    front.board.remove(unlinked.session_id, unlinked.actor.handle.record.created_at)
    unlinked.actor.enter(Phase.ACTION_REQUIRED, "passkey", age_s=61)
    assert (await ask(front, unlinked))["type"] == "success"


async def test_other_number_is_told_until_a_new_round_may_begin(
    front: Front, unlinked: Tenant
) -> None:
    unlinked.actor.enter(Phase.ACTION_REQUIRED, "other_number", age_s=20)

    body = await ask(front, unlinked)

    assert (body["type"], body["reason"], body["retry_after"]) == (
        "action_required",
        "other_number",
        40,
    )
    assert "relink" in str(body["message"])


async def test_polls_of_too_many_rounds_say_when_the_next_may_begin(
    front: Front, unlinked: Tenant
) -> None:
    unlinked.actor.bar = PairingBar("qr_limit", 1799.5)

    assert await ask(front, unlinked) == {
        "type": "pending",
        "message": "QR not ready, retry in 1800s",
        "retry_after": 1800,
        "reason": "qr_limit",
    }
    assert unlinked.actor.wishes == []


# --- in so many words ---


async def insist(front: Front, tenant: Tenant, data: bytes = b"") -> Response:
    """Ask for a round with POST."""
    headers = {**tenant.headers, "content-type": "application/json"}
    return await front.ask("POST", f"/partner/devices/{tenant.session_id}/qr", data, headers)


async def test_post_begins_a_round_at_once(front: Front, unlinked: Tenant) -> None:
    answer = await insist(front, unlinked)

    assert read_picture(await answer.get_json()) == QR_TEXT
    assert unlinked.actor.wishes == [PairingWish(forced=True)]


async def test_post_does_not_wait_for_the_end_of_what_is_told(
    front: Front, unlinked: Tenant
) -> None:
    unlinked.actor.enter(Phase.ACTION_REQUIRED, "passkey")

    assert (await (await insist(front, unlinked)).get_json())["type"] == "success"


async def test_post_may_wish_to_link_another_number(front: Front, unlinked: Tenant) -> None:
    """T-18: the explicit flag."""
    await insist(front, unlinked, b'{"relink": true}')

    assert unlinked.actor.wishes == [PairingWish(forced=True, relink=True)]


async def test_wish_to_link_another_number_joins_the_round_under_way(
    front: Front, unlinked: Tenant
) -> None:
    await ask(front, unlinked)
    await insist(front, unlinked, b'{"relink": true}')

    assert unlinked.actor.rounds == 1
    assert unlinked.actor.wishes == [PairingWish(), PairingWish(forced=True, relink=True)]


async def test_post_without_a_wish_shares_the_round_under_way(
    front: Front, unlinked: Tenant
) -> None:
    await ask(front, unlinked)
    await insist(front, unlinked)

    assert unlinked.actor.wishes == [PairingWish()]


@pytest.mark.parametrize("body", [b'{"relink": 1}', b'{"relink": "yes"}', b'{"relink": null}'])
async def test_flag_that_is_no_flag_is_refused(front: Front, unlinked: Tenant, body: bytes) -> None:
    answer = await insist(front, unlinked, body)

    assert answer.status_code == 422
    assert (await answer.get_json())["field"] == "relink"


async def test_post_beyond_its_bound_is_refused(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.bar = PairingBar("too_many_rounds", 1799.5)

    answer = await insist(front, unlinked)

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1800"
    assert (await answer.get_json())["code"] == "too_many_rounds"


async def test_admin_sees_the_same(front: Front, unlinked: Tenant) -> None:
    path, headers = f"/admin/devices/{unlinked.session_id}/qr", {"x-admin-key": ADMIN_KEY}
    begun = await (await front.ask("POST", path, headers=headers)).get_json()
    polled = await (await front.ask("GET", path, headers=headers)).get_json()

    assert begun == polled == await ask(front, unlinked)


async def test_round_is_over_when_it_is_called_off(front: Front, unlinked: Tenant) -> None:
    await ask(front, unlinked)
    path = f"/partner/devices/{unlinked.session_id}/qr"
    answer = await front.ask("DELETE", path, headers=unlinked.headers)
    await wait_all_tasks_blocked()

    assert await answer.get_json() == {"type": "success", "message": "Linking ended"}
    assert unlinked.actor.handle.qr is None


# --- how many at a time ---


@pytest.fixture
async def devices(front: Front, unlinked: Tenant) -> list[Tenant]:
    """Four devices of one partner; three of them are being linked."""
    several = [unlinked, *[await front.another(unlinked) for _ in range(MAX_PAIRINGS)]]
    for tenant in several[:MAX_PAIRINGS]:
        await ask(front, tenant)
    return several


async def test_fourth_device_waits_for_its_turn(front: Front, devices: list[Tenant]) -> None:
    """T-20: no partner holds more than three registrations open."""
    body = await ask(front, devices[3])

    assert (body["type"], body["reason"]) == ("pending", "too_many_pairings")
    assert body["retry_after"] == 20
    assert devices[3].actor.rounds == 0


async def test_fourth_device_is_refused_where_somebody_insists(
    front: Front, devices: list[Tenant]
) -> None:
    """T-20: asking in so many words does not get round it."""
    answer = await insist(front, devices[3])

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "20"
    assert (await answer.get_json())["code"] == "too_many_pairings"


async def test_devices_asked_for_at_the_same_instant_are_counted(
    front: Front, unlinked: Tenant
) -> None:
    """T-20: also those whose actors have not heard of it yet."""
    several = [unlinked, *[await front.another(unlinked) for _ in range(MAX_PAIRINGS)]]
    async with trio.open_nursery() as nursery:
        for tenant in several:
            nursery.start_soon(ask, front, tenant)

    assert sum(tenant.actor.rounds for tenant in several) == MAX_PAIRINGS


async def test_turn_comes_when_another_device_is_linked(
    front: Front, devices: list[Tenant]
) -> None:
    await devices[0].actor.link(PHONE)

    assert (await ask(front, devices[3]))["type"] == "success"


async def test_devices_under_way_are_shown_all_the_same(
    front: Front, devices: list[Tenant]
) -> None:
    assert (await ask(front, devices[0]))["type"] == "success"


async def test_partners_do_not_take_each_others_turns(front: Front, devices: list[Tenant]) -> None:
    stranger = await front.tenant(linked=False)

    assert (await ask(front, stranger))["type"] == "success"


# --- T-17 and T-19 ---


async def test_code_is_shown_to_its_owner_alone(front: Front, unlinked: Tenant) -> None:
    """T-17: neither asking nor begging shows another partner's code, and nobody may keep it."""
    stranger = await front.tenant()
    await ask(front, unlinked)
    path = f"/partner/devices/{unlinked.session_id}/qr"
    for method in ("GET", "POST"):
        answer = await front.ask(method, path, headers=stranger.headers)
        assert answer.status_code == 404
        assert "qr" not in await answer.get_json()
    own = await front.ask("GET", path, headers=unlinked.headers)
    assert own.headers["cache-control"] == "no-store"


async def test_code_is_neither_logged_nor_on_the_board(
    front: Front, unlinked: Tenant, capsys: pytest.CaptureFixture[str]
) -> None:
    """T-17: what a scan opens stands nowhere but in the answer."""
    body = await ask(front, unlinked)
    written = "".join(capsys.readouterr())
    shown = unlinked.actor.handle.qr

    assert "<session_id>/qr" in written
    for secret in (QR_TEXT, str(body["qr"])):
        assert secret not in written
        assert secret not in repr((shown, front.board.get(unlinked.session_id)))


async def test_code_is_gone_with_the_link(front: Front, unlinked: Tenant) -> None:
    """T-19: afterwards the route says `connected`, whoever kept the code."""
    await ask(front, unlinked)
    await unlinked.actor.link(PHONE)

    body = await ask(front, unlinked)

    assert body == {"type": "connected", "phone": PHONE}


async def test_device_without_an_actor_is_pending(front: Front, unlinked: Tenant) -> None:
    front.registry.release(unlinked.session_id)

    assert await ask(front, unlinked) == PENDING


async def test_busy_device_says_so(front: Front, unlinked: Tenant) -> None:
    unlinked.actor.stop()
    await wait_all_tasks_blocked()
    for _ in range(MAILBOX_SIZE):
        unlinked.actor.handle.ring()

    answer = await front.ask(
        "GET", f"/partner/devices/{unlinked.session_id}/qr", headers=unlinked.headers
    )

    assert answer.status_code == 503
    assert (await answer.get_json())["code"] == "device_busy"


def test_blocks_can_be_scanned() -> None:
    """The terminal's drawing, read back from its characters as pixels."""
    lines = qr.blocks(QR_TEXT).splitlines()
    light = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    pixels = bytes(
        light[character][half] for line in lines for half in (0, 1) for character in line
    )
    picture = Image.frombytes("L", (len(lines[0]), 2 * len(lines)), pixels)

    larger = picture.resize((picture.width * 4, picture.height * 4))
    assert scan(larger) == QR_TEXT

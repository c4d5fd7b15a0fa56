from __future__ import annotations

import base64
import io

import pytest
import trio
import zxingcpp
from PIL import Image
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import MAILBOX_SIZE
from sitpayd.api import qr
from tests.support.fake_actor import QR_TEXT
from tests.support.front import PHONE, Front, Tenant

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


async def test_many_calls_share_one_picture(
    front: Front, unlinked: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = qr.png

    def counted(text: str) -> bytes:
        drawn.append(text)
        return draw(text)

    monkeypatch.setattr(qr, "png", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, front, unlinked)

    assert drawn == [QR_TEXT]
    assert unlinked.actor.rounds == 1


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


async def test_too_many_rounds_are_pending_for_longer(
    front: Front, unlinked: Tenant, mock_clock: MockClock
) -> None:
    unlinked.actor.qr_text = None
    unlinked.actor.enter(Phase.UNPAIRED, "qr_limit")

    body = await ask(front, unlinked)

    assert body == {
        "type": "pending",
        "message": "QR not ready, retry in 60s",
        "retry_after": 60,
    }


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

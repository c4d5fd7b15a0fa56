from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock

from sitpayd.actors.phase import Phase
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.admin import LOOKED_AT, MAX_IDS, MAX_LIMIT
from sitpayd.api.tickets import MAX_TICKETS, TICKET_S
from sitpayd.storage import devices
from tests.support.front import ADMIN_KEY, PHONE, Front, Tenant

ADMIN = {"x-admin-key": ADMIN_KEY}


async def ask(front: Front, path: str, status: int = 200) -> dict[str, object]:
    """Ask as the operator."""
    answer = await front.ask("GET", path, headers=ADMIN)
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, object] = await answer.get_json()
    return body


async def listed(front: Front, query: str = "") -> list[str]:
    """The session ids on a page of the list."""
    body = await ask(front, f"/admin/devices?{query}")
    found = body["devices"]
    assert isinstance(found, list)
    return [device["session_id"] for device in found]


def fill(front: Front, count: int, status: str = "connected") -> list[str]:
    """Put so many devices on the board; returns their session ids, sorted."""
    ids = [f"wa_{number:020}" for number in range(count)]
    for name in ids:
        front.board.publish(DeviceStatus(name, 1, status, None, datetime.now(UTC)))
    return ids


async def test_device_is_shown_with_its_names_and_its_evidence(
    front: Front, tenant: Tenant
) -> None:
    body = await ask(front, "/admin/devices")

    found = body.pop("devices")
    assert isinstance(found, list)
    [device] = found
    assert body == {"type": "success", "counts": {"connected": 1}, "next": None}
    verified_at, since = device.pop("verified_at"), device.pop("since")
    assert datetime.fromisoformat(verified_at) >= datetime.fromisoformat(since)
    assert device == {
        "session_id": tenant.session_id,
        "partner": tenant.actor.handle.record.partner_id,
        "partner_name": "ABC Reseller",
        "device_name": "John iPhone",
        "phone": "…" + PHONE[-4:],
        "status": "connected",
        "reason": None,
        "until": None,
        "evidence": "login",
    }


async def test_connected_device_without_fresh_proof_is_shown_as_waiting(
    front: Front, mock_clock: MockClock
) -> None:
    """F-14: whatever the actor believes, nobody is told `connected` 70 s after the last proof."""
    tenant = await front.tenant()
    mock_clock.jump(70)
    assert await listed(front, "status=connected") == [tenant.session_id]
    mock_clock.jump(1)

    body = await ask(front, f"/admin/devices/{tenant.session_id}")

    device, told = body["device"], body["explanation"]
    assert isinstance(device, dict)
    assert isinstance(told, dict)
    assert (device["status"], device["reason"]) == ("waiting", "no_proof_of_life")
    assert device["evidence"] == "login"
    assert "not heard for more than 70 s" in told["cause"]
    assert await listed(front, "status=connected") == []
    assert await listed(front, "status=waiting") == [tenant.session_id]


async def test_partner_is_not_told_connected_without_fresh_proof(
    front: Front, mock_clock: MockClock
) -> None:
    tenant = await front.tenant()
    mock_clock.jump(71)

    answer = await front.ask(
        "GET", f"/partner/devices/{tenant.session_id}/status", headers=tenant.headers
    )

    body = await answer.get_json()
    assert (body["status"], body["reason"]) == ("waiting", "no_proof_of_life")
    assert body["evidence"] == "login"
    assert body["verified_at"] is not None


async def test_device_is_explained(front: Front, tenant: Tenant) -> None:
    tenant.actor.enter(Phase.WAITING, "network", for_s=60)

    body = await ask(front, f"/admin/devices/{tenant.session_id}")

    assert set(body) == {"type", "device", "explanation"}
    told = body["explanation"]
    assert isinstance(told, dict)
    assert told["cause"].startswith("The network failed")
    assert told["next"].startswith("It dials again at ")
    assert told["next"].endswith((" in 60 s.", " in 59 s."))
    assert told["advice"]


async def test_device_that_is_not_there_is_not_found(front: Front, tenant: Tenant) -> None:
    await front.ask("DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers)

    for name in (tenant.session_id, "wa_" + "0" * 20, "..%2f"):
        body = await ask(front, f"/admin/devices/{name}", 404)
        assert body["code"] == "not_found"
    assert await listed(front) == []


async def test_device_without_an_actor_is_shown_as_stored(front: Front, tenant: Tenant) -> None:
    await front.database.write(devices.set_desired, tenant.actor.handle.record.id, "paused")
    front.board.remove(tenant.session_id, datetime.now(UTC))
    front.registry.release(tenant.session_id)

    body = await ask(front, f"/admin/devices/{tenant.session_id}")

    device = body["device"]
    assert isinstance(device, dict)
    assert (device["status"], device["device_name"]) == ("paused", "John iPhone")
    assert (device["phone"], device["evidence"]) == ("…" + PHONE[-4:], None)


async def test_list_is_filtered_by_partner_and_status(front: Front) -> None:
    one, other = await front.tenant(), await front.tenant()
    other.actor.enter(Phase.BANNED, "banned")
    partner = other.actor.handle.record.partner_id

    assert await listed(front, f"partner={partner}") == [other.session_id]
    assert await listed(front, "status=connected") == [one.session_id]
    assert await listed(front, f"status=connected&partner={partner}") == []
    assert sorted(await listed(front, "status=connected,banned")) == sorted(
        [one.session_id, other.session_id]
    )


async def test_counts_are_of_everything_the_partner_has(front: Front) -> None:
    await front.tenant()
    other = await front.tenant()
    other.actor.enter(Phase.BANNED, "banned")
    partner = other.actor.handle.record.partner_id

    everything = await ask(front, "/admin/devices?status=connected&limit=1")
    theirs = await ask(front, f"/admin/devices?partner={partner}&status=connected")

    assert everything["counts"] == {"connected": 1, "banned": 1}
    assert theirs["counts"] == {"banned": 1}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("JOHN", True),
        (" iphone ", True),
        ("abc res", True),
        (PHONE[-4:], True),
        ("nobody", False),
        (PHONE[-3:], False),
        # A whole number does not belong into an address, where logs keep it.
        (PHONE, False),
    ],
)
async def test_search_looks_at_names_and_last_digits(
    front: Front, tenant: Tenant, search: str, found: bool
) -> None:
    query = search.replace(" ", "%20")

    assert await listed(front, f"q={query}") == ([tenant.session_id] if found else [])


async def test_search_finds_a_part_of_a_session_id(front: Front, tenant: Tenant) -> None:
    assert await listed(front, f"q={tenant.session_id[3:12]}") == [tenant.session_id]


@pytest.mark.parametrize("count", [1, 4, 5, 11])
async def test_pages_hold_every_device_once(front: Front, count: int) -> None:
    ids = fill(front, count)
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        body = await ask(front, f"/admin/devices?limit=5&after={after}")
        page = [device["session_id"] for device in body["devices"]]  # type: ignore[attr-defined]
        assert 1 <= len(page) <= 5
        seen += page
        after = body["next"]  # type: ignore[assignment]

    assert seen == ids


async def test_page_reaches_over_slices_of_the_board(front: Front) -> None:
    fill(front, LOOKED_AT + 2)
    last = f"wa_{LOOKED_AT + 1:020}"

    assert await listed(front, f"q={last}") == [last]


async def test_page_is_never_longer_than_its_bound(front: Front) -> None:
    fill(front, MAX_LIMIT + 1)

    assert len(await listed(front, "limit=999999")) == MAX_LIMIT


async def test_named_devices_are_shown_in_the_order_asked_for(front: Front) -> None:
    first, second, third = fill(front, 3)

    assert await listed(front, f"ids={third},{first},wa_nobody,{third}") == [third, first]
    assert await listed(front, f"ids={second}&status=banned") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("status=asleep", "status"),
        ("status=connected,", "status"),
        ("partner=abc", "partner"),
        ("partner=" + "9" * 19, "partner"),
        ("ids=" + ",".join(str(n) for n in range(MAX_IDS + 1)), "ids"),
    ],
)
async def test_query_that_makes_no_sense_is_refused(front: Front, query: str, field: str) -> None:
    body = await ask(front, f"/admin/devices?{query}", 400)

    assert (body["code"], body["field"]) == ("invalid_query", field)


async def test_ten_thousand_devices_leave_others_their_turn(front: Front) -> None:
    fill(front, 10_000)
    turns = 0
    async with trio.open_nursery() as nursery:

        async def be_another() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(be_another)
        await listed(front, "q=nobody")
        nursery.cancel_scope.cancel()

    assert turns > 10_000 / LOOKED_AT


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_page_of_another_site_can_ask_for_nothing(
    front: Front, tenant: Tenant, origin: str
) -> None:
    """T-41: no cookie says who asks, no header lets a page in, and JSON is not read from forms."""
    page = {"origin": origin, "cookie": f"x-admin-key={ADMIN_KEY}"}
    ours = [
        ("POST", "/admin/tickets"),
        ("GET", "/admin/devices"),
        ("POST", f"/admin/devices/{tenant.session_id}/restart"),
    ]
    for method, path in ours:
        answer = await front.ask(method, path, headers=page)
        assert answer.status_code == 401
        wish = {**page, "access-control-request-method": method}
        preflight = await front.ask(
            "OPTIONS", path, headers={**wish, "access-control-request-headers": "x-admin-key"}
        )
        for headers in (answer.headers, preflight.headers):
            assert not [name for name, _ in headers.items() if name.lower().startswith("access-")]
            assert "set-cookie" not in headers
    form = {**tenant.headers, "content-type": "text/plain"}
    answer = await front.ask("POST", tenant.send_path, b'{"to":"1","message":"x"}', form)
    assert answer.status_code == 415


async def test_operator_sees_the_code_the_partner_sees(front: Front) -> None:
    tenant = await front.tenant(linked=False)
    path = f"/partner/devices/{tenant.session_id}/qr"

    seen = await ask(front, f"/admin/devices/{tenant.session_id}/qr")

    assert seen["type"] == "success"
    answer = await front.ask("GET", path, headers=tenant.headers)
    assert seen == await answer.get_json()
    assert tenant.actor.rounds == 1


async def test_tickets_are_bounded_until_they_end(front: Front, mock_clock: MockClock) -> None:
    given = set()
    for _ in range(MAX_TICKETS):
        answer = await front.post("/admin/tickets", {}, ADMIN)
        body = await answer.get_json()
        assert (answer.status_code, body["expires_in"]) == (200, TICKET_S)
        given.add(body["ticket"])
    answer = await front.post("/admin/tickets", {}, ADMIN)

    assert len(given) == MAX_TICKETS
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= TICKET_S
    mock_clock.jump(TICKET_S)
    assert (await front.post("/admin/tickets", {}, ADMIN)).status_code == 200

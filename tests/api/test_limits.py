from __future__ import annotations

import pytest
from pydantic import SecretStr
from trio.testing import MockClock

from sitpayd.api.limits import WINDOW_S
from sitpayd.settings import Settings
from sitpayd.storage.database import Unit
from tests.support.front import ADMIN_KEY, BASE_URL, Front, open_front

PARTNER = b'{"name": "n", "email": "e@x.com", "domain": "x.com"}'
LIMITED = Settings(
    base_url=BASE_URL,
    admin_key=SecretStr(ADMIN_KEY),
    registrations_per_address=3,
    registrations_per_hour=5,
)


async def register(front: Front, address: str, forwarded: str | None = None) -> int:
    """Register from an address; returns the status."""
    headers = {"content-type": "application/json"}
    if forwarded is not None:
        headers["x-forwarded-for"] = forwarded
    answer = await front.client.post(
        "/partner/register",
        data=PARTNER,
        headers=headers,
        scope_base={"client": (address, 1)},
    )
    if answer.status_code == 429:
        assert 0 < int(answer.headers["retry-after"]) <= WINDOW_S
        assert (await answer.get_json())["code"] == "too_many_registrations"
    return answer.status_code


def count_partners(unit: Unit) -> int:
    """Rows of the table."""
    return int(unit.one("SELECT count(*) AS rows FROM partner")["rows"])


async def test_flood_from_one_address_makes_no_more_rows_than_the_limit() -> None:
    async with open_front(LIMITED) as front:
        statuses = [await register(front, "203.0.113.1") for _ in range(100)]

        assert statuses == [200] * 3 + [429] * 97
        assert await front.database.read(count_partners) == 3


async def test_limit_of_all_addresses_holds() -> None:
    async with open_front(LIMITED) as front:
        statuses = [await register(front, f"203.0.113.{number}") for number in range(7)]

    assert statuses == [200] * 5 + [429] * 2


async def test_new_hour_is_a_new_chance(mock_clock: MockClock) -> None:
    async with open_front(LIMITED) as front:
        for _ in range(4):
            await register(front, "203.0.113.1")
        mock_clock.jump(WINDOW_S)

        assert await register(front, "203.0.113.1") == 200


async def test_refused_bodies_do_not_count() -> None:
    async with open_front(LIMITED) as front:
        for _ in range(10):
            await front.ask("POST", "/partner/register", b"{}")

        assert await register(front, "203.0.113.1") == 200


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.1", "203.0.113.2", False),
        ("203.0.113.1", "::ffff:203.0.113.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
async def test_addresses_of_one_site_share_a_limit(first: str, second: str, shared: bool) -> None:
    async with open_front(LIMITED) as front:
        for _ in range(3):
            await register(front, first)

        assert (await register(front, second) == 429) is shared


async def test_proxy_on_this_machine_is_believed_for_its_last_entry() -> None:
    async with open_front(LIMITED) as front:
        for number in range(3):
            assert await register(front, "127.0.0.1", f"10.0.0.{number}, 203.0.113.1") == 200

        assert await register(front, "::1", "203.0.113.1") == 429
        assert await register(front, "127.0.0.1", "203.0.113.2") == 200


@pytest.mark.parametrize("forwarded", ["198.51.100.1", "nonsense", ""])
async def test_forwarded_address_of_anybody_else_is_not_believed(forwarded: str) -> None:
    async with open_front(LIMITED) as front:
        for number in range(3):
            await register(front, "203.0.113.1", f"198.51.100.{number}")

        assert await register(front, "203.0.113.1", forwarded) == 429


async def test_caller_without_an_address_is_limited_too() -> None:
    async with open_front(LIMITED) as front:
        statuses = [await register(front, "<local>") for _ in range(4)]

    assert statuses == [200, 200, 200, 429]

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
from werkzeug.datastructures import Headers

from sitpayd.api.auth import MAX_REMEMBERED, Guard
from sitpayd.api.errors import ApiError
from sitpayd.storage import devices, partners
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.records import DeviceRecord
from sitpayd.storage.vault import Vault, new_token
from tests.support.front import Front, Tenant


class CountingDatabase:
    """The real database, with its reads counted and, if wanted, held back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.reads = 0
        self.gate = trio.Event()
        self.gate.set()

    async def read(self, operation: Callable[..., object], *args: object) -> object:
        """Count, read, then wait at the gate with what was found."""
        self.reads += 1
        found = await self._database.read(operation, *args)
        await self.gate.wait()
        return found


def guarded(database: Database) -> tuple[Guard, CountingDatabase]:
    """A guard whose reads are counted."""
    counting = CountingDatabase(database)
    return Guard(counting, None), counting  # type: ignore[arg-type]  # it reads like one


async def make_device(database: Database) -> tuple[str, DeviceRecord]:
    """A partner's key and a device."""

    def make(unit: Unit) -> tuple[str, DeviceRecord]:
        partner, key = partners.create_partner(unit, "n", "e@x.com", "x.com")
        user = partners.create_user(unit, partner.id, "l", "e@x.com")
        return key, devices.create_device(unit, partner.id, user.id, "d")

    return await database.write(make)


@contextmanager
def refusal(status: int) -> Iterator[None]:
    """Expect an answer with this status."""
    with pytest.raises(ApiError) as caught:
        yield
    assert caught.value.status == status


async def test_wrong_checksum_costs_no_query() -> None:
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        guard, counting = guarded(database)
        token = new_token("dt")
        broken = token[:-1] + ("0" if token[-1] != "0" else "1")

        for wrong in (broken, "", "dt_", token[:-1], token + "0", f" {token}", "dt_" + "é" * 49):
            with refusal(401):
                await guard.device(wrong)
        with refusal(401):
            await guard.partner(Headers({"x-api-key": broken.replace("dt_", "pk_")}))

    assert counting.reads == 0


async def test_known_token_costs_one_query() -> None:
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        key, device = await make_device(database)
        guard, counting = guarded(database)

        for _ in range(3):
            await guard.device(device.token)
            await guard.partner(Headers({"x-api-key": key}))

    assert counting.reads == 2


async def test_known_user_costs_one_query_and_stays_its_partners() -> None:
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        owner = await database.write(partners.create_partner, "n", "e@x.com", "x.com")
        stranger = await database.write(partners.create_partner, "n", "e@x.com", "x.com")
        user = await database.write(partners.create_user, owner[0].id, "l", "e@x.com")
        guard, counting = guarded(database)

        for _ in range(3):
            assert (await guard.user_by_token(user.token, owner[0])).id == user.id
        for token, partner in ((user.token, stranger[0]), (user.token[:-1], owner[0])):
            with refusal(404):
                await guard.user_by_token(token, partner)

    assert counting.reads == 1


async def test_unknown_token_is_not_remembered() -> None:
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        guard, counting = guarded(database)
        token = new_token("dt")

        for _ in range(3):
            with refusal(401):
                await guard.device(token)

    assert counting.reads == 3


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sitpayd.api.auth.MAX_REMEMBERED", 2)
    assert MAX_REMEMBERED > 2
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        guard, counting = guarded(database)
        tokens = [(await make_device(database))[1].token for _ in range(3)]

        for token in tokens:
            await guard.device(token)
        await guard.device(tokens[2])
        assert counting.reads == 3
        await guard.device(tokens[0])

    assert counting.reads == 4


async def test_device_removed_during_its_look_up_is_not_remembered() -> None:
    async with open_database("sqlite://", Vault(b"s" * 32), inline=True) as database:
        _, device = await make_device(database)
        guard, counting = guarded(database)
        counting.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.device, device.token)
            await trio.testing.wait_all_tasks_blocked()
            await database.write(devices.remove_device, device.id)
            guard.forget_device(device)
            counting.gate.set()

        with refusal(401):
            await guard.device(device.token)


async def test_removed_device_is_refused_on_the_very_next_request(
    front: Front, tenant: Tenant
) -> None:
    assert (await front.send(tenant)).status_code == 200

    await front.ask("DELETE", f"/partner/devices/{tenant.session_id}", headers=tenant.headers)

    assert (await front.send(tenant)).status_code == 401


@pytest.mark.parametrize("name", ["x-api-key", "x-user-token"])
async def test_two_keys_are_ambiguous(front: Front, tenant: Tenant, name: str) -> None:
    headers = Headers([("x-api-key", tenant.api_key), ("x-user-token", tenant.user_token)])
    headers.add(name, headers[name])
    headers["content-type"] = "application/json"

    answer = await front.ask("POST", "/partner/devices", b'{"device_name": "d"}', headers)

    assert answer.status_code == 400
    assert (await answer.get_json())["field"] == name


@pytest.mark.parametrize("padding", [" {}", "{} ", "\t{}", "{},{}", '"{}"'])
async def test_padded_key_is_nobodys(front: Front, tenant: Tenant, padding: str) -> None:
    key = padding.format(tenant.api_key, tenant.api_key)

    answer = await front.ask("GET", "/partner/me", headers={"x-api-key": key})

    assert answer.status_code == 401


async def test_percent_encoded_token_is_the_same_token_and_never_another(
    front: Front, tenant: Tenant
) -> None:
    encoded = tenant.device_token.replace("_", "%5F")
    twice = tenant.device_token.replace("_", "%255F")

    assert (await front.ask("GET", f"/wa/{encoded}/messages")).status_code == 200
    assert (await front.ask("GET", f"/wa/{twice}/messages")).status_code == 401
    assert (await front.ask("GET", f"/wa/{tenant.device_token};x=1/messages")).status_code == 401
    assert (await front.ask("GET", f"/wa/{tenant.device_token}%20/messages")).status_code == 401
    assert (await front.ask("GET", f"/wa/{tenant.device_token}/messages/")).status_code == 404

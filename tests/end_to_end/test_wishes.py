"""What people do to devices of the real daemon; a restart resumes exactly what should run."""

from __future__ import annotations

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import Json, People
from tests.support.waiting import eventually


async def operate(device: PartnerDevice, operation: str) -> Json:
    answer = await device.partner.ask("POST", f"{device.path}/{operation}")
    assert answer["type"] == "success"
    return answer


async def is_connected(people: People, number: str) -> bool:
    """Whether WhatsApp sees the account's linked device."""
    return any(device["connected"] for device in await people.devices(number))


async def test_paused_device_is_away_for_whatsapp_until_it_is_resumed(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await operate(device, "pause"))["status"] == "paused"

    async def is_away() -> bool:
        return not await is_connected(people, alice)

    await eventually(is_away, "the socket is closed")
    refused = await device.send(bob, "too early")
    assert (refused.status_code, refused.json()["code"]) == (409, "device_paused")
    await operate(device, "resume")
    await device.until("connected")
    assert (await device.send(bob, "in time")).status_code == 200
    assert await people.shown(bob) == ["in time"]


async def test_reconnected_and_restarted_device_goes_on(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    for operation in ("reconnect", "restart"):
        await operate(device, operation)
        answer = await device.send(bob, operation)
        assert answer.status_code == 200, answer.text
    assert await people.shown(bob) == ["reconnect", "restart"]


@proves(Feature.LOGOUT)
async def test_logged_out_device_is_gone_from_the_phone_and_is_linked_again(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await operate(device, "logout")
    await people.unlinked(alice)
    assert (await device.until("logged_out"))["reason"] == "logged_out_here"
    await device.link(people, alice)
    assert (await device.send(bob, "linked again")).status_code == 200


async def test_paused_device_that_is_logged_out_dials_for_it(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await operate(device, "pause")
    await operate(device, "logout")
    await people.unlinked(alice)
    await device.until("logged_out")


async def test_restart_resumes_exactly_what_should_run(
    tenant: Partner, people: People, crash: Restart
) -> None:
    numbers = [await people.make() for _ in range(4)]
    running, paused, replaced, logged_out = [
        await tenant.linked(people, number) for number in numbers
    ]
    await operate(paused, "pause")
    await people.stream_error(replaced, 409, "replaced")
    await replaced.until("replaced")
    await operate(logged_out, "logout")
    await logged_out.until("logged_out")
    for _ in range(2):
        await crash()
        await running.until("connected")
        for device, status in (
            (paused, "paused"),
            (replaced, "replaced"),
            (logged_out, "logged_out"),
        ):
            assert (await device.status())["status"] == status
        assert [await is_connected(people, number) for number in numbers] == [
            True,
            False,
            False,
            False,
        ]
    await operate(paused, "resume")
    await operate(replaced, "reconnect")
    for device in (paused, replaced):
        await device.until("connected")


async def test_wished_logout_is_made_after_a_crash(
    tenant: Partner, people: People, alice: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await people.take_offline(device)
    await operate(device, "logout")
    assert (await device.status())["status"] in ("connecting", "waiting")
    await crash()
    await people.all_right()

    async def logged_out() -> bool:
        return (await device.status())["status"] == "logged_out"

    await eventually(logged_out, "the device is logged out")
    await people.unlinked(alice)

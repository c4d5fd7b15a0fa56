"""Linking in both ways, and what comes between: the real daemon, the phone, and a partner."""

from __future__ import annotations

from tests.end_to_end.conftest import Restart
from tests.support.daemon import Daemon
from tests.support.matrix import Feature, proves
from tests.support.partner import Json, Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually


async def code_for(device: PartnerDevice, number: str, **more: object) -> str:
    """Ask until there is a pairing code."""

    async def look() -> str | None:
        answer = await device.partner.ask(
            "POST", f"{device.path}/pairing-code", {"phone": number, **more}
        )
        return str(answer["code"]) if answer["type"] == "success" else None

    return await eventually(look, "a pairing code is shown")


async def qr(device: PartnerDevice, method: str = "GET", body: Json | None = None) -> Json:
    """The answer of the QR route."""
    return await device.partner.ask(method, f"{device.path}/qr", body)


@proves(Feature.LINK_BY_CODE)
async def test_device_is_linked_by_a_code_typed_on_the_phone(
    partner: Partner, people: People, alice: str, bob: str, shared_daemon: Daemon
) -> None:
    device = await partner.device()
    code = await code_for(device, alice)
    device.jid = await people.enter(alice, code)
    known = await device.until("connected")
    assert known["phone"] == alice
    assert (await device.send(bob, "by code")).status_code == 200
    await people.reads(bob, "by code")
    assert code not in "".join(shared_daemon.lines())


async def test_new_code_links_after_a_mistyped_one(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.device()
    first = await code_for(device, alice)
    wrong = "1111-1111" if first != "1111-1111" else "2222-2222"
    assert "another code" in await people.fails_to_enter(alice, wrong)
    await qr(device, "DELETE")
    await device.until("unpaired")
    second = await code_for(device, alice)
    assert second != first
    await people.enter(alice, second)
    await device.until("connected")


async def test_code_survives_no_crash_and_the_next_one_links(
    tenant: Partner, people: People, alice: str, crash: Restart
) -> None:
    device = await tenant.device()
    await code_for(device, alice)
    await crash()
    assert (await device.status())["status"] == "unpaired"
    await people.enter(alice, await code_for(device, alice))
    await device.until("connected")


async def test_passkey_is_an_answer_of_its_own_and_linking_works_once_it_is_off(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.device()
    await people.ask("POST", "/faults", kind="passkey", phone=alice)
    assert "passkey" in await people.fails_to_scan(alice, await device.qr_text())
    await device.until("action_required")
    answer = await qr(device)
    assert (answer["type"], answer["reason"]) == ("action_required", "passkey")
    assert "passkey" in str(answer["message"])
    assert (await qr(device, "POST"))["type"] in ("success", "pending")
    await device.link(people, alice)


async def test_other_number_does_not_take_a_device_that_was_logged_out(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    """T-18: whoever is talked into scanning our code does not become our user."""
    device = await partner.linked(people, alice)
    await people.ask("DELETE", f"/devices/{device.jid}")
    await device.until("logged_out")
    await people.fails_to_scan(bob, await device.qr_text())
    known = await device.until("action_required")
    assert (known["reason"], known["phone"]) == ("other_number", alice)
    assert await people.devices(bob) == []
    # The explicit flag, for the round it begins.
    await qr(device, "POST", {"relink": True})
    device.jid = await people.scan(bob, await device.qr_text())
    assert (await device.until("connected"))["phone"] == bob


async def test_round_that_is_called_off_leaves_no_code_behind(
    partner: Partner, people: People, alice: str
) -> None:
    """T-19: an old picture links nothing."""
    device = await partner.device()
    text = await device.qr_text()
    await qr(device, "DELETE")
    assert (await device.until("unpaired"))["reason"] == "canceled"
    await people.fails_to_scan(alice, text)
    assert await people.devices(alice) == []

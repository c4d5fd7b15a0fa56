"""The daemon is killed at the worst moments: nothing is lost, nothing comes twice.

That a repeated message has the same bytes is watched by the simulator: another ciphertext under a
known id is a violation.
"""

from __future__ import annotations

import httpx
import trio

from tests.end_to_end.conftest import Restart
from tests.support.daemon import Daemon
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People


@proves(Feature.RELOGIN)
async def test_killed_daemon_comes_back_connected_without_a_new_code(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await crash()
    await device.until("connected")
    [linked] = await people.devices(alice)
    assert (linked["jid"], linked["connected"]) == (device.jid, True)
    assert (await device.send(bob, "here again")).status_code == 200
    await people.reads(bob, "here again")


@proves(Feature.BACKLOG)
@proves(Feature.KILLED)
async def test_message_that_came_while_the_daemon_was_dead_is_there_afterwards(
    tenant: Partner,
    people: People,
    alice: str,
    bob: str,
    mortal: Daemon,
    http: httpx.AsyncClient,
) -> None:
    device = await tenant.linked(people, alice)
    await mortal.kill()
    await people.say(bob, alice, "are you there?")
    await mortal.start(http)
    message = await device.message("are you there?", direction="in")
    assert message["peer"] == bob


async def test_accepted_message_goes_out_after_a_crash(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await people.take_offline(device)
    answer = await device.send(bob, "later", Prefer="respond-async")
    assert (answer.status_code, answer.json()["type"]) == (202, "queued")
    await people.all_right()
    await crash()
    await device.message("later", direction="out", state="delivered")
    assert await people.shown(bob) == ["later"]


@proves(Feature.KILLED)
async def test_message_killed_between_write_and_ack_is_repeated_and_shown_once(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    # The server takes the message; neither its ack nor the receipt finds a socket.
    await people.refuse_logins(device)
    await people.wrong("drop_after", device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_into_the_void, device, bob)
        await people.reads(bob, "once")
        await device.until("waiting")
        await people.all_right()
        await crash()
    sent = await device.message("once", direction="out", state="delivered")
    await people.was_sent(str(sent["wa_message_id"]), times=2)
    assert await people.shown(bob) == ["once"]


async def test_request_killed_before_the_server_took_it_may_be_repeated_and_is_shown_once(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await people.wrong("lose", device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_into_the_void, device, bob)
        await people.all_happened()
        await crash()
    answer = await device.send(bob, "once", Idempotency_Key="k1")
    assert (answer.status_code, answer.json()["message"]) == (200, "Message sent")
    assert await people.reads(bob, "once") == ["once"]


async def _send_into_the_void(device: PartnerDevice, to: str) -> None:
    """Send to a daemon that is killed meanwhile: there is no answer."""
    try:
        answer = await device.send(to, "once", Idempotency_Key="k1")
    except httpx.TransportError:
        return
    raise AssertionError(f"a killed daemon answered {answer.status_code}")

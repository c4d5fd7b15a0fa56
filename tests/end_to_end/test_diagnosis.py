"""A device is down: page, terminal and both APIs tell the same cause, proof and next step.

The page draws what GET /admin/devices/:session_id/history answers; tests/browser looks at that.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.end_to_end.conftest import Simulated
from tests.end_to_end.test_outage import Line
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.partner import Json, Partner, PartnerDevice
from tests.support.people import People
from tests.support.terminal import sitpayd


@dataclass(frozen=True)
class Trouble:
    """A way for a device to be down, and what an operator has to find."""

    name: str
    breaks: Callable[[People, PartnerDevice], Awaitable[None]]
    status: str
    reason: str
    cause: str
    event: str


async def replace(people: People, device: PartnerDevice) -> None:
    await people.stream_error(device, 409, "replaced")


async def lock(people: People, device: PartnerDevice) -> None:
    await people.refuse_login(device, 403)


async def ban(people: People, device: PartnerDevice) -> None:
    await people.refuse_login(device, 402, code=101, expire=7200)


async def outdate(people: People, device: PartnerDevice) -> None:
    await people.refuse_login(device, 405)


TROUBLES = (
    Trouble("replaced", replace, "replaced", "replaced", "keys", "stream error"),
    Trouble("locked", lock, "logged_out", "account_locked", "locked", "403"),
    Trouble("banned", ban, "banned", "ban_strangers", "banned", "402"),
)
OUTDATED: Final = Trouble("outdated", outdate, "outdated", "client_outdated", "version", "405")
# The age of a proof is counted by another clock than its time is told by.
CLOCKS_AGREE: Final = timedelta(milliseconds=50)


async def accounts(daemon: Daemon, device: PartnerDevice) -> list[Json]:
    """What each view tells of a device: the terminal, the operator's API, the partner's API."""
    ended = await sitpayd(daemon, "device", device.session_id, "--json")
    assert (ended.status, ended.errors) == (0, "")
    http, admin = device.partner.http, {"x-admin-key": ADMIN_KEY}
    path = f"{daemon.base_url}/admin/devices/{device.session_id}/history"
    operators = (await http.get(path, headers=admin)).json()
    partners = await device.partner.ask("GET", f"{device.path}/history")
    return [json.loads(ended.output), operators, partners]


def gist(told: Json) -> tuple[object, ...]:
    """Cause, evidence and next step; what is said of the time left changes while one reads."""
    device, explanation = told["device"], told["explanation"]
    assert isinstance(device, dict)
    assert isinstance(explanation, dict)
    following = re.sub(r"(, )?in \d+ \w+", "", str(explanation["next"]))
    return (
        device["status"],
        device["reason"],
        device["since"],
        device["until"],
        device["evidence"],
        explanation["cause"],
        following,
        explanation["advice"],
        json.dumps(told["events"]),
    )


def proved_at(told: Json) -> datetime:
    """When WhatsApp was heard last."""
    device = told["device"]
    assert isinstance(device, dict)
    return datetime.fromisoformat(str(device["verified_at"]))


async def page_of_the_terminal(daemon: Daemon, device: PartnerDevice) -> str:
    """What a person reads, in one line: sentences are broken where the terminal ends."""
    ended = await sitpayd(daemon, "device", device.session_id)
    return " ".join(ended.output.split())


async def diagnose(daemon: Daemon, people: People, device: PartnerDevice, trouble: Trouble) -> None:
    """Break a device, and hold against each other what every view tells."""
    await trouble.breaks(people, device)
    await device.until(trouble.status)

    told = await accounts(daemon, device)
    read = await page_of_the_terminal(daemon, device)

    assert gist(told[0]) == gist(told[1]) == gist(told[2])
    proofs = [proved_at(one) for one in told]
    assert max(proofs) - min(proofs) < CLOCKS_AGREE
    status, reason, _, until, _, cause, _, advice, events = gist(told[0])
    assert (status, reason) == (trouble.status, trouble.reason)
    assert (until is not None) is (trouble.status == "banned")
    # A device that does not come back by itself always says what a person does.
    assert isinstance(advice, str)
    assert trouble.cause in str(cause)
    assert trouble.event in str(events)
    for sentence in (cause, advice):
        assert str(sentence) in read


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_every_view_gives_the_same_diagnosis(
    partner: Partner, people: People, alice: str, daemon: Daemon, trouble: Trouble
) -> None:
    await diagnose(daemon, people, await partner.linked(people, alice), trouble)


@pytest.fixture
async def line(simulated: Simulated) -> Line:
    return Line(simulated.url)


@pytest.fixture
async def apart(
    simulated: Simulated, line: Line, http: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """A daemon whose way to WhatsApp can be cut."""
    daemon = Daemon(tmp_path, line.url, simulated.root_key)
    try:
        await daemon.start(http)
        yield daemon
        assert await daemon.stop() == 0
    finally:
        daemon.end()


async def test_outdated_client_is_diagnosed_alike(
    apart: Daemon, line: Line, http: httpx.AsyncClient, people: People, alice: str
) -> None:
    partner = await Partner.register(http, apart.base_url)
    async with line.up():
        await diagnose(apart, people, await partner.linked(people, alice), OUTDATED)


async def test_lost_network_is_told_apart_from_trouble_with_the_device(
    apart: Daemon, line: Line, http: httpx.AsyncClient, people: People, alice: str
) -> None:
    partner = await Partner.register(http, apart.base_url)
    async with line.up():
        device = await partner.linked(people, alice)
    await device.until("waiting")

    while True:
        told = await accounts(apart, device)
        first, *others = [gist(one) for one in told]
        if others == [first, first]:
            break  # it dials again and again: the three were asked between two dials
    status, reason, _, until, _, cause, following, _, events = first
    read = await page_of_the_terminal(apart, device)

    assert (status, reason) == ("waiting", "network")
    assert until is not None
    proofs = [proved_at(one) for one in told]
    assert max(proofs) - min(proofs) < CLOCKS_AGREE
    assert "dials again" in str(following)
    assert str(cause) in read
    assert "lost: network" in str(events)
    # The doctor says whose trouble it is.
    ended = await sitpayd(apart, "doctor")
    assert (ended.status, "fail  whatsapp" in ended.output) == (1, True)

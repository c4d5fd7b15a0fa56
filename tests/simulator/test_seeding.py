"""Companions that were linked before anything began: what they remember must be true."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from sitpayd.simulator.main import Simulator
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import KeyPair, PreKey
from tests.simulator.conftest import QUICK
from tests.support.companion import PATIENCE_S, Companion

FIRST = 4915111111111
FRIEND = "4915122222222"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator.start(QUICK, control_port=0) as running:
        yield running
        assert running.server.violations.broken == []


@pytest.fixture
async def control(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    assert sim.control_url is not None
    async with httpx.AsyncClient(base_url=sim.control_url, timeout=PATIENCE_S) as client:
        yield client


async def test_seeded_companion_logs_in_and_reads_what_it_is_sent(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    made = await control.post("/devices", json={"first": str(FIRST), "count": 2})
    assert made.status_code == 201
    told = made.json()["devices"][1]
    stored = Credentials.from_bytes(base64.b64decode(told["credentials"]))
    prekeys = {
        int(key_id): PreKey(int(key_id), KeyPair.from_private(base64.b64decode(key)))
        for key_id, key in told["prekeys"].items()
    }
    companion = Companion(sim, keys=stored.keys, prekeys=prekeys, paired=stored.paired)
    assert companion.identity.jid.user == str(FIRST + 1)
    friend = sim.make_account(FRIEND)
    async with companion.online() as wire:
        friend.send(sim.phone(str(FIRST + 1)).account, "hello")
        heard = await companion.hear(wire)
        assert heard.content.text == "hello"


async def test_number_with_an_account_is_not_seeded_again(control: httpx.AsyncClient) -> None:
    await control.post("/devices", json={"first": str(FIRST), "count": 1})
    again = await control.post("/devices", json={"first": str(FIRST), "count": 1})
    assert (again.status_code, again.json()["field"]) == (409, "first")


async def test_first_number_must_be_digits(control: httpx.AsyncClient) -> None:
    refused = await control.post("/devices", json={"first": "+49", "count": 1})
    assert (refused.status_code, refused.json()["field"]) == (422, "first")

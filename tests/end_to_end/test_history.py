"""A device that is down, as its partner and its operator find out why."""

from __future__ import annotations

import httpx

from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.partner import Partner
from tests.support.people import People

ADMIN = {"x-admin-key": ADMIN_KEY}


async def test_device_that_is_down_tells_cause_time_and_next_step(
    partner: Partner, people: People, alice: str, daemon: Daemon, http: httpx.AsyncClient
) -> None:
    device = await partner.linked(people, alice)
    await people.stream_error(device, 440)
    await device.until("replaced")

    theirs = await http.get(f"{daemon.base_url}{device.path}/history", headers=partner.headers)
    url = f"{daemon.base_url}/admin/devices/{device.session_id}/history"
    ours = await http.get(url, headers=ADMIN)

    for told in (theirs.json(), ours.json()):
        shown, explanation, events = told["device"], told["explanation"], told["events"]
        assert (shown["status"], shown["reason"]) == ("replaced", "replaced")
        assert (shown["evidence"], shown["phone"]) == ("stanza", f"…{alice[-4:]}")
        assert shown["verified_at"] <= shown["since"]
        assert "Another program" in explanation["cause"]
        assert "never dials by itself" in explanation["next"]
        assert "Find the second copy" in explanation["advice"]
        newest = [(event["kind"], event["detail"]) for event in events[:2]]
        assert newest == [("phase", "replaced: replaced"), ("stream_error", "440")]
        kinds = [event["kind"] for event in reversed(events)]
        life = ["operation", "dial", "opened", "qr_round", "linked", "dial", "opened", "login"]
        assert [kind for kind in kinds if kind in life] == life

from __future__ import annotations

from datetime import datetime

from sitpayd.actors.phase import Phase
from sitpayd.actors.recorder import Noted
from tests.support.front import ADMIN_KEY, Front, Tenant


async def history(front: Front, path: str, headers: dict[str, str]) -> dict[str, object]:
    """What a history route answers."""
    answer = await front.ask("GET", f"{path}/history", headers=headers)
    assert answer.status_code == 200
    body: dict[str, object] = await answer.get_json()
    return body


async def test_partner_and_operator_are_told_why_since_when_and_what_follows(
    front: Front, tenant: Tenant
) -> None:
    recorder = tenant.actor.handle.recorder
    recorder.note(Noted.LOST, "silent")
    recorder.note(Noted.BACKOFF, "60")
    tenant.actor.enter(Phase.WAITING, "no_answer", for_s=60)

    theirs = await history(front, f"/partner/devices/{tenant.session_id}", tenant.headers)
    ours = await history(front, f"/admin/devices/{tenant.session_id}", {"x-admin-key": ADMIN_KEY})

    for body in (theirs, ours):
        assert set(body) == {"type", "device", "explanation", "events"}
        device, told, events = body["device"], body["explanation"], body["events"]
        assert isinstance(device, dict)
        assert (device["status"], device["reason"]) == ("waiting", "no_answer")
        assert datetime.fromisoformat(device["since"]).tzinfo is not None
        assert isinstance(told, dict)
        assert "Nothing was heard" in told["cause"]
        assert "It dials again at" in told["next"]
        assert isinstance(events, list)
        first, second = events
        assert datetime.fromisoformat(second.pop("at")) <= datetime.fromisoformat(first.pop("at"))
        assert first == {"kind": "backoff", "detail": "60", "text": "It dials again after 60 s."}
        assert second == {
            "kind": "lost",
            "detail": "silent",
            "text": "The connection was lost: silent.",
        }


async def test_device_without_an_actor_has_no_events(front: Front, tenant: Tenant) -> None:
    front.registry.release(tenant.session_id)

    body = await history(front, f"/partner/devices/{tenant.session_id}", tenant.headers)

    assert body["events"] == []

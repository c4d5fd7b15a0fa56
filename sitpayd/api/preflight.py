"""Preflight: what would become of a message now, without sending it.

Nothing is stored and nothing is asked of WhatsApp: whether the number has an account is not told.
"""

from __future__ import annotations

from datetime import datetime

from quart import request

from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.api.notes import current_notes
from sitpayd.api.schemas import PreflightBody, read_body
from sitpayd.api.services import Services
from sitpayd.storage import contacts, outbox
from sitpayd.storage.database import Unit
from sitpayd.storage.records import MAX_QUEUED, Closeness

Answer = dict[str, object]


async def preflight(api: Services, device_token: str) -> Answer:
    """POST /wa/:device_token/preflight: `now`, `wait` until a time, or `refuse`, and why."""
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    body = await read_body(request, PreflightBody)
    standing, queued = await api.database.read(_standing, device.id, body.to)
    first_contact = standing is Closeness.STRANGER
    known = api.status_of(device)
    facts: Answer = {"first_contact": first_contact, "queued": queued, "device": device.name}
    if known.status in NEEDS_A_PERSON:
        return _decision("refuse", f"device_{known.status}", known.until, facts)
    if queued >= MAX_QUEUED:
        return _decision("refuse", "queue_full", None, facts)
    if known.status != Phase.CONNECTED:
        return _decision("wait", f"device_{known.status}", known.until, facts)
    handle = api.registry.get(device.session_id)
    outlook = None if handle is None else handle.outlook(body.to, standing)
    if outlook is not None:
        return _decision("wait", outlook.reason, outlook.until, facts)
    return _decision("now", None, None, facts)


def _standing(unit: Unit, device_id: int, recipient: str) -> tuple[Closeness, int]:
    standing = contacts.closeness(unit, device_id, recipient)
    return standing, outbox.waiting_count(unit, device_id)


def _decision(word: str, reason: str | None, until: datetime | None, facts: Answer) -> Answer:
    return {
        "type": "success",
        "decision": word,
        "reason": reason,
        "until": None if until is None else until.isoformat(),
        **facts,
    }

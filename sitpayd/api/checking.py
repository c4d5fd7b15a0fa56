"""The check route: which of some numbers have an account.

What is known is answered from what is stored, and WhatsApp is asked about the rest, as far as the
hour allows. "Not known" is an answer of its own, and never told as "no".
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

import trio
from quart import request

from sitpayd.actors.messages import CheckNumbers, Later
from sitpayd.api.notes import current_notes
from sitpayd.api.questions import ask, require_no_person
from sitpayd.api.schemas import CheckBody, read_body
from sitpayd.api.services import Services
from sitpayd.storage import checks
from sitpayd.storage.records import DeviceRecord, NumberStanding, utc_now

Answer = dict[str, object]

# Where nobody knows better.
RETRY_S: Final = 60.0


async def check(api: Services, device_token: str) -> Answer:
    """POST /wa/:device_token/check: each number with true, false, or null and why."""
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    body = await read_body(request, CheckBody)
    numbers = tuple(dict.fromkeys(body.numbers))
    require_no_person(api, device)
    known = before = await _standing(api, device, numbers)
    again_at = utc_now() + timedelta(seconds=RETRY_S)
    unknown = tuple(number for number, found in before.items() if found.may_be_asked)
    if unknown:
        reaction = await ask(
            api, device, request.headers, lambda reply: CheckNumbers(unknown, reply)
        )
        if isinstance(reaction, Later):
            again_at = utc_now() + timedelta(seconds=reaction.until - trio.current_time())
        known = await _standing(api, device, numbers)
    return {
        "type": "success",
        "results": [
            _shown(number, known[number], before[number].registered is not None, again_at)
            for number in numbers
        ],
    }


async def _standing(
    api: Services, device: DeviceRecord, numbers: tuple[str, ...]
) -> dict[str, NumberStanding]:
    per_hour = api.settings.number_checks_per_hour if api.settings.is_paced else None
    return await api.database.read(checks.standing, device.id, numbers, per_hour)


def _shown(number: str, known: NumberStanding, cached: bool, again_at: datetime) -> Answer:
    shown: Answer = {
        "number": number,
        "registered": known.registered,
        "checked_at": None if known.checked_at is None else known.checked_at.isoformat(),
        "cached": cached,
    }
    if known.registered is None:
        wait = (known.held_until or again_at) - utc_now()
        shown["reason"] = known.held_by or "no_answer"
        shown["retry_after"] = max(1, math.ceil(wait.total_seconds()))
    return shown

"""Routes that show a device to people: online or not, and typing.

Nothing of it is stored: it is written to WhatsApp now, or not at all, and ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final, assert_never

import trio
from quart import request

from sitpayd.actors.messages import (
    Done,
    Later,
    Question,
    SetPresence,
    ShowTyping,
    TooManyChats,
)
from sitpayd.actors.presence import TYPING_S
from sitpayd.actors.replies import ReplyChannel
from sitpayd.api.errors import ApiError
from sitpayd.api.notes import current_notes
from sitpayd.api.questions import ask, require_no_person
from sitpayd.api.schemas import PresenceBody, TypingBody, read_body
from sitpayd.api.services import Services
from sitpayd.storage import checks, sessions
from sitpayd.storage.database import Unit
from sitpayd.storage.records import DeviceRecord, NumberStanding, utc_now
from sitpayd.whatsapp.jid import Jid, lid, pn

Answer = dict[str, object]

_PRESENCE_TEXTS: Final = {
    "available": "Device appears online",
    "unavailable": "Device appears offline",
}
_TYPING_TEXTS: Final = {
    "composing": "Typing is shown",
    "recording": "Recording is shown",
    "paused": "Typing is shown no more",
}


async def set_presence(api: Services, device_token: str) -> Answer:
    """POST /wa/:device_token/presence: appear online for a while, or offline."""
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    body = await read_body(request, PresenceBody)
    available = body.presence == "available"
    done = await _ask(api, device, lambda reply: SetPresence(available, body.seconds, reply))
    return {
        "type": "success",
        "message": _PRESENCE_TEXTS[body.presence],
        "presence": body.presence,
        "until": _until(done),
    }


async def show_typing(api: Services, device_token: str) -> Answer:
    """POST /wa/:device_token/typing: type or record in a chat, or do so no more."""
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    body = await read_body(request, TypingBody)
    require_no_person(api, device)
    known, chat = await api.database.read(_chat, device.id, body.to)
    if known.registered is None:
        raise ApiError(
            "unknown_number",
            "The device has no chat with this number and has not checked it.",
            field="to",
        )
    if not known.registered:
        raise ApiError("not_on_whatsapp", "The number has no account.", status=422, field="to")
    done = await _ask(api, device, lambda reply: ShowTyping(chat, body.state, reply))
    return {
        "type": "success",
        "message": _TYPING_TEXTS[body.state],
        "state": body.state,
        "until": _until(done),
    }


async def _ask(
    api: Services, device: DeviceRecord, make: Callable[[ReplyChannel], Question]
) -> Done:
    reaction = await ask(api, device, request.headers, make)
    match reaction:
        case Done():
            return reaction
        case TooManyChats():
            raise ApiError(
                "typing_limit", "The device types in too many chats.", retry_after_s=TYPING_S
            )
        case Later(until):
            raise ApiError(
                "paced",
                "The device has shown too much in the last minute.",
                retry_after_s=until - trio.current_time(),
            )
        case _:
            assert_never(reaction)


def _chat(unit: Unit, device_id: int, number: str) -> tuple[NumberStanding, Jid]:
    """What is known of a number, and how its chat is addressed. Nobody is looked up for it."""
    known = checks.standing(unit, device_id, [number], 0)[number]
    user = sessions.lid_of(unit, device_id, number)
    return known, pn(number) if user is None else lid(user)


def _until(done: Done) -> str | None:
    if done.until is None:
        return None
    return (utc_now() + timedelta(seconds=done.until - trio.current_time())).isoformat()

"""Routes that show a device's messages, of both directions. Sending is sending.py."""

from __future__ import annotations

from typing import Final

from quart import request

from sitpayd.api.errors import ApiError
from sitpayd.api.notes import current_notes
from sitpayd.api.schemas import read_limit
from sitpayd.api.services import Services
from sitpayd.storage import outbox
from sitpayd.storage.records import DeviceRecord, MessageView, RowState
from sitpayd.whatsapp.jid import PN_SERVER, Jid

Answer = dict[str, object]

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200


async def list_messages(api: Services, device_token: str) -> Answer:
    """GET /wa/:device_token/messages?after=&limit=: a page in the device's order, oldest first."""
    device = await _device(api, device_token)
    page = await api.database.read(
        outbox.messages,
        device.id,
        request.args.get("after"),
        read_limit(request.args.get("limit"), DEFAULT_LIMIT, MAX_LIMIT),
    )
    if page is None:
        raise ApiError(
            "invalid_cursor", "There is no message with the id in `after`.", field="after"
        )
    return {
        "type": "success",
        "messages": [_shown(message) for message in page.messages],
        "has_more": page.more,
        "next": page.messages[-1].message_id if page.messages else None,
    }


async def show_message(api: Services, device_token: str, message_id: str) -> Answer:
    """GET /wa/:device_token/messages/:message_id: one message and how it came to its state."""
    device = await _device(api, device_token)
    message = await api.database.read(outbox.message, device.id, message_id)
    if message is None:
        raise ApiError("not_found", "There is no such message.")
    current_notes().message_id = message.message_id
    history = [{"state": change.state, "at": change.at.isoformat()} for change in message.history]
    return {"type": "success", **_shown(message), "history": history}


async def cancel_message(api: Services, device_token: str, message_id: str) -> Answer:
    """DELETE /wa/:device_token/messages/:message_id: take it back, as long as it has not left."""
    device = await _device(api, device_token)
    if not await api.database.write(outbox.cancel, device.id, message_id):
        message = await api.database.read(outbox.message, device.id, message_id)
        if message is None:
            raise ApiError("not_found", "There is no such message.")
        if message.state != RowState.CANCELED:
            raise ApiError(
                "not_cancelable",
                "Only a message that is still `accepted` can be taken back.",
                extra={"state": message.state},
            )
    api.outcomes.announce(message_id, RowState.CANCELED)
    return {"type": "success", "message": "Message canceled", "message_id": message_id}


async def _device(api: Services, device_token: str) -> DeviceRecord:
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    return device


def _shown(message: MessageView) -> Answer:
    return {
        "message_id": message.message_id,
        "wa_message_id": message.wa_message_id,
        "direction": message.direction,
        "peer": _peer(message.peer),
        "name": message.name,
        "text": message.text,
        "state": message.state,
        "reason": message.reason,
        "timestamp": message.timestamp.isoformat(),
        "held_until": None if message.held_until is None else message.held_until.isoformat(),
        "held_reason": message.held_reason,
    }


def _peer(name: str) -> str:
    """A phone number as its digits, as `to` takes it; anything else as WhatsApp names it."""
    if "@" not in name:
        return name
    jid = Jid.parse(name)
    return jid.user if jid.server == PN_SERVER else name

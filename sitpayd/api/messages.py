"""Routes about a device's messages, of both directions: shown, taken back, marked as read.

Sending is sending.py.
"""

from __future__ import annotations

from typing import Final

from quart import request

from sitpayd.api.errors import ApiError
from sitpayd.api.notes import current_notes
from sitpayd.api.schemas import ReadBody, read_limit, read_optional_body
from sitpayd.api.services import Services
from sitpayd.storage import inbox, outbox
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


async def mark_read(api: Services, device_token: str, message_id: str) -> Answer:
    """POST /wa/:device_token/messages/:message_id/read: it and the unread ones before it.

    Stored here, so a device that is away tells WhatsApp when it is back.
    """
    device = await _device(api, device_token)
    body = await read_optional_body(request, ReadBody)
    marked = await api.database.write(inbox.mark_read, device.id, message_id, only=body.only)
    if marked is None and await api.database.read(outbox.message, device.id, message_id) is None:
        raise ApiError("not_found", "There is no such message.")
    current_notes().message_id = message_id
    if marked is None or marked.read_at is None:
        raise ApiError("not_incoming", "Only a message that came in can be marked as read.")
    handle = api.registry.get(device.session_id)
    if handle is not None:
        handle.ring_for_reads()
    return {
        "type": "success",
        "message": "Message marked as read",
        "message_id": message_id,
        "read_at": marked.read_at.isoformat(),
        "marked": marked.count,
    }


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

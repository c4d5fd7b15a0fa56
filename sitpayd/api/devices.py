"""Routes of devices: create, list, status, remove. How a device is linked is pairing.py."""

from __future__ import annotations

from typing import Final

import trio
from quart import request

from sitpayd.actors.messages import Message, Remove
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.errors import ApiError
from sitpayd.api.notes import current_notes
from sitpayd.api.schemas import DeviceBody, read_body
from sitpayd.api.services import Services
from sitpayd.api.trials import shown_proxy
from sitpayd.log import get_logger
from sitpayd.storage import devices
from sitpayd.storage.records import DeviceRecord, utc_now

log = get_logger()

Answer = dict[str, object]

# Seconds for a full mailbox to make room for what a person wants.
TOLD_WITHIN_S: Final = 5.0


async def own_device(api: Services, session_id: str) -> DeviceRecord:
    """Find a device of the partner who asks.

    Raises:
        ApiError: 401 without a partner; 404 if it is not the partner's, or removed.
    """
    partner = await api.guard.partner(request.headers)
    device = await api.database.read(devices.device_by_session_id, partner.id, session_id)
    if device is None:
        raise ApiError("not_found", "There is no such device.")
    current_notes().session_id = device.session_id
    return device


async def create(api: Services) -> Answer:
    """POST /partner/devices: a new device of a user. Without `type`, as the contract has it."""
    partner = await api.guard.partner(request.headers)
    user = await api.guard.user(request.headers, partner)
    body = await read_body(request, DeviceBody)
    if body.proxy is not None:
        await api.trials.run(partner.id, body.proxy)
    device = await api.database.write(
        devices.create_device,
        partner.id,
        user.id,
        body.device_name,
        queue_when_offline=body.queue_when_offline,
        proxy=body.proxy,
    )
    current_notes().session_id = device.session_id
    api.board.publish(
        DeviceStatus(device.session_id, device.partner_id, Phase.UNPAIRED, None, device.created_at)
    )
    await api.registry.adopt(device)
    return {
        "session_id": device.session_id,
        "device_token": device.token,
        "send_url": api.send_url(device),
        "qr_url": api.qr_url(device),
    }


async def list_of_user(api: Services, user_token: str) -> Answer:
    """GET /partner/users/:token/devices: the user's devices with their send URLs."""
    partner = await api.guard.partner(request.headers)
    user = await api.guard.user_by_token(user_token, partner)
    found: list[DeviceRecord] = []
    while page := await api.database.read(
        devices.devices_of_user, partner.id, user.id, found[-1].id if found else None
    ):
        found += page
    return {"type": "success", "devices": [_listed(api, device) for device in found]}


async def status(api: Services, session_id: str) -> Answer:
    """GET /partner/devices/:session_id/status. Without `type`, as the contract has it."""
    device = await own_device(api, session_id)
    known = api.status_of(device)
    return {
        "status": known.status,
        "send_url": api.send_url(device),
        "reason": known.reason,
        "since": known.since.isoformat(),
        "until": known.until and known.until.isoformat(),
        "verified_at": known.verified_at and known.verified_at.isoformat(),
        "evidence": known.evidence,
        "phone": device.phone,
        "device_name": device.name,
        "proxy": shown_proxy(device),
    }


async def remove(api: Services, session_id: str) -> Answer:
    """DELETE /partner/devices/:session_id: its token is dead at once; it is logged out."""
    device = await own_device(api, session_id)
    await api.database.write(devices.remove_device, device.id)
    api.guard.forget_device(device)
    api.board.remove(device.session_id, utc_now())
    log.info("device.removed", session_id=device.session_id)
    handle = api.registry.get(device.session_id)
    if handle is not None:
        await tell(handle, Remove())
    return {"type": "success", "message": "Device removed"}


async def tell(handle: DeviceHandle, message: Message) -> None:
    """Tell a device what a person wants, which is stored already."""
    with trio.move_on_after(TOLD_WITHIN_S) as scope:
        await handle.deliver(message)
    if scope.cancelled_caught:
        # Nothing is lost: the row says so, and the actor reads it when it starts again.
        log.warning("device.told_later", session_id=handle.session_id)


def _listed(api: Services, device: DeviceRecord) -> Answer:
    known = api.status_of(device)
    return {
        "session_id": device.session_id,
        "device_name": device.name,
        "device_token": device.token,
        "status": known.status,
        "reason": known.reason,
        "send_url": api.send_url(device),
        "qr_url": api.qr_url(device),
        "phone": device.phone,
        "proxy": shown_proxy(device),
    }

"""Routes of the operator: all devices, one device, tickets for the feed.

What a device is and does stands in memory; only a device's existence is asked of the database.
"""

from __future__ import annotations

from typing import Final

import trio
from quart import request

from sitpayd.actors.explanations import explain
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.errors import ApiError
from sitpayd.api.filters import DeviceFilter
from sitpayd.api.notes import current_notes
from sitpayd.api.pairing import qr_answer
from sitpayd.api.schemas import QrBody, read_limit, read_optional_body
from sitpayd.api.services import Services
from sitpayd.api.tickets import TICKET_S
from sitpayd.api.views import SHOWN_DIGITS
from sitpayd.storage import devices
from sitpayd.storage.records import DeviceRecord, utc_now

Answer = dict[str, object]

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
MAX_IDS: Final = 200
# Devices looked at before others get their turn: about two milliseconds.
LOOKED_AT: Final = 500


async def any_device(api: Services, session_id: str) -> DeviceRecord:
    """Find a device of whichever partner, for an operator.

    Raises:
        ApiError: 401 without the admin key; 404 if there is none, or it was removed.
    """
    api.guard.admin(request.headers)
    device = await api.database.read(devices.device_of_any_partner, session_id)
    if device is None:
        raise ApiError("not_found", "There is no such device.")
    current_notes().session_id = device.session_id
    return device


async def list_devices(api: Services) -> Answer:
    """GET /admin/devices?partner=&status=&q=&after=&limit=, or ?ids=: a page, by session id."""
    api.guard.admin(request.headers)
    wanted = DeviceFilter.parse(request.args)
    search = request.args.get("q", "").strip().casefold()
    limit = read_limit(request.args.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
    following = None
    if "ids" in request.args:
        found = await _named(api, request.args["ids"].split(","), wanted, search)
    else:
        # One more than asked for tells whether there are more.
        found = await _found(api, request.args.get("after", ""), limit + 1, wanted, search)
        if len(found) > limit:
            found = found[:limit]
            following = found[-1].session_id
    counts = api.board.counts() if wanted.partner is None else api.board.count(wanted.partner)
    return {
        "type": "success",
        "devices": [api.views.view(known) for known in found],
        "counts": counts,
        "next": following,
    }


async def show_device(api: Services, session_id: str) -> Answer:
    """GET /admin/devices/:session_id: one device, and what its status means."""
    device = await any_device(api, session_id)
    return {"type": "success", **await described(api, device)}


async def show_qr(api: Services, session_id: str) -> Answer:
    """GET /admin/devices/:session_id/qr: as the partner's route."""
    device = await any_device(api, session_id)
    return await qr_answer(api, device, forced=False, relink=False)


async def begin_qr(api: Services, session_id: str) -> Answer:
    """POST /admin/devices/:session_id/qr: as the partner's route."""
    device = await any_device(api, session_id)
    body = await read_optional_body(request, QrBody)
    return await qr_answer(api, device, forced=True, relink=body.relink)


async def ticket(api: Services) -> Answer:
    """POST /admin/tickets: lets a browser open the feed once."""
    api.guard.admin(request.headers)
    return {"type": "success", "ticket": api.tickets.issue(), "expires_in": int(TICKET_S)}


async def described(api: Services, device: DeviceRecord) -> Answer:
    """A device's view with cause, next step and advice."""
    known = api.status_of(device)
    await api.views.know_partners([known])
    told = explain(known.status, known.reason, known.until, utc_now())
    return {
        "device": api.views.view(known, device),
        "explanation": {"cause": told.cause, "next": told.next, "advice": told.advice},
    }


async def _named(
    api: Services, ids: list[str], wanted: DeviceFilter, search: str
) -> list[DeviceStatus]:
    if len(ids) > MAX_IDS:
        raise ApiError("invalid_query", f"`ids` names more than {MAX_IDS} devices.", field="ids")
    known = [device for name in dict.fromkeys(ids) if (device := api.board.get(name)) is not None]
    await api.views.know_partners(known)
    return [device for device in known if _matches(api, device, wanted, search)]


async def _found(
    api: Services, after: str, limit: int, wanted: DeviceFilter, search: str
) -> list[DeviceStatus]:
    found: list[DeviceStatus] = []
    while len(found) < limit and (page := api.board.page(after, LOOKED_AT)):
        await api.views.know_partners(page)
        found += [device for device in page if _matches(api, device, wanted, search)]
        after = page[-1].session_id
        await trio.lowlevel.checkpoint()
    return found[:limit]


def _matches(api: Services, device: DeviceStatus, wanted: DeviceFilter, search: str) -> bool:
    if not wanted.concerns(device.partner_id):
        return False
    if wanted.statuses and not wanted.takes_status(api.views.word(device)):
        return False
    return not search or _is_like(api, device, search)


def _is_like(api: Services, device: DeviceStatus, search: str) -> bool:
    """Whether a search means this device: by its names, its partner's, or its last digits."""
    if search in device.session_id.casefold():
        return True
    record = api.views.record(device.session_id)
    if record is not None and search in record.name.casefold():
        return True
    if search in (api.views.partner_name(device) or "").casefold():
        return True
    return (
        record is not None
        and record.phone is not None
        and len(search) == SHOWN_DIGITS
        and record.phone.endswith(search)
    )

"""Routes that do something to a device: pause, resume, reconnect, restart, log out.

The wish is stored first, then the device's actor is told; so a crash between the two loses nothing.
Doing it again changes nothing. What makes no sense for a device as it stands is a 409 whose code is
the one a send would get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, get_args

import trio

from sitpayd.actors.failures import BAN_GRACE_S
from sitpayd.actors.messages import Logout, Pause, Reconnect, Resume
from sitpayd.actors.phase import REVIVABLE, Phase
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.admin import any_device
from sitpayd.api.devices import own_device, tell
from sitpayd.api.errors import ApiError
from sitpayd.api.services import Services
from sitpayd.log import get_logger
from sitpayd.storage import devices
from sitpayd.storage.records import DeviceRecord, utc_now

Answer = dict[str, object]

Operation = Literal["pause", "resume", "reconnect", "restart", "logout"]
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

# So long an answer waits for the status that the operation leads to.
SEEN_WITHIN_S: Final = 1.0

# Asked for again so soon, a device does not log in anew once more: a program that asks in a loop
# would make a storm of logins, and those cost accounts.
REDIAL_EVERY_S: Final = 10.0

_UNLINKED: Final = frozenset({Phase.UNPAIRED, Phase.PAIRING})
# From these nothing but linking it anew leads on.
_OVER: Final = _UNLINKED | {Phase.LOGGED_OUT}
_REFUSED: Final[dict[Operation, frozenset[Phase]]] = {
    "pause": _OVER,
    "resume": _OVER,
    "reconnect": _OVER | (REVIVABLE - {Phase.REPLACED}) | {Phase.PAUSED},
    "restart": frozenset(),
    "logout": _UNLINKED,
}
_DONE: Final[dict[Operation, str]] = {
    "pause": "Device paused",
    "resume": "Device resumed",
    "reconnect": "Device reconnects",
    "restart": "Device restarted",
    "logout": "Device is logged out",
}

log = get_logger()


async def operate(api: Services, device: DeviceRecord, operation: Operation) -> None:
    """Do it, and wait a moment until it shows.

    Raises:
        ApiError: 409 where it makes no sense; 404 if the device was removed meanwhile.
    """
    known = api.status_of(device)
    _check(known, device, operation)
    handle = api.registry.get(device.session_id)
    if handle is None:
        raise ApiError("not_found", "There is no such device.")
    if operation in ("reconnect", "restart") and _is_repetition(handle, operation):
        return
    before = api.board.get(device.session_id)
    log.info("device.operation", session_id=device.session_id, operation=operation)
    match operation:
        case "pause":
            await _wish(api, device, "paused")
            await tell(handle, Pause())
        case "resume":
            await _wish(api, device, "running")
            await tell(handle, Resume())
        case "reconnect" if known.status == Phase.FAULTED:
            # Its actor would hear of it only when its delay is over; a new life dials as well.
            handle.restart()
        case "reconnect":
            await tell(handle, Reconnect())
        case "restart":
            handle.restart()
        case "logout":
            if known.status == Phase.LOGGED_OUT:
                return
            await api.database.write(devices.want_logout, device.id)
            await tell(handle, Logout())
    if _leads_on(operation, known):
        with api.drain.budget(SEEN_WITHIN_S):
            while api.board.get(device.session_id) is before:
                await handle.changed()


def _is_repetition(handle: DeviceHandle, operation: Operation) -> bool:
    now, last = trio.current_time(), handle.redialled
    if last is not None and last[0] == operation and now - last[1] < REDIAL_EVERY_S:
        return True
    handle.redialled = (operation, now)
    return False


def _check(known: DeviceStatus, device: DeviceRecord, operation: Operation) -> None:
    if known.status in _REFUSED[operation]:
        raise ApiError(f"device_{known.status}", _why(operation, known.status))
    if operation == "reconnect" and device.desired == "paused":
        raise ApiError("device_paused", "The device is paused: resume it.")
    if operation == "resume" and known.status == Phase.BANNED and known.until is not None:
        wait_s = (known.until - utc_now()).total_seconds() + BAN_GRACE_S
        if wait_s > 0:
            raise ApiError(
                "device_banned",
                "WhatsApp has banned the account; an hour after the end it may be tried.",
                retry_after_s=wait_s,
                extra={"reason": known.reason, "until": known.until.isoformat()},
            )


def _why(operation: Operation, status: str) -> str:
    if status in _UNLINKED:
        return "The device is not linked: ask for a QR code."
    if status == Phase.LOGGED_OUT:
        return "The device is logged out: link it again."
    if status == Phase.PAUSED:
        return "The device is paused: resume it."
    return "The device rests: resume it, if what stopped it is over."


async def _wish(api: Services, device: DeviceRecord, desired: Literal["running", "paused"]) -> None:
    if not await api.database.write(devices.set_desired, device.id, desired):
        raise ApiError("not_found", "There is no such device.")


def _leads_on(operation: Operation, known: DeviceStatus) -> bool:
    """Whether the status will be another one in a moment."""
    match operation:
        case "pause":
            return known.status in (Phase.CONNECTED, Phase.CONNECTING, Phase.WAITING)
        case "resume":
            return known.status == Phase.PAUSED or known.status in REVIVABLE
        case "reconnect":
            return known.status != Phase.CONNECTING
        case "restart":
            return known.status == Phase.FAULTED
        case "logout":
            return known.reason != "logging_out"


async def _answer(api: Services, device: DeviceRecord, operation: Operation) -> Answer:
    await operate(api, device, operation)
    status = api.status_of(device).status
    return {"type": "success", "message": _DONE[operation], "status": status}


Route = Callable[[Services, str], Awaitable[Answer]]


def of_partner(operation: Operation) -> Route:
    """POST /partner/devices/:session_id/:operation."""

    async def route(api: Services, session_id: str) -> Answer:
        return await _answer(api, await own_device(api, session_id), operation)

    return route


def of_operator(operation: Operation) -> Route:
    """POST /admin/devices/:session_id/:operation."""

    async def route(api: Services, session_id: str) -> Answer:
        return await _answer(api, await any_device(api, session_id), operation)

    return route

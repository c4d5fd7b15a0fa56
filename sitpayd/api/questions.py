"""Questions: how a route asks a device's actor something whose answer is stored nowhere.

A device that is about to connect gets the caller's patience for it. One that needs a person is 409
at once, and what could not be done is said as such: nothing of it happens later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sitpayd.actors.messages import Done, Later, NotNow, Question, Reaction, TooManyChats
from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.replies import ReplyChannel
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.auth import unknown_device_token
from sitpayd.api.errors import ApiError
from sitpayd.api.exchange import HeaderLines
from sitpayd.api.schemas import read_prefer
from sitpayd.api.services import Services
from sitpayd.storage.records import DeviceRecord

OFFLINE_RETRY_S: Final = 10
BUSY_RETRY_S: Final = 5


def require_no_person(api: Services, device: DeviceRecord) -> None:
    """Refuse what a device cannot do until a person acts.

    Raises:
        ApiError: 409, as for a send.
    """
    known = api.status_of(device)
    if known.status in NEEDS_A_PERSON:
        raise _needs_a_person(known)


async def ask(
    api: Services,
    device: DeviceRecord,
    headers: HeaderLines,
    make: Callable[[ReplyChannel], Question],
) -> Done | Later | TooManyChats:
    """Wait until the device is connected, ask its actor, and wait for the answer.

    Args:
        headers: of the request: `Prefer: wait=` says how long to wait.
        make: makes the question, once for each try.

    Raises:
        ApiError: 409 if a person has to act first; 503 if it was not done within the wait.
        DeviceBusyError: If the device's mailbox is full.
    """
    wait_s, _ = read_prefer(headers)
    is_asked = False
    with api.drain.budget(api.settings.send_wait_s if wait_s is None else wait_s):
        while True:
            require_no_person(api, device)
            handle = api.registry.get(device.session_id)
            if handle is None:
                raise unknown_device_token()
            before = api.board.get(device.session_id)
            if api.status_of(device).status == Phase.CONNECTED:
                is_asked = True
                reaction = await _asked(handle, make)
                if reaction is None:
                    raise _offline()
                if not isinstance(reaction, NotNow):
                    return reaction
                is_asked = False
            # Only if nothing has changed meanwhile: that would have been the wake-up.
            if api.board.get(device.session_id) is before:
                await handle.changed()
    if api.drain.begun.is_set():
        raise ApiError(
            "stopping", "The daemon is stopping; this was not done.", retry_after_s=OFFLINE_RETRY_S
        )
    if is_asked:
        raise ApiError("device_busy", "The device has too much to do.", retry_after_s=BUSY_RETRY_S)
    raise _offline()


async def _asked(handle: DeviceHandle, make: Callable[[ReplyChannel], Question]) -> Reaction | None:
    with ReplyChannel() as reply:
        handle.post(make(reply))
        return await reply.wait()


def _offline() -> ApiError:
    return ApiError(
        "device_offline",
        "The device is not connected; this was not done.",
        retry_after_s=OFFLINE_RETRY_S,
    )


def _needs_a_person(known: DeviceStatus) -> ApiError:
    extra: dict[str, object] = {"reason": known.reason}
    if known.until is not None:
        extra["until"] = known.until.isoformat()
    return ApiError(
        f"device_{known.status}",
        "The device cannot do this until somebody acts.",
        extra=extra,
    )

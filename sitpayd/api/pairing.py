"""Routes that link a device to a phone: by QR code, and by a code that is typed on the phone.

A first call begins a round and waits a moment for its code; later calls show the code of the
moment. Polling with GET may begin three rounds an hour; POST begins one in so many words, with a
bound of its own. Which rounds may begin is the device's to know (actors/pairing.py); how many
devices of a partner may be linked at a time is decided here. A code is a secret: it is never
cached, logged or put on the feed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from quart import request

from sitpayd.actors.messages import CancelPairing, PairingWish
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.phase import RESTING, Phase
from sitpayd.actors.registry import DeviceHandle, ShownCode, ShownQr
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.devices import own_device
from sitpayd.api.errors import ApiError
from sitpayd.api.schemas import PairingCodeBody, QrBody, read_body, read_optional_body
from sitpayd.api.services import Services
from sitpayd.storage.devices import device_by_id
from sitpayd.storage.records import DeviceRecord, utc_now

Answer = dict[str, object]

FIRST_CODE_WITHIN_S: Final = 2.0
# A pairing code takes a dial, a handshake, two slow hashes and two questions.
PAIRING_CODE_WITHIN_S: Final = 8.0
RETRY_AFTER_S: Final = 3
# Devices of one partner that may be linked at the same time: each holds a connection.
MAX_PAIRINGS: Final = 3
# When one of them may be done: a round lasts 160 s.
PAIRINGS_RETRY_S: Final = 20
# For so long a link that WhatsApp refused is told; then the next GET begins a new round.
TOLD_FOR_S: Final = 60

# No round is under way and one may begin: with the first keys, or with fresh ones.
_MAY_BEGIN: Final = frozenset({Phase.UNPAIRED, Phase.LOGGED_OUT})
# Linked, and up or on its way back by itself.
_LINKED: Final = frozenset({Phase.PAIRED, Phase.CONNECTING, Phase.CONNECTED, Phase.WAITING})
# A code would not help: somebody has to do something else first.
_BLOCKED: Final[Mapping[str, str]] = {
    Phase.REPLACED: "Another program uses this device's login: stop it, then remove this device"
    " and link a new one.",
    Phase.BANNED: "WhatsApp has banned the account: look at the phone.",
    Phase.OUTDATED: "WhatsApp no longer takes this version of sitpayd: ask its operator.",
    Phase.ACTION_REQUIRED: "WhatsApp wants something first: look at the phone.",
    Phase.PAUSED: "The device is paused.",
}
# The same for links that came to nothing: what the person does, after which a code makes sense.
_REFUSED_LINKS: Final[Mapping[str, str]] = {
    "passkey": "WhatsApp asks for the account's passkey, which a linked device cannot give: turn"
    " the passkey off in WhatsApp's settings on the phone, then ask for a code again after a"
    " minute.",
    "no_multi_device": "The phone's WhatsApp is too old for linked devices: update it, then ask"
    " for a code again after a minute.",
    "other_number": "This device belongs to another number than the one that was to be linked:"
    " link the first number again, or ask for a code with `relink`.",
}


# --- by QR code ---


async def show_qr(api: Services, session_id: str) -> Answer:
    """GET /partner/devices/:session_id/qr: a code, `pending`, `connected` or `action_required`."""
    device = await own_device(api, session_id)
    return await qr_answer(api, device, forced=False, relink=False)


async def begin_qr(api: Services, session_id: str) -> Answer:
    """POST /partner/devices/:session_id/qr: the same, and a round begins at once."""
    device = await own_device(api, session_id)
    body = await read_optional_body(request, QrBody)
    return await qr_answer(api, device, forced=True, relink=body.relink)


async def cancel(api: Services, session_id: str) -> Answer:
    """DELETE /partner/devices/:session_id/qr: the round under way is over, with its codes."""
    device = await own_device(api, session_id)
    handle = api.registry.get(device.session_id)
    if handle is not None and handle.pairs:
        handle.post(CancelPairing())
    return {"type": "success", "message": "Linking ended"}


async def qr_answer(api: Services, device: DeviceRecord, *, forced: bool, relink: bool) -> Answer:
    """Begin a round where one may begin, and say what there is to show.

    Args:
        forced: asked for in so many words: polling's bound does not hold.
        relink: another number than the first one may be linked.

    Raises:
        ApiError: 429 if a forced round may not begin.
    """
    handle = api.registry.get(device.session_id)
    if handle is not None:
        before = api.status_of(device)
        bar = _begin(api, device, handle, PairingWish(forced=forced, relink=relink), before)
        if bar is not None and forced:
            raise _too_many(bar)
        if bar is not None:
            return _pending("QR", _seconds(bar), bar.reason)
        if handle.pairs:
            with api.drain.budget(FIRST_CODE_WITHIN_S):
                await _something_to_show(api, device, handle, before, lambda: _qr(handle))
        qr = _qr(handle)
        if qr is not None:
            return {
                "type": "success",
                "qr": await api.pictures.data_uri(qr),
                "expires_at": qr.expires_at.isoformat(),
            }
    known = api.status_of(device)
    if known.status == Phase.CONNECTED:
        return {"type": "connected", "phone": await _number(api, device)}
    return _blocked(known) or _pending("QR")


# --- by pairing code ---


async def pairing_code(api: Services, session_id: str) -> Answer:
    """POST /partner/devices/:session_id/pairing-code: a code to be typed on this number's phone."""
    device = await own_device(api, session_id)
    body = await read_body(request, PairingCodeBody)
    known = api.status_of(device)
    if known.status in _LINKED:
        raise ApiError("device_linked", "The device is linked already.")
    if device.phone not in (None, body.phone) and not body.relink:
        raise ApiError(
            "other_number", "The device belongs to another number: say `relink`.", field="phone"
        )
    handle = api.registry.get(device.session_id)
    if handle is None:
        return _pending("Code")
    return await _code_answer(api, device, handle, body, known)


async def _code_answer(
    api: Services,
    device: DeviceRecord,
    handle: DeviceHandle,
    body: PairingCodeBody,
    before: DeviceStatus,
) -> Answer:
    def code() -> ShownCode | None:
        shown = handle.code
        is_it = shown is not None and shown.phone == body.phone and shown.expires_at > utc_now()
        return shown if is_it else None

    if code() is None:
        _raise_if_refused(before, before)
        wish = PairingWish(forced=True, relink=body.relink, phone=body.phone)
        bar = _begin(api, device, handle, wish, before)
        if bar is not None:
            raise _too_many(bar)
        if handle.pairs:
            with api.drain.budget(PAIRING_CODE_WITHIN_S):
                await _something_to_show(api, device, handle, before, code)
    shown = code()
    if shown is not None:
        return {
            "type": "success",
            "code": shown.text,
            "expires_at": shown.expires_at.isoformat(),
        }
    known = api.status_of(device)
    _raise_if_refused(known, before)
    return _blocked(known) or _pending("Code")


def _raise_if_refused(known: DeviceStatus, before: DeviceStatus) -> None:
    """Raise if WhatsApp gives no code: one that it limits is refused until that is over."""
    if known.status != Phase.UNPAIRED:
        return
    if known.reason == "code_rate_limited" and known.until and known.until > utc_now():
        raise ApiError(
            "code_rate_limited",
            "WhatsApp gives no pairing code now: wait, or link by QR code.",
            retry_after_s=(known.until - utc_now()).total_seconds(),
        )
    if known.reason == "code_refused" and known.since != before.since:
        raise ApiError(
            "code_refused", "WhatsApp gives no pairing code for this number.", field="phone"
        )


# --- rounds ---


def _begin(
    api: Services,
    device: DeviceRecord,
    handle: DeviceHandle,
    wish: PairingWish,
    known: DeviceStatus,
) -> PairingBar | None:
    """Begin a round, or bring a wish into the one under way, where that makes sense.

    Returns:
        What limits it; None: nothing does.
    """
    if handle.pairs:
        if not wish.relink and wish.phone is None:
            return None  # one round per device, which whoever asks shares
    elif not _may_begin(known, wish.forced):
        return None
    bar = handle.pairing_bar(wish)
    if bar is not None:
        return None if bar.wait_s is None else bar
    if not handle.pairs and api.registry.pairing_count(device.partner_id) >= MAX_PAIRINGS:
        return PairingBar("too_many_pairings", PAIRINGS_RETRY_S)
    handle.ask_to_pair(wish)
    return None


def _may_begin(known: DeviceStatus, forced: bool) -> bool:
    if known.status in _MAY_BEGIN:
        return True
    # Whether it is linked or may be linked anew, only its actor knows.
    return known.status in RESTING and (forced or _told_for_s(known) >= TOLD_FOR_S)


async def _something_to_show(
    api: Services,
    device: DeviceRecord,
    handle: DeviceHandle,
    before: DeviceStatus,
    shown: Callable[[], ShownQr | ShownCode | None],
) -> None:
    """Wait for a code, or for a status that no code will follow."""
    while shown() is None:
        known = api.status_of(device)
        # Each change has its time; the evidence beside it changes without one.
        if known.since != before.since and known.status != Phase.PAIRING:
            return
        await handle.changed()


# --- answers ---


def _qr(handle: DeviceHandle) -> ShownQr | None:
    qr = handle.qr
    return qr if qr is not None and qr.expires_at > utc_now() else None


async def _number(api: Services, device: DeviceRecord) -> str | None:
    if device.phone is not None:
        return device.phone
    # Linked since the record was read.
    fresh = await api.database.read(device_by_id, device.id)
    return None if fresh is None else fresh.phone


def _blocked(known: DeviceStatus) -> Answer | None:
    blocked = _BLOCKED.get(known.status)
    if blocked is None:
        return None
    answer: Answer = {
        "type": "action_required",
        "message": _REFUSED_LINKS.get(known.reason or "", blocked),
        "status": known.status,
        "reason": known.reason,
    }
    if known.reason in _REFUSED_LINKS:
        answer["retry_after"] = max(1, math.ceil(TOLD_FOR_S - _told_for_s(known)))
    return answer


def _pending(what: str, seconds: int = RETRY_AFTER_S, reason: str | None = None) -> Answer:
    answer: Answer = {
        "type": "pending",
        "message": f"{what} not ready, retry in {seconds}s",
        "retry_after": seconds,
    }
    return answer if reason is None else {**answer, "reason": reason}


def _too_many(bar: PairingBar) -> ApiError:
    several = bar.reason == "too_many_pairings"
    text = "Too many devices are being linked." if several else "Too many codes were asked for."
    return ApiError(bar.reason, text, retry_after_s=_seconds(bar))


def _seconds(bar: PairingBar) -> int:
    return max(1, math.ceil(bar.wait_s or 0))


def _told_for_s(known: DeviceStatus) -> float:
    return (utc_now() - known.since).total_seconds()

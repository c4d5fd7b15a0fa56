"""The QR route: links a device to a phone.

The first call starts a round of codes and waits a moment for the first one; later calls show the
code of the moment. A code is a secret: it is never cached, logged or put on the feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sitpayd.actors.messages import StartPairing
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceHandle, ShownQr
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.devices import own_device
from sitpayd.api.services import Services
from sitpayd.storage.devices import device_by_id
from sitpayd.storage.records import DeviceRecord, utc_now

Answer = dict[str, object]

FIRST_CODE_WITHIN_S: Final = 2.0
RETRY_AFTER_S: Final = 3

# No round is under way and one may begin: with the first keys, or with fresh ones.
_MAY_BEGIN: Final = frozenset({Phase.UNPAIRED, Phase.LOGGED_OUT})
# A code would not help: somebody has to do something else first.
_BLOCKED: Final[Mapping[str, str]] = {
    Phase.REPLACED: "Another program uses this device's login: stop it, then remove this device"
    " and link a new one.",
    Phase.BANNED: "WhatsApp has banned the account: look at the phone.",
    Phase.OUTDATED: "WhatsApp no longer takes this version of sitpayd: ask its operator.",
    Phase.ACTION_REQUIRED: "WhatsApp wants something first: look at the phone.",
    Phase.PAUSED: "The device is paused.",
}
_PASSKEY: Final = (
    "WhatsApp asks for the account's passkey, which a linked device cannot give: turn the passkey"
    " off in WhatsApp's settings on the phone, then ask for a code again after a minute."
)
# For so long a link that WhatsApp refused is told; then the next call begins a new round.
TOLD_FOR_S: Final = 60
# The machine's word for "too many rounds within the hour", and when asking again makes sense.
_LIMITED: Final = "qr_limit"
_LIMITED_RETRY_S: Final = 60


async def show_qr(api: Services, session_id: str) -> Answer:
    """GET /partner/devices/:session_id/qr: a code, `pending`, `connected` or `action_required`."""
    return await qr_answer(api, await own_device(api, session_id))


async def qr_answer(api: Services, device: DeviceRecord) -> Answer:
    """Begin a round where one may begin, and say what there is to show."""
    handle = api.registry.get(device.session_id)
    if handle is not None:
        known = api.status_of(device)
        begins = _may_begin(known, device)
        if begins:
            handle.post(StartPairing())
        if (begins and known.reason != _LIMITED) or known.status == Phase.PAIRING:
            with api.drain.budget(FIRST_CODE_WITHIN_S):
                await _something_to_show(api, device, handle, known)
        qr = _code(handle)
        if qr is not None:
            return {
                "type": "success",
                "qr": await api.pictures.data_uri(qr),
                "expires_at": qr.expires_at.isoformat(),
            }
    known = api.status_of(device)
    if known.status == Phase.CONNECTED and device.phone is None:
        # Linked since the record was read.
        fresh = await api.database.read(device_by_id, device.id)
        device = fresh or device
    return _without_code(known, device)


async def _something_to_show(
    api: Services, device: DeviceRecord, handle: DeviceHandle, before: DeviceStatus
) -> None:
    """Wait for a code, or for a status that no code will follow."""
    while _code(handle) is None:
        known = api.status_of(device)
        # Each change has its time; the evidence beside it changes without one.
        if known.since != before.since and known.status != Phase.PAIRING:
            return
        await handle.changed()


def _may_begin(known: DeviceStatus, device: DeviceRecord) -> bool:
    if known.status == Phase.ACTION_REQUIRED and device.phone is None:
        return (utc_now() - known.since).total_seconds() >= TOLD_FOR_S
    return known.status in _MAY_BEGIN


def _code(handle: DeviceHandle) -> ShownQr | None:
    qr = handle.qr
    return qr if qr is not None and qr.expires_at > utc_now() else None


def _without_code(known: DeviceStatus, device: DeviceRecord) -> Answer:
    if known.status == Phase.CONNECTED:
        return {"type": "connected", "phone": device.phone}
    blocked = _BLOCKED.get(known.status)
    if blocked is not None:
        return {
            "type": "action_required",
            "message": _PASSKEY if known.reason == "passkey" else blocked,
            "status": known.status,
            "reason": known.reason,
        }
    seconds = _LIMITED_RETRY_S if known.reason == _LIMITED else RETRY_AFTER_S
    return {
        "type": "pending",
        "message": f"QR not ready, retry in {seconds}s",
        "retry_after": seconds,
    }

"""Routes that tell a device's history: why it is as it is, since when, and what happens next."""

from __future__ import annotations

from sitpayd.api.admin import any_device, described
from sitpayd.api.devices import own_device
from sitpayd.api.services import Services
from sitpayd.storage.records import DeviceRecord

Answer = dict[str, object]


async def own_history(api: Services, session_id: str) -> Answer:
    """GET /partner/devices/:session_id/history."""
    return await _history(api, await own_device(api, session_id))


async def any_history(api: Services, session_id: str) -> Answer:
    """GET /admin/devices/:session_id/history."""
    return await _history(api, await any_device(api, session_id))


async def _history(api: Services, device: DeviceRecord) -> Answer:
    handle = api.registry.get(device.session_id)
    events = [] if handle is None else handle.recorder.events()
    return {
        "type": "success",
        **await described(api, device),
        "events": [
            {
                "at": event.at.isoformat(),
                "kind": event.kind,
                "detail": event.detail,
                "text": event.text,
            }
            for event in events
        ],
    }

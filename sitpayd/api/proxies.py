"""The route of proxies: through what a device reaches WhatsApp. They are tried in trials.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import trio
from quart import request

from sitpayd.actors.messages import Reroute
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.recorder import Noted
from sitpayd.actors.registry import DeviceBusyError
from sitpayd.api.devices import Answer, own_device
from sitpayd.api.errors import ApiError
from sitpayd.api.schemas import ProxyBody, read_body
from sitpayd.api.services import Services
from sitpayd.log import get_logger
from sitpayd.storage import devices
from sitpayd.storage.records import DeviceRecord

log = get_logger()

# For a full mailbox to make room.
REROUTE_WITHIN_S: Final = 5.0


async def change(api: Services, session_id: str) -> Answer:
    """PUT /partner/devices/:session_id/proxy: set or remove it; the device reconnects.

    Raises:
        ApiError: `proxy_unreachable` or `proxy_refused`, and nothing is changed.
    """
    device = await own_device(api, session_id)
    proxy = (await read_body(request, ProxyBody)).proxy
    if proxy is not None:
        await api.trials.run(device.partner_id, proxy)
    # A caller who leaves between the two would leave the actor on another way than the stored one.
    with trio.CancelScope(shield=True):
        async with api.trials.changing:
            await _store(api, device, proxy)
        await _tell(api, device)
    return {
        "type": "success",
        "message": "Proxy removed" if proxy is None else "Proxy set",
        "proxy": proxy and parse_proxy(proxy).address,
    }


async def _store(api: Services, device: DeviceRecord, proxy: str | None) -> None:
    if not await api.database.write(devices.set_proxy, device.id, proxy):
        raise ApiError("not_found", "There is no such device.")
    log.info("device.proxy_changed", session_id=device.session_id, set=proxy is not None)
    handle = api.registry.get(device.session_id)
    if handle is not None:
        # From here on nothing is dialled another way, whatever becomes of the message.
        handle.record = replace(handle.record, proxy=proxy)
        handle.recorder.note(Noted.PROXY, "taken away" if proxy is None else "set")


async def _tell(api: Services, device: DeviceRecord) -> None:
    handle = api.registry.get(device.session_id)
    if handle is None:
        return
    with trio.move_on_after(REROUTE_WITHIN_S) as scope:
        await handle.deliver(Reroute())
    if scope.cancelled_caught:
        # It is stored, but the old connection stands: the caller asks again.
        raise DeviceBusyError(f"mailbox of {device.session_id} is full")

"""The admin feed: every device's status over a WebSocket, first all of them, then each change.

It can hold no secret, since the status board holds none. Nobody is waited for: who reads too slowly
is cut off and may come back for a fresh snapshot.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlsplit

import trio
from quart import websocket

from sitpayd.actors.status import DeviceStatus, Subscription
from sitpayd.api.errors import ApiError
from sitpayd.api.services import Services

# Close codes. Source: RFC 6455 section 7.4.1 and the IANA registry it founded.
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013

CLOSE_WITHIN_S: Final = 2.0


async def feed(api: Services) -> None:
    """GET /admin/feed."""
    api.guard.admin(websocket.headers)
    _check_origin(api)
    # First: the framework shakes hands only when asked to.
    await websocket.accept()
    code = GOING_AWAY
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            nonlocal code
            with api.board.subscribe() as subscription:
                await _tell(subscription)
            code = TRY_AGAIN_LATER
            nursery.cancel_scope.cancel()

        async def listen() -> None:
            nonlocal code
            await websocket.receive()
            # There is nothing to say here; whoever talks is not a reader of this feed.
            code = POLICY_VIOLATION
            nursery.cancel_scope.cancel()

        nursery.start_soon(tell)
        nursery.start_soon(listen)
        await api.drain.begun.wait()
        nursery.cancel_scope.cancel()
    with trio.move_on_after(CLOSE_WITHIN_S):
        await websocket.close(code)


async def _tell(subscription: Subscription) -> None:
    await websocket.send(
        json.dumps(
            {
                "type": "snapshot",
                "seq": subscription.seq,
                "devices": [_shown(device) for device in subscription.snapshot],
            }
        )
    )
    async for change in subscription.changes:
        await websocket.send(
            json.dumps({"type": "status", "seq": change.seq, "device": _shown(change.device)})
        )


def _check_origin(api: Services) -> None:
    """A page of another site must not open the feed with its visitor's network position."""
    origins = websocket.headers.getlist("origin")
    own = urlsplit(api.settings.base_url)
    if origins and origins != [f"{own.scheme}://{own.netloc}"]:
        raise ApiError("forbidden_origin", "This Origin may not read the feed.", field="origin")


def _shown(device: DeviceStatus) -> dict[str, object]:
    return {
        "session_id": device.session_id,
        "status": device.status,
        "reason": device.reason,
        "since": device.since.isoformat(),
    }

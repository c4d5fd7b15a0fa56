"""Health: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Final

import trio

from sitpayd.api.errors import ApiError
from sitpayd.api.services import Services

WRITABLE_WITHIN_S: Final = 5.0


async def healthz(api: Services) -> dict[str, object]:
    """GET /healthz: the event loop turns."""
    return {"status": "ok"}


async def readyz(api: Services) -> dict[str, object]:
    """GET /readyz: the database has room for a message, and the daemon is not on its way out."""
    if api.drain.begun.is_set():
        raise ApiError("stopping", "The daemon is stopping.")
    with trio.move_on_after(WRITABLE_WITHIN_S) as scope:
        await api.database.prove_room()
    if scope.cancelled_caught:
        raise ApiError("storage_unavailable", "The database does not answer.")
    return {"status": "ok"}

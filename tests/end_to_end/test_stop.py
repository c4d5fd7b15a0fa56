"""SIGTERM: what is under way is answered, nobody holds the end up, and the next start goes on."""

from __future__ import annotations

import httpx
import trio

from tests.support.daemon import Daemon


async def test_idle_connection_does_not_hold_the_end_up(
    daemon: Daemon, http: httpx.AsyncClient
) -> None:
    assert (await http.get(f"{daemon.base_url}/healthz")).is_success
    with trio.fail_after(5):
        assert await daemon.stop() == 0

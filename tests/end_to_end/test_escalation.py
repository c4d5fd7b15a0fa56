"""Where many devices crash at once the process ends, and systemd starts it anew."""

from __future__ import annotations

from pathlib import Path

import httpx

from sitpayd.actors.restarts import ESCALATION_MIN_DEVICES
from tests.end_to_end.conftest import Simulated
from tests.support.daemon import Daemon
from tests.support.partner import Partner

EX_SOFTWARE = 70


async def test_daemon_ends_with_status_70_when_many_devices_crash_at_once(
    simulated: Simulated, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """F-13: crashes in max(5, 20 %) different devices within 60 s; the unit starts it again."""
    program = ("-m", "tests.end_to_end.crashing_daemon")
    daemon = Daemon(tmp_path, simulated.url, simulated.root_key, program)
    try:
        await daemon.start(http)
        partner = await Partner.register(http, daemon.base_url)
        for _ in range(ESCALATION_MIN_DEVICES - 1):
            await partner.device()
        assert daemon.is_running
        await partner.device()
        assert await daemon.ended() == EX_SOFTWARE
        assert "devices crashed within a minute" in daemon.log.read_text().splitlines()[-1]
    finally:
        daemon.end()

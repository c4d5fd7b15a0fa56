"""A share of the protocol soak: `make soak-protocol` lets them talk for two hours."""

from __future__ import annotations

from pathlib import Path

from tests.soak_protocol.events import EVENTS
from tests.soak_protocol.soak import Size, soak

TALK_S = 25.0
# Busy machines take their time; otherwise it takes a few seconds.
SETTLE_S = 150.0
MESSAGE_EACH_S = 3.0
EVENT_EACH_S = 0.4


async def test_everything_is_decrypted_once_whatever_happens(tmp_path: Path) -> None:
    # Without Baileys, whose own mistakes the judge cannot all tell from ours.
    size = Size(TALK_S, SETTLE_S, MESSAGE_EACH_S, EVENT_EACH_S, homes=0)
    result = await soak(1, size, tmp_path)
    assert result.findings == []
    assert result.fates["sent"] >= 50
    assert result.shown["daemon"] >= 20
    assert len(result.events.keys() & EVENTS.keys()) >= len(EVENTS) // 2

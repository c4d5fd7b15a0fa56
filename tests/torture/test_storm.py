"""The storm in a glass of water: the lane itself runs in `make torture`."""

from __future__ import annotations

from tests.torture.storm import Size, run_storm
from tests.torture.verdict import Fate

GLASS = Size(sends=60, kills=1, devices=2, strangers=2, bound_s=60.0)


async def test_killed_daemon_loses_nothing_and_repeats_nothing_visibly() -> None:
    result = await run_storm(1, GLASS)

    assert result.findings == []
    assert result.fates == {Fate.SENT: 60}
    assert (result.kills, result.lives) == (1, 2)

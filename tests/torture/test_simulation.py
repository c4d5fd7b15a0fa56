"""Ten small worlds, some of them in two processes: the lane itself runs in `make torture`."""

from __future__ import annotations

from tests.torture.simulation import live

TWINS = [0, 1]
SEEDS = [*TWINS, *range(2, 10)]


async def test_worlds_keep_every_promise_and_a_seed_means_one_world() -> None:
    worlds = await live([*TWINS, *reversed(TWINS), *range(2, 10)])

    assert {world.seed: world.findings for world in worlds if world.findings} == {}
    assert sorted(world.seed for world in worlds) == sorted([*SEEDS, *TWINS])
    assert len({(world.seed, world.trace) for world in worlds}) == len(SEEDS)
    assert len({world.trace for world in worlds}) == len(SEEDS)

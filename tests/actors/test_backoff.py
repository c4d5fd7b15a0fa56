from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.backoff import BASE_S, CAP_S, HEALTHY_AFTER_S, Backoff


class Highest(Random):
    """Draws the longest delay there is."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(Highest())
    delays = [backoff.next_delay(0.0) for _ in range(10)]
    assert delays == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, CAP_S, CAP_S]
    assert backoff.attempts == 10


def test_minimum_is_added_to_the_draw() -> None:
    assert Backoff(Highest()).next_delay(0.0, 300.0) == 300.0 + BASE_S


def test_short_connection_does_not_start_the_count_anew() -> None:
    backoff = Backoff(Highest())
    backoff.next_delay(0.0)
    backoff.connected(10.0)
    assert backoff.next_delay(10.0 + HEALTHY_AFTER_S - 0.1) == 4.0


def test_healthy_connection_starts_the_count_anew() -> None:
    backoff = Backoff(Highest())
    backoff.next_delay(0.0)
    backoff.connected(10.0)
    assert backoff.next_delay(10.0 + HEALTHY_AFTER_S) == BASE_S


def test_health_counts_once() -> None:
    backoff = Backoff(Highest())
    backoff.connected(0.0)
    assert backoff.next_delay(HEALTHY_AFTER_S) == BASE_S
    assert backoff.next_delay(10 * HEALTHY_AFTER_S) == 2 * BASE_S


@given(st.integers(), st.integers(1, 2000), st.floats(0.0, 1e4))
def test_every_delay_lies_within_its_bounds(seed: int, attempts: int, minimum: float) -> None:
    backoff = Backoff(Random(seed))
    for attempt in range(attempts):
        cap = min(BASE_S * 2.0 ** min(attempt, 30), CAP_S)
        assert minimum <= backoff.next_delay(0.0, minimum) <= minimum + cap

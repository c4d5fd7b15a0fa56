from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.keepalive import (
    ASK_AGAIN_S,
    DEAD_AFTER_S,
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    PROBE_S,
    Keepalive,
)


def running(seed: int = 0) -> Keepalive:
    keepalive = Keepalive(Random(seed))
    keepalive.start(0.0)
    return keepalive


def first_ping(keepalive: Keepalive) -> float:
    deadline = keepalive.deadline()
    assert deadline is not None
    assert keepalive.ping_due(deadline)
    return deadline


@given(st.integers())
def test_first_ping_comes_after_20_to_30_seconds(seed: int) -> None:
    assert MIN_INTERVAL_S <= first_ping(running(seed)) <= MAX_INTERVAL_S


def test_nothing_is_due_without_a_connection() -> None:
    keepalive = Keepalive(Random(0))
    keepalive.heard(1.0)
    assert keepalive.deadline() is None
    assert not keepalive.running
    assert not keepalive.dead(1e9)
    assert not keepalive.ping_due(1e9)


def test_nothing_is_due_behind_the_end_of_a_connection() -> None:
    keepalive = running()
    keepalive.stop()
    assert keepalive.deadline() is None
    assert not keepalive.running


def test_no_ping_before_its_time() -> None:
    assert not running().ping_due(MIN_INTERVAL_S - 0.1)


def test_unanswered_ping_is_repeated_once_after_ten_seconds() -> None:
    keepalive = running()
    first = first_ping(keepalive)
    assert keepalive.deadline() == first + ASK_AGAIN_S
    assert keepalive.ping_due(first + ASK_AGAIN_S)
    assert keepalive.deadline() == DEAD_AFTER_S


def test_answered_ping_is_followed_by_the_next_in_20_to_30_seconds() -> None:
    keepalive = running()
    first = first_ping(keepalive)
    keepalive.heard(first + 1.0)
    second = first_ping(keepalive)
    assert MIN_INTERVAL_S <= second - first <= MAX_INTERVAL_S


def test_silence_of_45_seconds_is_death() -> None:
    keepalive = running()
    keepalive.heard(10.0)
    assert not keepalive.dead(10.0 + DEAD_AFTER_S - 0.1)
    assert keepalive.dead(10.0 + DEAD_AFTER_S)


def test_new_connection_starts_with_a_clean_slate() -> None:
    keepalive = running()
    first_ping(keepalive)
    keepalive.start(100.0)
    deadline = keepalive.deadline()
    assert deadline is not None
    assert deadline >= 100.0 + MIN_INTERVAL_S


def test_probed_connection_is_pinged_at_once_and_dead_after_ten_seconds() -> None:
    """F-15: after a sleep of the machine a socket is guilty until it has said something."""
    keepalive = running()
    keepalive.probe(5.0)
    assert keepalive.deadline() == 5.0
    assert keepalive.ping_due(5.0)
    assert not keepalive.dead(5.0 + PROBE_S - 0.1)
    assert keepalive.dead(5.0 + PROBE_S)


def test_probed_connection_that_says_something_is_alive() -> None:
    keepalive = running()
    keepalive.probe(5.0)
    assert keepalive.ping_due(5.0)
    keepalive.heard(6.0)
    assert not keepalive.dead(6.0 + PROBE_S + 1)
    assert keepalive.dead(6.0 + DEAD_AFTER_S)


def test_second_probe_gives_no_more_time() -> None:
    keepalive = running()
    keepalive.probe(5.0)
    keepalive.probe(10.0)
    assert keepalive.dead(5.0 + PROBE_S)


def test_probe_without_a_connection_means_nothing() -> None:
    keepalive = Keepalive(Random(0))
    keepalive.probe(5.0)
    assert keepalive.deadline() is None
    keepalive.start(6.0)
    assert not keepalive.dead(6.0 + PROBE_S)

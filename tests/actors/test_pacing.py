from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.pacing import HOUR_S, MINUTE_S, Pacing, PacingLimits

LIMITS = PacingLimits(same_chat_s=(1.0, 2.0), other_chat_s=(3.0, 5.0), per_minute=3, per_hour=5)


def sent(*times: float, limits: PacingLimits = LIMITS, chat: str = "a") -> Pacing:
    pacing = Pacing(limits, Random(0))
    for time in times:
        pacing.sent(chat, time)
    return pacing


def test_first_message_goes_at_once() -> None:
    assert sent().wait_until("a", 7.0) == 7.0


def test_without_limits_everything_goes_at_once() -> None:
    pacing = Pacing(None, Random(0))
    for _ in range(1000):
        pacing.sent("a", 7.0)
    assert pacing.wait_until("a", 7.0) == 7.0


@pytest.mark.parametrize(("chat", "low", "high"), [("a", 1.0, 2.0), ("b", 3.0, 5.0)])
def test_space_depends_on_the_chat_that_comes_next(chat: str, low: float, high: float) -> None:
    assert low <= sent(100.0).wait_until(chat, 100.0) - 100.0 <= high


def test_asking_again_gives_the_same_answer() -> None:
    pacing = sent(100.0)
    assert pacing.wait_until("b", 100.0) == pacing.wait_until("b", 101.0)


def test_space_that_has_passed_holds_nothing() -> None:
    assert sent(100.0).wait_until("b", 200.0) <= 200.0


def test_fourth_message_of_a_minute_waits_for_the_first_to_leave_it() -> None:
    assert sent(100.0, 110.0, 120.0).wait_until("a", 130.0) == 100.0 + MINUTE_S


def test_sixth_message_of_an_hour_waits_for_the_first_to_leave_it() -> None:
    pacing = sent(*(100.0 * number for number in range(5)))
    assert pacing.wait_until("a", 1000.0) == HOUR_S
    assert pacing.wait_until("a", HOUR_S) <= HOUR_S


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 2000.0)), max_size=60),
    st.integers(),
)
def test_no_minute_and_no_hour_holds_more_than_its_share(
    wishes: list[tuple[str, float]], seed: int
) -> None:
    pacing, now, times = Pacing(LIMITS, Random(seed)), 0.0, list[float]()
    for chat, idle in wishes:
        now = max(now + idle, pacing.wait_until(chat, now + idle))
        pacing.sent(chat, now)
        times.append(now)
    for share, window in ((LIMITS.per_minute, MINUTE_S), (LIMITS.per_hour, HOUR_S)):
        # A message on the edge of a window may be in it by less than a float can tell.
        spans = [late - early for early, late in zip(times, times[share:], strict=False)]
        assert all(span >= window - 1e-6 for span in spans)

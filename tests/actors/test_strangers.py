"""First messages to people: budget, spacing, holds."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.strangers import DAY_S, SPACING_S, Barred, Strangers

NOON = 1_000_000.0


def test_without_a_budget_anybody_may_be_written_to() -> None:
    strangers = Strangers(None, Random(0))
    for _ in range(1000):
        strangers.sent(NOON)
    assert strangers.barred(NOON) is None


def test_second_first_message_waits_a_random_moment() -> None:
    strangers = Strangers(10, Random(0))
    assert strangers.barred(NOON) is None
    strangers.sent(NOON)
    barred = strangers.barred(NOON)
    assert barred is not None
    assert barred.reason == "paced"
    assert SPACING_S[0] <= barred.until - NOON <= SPACING_S[1]
    assert strangers.barred(barred.until) is None


def test_budget_comes_back_a_day_after_it_was_spent() -> None:
    strangers = Strangers(2, Random(0))
    strangers.sent(NOON)
    strangers.sent(NOON + 3600)
    assert strangers.barred(NOON + 7200) == Barred(NOON + DAY_S, "first_contact_budget")
    assert strangers.barred(NOON + DAY_S) is None
    strangers.sent(NOON + DAY_S)
    assert strangers.barred(NOON + DAY_S + 600) == Barred(
        NOON + 3600 + DAY_S, "first_contact_budget"
    )


def test_budget_of_nothing_lets_nobody_be_written_to() -> None:
    assert Strangers(0, Random(0)).barred(NOON) == Barred(NOON + DAY_S, "first_contact_budget")


def test_hold_outweighs_the_budget_and_ends_by_itself() -> None:
    strangers = Strangers(None, Random(0))
    strangers.hold(NOON + 60, "reachout_locked", NOON)
    assert strangers.barred(NOON) == Barred(NOON + 60, "reachout_locked")
    assert strangers.barred(NOON + 60) is None


def test_hold_that_is_lifted_is_over() -> None:
    strangers = Strangers(None, Random(0))
    strangers.hold(NOON + 60, "reachout_locked", NOON)
    assert strangers.release("reachout_locked", NOON)
    assert strangers.barred(NOON) is None


def test_earlier_life_is_remembered() -> None:
    strangers = Strangers(1, Random(0))
    strangers.restore((NOON - 60,), Barred(NOON + 10, "new_chat_limit"))
    assert strangers.barred(NOON) == Barred(NOON + 10, "new_chat_limit")
    assert strangers.barred(NOON + 10) == Barred(NOON - 60 + DAY_S, "first_contact_budget")


@given(
    st.integers(1, 12),
    st.lists(st.floats(0, 4 * 3600), max_size=60),
    st.integers(0, 2**16),
)
def test_no_day_sees_more_first_messages_than_its_budget(
    per_day: int, waits: list[float], seed: int
) -> None:
    strangers, now, sent = Strangers(per_day, Random(seed)), NOON, []
    for wait in waits:
        now += wait
        barred = strangers.barred(now)
        assert barred is None or barred.until > now
        if barred is None:
            strangers.sent(now)
            sent.append(now)
    for first in sent:
        assert len([at for at in sent if first <= at < first + DAY_S]) <= per_day

"""First messages to people: budget, spacing, holds."""

from __future__ import annotations

import itertools
import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sitpayd.actors.refusals import NEW_CHAT_LIMIT, REACHOUT_LOCKED
from sitpayd.actors.strangers import (
    ASK_AGAIN_S,
    DAY_S,
    SPACING_S,
    Barred,
    Restriction,
    Strangers,
)

NOON = 1_000_000.0
REASONS = st.sampled_from([REACHOUT_LOCKED, NEW_CHAT_LIMIT])


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


class Standing(RuleBasedStateMachine):
    """An account that WhatsApp restricts and frees, and says so or not, over days."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.strangers = Strangers(None, Random(0))
        # What WhatsApp told last: first messages wait until then at least.
        self.told_until = -math.inf
        self.asked: list[float] = []

    def ask(self) -> None:
        self.asked.append(self.now)
        self.strangers.asked(self.now)

    @rule(hours=st.floats(0.01, 8))
    def time_passes(self, hours: float) -> None:
        self.now += hours * 3600

    @rule(reason=REASONS)
    def message_is_refused(self, reason: str) -> None:
        strangers = self.strangers
        was_held = strangers.barred(self.now) is not None
        match strangers.refused(reason, self.now):
            case Restriction.KNOWN:
                assert was_held
            case Restriction.ALONE:
                assert reason == REACHOUT_LOCKED
            case what:
                strangers.hold(self.now + DAY_S, reason, self.now, told=False)
                assert strangers.barred(self.now) is not None
                if what is Restriction.ASK:
                    self.ask()
                    self.asked.pop()  # that one has its reason in the refusal

    @rule(reason=REASONS, hours=st.floats(0.1, 30))
    def it_tells_of_a_hold(self, reason: str, hours: float) -> None:
        until = self.now + hours * 3600
        hold = self.strangers.hold(until, reason, self.now)
        self.told_until = hold.until
        assert reason == NEW_CHAT_LIMIT or hold == Barred(until, reason)

    @rule(reason=REASONS)
    def it_tells_of_none(self, reason: str) -> None:
        if self.strangers.release(reason, self.now):
            self.told_until = -math.inf
            assert self.strangers.barred(self.now) is None
        assert self.strangers.reason_held != reason

    @precondition(lambda self: (self.strangers.ask_at() or math.inf) <= self.now)
    @rule(answers=st.booleans())
    def asking_time_comes(self, answers: bool) -> None:
        reason, is_end = self.strangers.reason_held, self.strangers.barred(self.now) is None
        self.ask()
        assert self.strangers.ask_at() is None or not is_end
        if is_end:
            barred = self.strangers.barred(self.now)
            assert barred is not None
            assert barred.until > self.now, "the word is waited for, and not for ever"
            self.asked.pop()
        if answers:
            self.it_tells_of_none(reason)
        else:
            assert self.strangers.unanswered() == (reason if is_end else None)

    @invariant()
    def what_was_told_is_kept_to(self) -> None:
        if self.now < self.told_until:
            barred = self.strangers.barred(self.now)
            assert barred is not None
            assert barred.until > self.now

    @invariant()
    def unanswered_people_wait_for_a_lock_alone(self) -> None:
        locked = self.strangers.locked(self.now)
        assert locked is None or locked == self.strangers.barred(self.now)
        assert locked is None or locked.reason == REACHOUT_LOCKED

    def teardown(self) -> None:
        """It is not asked all the time, and every hold ends though nobody ever answers."""
        for earlier, later in itertools.pairwise(self.asked):
            assert later - earlier >= ASK_AGAIN_S
        for _ in range(50):
            ask_at = self.strangers.ask_at()
            if ask_at is None:
                break
            self.now = max(self.now, ask_at)
            self.strangers.asked(self.now)
            self.strangers.unanswered()
        assert self.strangers.barred(self.now) is None


Standing.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestStanding = Standing.TestCase

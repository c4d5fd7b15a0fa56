"""The verdict can fail: each broken promise is found where it stands, and nothing where none is."""

from __future__ import annotations

import pytest

from tests.torture.plan import Draft, draw
from tests.torture.verdict import (
    REUSED_TEXT,
    Broken,
    Fate,
    Screen,
    Shown,
    judge_fates,
    judge_rows,
    judge_screens,
    judge_server,
)

ALICE, BOB = "919800000000", "491500000000"
FIRST = Draft(0, 0, 0, BOB, "#0 hello", "key-0")
SECOND = Draft(1, 0, 0, BOB, "#1 hello", "key-1")
SENT = {0: Fate.SENT, 1: Fate.SENT}
BOTH = (Shown("3EB0A", "#0 hello"), Shown("3EB0B", "#1 hello"))


def judged(shown: tuple[Shown, ...], fates: dict[int, Fate] | None = None) -> list[Broken]:
    """The verdict on Bob's phone."""
    screen = Screen(BOB, None, shown)
    found = judge_screens([FIRST, SECOND], [ALICE], SENT if fates is None else fates, [screen])
    return [finding.broken for finding in found]


def test_everything_shown_once_in_order_is_right() -> None:
    assert judged(BOTH) == []


def test_message_that_is_sent_and_not_shown_is_lost() -> None:
    assert judged(BOTH[:1]) == [Broken.LOST]


@pytest.mark.parametrize("fate", [Fate.OPEN, Fate.UNKNOWN])
def test_message_of_which_nobody_said_that_it_was_sent_is_not_lost(fate: Fate) -> None:
    assert judged(BOTH[:1], {0: Fate.SENT, 1: fate}) == []


def test_message_that_may_still_be_under_way_is_not_lost() -> None:
    assert judged(BOTH[:1], {0: Fate.SENT}) == []


@pytest.mark.parametrize("again", ["3EB0A", "3EB0C"])
def test_message_is_shown_twice_under_one_id_or_two(again: str) -> None:
    assert judged((*BOTH, Shown(again, "#0 hello"))) == [Broken.TWICE]


def test_later_message_of_a_chat_must_not_be_shown_first() -> None:
    assert judged((BOTH[1], BOTH[0])) == [Broken.DISORDER]


def test_text_that_nobody_sent_is_noticed() -> None:
    assert judged((*BOTH, Shown("3EB0C", "#1 hell"))) == [Broken.FORGED]


def test_own_phone_shows_what_its_companion_sends() -> None:
    copies = tuple(Shown(shown.id, shown.text, from_me=True) for shown in BOTH)
    phone = Screen(ALICE, None, copies)
    assert judge_screens([FIRST, SECOND], [ALICE], SENT, [phone]) == []


def test_missing_copy_on_the_own_phone_is_lost() -> None:
    phone = Screen(ALICE, None, ())
    found = judge_screens([FIRST], [ALICE], SENT, [phone])
    assert [finding.broken for finding in found] == [Broken.LOST]


def test_other_device_of_the_account_shows_what_one_sends() -> None:
    copies = tuple(Shown(shown.id, shown.text, from_me=True) for shown in BOTH)
    sender, other = Screen(ALICE, 0, ()), Screen(ALICE, 1, copies)
    assert judge_screens([FIRST, SECOND], [ALICE, ALICE], SENT, [sender, other]) == []


@pytest.mark.parametrize(
    ("fate", "broken"),
    [
        (Fate.OPEN, [Broken.UNSETTLED]),
        (Fate.REFUSED, [Broken.REFUSED]),
        (Fate.SENT, []),
        (Fate.UNKNOWN, []),
    ],
)
def test_every_message_ends_with_an_answer_it_deserves(fate: Fate, broken: list[Broken]) -> None:
    assert [finding.broken for finding in judge_fates({0: fate}, {})] == broken


@pytest.mark.parametrize(
    ("states", "broken"),
    [
        (["delivered"], []),
        (["sent"], [Broken.UNSETTLED]),
        ([], [Broken.UNSETTLED]),
        (["delivered", "delivered"], [Broken.SPLIT, Broken.UNSETTLED]),
    ],
)
def test_every_message_is_listed_once_and_delivered(
    states: list[str], broken: list[Broken]
) -> None:
    found = judge_rows([FIRST], [(FIRST.text, state) for state in states])
    assert [finding.broken for finding in found] == broken


@pytest.mark.parametrize(
    ("kind", "text", "broken"),
    [
        ("signal", f"message 3EB0: to {BOB}: {REUSED_TEXT}", Broken.REUSED),
        ("signal", "pkmsg for an unknown prekey 7", Broken.VIOLATION),
        ("duplicate", "another ciphertext", Broken.REENCRYPTED),
        ("fanout", "leaves out a device", Broken.VIOLATION),
    ],
)
def test_what_the_server_saw_is_told_apart(kind: str, text: str, broken: Broken) -> None:
    (finding,) = judge_server([{"device": ALICE, "kind": kind, "text": text}])
    assert finding.broken is broken


def test_one_seed_draws_one_plan() -> None:
    sizes = {"sends": 50, "kills": 10, "devices": 4, "strangers": 4}
    assert draw(7, **sizes) == draw(7, **sizes) != draw(8, **sizes)


def test_plan_holds_every_message_once_and_no_chat_twice() -> None:
    plan = draw(7, sends=50, kills=10, devices=4, strangers=4)
    assert [draft.serial for draft in plan.drafts] == list(range(50))
    assert len({(chat.device, chat.to) for chat in plan.chats}) == len(plan.chats) == 12
    assert len(plan.kills) == 10

"""The judge can find fault: each broken promise where it stands, and nothing where none is."""

from __future__ import annotations

import pytest

from sitpayd.simulator.routing import LEAVES_OUT
from tests.soak_protocol.judge import (
    LATE_S,
    Copy,
    Finding,
    Kind,
    Message,
    Person,
    Screen,
    Shown,
    Span,
    excuse,
    judge_fates,
    judge_rows,
    judge_screens,
    judge_server,
)
from tests.torture.verdict import Broken, Fate

ALICE, BOB, CAROL = Person("4911", "711"), Person("4922", "722"), Person("4933", "733")
JID = "4922:1@s.whatsapp.net"


def screen(person: Person = BOB, kind: Kind = Kind.COMPANION, *spans: Span) -> Screen:
    name = f"{kind.name} of {person.number}"
    return Screen(name, kind, person, list(spans) or [Span(JID, 0.0)])


AUTHOR = screen(ALICE, Kind.DAEMON, Span("4911:1@s.whatsapp.net", 0.0))


def message(serial: int, fate: Fate = Fate.SENT, author: Screen = AUTHOR) -> Message:
    begun = 10.0 + serial
    return Message(serial, f"#{serial}", author, BOB, begun, fate, begun + 1.0, f"ID{serial}")


FIRST, SECOND = message(1), message(2)
BOTH = [Shown("#1", "ID1", False, ALICE.number), Shown("#2", "ID2", False, f"{ALICE.lid}@lid")]


def judged(
    shown: list[Shown], *spans: Span, messages: list[Message] | None = None, before: float = 1e9
) -> list[Broken]:
    """The verdict on a companion of Bob."""
    at = screen(BOB, Kind.COMPANION, *spans)
    at.shown = shown
    found = judge_screens(messages or [FIRST, SECOND], [at], before)
    return [finding.broken for finding in found]


def test_everything_shown_once_in_order_is_right() -> None:
    assert judged(BOTH) == []


def test_message_that_is_not_shown_is_lost() -> None:
    assert judged(BOTH[:1]) == [Broken.LOST]


def test_message_that_is_shown_twice_is_noticed() -> None:
    assert judged([*BOTH, BOTH[0]]) == [Broken.TWICE]


def test_later_message_must_not_be_shown_first() -> None:
    assert judged(BOTH[::-1]) == [Broken.DISORDER]


def test_messages_of_two_authors_have_no_order() -> None:
    other = message(1, author=screen(CAROL))
    shown = [BOTH[1], Shown("#1", "ID1", False, CAROL.number)]
    assert judged(shown, messages=[other, SECOND]) == []


@pytest.mark.parametrize(
    "item",
    [
        Shown("#3", "ID3", False, ALICE.number),
        Shown("#1", "ID1", True, ALICE.number),
        Shown("#1", "ID1", False, CAROL.number),
        Shown("#1", "ID2", False, ALICE.number),
    ],
    ids=["never written", "another author", "another chat", "another id"],
)
def test_message_that_was_never_sent_like_this_is_foreign(item: Shown) -> None:
    assert Broken.FORGED in judged([item, *BOTH])


def test_message_for_others_is_foreign() -> None:
    at = screen(CAROL)
    at.shown = BOTH[:1]
    found = judge_screens([FIRST], [at], 1e9)
    assert [finding.broken for finding in found] == [Broken.FORGED]


def test_message_that_was_refused_must_not_be_shown() -> None:
    refused = message(2, Fate.REFUSED)
    assert judged(BOTH, messages=[FIRST, refused]) == [Broken.FORGED]


def test_copy_of_what_the_account_wrote_elsewhere_is_due() -> None:
    own = screen(ALICE)
    found = judge_screens([FIRST], [own], 1e9)
    assert [finding.broken for finding in found] == [Broken.LOST]
    own.shown = [Shown("#1", "ID1", True, BOB.number)]
    assert judge_screens([FIRST], [own], 1e9) == []


@pytest.mark.parametrize("fate", [Fate.OPEN, Fate.UNKNOWN, Fate.REFUSED])
def test_message_that_was_not_accepted_need_not_be_shown(fate: Fate) -> None:
    assert judged(BOTH[:1], messages=[FIRST, message(2, fate)]) == []


def test_message_that_may_still_be_under_way_is_not_lost() -> None:
    assert judged(BOTH[:1], before=SECOND.settled - 0.1) == []


def test_device_linked_later_need_not_have_a_message() -> None:
    assert judged([], Span(JID, SECOND.begun + 0.1)) == []


def test_device_that_was_unlinked_must_have_what_it_had_time_for() -> None:
    until = FIRST.settled + LATE_S
    assert judged([], Span(JID, 0.0, until)) == [Broken.LOST]
    assert judged([], Span(JID, 0.0, until - 0.1)) == []


def test_device_linked_again_must_have_what_came_since() -> None:
    spans = (Span(JID, 0.0, FIRST.settled), Span("4922:2@s.whatsapp.net", FIRST.settled))
    assert judged([], *spans) == [Broken.LOST]


# --- what is right by the rules ---


def finding(
    broken: Broken, kind: Kind = Kind.PHONE, author: Kind = Kind.DAEMON, **more: int
) -> Finding:
    written = message(1, author=screen(ALICE, author))
    return Finding(broken, "", written, screen(BOB, kind), more.get("times", 0))


ASKED = {JID: Copy(deliveries=2, asked=1)}
UNASKED = {JID: Copy(deliveries=2, asked=0)}


def test_lost_message_has_no_excuse() -> None:
    assert excuse(finding(Broken.LOST), {}) is None
    assert excuse(finding(Broken.LOST), ASKED) is None


def test_nobody_answers_for_an_unlinked_author() -> None:
    lost = finding(Broken.LOST)
    assert lost.message is not None
    lost.message.author.spans[0].until = 1000.0
    assert excuse(lost, ASKED) is not None
    assert excuse(lost, UNASKED) is None


def test_device_that_asked_again_may_show_it_late_or_once_more_but_no_oftener() -> None:
    assert excuse(finding(Broken.DISORDER), ASKED) is not None
    assert excuse(finding(Broken.DISORDER), UNASKED) is None
    assert excuse(finding(Broken.TWICE, times=2), ASKED) is not None
    assert excuse(finding(Broken.TWICE, times=3), ASKED) is None


def test_baileys_alone_need_not_keep_the_order() -> None:
    assert excuse(finding(Broken.DISORDER, Kind.BAILEYS), UNASKED) is not None
    for kind in (Kind.PHONE, Kind.COMPANION, Kind.DAEMON):
        assert excuse(finding(Broken.DISORDER, kind), UNASKED) is None


def test_device_of_the_daemon_shows_nothing_twice() -> None:
    assert excuse(finding(Broken.TWICE, Kind.DAEMON, times=2), ASKED) is None


def test_baileys_may_encrypt_anew_and_know_less_devices() -> None:
    assert excuse(finding(Broken.TWICE, author=Kind.BAILEYS, times=2), UNASKED) is not None
    assert excuse(finding(Broken.LOST, author=Kind.BAILEYS), {}) is not None
    assert excuse(finding(Broken.LOST, author=Kind.BAILEYS), UNASKED) is None


def test_baileys_may_end_before_it_shows_what_it_has_read() -> None:
    again = {JID: Copy(deliveries=1, asked=0, answer="487")}
    confirmed = {JID: Copy(deliveries=1, asked=0, answer="receipt", is_confirmed=True)}
    for copies in (again, confirmed):
        assert excuse(finding(Broken.LOST, Kind.BAILEYS), copies) is not None
        assert excuse(finding(Broken.LOST, Kind.COMPANION), copies) is None
    assert excuse(finding(Broken.LOST, Kind.BAILEYS), UNASKED) is None
    assert excuse(finding(Broken.LOST, Kind.DAEMON), again) is None


def test_violation_is_a_finding_unless_baileys_leaves_out_a_device() -> None:
    left_out = {"device": JID, "kind": "fanout", "text": f"{LEAVES_OUT} {BOB.number}:2"}
    other = {"device": JID, "kind": "fanout", "text": "for the unknown device"}
    assert judge_server([left_out], frozenset([JID])) == []
    assert len(judge_server([left_out, other], frozenset())) == 2
    assert len(judge_server([other], frozenset([JID]))) == 1


# --- answers and rows ---


def test_message_needs_an_end() -> None:
    found = judge_fates([FIRST, message(2, Fate.OPEN), message(3, Fate.UNKNOWN)])
    assert [finding.broken for finding in found] == [Broken.UNSETTLED, Broken.UNSETTLED]


def test_refusal_needs_a_reason_that_somebody_has_caused() -> None:
    refused = message(1, Fate.REFUSED)
    for reason, found in (("device_logged_out", []), ("server_error", [Broken.REFUSED])):
        refused.reason = reason
        assert [finding.broken for finding in judge_fates([refused])] == found


def rows_judged(*rows: tuple[str, str], confirmed: bool = True) -> list[Broken]:
    texts = frozenset([FIRST.text] if confirmed else [])
    return [finding.broken for finding in judge_rows(AUTHOR, [FIRST], rows, texts)]


def test_row_tells_what_became_of_the_message() -> None:
    assert rows_judged(("#1", "delivered")) == []
    assert rows_judged(("#1", "sent"), confirmed=False) == []
    assert rows_judged(("#1", "sent")) == [Broken.UNSETTLED]
    assert rows_judged(("#1", "armed")) == [Broken.UNSETTLED]
    assert rows_judged() == [Broken.UNSETTLED]


def test_one_message_has_one_row() -> None:
    assert rows_judged(("#1", "read"), ("#1", "read")) == [Broken.SPLIT]
    assert rows_judged(("#1", "read"), ("#9", "sent")) == [Broken.FORGED]

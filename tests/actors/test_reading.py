"""Read marks, as DeviceMachine plays them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitpayd.actors.commands import Dial, LoadReads, MarkReadsTold, NextRow, Send
from sitpayd.actors.events import LossKind, Lost, Opened, ReadsLoaded, RowLoaded
from sitpayd.actors.messages import Logout, TellReads
from sitpayd.actors.reading import ACK_WITHIN_S, MAX_LISTED, MAX_UNDER_WAY
from sitpayd.storage.records import ReadMark
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, receipt
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    GREETING,
    NOON,
    OWN_PN,
    SERVER_T,
    connected_play,
    count_result,
    opened_play,
    result,
    started,
    success,
)
from tests.support.playbook import Playbook


def a_mark(number: int, sender: Jid = FRIEND_LID, *, minutes: float = 0) -> ReadMark:
    return ReadMark(number, f"A{number}", str(sender), NOON + timedelta(minutes=minutes))


def told(*ids: str, to: Jid = FRIEND_LID, t: int = SERVER_T) -> Send:
    return Send(receipt.read(ids, to, t=t))


def ack(id: str, kind: str | None = "read", **more: str) -> Node:
    attrs: dict[str, str | Jid] = {"class": "receipt", "id": id, "from": FRIEND_LID, **more}
    if kind is not None:
        attrs["type"] = kind
    return Node("ack", attrs)


def telling_play(*marks: ReadMark) -> Playbook:
    """A connected device that has just loaded these marks."""
    play = connected_play().on(TellReads()).expects(LoadReads())
    return play.on(ReadsLoaded(marks))


def log_in(play: Playbook, first: int) -> Playbook:
    """Go on until the device is connected; the query `first` is next."""
    play.hears(success()).said()
    play.hears(count_result(f"#{first}", 100)).said()
    return play.hears(result(f"#{first + 1}"))


def test_what_was_read_is_told_and_then_known() -> None:
    play = telling_play(a_mark(1), a_mark(2, minutes=1))
    play.expects(told("A1", "A2", t=SERVER_T + 60))
    play.hears(ack("A1")).expects(MarkReadsTold((1, 2)))
    play.hears(ack("A1")).expects_nothing()


def test_messages_of_each_sender_have_a_receipt_of_their_own() -> None:
    """A person that wrote by number before is answered as it wrote."""
    play = telling_play(a_mark(1, FRIEND_PN), a_mark(2), a_mark(3, FRIEND_PN))
    play.expects(told("A1", "A3", to=FRIEND_PN), told("A2"))
    play.hears(ack("A2")).expects(MarkReadsTold((2,)))
    play.hears(ack("A1")).expects(MarkReadsTold((1, 3)))


def test_receipt_names_so_many_messages_and_no_more() -> None:
    marks = [a_mark(number) for number in range(1, MAX_LISTED + 2)]
    play = telling_play(*marks)
    ids = [mark.wa_message_id for mark in marks]
    play.expects(told(*ids[:MAX_LISTED]), told(ids[-1]))


def test_id_that_two_messages_share_is_named_once() -> None:
    again = ReadMark(2, "A1", str(FRIEND_LID), NOON)
    play = telling_play(a_mark(1), again).expects(told("A1"))
    play.hears(ack("A1")).expects(MarkReadsTold((1, 2)))


def test_two_receipts_with_the_same_id_wait_for_each_other() -> None:
    other = ReadMark(2, "A1", str(FRIEND_PN), NOON)
    play = telling_play(a_mark(1), other).expects(told("A1"), LoadReads((1,)))
    play.on(ReadsLoaded((other,))).expects_nothing()
    play.hears(ack("A1")).expects(MarkReadsTold((1,)), LoadReads())
    play.on(ReadsLoaded((other,))).expects(told("A1", to=FRIEND_PN))


@pytest.mark.parametrize(
    "node",
    [
        ack("A1", "inactive"),
        ack("A2"),
        ack("A1", "retry"),
        Node("ack", {"class": "notification", "id": "A1", "from": FRIEND_LID}),
        Node("ack", {"class": "receipt", "from": FRIEND_LID, "type": "read"}),
    ],
    ids=["delivery", "another message", "retry", "notification", "nothing"],
)
def test_ack_of_something_else_is_none_of_the_receipt(node: Node) -> None:
    play = telling_play(a_mark(1)).expects(told("A1"))
    play.hears(node).expects_nothing()
    play.hears(ack("A1", None)).expects(MarkReadsTold((1,)))


def test_refused_receipt_is_not_told_again() -> None:
    play = telling_play(a_mark(1)).expects(told("A1"))
    play.hears(ack("A1", error="479")).expects(MarkReadsTold((1,)))


def test_receipt_without_ack_is_believed_once_the_connection_has_proved_itself() -> None:
    play = telling_play(a_mark(1)).expects(told("A1"))
    end = play.now + ACK_WITHIN_S
    while play.now < end:
        said = play.tick().said()
        if said == [MarkReadsTold((1,))]:
            break
        (ping,) = said
        assert isinstance(ping, Send)
        play.hears(iq.result(ping.node)).expects_nothing()
    assert play.now == end


# --- the doorbell ---


def test_ring_while_marks_are_told_loads_the_others() -> None:
    play = telling_play(a_mark(1)).expects(told("A1"))
    play.on(TellReads()).expects(LoadReads((1,)))
    play.on(ReadsLoaded((a_mark(2),))).expects(told("A2"))
    play.on(TellReads()).expects(LoadReads((1, 2)))
    play.on(ReadsLoaded(())).expects_nothing()


def test_ring_while_marks_are_loaded_loads_once_more() -> None:
    play = connected_play().on(TellReads()).expects(LoadReads())
    play.on(TellReads()).expects_nothing()
    play.on(ReadsLoaded((a_mark(1),))).expects(told("A1"), LoadReads((1,)))


def test_marks_that_are_too_many_for_one_look_are_loaded_until_none_is_left() -> None:
    play = connected_play().on(TellReads()).expects(LoadReads())
    play.on(ReadsLoaded((a_mark(1),), more=True)).expects(told("A1"), LoadReads((1,)))
    play.on(ReadsLoaded((a_mark(2),))).expects(told("A2"))


def test_marks_under_way_are_bounded() -> None:
    marks = tuple(a_mark(number) for number in range(MAX_UNDER_WAY))
    play = connected_play().on(TellReads()).expects(LoadReads())
    play.on(ReadsLoaded(marks, more=True))
    assert all(isinstance(command, Send) for command in play.said())
    play.on(TellReads()).expects_nothing()
    first, rest = tuple(range(MAX_LISTED)), tuple(range(MAX_LISTED, MAX_UNDER_WAY))
    play.hears(ack("A0")).expects(MarkReadsTold(first), LoadReads(rest))


# --- connections ---


def test_marks_from_before_are_told_when_the_device_connects() -> None:
    play = Playbook().on(started(owes_reads=True)).expects(Dial(registration=False))
    play.on(Opened()).expects_nothing()
    log_in(play, 1).expects(*GREETING, NextRow(), LoadReads())
    play.on(RowLoaded(None)).expects_nothing()
    play.on(ReadsLoaded((a_mark(1),))).expects(told("A1"))


def test_device_that_owes_nothing_looks_for_nothing() -> None:
    log_in(opened_play(), 1).expects(*GREETING, NextRow())


def test_what_was_read_while_the_device_was_away_is_told_when_it_is_back() -> None:
    play = opened_play().on(TellReads()).expects_nothing()
    log_in(play, 1).expects(*GREETING, NextRow(), LoadReads())


@pytest.mark.parametrize("loaded", [True, False], ids=["told", "not loaded yet"])
def test_what_was_under_way_is_told_again_on_the_next_connection(loaded: bool) -> None:
    play = connected_play().on(TellReads()).expects(LoadReads())
    if loaded:
        play.on(ReadsLoaded((a_mark(1),))).expects(told("A1"))
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    if not loaded:
        play.on(ReadsLoaded((a_mark(1),))).expects_nothing()
    play.tick().expects(Dial(registration=False))
    play.on(Opened()).expects_nothing()
    log_in(play, 3).expects(*GREETING, NextRow(), LoadReads())
    play.on(RowLoaded(None)).expects_nothing()
    play.on(ReadsLoaded((a_mark(1),))).expects(told("A1"))
    play.hears(ack("A1")).expects(MarkReadsTold((1,)))


def test_nothing_is_told_once_the_device_is_to_be_logged_out() -> None:
    play = connected_play()
    play.on(Logout()).expects(Send(iq.logout("#3", device=OWN_PN)))
    play.on(TellReads()).expects_nothing()

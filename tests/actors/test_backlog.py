"""The backlog, piece by piece: what is asked for when, and nothing that waits for its end."""

from __future__ import annotations

from sitpayd.actors.backlog import BATCH, MAX_NUDGES, STALLED_AFTER_S, Backlog
from sitpayd.actors.commands import Command, NextRow, Receive, Send
from sitpayd.actors.events import LossKind, Lost
from sitpayd.actors.messages import Deliver
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import ib, iq
from tests.actors.builders import FRIEND_LID, connected_play, pairing_play
from tests.support.playbook import Playbook


def kept(number: int) -> Node:
    """A message from the backlog."""
    return Node("message", {"id": f"M{number}", "from": FRIEND_LID, "offline": str(number)})


def asks_for(count: int) -> Send:
    return Send(iq.offline_batch(count))


def announced_play(count: int) -> Playbook:
    play = connected_play().hears(ib.ib(ib.OfflinePreview(count)))
    return play.expects(asks_for(min(count, BATCH)))


def take(play: Playbook, numbers: range) -> None:
    for number in numbers:
        node = kept(number)
        play.hears(node).expects(Receive(node))


def test_next_batch_is_asked_for_behind_the_last_stanza_of_this_one() -> None:
    play = announced_play(BATCH + 30)
    take(play, range(BATCH - 1))
    last = kept(BATCH - 1)
    # Performed in this order: what is asked for comes when this one is stored.
    play.hears(last).expects(Receive(last), asks_for(30))
    take(play, range(BATCH, BATCH + 30))


def test_empty_backlog_is_not_asked_for() -> None:
    connected_play().hears(ib.ib(ib.OfflinePreview(0))).expects_nothing()


def test_backlog_of_a_device_that_is_being_linked_is_none() -> None:
    play = pairing_play()
    waits_s = play.waits_s
    play.hears(ib.ib(ib.OfflinePreview(3))).expects_nothing()
    assert play.waits_s == waits_s


def test_every_kind_of_stanza_counts() -> None:
    backlog = Backlog()
    backlog.announced(BATCH + 1, 0.0)
    said: list[Command] = []
    for number in range(BATCH):
        tag = ("receipt", "notification", "call")[number % 3]
        said += backlog.took(Node(tag, {"offline": str(number)}), 0.0)
    assert said == [asks_for(1)]


def test_live_stanzas_come_between_and_do_not_count() -> None:
    play = announced_play(2)
    live = Node("message", {"id": "L", "from": FRIEND_LID})
    play.hears(live).expects(Receive(live))
    take(play, range(2))
    assert play.waits_s is not None
    assert play.waits_s > STALLED_AFTER_S


def test_rows_are_sent_while_the_backlog_comes() -> None:
    play = announced_play(300)
    take(play, range(10))
    play.on(Deliver()).expects(NextRow())


def test_backlog_that_stops_is_asked_for_again_and_then_left_alone() -> None:
    play = announced_play(300)
    take(play, range(40))
    for _ in range(MAX_NUDGES):
        assert play.waits_s == STALLED_AFTER_S
        play.tick().expects(asks_for(BATCH))
    assert play.waits_s == STALLED_AFTER_S
    play.tick().expects_nothing()
    assert "offline_batch" not in str(play.tick().said())


def test_backlog_that_goes_on_is_patiently_waited_for() -> None:
    backlog, now = Backlog(), 0.0
    backlog.announced(300, now)
    for number in range(BATCH - 1):
        now += STALLED_AFTER_S - 0.1
        assert backlog.tick(now) == []
        assert backlog.took(kept(number), now) == []
    assert backlog.took(kept(BATCH), now) == [asks_for(BATCH)]


def test_end_of_the_backlog_ends_the_waiting() -> None:
    play = announced_play(300)
    take(play, range(10))
    play.hears(ib.ib(ib.OfflineDone(10))).expects_nothing()
    assert play.waits_s is not None
    assert play.waits_s > STALLED_AFTER_S


def test_end_of_a_backlog_that_was_never_announced_is_no_matter() -> None:
    connected_play().hears(ib.ib(ib.OfflineDone(0))).expects_nothing()


def test_server_that_hands_out_more_than_it_was_asked_for_is_taken_at_its_pace() -> None:
    """whatsmeow asks for nothing and gets everything."""
    play = announced_play(3 * BATCH)
    asked = 0
    for number in range(3 * BATCH):
        asked += asks_for(BATCH) in play.hears(kept(number)).said()
    assert asked == 2


def test_lost_connection_ends_the_backlog() -> None:
    play = announced_play(300).on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().said()
    assert play.waits_s is None

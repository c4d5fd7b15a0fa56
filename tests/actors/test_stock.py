"""One-time prekeys at the server: when more are made, how they go there, how often that fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.commands import Command, MakePreKeys, MarkUploaded, NextRow, Send
from sitpayd.actors.events import LossKind, Lost, Opened, PreKeysMade, RowLoaded
from sitpayd.actors.login import Errand
from sitpayd.actors.queries import MAX_BACKOFF_S, Queries
from sitpayd.actors.stock import (
    FEW_PREKEYS,
    LATELY_S,
    MORE_PREKEYS,
    RETRY_AFTER_S,
    Stock,
)
from sitpayd.whatsapp.keys import KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, prekeys
from sitpayd.whatsapp.stanzas.iq import IqError
from tests.actors.builders import (
    GREETING,
    KEYS,
    connected_play,
    count_result,
    digest_refused,
    few_prekeys,
    refused,
    result,
    success,
)
from tests.support.playbook import Playbook

MADE = tuple(PreKey(key_id, KeyPair.generate()) for key_id in (5, 6))
UPLOADED = MarkUploaded((5, 6))
MAKE_MORE = MakePreKeys(MORE_PREKEYS)


def upload(query_id: str) -> Send:
    return Send(prekeys.upload(query_id, KEYS, MADE))


def uploading_play() -> Playbook:
    """A connected device that is uploading two prekeys: #3."""
    play = connected_play()
    play.hears(few_prekeys()).said()
    return play.on(PreKeysMade(MADE)).expects(upload("#3"))


def quiet(play: Playbook, seconds: float) -> Playbook:
    """Time in which the server says nothing that matters."""
    return play.later(seconds).hears(Node("presence")).expects_nothing()


def logged_in_anew(play: Playbook, count_id: str) -> Playbook:
    """The connection is lost, and the next one asks how many prekeys are left."""
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().said()
    play.on(Opened()).expects_nothing()
    return play.hears(success()).expects(Send(prekeys.count_query(count_id)))


# --- a failed upload ---


def test_refused_upload_is_tried_three_times_with_the_same_keys_and_then_left() -> None:
    play = uploading_play()
    for number, after_s in enumerate(RETRY_AFTER_S, 3):
        play.hears(refused(f"#{number}")).expects_nothing()
        assert play.waits_s == after_s
        play.tick().expects(upload(f"#{number + 1}"))
    play.hears(refused("#6")).expects_nothing()
    assert play.waits_s is not None
    assert play.waits_s > 10.0  # the next ping


def test_upload_that_went_well_at_last_is_marked() -> None:
    play = uploading_play().hears(refused("#3")).expects_nothing()
    play.tick().expects(upload("#4"))
    play.hears(result("#4")).expects(UPLOADED)


def test_upload_without_an_answer_is_sent_again_as_it_is() -> None:
    play = uploading_play()
    quiet(quiet(play, 30.0), 29.0)
    said = play.tick().said()
    while not any(isinstance(c, Send) and c.node.child("list") for c in said):
        said = play.tick().said()
    again = next(c.node for c in said if isinstance(c, Send) and c.node.child("list"))
    assert again.required("list") == upload("").node.required("list")


def test_upload_is_left_as_long_alone_as_the_server_says() -> None:
    busy = Node("error", {"code": "429", "text": "rate-overlimit", "backoff": "15"})
    play = uploading_play().hears(Node("iq", {"id": "#3", "type": "error"}, (busy,)))
    play.expects_nothing()
    assert play.waits_s == 15.0
    play.tick().expects(upload("#4"))


def test_server_cannot_put_an_upload_off_for_ever() -> None:
    stock = Stock(Queries(), Errand.UPLOAD)
    stock.begin(KEYS)
    stock.counted(0, 0.0)
    stock.made(MADE, 0.0)
    stock.failed(IqError(429, None, backoff=10**9), 0.0)
    assert stock.deadline() == MAX_BACKOFF_S


def test_upload_given_up_is_left_to_the_next_occasion() -> None:
    play = uploading_play()
    for number in range(3, 6):
        play.hears(refused(f"#{number}")).expects_nothing()
        play.tick().said()
    play.hears(refused("#6")).expects_nothing()
    assert MAKE_MORE in play.hears(few_prekeys()).said()


def test_upload_that_waits_for_its_turn_ends_with_its_connection() -> None:
    play = uploading_play().hears(refused("#3")).expects_nothing()
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().said()
    assert play.waits_s is None


# --- when none is needed ---


def test_count_from_before_the_last_upload_brings_no_second_one() -> None:
    """A digest that still lacks the keys, minutes after 50 of them were uploaded."""
    play = uploading_play().hears(result("#3")).expects(UPLOADED)
    play = logged_in_anew(play, "#4").hears(count_result("#4", 60)).expects(Send(iq.active("#5")))
    play.hears(result("#5")).expects(*GREETING, NextRow())
    play.on(RowLoaded(None)).expects_nothing()
    play.hears(digest_refused()).expects_nothing()


def test_upload_of_long_ago_does_not_count() -> None:
    play = uploading_play().hears(result("#3")).expects(UPLOADED)
    play.later(LATELY_S)
    play = logged_in_anew(play, "#4").hears(count_result("#4", 60)).expects(Send(iq.active("#5")))
    play.hears(result("#5")).expects(*GREETING, NextRow())
    play.on(RowLoaded(None)).expects_nothing()
    play.hears(digest_refused()).expects(MAKE_MORE)


@pytest.mark.parametrize("left", range(FEW_PREKEYS))
def test_few_left_are_topped_up_however_lately_that_was_done(left: int) -> None:
    play = uploading_play().hears(result("#3")).expects(UPLOADED)
    assert MAKE_MORE in play.hears(few_prekeys(max(left, 1))).said()


# --- whatever happens ---


@given(st.lists(st.sampled_from(["count", "digest", "made", "ok", "no", "tick", "lost"])))
def test_one_upload_at_a_time_and_only_of_what_is_saved(steps: list[str]) -> None:
    queries: Queries[object] = Queries()
    stock = Stock(queries, Errand.UPLOAD)
    stock.begin(KEYS)
    now, making, waiting = 0.0, False, False
    saved: set[int] = set()
    for step in steps:
        said: list[Command] = []
        now += 1.0
        match step:
            case "count":
                said = stock.counted(1, now)
            case "digest":
                said = stock.missing(now)
            case "made" if making:
                saved = {prekey.key_id for prekey in MADE}
                making, said = False, stock.made(MADE, now)
            case "ok" if waiting:
                waiting, said = False, stock.uploaded(now)
            case "no" if waiting:
                waiting = False
                stock.failed(None, now)
            case "tick":
                said = stock.tick(now)
            case "lost":
                stock.end()
                queries.reset()
                making = waiting = False
                stock.begin(KEYS)
        for command in said:
            match command:
                case MakePreKeys():
                    assert not making, "two at a time"
                    assert not waiting, "while one is under way"
                    making = True
                case Send(node=node):
                    assert not waiting, "two at a time"
                    uploaded = prekeys.parse_upload(node).prekeys
                    assert {key_id for key_id, _ in uploaded} <= saved
                    waiting = True
                case MarkUploaded(key_ids=key_ids):
                    assert set(key_ids) == saved

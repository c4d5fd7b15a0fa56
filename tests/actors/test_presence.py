"""Presence and typing, as DeviceMachine plays them."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import (
    Command,
    Confirm,
    Dial,
    HangUp,
    Respond,
    Send,
    TellPresence,
)
from sitpayd.actors.events import LossKind, Lost, Opened, RowLoaded
from sitpayd.actors.messages import (
    Done,
    Later,
    Logout,
    Message,
    NotNow,
    Pause,
    Reconnect,
    Remove,
    SetPresence,
    ShowTyping,
    TooManyChats,
)
from sitpayd.actors.presence import MAX_A_MINUTE, MAX_TYPING, RENEW_S, TYPING_S
from sitpayd.whatsapp.jid import Jid, lid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure, iq, presence
from sitpayd.whatsapp.stanzas.failure import StreamError
from sitpayd.whatsapp.stanzas.presence import TypingState
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_PN,
    Ear,
    connected_play,
    count_result,
    opened_play,
    result,
    success,
)
from tests.support.playbook import Playbook

ON, OFF = TellPresence(available=True), TellPresence(available=False)
EAR = Ear()


def shown(state: TypingState, chat: Jid = FRIEND_LID) -> Send:
    return Send(presence.own_chat_state(chat, state))


def types(state: TypingState, chat: Jid = FRIEND_LID) -> ShowTyping:
    return ShowTyping(chat, state, EAR)


def done(play: Playbook, seconds: float | None = None) -> Confirm:
    return Confirm(EAR, Done(None if seconds is None else play.now + seconds))


def available_play(seconds: float = 60.0) -> Playbook:
    """A device that appears online for a while."""
    play = connected_play()
    return play.on(SetPresence(True, seconds, EAR)).expects(ON, done(play, seconds))


def typing_play() -> Playbook:
    """A device that types to a friend."""
    play = connected_play()
    return play.on(types("composing")).expects(ON, shown("composing"), done(play, TYPING_S))


def quiet(play: Playbook, seconds: float) -> list[Command]:
    """Let so much time pass over a living connection; what the device does about people."""
    said: list[Command] = []
    end = play.now + seconds
    while (waits := play.waits_s) is not None and play.now + waits <= end:
        for command in play.tick().said():
            if isinstance(command, Send) and command.node.tag == "iq":
                play.hears(iq.result(command.node)).expects_nothing()
            else:
                said.append(command)
    play.now = end
    return said


# --- online and offline ---


def test_device_does_not_appear_online_by_itself() -> None:
    assert quiet(connected_play(), 600.0) == []


def test_device_appears_online_for_a_while() -> None:
    play = available_play(60.0)
    assert quiet(play, 59.9) == []
    assert quiet(play, 0.2) == [OFF]
    assert quiet(play, 600.0) == []


def test_later_wish_moves_the_end_and_is_not_told_again() -> None:
    play = available_play(60.0)
    assert quiet(play, 50.0) == []
    play.on(SetPresence(True, 100.0, EAR)).expects(done(play, 100.0))
    assert quiet(play, 99.9) == []
    assert quiet(play, 0.2) == [OFF]


def test_device_goes_offline_when_that_is_wanted() -> None:
    play = available_play()
    play.on(SetPresence(False, 0.0, EAR)).expects(OFF, done(play))
    play.on(SetPresence(False, 0.0, EAR)).expects(done(play))
    assert quiet(play, 600.0) == []


def test_presence_ends_with_the_connection() -> None:
    play = available_play()
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.on(SetPresence(True, 60.0, EAR)).expects(Respond(EAR, NotNow()))
    assert OFF not in quiet(play, 1.0)


def test_nothing_that_was_shown_comes_back_with_the_next_connection() -> None:
    play = typing_play()
    play.on(SetPresence(True, 300.0, EAR)).expects(done(play, 300.0))
    play.on(Lost(LossKind.NETWORK, "")).expects_nothing()
    play.tick().expects(Dial(registration=False))
    play.on(Opened()).expects_nothing()
    play.hears(success()).said()
    play.hears(count_result("#3", 9)).said()
    play.hears(result("#4")).said()
    play.on(RowLoaded(None)).expects_nothing()
    play.on(types("recording", FRIEND_PN)).expects(
        ON, shown("recording", FRIEND_PN), done(play, TYPING_S)
    )
    assert quiet(play, TYPING_S) == [shown("paused", FRIEND_PN), OFF]
    assert quiet(play, 400.0) == []


def test_device_that_is_not_connected_is_not_shown() -> None:
    play = opened_play()
    play.on(SetPresence(True, 60.0, EAR)).expects(Respond(EAR, NotNow()))
    play.on(types("composing")).expects(Respond(EAR, NotNow()))


@pytest.mark.parametrize(
    ("message", "then"),
    [
        (Pause(), [HangUp()]),
        (Reconnect(), [HangUp(), Dial(registration=False)]),
    ],
    ids=["pause", "reconnect"],
)
def test_device_goes_offline_before_it_hangs_up(message: Message, then: list[Command]) -> None:
    available_play().on(message).expects(OFF, *then)


@pytest.mark.parametrize("message", [Logout(), Remove()], ids=["logout", "remove"])
def test_device_goes_offline_before_it_is_logged_out(message: Message) -> None:
    play = available_play().on(message)
    play.expects(OFF, Send(iq.logout("#3", device=OWN_PN)))
    play.on(SetPresence(True, 60.0, EAR)).expects(Respond(EAR, NotNow()))


def test_nothing_is_said_to_a_server_that_has_ended_the_stream() -> None:
    play = available_play().hears(failure.stream_error(StreamError(503)))
    play.expects(HangUp())


# --- typing ---


def test_who_types_is_online_meanwhile() -> None:
    play = typing_play()
    play.on(types("paused")).expects(shown("paused"), OFF, done(play))
    assert quiet(play, 600.0) == []


def test_typing_ends_by_itself() -> None:
    play = typing_play()
    assert quiet(play, TYPING_S - 0.1) == []
    assert quiet(play, 0.2) == [shown("paused"), OFF]
    play.on(types("paused")).expects(done(play))


def test_typing_that_is_renewed_goes_on() -> None:
    play = typing_play()
    assert quiet(play, 20.0) == []
    play.on(types("recording")).expects(shown("recording"), done(play, TYPING_S))
    assert quiet(play, TYPING_S - 0.1) == []
    assert quiet(play, 0.2) == [shown("paused"), OFF]


def test_pause_without_typing_shows_nothing() -> None:
    play = connected_play()
    play.on(types("paused")).expects(done(play))


def test_wanted_presence_outlasts_typing() -> None:
    play = available_play(60.0)
    play.on(types("composing", FRIEND_PN)).expects(
        shown("composing", FRIEND_PN), done(play, TYPING_S)
    )
    assert quiet(play, 59.0) == [shown("paused", FRIEND_PN)]
    assert quiet(play, 2.0) == [OFF]


def test_typing_outlasts_wanted_presence() -> None:
    play = available_play(10.0)
    play.on(types("composing")).expects(shown("composing"), done(play, TYPING_S))
    assert quiet(play, TYPING_S - 0.1) == []
    assert quiet(play, 0.2) == [shown("paused"), OFF]


def test_going_offline_ends_typing() -> None:
    play = typing_play()
    play.on(SetPresence(False, 0.0, EAR)).expects(shown("paused"), OFF, done(play))
    assert quiet(play, 600.0) == []


def test_device_types_in_a_few_chats_at_a_time() -> None:
    play = connected_play()
    chats = [lid(f"20000000000010{number}") for number in range(MAX_TYPING)]
    for chat in chats:
        play.on(types("composing", chat)).said()
    play.on(types("composing")).expects(Respond(EAR, TooManyChats()))
    play.on(types("recording", chats[0])).expects(
        shown("recording", chats[0]), done(play, TYPING_S)
    )
    play.on(types("paused", chats[1])).expects(shown("paused", chats[1]), done(play))
    play.on(types("composing")).expects(shown("composing"), done(play, TYPING_S))


def test_typing_that_is_shown_is_not_told_again_at_once() -> None:
    play = typing_play()
    play.later(RENEW_S - 0.1).on(types("composing")).expects(done(play, TYPING_S))
    play.on(types("recording")).expects(shown("recording"), done(play, TYPING_S))
    play.later(RENEW_S).on(types("recording")).expects(shown("recording"), done(play, TYPING_S))
    assert quiet(play, TYPING_S - 0.1) == []
    assert quiet(play, 0.2) == [shown("paused"), OFF]


def test_typing_that_is_renewed_again_and_again_is_told_now_and_then() -> None:
    play = typing_play()
    play.later(4.0).on(types("composing")).expects(done(play, TYPING_S))
    play.later(4.0).on(types("composing")).expects(shown("composing"), done(play, TYPING_S))
    play.later(4.0).on(types("composing")).expects(done(play, TYPING_S))


def test_renewed_typing_lasts_from_its_renewal() -> None:
    play = typing_play()
    play.later(1.0).on(types("composing")).expects(done(play, TYPING_S))
    assert quiet(play, TYPING_S - 0.1) == []
    assert quiet(play, 0.2) == [shown("paused"), OFF]


def test_device_shows_only_so_much_in_a_minute() -> None:
    play = connected_play()
    began = play.now
    for _ in range(MAX_A_MINUTE // 2):
        play.on(SetPresence(True, 60.0, EAR)).expects(ON, done(play, 60.0))
        play.on(types("composing")).expects(shown("composing"), done(play, TYPING_S))
        play.on(SetPresence(False, 0.0, EAR)).expects(shown("paused"), OFF, done(play))
        play.later(0.1)
    later = Later(began + 60.0)
    play.on(types("composing")).expects(Respond(EAR, later))
    play.on(SetPresence(True, 60.0, EAR)).expects(Respond(EAR, later))
    assert quiet(play, began + 59.9 - play.now) == []
    play.on(types("composing")).expects(Respond(EAR, later))
    assert quiet(play, 0.1) == []
    play.on(types("composing")).expects(ON, shown("composing"), done(play, TYPING_S))
    # Online already: that is no more to see.
    for _ in range(MAX_A_MINUTE):
        play.on(SetPresence(True, 60.0, EAR)).expects(done(play, 60.0))
    play.on(types("recording")).expects(shown("recording"), done(play, TYPING_S))


# --- what others show ---


@pytest.mark.parametrize(
    "node",
    [
        presence.presence(FRIEND_LID, available=True),
        presence.presence(FRIEND_LID, available=False, last=1_760_000_000),
        presence.chat_state(presence.own_chat_state(FRIEND_LID, "composing"), FRIEND_LID),
        Node("chatstate"),
        Node("presence", {"type": "dancing"}),
    ],
    ids=["online", "offline", "typing", "nobody", "nothing"],
)
def test_what_others_show_is_ignored(node: Node) -> None:
    """Nobody asked for it: no presence is ever subscribed to."""
    available_play().hears(node).expects_nothing()

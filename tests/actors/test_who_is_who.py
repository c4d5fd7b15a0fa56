"""What is told about people, their devices and their keys, as DeviceMachine plays it."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import (
    AskPhone,
    Command,
    DropSessions,
    FoundIn,
    LearnAll,
    LoadSessions,
    LookUpResend,
    MarkReceipt,
    NextRow,
    Resend,
    Send,
    TellIdentityChanged,
    Write,
)
from sitpayd.actors.events import (
    Answer,
    Armed,
    ResendLookedUp,
    Resent,
    RowLoaded,
    SessionsLoaded,
    Tick,
    Unread,
)
from sitpayd.actors.messages import Deliver
from sitpayd.actors.repairs import ASK_PHONE_AFTER_S
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import notification, receipt
from sitpayd.whatsapp.stanzas.aliases import LidMapping
from sitpayd.whatsapp.stanzas.content import MessageName
from sitpayd.whatsapp.stanzas.message import phash
from tests.actors.builders import (
    FRIEND,
    FRIEND_LID,
    FRIEND_PN,
    FRIENDS_DEVICES,
    OUR_OTHERS,
    OURSELVES,
    OWN_LID,
    OWN_PN,
    SERVER_T,
    a_row,
    bundle_of,
    bundles_query,
    bundles_result,
    connected_play,
    devices_query,
    devices_result,
    known_friend_play,
)
from tests.support.playbook import Playbook


def notified(value: notification.Notification) -> Node:
    return notification.notification("N", value, t=SERVER_T, from_=OWN_PN.bare)


def acked(node: Node) -> Send:
    return Send(receipt.ack(node, OWN_PN))


def expired(play: Playbook) -> list[Command]:
    """What is said when a question has expired, with signs of life meanwhile."""
    for _ in range(6):
        play.later(10.0).hears(Node("presence")).expects_nothing()
    return play.on(Tick()).said()


def test_receipt_that_tells_who_somebody_is_is_looked_at_behind_that() -> None:
    attrs: dict[str, str | Jid] = {"id": "R", "from": FRIEND_LID, "type": "read"}
    node = Node("receipt", {**attrs, "sender_pn": FRIEND_PN})
    got = receipt.parse_receipt(node)
    play = connected_play().hears(node)
    play.expects(LearnAll(got.mappings), MarkReceipt(got, receipt.ack(node, OWN_PN)))
    assert got.mappings == (LidMapping(FRIEND_PN, FRIEND_LID),)


def test_identity_notice_that_tells_both_names_is_learned_first() -> None:
    play, changed = connected_play(), notified(notification.IdentityChanged(FRIEND_PN, FRIEND_LID))
    play.hears(changed).expects(
        LearnAll((LidMapping(FRIEND_PN, FRIEND_LID),)),
        DropSessions(FRIEND_PN),
        TellIdentityChanged(FRIEND_PN, "notification"),
        acked(changed),
    )


def test_group_that_tells_who_is_who_is_learned_from() -> None:
    people = (Node("participant", {"jid": FRIEND_LID, "phone_number": FRIEND_PN}),)
    attrs: dict[str, str | Jid] = {"id": "N", "type": "w:gp2", "from": Jid("1", "g.us")}
    node = Node("notification", attrs, (Node("add", {}, people),))
    play = connected_play().hears(node)
    play.expects(LearnAll((LidMapping(FRIEND_PN, FRIEND_LID),)), acked(node))


def test_removed_device_loses_its_session() -> None:
    listed = (notification.ListedDevice(FRIEND_PN.with_device(2)),)
    node = notified(notification.DevicesChanged(FRIEND_PN, None, "remove", listed))
    play = connected_play().hears(node)
    play.expects(DropSessions(FRIEND_PN, frozenset({2})), acked(node))


@pytest.mark.parametrize("action", ["add", "update"])
def test_other_changes_of_devices_drop_no_session(action: notification.DeviceAction) -> None:
    listed = (notification.ListedDevice(FRIEND_PN.with_device(2)),)
    node = notified(notification.DevicesChanged(FRIEND_PN, None, action, listed))
    connected_play().hears(node).expects(acked(node))


def test_device_linked_by_a_friend_gets_the_next_message_without_a_question() -> None:
    play, row = known_friend_play()
    numbers = (0, 2, 4)
    added = notification.DevicesChanged(
        FRIEND_PN,
        FRIEND_LID,
        "add",
        (notification.ListedDevice(FRIEND_PN.with_device(4), FRIEND_LID.with_device(4), 4),),
        phash(FRIEND_PN.with_device(number) for number in numbers),
        phash(FRIEND_LID.with_device(number) for number in numbers),
    )
    play.hears(notified(added)).said()
    play.on(Deliver()).expects(NextRow())
    everybody = tuple(FRIEND_LID.with_device(number) for number in numbers)
    play.on(RowLoaded(row)).expects(LoadSessions(everybody + OUR_OTHERS))


def test_own_device_that_is_gone_loses_its_session_and_gets_no_copy() -> None:
    play, row = known_friend_play()
    ours = (OWN_PN.bare, OWN_PN)
    node = notified(notification.OwnDevices(ours, phash(ours)))
    play.hears(node).expects(DropSessions(OWN_PN.bare, frozenset({9})), acked(node))
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(LoadSessions((*FRIENDS_DEVICES, OWN_LID.bare)))


COMPANION = FRIEND_LID.with_device(2)


@pytest.mark.parametrize(
    ("event", "found_in"),
    [
        (Answer((), changed=(COMPANION,)), "message"),
        (Resent((), changed=(COMPANION,)), "resend"),
        (Armed(a_row(), b"", changed=(COMPANION,)), "bundle"),
    ],
    ids=["message", "resend", "bundle"],
)
def test_changed_identity_is_told_and_the_devices_are_asked_for_anew(
    event: Answer | Resent | Armed, found_in: FoundIn
) -> None:
    """T-56: it is trusted, and there is an event and a line in the log."""
    play, row = known_friend_play()
    play.on(event).expects(TellIdentityChanged(FRIEND_LID, found_in))
    play.on(Deliver()).expects(NextRow())
    (asked,) = play.on(RowLoaded(row)).said()
    assert isinstance(asked, Send)


def test_change_that_shows_at_several_devices_is_told_once() -> None:
    play = connected_play().on(Answer((), changed=(FRIEND_LID, COMPANION)))
    play.expects(TellIdentityChanged(FRIEND_LID, "message"))


def test_changed_identity_of_who_is_written_to_is_told_behind_the_write() -> None:
    play, row = known_friend_play()
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).said()
    play.on(SessionsLoaded(frozenset())).said()
    armed = Armed(row, b"stanza", changed=(COMPANION,))
    play.on(armed).expects(Write(armed), TellIdentityChanged(FRIEND_LID, "bundle"))


def test_phone_is_asked_for_what_could_not_be_read() -> None:
    play = connected_play()
    unread = Unread(MessageName(FRIEND_LID, "M", from_me=False), "known as", SERVER_T)
    play.on(Answer((), unread=unread)).expects_nothing()
    play.tick().expects(AskPhone(unread))
    play.on(Resent((Node("message"),))).expects(Send(Node("message")))


def test_phone_is_not_asked_for_what_was_read_after_all() -> None:
    play = connected_play()
    unread = Unread(MessageName(FRIEND_LID, "M", from_me=False), "known as", SERVER_T)
    play.on(Answer((), unread=unread)).expects_nothing()
    play.on(Answer((), read=("known as",))).expects_nothing()
    play.later(ASK_PHONE_AFTER_S).on(Tick()).expects_nothing()


def test_bundle_for_a_resend_is_asked_for_on_the_connection() -> None:
    children = (Node("retry", {"count": "1"}), Node("registration", {}, bytes(4)))
    node = Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "retry"}, children)
    play = connected_play().hears(node)
    (looked_up,) = play.said()
    assert isinstance(looked_up, LookUpResend)
    reached = frozenset({FRIEND_LID})
    play.on(ResendLookedUp(looked_up.receipt, a_row(), FRIEND_LID, reached, 0, None, None))
    play.expects(bundles_query("#3", FRIEND_LID))
    ack, bundle = receipt.ack(node, OWN_PN), bundle_of(KeyPair.generate())
    play.hears(bundles_result("#3", {FRIEND_LID: bundle}))
    play.expects(Resend(looked_up.receipt, ack, bundle))


def test_bundle_for_a_resend_that_does_not_come_is_not_waited_for() -> None:
    children = (Node("retry", {"count": "1"}), Node("registration", {}, bytes(4)))
    node = Node("receipt", {"id": "R", "from": FRIEND_LID, "type": "retry"}, children)
    play = connected_play().hears(node)
    (looked_up,) = play.said()
    assert isinstance(looked_up, LookUpResend)
    reached = frozenset({FRIEND_LID})
    play.on(ResendLookedUp(looked_up.receipt, a_row(), FRIEND_LID, reached, 0, None, None)).said()
    said = expired(play)
    assert Send(receipt.ack(node, OWN_PN)) in said


def test_bundle_fetched_before_the_identity_changed_is_not_used() -> None:
    play, row = known_friend_play()
    play.on(Deliver()).said()
    play.on(RowLoaded(row)).said()
    missing = SessionsLoaded(frozenset({FRIEND_LID}))
    play.on(missing).expects(bundles_query("#4", FRIEND_LID))
    play.hears(notified(notification.OwnDevices(()))).said()
    bundle = bundle_of(KeyPair.generate())
    # The lists changed, so they are asked for again, and the bundle is kept.
    play.hears(bundles_result("#4", {FRIEND_LID: bundle}))
    play.expects(devices_query("#5", FRIEND_PN, OWN_PN.bare))
    play.hears(notified(notification.IdentityChanged(FRIEND_LID))).said()
    play.hears(devices_result("#5", FRIEND, OURSELVES)).said()
    play.on(missing).expects(bundles_query("#6", FRIEND_LID))

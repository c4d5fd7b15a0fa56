"""What the server says by itself: the effect first, then the ack, for every kind of it."""

from __future__ import annotations

import json

import pytest

from sitpayd.actors.commands import (
    DropSessions,
    HoldFirstContacts,
    MakePreKeys,
    NextRow,
    Oddity,
    Remark,
    SaveFact,
    SaveNewChatHold,
    Send,
    TellIdentityChanged,
)
from sitpayd.actors.events import RowLoaded
from sitpayd.actors.messages import Deliver
from sitpayd.actors.notices import MAX_REMARKED
from sitpayd.actors.refusals import CAPPING_HOLD_S
from sitpayd.actors.strangers import Barred
from sitpayd.storage.records import DIRTY_FACT
from sitpayd.whatsapp.jid import GROUP_SERVER, SERVER_JID, Jid
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import ib, iq, notification, receipt
from sitpayd.whatsapp.stanzas.mex import capping_query
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_PN,
    SERVER_T,
    UNIX_OFFSET_S,
    a_row,
    connected_play,
    known_friend_play,
    pairing_play,
)
from tests.support.playbook import Playbook

GROUP = Jid("120363000000000000", GROUP_SERVER)


def notified(value: notification.Notification) -> Node:
    return notification.notification("N", value, t=SERVER_T, from_=OWN_PN.bare)


def plain(kind: str, *children: Node, from_: Jid = SERVER_JID) -> Node:
    return Node("notification", {"id": "N", "from": from_, "type": kind, "t": "7"}, children)


def mex(op_name: str, told: object) -> Node:
    update = Node("update", {"op_name": op_name}, json.dumps({"data": {"told": told}}).encode())
    return plain("mex", update)


def lock(*, active: bool) -> Node:
    return mex("NotificationUserReachoutTimelockUpdate", {"is_active": active})


def cap(status: str, ends: int | None = None) -> Node:
    told = {"capping_status": status, "cycle_end_timestamp": None if ends is None else str(ends)}
    return mex("MessageCappingInfoNotification", told)


def acked(node: Node) -> Send:
    return Send(receipt.ack(node, OWN_PN))


def held(until: float, reason: str) -> tuple[SaveNewChatHold, HoldFirstContacts]:
    return SaveNewChatHold(Barred(until, reason)), HoldFirstContacts(until, reason)


# --- the ack comes last ---


def test_ack_stands_behind_what_makes_the_effect_last() -> None:
    play = connected_play()
    changed = notified(notification.IdentityChanged(FRIEND_LID))
    told = TellIdentityChanged(FRIEND_LID, "notification")
    play.hears(changed).expects(DropSessions(FRIEND_LID), told, acked(changed))
    dirty = notified(notification.AppStateChanged((("regular", 3),)))
    play.hears(dirty).expects(SaveFact(f"{DIRTY_FACT}regular", b"3"), acked(dirty))
    locked = lock(active=True)
    *effects, ack = play.hears(locked).said()
    assert [type(effect) for effect in effects] == [SaveNewChatHold, HoldFirstContacts]
    assert ack == acked(locked)


def test_prekeys_take_their_time_so_the_ack_does_not_wait_for_them() -> None:
    few = notified(notification.PreKeyCount(0))
    connected_play().hears(few).expects(acked(few), MakePreKeys(812))


@pytest.mark.parametrize(
    "node",
    [
        plain("w:gp2", Node("add", {}, (Node("participant", {"jid": FRIEND_LID}),)), from_=GROUP),
        plain("picture", Node("set", {"jid": FRIEND_PN, "hash": "1"}), from_=FRIEND_PN),
        plain("status", Node("set", {}, b"busy"), from_=FRIEND_PN),
        plain("mediaretry", Node("rmr", {"jid": FRIEND_PN, "from_me": "false"}), from_=FRIEND_PN),
        plain("account_sync", Node("blocklist", {"dhash": "1"}), from_=OWN_PN.bare),
        plain("account_sync", Node("privacy"), from_=OWN_PN.bare),
        plain("account_sync", Node("disappearing_mode", {"duration": "0"}), from_=OWN_PN.bare),
        plain("newsletter", Node("live_updates"), from_=Jid("1", "newsletter")),
        plain("mex", Node("update", {"op_name": "NotificationNewsletterUpdate"}, b"{}")),
        plain("mex", Node("mex")),
        *map(plain, ("business", "disappearing_mode", "psa", "pay", "hosted", "server")),
        *map(plain, ("w:growth", "crsc_continuation", "link_code_companion_reg", "mystery")),
        Node("notification", {"id": "N", "from": SERVER_JID}),
    ],
    ids=lambda node: node.text("type") or "no type",
)
def test_what_concerns_nothing_that_is_kept_is_acknowledged(node: Node) -> None:
    connected_play().hears(node).expects(acked(node))


@pytest.mark.parametrize(
    "node",
    [
        plain("encrypt", Node("count")),
        plain("devices", Node("add", {}, (Node("device"),)), from_=FRIEND_PN),
        plain("account_sync", Node("devices", {}, (Node("device"),)), from_=OWN_PN.bare),
        plain("privacy_token", from_=FRIEND_PN),
        plain("server_sync", Node("collection")),
        plain("mex", Node("update", {"op_name": "MessageCappingInfoNotification"}, b"\xff")),
        plain("mex", Node("update", {"op_name": "NotificationUserReachoutTimelockUpdate"})),
    ],
    ids=lambda node: node.text("type"),
)
def test_what_cannot_be_read_is_acknowledged(node: Node) -> None:
    connected_play().hears(node).expects(acked(node))


def test_ack_says_what_it_answers_and_to_whom() -> None:
    participant, recipient = FRIEND_LID.with_device(2), OWN_PN.bare
    node = Node(
        "notification",
        {
            "id": "N",
            "from": GROUP,
            "type": "w:gp2",
            "participant": participant,
            "recipient": recipient,
        },
    )
    ack: dict[str, Attr] = {
        "id": "N",
        "to": GROUP,
        "class": "notification",
        "participant": participant,
        "recipient": recipient,
        "type": "w:gp2",
    }
    connected_play().hears(node).expects(Send(Node("ack", ack)))


# --- the app state ---


def test_collections_that_changed_are_remembered_each() -> None:
    play = connected_play()
    both = notified(notification.AppStateChanged((("regular", 3), ("regular_low", 1))))
    regular, low = f"{DIRTY_FACT}regular", f"{DIRTY_FACT}regular_low"
    play.hears(both).expects(SaveFact(regular, b"3"), SaveFact(low, b"1"), acked(both))
    play.hears(both).expects(acked(both))
    newer = notified(notification.AppStateChanged((("regular", 4), ("regular_low", 1))))
    play.hears(newer).expects(SaveFact(regular, b"4"), acked(newer))


def test_app_state_of_no_account_is_not_remembered() -> None:
    node = notified(notification.AppStateChanged((("regular", 3),)))
    (ack,) = pairing_play().hears(node).said()
    assert ack == Send(receipt.ack(node, SERVER_JID))


# --- the quota of new chats ---


def test_used_up_quota_holds_first_messages_until_the_end_of_its_cycle() -> None:
    play = known_friend_play()[0]
    ends = int(play.now + UNIX_OFFSET_S) + 86_400
    node = cap("CAPPED", ends)
    play.hears(node).expects(*held(ends - UNIX_OFFSET_S, "new_chat_limit"), acked(node))
    play.on(Deliver()).expects(NextRow(first_contacts=False))
    play.on(RowLoaded(None, first_contacts_wait=True)).said()
    # Then it is asked whether the next cycle allows more.
    assert Send(capping_query("#4")) in play.later(86_400).on(Deliver()).said()


def test_used_up_quota_without_an_end_holds_for_a_day() -> None:
    play, node = known_friend_play()[0], cap("CAPPED")
    until = play.now + CAPPING_HOLD_S
    play.hears(node).expects(*held(until, "new_chat_limit"), acked(node))


def test_end_that_is_past_tells_no_end() -> None:
    play, node = known_friend_play()[0], cap("CAPPED", 7)
    until = play.now + CAPPING_HOLD_S
    play.hears(node).expects(*held(until, "new_chat_limit"), acked(node))


@pytest.mark.parametrize("status", ["NONE", "FIRST_WARNING", "SECOND_WARNING"])
def test_better_state_lets_first_messages_go(status: str) -> None:
    play, node = known_friend_play()[0], cap(status)
    play.hears(cap("CAPPED")).said()
    play.hears(node).expects(SaveNewChatHold(None), NextRow(), acked(node))
    play.on(RowLoaded(a_row(2))).said()


@pytest.mark.parametrize("status", ["NONE", "UNHEARD_OF"])
def test_quota_that_is_not_used_up_changes_nothing(status: str) -> None:
    node = cap(status)
    said = known_friend_play()[0].hears(node).said()
    assert [command for command in said if command != NextRow()] == [acked(node)]


def test_quota_does_not_lift_what_another_reason_holds() -> None:
    play, node = known_friend_play()[0], cap("NONE")
    play.hears(lock(active=True)).said()
    play.hears(node).expects(acked(node))
    play.on(Deliver()).expects(NextRow(first_contacts=False, unanswered=False))


# --- ib ---


def test_dirty_account_forgets_its_own_devices_and_is_cleaned() -> None:
    play, row = known_friend_play()
    play.hears(ib.ib(ib.Dirty("account_sync", 17)))
    play.expects(Send(iq.clean_dirty("#4", "account_sync", 17)))
    play.on(Deliver()).expects(NextRow())
    (asked,) = play.on(RowLoaded(row)).said()
    assert isinstance(asked, Send)
    assert asked.node.child("usync") is not None


@pytest.mark.parametrize("kind", ["groups", "communities", "mystery"])
def test_dirty_state_of_which_nothing_is_kept_is_cleaned(kind: str) -> None:
    play, row = known_friend_play()
    play.hears(ib.ib(ib.Dirty(kind, None))).expects(Send(iq.clean_dirty("#4", kind, None)))
    play.on(Deliver()).expects(NextRow())
    assert not any(isinstance(said, Send) for said in play.on(RowLoaded(row)).said())


def test_unknown_announcement_is_remarked_upon_once() -> None:
    play, node = connected_play(), ib.ib(ib.OtherAnnouncement("thread_metadata"))
    play.hears(node).expects(Remark(Oddity.UNKNOWN_ANNOUNCEMENT, "thread_metadata"))
    play.hears(node).expects_nothing()


def test_name_that_is_none_does_not_get_into_a_log() -> None:
    play = connected_play().hears(ib.ib(ib.OtherAnnouncement("4915112345678 said hello")))
    play.expects(Remark(Oddity.UNKNOWN_ANNOUNCEMENT, "?"))


def test_server_cannot_fill_the_log_with_announcements() -> None:
    play = connected_play()
    for number in range(MAX_REMARKED):
        play.hears(ib.ib(ib.OtherAnnouncement(f"a{number}"))).said()
    play.hears(ib.ib(ib.OtherAnnouncement("another"))).expects_nothing()


# --- requests of the server ---


@pytest.mark.parametrize(
    ("node", "names"),
    [
        (Node("iq", {"type": "set", "id": "S", "xmlns": "w:x"}, (Node("y"),)), "set w:x y"),
        (Node("iq", {"type": "get", "id": "S"}), "get"),
        (Node("iq", {"type": "set", "id": "S", "xmlns": "An Na"}, (Node("b"),)), "set ? b"),
    ],
)
def test_request_that_nobody_answers_is_remarked_upon(node: Node, names: str) -> None:
    connected_play().hears(node).expects(Remark(Oddity.UNKNOWN_REQUEST, names))


def test_request_that_nobody_answers_is_remarked_upon_while_linking() -> None:
    node = Node("iq", {"type": "set", "id": "S", "xmlns": "w:x"})
    pairing_play().hears(node).expects(Remark(Oddity.UNKNOWN_REQUEST, "set w:x"))


@pytest.mark.parametrize("play", [connected_play, pairing_play])
def test_ping_is_answered_in_every_phase(play: type[Playbook]) -> None:
    ping = Node("iq", {"id": "P", "type": "get", "xmlns": "urn:xmpp:ping"})
    pong = Node("iq", {"to": SERVER_JID, "type": "result", "id": "P"})
    play().hears(ping).expects(Send(pong))

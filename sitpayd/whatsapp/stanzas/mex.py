"""mex: questions the server answers in JSON; here, what it restricts an account in.

The ids of the questions belong to a revision of the web client and change with it, and an answer
may have any shape: what cannot be read counts as no answer.

Source: whatsmeow mex ids and notification.go; public threads about error 463.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import RemoteProtocolError
from ..jid import SERVER_JID
from ..node import Node
from . import iq
from .wire import attributes

_REACHOUT_TIMELOCK: Final = "23983697327930364"
_TIMELOCK_ANSWER: Final = "xwa2_fetch_account_reachout_timelock"
_MESSAGE_CAPPING: Final = "24503548349331633"
_CAPPING_ANSWER: Final = "xwa2_message_capping_info"
# Of a notice, by whether it is about the timelock.
_NOTICE_DATA: Final = {
    True: "xwa2_notify_account_reachout_timelock",
    False: "xwa2_notify_new_chat_messages_capping_info_update",
}
_TIMELOCK_NOTICE: Final = "NotificationUserReachoutTimelockUpdate"
_CAPPING_NOTICE: Final = "MessageCappingInfoNotification"
# The words for how much of a quota is used up; at the last nobody may be written to first.
_CAPPING_STATES: Final = ("NONE", "FIRST_WARNING", "SECOND_WARNING", "CAPPED")
_CAPPED: Final = "CAPPED"
# Deeper than any answer; a bound for hostile ones.
_MAX_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class ReachoutTimelock:
    """Whether the account may write to people it has no chat with.

    Attributes:
        ends: UTC seconds; None if it is not told.
    """

    is_active: bool
    ends: int | None = None


@dataclass(frozen=True, slots=True)
class NewChatCap:
    """Whether the account has used up its quota of new chats.

    Attributes:
        ends: UTC seconds, when a new quota begins; None if it is not told.
    """

    is_reached: bool
    ends: int | None = None


def timelock_query(id: str) -> Node:
    """Ask for the account's timelock."""
    return _query(id, _REACHOUT_TIMELOCK, {})


def parse_timelock(node: Node) -> ReachoutTimelock | None:
    """The answer to `timelock_query`; None: it tells nothing.

    An account that was never locked has none: null stands for an inactive one.

    Raises:
        RemoteProtocolError: If there is no JSON in it.
    """
    answer = _json(node.data_of("result"))
    data = answer.get("data") if isinstance(answer, dict) else None
    if isinstance(data, dict) and _TIMELOCK_ANSWER in data and data[_TIMELOCK_ANSWER] is None:
        return ReachoutTimelock(False)
    return _timelock(answer)


def parse_timelock_notice(node: Node) -> ReachoutTimelock | None:
    """What a notification of type "mex" says about the timelock; None: nothing.

    Raises:
        RemoteProtocolError: If it is about the timelock and holds no JSON.
    """
    update = node.child("update")
    if update is None or update.text("op_name") != _TIMELOCK_NOTICE:
        return None
    return _timelock(_json(update.data))


def capping_query(id: str) -> Node:
    """Ask for the account's quota of new chats."""
    return _query(id, _MESSAGE_CAPPING, {"input": {"type": "INDIVIDUAL_NEW_CHAT_MSG"}})


def parse_capping(node: Node) -> NewChatCap | None:
    """The answer to `capping_query`; None: it tells nothing.

    Raises:
        RemoteProtocolError: If there is no JSON in it.
    """
    return _cap(_json(node.data_of("result")))


def parse_capping_notice(node: Node) -> NewChatCap | None:
    """What a notification of type "mex" says about the quota of new chats; None: nothing.

    Raises:
        RemoteProtocolError: If it is about the quota and holds no JSON.
    """
    update = node.child("update")
    if update is None or update.text("op_name") != _CAPPING_NOTICE:
        return None
    return _cap(_json(update.data))


def notice(id: str, told: ReachoutTimelock | NewChatCap, *, t: int) -> Node:
    """Tell that a restriction has changed, as the server does; t: UTC seconds."""
    is_lock = isinstance(told, ReachoutTimelock)
    content = json.dumps({"data": {_NOTICE_DATA[is_lock]: _told(told)}}).encode()
    op_name = _TIMELOCK_NOTICE if is_lock else _CAPPING_NOTICE
    update = Node("update", {"op_name": op_name}, content)
    attrs = attributes({"id": id, "t": t, "type": "mex", "from": SERVER_JID})
    return Node("notification", attrs, (update,))


def answer(node: Node, lock: ReachoutTimelock | None, cap: NewChatCap) -> Node | None:
    """Answer a question, as the server does; None: it is one that nobody here knows.

    Raises:
        RemoteProtocolError: If it is no question.
    """
    match node.required("query").text("query_id"):
        case query_id if query_id == _REACHOUT_TIMELOCK:
            data = {_TIMELOCK_ANSWER: None if lock is None else _told(lock)}
        case query_id if query_id == _MESSAGE_CAPPING:
            data = {_CAPPING_ANSWER: _told(cap)}
        case _:
            return None
    return iq.result(node, Node("result", {}, json.dumps({"data": data}).encode()))


def _told(told: ReachoutTimelock | NewChatCap) -> dict[str, object]:
    ends = None if told.ends is None else str(told.ends)
    if isinstance(told, ReachoutTimelock):
        return {"is_active": told.is_active, "time_enforcement_ends": ends}
    status = _CAPPED if told.is_reached else _CAPPING_STATES[0]
    return {"capping_status": status, "cycle_end_timestamp": ends}


def _query(id: str, query_id: str, variables: Mapping[str, object]) -> Node:
    body = json.dumps({"variables": variables}).encode()
    return iq.get("w:mex", Node("query", {"query_id": query_id}, body), id=id)


def _json(data: bytes) -> object:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError("not JSON") from error
    return value


def _timelock(value: object, depth: int = 0) -> ReachoutTimelock | None:
    """Find the timelock, however deep the server wraps it."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return None
    if isinstance(value.get("is_active"), bool):
        return ReachoutTimelock(value["is_active"], _seconds(value.get("time_enforcement_ends")))
    found = (_timelock(child, depth + 1) for child in value.values())
    return next((timelock for timelock in found if timelock is not None), None)


def _cap(value: object, depth: int = 0) -> NewChatCap | None:
    """Find the quota, however deep the server wraps it."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return None
    # Under the second name it stands in the answer to a question.
    status = value.get("capping_status", value.get("status"))
    if status in _CAPPING_STATES:
        return NewChatCap(status == _CAPPED, _seconds(value.get("cycle_end_timestamp")))
    found = (_cap(child, depth + 1) for child in value.values())
    return next((cap for cap in found if cap is not None), None)


def _seconds(value: object) -> int | None:
    # A list would be written out, however deep it is.
    text = str(value) if isinstance(value, int | str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None

"""mex: questions the server answers in JSON; here, what it restricts an account in.

The ids of the questions belong to a revision of the web client and change with it, and an answer
may have any shape: what cannot be read counts as no answer.

Source: whatsmeow mex ids and notification.go; public threads about error 463.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from ..errors import RemoteProtocolError
from ..node import Node
from . import iq

_REACHOUT_TIMELOCK: Final = "23983697327930364"
_TIMELOCK_NOTICE: Final = "NotificationUserReachoutTimelockUpdate"
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


def timelock_query(id: str) -> Node:
    """Ask for the account's timelock."""
    query = Node("query", {"query_id": _REACHOUT_TIMELOCK}, json.dumps({"variables": {}}).encode())
    return iq.get("w:mex", query, id=id)


def parse_timelock(node: Node) -> ReachoutTimelock | None:
    """The answer to `timelock_query`; None: it tells nothing.

    Raises:
        RemoteProtocolError: If there is no JSON in it.
    """
    return _timelock(_json(node.data_of("result")))


def parse_timelock_notice(node: Node) -> ReachoutTimelock | None:
    """What a notification of type "mex" says about the timelock; None: nothing.

    Raises:
        RemoteProtocolError: If it is about the timelock and holds no JSON.
    """
    update = node.child("update")
    if update is None or update.text("op_name") != _TIMELOCK_NOTICE:
        return None
    return _timelock(_json(update.data))


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


def _seconds(value: object) -> int | None:
    # A list would be written out, however deep it is.
    text = str(value) if isinstance(value, int | str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None

"""iq: requests and answers, and the small requests of every connection.

Waiting for an answer is the caller's affair: it matches `id` on tag `iq`. Requests of a family
(prekeys, usync, pairing) stand with their family and are built with `get` and `set_`.

Source: whatsmeow request.go, keepalive.go; Baileys lib/Socket/socket.js.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from ..errors import RemoteProtocolError
from ..jid import SERVER_JID, Jid
from ..node import Node
from .wire import attributes

# The web client's session id counts milliseconds since a Sunday three days after the epoch, modulo
# a week. Source: Baileys lib/Socket/socket.js.
_WEEK_MS: Final = 604_800_000
_WEEK_SHIFT_MS: Final = 259_200_000


class IqIds:
    """Ids of one connection: a random prefix and a counter, never the clock.

    Args:
        prefix: by default two random 16-bit numbers, as the web client writes them.
    """

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = prefix or f"{secrets.randbelow(1 << 16)}.{secrets.randbelow(1 << 16)}-"
        self._count = 0

    def next(self) -> str:
        """The next id."""
        self._count += 1
        return f"{self._prefix}{self._count}"


@dataclass(frozen=True, slots=True)
class IqError:
    """The `<error>` of an answer.

    Attributes:
        code: 0 if it has none that can be read.
        backoff: seconds to wait before asking again, if the server says so.
    """

    code: int
    text: str | None
    backoff: int | None = None


def get(xmlns: str, *children: Node, id: str, to: Jid = SERVER_JID) -> Node:
    """A request for information."""
    return _request("get", xmlns, children, id, to)


def set_(xmlns: str, *children: Node, id: str, to: Jid = SERVER_JID) -> Node:
    """A request for a change."""
    return _request("set", xmlns, children, id, to)


def _request(kind: str, xmlns: str, children: tuple[Node, ...], id: str, to: Jid) -> Node:
    return Node(
        "iq", attributes({"id": id, "to": to, "type": kind, "xmlns": xmlns}), children or None
    )


def result(iq: Node, *children: Node) -> Node:
    """Answer a request, the server's (it has `from`) or a client's (it has `to`).

    Raises:
        RemoteProtocolError: If the request has no id.
    """
    return _answer(iq, "result", children)


def error(iq: Node, code: int, text: str) -> Node:
    """Refuse a request.

    Raises:
        RemoteProtocolError: If the request has no id.
    """
    return _answer(iq, "error", (Node("error", attributes({"code": code, "text": text})),))


def _answer(iq: Node, kind: str, children: tuple[Node, ...]) -> Node:
    asker = iq.jid("from")
    addresses = {"to": asker} if asker else {"from": iq.jid("to") or SERVER_JID}
    return Node("iq", {**addresses, "type": kind, "id": iq.required_text("id")}, children or None)


def parse_iq_error(node: Node) -> IqError | None:
    """The error of an answer; None if it is a result.

    Raises:
        RemoteProtocolError: If it is no answer at all.
    """
    match node.text("type"):
        case "result":
            return None
        case "error":
            child = node.child("error") or Node("error")
            return IqError(child.number("code") or 0, child.text("text"), child.number("backoff"))
        case _:
            raise RemoteProtocolError("an iq that is no answer")


def ping(id: str) -> Node:
    """The client's keepalive."""
    return get("w:p", Node("ping"), id=id)


def server_ping(id: str) -> Node:
    """The server's ping, to be answered at once with `result`."""
    return Node(
        "iq",
        attributes({"from": SERVER_JID, "id": id, "type": "get", "xmlns": "urn:xmpp:ping"}),
        None,
    )


def is_ping(node: Node) -> bool:
    """Whether this is a ping of either side; the answer is an empty `result`."""
    return (
        node.tag == "iq"
        and node.text("type") == "get"
        and node.text("xmlns") in ("w:p", "urn:xmpp:ping")
    )


def pong(ping: Node) -> Node:
    """Answer the server's ping, whether it says whom it is from or not.

    Raises:
        RemoteProtocolError: If the ping has no id.
    """
    return Node("iq", {"to": SERVER_JID, "type": "result", "id": ping.required_text("id")})


def active(id: str) -> Node:
    """Ask for the events the server holds back after login."""
    return set_("passive", Node("active"), id=id)


def logout(id: str, device: Jid) -> Node:
    """Unlink this device; the answer must be awaited before its keys are dropped."""
    child = Node("remove-companion-device", attributes({"jid": device, "reason": "user_initiated"}))
    return set_("md", child, id=id)


def parse_logout(node: Node) -> Jid | None:
    """The device a client's `md` request unlinks; None if it is another request.

    Raises:
        RemoteProtocolError: If it unlinks a device it does not name.
    """
    child = node.child("remove-companion-device")
    return None if child is None else child.required_jid("jid")


def clean_dirty(id: str, dirty_type: str, timestamp: int | None) -> Node:
    """Tell the server that what it called dirty was fetched anew (`ib.Dirty`)."""
    child = Node("clean", attributes({"type": dirty_type, "timestamp": timestamp}))
    return set_("urn:xmpp:whatsapp:dirty", child, id=id)


def parse_clean(node: Node) -> tuple[str, int | None] | None:
    """Type and timestamp of a `clean_dirty`, as the server reads it; None: another request.

    Raises:
        RemoteProtocolError: If it is malformed.
    """
    child = node.child("clean")
    return None if child is None else (child.required_text("type"), child.number("timestamp"))


def offline_batch(count: int) -> Node:
    """Ask for the next so many stanzas of the announced backlog (`ib.OfflinePreview`)."""
    return Node("ib", {}, (Node("offline_batch", attributes({"count": count})),))


def parse_offline_batch(node: Node) -> int | None:
    """How many stanzas an `<ib>` of a client asks for; None: it is another one.

    Raises:
        RemoteProtocolError: If it names no number.
    """
    child = node.child("offline_batch")
    if child is None:
        return None
    count = child.number("count")
    if count is None:
        raise RemoteProtocolError("<offline_batch> without a count")
    return count


def unified_session_id(now_ms: int, offset_ms: int = 0) -> str:
    """The id the web client gives to its use of this week.

    Args:
        now_ms: UTC, milliseconds.
        offset_ms: server time minus ours, milliseconds.
    """
    return str((now_ms + offset_ms + _WEEK_SHIFT_MS) % _WEEK_MS)


def unified_session(now_ms: int, offset_ms: int = 0) -> Node:
    """Announce `unified_session_id`."""
    child = Node("unified_session", {"id": unified_session_id(now_ms, offset_ms)})
    return Node("ib", {}, (child,))

"""privacy: tokens with which people prove that they know each other.

A person gives somebody a trusted-contact token (`tctoken`) by telling the server; whoever was given
one puts it into messages to that person. Who has none proves at least that the phone knows the
person (`cstoken`, made of a secret of the account). That a token came in stands in notification.py.

Source: whatsmeow tctoken.go, cstoken.go; Baileys lib/Utils/tc-token-utils.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ..crypto import hmac_sha256
from ..errors import RemoteProtocolError
from ..jid import Jid
from ..node import Node
from . import iq
from .wire import attributes

TRUSTED_CONTACT: Final = "trusted_contact"
# Time is cut into buckets of a week; a token is good in the bucket of its time and three more.
BUCKET_S: Final = 604_800
BUCKETS: Final = 4

# Numbers of WhatsApp's own assistants. Source: Baileys lib/WABinary/jid-utils, isJidBot.
_BOT: Final = re.compile(r"1313555\d{4}|131655500\d{2}")
# WhatsApp itself, which tells its users news.
_WHATSAPP: Final = "0"


ProofKind = Literal["tctoken", "cstoken"]
PROOF_KINDS: Final = get_args(ProofKind)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a message carries to show that it is no stranger's."""

    kind: ProofKind
    data: bytes

    def __repr__(self) -> str:
        return f"Proof({self.kind!r})"


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token of a person; t: UTC seconds."""

    token: bytes
    t: int

    def __repr__(self) -> str:
        return f"GivenToken(t={self.t})"


def ends(t: int) -> int:
    """When a token of this time is no good any more; both UTC seconds."""
    return (t // BUCKET_S + BUCKETS) * BUCKET_S


def bucket_start(now: int) -> int:
    """When this week began: who was given a token before is to be given another. UTC seconds."""
    return now // BUCKET_S * BUCKET_S


def takes_tokens(user: Jid) -> bool:
    """Whether this is a person, and not a machine of WhatsApp's."""
    return user.is_user and user.user != _WHATSAPP and not _BOT.fullmatch(user.user)


def cstoken(salt: bytes, recipient: Jid) -> bytes:
    """What proves that our phone knows a person: 32 bytes.

    Args:
        salt: the account's secret for this (`nctSalt`).
        recipient: the person's LID.
    """
    return hmac_sha256(salt, f"{recipient.user}@{recipient.server}".encode())


def give(id: str, user: Jid, t: int) -> Node:
    """Give a person our token.

    Args:
        t: the time the token is to have, UTC seconds.
    """
    token = Node("token", attributes({"jid": user.bare, "t": t, "type": TRUSTED_CONTACT}))
    return iq.set_("privacy", Node("tokens", {}, (token,)), id=id)


def parse_give(node: Node) -> tuple[tuple[Jid, int], ...]:
    """Read a client's request to give tokens, as the server does: to whom, and their times.

    Raises:
        RemoteProtocolError: If there is none, or one names nobody or no time.
    """
    given = _trusted(node.required("tokens"))
    return tuple((child.required_jid("jid"), _time(child)) for child in given)


def give_answer(node: Node, tokens: Mapping[Jid, GivenToken]) -> Node:
    """Answer a request to give tokens, with those that these persons have given."""
    children = tuple(
        Node("token", attributes({"jid": jid, "t": given.t, "type": TRUSTED_CONTACT}), given.token)
        for jid, given in tokens.items()
    )
    return iq.result(node, *((Node("tokens", {}, children),) if children else ()))


def parse_give_answer(node: Node) -> tuple[GivenToken, ...]:
    """The person's tokens in the answer to a request to give ours.

    Raises:
        RemoteProtocolError: If one of them cannot be read.
    """
    tokens = node.child("tokens")
    found = () if tokens is None else _trusted(tokens)
    return tuple(GivenToken(child.data, _time(child)) for child in found if child.data)


def _trusted(tokens: Node) -> tuple[Node, ...]:
    named = tokens.named("token")
    return tuple(child for child in named if child.text("type") == TRUSTED_CONTACT)


def _time(node: Node) -> int:
    t = node.number("t")
    if t is None:
        raise RemoteProtocolError("a token of no time")
    return t

"""props: what the server has switched on for this account, as far as we act upon it.

A client tells the hash of what it has; a server to which that is no news may leave the list out.
So the values are to be kept together with their hash.

Source: Baileys lib/Socket/chats.js, fetchProps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from ..errors import LocalProtocolError, RemoteProtocolError
from ..node import Node
from . import iq
from .wire import attributes

_PROTOCOL: Final = "1"
# Longer ones are none that a server needs; a bound for what is stored.
_MAX_HASH_LEN: Final = 256
# A prop goes by its code or by its name.
TOKENS_WITH_MESSAGES: Final = "10518"
_WITH_MESSAGES: Final = (TOKENS_WITH_MESSAGES, "privacy_token_sending_on_all_1_on_1_messages")
_FOR_PICTURES: Final = ("9666", "profile_scraping_privacy_token_in_photo_iq")
_TO_LID: Final = ("14303", "lid_trusted_token_issue_to_lid")
_TRUE: Final = ("true", "1")


@dataclass(frozen=True, slots=True)
class Props:
    """What is switched on; None: the server has not told.

    Attributes:
        hash: names the whole list; None: none was told.
        tokens_with_messages: privacy tokens go with every message to a person.
        tokens_for_pictures: they go with the question for a profile picture.
        tokens_to_lid: our own are issued to LIDs instead of numbers.
    """

    hash: str | None = None
    tokens_with_messages: bool | None = None
    tokens_for_pictures: bool | None = None
    tokens_to_lid: bool | None = None

    def to_bytes(self) -> bytes:
        """Serialise."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Props:
        """Read what `to_bytes` wrote.

        Raises:
            LocalProtocolError: If the bytes are damaged.
        """
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise LocalProtocolError("stored props are damaged") from error


def query(id: str, known: Props) -> Node:
    """Ask for what is switched on; the server may leave out what is known."""
    attrs = attributes({"protocol": _PROTOCOL, "hash": known.hash})
    return iq.get("abt", Node("props", attrs), id=id)


def parse_query(node: Node) -> str | None:
    """The hash of what a client knows, as the server reads it.

    Raises:
        RemoteProtocolError: If it is no such query.
    """
    return node.required("props").text("hash")


def parse_props(node: Node, known: Props) -> Props:
    """The answer to `query`: what was known, changed by what it tells.

    Raises:
        RemoteProtocolError: If it holds no props.
    """
    told = node.required("props")
    hash = told.text("hash") or known.hash
    if hash is not None and len(hash) > _MAX_HASH_LEN:
        raise RemoteProtocolError("the hash of the props is too long")
    return Props(
        hash,
        _switch(told, _WITH_MESSAGES, known.tokens_with_messages),
        _switch(told, _FOR_PICTURES, known.tokens_for_pictures),
        _switch(told, _TO_LID, known.tokens_to_lid),
    )


def _switch(told: Node, names: tuple[str, ...], known: bool | None) -> bool | None:
    for prop in told.named("prop"):
        name = prop.text("config_code") or prop.text("name")
        value = prop.text("config_value") or prop.text("value")
        if name in names and value is not None:
            return value in _TRUE
    return known


def answer(query: Node, hash: str, values: Mapping[str, str]) -> Node:
    """Answer `query`, as the server does.

    Args:
        values: by code; none if the client knows them.
    """
    props = tuple(
        Node("prop", {"config_code": code, "config_value": value}) for code, value in values.items()
    )
    attrs = {"protocol": _PROTOCOL, "hash": hash, "refresh": "86400", "refresh_id": "1"}
    return iq.result(query, Node("props", attrs, props or None))

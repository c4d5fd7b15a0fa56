"""Hypothesis strategies for protocol values: what our encoder can write and any peer may send."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sitpayd.whatsapp.jid import (
    BOT_SERVER,
    BROADCAST_SERVER,
    FB_SERVER,
    GROUP_SERVER,
    HOSTED_LID_SERVER,
    HOSTED_SERVER,
    INTEROP_SERVER,
    LID_SERVER,
    NEWSLETTER_SERVER,
    PN_SERVER,
    Jid,
)
from sitpayd.whatsapp.node import Attr, Content, Node
from sitpayd.whatsapp.tokens import DOUBLE_BYTE_TOKENS, SINGLE_BYTE_TOKENS

TOKENS = SINGLE_BYTE_TOKENS[1:] + tuple(token for words in DOUBLE_BYTE_TOKENS for token in words)


def digits() -> SearchStrategy[str]:
    """User parts as phone numbers and LIDs have them."""
    return st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True)


def jids() -> SearchStrategy[Jid]:
    """Addresses of every form the wire has."""
    users = digits() | st.text(max_size=8)
    bytes_1, bytes_2 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
    of_devices = st.sampled_from((PN_SERVER, LID_SERVER, HOSTED_SERVER, HOSTED_LID_SERVER))
    plain = st.sampled_from((GROUP_SERVER, BROADCAST_SERVER, NEWSLETTER_SERVER, BOT_SERVER, "x.y"))
    return st.one_of(
        st.builds(Jid, users, of_devices, bytes_1),
        st.builds(Jid, users, plain),
        st.builds(Jid, users, st.just(FB_SERVER), bytes_2),
        st.builds(Jid, users, st.just(INTEROP_SERVER), bytes_2, bytes_2),
    )


def packable() -> SearchStrategy[str]:
    """Text of the two packed alphabets, around the length where packing ends as well."""
    return st.from_regex(r"[0-9.\-]{1,130}|[0-9A-F]{1,130}", fullmatch=True)


def texts() -> SearchStrategy[str]:
    """Text of every kind the wire distinguishes."""
    return st.one_of(st.sampled_from(TOKENS), packable(), st.text(max_size=300))


def wire_texts() -> SearchStrategy[str]:
    """Text that stays text as a node's content; any other comes back as bytes."""
    short = st.from_regex(r"[0-9.\-]{1,127}|[0-9A-F]{1,127}", fullmatch=True)
    return st.sampled_from(TOKENS) | short


def nodes(max_leaves: int = 12) -> SearchStrategy[Node]:
    """Stanzas that survive the wire unchanged."""
    names = texts().filter(bool)
    values: SearchStrategy[Attr] = texts() | jids()
    attrs = st.dictionaries(names, values, max_size=5)
    flat: SearchStrategy[Content] = st.none() | st.binary(max_size=300) | wire_texts()
    return st.recursive(
        st.builds(Node, names, attrs, flat),
        lambda children: st.builds(
            Node, names, attrs, st.lists(children, max_size=4).map(lambda some: tuple(some))
        ),
        max_leaves=max_leaves,
    )


@st.composite
def chunked(draw: st.DrawFn, data: bytes, max_cuts: int = 12) -> list[bytes]:
    """The same bytes, cut at any places."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=max_cuts)))
    edges = [0, *cuts, len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]

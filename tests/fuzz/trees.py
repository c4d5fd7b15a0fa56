"""Changes of stanzas that know what a node is: every change is a stanza that can be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final, TypeVar

from sitpayd.whatsapp.codec import MAX_DEPTH, decode, encode
from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.node import Attr, Content, Node
from sitpayd.whatsapp.tokens import DOUBLE_BYTE_TOKENS, SINGLE_BYTE_TOKENS
from tests.fuzz.target import CANARY

T = TypeVar("T")
Edit = Callable[[Random, Node, Node], Node]

_TOKENS: Final = SINGLE_BYTE_TOKENS[1:] + tuple(
    word for words in DOUBLE_BYTE_TOKENS for word in words
)
_TEXTS: Final = (
    *("", "0", "-1", "1.5", "true", "00000000000000000000", "9" * 20, "9" * 21, "\u00e9", "\0"),
    *("@", "@lid", "a@b@c", "s.whatsapp.net", "1:2@s.whatsapp.net", "1:300@s.whatsapp.net"),
    *("1:5@bot", "1:65535@msgr", "99999-1@interop", "1.2:3@lid", "x" * 300, "\N{ELEPHANT}" * 9),
    *("retry", "error", "result", "get", "set", "message", "encrypt", "devices", "read"),
    *("pkmsg", "msg", "skmsg", "in", "out", "add", "remove", "update", "peer", CANARY),
)
_JIDS: Final = (
    *(pn(""), pn("1"), pn(CANARY), pn("4915112345678", 7), pn("4915112345678", 255), lid("")),
    *(lid("200000000000002"), lid("200000000000002", 99), Jid("", "g.us"), Jid("1-2", "g.us")),
    *(Jid("1", "hosted"), Jid("1", "hosted", 99), Jid("1", "hosted.lid", 99), Jid("1", "bot")),
    *(Jid("1", "msgr", 65535), Jid("1", "interop", 1, 65535), Jid("status", "broadcast")),
    *(Jid("1", "newsletter"), Jid("1", "x" * 70)),
)
_LENGTHS: Final = (0, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 80, 255, 256, 300)


def _any(rng: Random, some: tuple[T, ...]) -> T:
    return some[int(rng.random() * len(some))]


def changed(rng: Random, data: bytes, other: bytes) -> bytes | None:
    """Change the stanza in these bytes; None: there is none, or it became too large to send."""
    try:
        tree, donor = decode(data), decode(other)
    except RemoteProtocolError:
        return None
    for _ in range(1 + int(rng.random() ** 2 * 4)):
        tree = edited(rng, tree, donor)
    try:
        return encode(tree)
    except LocalProtocolError:
        return None


def edited(rng: Random, tree: Node, donor: Node) -> Node:
    """Apply one edit somewhere in the tree."""
    children = tree.children
    if children and rng.random() < 0.7:
        at = int(rng.random() * len(children))
        inner = edited(rng, children[at], donor)
        return replace(tree, content=(*children[:at], inner, *children[at + 1 :]))
    return _any(rng, _EDITS)(rng, tree, donor)


def _piece(rng: Random, donor: Node) -> Node:
    """Some element of another stanza."""
    while donor.children and rng.random() < 0.7:
        donor = donor.children[int(rng.random() * len(donor.children))]
    return donor


def _attr(rng: Random) -> Attr:
    choice = rng.random()
    if choice < 0.4:
        return _any(rng, _TEXTS)
    if choice < 0.8:
        return _any(rng, _JIDS)
    return _any(rng, _TOKENS) if choice < 0.9 else str(rng.getrandbits(int(rng.random() * 66)))


def _set_attr(rng: Random, tree: Node, donor: Node) -> Node:
    names = tuple(tree.attrs) or _TOKENS
    return replace(tree, attrs={**tree.attrs, _any(rng, names): _attr(rng)})


def _add_attr(rng: Random, tree: Node, donor: Node) -> Node:
    name = _any(rng, tuple(_piece(rng, donor).attrs) or _TOKENS)
    return replace(tree, attrs={**tree.attrs, name: _attr(rng)})


def _drop_attr(rng: Random, tree: Node, donor: Node) -> Node:
    attrs = dict(tree.attrs)
    if attrs:
        del attrs[_any(rng, tuple(attrs))]
    return replace(tree, attrs=attrs)


def _many_attrs(rng: Random, tree: Node, donor: Node) -> Node:
    more = {f"a{index}": "v" for index in range(int(rng.random() ** 8 * 300))}
    return replace(tree, attrs={**tree.attrs, **more})


def _rename(rng: Random, tree: Node, donor: Node) -> Node:
    tag = _piece(rng, donor).tag if rng.random() < 0.5 else _any(rng, (*_TOKENS, "x" * 300))
    return replace(tree, tag=tag)


def _set_content(rng: Random, tree: Node, donor: Node) -> Node:
    content: Content = rng.randbytes(_any(rng, _LENGTHS))
    choice = rng.random()
    if choice < 0.15:
        content = None
    elif choice < 0.3:
        content = ()
    elif choice < 0.45:
        content = _any(rng, _TEXTS)
    elif choice < 0.55:
        content = _any(rng, _TEXTS).encode()
    return replace(tree, content=content)


def _resize(rng: Random, tree: Node, donor: Node) -> Node:
    if not isinstance(tree.content, bytes):
        return _set_content(rng, tree, donor)
    length = len(tree.content) + int(rng.random() * 5) - 2
    return replace(tree, content=tree.content[: max(length, 0)].ljust(length, b"\x05"))


def _flip(rng: Random, tree: Node, donor: Node) -> Node:
    if not isinstance(tree.content, bytes) or not tree.content:
        return _set_attr(rng, tree, donor)
    content = bytearray(tree.content)
    content[int(rng.random() * len(content))] ^= 1 << int(rng.random() * 8)
    return replace(tree, content=bytes(content))


def _drop_child(rng: Random, tree: Node, donor: Node) -> Node:
    at = int(rng.random() * (len(tree.children) + 1))
    return replace(tree, content=tree.children[:at] + tree.children[at + 1 :])


def _repeat_child(rng: Random, tree: Node, donor: Node) -> Node:
    if not tree.children:
        return tree
    at = int(rng.random() * len(tree.children))
    times = 2 + int(rng.random() ** 16 * 300)
    content = tree.children[:at] + tree.children[at : at + 1] * times + tree.children[at + 1 :]
    return replace(tree, content=content)


def _shuffle(rng: Random, tree: Node, donor: Node) -> Node:
    children = list(tree.children)
    rng.shuffle(children)
    return replace(tree, content=tuple(children))


def _adopt(rng: Random, tree: Node, donor: Node) -> Node:
    at = int(rng.random() * (len(tree.children) + 1))
    return replace(tree, content=(*tree.children[:at], _piece(rng, donor), *tree.children[at:]))


def _become(rng: Random, tree: Node, donor: Node) -> Node:
    return _piece(rng, donor)


def _wrap(rng: Random, tree: Node, donor: Node) -> Node:
    for _ in range(1 + int(rng.random() ** 8 * (MAX_DEPTH + 2))):
        tree = Node(tree.tag, {}, (tree,))
    return tree


_EDITS: Final[tuple[Edit, ...]] = (
    _set_attr,
    _set_attr,
    _set_attr,
    _add_attr,
    _drop_attr,
    _drop_attr,
    _many_attrs,
    _rename,
    _set_content,
    _set_content,
    _resize,
    _flip,
    _drop_child,
    _drop_child,
    _repeat_child,
    _shuffle,
    _adopt,
    _become,
    _wrap,
)

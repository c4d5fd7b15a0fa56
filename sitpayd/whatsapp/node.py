"""Node: one stanza, or one element inside it.

The value and the questions asked of it. Its bytes are codec.py; its meaning is stanzas/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .errors import RemoteProtocolError
from .jid import Jid

# A peer may call an element anything, and what an error says stands in logs and histories.
_MAX_SHOWN: Final = 32

Attr = str | Jid
Content = bytes | str | tuple["Node", ...] | None


@dataclass(frozen=True, slots=True, init=False)
class Node:
    """An element: a tag, attributes in order, and bytes, text, children or nothing.

    Attributes:
        attrs: text or Jid; every number is written as text. Not to be changed afterwards.
    """

    tag: str
    attrs: Mapping[str, Attr]
    content: Content

    def __init__(
        self, tag: str, attrs: Mapping[str, Attr] | None = None, content: Content = None
    ) -> None:
        # As the generated one does it, but without a search by name for each field: a stanza may
        # have hundreds of nodes, and most of the time to read it would go into that.
        _set_tag(self, tag)
        _set_attrs(self, {} if attrs is None else attrs)
        _set_content(self, content)

    @property
    def shown_tag(self) -> str:
        """The tag as errors name it: not longer than a line."""
        return self.tag[:_MAX_SHOWN]

    @property
    def children(self) -> tuple[Node, ...]:
        """The children; empty if the content is something else."""
        return self.content if isinstance(self.content, tuple) else ()

    def named(self, tag: str) -> Iterator[Node]:
        """Yield the children with this tag."""
        return (child for child in self.children if child.tag == tag)

    def child(self, tag: str) -> Node | None:
        """The first child with this tag."""
        return next(self.named(tag), None)

    def required(self, tag: str) -> Node:
        """The first child with this tag.

        Raises:
            RemoteProtocolError: If there is none.
        """
        found = self.child(tag)
        if found is None:
            raise RemoteProtocolError(f"<{self.shown_tag}> lacks <{tag}>")
        return found

    def text(self, name: str) -> str | None:
        """An attribute as text, a Jid in its text form; None if absent."""
        value = self.attrs.get(name)
        return None if value is None else str(value)

    def required_text(self, name: str) -> str:
        """An attribute as text.

        Raises:
            RemoteProtocolError: If it is absent.
        """
        value = self.attrs.get(name)
        if value is None:
            raise RemoteProtocolError(f"<{self.shown_tag}> lacks the attribute {name}")
        return str(value)

    def number(self, name: str) -> int | None:
        """An attribute as a number of at most 20 digits; None if absent.

        Raises:
            RemoteProtocolError: If it is no such number.
        """
        value = self.attrs.get(name)
        if value is None:
            return None
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise RemoteProtocolError(f"<{self.shown_tag}> attribute {name} is not a number")
        return int(text)

    def jid(self, name: str) -> Jid | None:
        """An attribute as a Jid; None if absent. A bare server token is taken as well.

        Raises:
            RemoteProtocolError: If it is text that is no Jid.
        """
        value = self.attrs.get(name)
        if value is None or isinstance(value, Jid):
            return value
        return Jid.parse(value if "@" in value else f"@{value}")

    def required_jid(self, name: str) -> Jid:
        """An attribute as a Jid.

        Raises:
            RemoteProtocolError: If it is absent or no Jid.
        """
        value = self.jid(name)
        if value is None:
            raise RemoteProtocolError(f"<{self.shown_tag}> lacks the attribute {name}")
        return value

    @property
    def data(self) -> bytes:
        """The content as bytes; text is encoded, no content is empty.

        Raises:
            RemoteProtocolError: If there are children.
        """
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        if isinstance(self.content, str):
            return self.content.encode()
        raise RemoteProtocolError(f"<{self.shown_tag}> holds children where bytes belong")

    def data_of(self, tag: str, length: int | None = None) -> bytes:
        """The bytes of the first child with this tag.

        Args:
            length: the length the bytes must have.

        Raises:
            RemoteProtocolError: If there is no such child or its length differs.
        """
        data = self.required(tag).data
        if length is not None and len(data) != length:
            raise RemoteProtocolError(f"<{tag}> has {len(data)} bytes instead of {length}")
        return data


_set_tag, _set_attrs, _set_content = (Node.__dict__[name].__set__ for name in Node.__slots__)

"""Exchange: a request and its answer as plain values, for a route that does without the framework.

Routes of the framework use its own; this is what direct.py hands in and takes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol


class HeaderLines(Protocol):
    """Headers of a request, whoever has read them."""

    def getlist(self, name: str, /) -> list[str]:
        """The values of a header, in order; its name is lower case."""


class RawHeaders:
    """Headers as the server has read them: names are lower case already."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines = lines

    def getlist(self, name: str, /) -> list[str]:
        """The values of a header, in order; its name is lower case."""
        wanted = name.encode("ascii")
        return [value.decode("latin1") for line, value in self._lines if line == wanted]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        left: returns when the caller has left; whoever waits for long waits for this, too.
    """

    headers: HeaderLines
    body: bytes = field(repr=False)
    left: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; `headers` beside those that every answer has."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str]


class CallerLeftError(Exception):
    """There is nobody to answer any more."""

"""Which lines an input reaches: tells inputs apart where their outcomes do not.

A traced input takes about ten times as long, so only a sample of them is traced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

import sitpayd

ROOT: Final = str(Path(sitpayd.__file__).parent / "whatsapp")

if TYPE_CHECKING:
    from _typeshed import TraceFunction

Line = tuple[CodeType, int]


class LineCoverage:
    """Lines of the protocol that were reached so far."""

    def __init__(self, root: str = ROOT) -> None:
        self.lines: set[Line] = set()
        self._root = root
        self._reached: set[Line] = set()

    def trace(self, check: Callable[[bytes], object], data: bytes) -> set[Line]:
        """Try an input; returns the lines that none before it reached.

        Raises:
            Exception: What the input raises.
        """
        self._reached = set()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            check(data)
        finally:
            sys.settrace(before)
            news = self._reached - self.lines
            self.lines |= news
        return news

    def _enter(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        if not frame.f_code.co_filename.startswith(self._root):
            return None
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> TraceFunction:
        if event == "line":
            self._reached.add((frame.f_code, frame.f_lineno))
        return self._step

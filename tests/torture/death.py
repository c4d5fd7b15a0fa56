"""Death: ends the process at a chosen bytecode of our own files, on whatever thread it runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import sitpayd
from sitpayd.storage.database import Database
from sitpayd.whatsapp.connection import Connection

# Exit status of a process that died where it was told to.
DIED: Final = 77

_ROOT: Final = f"{Path(sitpayd.__file__).parent}/"
_GENERATED: Final = "_pb2.py"
# Calls of these divide the way of a send into stages: a transaction, or a stanza on its way out.
_STEPS: Final = frozenset(
    {Database._transact.__code__, Connection.send.__code__, Connection.send_encoded.__code__}
)


# Stands for any stage.
ANY: Final = -1


@dataclass(frozen=True, slots=True)
class Place:
    """A bytecode, and how far everything had come before it.

    Attributes:
        stage: transactions begun and stanzas encrypted so far, or ANY.
    """

    file: str
    line: int
    function: str
    offset: int
    stage: int

    def __str__(self) -> str:
        stage = "any stage" if self.stage == ANY else f"stage {self.stage}"
        return f"{self.file}:{self.line} {self.function}+{self.offset}, {stage}"


@dataclass(frozen=True, slots=True)
class Target:
    """Which execution of a bytecode to die at, counted from 0."""

    place: Place
    execution: int

    def __str__(self) -> str:
        return f"{self.place}, execution {self.execution}"


class Tracer:
    """Watches the bytecodes of our own files, on every thread that begins after it."""

    def __init__(self) -> None:
        self.stage = 0
        self._is_near = False
        # Threads take it at their start; until `begin` it only looks at a flag.
        threading.settrace(self._enter)

    def begin(self) -> None:
        """Watch from here on."""
        self._is_near = True
        sys.settrace(self._enter)

    def end(self) -> None:
        """Watch no more."""
        self._is_near = False
        sys.settrace(None)

    def is_watched(self, code: CodeType) -> bool:
        """Whether the bytecodes of this function are of interest."""
        raise NotImplementedError

    def passes(self, frame: FrameType) -> None:
        """Take the next bytecode of the frame, which is not executed yet."""
        raise NotImplementedError

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if not self._is_near or not _is_ours(code):
            return None
        if code in _STEPS:
            self.stage += 1
        if not self.is_watched(code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "opcode" and self._is_near:
            self.passes(frame)
        return self._step


class Walk(Tracer):
    """Notes the whole way."""

    def __init__(self) -> None:
        super().__init__()
        # As little as possible is done on the way itself: what is slow goes other ways.
        self._steps: list[tuple[CodeType, int, int]] = []

    @property
    def way(self) -> list[Place]:
        """The place of each executed bytecode."""
        lines: dict[CodeType, list[int]] = {}
        way = []
        for code, offset, stage in self._steps:
            if code not in lines:
                lines[code] = [line or code.co_firstlineno for line, *_ in code.co_positions()]
            # Two bytes for each bytecode.
            line = lines[code][offset // 2]
            way.append(Place(_file(code), line, code.co_qualname, offset, stage))
        return way

    def is_watched(self, code: CodeType) -> bool:
        """All of them."""
        return True

    def passes(self, frame: FrameType) -> None:
        """Note where it is."""
        self._steps.append((frame.f_code, frame.f_lasti, self.stage))


class Death(Tracer):
    """Ends the process.

    Args:
        last_words: called right before.
    """

    def __init__(self, target: Target, last_words: Callable[[], None]) -> None:
        super().__init__()
        self._place = target.place
        # Counted with one call of C, since threads share it.
        self._executions = count(target.execution, -1)
        self._last_words = last_words

    def is_watched(self, code: CodeType) -> bool:
        """The one function."""
        return (_file(code), code.co_qualname) == (self._place.file, self._place.function)

    def passes(self, frame: FrameType) -> None:
        """Die, if it is here."""
        if frame.f_lasti != self._place.offset or self._place.stage not in (ANY, self.stage):
            return
        if not next(self._executions):
            self._last_words()
            os._exit(DIED)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_ROOT) and not code.co_filename.endswith(_GENERATED)


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(_ROOT)

"""What every target of the fuzzing is: where inputs come from, how they change, what must hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from random import Random
from types import CodeType
from typing import ClassVar, Final

from sitpayd.whatsapp.errors import WhatsAppError

# Stands in mutated inputs where numbers, texts and keys stand in real ones: no error may repeat it.
CANARY: Final = "4915100000042"
# An error becomes a log line and a line of a device's history.
MAX_ERROR_LEN: Final = 160

Outcome = Hashable
"""What became of an input, as far as inputs are told apart; new ones are worth keeping."""


class Target(ABC):
    """One parser, or all parsers of one kind, with the oracle that judges them.

    `check` depends on nothing but its argument, so that a finding can be replayed.

    Attributes:
        name: on the command line, and of the corpus.
        base_s: CPU seconds that any input may take.
        per_byte_s: CPU seconds more for each byte of its size: who needs more is not linear.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    base_s: ClassVar[float] = 0.05
    per_byte_s: ClassVar[float] = 3e-6

    @abstractmethod
    def seeds(self) -> Sequence[bytes]:
        """Valid inputs, the same ones each time."""

    def large(self) -> Iterator[bytes]:
        """Inputs as large as they may be, or larger: tried first, as many as fit, never changed."""
        yield from ()

    def size(self, data: bytes) -> int:
        """How many bytes of work an input is."""
        return len(data)

    @abstractmethod
    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        """Change an input, or put two together."""

    @abstractmethod
    def check(self, data: bytes) -> Sequence[Outcome]:
        """Try an input; no generator, which would wait for somebody to look.

        Raises:
            AssertionError: If the oracle finds fault.
            Exception: Whatever leaves a parser and must not.
        """


def site(error: BaseException) -> tuple[CodeType, int]:
    """Where an error was raised: tells refusals apart, at next to no cost."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code, trace.tb_lineno


def judged(error: WhatsAppError) -> tuple[CodeType, int]:
    """Hold the text of a rightly raised error against what logs may hold; returns its site."""
    text = str(error)
    if len(text) > MAX_ERROR_LEN:
        raise AssertionError(f"an error of {len(text)} characters") from error
    if CANARY in text:
        raise AssertionError("an error repeats what the peer said") from error
    return site(error)

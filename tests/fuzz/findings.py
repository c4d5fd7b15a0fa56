"""Findings: an input that broke a promise, made smaller, and where it is kept."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target, site

DIRECTORY: Final = Path(__file__).parent / "findings"
# How long an input may be made smaller, in seconds.
_PATIENCE_S: Final = 5.0
_MAX_TRACEBACK_LINES: Final = 30


class TooSlow(Exception):
    """An input took more CPU time than its length allows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input and what is wrong with it.

    Attributes:
        what: one line.
        place: where it was raised, `file:line`; two findings of one place are one.
    """

    target: str
    what: str
    place: str
    data: bytes
    details: str = ""

    @property
    def path(self) -> Path:
        """Where it is kept."""
        digest = hashlib.sha256(self.data).hexdigest()[:12]
        return DIRECTORY / f"{self.target}-{digest}.txt"

    @property
    def command(self) -> str:
        """What replays it."""
        try:
            path = self.path.relative_to(Path.cwd())
        except ValueError:
            path = self.path
        return f"python -m tests.fuzz {self.target} --replay {path}"

    def save(self) -> None:
        """Write it down: what it is, and the line that would join the corpus."""
        self.path.parent.mkdir(exist_ok=True)
        details = "".join(f"# {line}\n" for line in self.details.splitlines())
        self.path.write_text(f"# {self.what}\n{details}{self.data.hex()}\n")


def cpu_seconds(target: Target, data: bytes) -> float:
    """What an input costs, at its best of three: others use the machine, too."""
    best, enough = float("inf"), 10.0 * allowed_s(target, data)
    for _ in range(3):
        begun = time.thread_time()
        try:
            target.check(data)
        except Exception:
            return 0.0  # fails, so that its time is no matter
        took = time.thread_time() - begun
        best = min(best, took)
        if took > enough:
            break  # that is no chance
    return best


def allowed_s(target: Target, data: bytes) -> float:
    """CPU seconds that an input of this size may take."""
    return target.base_s + target.per_byte_s * target.size(data)


def fault(target: Target, data: bytes) -> Exception | None:
    """Try an input once more, its time included; None: nothing is wrong with it."""
    try:
        target.check(data)
    except Exception as error:
        # Without what the engine was about when the input failed the first time.
        error.__context__ = error.__cause__
        return error
    took = cpu_seconds(target, data)
    if took > allowed_s(target, data):
        return TooSlow(f"{took:.3f} s of CPU for {len(data)} bytes")
    return None


def place_of(error: Exception) -> str:
    """Where it was raised, as people read it."""
    if isinstance(error, TooSlow):
        return "time"
    # An error that is rightly raised and says too much stands behind the verdict.
    code, line = site(error.__cause__ or error)
    return f"{type(error).__name__} at {Path(code.co_filename).name}:{line}"


def finding(
    target: Target, data: bytes, error: Exception, heartbeat: Callable[[], None] = lambda: None
) -> Finding:
    """Describe what is wrong with an input, made as small as it gets."""
    place = place_of(error)

    def still_fails(smaller: bytes) -> bool:
        heartbeat()
        found = fault(target, smaller)
        return found is not None and place_of(found) == place

    # What takes much would take it each time; what fails now and then cannot be made smaller.
    small, shown = data, error
    if not isinstance(error, TooSlow | MemoryError) and still_fails(data):
        small = smallest(data, still_fails)
        shown = fault(target, small) or error
    lines = traceback.format_exception(shown)[-_MAX_TRACEBACK_LINES:]
    text = str(shown).splitlines() or [""]
    return Finding(
        target.name,
        f"{type(shown).__name__}: {text[0][:300]}",
        place,
        small,
        "".join(lines),
    )


def smallest(
    data: bytes, still_fails: Callable[[bytes], bool], patience_s: float = _PATIENCE_S
) -> bytes:
    """Leave out pieces of halving sizes, then zero bytes, as long as it still fails."""
    until = time.monotonic() + patience_s
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if still_fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        if time.monotonic() >= until:
            break
        zeroed = data[:at] + b"\0" + data[at + 1 :]
        if zeroed != data and still_fails(zeroed):
            data = zeroed
    return data

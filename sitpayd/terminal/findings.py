"""Findings: what the doctor saw, one line each, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sitpayd.terminal.screen import Colour, Paint, clean, wrap

_STATE_LEN = 6
_CHECK_LEN = 15


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # it works, and somebody should look at it
    FAIL = "fail"  # it does not work, or is not safe


_COLOURS = {State.OK: Colour.GOOD, State.WARN: Colour.BUSY, State.FAIL: Colour.BAD}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what, for example "database".
        found: what was seen.
        advice: what to do; None: nothing.
        details: more that was seen, a line each.
    """

    check: str
    state: State
    found: str
    advice: str | None = None
    details: tuple[str, ...] = ()


def ok(check: str, found: str, details: Iterable[str] = ()) -> Finding:
    """All is well."""
    return Finding(check, State.OK, found, None, tuple(details))


def warn(check: str, found: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(check, State.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(check, State.FAIL, found, advice)


def finding_lines(finding: Finding, width: int, paint: Paint) -> list[str]:
    """Draw one finding: state, check, what was found; the advice below it."""
    margin = " " * (_STATE_LEN + _CHECK_LEN)
    room = max(20, width - len(margin))
    first, *more = wrap(clean(finding.found), room)
    state = paint(_COLOURS[finding.state], f"{finding.state:<{_STATE_LEN}}")
    lines = [f"{state}{finding.check:<{_CHECK_LEN}}{first}", *(margin + line for line in more)]
    for detail in finding.details:
        lines += [margin + line for line in wrap(clean(detail), room)]
    if finding.advice is not None:
        first, *more = wrap(clean(finding.advice), max(20, room - 2))
        lines += [f"{margin}> {first}", *(f"{margin}  {line}" for line in more)]
    return lines


def verdict(findings: Iterable[Finding]) -> str:
    """Say it in one line: `9 ok, 1 warn, 0 fail`."""
    states = [finding.state for finding in findings]
    return ", ".join(f"{states.count(state)} {state}" for state in State)

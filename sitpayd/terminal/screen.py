"""Screen: text as a terminal shows it. Escapes made harmless, widths in cells, colours, ages.

What partners may choose (names of devices, their own) is shown on an operator's terminal, so every
text from the daemon passes `clean` first: a name must not move the cursor, hide a line or turn the
reading direction around.
"""

from __future__ import annotations

import os
import unicodedata
from datetime import datetime
from enum import Enum
from typing import Final, TextIO

ELLIPSIS: Final = "…"
NOTHING: Final = "-"

# Categories of characters that do something instead of being seen: controls, format characters
# (direction marks among them), surrogates, line and paragraph separators.
_ACTING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners stand inside the words of Indic scripts and do nothing else.
_HARMLESS: Final = frozenset("\u200c\u200d")
_WIDE: Final = frozenset({"W", "F"})
_NO_WIDTH: Final = frozenset({"Mn", "Me", "Cf"})


class Colour(Enum):
    """What a colour says; never the only thing that says it."""

    GOOD = "32"
    BUSY = "33"
    BAD = "31"
    QUIET = "2"
    STRONG = "1"


class Paint:
    """Colours text, or leaves it as it is.

    Args:
        stream: where it will be written: only a terminal gets colours, and none where NO_COLOR is
            set. Source: no-color.org.
    """

    def __init__(self, stream: TextIO) -> None:
        self._is_on = (
            stream.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "dumb") != "dumb"
        )

    def __call__(self, colour: Colour | None, text: str) -> str:
        """Colour a text that is clean."""
        if colour is None or not self._is_on or not text:
            return text
        return f"\x1b[{colour.value}m{text}\x1b[0m"


def clean(text: str) -> str:
    """Write out every character that a terminal would act on."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def cells(text: str) -> int:
    """How many columns a clean text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def fit(text: str, width: int) -> str:
    """Cut a clean text so that it takes at most `width` columns."""
    if cells(text) <= width:
        return text
    kept, left = [], width - 1
    for character in text:
        left -= _cells_of(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS if width > 0 else ""


def pad(text: str, width: int) -> str:
    """Fill a clean text with spaces, or cut it, to exactly `width` columns."""
    fitted = fit(text, width)
    return fitted + " " * (width - cells(fitted))


def wrap(text: str, width: int) -> list[str]:
    """Break a clean text between words into lines of at most `width` columns."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cells(lines[-1]) + 1 + cells(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def age(since: datetime | None, now: datetime) -> str:
    """How long ago something was, in at most four columns: 5s, 12m, 3h, 45d."""
    if since is None:
        return NOTHING
    seconds = max(0, int((now - since).total_seconds()))
    for unit, length, most in (("s", 1, 120), ("m", 60, 120), ("h", 3600, 48)):
        if seconds < length * most:
            return f"{seconds // length}{unit}"
    return f"{min(seconds // 86_400, 999)}d"


def moment(at: datetime, now: datetime) -> str:
    """A time, with its day if that is another one; in UTC, as in the log."""
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ACTING or character in _HARMLESS:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1

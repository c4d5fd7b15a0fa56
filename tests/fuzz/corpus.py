"""Corpora on disk: one text file per target, one input a line, in hexadecimal.

What stands behind a `#` line is told by it. They hold inputs that reach what the builders' own
messages do not, and every input that ever failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "corpus"


def path_of(target: str) -> Path:
    """Where the corpus of a target stands."""
    return DIRECTORY / f"{target}.txt"


def read(path: Path) -> list[bytes]:
    """The inputs of a file, a finding's as well; none if there is no file."""
    if not path.exists():
        return []
    lines = (line.strip() for line in path.read_text().splitlines())
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]


def write(path: Path, heading: str, inputs: Iterable[bytes], kept: str = "") -> None:
    """Write a file anew.

    Args:
        heading: one line that tells what these inputs are.
        kept: text of the file that stays as it is, before the rest.
    """
    lines = [f"# {heading}", *(data.hex() for data in inputs)]
    path.write_text(kept + "\n".join(lines) + "\n")

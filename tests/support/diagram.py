"""The diagram of phases in ARCHITECTURE.md, made from the machine's own table.

`python -m tests.support.diagram` writes it there; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sitpayd.actors.phase import RESTING, TRANSITIONS, Phase

DOCUMENT: Final = Path(__file__).parents[2] / "ARCHITECTURE.md"
_BEGIN: Final = "```mermaid\nstateDiagram-v2\n"
_END: Final = "```"


def phase_diagram() -> str:
    """Draw the phases; an arrow to `resting` is one to each phase in that box."""
    lines = ["state resting {"]
    lines += [f"    {phase}" for phase in Phase if phase in RESTING]
    lines += ["}", f"[*] --> {Phase.UNPAIRED}"]
    for phase in Phase:
        after = TRANSITIONS[phase]
        lines += [f"{phase} --> {target}" for target in Phase if target in after - _boxed(after)]
        if _boxed(after):
            lines.append(f"{phase} --> resting")
    return _BEGIN + "".join(f"    {line}\n" for line in lines) + _END


def drawn(text: str) -> str:
    """Find the diagram in a document."""
    begin = text.index(_BEGIN)
    return text[begin : text.index(_END, begin + len(_BEGIN)) + len(_END)]


def _boxed(after: frozenset[Phase]) -> frozenset[Phase]:
    return RESTING if after >= RESTING else frozenset()


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(text.replace(drawn(text), phase_diagram()), encoding="utf-8")

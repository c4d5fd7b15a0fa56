"""docs/simulator.md cannot fall behind: what it lists is compared with the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from sitpayd.simulator.control import create_control
from sitpayd.simulator.faults import FaultKind
from sitpayd.simulator.options import Options
from sitpayd.simulator.server import Server
from sitpayd.simulator.violations import Kind

TEXT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def listed(heading: str) -> list[str]:
    """The first cells of the section's table."""
    (section,) = re.findall(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", TEXT)
    return re.findall(r"(?m)^\| `([^`]+)` \|", section)


def test_every_fault_is_described() -> None:
    assert listed("Faults") == [kind.value for kind in FaultKind]


def test_every_kind_of_violation_is_described() -> None:
    assert listed("Violations") == [kind.value for kind in Kind]


def test_every_option_is_described() -> None:
    assert listed("Options") == [field.name for field in fields(Options)]


def test_every_route_is_described() -> None:
    app = create_control(Server(Options()))
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
    }
    assert set(listed("Control API")) == routes

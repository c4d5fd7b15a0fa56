"""The documents cannot fall behind: what they list is compared with the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitpayd.actors import failures
from sitpayd.actors.failures import Verdict
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.phase import Phase
from sitpayd.actors.refusals import REFUSALS
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.api.app import create_app
from sitpayd.api.errors import REFUSED, STATUS
from sitpayd.metrics import Metrics
from sitpayd.settings import Settings
from sitpayd.storage.database import open_database
from sitpayd.storage.records import RowState
from sitpayd.storage.vault import Vault
from tests.support.diagram import drawn, phase_diagram

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("ARCHITECTURE.md", "README.md", "docs/*.md", "systemd/*.md")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def documents() -> list[Path]:
    return [path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))]


def first_cells(path: str, heading: str) -> dict[str, str]:
    """The rows of a section's tables that begin with words in backquotes: word and second cell."""
    (text,) = re.findall(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", read(path))
    rows = re.findall(r"(?m)^\| (`[^|]+`) \| ([^|]*?) \|", text)
    return {word: second for names, second in rows for word in re.findall(r"`([^`]+)`", names)}


def verdicts() -> Iterator[Verdict]:
    for value in vars(failures).values():
        if isinstance(value, Verdict):
            yield value
        elif isinstance(value, dict):
            yield from (verdict for verdict in value.values() if isinstance(verdict, Verdict))


def metric_names() -> set[str]:
    """The metrics as Prometheus sees them."""
    return {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in Metrics().registry.collect()
    }


def test_diagram_is_the_machines_table() -> None:
    assert drawn(read("ARCHITECTURE.md")) == phase_diagram()


def test_every_module_has_its_room() -> None:
    text = read("ARCHITECTURE.md")
    modules = {
        path.name
        for path in (ROOT / "sitpayd").rglob("*.py")
        if path.name != "__init__.py" and not {"schema", "migrations"} & set(path.parts)
    }

    assert {name for name in modules if not re.search(rf"\b{re.escape(name)}", text)} == set()


def test_every_setting_is_in_the_example() -> None:
    keys = re.findall(r"(?m)^# ([a-z_]+) = ", read("config/sitpayd.example.toml"))

    assert set(keys) == set(Settings.model_fields)


def test_every_setting_is_in_the_operators_guide_with_its_default() -> None:
    rows = first_cells("docs/operators.md", "Settings")

    for name, field in Settings.model_fields.items():
        assert name in rows
        if field.default_factory is None:
            default = "unset" if field.default is None else f"`{json.dumps(field.default)}`"
            assert (name, rows[name]) == (name, default)


def test_every_status_is_explained_to_partners_and_operators() -> None:
    for document in ("docs/partners.md", "docs/operators.md"):
        told = first_cells(document, "Device status").keys()
        assert {phase.value for phase in Phase} - told == set()


def test_every_reason_of_a_lost_connection_is_explained() -> None:
    reasons = {verdict.reason for verdict in verdicts()}

    assert "client_outdated" in reasons
    assert reasons - first_cells("docs/operators.md", "Reasons").keys() == set()


def test_every_log_event_that_is_explained_exists() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sitpayd").rglob("*.py"))
    written = set(re.findall(r'"([a-z]+\.[a-z_]+)"', source))
    phases = {f"device.{phase}" for phase in Phase}

    assert first_cells("docs/operators.md", "Logs").keys() - written - phases == set()


def test_every_reason_of_a_refusal_is_explained() -> None:
    reasons = {refusal.reason for refusal in REFUSALS.values()}

    assert reasons - first_cells("docs/partners.md", "Errors").keys() == set()


def test_every_error_code_is_told_with_its_status() -> None:
    rows = first_cells("docs/partners.md", "Errors")

    for code, status in {**STATUS, **REFUSED}.items():
        assert (code, rows.get(code)) == (code, str(status))


def test_every_metric_is_explained() -> None:
    rows = first_cells("docs/operators.md", "Metrics")

    told = {word for word in rows if word.startswith(("sitpayd_", "process_"))}
    assert told == metric_names()


def test_alerts_ask_for_metrics_that_exist() -> None:
    (text,) = re.findall(r"(?ms)^groups:\n(.*?)^```", read("docs/operators.md"))
    asked = set(re.findall(r"sitpayd_[a-z_]+", text))

    assert len(asked) > 3
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked} - metric_names() == set()


def test_every_state_of_a_message_is_explained() -> None:
    rows = first_cells("docs/partners.md", "Message states")

    assert {state.value for state in RowState} - rows.keys() == set()


async def test_every_route_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITPAYD_STATE_DIR", str(tmp_path))
    text = read("docs/partners.md") + read("docs/operators.md")
    async with open_database("sqlite://", Vault(bytes(32)), inline=True) as database:
        app = create_app(DeviceRegistry(), database, StatusBoard(), Outcomes(), Settings())
    routes = {
        f"{method} {rule.rule.replace('<', ':').replace('>', '')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}
    }

    assert len(routes) > 10
    assert {route for route in routes if not re.search(rf"`{re.escape(route)}`", text)} == set()


def test_links_between_documents_lead_somewhere() -> None:
    links = [
        (document.name, link)
        for document in documents()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / link).exists()
    ]

    assert links == []

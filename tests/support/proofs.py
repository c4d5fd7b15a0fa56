"""pytest's part of docs/interop.md: collects the marks of `matrix.py` and writes the page.

`--matrix PATH` writes it behind a run in which every test with a mark has passed, and otherwise
says what is missing. With `--collect-only` it is what the tests claim; `tests/test_matrix.py` holds
the page against that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matrix import SIMULATOR, Client, Feature, Proof, Role, Side, faults, page

# Fixtures that start the daemon.
DAEMONS = frozenset({"shop", "shared_daemon", "mortal"})


class Proofs:
    """What the tests of a run claim, and how they went."""

    def __init__(self, path: Path, *, is_run: bool) -> None:
        self._path = path
        self._is_run = is_run
        self._claims: dict[str, list[Proof]] = {}
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self.wrong: list[str] = []

    # Before a selection by name or mark takes tests away: the page tells of all.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            claims = list(_claims(item))
            if claims:
                self._claims[item.nodeid] = claims

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._is_run:
            proved = self._passed - self._failed
            self.wrong += [f"{test} has not passed" for test in self._claims if test not in proved]
        claims = [claim for claims in self._claims.values() for claim in claims]
        self.wrong += faults(claims)
        if self.wrong:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        else:
            self._path.write_text(page(claims), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.wrong:
            terminalreporter.write_line(f"matrix: {line}", red=True)


def _claims(item: pytest.Item) -> Iterator[Proof]:
    # `TestBaileys` runs the tests of a class it inherits from: what it is, is told by its name.
    path, *names = item.nodeid.split("[")[0].split("::")
    test = "::".join([path.removeprefix("tests/"), *names])
    fixtures = getattr(item, "fixturenames", ())
    for mark in item.iter_markers("proves"):
        feature, *roles = mark.args
        assert isinstance(feature, Feature), test
        for side in [_side(item, role) for role in roles] or [SIMULATOR]:
            has_daemon = not mark.kwargs["by_phone"] and not DAEMONS.isdisjoint(fixtures)
            yield Proof(feature, side, test, has_daemon)


def _side(item: pytest.Item, role: Role) -> Side:
    mark = item.get_closest_marker("client")
    assert mark is not None, f"{item.nodeid}: with which client?"
    client = mark.args[0]
    assert isinstance(client, Client)
    return Side(client, role)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--matrix PATH`."""
    parser.addoption("--matrix", metavar="PATH", help="write what works with whom to this page")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and listen if the page is wanted."""
    config.addinivalue_line("markers", "proves(feature, *roles): proves a row of docs/interop.md")
    config.addinivalue_line("markers", "client(client): which client of others is the other side")
    path = config.getoption("--matrix")
    if path is not None:
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--matrix needs all tests in one process")
        is_run = not config.option.collectonly
        config.pluginmanager.register(Proofs(Path(path), is_run=is_run), "proofs")

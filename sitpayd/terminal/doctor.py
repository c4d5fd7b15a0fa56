"""`sitpayd doctor`: look for what keeps the daemon from its work, and say what to do."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from sitpayd.errors import ConfigurationError
from sitpayd.settings import Settings, load_settings
from sitpayd.terminal import installation, reach, service
from sitpayd.terminal.client import DaemonClient, access_of
from sitpayd.terminal.findings import Finding, State, fail, finding_lines, verdict
from sitpayd.terminal.screen import Paint

WIDTH: Final = 100


def run(options: Namespace) -> int:
    """Look at everything, tell it as it is seen; 1 if anything fails."""
    paint = Paint(sys.stdout)
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    findings: list[Finding] = []
    settings: Settings | None = None
    looked: Iterator[Finding]
    try:
        settings = load_settings()
        looked = _look(settings, options.url)
    except ConfigurationError as error:
        advice = "mend it first: nothing else can be looked at without it"
        looked = iter([fail("configuration", str(error), advice)])
    for finding in looked:
        findings.append(finding)
        if not options.json:
            print(*finding_lines(finding, width, paint), sep="\n", flush=True)
    if options.json:
        print(json.dumps(_document(settings, findings), indent=2))
    else:
        print(f"\n{verdict(findings)}")
    return int(_fails(findings))


def _look(settings: Settings, url: str | None) -> Iterator[Finding]:
    yield installation.configuration(settings)
    stored, seen, is_held = installation.database(settings)
    yield installation.secret(settings, is_held=is_held)
    yield installation.state_files(settings)
    yield stored
    with DaemonClient(access_of(settings, url)) as client:
        told, daemon = service.daemon(client, is_held=is_held)
    yield from told
    yield service.files(daemon, None if seen is None else seen.devices)
    yield installation.watchdog(runs=daemon.is_running)
    yield from reach.whatsapp(settings)


def _document(settings: Settings | None, findings: list[Finding]) -> dict[str, object]:
    return {
        "ok": not _fails(findings),
        "checks": [asdict(finding) for finding in findings],
        "settings": [asdict(one) for one in installation.in_force(settings)] if settings else [],
    }


def _fails(findings: list[Finding]) -> bool:
    return any(finding.state is State.FAIL for finding in findings)

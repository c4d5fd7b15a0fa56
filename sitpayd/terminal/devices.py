"""`sitpayd devices`: every device in a table, trouble first."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections import Counter
from datetime import UTC, datetime

from sitpayd.errors import ConfigurationError
from sitpayd.settings import load_settings
from sitpayd.terminal.client import DaemonClient, access_of
from sitpayd.terminal.screen import Paint
from sitpayd.terminal.table import device_lines, summary
from sitpayd.terminal.views import DeviceView, field
from sitpayd.terminal.wanted import Wanted


def run(options: Namespace) -> int:
    """Show the devices once, or for as long as somebody looks."""
    access = access_of(load_settings(), options.url)
    wanted = Wanted(options.partner, options.status, options.search)
    if options.watch:
        if not sys.stdout.isatty():
            raise ConfigurationError("devices: --watch draws on a terminal, and this is none")
        # Only now: the WebSocket is a good part of what a command takes to start.
        from sitpayd.terminal.watch import watch

        return watch(access, wanted)
    with DaemonClient(access) as daemon:
        told = daemon.devices(wanted.query)
    raw = field(told, "devices", list)
    found = [(DeviceView.parse(device), device) for device in raw]
    found = [pair for pair in found if wanted.takes_partner(pair[0])]
    found.sort(key=lambda pair: pair[0].rank)
    if options.json:
        document = {
            "devices": [device for _, device in found],
            "counts": Counter(view.status for view, _ in found),
        }
        print(json.dumps(document, indent=2))
        return 0
    views = [view for view, _ in found]
    if views:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(*device_lines(views, datetime.now(UTC), width, Paint(sys.stdout)), sep="\n")
        print()
    print(summary(Counter(view.status for view in views)))
    return 0

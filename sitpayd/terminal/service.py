"""What the doctor sees of the running daemon: whether it answers, is ready, and has room."""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from typing import Final

from sitpayd.errors import ConfigurationError, SitpaydError
from sitpayd.terminal.client import DaemonClient, RefusedError, UnreachableError
from sitpayd.terminal.findings import Finding, fail, ok, warn
from sitpayd.terminal.table import summary
from sitpayd.terminal.views import field

# Descriptors for the database, the API's callers and what comes and goes.
SPARE_FILES: Final = 512


@dataclass(frozen=True, slots=True)
class Service:
    """What the daemon said.

    Attributes:
        is_running: it answers.
        devices: how many it runs; None: it did not say.
        max_files: descriptors it may open; None: it did not say.
    """

    is_running: bool
    devices: int | None = None
    max_files: int | None = None


def daemon(client: DaemonClient, *, is_held: bool) -> tuple[list[Finding], Service]:
    """Ask the daemon.

    Args:
        is_held: a process has the database.
    """
    url = client.access.url
    try:
        client.get("/readyz")
    except UnreachableError as error:
        if is_held:
            advice = "a process has the database: it starts, stops or hangs, or listens elsewhere"
        else:
            advice = "start it (systemctl start sitpayd), or name it with --url"
        return [fail("daemon", str(error), advice)], Service(False)
    except RefusedError as error:
        advice = "the disk or the database: see its log, events storage.failed"
        found = f"{url} answers, but is not ready: {error}"
        return [fail("daemon", found, advice)], Service(error.code != "")
    except SitpaydError as error:
        return [fail("daemon", str(error), "name the daemon with --url")], Service(False)
    ready = ok("daemon", f"{url} is ready")
    key, service = _admin(client)
    return [ready, key], service


def files(service: Service, devices: int | None) -> Finding:
    """Whether there are descriptors for all devices.

    Args:
        devices: how many the database holds, where the daemon did not say.
    """
    count = service.devices if service.devices is not None else devices
    limit, whose = service.max_files, "the daemon"
    if limit is None:
        limit, whose = resource.getrlimit(resource.RLIMIT_NOFILE)[0], "a daemon started from here"
    found = f"{whose} may open {limit} files"
    if count is None:
        return ok("files", found)
    found = f"{found}, for {count} device{'' if count == 1 else 's'}"
    if limit >= count + SPARE_FILES:
        return ok("files", found)
    advice = f"raise LimitNOFILE in the unit (ulimit -n elsewhere) to {2 * (count + SPARE_FILES)}"
    return warn("files", found, advice) if limit > count else fail("files", found, advice)


def _admin(client: DaemonClient) -> tuple[Finding, Service]:
    try:
        counts = field(client.get("/admin/devices", {"limit": "1"}), "counts", dict)
        page = client.text("/metrics")
    except ConfigurationError as error:
        advice = "without it `sitpayd devices` and `sitpayd device` see nothing"
        return warn("admin key", str(error), advice), Service(True)
    except SitpaydError as error:
        return fail("admin key", str(error), "see the daemon's log"), Service(True)
    told = re.search(r"(?m)^process_max_fds (\S+)$", page)
    service = Service(True, sum(counts.values()), int(float(told[1])) if told else None)
    return ok("admin key", f"the daemon takes it; {summary(counts)}"), service

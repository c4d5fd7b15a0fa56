"""`sitpayd device SESSION_ID`: why one device is as it is, and what can be done about it."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from datetime import UTC, datetime
from typing import Final

from sitpayd.errors import ConfigurationError
from sitpayd.settings import load_settings
from sitpayd.terminal.client import DaemonClient, access_of
from sitpayd.terminal.screen import NOTHING, Colour, Paint, age, clean, moment, wrap
from sitpayd.terminal.table import colour_of
from sitpayd.terminal.views import DeviceHistory, DeviceView, field

OPERATIONS: Final = ("pause", "resume", "reconnect", "restart", "logout")
# Where nobody says how wide: wide enough for a sentence, and read without moving the head.
WIDTH: Final = 100
_LABEL_LEN: Final = 9


def run(options: Namespace) -> int:
    """Show a device, or do something to it."""
    access = access_of(load_settings(), options.url)
    with DaemonClient(access) as daemon:
        if options.operation is not None:
            return _operate(daemon, options)
        told = daemon.history(options.session_id)
    history = DeviceHistory.parse(told)
    if options.json:
        print(json.dumps(told, indent=2))
        return 0
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    print(*device_page(history, datetime.now(UTC), width, Paint(sys.stdout)), sep="\n")
    return 0


def device_page(history: DeviceHistory, now: datetime, width: int, paint: Paint) -> list[str]:
    """Draw one device: what it is, why, what follows, what to do, what happened."""
    device = history.device
    status = clean(device.status)
    told = device.reason if device.reason != device.status else None
    reason = f", {clean(told)}," if told else ""
    since = f" for {age(device.since, now)}, since {moment(device.since, now)} UTC"
    lines = [
        paint(Colour.STRONG, clean(device.session_id)),
        *_labelled("device", _names(device), width),
        f"{'status':<{_LABEL_LEN}}{paint(colour_of(device.status), status)}{reason}{since}",
    ]
    if device.until is not None:
        lines += _labelled("until", f"{moment(device.until, now)} UTC", width)
    lines += [
        *_labelled("proof", _proof(device, now), width),
        *_labelled("cause", clean(history.cause), width),
        *_labelled("next", clean(history.next), width),
    ]
    if history.advice is not None:
        first, *more = _labelled("do", clean(history.advice), width)
        label, rest = first[:_LABEL_LEN], first[_LABEL_LEN:]
        lines += [paint(Colour.STRONG, label) + rest, *more]
    return [*lines, "", *_history(history, now, width, paint)]


def _history(history: DeviceHistory, now: datetime, width: int, paint: Paint) -> list[str]:
    if not history.events:
        return ["Nothing has happened to it since the daemon started."]
    times = [moment(event.at, now) for event in history.events]
    column = max(map(len, times)) + 2
    lines = [paint(Colour.STRONG, "history, the latest last; times in UTC")]
    for event, at in zip(history.events, times, strict=True):
        first, *more = wrap(clean(event.text), max(20, width - column))
        lines.append(f"{paint(Colour.QUIET, f'{at:<{column}}')}{first}")
        lines += [" " * column + line for line in more]
    return lines


def _names(device: DeviceView) -> str:
    name = clean(device.device_name) if device.device_name else NOTHING
    partner = clean(device.partner_name) if device.partner_name else str(device.partner)
    phone = f", number ending in {clean(device.phone).lstrip('…')}" if device.phone else ""
    return f"{name}, of {partner}{phone}"


def _proof(device: DeviceView, now: datetime) -> str:
    if device.verified_at is None:
        return "none since the daemon started"
    heard = {
        "login": "WhatsApp took the login",
        "stanza": "WhatsApp sent something",
        "pong": "WhatsApp answered a ping",
        "ack": "WhatsApp took a message or a receipt",
    }.get(device.evidence or "", clean(device.evidence or NOTHING))
    return f"{heard} {age(device.verified_at, now)} ago, {moment(device.verified_at, now)} UTC"


def _labelled(label: str, text: str, width: int) -> list[str]:
    first, *more = wrap(text, max(20, width - _LABEL_LEN))
    return [f"{label:<{_LABEL_LEN}}{first}", *(" " * _LABEL_LEN + line for line in more)]


def _operate(daemon: DaemonClient, options: Namespace) -> int:
    session_id, operation = options.session_id, options.operation
    if operation == "logout" and not options.yes and not _is_sure(daemon, session_id):
        print("nothing was done", file=sys.stderr)
        return 1
    told = daemon.operate(session_id, operation)
    if options.json:
        print(json.dumps(told, indent=2))
        return 0
    done, status = clean(field(told, "message", str)), field(told, "status", str)
    print(f"{done}: {clean(session_id)} is {Paint(sys.stdout)(colour_of(status), clean(status))}")
    return 0


def _is_sure(daemon: DaemonClient, session_id: str) -> bool:
    """Ask: a device that is logged out has to be linked again by the person with the phone."""
    if not sys.stdin.isatty():
        raise ConfigurationError("device: logout asks first; where nobody can answer, say --yes")
    device = DeviceHistory.parse(daemon.history(session_id)).device
    print(
        f"{clean(session_id)} is {_names(device)}; it is {clean(device.status)}.", file=sys.stderr
    )
    print("Logged out, it sends nothing until a person scans a new QR code.", file=sys.stderr)
    print("Log it out? Type yes: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"

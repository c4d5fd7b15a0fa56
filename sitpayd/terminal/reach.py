"""What the doctor sees of WhatsApp from here: its name, its door, its clock. Nobody logs in."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from sitpayd.actors.transport import ORIGIN, USER_AGENT
from sitpayd.settings import Settings
from sitpayd.terminal.findings import Finding, fail, ok, warn

NAME_WITHIN_S: Final = 10.0
UPGRADE_WITHIN_S: Final = 15.0
CLOSE_WITHIN_S: Final = 1.0
# Seconds. A Date is cut to the second and was on its way; a certificate's hours are not affected.
CLOCK_OFF_S: Final = 5.0
CLOCK_WRONG_S: Final = 60.0


def whatsapp(settings: Settings) -> list[Finding]:
    """Resolve the host, open a WebSocket as a device would, and compare clocks."""
    host = settings.whatsapp_host
    began = time.monotonic()
    addresses = _addresses(host)
    if isinstance(addresses, str):
        advice = "look at /etc/resolv.conf, and whether port 53 is open; a device with a proxy"
        advice += " needs no name but the proxy's"
        return [fail("dns", f"{host}: {addresses}", advice)]
    took = _ms(began)
    shown = ", ".join(addresses[:3]) + (", ..." if len(addresses) > 3 else "")
    told = f"{host} is {shown} ({took})" if addresses != [host] else f"{host} is no name"
    found = [ok("dns", told)]
    door, date = _upgrade(settings.whatsapp_url)
    found.append(door)
    if date is not None:
        found.append(clock(date, datetime.now(UTC)))
    return found


def clock(date: str, now: datetime) -> Finding:
    """Hold our clock against the Date of an answer that came now."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return warn("clock", "WhatsApp's host tells no time", "compare it with a time service")
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    # A Date that is cut to the second is half a second old on average.
    off_s = (now - theirs).total_seconds() - 0.5
    away = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} WhatsApp's host"
    advice = "run a time service: certificates are judged and messages expire by this clock"
    if abs(off_s) > CLOCK_WRONG_S:
        return fail("clock", away, advice)
    if abs(off_s) > CLOCK_OFF_S:
        return warn("clock", away, advice)
    return ok("clock", "agrees with WhatsApp's host")


def _upgrade(url: str) -> tuple[Finding, str | None]:
    """Open the WebSocket and close it; the Date that came with the answer, if one came."""
    began = time.monotonic()
    try:
        with connect(
            url,
            origin=Origin(ORIGIN),
            user_agent_header=USER_AGENT,
            open_timeout=UPGRADE_WITHIN_S,
            close_timeout=CLOSE_WITHIN_S,
            compression=None,
            proxy=None,
        ) as opened:
            took = _ms(began)
            response = opened.response
            date = None if response is None else _date(response.headers)
        return ok("whatsapp", f"{url} opens a WebSocket ({took}); nobody logged in"), date
    except InvalidStatus as error:
        found = f"{url} refuses the WebSocket with HTTP {error.response.status_code}"
        advice = "a proxy or firewall stands between, or WhatsApp refuses this machine's address"
        return fail("whatsapp", found, advice), _date(error.response.headers)
    except ssl.SSLCertVerificationError as error:
        found = f"{url}: its certificate is not accepted: {error.verify_message}"
        advice = "the clock is wrong, ca-certificates is missing, or somebody sits between"
        return fail("whatsapp", found, advice), None
    except TimeoutError:
        why = "no answer in time"
    except InvalidHandshake:
        why = "what answers does not speak WebSocket"
    except OSError as error:
        why = error.strerror or type(error).__name__
    advice = "a firewall between, or no route: try it with curl from this machine"
    return fail("whatsapp", f"{url}: {why}", advice), None


def _addresses(host: str) -> list[str] | str:
    """Resolve a name, the same way as the daemon; a text says why not."""
    answers: queue.SimpleQueue[list[str] | str] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(error.strerror or "it is not known")
        else:
            answers.put(list(dict.fromkeys(str(address[4][0]) for address in found)))

    # The system's resolver may take minutes and cannot be called off: it is left behind.
    threading.Thread(target=resolve, daemon=True).start()
    try:
        return answers.get(timeout=NAME_WITHIN_S)
    except queue.Empty:
        return f"no answer within {NAME_WITHIN_S:.0f} s"


def _date(headers: Mapping[str, str]) -> str | None:
    return headers.get("Date")


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"

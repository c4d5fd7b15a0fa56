"""sd_notify: tell systemd how the daemon is, where there is one to tell."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one state, for example "READY=1", "STOPPING=1" or "WATCHDOG=1".

    Does nothing where NOTIFY_SOCKET is not set; a systemd that does not listen stops nobody.

    Source: sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto(state.encode("utf-8"), address)
        except OSError:
            return

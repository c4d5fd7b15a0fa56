"""File descriptors: how many the process may have, and how many are left.

The kernel gives the lowest free number, so one look at that number tells whether the process is
near its limit, however many thousands it holds. HTTP connections stop at nine tenths of the limit;
what is above is for WhatsApp's sockets, and the very last for the database and the log.
"""

from __future__ import annotations

import os
import resource
from typing import Final

# Of the limit, in percent: beyond it no HTTP connection is accepted.
HTTP_PERCENT: Final = 90
# Of the limit: one in so many is left to the database, the log and the name service, up to a bound.
LAST_SHARE: Final = 32
MAX_LAST: Final = 64
# What a daemon needs beside its devices: connections, database, and room for them to change.
BESIDE_DEVICES: Final = 256


def raise_limit() -> int:
    """Take all that the system lets this process have; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def limit() -> int:
    """How many descriptors the process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def needed_for(devices: int) -> int:
    """What the limit has to be for so many devices."""
    return (devices + BESIDE_DEVICES) * 100 // HTTP_PERCENT


def room_for_http() -> bool:
    """Whether one more HTTP connection may be accepted."""
    return _lowest_free() < limit() * HTTP_PERCENT // 100


def room_for_dial() -> bool:
    """Whether one more socket to WhatsApp may be opened."""
    allowed = limit()
    return _lowest_free() < allowed - min(allowed // LAST_SHARE, MAX_LAST)


def _lowest_free() -> int:
    try:
        # Standard error, which every process of ours has.
        number = os.dup(2)
    except OSError:
        return limit()
    os.close(number)
    return number

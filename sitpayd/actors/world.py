"""World: what the actors of all devices share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from sitpayd.actors.alarms import Alarms
from sitpayd.actors.comeback import Comeback
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.downloads import Media
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.revision import RevisionWatch
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.transport import Converse, converse
from sitpayd.metrics import Metrics
from sitpayd.storage.database import Database

STARTS_AT_A_TIME: Final = 64


@dataclass(frozen=True, slots=True)
class World:
    """What all devices share.

    Attributes:
        url: WhatsApp's WebSocket; root_key: 32 bytes, of its certificates.
        limits: None: no pacing.
        keygen: limiter of the threads that make prekeys.
        converse: runs one connection; another one than transport's for tests without sockets.
        alarms: rings the actors; the supervisor runs it.
        comeback: which devices wait for a network they share.
        starts: how many actors load what is stored at a time: thousands at once, after a start of
            the daemon, would fill the database's queue and be refused.
        allow_private_proxies: whether a device's proxy may have an address that is not public.
        noise_resume: whether a login resumes the handshake with a server that the device knows.
    """

    database: Database
    board: StatusBoard
    outcomes: Outcomes
    url: str
    root_key: bytes
    limits: PacingLimits | None
    bucket: DialBucket
    keygen: trio.CapacityLimiter
    converse: Converse = converse
    alarms: Alarms = field(default_factory=Alarms)
    comeback: Comeback = field(default_factory=Comeback)
    starts: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(STARTS_AT_A_TIME))
    allow_private_proxies: bool = False
    noise_resume: bool = False
    media: Media = field(default_factory=Media)
    revision: RevisionWatch = field(default_factory=RevisionWatch)
    metrics: Metrics = field(default_factory=Metrics)

"""Stand: one simulator and one database, on which a daemon is started, more than once if wanted."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from bench.certificate import make_certificate
from bench.fleet import Fleet
from bench.http import Http, Json
from bench.processes import daemon, environment_of, migrate, simulator
from bench.spending import Processes

LOG = "daemon.log"
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Stand:
    """What one stage is measured on.

    Attributes:
        environment: what the daemon is told.
        control: the simulator's control API.
    """

    directory: Path
    environment: Mapping[str, str]
    simulator: int
    control: Http
    fleet: Fleet

    async def until_connected(self, count: int) -> Json:
        """Wait until so many devices are connected; gives what the server says of its load then.

        The caller brings the deadline.
        """
        while True:
            load = await self.control.get("/load")
            if load["connected"] == count:
                return load
            await trio.sleep(LOOK_S)

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Processes]:
        """Run the daemon within the block."""
        async with daemon(self.environment, self.directory / LOG) as pid:
            yield Processes(pid, self.simulator, self.directory / "sitpayd.db")


@asynccontextmanager
async def set_up(directory: Path, *, tls: bool = False) -> AsyncIterator[Stand]:
    """Run the simulator within the block, and make the daemon's database."""
    certificate = make_certificate(directory) if tls else None
    async with simulator(certificate) as (pid, simulated):
        environment = environment_of(directory, secrets.token_urlsafe(32), simulated)
        if certificate is not None:
            environment["SSL_CERT_FILE"] = str(certificate)
        # By itself: what a migration loads stays in the memory of its process.
        await migrate(environment)
        control = Http(simulated["control"])
        fleet = Fleet(Http(environment["SITPAYD_BASE_URL"]), control)
        yield Stand(directory, environment, pid, control, fleet)

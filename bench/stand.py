"""Stand: one simulator and one database, on which a daemon is started, more than once if wanted."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fleet import Fleet
from bench.http import Http
from bench.processes import daemon, environment_of, migrate, simulator
from bench.spending import Processes

LOG = "daemon.log"


@dataclass(frozen=True, slots=True)
class Stand:
    """What one stage is measured on.

    Attributes:
        environment: what the daemon is told.
    """

    directory: Path
    environment: Mapping[str, str]
    simulator: int
    fleet: Fleet

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Processes]:
        """Run the daemon within the block."""
        async with daemon(self.environment, self.directory / LOG) as pid:
            yield Processes(pid, self.simulator, self.directory / "sitpayd.db")


@asynccontextmanager
async def set_up(directory: Path) -> AsyncIterator[Stand]:
    """Run the simulator within the block, and make the daemon's database."""
    async with simulator() as (pid, simulated):
        environment = environment_of(directory, secrets.token_urlsafe(32), simulated)
        # By itself: what a migration loads stays in the memory of its process.
        await migrate(environment)
        fleet = Fleet(Http(environment["SITPAYD_BASE_URL"]), Http(simulated["control"]))
        yield Stand(directory, environment, pid, fleet)

"""What holds for every test."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.support.proofs"]

# Examples are small, but a shared machine may be slow: time per example proves nothing here.
settings.register_profile("sitpayd", deadline=None)
settings.load_profile("sitpayd")

# Folders whose tests run daemons, browsers and other clients, and share some of these. On two
# workers (`make test`) the tests of such a folder stay together: what they wait for is not held up
# by their like, and ports of the demo are used once.
_LIVE: Final = frozenset({"browser", "end_to_end", "peers", "soak", "soak_protocol", "torture"})


class _LiveTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands a live folder to one worker as a whole, and the other tests out by their files."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in _LIVE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Say which tests stay together, where there is more than one worker."""
    return _LiveTogether(config, log)

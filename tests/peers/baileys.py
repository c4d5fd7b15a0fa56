"""Installs and starts Baileys, the most used WhatsApp client library (TypeScript, on Node).

That Baileys accepts a signature proves nothing: it does not look at the result of its signature
check. It proves that stanzas, sessions and texts are understood by code that is not ours.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from tests.peers.install import alone, is_current, skip_or_fail
from tests.peers.process import Peer

HOME = Path(__file__).parent / "baileys"
NODE_MAJOR_AT_LEAST = 20


@functools.cache
def _node_major() -> int:
    """The major version of Node, or 0 if Node or npm is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    return int(version.stdout.removeprefix("v").split(".")[0])


def ensure_baileys() -> None:
    """Install what the lock file names, unless that stands; skip the test where Node is missing."""
    if _node_major() < NODE_MAJOR_AT_LEAST:
        skip_or_fail("Node >= 20 is not installed", demanded_by="SITPAYD_REQUIRE_NODE")
    with alone(HOME / ".install.lock"):
        # npm writes this file last.
        installed = HOME / "node_modules" / ".package-lock.json"
        if not is_current(installed, [HOME / "package-lock.json"]):
            subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=HOME, check=True)


class BaileysPeer(Peer):
    """One companion run by Baileys; its keys and sessions stay in `auth_dir`."""

    @classmethod
    def start(cls, url: str, auth_dir: Path) -> AbstractAsyncContextManager[Self]:
        """Start a Baileys that will dial this WebSocket address."""
        argv = ["node", str(HOME / "driver.mjs"), "--url", url, "--auth", str(auth_dir)]
        return cls._run(argv, auth_dir)

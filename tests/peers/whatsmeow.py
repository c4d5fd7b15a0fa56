"""Builds and starts whatsmeow, the WhatsApp client library in Go.

The peer that verifies: it refuses a wrong certificate chain, account signature or prekey bundle.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from tests.peers.install import alone, is_current, skip_or_fail
from tests.peers.process import Peer

HOME = Path(__file__).parent / "whatsmeow"
BINARY = HOME / "build" / "whatsmeow-peer"
GO_AT_LEAST = (1, 26)  # as in go.mod


@functools.cache
def _go_version() -> tuple[int, int]:
    """Major and minor version of Go, or (0, 0) if it is missing."""
    if shutil.which("go") is None:
        return 0, 0
    # The one that is installed: a newer toolchain is not fetched behind the developer's back.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    version = subprocess.run(
        ["go", "env", "GOVERSION"], env=environment, check=True, capture_output=True, text=True
    )
    found = re.search(r"go(\d+)\.(\d+)", version.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ensure_whatsmeow() -> None:
    """Build the driver unless it stands; skip the test where Go is missing or too old."""
    if _go_version() < GO_AT_LEAST:
        skip_or_fail("Go >= 1.26 is not installed", demanded_by="SITPAYD_REQUIRE_GO")
    with alone(HOME / ".install.lock"):
        if not is_current(BINARY, [HOME / name for name in ("main.go", "go.mod", "go.sum")]):
            # Without C: the SQLite in it is pure Go. Without the repository's state, which git may
            # refuse to tell.
            subprocess.run(
                ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(BINARY), "."],
                cwd=HOME,
                env={**os.environ, "CGO_ENABLED": "0"},
                check=True,
            )


class WhatsmeowPeer(Peer):
    """One companion run by whatsmeow; its keys and sessions stay in `auth_dir`."""

    @classmethod
    def start(cls, url: str, auth_dir: Path, root_key: str) -> AbstractAsyncContextManager[Self]:
        """Start a whatsmeow that will dial this WebSocket address.

        Args:
            url: the server's WebSocket address.
            auth_dir: where keys and sessions are kept.
            root_key: the root of the server's certificate chain, 64 hex digits.
        """
        argv = [str(BINARY), "--url", url, "--auth", str(auth_dir), "--root-key", root_key]
        return cls._run(argv, auth_dir)

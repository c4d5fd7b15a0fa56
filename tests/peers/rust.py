"""Builds and starts whatsapp-rust, the WhatsApp client library in Rust.

The peer that resumes: on a reconnect it begins with Noise IK, as WhatsApp Web does, and goes on as
XXfallback where the server does not take that. Its root key is a constant, so it is built with the
library's switch for test servers, which leaves out the two signatures of the certificate chain;
that it accepts a chain proves less than what whatsmeow does.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from tests.peers.install import alone, is_current, skip_or_fail
from tests.peers.process import Peer

HOME = Path(__file__).parent / "rust"
BINARY = HOME / "build" / "debug" / "whatsapp-rust-peer"
CARGO_AT_LEAST = (1, 94)  # what the library asks for


@functools.cache
def _cargo_version() -> tuple[int, int]:
    """Major and minor version of cargo, or (0, 0) if it is missing."""
    if shutil.which("cargo") is None:
        return 0, 0
    version = subprocess.run(["cargo", "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"cargo (\d+)\.(\d+)", version.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ensure_rust() -> None:
    """Build the driver unless it stands; skip the test where cargo is missing or too old."""
    if _cargo_version() < CARGO_AT_LEAST:
        skip_or_fail("cargo >= 1.94 is not installed", demanded_by="SITPAYD_REQUIRE_CARGO")
    with alone(HOME / ".install.lock"):
        if not is_current(
            BINARY, [HOME / "src" / "main.rs", HOME / "Cargo.toml", HOME / "Cargo.lock"]
        ):
            subprocess.run(
                ["cargo", "build", "--locked", "--target-dir", "build"], cwd=HOME, check=True
            )


class RustPeer(Peer):
    """One companion run by whatsapp-rust; its keys and sessions stay in `auth_dir`."""

    @classmethod
    def start(cls, url: str, auth_dir: Path) -> AbstractAsyncContextManager[Self]:
        """Start a whatsapp-rust that will dial this WebSocket address."""
        return cls._run([str(BINARY), "--url", url, "--auth", str(auth_dir)], auth_dir)

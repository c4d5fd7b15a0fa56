"""Builds and starts whatsapp-rust, the WhatsApp client library in Rust.

The peer that resumes: on a reconnect it begins with Noise IK, as WhatsApp Web does, and goes on as
XXfallback where the server does not take that. Its root key is a constant, so it is built with the
library's switch for test servers, which leaves out the two signatures of the certificate chain;
that it accepts a chain proves less than what whatsmeow does.
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

import pytest

from tests.peers.install import alone, is_current, skip_or_fail
from tests.peers.process import Peer

HOME = Path(__file__).parent / "rust"
SOURCES = (HOME / "src" / "main.rs", HOME / "Cargo.toml", HOME / "Cargo.lock")
# What cargo builds: a copy, with the lock as cargo writes it.
CRATE = HOME / "build" / "crate"
BINARY = HOME / "build" / "debug" / "whatsapp-rust-peer"
CARGO_AT_LEAST = (1, 94)  # what the library asks for
DEMAND = "SITPAYD_REQUIRE_CARGO"


@functools.cache
def _cargo_version() -> tuple[int, int]:
    """Major and minor version of cargo, or (0, 0) if it is missing."""
    if shutil.which("cargo") is None:
        return 0, 0
    version = subprocess.run(["cargo", "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"cargo (\d+)\.(\d+)", version.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ensure_rust() -> None:
    """Build the driver unless it stands; skip the test where nobody demands it.

    The first build takes minutes, so these tests have a target of their own: `make peers-rust`.
    """
    if os.environ.get(DEMAND) != "1":
        pytest.skip("whatsapp-rust takes minutes to build: make peers-rust")
    if _cargo_version() < CARGO_AT_LEAST:
        skip_or_fail("cargo >= 1.94 is not installed", demanded_by=DEMAND)
    with alone(HOME / ".install.lock"):
        if not is_current(BINARY, SOURCES):
            _build()


def _build() -> None:
    shutil.rmtree(CRATE, ignore_errors=True)
    shutil.copytree(HOME / "src", CRATE / "src")
    shutil.copy(HOME / "Cargo.toml", CRATE)
    # The pinned lock leaves out where the crates come from; cargo knows that of its own.
    subprocess.run(["cargo", "generate-lockfile"], cwd=CRATE, check=True)
    lock = CRATE / "Cargo.lock"
    sources = set(re.findall(r'^source = "(.+)"$', lock.read_text(), re.MULTILINE))
    assert len(sources) == 1, sources
    pinned = (HOME / "Cargo.lock").read_text()
    lock.write_text(pinned.replace('source = "registry"', f'source = "{sources.pop()}"'))
    subprocess.run(
        ["cargo", "build", "--locked", "--target-dir", HOME / "build"], cwd=CRATE, check=True
    )
    BINARY.touch()


class RustPeer(Peer):
    """One companion run by whatsapp-rust; its keys and sessions stay in `auth_dir`."""

    @classmethod
    def start(cls, url: str, auth_dir: Path) -> AbstractAsyncContextManager[Self]:
        """Start a whatsapp-rust that will dial this WebSocket address."""
        return cls._run([str(BINARY), "--url", url, "--auth", str(auth_dir)], auth_dir)

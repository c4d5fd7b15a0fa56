"""Says whether a tool that a third-party client needs is here, and guards one-time installations.

STYLE.md's rule: what a machine may lack is skipped by name, and is a failure where the variable
demands it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


def skip_or_fail(reason: str, *, demanded_by: str) -> NoReturn:
    """Skip the test for this reason, or fail it if the environment variable demands the tool."""
    if os.environ.get(demanded_by) == "1":
        pytest.fail(f"{reason}, and {demanded_by}=1 demands it", pytrace=False)
    pytest.skip(reason)


@contextmanager
def alone(lock_path: Path) -> Iterator[None]:
    """Hold a file lock, so that test runs side by side do not install into each other."""
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_current(product: Path, sources: Iterable[Path]) -> bool:
    """Say whether the product exists and is younger than all its sources."""
    if not product.exists():
        return False
    made_at = product.stat().st_mtime
    return all(source.stat().st_mtime <= made_at for source in sources)

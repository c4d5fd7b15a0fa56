from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sitpayd import files


@pytest.fixture
def few() -> Iterator[int]:
    """At most so many descriptors: 64 more than there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(2)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 64, hard))
    yield lowest + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_http_stops_first_then_dials_and_the_last_are_for_nobody(few: int) -> None:
    """F-28: whoever comes over HTTP cannot take what WhatsApp's sockets and the database need."""
    seen = []
    with ExitStack() as stack:
        while True:
            try:
                number = os.dup(2)
            except OSError:
                break
            stack.callback(os.close, number)
            seen.append((files.room_for_http(), files.room_for_dial()))

    assert seen[0] == (True, True)
    assert seen[-1] == (False, False)
    assert sum(dial and not http for http, dial in seen) >= 2
    assert sum(not dial for _, dial in seen) >= 1
    assert not any(http and not dial for http, dial in seen)


def test_all_that_the_system_allows_is_taken(few: int) -> None:
    assert files.raise_limit() == files.limit() > few


@pytest.mark.parametrize("devices", [0, 100, 10_000])
def test_limit_that_is_called_enough_leaves_http_its_part(devices: int) -> None:
    limit = files.needed_for(devices)

    assert limit * files.HTTP_PERCENT // 100 >= devices + files.BESIDE_DEVICES - 1

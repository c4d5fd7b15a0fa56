from __future__ import annotations

from sitpayd.actors.acquaintance import MAX_FAILURES, Acquaintance
from sitpayd.whatsapp.noise import KnownServer

SERVER = KnownServer(bytes(32), 0.0, 1.0)


def after_failures(count: int) -> Acquaintance:
    known = Acquaintance()
    for _ in range(count):
        known.met(SERVER)
        known.failed()
    return known


def test_nobody_is_known_at_first() -> None:
    assert Acquaintance().server is None


def test_server_that_was_met_is_known() -> None:
    known = Acquaintance()
    known.met(SERVER)
    assert known.server == SERVER


def test_server_is_forgotten_when_resuming_failed() -> None:
    assert after_failures(1).server is None


def test_server_is_known_again_after_a_failure() -> None:
    known = after_failures(MAX_FAILURES - 1)
    known.met(SERVER)
    assert known.server == SERVER


def test_nobody_is_known_after_too_many_failures() -> None:
    known = after_failures(MAX_FAILURES)
    known.met(SERVER)
    assert known.server is None

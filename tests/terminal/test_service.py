from __future__ import annotations

import httpx
import pytest

from sitpayd.terminal.client import Access, DaemonClient
from sitpayd.terminal.findings import Finding, State
from sitpayd.terminal.service import SPARE_FILES, Service, daemon, files

READY = httpx.Response(200, json={"status": "ok"})
FULL = httpx.Response(503, json={"code": "storage_full", "message": "The disk is full."})
UNAUTHORIZED = httpx.Response(401, json={"code": "unauthorized"})
DEVICES = httpx.Response(200, json={"devices": [], "counts": {"connected": 7}, "next": None})
PAGE = httpx.Response(200, text="# HELP\nprocess_max_fds 65536.0\n")


def asked(
    answers: dict[str, httpx.Response], *, held: bool = True
) -> tuple[list[Finding], Service]:
    """What is found at a daemon that gives these answers; where there is none, nobody listens."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path not in answers:
            raise httpx.ConnectError("Connection refused")
        return answers[request.url.path]

    access = Access("http://127.0.0.1:8080", "k" * 32)
    with DaemonClient(access, httpx.MockTransport(handle)) as client:
        return daemon(client, is_held=held)


def test_ready_daemon_tells_its_devices_and_descriptors() -> None:
    found, service = asked({"/readyz": READY, "/admin/devices": DEVICES, "/metrics": PAGE})

    assert [finding.state for finding in found] == [State.OK, State.OK]
    assert service == Service(True, 7, 65536)


def test_daemon_that_is_not_ready_fails_with_its_reason() -> None:
    found, service = asked({"/readyz": FULL})

    assert [finding.state for finding in found] == [State.FAIL]
    assert "The disk is full." in found[0].found
    assert service.is_running


@pytest.mark.parametrize(("held", "word"), [(True, "hangs"), (False, "start it")])
def test_silence_means_something_else_while_a_process_has_the_database(
    held: bool, word: str
) -> None:
    (finding,), service = asked({}, held=held)

    assert (finding.state, service.is_running) == (State.FAIL, False)
    assert word in (finding.advice or "")


def test_wrong_admin_key_is_a_warning() -> None:
    found, service = asked({"/readyz": READY, "/admin/devices": UNAUTHORIZED})

    assert [finding.state for finding in found] == [State.OK, State.WARN]
    assert service == Service(True)


def test_somebody_else_on_the_port_is_not_taken_for_the_daemon() -> None:
    found, service = asked({"/readyz": httpx.Response(404, text="<html>")})

    assert (found[0].state, service.is_running) == (State.FAIL, False)


@pytest.mark.parametrize(
    ("devices", "limit", "state"),
    [
        (1000, 1000 + SPARE_FILES, State.OK),
        (1000, 1000 + SPARE_FILES - 1, State.WARN),
        (1000, 1000, State.FAIL),
    ],
)
def test_descriptors_must_suffice_for_all_devices(devices: int, limit: int, state: State) -> None:
    assert files(Service(True, devices, limit), None).state is state


def test_devices_of_a_stopped_daemon_are_held_against_this_shell() -> None:
    assert "started from here" in files(Service(False), 3).found

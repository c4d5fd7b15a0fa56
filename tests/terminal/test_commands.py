"""The commands from argument to exit status, against a daemon of a few lines."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sitpayd.cli import main
from tests.terminal.builders import FakeTerminal, told_device, told_history
from tests.terminal.daemon import KEY, FakeDaemon, fake_daemon

HISTORY = "GET /admin/devices/wa_a/history"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A daemon, and a configuration that leads to it."""
    with fake_daemon() as daemon:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        monkeypatch.setenv("SITPAYD_LISTEN", daemon.url.removeprefix("http://"))
        monkeypatch.setenv("SITPAYD_ADMIN_KEY", KEY)
        monkeypatch.setenv("SITPAYD_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("SITPAYD_WHATSAPP_URL", "ws://127.0.0.1:9/ws/chat")
        monkeypatch.setenv("PATH", "/nowhere")  # no systemd here
        monkeypatch.chdir(tmp_path)
        yield daemon


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process: status, output, errors."""
    before = signal.getsignal(signal.SIGINT)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    yield command
    signal.signal(signal.SIGINT, before)


def with_devices(daemon: FakeDaemon, *devices: dict[str, object]) -> None:
    page = {"devices": list(devices), "counts": {"connected": len(devices)}, "next": None}
    daemon.answers["GET /admin/devices"] = (200, page)


# --- devices ---


def test_devices_are_shown_and_counted(daemon: FakeDaemon, run: Run) -> None:
    with_devices(daemon, told_device(), told_device(session_id="wa_b", status="banned"))

    status, output, errors = run("devices", "--status", "connected,banned", "--search", "iphone")

    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines() if line.startswith("wa_")] == [
        "wa_b",
        told_device()["session_id"],
    ]
    assert output.endswith("\n\n2 devices: 1 banned, 1 connected\n")
    assert "status=connected%2Cbanned&q=iphone" in daemon.asked[0]


def test_devices_of_a_partner_by_name_are_chosen_here(daemon: FakeDaemon, run: Run) -> None:
    with_devices(daemon, told_device(), told_device(session_id="wa_b", partner_name="Other"))

    _, output, _ = run("devices", "--partner", "abc", "--json")

    told = json.loads(output)
    assert [device["session_id"] for device in told["devices"]] == [told_device()["session_id"]]
    assert told["counts"] == {"connected": 1}
    assert "partner" not in daemon.asked[0]


def test_admin_key_is_given_to_no_proxy_of_the_environment(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")

    assert run("devices")[0] == 0


def test_nothing_found_is_said(daemon: FakeDaemon, run: Run) -> None:
    assert run("devices")[1] == "no devices\n"


def test_watching_needs_a_terminal(daemon: FakeDaemon, run: Run) -> None:
    status, _, errors = run("devices", "--watch")

    assert (status, "--watch draws on a terminal" in errors) == (78, True)


# --- device ---


def test_device_is_explained(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers[HISTORY] = (200, told_history())

    status, output, _ = run("device", "wa_a")

    assert status == 0
    assert "cause    It is so." in output.splitlines()


def test_json_of_a_device_is_what_the_daemon_says(daemon: FakeDaemon, run: Run) -> None:
    daemon.answers[HISTORY] = (200, told_history())

    assert json.loads(run("device", "wa_a", "--json")[1]) == told_history()


def test_operation_is_asked_for_and_told(daemon: FakeDaemon, run: Run) -> None:
    done = {"type": "success", "message": "Device paused", "status": "paused"}
    daemon.answers["POST /admin/devices/wa_a/pause"] = (200, done)

    assert run("device", "wa_a", "pause") == (0, "Device paused: wa_a is paused\n", "")
    assert json.loads(run("device", "wa_a", "pause", "--json")[1]) == done


def test_refused_operation_is_told_in_the_daemons_words(daemon: FakeDaemon, run: Run) -> None:
    refusal = {"code": "device_banned", "message": "WhatsApp has banned the account."}
    daemon.answers["POST /admin/devices/wa_a/resume"] = (409, refusal)

    status, _, errors = run("device", "wa_a", "resume")

    assert (status, errors) == (70, "sitpayd: WhatsApp has banned the account.\n")


@pytest.mark.parametrize(
    ("typed", "status"), [("yes\n", 0), ("YES\n", 0), ("y\n", 1), ("\n", 1), ("", 1)]
)
def test_logout_asks_first(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    daemon.answers[HISTORY] = (200, told_history())
    done = {"message": "Device is logged out", "status": "logged_out"}
    daemon.answers["POST /admin/devices/wa_a/logout"] = (200, done)
    monkeypatch.setattr(sys, "stdin", FakeTerminal(typed))

    ended, _, errors = run("device", "wa_a", "logout")

    assert ended == status
    assert ("POST /admin/devices/wa_a/logout" in daemon.asked) is (status == 0)
    assert "John iPhone, of ABC Reseller" in errors


def test_logout_that_nobody_can_confirm_is_not_done(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))

    status, _, errors = run("device", "wa_a", "logout")

    assert (status, "--yes" in errors, daemon.asked) == (78, True, [])


# --- doctor ---


def test_doctor_looks_at_everything(daemon: FakeDaemon, run: Run) -> None:
    status, output, _ = run("doctor", "--json")

    told = json.loads(output)
    assert [check["check"] for check in told["checks"]] == [
        "configuration",
        "secret",
        "state",
        "database",
        "daemon",
        "admin key",
        "files",
        "systemd",
        "dns",
        "whatsapp",
    ]
    # Nobody listens where WhatsApp should be.
    assert (status, told["ok"], told["checks"][-1]["state"]) == (1, False, "fail")
    assert KEY not in output


def test_doctor_tells_each_thing_in_a_line(daemon: FakeDaemon, run: Run) -> None:
    _, output, _ = run("doctor")

    lines = output.splitlines()
    assert [line for line in lines if line.startswith("ok    daemon")]
    # The secret is not made yet, there is no systemd, and nobody is where WhatsApp should be.
    assert lines[-1] == "7 ok, 2 warn, 1 fail"


def test_doctor_stops_at_settings_that_are_wrong(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITPAYD_LISTEN", "nowhere")

    status, output, _ = run("doctor")

    assert (status, output.splitlines()[-1]) == (1, "0 ok, 0 warn, 1 fail")


def test_names_that_the_terminal_cannot_write_are_no_trouble(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_devices(daemon, told_device(device_name="手机"))
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)

    assert run("devices")[0] == 0
    narrow.seek(0)
    assert "??" in narrow.read()

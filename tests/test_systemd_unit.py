from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from sitpayd.cli import EX_CONFIG, EX_DATAERR
from sitpayd.clock import BOOT_ID_VARIABLE
from sitpayd.daemon import WATCHDOG_INTERVAL_S
from sitpayd.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, SECRET_CREDENTIAL, Settings
from tests.peers.install import skip_or_fail

UNIT = Path(__file__).parent.parent / "systemd" / "sitpayd.service"
TEXT = UNIT.read_text(encoding="utf-8")

# Tenths of systemd's exposure points: 1.2.
MOST_EXPOSURE = 12
# What SIGTERM may take until the process is gone.
GONE_WITHIN_S = 20
# One process is to hold this many devices, each with a socket.
DEVICES = 10_000


def values(key: str) -> list[str]:
    """Every value of a key of the unit, in order."""
    return re.findall(rf"(?m)^{key}=(.*)$", TEXT)


def value(key: str) -> str:
    (only,) = values(key)
    return only


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        skip_or_fail("systemd-analyze is not installed", demanded_by="SITPAYD_REQUIRE_SYSTEMD")
    return subprocess.run(
        [tool, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_exposure_is_low() -> None:
    result = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(UNIT))

    assert result.returncode == 0, result.stdout[-2000:] + result.stderr


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # The real program is not installed here, and its absence is all that may be complained about.
    copy = tmp_path / UNIT.name
    copy.write_text(TEXT.replace(value("ExecStart"), "/bin/true"), encoding="utf-8")

    result = analyze("verify", "--man=no", str(copy))

    assert [line for line in result.stderr.splitlines() if UNIT.name in line] == []


def test_damage_and_misconfiguration_are_not_retried() -> None:
    statuses = {int(status) for status in value("RestartPreventExitStatus").split()}

    assert statuses == {EX_DATAERR, EX_CONFIG} == {65, 78}
    assert value("Restart") == "always"


def test_crash_loop_ends_after_ten_starts_in_five_minutes() -> None:
    assert (value("StartLimitBurst"), value("StartLimitIntervalSec")) == ("10", "300")


def test_stop_leaves_time_to_drain() -> None:
    assert int(value("TimeoutStopSec")) > GONE_WITHIN_S


def test_watchdog_survives_a_lost_ping() -> None:
    assert int(value("WatchdogSec")) >= 2 * WATCHDOG_INTERVAL_S


def test_readiness_and_pings_are_the_daemons_own() -> None:
    assert (value("Type"), value("NotifyAccess")) == ("notify", "main")


def test_secret_is_a_credential_under_the_name_the_daemon_looks_for() -> None:
    name, _, source = value("LoadCredentialEncrypted").partition(":")

    assert name == SECRET_CREDENTIAL
    # With a path a missing credential is an error; with a bare name it is ignored.
    assert source.startswith("/etc/")


def test_command_line_and_environment_hold_no_secret() -> None:
    assert value("ExecStart") == "/opt/sitpayd/bin/sitpayd serve"
    assert not re.search(r"SetCredential|PassEnvironment|[0-9a-fA-F]{32}|(pk|pu|dt)_\w", TEXT)
    variables = {text.partition("=")[0] for text in values("Environment")}
    assert variables == {CONFIG_VARIABLE, f"{ENVIRONMENT_PREFIX}STATE_DIR", BOOT_ID_VARIABLE}
    assert "state_dir" in Settings.model_fields


def test_state_is_closed_to_others() -> None:
    assert (value("StateDirectoryMode"), value("UMask"), value("LimitCORE")) == (
        "0700",
        "0077",
        "0",
    )


def test_descriptors_suffice_for_all_devices() -> None:
    assert int(value("LimitNOFILE")) >= 2 * DEVICES

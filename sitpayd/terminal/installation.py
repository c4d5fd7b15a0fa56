"""What the doctor sees of the installation: settings, secret, files, database, systemd."""

from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from sitpayd.errors import (
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseExposedError,
    DatabaseLockedError,
    StorageError,
    WrongSecretError,
)
from sitpayd.settings import (
    CONFIG_VARIABLE,
    DEFAULT,
    SECRET_FILE,
    Settings,
    config_file,
    named_secret,
    origins,
    read_secret,
)
from sitpayd.storage.database import path_of
from sitpayd.storage.inspection import Inspection, inspect
from sitpayd.storage.vault import Vault
from sitpayd.terminal.findings import Finding, State, fail, ok, warn

UNIT: Final = "sitpayd.service"
SYSTEMCTL_WITHIN_S: Final = 10.0
_OTHERS: Final = 0o077
_SUFFIXES: Final = ("", "-wal", "-shm", ".lock")


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """A setting as it is in force; secrets are not shown."""

    key: str
    value: str
    origin: str


def in_force(settings: Settings) -> list[SettingOrigin]:
    """Every setting, with where its value comes from."""
    found = origins()
    return [
        SettingOrigin(key, _shown(getattr(settings, key)), found[key])
        for key in Settings.model_fields
    ]


def configuration(settings: Settings) -> Finding:
    """Where the settings come from, and whether others may read them."""
    path = config_file()
    chosen = [one for one in in_force(settings) if one.origin != DEFAULT]
    details = [f"{one.key} = {one.value} ({one.origin})" for one in chosen]
    there = path.exists()
    found = f"{path} and the environment" if there else f"no {path}; defaults and the environment"
    if there and origins()["admin_key"] == str(path) and path.stat().st_mode & _OTHERS:
        return Finding(
            "configuration",
            State.WARN,
            f"{path} holds the admin key and may be read by others",
            f"run chmod 600 on it; {CONFIG_VARIABLE} may name another place",
            tuple(details),
        )
    return ok("configuration", found, details)


def secret(settings: Settings, *, is_held: bool) -> Finding:
    """Whether the secret is in place, closed to others and apart from the database.

    Args:
        is_held: a daemon runs on the database, so it has the secret.
    """
    path = named_secret(settings) or settings.state_dir / SECRET_FILE
    database = path_of(settings.database_url)
    try:
        there = path.exists()
        if there:
            read_secret(path)
            mode = stat.S_IMODE(path.stat().st_mode)
    except (ConfigurationError, OSError) as error:
        return fail("secret", str(error), "run the doctor as a user who may read it, or replace it")
    if not there:
        if is_held:
            return ok("secret", "the daemon that runs has it; it cannot be seen from here")
        if database is not None and database.exists():
            return warn(
                "secret",
                f"there is none in {path}",
                "if systemd hands it over (LoadCredentialEncrypted=), all is well; otherwise put"
                " the database's own secret back: without it nobody can open the database",
            )
        return warn(
            "secret",
            "there is none yet; the first start makes one beside the database",
            "make one elsewhere before the first start: systemd/README.md, section Secret",
        )
    if mode & _OTHERS:
        return fail("secret", f"{path} may be read by others", f"chmod 600 {path}")
    if database is not None and _lies_in(path, {database.parent, settings.state_dir}):
        return warn(
            "secret",
            f"{path} lies beside the database: who copies the directory has lock and key",
            "hand it over as a systemd credential, or name another place in secret_file",
        )
    return ok("secret", f"{path}, closed to others, apart from the database")


def state_files(settings: Settings) -> Finding:
    """Whether the files of the state are closed to others."""
    database = path_of(settings.database_url)
    places = [settings.state_dir]
    if database is not None:
        places += [database.parent, *(Path(f"{database}{suffix}") for suffix in _SUFFIXES)]
    try:
        there = [place for place in dict.fromkeys(places) if place.exists()]
        exposed = [place for place in there if place.stat().st_mode & _OTHERS]
    except OSError as error:
        return fail("state", f"{error.filename}: {error.strerror}", "run the doctor as root")
    if not there:
        return ok("state", f"{settings.state_dir} is made at the first start")
    if not exposed:
        return ok("state", f"{settings.state_dir}, closed to others")
    modes = " ".join(f"chmod {'700' if place.is_dir() else '600'} {place};" for place in exposed)
    names = ", ".join(map(str, exposed))
    files = [place for place in exposed if not place.is_dir()]
    judge = fail if files else warn
    return judge("state", f"open to other users: {names}", modes.rstrip(";"))


def database(settings: Settings) -> tuple[Finding, Inspection | None, bool]:
    """Look through the database, unless a daemon runs on it.

    Returns:
        The finding; what was seen, if anything; whether a daemon has it.
    """
    try:
        vault = _vault(settings)
        seen = inspect(settings.database_url, vault)
    except DatabaseLockedError:
        return (
            ok("database", "in use by a daemon, which looked through it when it started"),
            None,
            True,
        )
    except WrongSecretError as error:
        advice = "find the secret it was made with; without it nobody can open the database"
        return fail("database", str(error), advice), None, False
    except DatabaseCorruptError as error:
        return fail("database", str(error), "docs/operators.md, section Backups"), None, False
    except DatabaseExposedError as error:
        return fail("database", str(error), "see the line on the state"), None, False
    except (StorageError, ConfigurationError) as error:
        return fail("database", str(error), "the daemon would not start with it"), None, False
    if seen is None:
        return ok("database", "none yet; the first start makes it"), None, False
    if seen.revision is None:
        return ok("database", "empty; the next start makes its tables"), seen, False
    devices = f"{seen.devices} device{'' if seen.devices == 1 else 's'}"
    key = "the secret fits" if vault is not None else "the secret was not at hand"
    schema = "" if seen.is_current else ", which the next start migrates"
    found = f"sound, schema {seen.revision}{schema}; {devices}; {key}"
    return ok("database", found), seen, False


def watchdog(*, runs: bool) -> Finding:
    """Whether systemd starts a daemon again that dies or hangs.

    Args:
        runs: a daemon answers.
    """
    advice = "systemd/README.md says how to run it as a service"
    told = _systemctl()
    if told is None:
        return warn("systemd", "it does not run here: nobody ends a daemon that hangs", advice)
    if told.get("LoadState") != "loaded":
        return warn("systemd", f"there is no {UNIT}: nobody ends a daemon that hangs", advice)
    if told.get("ActiveState") != "active":
        state = told.get("ActiveState", "unknown")
        if runs:
            return warn(
                "systemd", f"{UNIT} is {state}: the daemon was started by other means", advice
            )
        return fail("systemd", f"{UNIT} is {state}", f"journalctl -u {UNIT} tells why")
    if told.get("WatchdogUSec") in (None, "", "0", "infinity"):
        return warn("systemd", f"{UNIT} has no watchdog", "take WatchdogSec= from systemd/")
    restarts = told.get("NRestarts", "0")
    if restarts != "0":
        found = f"{UNIT} was started again {restarts} times"
        return warn("systemd", found, f"journalctl -u {UNIT} tells what ended it")
    return ok("systemd", f"{UNIT} is active, watchdog {told['WatchdogUSec']}")


def _systemctl() -> dict[str, str] | None:
    """What systemd says of the unit; None: there is no systemd."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    properties = "LoadState,ActiveState,WatchdogUSec,NRestarts"
    try:
        ran = subprocess.run(
            [program, "show", UNIT, f"--property={properties}"],
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if ran.returncode != 0:
        return None  # this machine, or this container, was started by something else
    return dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)


def _vault(settings: Settings) -> Vault | None:
    path = named_secret(settings) or settings.state_dir / SECRET_FILE
    return Vault(read_secret(path)) if path.exists() else None


def _lies_in(path: Path, directories: set[Path]) -> bool:
    parents = path.resolve().parents
    return any(directory.resolve() in parents for directory in directories)


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if value is None:
        return "unset"
    return value.hex() if isinstance(value, bytes) else str(value)

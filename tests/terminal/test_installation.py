from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from sitpayd.settings import Settings, load_settings
from sitpayd.storage.database import migrate, open_database
from sitpayd.storage.vault import Vault
from sitpayd.terminal import installation
from sitpayd.terminal.findings import State

SECRET = bytes(range(32))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation as it should be: a database, its secret elsewhere, all closed to others."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    state_dir, secret_file = tmp_path / "state", tmp_path / "elsewhere" / "secret"
    secret_file.parent.mkdir(mode=0o700)
    secret_file.write_text(SECRET.hex())
    secret_file.chmod(0o600)
    migrate(f"sqlite:///{state_dir}/sitpayd.db")
    return Settings(state_dir=state_dir, secret_file=secret_file)


def database_of(settings: Settings) -> Path:
    return settings.state_dir / "sitpayd.db"


# --- configuration ---


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file with the admin key, named and closed to others."""
    path = tmp_path / "sitpayd.toml"
    path.write_text(f"admin_key = '{'k' * 32}'\nlog_level = 'error'\n")
    path.chmod(0o600)
    monkeypatch.setenv("SITPAYD_CONFIG", str(path))
    return path


def test_values_are_told_with_where_they_come_from(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITPAYD_LISTEN", "127.0.0.1:9999")
    finding = installation.configuration(load_settings())

    assert finding.state is State.OK
    assert "listen = 127.0.0.1:9999 (SITPAYD_LISTEN)" in finding.details
    assert f"log_level = error ({config})" in finding.details


def test_admin_key_is_never_shown(config: Path) -> None:
    settings = load_settings()

    assert "k" * 32 not in repr(installation.configuration(settings))
    assert "k" * 32 not in repr(installation.in_force(settings))


def test_configuration_that_others_may_read_is_told(config: Path) -> None:
    config.chmod(0o644)
    finding = installation.configuration(load_settings())

    assert (finding.state, finding.advice and "chmod 600" in finding.advice) == (State.WARN, True)


# --- secret ---


def test_secret_apart_and_closed_is_well(settings: Settings) -> None:
    assert installation.secret(settings, is_held=False).state is State.OK


def test_secret_that_others_may_read_fails(settings: Settings) -> None:
    assert settings.secret_file is not None
    settings.secret_file.chmod(0o640)
    finding = installation.secret(settings, is_held=True)

    assert (finding.state, finding.advice) == (State.FAIL, f"chmod 600 {settings.secret_file}")


def test_secret_beside_the_database_is_told(settings: Settings) -> None:
    beside = settings.state_dir / "secret.key"
    beside.write_bytes(SECRET)
    beside.chmod(0o600)
    for here in (Settings(state_dir=settings.state_dir), settings):
        finding = installation.secret(here, is_held=False)
        assert (finding.state is State.WARN) is (here.secret_file is None)


def test_secret_of_the_wrong_length_fails(settings: Settings) -> None:
    assert settings.secret_file is not None
    settings.secret_file.write_text("too short")

    assert installation.secret(settings, is_held=False).state is State.FAIL


def test_credential_goes_before_the_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "sitpayd.secret").write_bytes(SECRET)
    (credentials / "sitpayd.secret").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    assert str(credentials) in installation.secret(settings, is_held=False).found


@pytest.mark.parametrize(("is_held", "state"), [(True, State.OK), (False, State.WARN)])
def test_secret_that_cannot_be_seen_is_judged_by_whether_a_daemon_runs(
    settings: Settings, is_held: bool, state: State
) -> None:
    here = Settings(state_dir=settings.state_dir)

    assert installation.secret(here, is_held=is_held).state is state


def test_first_start_is_warned_of_the_secret_it_would_make(tmp_path: Path) -> None:
    finding = installation.secret(Settings(state_dir=tmp_path / "new"), is_held=False)

    assert (finding.state, "first start" in finding.found) == (State.WARN, True)


# --- state ---


def test_closed_state_is_well(settings: Settings) -> None:
    assert installation.state_files(settings).state is State.OK


def test_directory_that_is_open_is_a_warning(settings: Settings) -> None:
    settings.state_dir.chmod(0o755)
    finding = installation.state_files(settings)

    assert (finding.state, finding.advice) == (State.WARN, f"chmod 700 {settings.state_dir}")


def test_database_that_is_open_fails(settings: Settings) -> None:
    database_of(settings).chmod(0o644)

    assert installation.state_files(settings).state is State.FAIL


# --- database ---


def test_sound_database_is_told_with_its_schema(settings: Settings) -> None:
    finding, seen, is_held = installation.database(settings)

    assert (finding.state, is_held) == (State.OK, False)
    assert seen is not None
    assert f"schema {seen.revision}" in finding.found


def test_damage_fails(settings: Settings) -> None:
    path = database_of(settings)
    path.write_bytes(b"\xff" * 4096 + path.read_bytes()[4096:])

    assert installation.database(settings)[0].state is State.FAIL


def test_schema_of_a_newer_version_fails(settings: Settings) -> None:
    with closing(sqlite3.connect(database_of(settings))) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "9999" in installation.database(settings)[0].found


async def test_database_of_another_secret_fails(settings: Settings) -> None:
    async with open_database(settings.database_url, Vault(b"x" * 32)):
        pass
    finding = installation.database(settings)[0]

    assert (finding.state, "another secret" in finding.found) == (State.FAIL, True)


async def test_database_of_a_running_daemon_is_left_alone(settings: Settings) -> None:
    async with open_database(settings.database_url, Vault(SECRET)):
        finding, seen, is_held = installation.database(settings)

    assert (finding.state, seen, is_held) == (State.OK, None, True)


def test_missing_database_is_no_trouble(tmp_path: Path) -> None:
    finding, seen, is_held = installation.database(Settings(state_dir=tmp_path / "new"))

    assert (finding.state, seen, is_held) == (State.OK, None, False)
    assert not (tmp_path / "new").exists()


# --- systemd ---

ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "30s", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("told", "runs", "state"),
    [
        (ACTIVE, True, State.OK),
        (ACTIVE | {"NRestarts": "3"}, True, State.WARN),
        (ACTIVE | {"WatchdogUSec": "0"}, True, State.WARN),
        (ACTIVE | {"ActiveState": "failed"}, False, State.FAIL),
        (ACTIVE | {"ActiveState": "inactive"}, True, State.WARN),
        ({"LoadState": "not-found"}, True, State.WARN),
        (None, True, State.WARN),
    ],
)
def test_systemd_is_asked_about_the_unit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, str] | None,
    runs: bool,
    state: State,
) -> None:
    program = tmp_path / "systemctl"
    lines = "\n".join(f"echo {key}={value}" for key, value in (told or {}).items())
    program.write_text(f"#!/bin/sh\n{lines}\nexit {0 if told else 1}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert installation.watchdog(runs=runs).state is state


def test_machine_without_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert installation.watchdog(runs=True).state is State.WARN


def test_secret_key_is_no_plain_text() -> None:
    shown = installation.in_force(Settings(admin_key=SecretStr("k" * 32), whatsapp_root_key=None))

    assert {one.value for one in shown if one.key == "admin_key"} == {"(set, not shown)"}

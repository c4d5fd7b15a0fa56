"""The command line as an operator meets it: one clear line and a true exit status."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sitpayd.storage.database import migrate
from tests.support.daemon import ROOT, Daemon, Ended, environment, free_port, run_command

CONFIGURATION, DAMAGED, OTHER = 78, 65, 70


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a database."""
    directory = tmp_path / "state"
    migrate(f"sqlite:///{directory}/sitpayd.db")
    return directory


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


async def serve(state: Path, **settings: str) -> Ended:
    usual = {
        "state_dir": str(state),
        "listen": f"127.0.0.1:{free_port()}",
        "whatsapp_url": "ws://127.0.0.1:9/ws/chat",
        "log_level": "error",
    }
    return await run_command("serve", cwd=state.parent, **(usual | settings))


def complaint(ended: Ended, status: int) -> str:
    """The one line on standard error."""
    assert ended.status == status, ended.errors
    [line] = ended.errors.splitlines()
    assert ended.output == ""
    return line


async def test_unknown_variable_is_named_with_a_proposal(tmp_path: Path) -> None:
    told = complaint(await serve(tmp_path, lissen="127.0.0.1:1"), CONFIGURATION)
    assert told == (
        "sitpayd: unknown environment variable SITPAYD_LISSEN; did you mean SITPAYD_LISTEN?"
    )


async def test_unknown_key_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sitpayd.toml"
    file.write_text("lissen = '127.0.0.1:1'\n")
    told = complaint(await serve(tmp_path, config=str(file)), CONFIGURATION)
    assert told == f"sitpayd: unknown key lissen in {file}"


async def test_bad_value_is_named_once_with_where_it_came_from(tmp_path: Path) -> None:
    told = complaint(await serve(tmp_path, listen="127.0.0.1:99999"), CONFIGURATION)
    assert told.startswith("sitpayd: listen (SITPAYD_LISTEN): must be host:port")
    assert ";" not in told


async def test_taken_port_is_named(state: Path, taken_port: int) -> None:
    told = complaint(await serve(state, listen=f"127.0.0.1:{taken_port}"), CONFIGURATION)
    assert told == f"sitpayd: listen: cannot use 127.0.0.1:{taken_port}: Address already in use"


async def test_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state_dir = str(tmp_path / "file" / "state")
    told = complaint(await serve(tmp_path / "state", state_dir=state_dir), CONFIGURATION)
    assert str(tmp_path / "file") in told


async def test_database_that_cannot_be_reached_is_named(state: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/sitpayd.db"
    told = complaint(await serve(state, database_url=url), CONFIGURATION)
    assert str(tmp_path / "file") in told


async def test_wrong_secret_is_refused(state: Path, tmp_path: Path, taken_port: int) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("01" * 32)
    second.write_text("02" * 32)
    # Far enough to seal the database, and no further.
    listen = f"127.0.0.1:{taken_port}"
    complaint(await serve(state, secret_file=str(first), listen=listen), CONFIGURATION)
    told = complaint(await serve(state, secret_file=str(second)), CONFIGURATION)
    assert told == "sitpayd: the database was sealed with another secret"


async def test_newer_schema_is_refused(state: Path) -> None:
    with closing(sqlite3.connect(state / "sitpayd.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    told = complaint(await serve(state), CONFIGURATION)
    assert "schema 9999" in told
    assert "install the newer version" in told


async def test_damaged_database_is_never_replaced(state: Path) -> None:
    file = state / "sitpayd.db"
    damaged = b"\xff" * 4096 + file.read_bytes()[4096:]
    file.write_bytes(damaged)
    told = complaint(await serve(state), DAMAGED)
    assert "restore a backup" in told
    assert file.read_bytes() == damaged


async def test_database_open_to_others_is_refused(state: Path) -> None:
    (state / "sitpayd.db").chmod(0o644)
    told = complaint(await serve(state), CONFIGURATION)
    assert "chmod 600" in told


async def test_second_daemon_on_a_database_is_refused(daemon: Daemon) -> None:
    told = complaint(await serve(daemon.state_dir), OTHER)
    assert told == f"sitpayd: {daemon.database} is in use by another process"


async def test_migrate_makes_a_database_and_may_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        ended = await run_command("migrate", cwd=tmp_path, state_dir=str(tmp_path / "state"))
        assert (ended.status, ended.output, ended.errors) == (
            0,
            "the database is up to date\n",
            "",
        )
    assert (tmp_path / "state" / "sitpayd.db").stat().st_mode & 0o777 == 0o600


async def test_simulate_is_bound_to_loopback(tmp_path: Path) -> None:
    ended = await run_command("simulate", "--host", "0.0.0.0", cwd=tmp_path)
    assert "loopback" in complaint(ended, CONFIGURATION)


async def test_simulate_names_a_taken_port(tmp_path: Path, taken_port: int) -> None:
    ended = await run_command("simulate", "--port", str(taken_port), cwd=tmp_path)
    told = complaint(ended, CONFIGURATION)
    assert told == "sitpayd: simulate: cannot listen: Address already in use"


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_simulate_prints_one_json_line_and_ends_quietly_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sitpayd", "simulate"],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As a shell starts what runs in its background.
        preexec_fn=ignore_interrupts,
    )
    with process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=10)
        finally:
            process.kill()  # nothing if it has ended
    assert set(told) == {"url", "root_key", "control"}
    assert len(bytes.fromhex(told["root_key"])) == 32
    assert (process.returncode, output, errors) == (130, "", "")

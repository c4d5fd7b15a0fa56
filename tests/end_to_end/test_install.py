"""An installation from the built wheel, as `pip install .` makes it, away from this directory.

The dependencies are those that are installed already: nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, environment

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    done = subprocess.run(
        command, env=environment(**settings), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a virtual environment in `venv`, where only the wheel was installed."""
    place = tmp_path_factory.mktemp("install")
    offline = ("--no-deps", "--no-index")
    run(*PIP, "wheel", *offline, "--no-build-isolation", "-w", place, ROOT, cwd=place)
    [wheel] = place.glob("sitpayd-*.whl")
    venv.create(place / "venv", symlinks=True)
    run(*PIP, "--python", place / "venv", "install", *offline, wheel, cwd=place)
    [packages] = (place / "venv").glob("lib/python*/site-packages")
    # Paths in a .pth are searched after the environment's own packages, and their .pth files are
    # not read: the sitpayd that is found is the wheel's.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + os.linesep)
    return place


def test_installed_package_is_the_wheel(place: Path) -> None:
    found = run(
        place / "venv/bin/python", "-c", "import sitpayd; print(sitpayd.__file__)", cwd=place
    )
    assert Path(found.strip()).is_relative_to(place)


def test_installed_admin_page_is_whole(place: Path) -> None:
    program = "from importlib.resources import files; "
    program += "print(*(file.name for file in files('sitpayd.api').joinpath('page').iterdir()))"
    found = run(place / "venv/bin/python", "-c", program, cwd=place)
    assert set(found.split()) == {path.name for path in (ROOT / "sitpayd/api/page").iterdir()}


def test_installed_command_migrates(place: Path) -> None:
    said = run(place / "venv/bin/sitpayd", "migrate", cwd=place, state_dir=str(place / "state"))
    assert said == "the database is up to date\n"


def test_installed_command_knows_its_commands(place: Path) -> None:
    said = run(place / "venv/bin/sitpayd", "--help", cwd=place)
    for command in ("serve", "migrate", "simulate", "demo"):
        assert command in said

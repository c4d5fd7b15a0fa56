"""Imports go down only: the table "Floors" of ARCHITECTURE.md, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sitpayd

ROOT = Path(sitpayd.__file__).parent
PURE_ACTORS = {
    f"sitpayd.actors.{name}"
    for name in (
        "addresses",
        "arming",
        "backlog",
        "backoff",
        "checking",
        "commands",
        "delivery",
        "directory",
        "duty",
        "events",
        "explanations",
        "failures",
        "keepalive",
        "linking",
        "login",
        "machine",
        "messages",
        "notices",
        "pacing",
        "pairing",
        "people",
        "phase",
        "presence",
        "proxies",
        "queries",
        "reading",
        "receiving",
        "recovery",
        "refusals",
        "repairs",
        "restrictions",
        "restarts",
        "routing",
        "stock",
        "strangers",
        "targets",
        "telling",
        "trust",
        "wishes",
    )
}
# Modules of no floor, which every floor but `whatsapp` and the pure actors may use.
COMMON = {"sitpayd.clock", "sitpayd.errors", "sitpayd.files", "sitpayd.log", "sitpayd.metrics"}

# What a floor may import: of sitpayd by prefix, of others by distribution.
FLOORS: dict[str, tuple[set[str], set[str]]] = {
    "sitpayd.whatsapp": (
        {"sitpayd.whatsapp"},
        {"cryptography", "xeddsa", "google"},
    ),
    "sitpayd.storage": (
        {"sitpayd.storage", *COMMON},
        {"sqlmodel", "sqlalchemy", "alembic", "cryptography", "trio"},
    ),
    "pure actors": ({*PURE_ACTORS, "sitpayd.whatsapp", "sitpayd.storage.records"}, set()),
    "sitpayd.actors": (
        {"sitpayd.actors", "sitpayd.whatsapp", "sitpayd.storage", *COMMON},
        {"trio", "websockets", "h11", "python_socks"},
    ),
    "sitpayd.api": (
        {
            "sitpayd.api",
            "sitpayd.actors",
            "sitpayd.storage",
            "sitpayd.settings",
            "sitpayd.whatsapp.jid",
            "sitpayd.whatsapp.message_id",
            *COMMON,
        },
        {"quart", "quart_trio", "hypercorn", "trio", "pydantic", "phonenumbers", "qrcode"}
        | {"h11", "structlog", "werkzeug"},
    ),
    "sitpayd.terminal": (
        {
            "sitpayd.terminal",
            "sitpayd.settings",
            "sitpayd.storage",
            "sitpayd.actors.transport",
            *COMMON,
        },
        {"httpx", "websockets", "pydantic"},
    ),
    "sitpayd.simulator": (
        {"sitpayd.simulator", "sitpayd.whatsapp", "sitpayd.log"},
        {"trio", "websockets", "quart", "quart_trio", "hypercorn", "werkzeug", "google"},
    ),
}
# Where a distribution may be used is told file by file, too.
ONLY_IN = {
    "websockets": {"sitpayd.actors.websocket", "sitpayd.simulator", "sitpayd.terminal"},
    "h11": {"sitpayd.actors.connector", "sitpayd.actors.downloads", "sitpayd.api.server"},
    "python_socks": {"sitpayd.actors.connector"},
    "sqlmodel": {"sitpayd.storage"},
    "sqlalchemy": {"sitpayd.storage"},
    "alembic": {"sitpayd.storage"},
}
STORAGE_ONLY_IN = {
    "cryptography": {"sitpayd.storage.vault"},
    "trio": {"sitpayd.storage.database"},
}


def modules() -> list[str]:
    return sorted(
        ".".join(("sitpayd", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in ROOT.rglob("*.py")
    )


def path_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


def imports_of(module: str) -> Iterator[str]:
    """Every module this one imports, wherever in it the import stands."""
    path = path_of(module)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import module` imports the module.
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in ALL_MODULES else source


def is_below(module: str, prefixes: set[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def floor_of(module: str) -> str | None:
    if module in PURE_ACTORS:
        return "pure actors"
    return next((floor for floor in FLOORS if is_below(module, {floor})), None)


ALL_MODULES = set(modules())
ON_A_FLOOR = [module for module in modules() if floor_of(module)]


@pytest.mark.parametrize("module", ON_A_FLOOR)
def test_imports_go_down_only(module: str) -> None:
    floor = floor_of(module)
    assert floor is not None
    ours, others = FLOORS[floor]
    for imported in imports_of(module):
        top = imported.partition(".")[0]
        if top == "sitpayd":
            assert is_below(imported, ours), f"{module} imports {imported}"
        elif top not in sys.stdlib_module_names:
            assert top in others, f"{module} imports {imported}"
            assert is_below(module, ONLY_IN.get(top, {module})), f"{module} imports {imported}"
            if floor == "sitpayd.storage":
                assert is_below(module, STORAGE_ONLY_IN.get(top, {module}))


@pytest.mark.parametrize("module", sorted(PURE_ACTORS))
def test_pure_files_exist(module: str) -> None:
    assert path_of(module).is_file()


@pytest.mark.parametrize("package", sorted(p.parent.name for p in ROOT.glob("*/__init__.py")))
def test_every_package_has_its_floor(package: str) -> None:
    assert f"sitpayd.{package}" in FLOORS


ALONE = """
import importlib, pkgutil, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {forbidden} or (top == "sitpayd" and name != "sitpayd"
                                  and not name.startswith("sitpayd.whatsapp")):
            raise ImportError(name + " is out of reach")

sys.meta_path.insert(0, Nothing())
import sitpayd.whatsapp
for module in pkgutil.walk_packages(sitpayd.whatsapp.__path__, "sitpayd.whatsapp."):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_whatsapp_stands_alone() -> None:
    forbidden = {"trio", "websockets", "sqlmodel", "sqlalchemy", "alembic", "quart", "structlog"}
    program = ALONE.replace("{forbidden}", repr(forbidden))
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    below = [module for module in modules() if module.startswith("sitpayd.whatsapp.")]
    assert sorted(ran.stdout.split()) == below

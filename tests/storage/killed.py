"""Migrates copies of a database, each killed one statement later than the one before.

    python -m tests.storage.killed DIRECTORY MIGRATIONS [TEMPLATE]

Leaves DIRECTORY/1.db, 2.db and so on; ends with the first that was not killed. Children are forked
from a process that has imported everything and opened nothing: SQLite does not survive a fork.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from itertools import count
from pathlib import Path

import alembic.command  # noqa: F401  # loaded once, not in every child
from sqlalchemy import Pool, event

from sitpayd.storage import schema
from sitpayd.storage.database import migrate


def migrate_and_die(path: Path, at_statement: int) -> None:
    left = at_statement

    def before_statement(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def connected(driver: sqlite3.Connection, _record: object) -> None:
        driver.set_trace_callback(before_statement)

    event.listen(Pool, "connect", connected)
    migrate(f"sqlite:///{path}")


def main(directory: Path, migrations: str, template: Path | None) -> None:
    schema.MIGRATIONS = Path(migrations)
    for number in count(1):
        path = directory / f"{number}.db"
        if template:
            shutil.copy(template, path)
        child = os.fork()
        if child == 0:
            migrate_and_die(path, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)

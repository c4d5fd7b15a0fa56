"""The command line: serve, migrate, simulate, demo.

Parses arguments and turns errors into one line and an exit status. Every command's work is done
elsewhere and imported only when it is asked for, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from sitpayd.errors import (
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseLockedError,
    DatabaseUnusableError,
    SitpaydError,
)

ErrorT = TypeVar("ErrorT", bound=BaseException)

# sysexits.h: systemd does not start the daemon again after these two.
EX_DATAERR: Final = 65
EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    options = _parser().parse_args(arguments)
    # A shell starts what runs in its background with SIGINT ignored: whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        sys.exit(command(options))
    except KeyboardInterrupt:
        sys.exit(130)
    except SitpaydError as error:
        _fail(error)
    except BaseExceptionGroup as group:
        if _only(KeyboardInterrupt, group):
            sys.exit(130)
        ours = _only(SitpaydError, group)
        if ours is None:
            raise
        _fail(ours)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sitpayd", description="A WhatsApp gateway daemon for resellers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the daemon")
    serve.set_defaults(command=_serve)
    migrate = commands.add_parser("migrate", help="bring the database to this version's schema")
    migrate.set_defaults(command=_migrate)
    simulate = commands.add_parser("simulate", help="run the WhatsApp simulator alone")
    simulate.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    simulate.add_argument("--port", type=int, default=0, help="WebSocket port (0: any free one)")
    simulate.add_argument("--control-port", type=int, default=0, help="port of its control API")
    simulate.set_defaults(command=_simulate)
    demo = commands.add_parser("demo", help="a partner's day against the simulator")
    demo.add_argument("--once", action="store_true", help="leave when the day is over")
    demo.set_defaults(command=_demo)
    return parser


def _serve(_: argparse.Namespace) -> int:
    from sitpayd.log import configure
    from sitpayd.settings import load_settings

    settings = load_settings()
    configure(settings.log_level, settings.log_format)

    # After the settings: importing all of this takes a second, and a typo is told before it.
    import trio

    from sitpayd.daemon import run_daemon

    trio.run(run_daemon, settings)
    return 0


def _migrate(_: argparse.Namespace) -> int:
    from sitpayd.settings import load_settings

    settings = load_settings()

    from sitpayd.storage.database import migrate

    migrate(settings.database_url)
    print("the database is up to date")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    import trio

    from sitpayd.simulator.main import run_simulator

    def announce(addresses: dict[str, str]) -> None:
        print(json.dumps(addresses), flush=True)

    async def run() -> None:
        await run_simulator(options.host, options.port, options.control_port, announce=announce)

    try:
        trio.run(run)
    except ValueError as error:
        raise ConfigurationError(f"simulate: {error}") from None
    except ExceptionGroup as group:
        refusal = _only(OSError, group)
        if refusal is None:
            raise
        raise ConfigurationError(f"simulate: cannot listen: {refusal.strerror}") from None
    return 0


def _demo(options: argparse.Namespace) -> int:
    import trio

    from sitpayd.demo import run_demo

    return trio.run(run_demo, options.once)


def _fail(error: SitpaydError) -> NoReturn:
    print(f"sitpayd: {error}", file=sys.stderr)
    match error:
        case DatabaseCorruptError():
            sys.exit(EX_DATAERR)
        case DatabaseLockedError():
            sys.exit(EX_SOFTWARE)  # its owner may be on its way out: another start may help
        case ConfigurationError() | DatabaseUnusableError():
            sys.exit(EX_CONFIG)
        case _:
            sys.exit(EX_SOFTWARE)


def _only(kind: type[ErrorT], group: BaseExceptionGroup[BaseException]) -> ErrorT | None:
    """The first error of a group that holds nothing but this kind."""
    _, rest = group.split(kind)
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if rest is None and isinstance(error, kind) else None

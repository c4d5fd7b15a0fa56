"""The command line: the daemon, its database, the simulator, and what an operator asks.

Parses arguments and turns errors into one line and an exit status. Every command's work is done
elsewhere and imported only when it is asked for, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import io
import json
import os
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
    except BrokenPipeError:
        # Whoever read has read enough; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
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
    simulate.add_argument("--certificate", help="PEM file with key: serve wss instead of ws")
    simulate.set_defaults(command=_simulate)
    demo = commands.add_parser("demo", help="a partner's day against the simulator")
    demo.add_argument("--once", action="store_true", help="leave when the day is over")
    demo.set_defaults(command=_demo)
    _add_operator_commands(commands)
    return parser


def _add_operator_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    asking = argparse.ArgumentParser(add_help=False)
    asking.add_argument("--url", help="where the daemon is (default: where its settings say)")
    asking.add_argument("--json", action="store_true", help="one JSON document instead of text")
    devices = commands.add_parser("devices", parents=[asking], help="all devices, trouble first")
    devices.add_argument("--status", help="only these, with commas: waiting,banned")
    devices.add_argument("--partner", help="only this partner's: its number, or part of its name")
    devices.add_argument("--search", help="part of an id or name, or the last four digits")
    devices.add_argument("--watch", action="store_true", help="live, until Ctrl-C")
    devices.set_defaults(command=_devices)
    device = commands.add_parser(
        "device", parents=[asking], help="why one device is as it is; what to do to it"
    )
    device.add_argument("session_id", metavar="SESSION_ID")
    device.add_argument(
        "operation",
        nargs="?",
        choices=("pause", "resume", "reconnect", "restart", "logout"),
        help="do this to it",
    )
    device.add_argument("--yes", action="store_true", help="log out without asking")
    device.set_defaults(command=_device)
    doctor = commands.add_parser(
        "doctor", parents=[asking], help="look for what keeps the daemon from its work"
    )
    doctor.set_defaults(command=_doctor)


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
        await run_simulator(
            options.host,
            options.port,
            options.control_port,
            announce=announce,
            certificate=options.certificate,
        )

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


def _devices(options: argparse.Namespace) -> int:
    from sitpayd.terminal import devices

    return _shown(devices.run, options)


def _device(options: argparse.Namespace) -> int:
    from sitpayd.terminal import device

    return _shown(device.run, options)


def _doctor(options: argparse.Namespace) -> int:
    from sitpayd.terminal import doctor

    return _shown(doctor.run, options)


def _shown(show: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    # A terminal that cannot show a character of a name shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    status = show(options)
    sys.stdout.flush()
    return status


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

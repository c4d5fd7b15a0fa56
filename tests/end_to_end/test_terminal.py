"""The operator's commands against a running daemon."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.daemon import Daemon, environment
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.terminal import LEFT, on_terminal, sitpayd

GUIDE = Path(__file__).parents[2] / "docs" / "operators.md"
# Those that run until somebody ends them, and what tries them.
ENDLESS = {
    "sitpayd serve": "every test here",
    "sitpayd simulate": "test_commands.py",
    "sitpayd demo": "test_demo.py",
    "sitpayd devices --watch": "below",
}


def commands_of_the_guide() -> list[str]:
    """Every command line of ours in the operator's guide, without what is said of it."""
    blocks = re.findall(r"(?ms)^```\n(.*?)^```", GUIDE.read_text(encoding="utf-8"))
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    found = dict.fromkeys(line.removeprefix("$ ") for line in lines)
    return [line for line in found if line.startswith("sitpayd ")]


async def status(daemon: Daemon, device: PartnerDevice) -> str:
    """What `sitpayd device --json` says of it."""
    ended = await sitpayd(daemon, "device", device.session_id, "--json")
    assert ended.status == 0, ended.errors
    return str(json.loads(ended.output)["device"]["status"])


async def test_table_puts_trouble_first(
    tenant: Partner, people: People, alice: str, bob: str, mortal: Daemon
) -> None:
    well = await tenant.linked(people, alice)
    replaced = await tenant.linked(people, bob)
    await people.stream_error(replaced, 409, "replaced")
    await replaced.until("replaced")

    ended = await sitpayd(mortal, "devices")

    heading, first, second, _, counts = ended.output.splitlines()
    assert (ended.status, ended.errors) == (0, "")
    assert heading.split() == [
        "SESSION",
        "ID",
        "PARTNER",
        "NAME",
        "STATUS",
        "REASON",
        "SINCE",
        "PROOF",
    ]
    assert first.startswith(f"{replaced.session_id}  ABC Reseller  John iPhone  replaced")
    assert second.startswith(f"{well.session_id}  ABC Reseller  John iPhone  connected")
    assert counts == "2 devices: 1 replaced, 1 connected"


async def test_json_is_one_document_of_what_was_asked_for(
    tenant: Partner, people: People, alice: str, mortal: Daemon
) -> None:
    device = await tenant.linked(people, alice)
    await tenant.device("Another phone")

    everything = json.loads((await sitpayd(mortal, "devices", "--json")).output)
    ended = await sitpayd(mortal, "devices", "--json", "--status", "connected")
    connected = json.loads(ended.output)

    assert everything["counts"] == {"unpaired": 1, "connected": 1}
    assert [known["session_id"] for known in connected["devices"]] == [device.session_id]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--search", "iphone"), 1),
        (("--search", "android"), 0),
        (("--partner", "abc"), 1),
        (("--partner", "1"), 1),
        (("--partner", "2"), 0),
    ],
)
async def test_table_can_be_narrowed(
    tenant: Partner, mortal: Daemon, arguments: tuple[str, ...], found: int
) -> None:
    await tenant.device()

    ended = await sitpayd(mortal, "devices", *arguments)

    counted = "1 device: 1 unpaired" if found else "no devices"
    assert ended.output.splitlines()[-1] == counted


async def test_device_is_operated_from_the_terminal(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)
    for operation, leads_to in (
        ("pause", "paused"),
        ("resume", "connected"),
        ("reconnect", "connected"),
        ("restart", "connected"),
    ):
        ended = await sitpayd(daemon, "device", device.session_id, operation)
        assert (ended.status, ended.errors) == (0, "")
        await device.until(leads_to)
        assert await status(daemon, device) == leads_to


async def test_nobody_is_logged_out_without_a_yes(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    device = await partner.linked(people, alice)

    refused = await sitpayd(daemon, "device", device.session_id, "logout")
    assert (refused.status, len(refused.errors.splitlines())) == (78, 1)
    assert await status(daemon, device) == "connected"

    ended = await sitpayd(daemon, "device", device.session_id, "logout", "--yes")
    assert ended.status == 0
    await device.until("logged_out")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("device", "wa_none"), 70, "no such device"),
        (("devices", "--status", "asleep"), 70, "names no status"),
        (("devices", "--url", "http://127.0.0.1:1"), 70, "cannot be reached"),
        (("devices", "--url", "elsewhere"), 78, "--url"),
        (("devices", "--watch"), 78, "draws on a terminal"),
    ],
)
async def test_trouble_is_one_line_and_a_status(
    daemon: Daemon, arguments: tuple[str, ...], status: int, words: str
) -> None:
    ended = await sitpayd(daemon, *arguments)

    [line] = ended.errors.splitlines()
    assert (ended.status, ended.output) == (status, "")
    assert line.startswith("sitpayd: ")
    assert words in line


def test_reader_that_leaves_early_is_no_trouble(daemon: Daemon) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sitpayd", "devices"],
        env=environment(**daemon.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")


async def test_watch_lives_with_the_fleet_and_says_when_it_is_blind(
    tenant: Partner, people: People, alice: str, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    device = await tenant.linked(people, alice)
    async with on_terminal(mortal, "devices", "--watch") as terminal:
        await terminal.shows("live from", device.session_id, "1 device: 1 connected")
        await people.stream_error(device, 409, "replaced")
        await terminal.shows("live from", "1 device: 1 replaced")
        await mortal.kill()
        await terminal.shows("LOST", "1 device: 1 replaced")
        await mortal.start(http)
        await terminal.shows("live from", "1 device: 1 replaced")
        assert await terminal.interrupt() == 130
        assert terminal.written.endswith(LEFT)
        assert "Traceback" not in terminal.written


async def test_doctor_finds_a_running_daemon_well(
    partner: Partner, people: People, alice: str, daemon: Daemon
) -> None:
    await partner.linked(people, alice)

    ended = await sitpayd(daemon, "doctor", "--json")

    told = json.loads(ended.output)
    states = {check["check"]: check["state"] for check in told["checks"]}
    assert (ended.status, told["ok"]) == (0, True)
    for check in ("configuration", "state", "database", "daemon", "admin key", "files"):
        assert (check, states[check]) == (check, "ok")
    for check in ("dns", "whatsapp", "clock"):
        assert (check, states[check]) == (check, "ok")
    # The daemon made its own: doctor tells that it lies beside the database.
    assert states["secret"] == "warn"
    assert {one["key"]: one["origin"] for one in told["settings"]}["listen"] == "SITPAYD_LISTEN"


async def test_doctor_reads_the_database_of_a_stopped_daemon(
    tenant: Partner, people: People, alice: str, mortal: Daemon, http: httpx.AsyncClient
) -> None:
    await tenant.linked(people, alice)
    await mortal.kill()

    ended = await sitpayd(mortal, "doctor")

    assert ended.status == 1
    assert "fail  daemon" in ended.output
    [line] = [line for line in ended.output.splitlines() if line.startswith("ok    database")]
    assert line.endswith("1 device; the secret fits")
    # It has left nothing in the daemon's way.
    await mortal.start(http)


async def test_doctor_names_what_is_wrong_with_the_settings(daemon: Daemon) -> None:
    ended = await sitpayd(Daemon(daemon.state_dir.parent, "ftp://nowhere", bytes(32)), "doctor")

    assert ended.status == 1
    assert "fail  configuration" in ended.output
    assert "whatsapp_url (SITPAYD_WHATSAPP_URL)" in ended.output


async def test_every_command_of_the_guide_does_what_it_says(
    tenant: Partner, people: People, alice: str, mortal: Daemon
) -> None:
    device = await tenant.linked(people, alice)
    commands = commands_of_the_guide()

    assert set(ENDLESS) <= set(commands)
    for command in commands:
        if command in ENDLESS or command == "sitpayd migrate":
            continue  # migrating is for a stopped daemon: test_commands.py
        line = re.sub(r"SESSION_ID|wa_\w+", device.session_id, command)
        ended = await sitpayd(mortal, *shlex.split(line)[1:])
        assert (command, ended.status, ended.errors) == (command, 0, "")
        assert ended.output

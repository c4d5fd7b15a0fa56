"""Power loss: every disk that one can leave behind keeps what was promised before it.

    python -m tests.torture.power_loss [--share] [--seed N] [--states N] [--sends N] [--mutant NAME]

A daemon sends under strace, four devices at once; its writes and fsyncs stand in one order with the
stanzas it lets go and the answers it gives. After each of these steps the power may go: then what
no fsync covers is there, is not, is torn, or any sectors of it are. Each such disk is opened, and
has to hold every message that was answered for and every stanza that left, with its very bytes and
with ratchets that are past it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio

from sitpayd.actors.arming import address_of
from sitpayd.storage import database as product
from sitpayd.storage import outbox, sessions
from sitpayd.storage.database import Unit, open_database
from sitpayd.storage.records import Address, RowState, utc_now
from sitpayd.storage.vault import Vault
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.signal.ratchet import Message, parse_message
from sitpayd.whatsapp.signal.record import SessionRecord
from sitpayd.whatsapp.signal.session import parse_prekey_message
from sitpayd.whatsapp.stanzas.message import Enc, parse_outgoing
from tests.torture.children import Child, Tell
from tests.torture.crash_play import Template, Witnessed, serving
from tests.torture.crash_points import MEMORY_DISK
from tests.torture.disk_ops import SYSCALLS, Disk, Loss, Mark, Operation, read_record
from tests.torture.lanes import Lane
from tests.torture.mutant_daemon import MUTANTS
from tests.torture.power_record import DATABASE, MARKS, NONE, NORMAL
from tests.torture.scene import SECRET, Scene
from tests.torture.verdict import REUSED_TEXT, Broken, Finding

DEMANDED_BY: Final = "SITPAYD_REQUIRE_STRACE"
DEVICES: Final = 4
SENDS: Final = 200
STATES: Final = 6000
SHARE_SENDS: Final = 40
SHARE_STATES: Final = 600
WORKERS: Final = 2
RECORD_S: Final = 600.0
CHECK_S: Final = 1200.0
# Of so many disks one is opened by the whole of the product's own start.
OPENED_OF: Final = 50
MAX_TOLD: Final = 20
OK: Final = 200

_VAULT: Final = Vault(SECRET)
_ARRIVED: Final = (RowState.SENT, RowState.DELIVERED, RowState.READ)


# --- what was promised ---


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of the record: its id at WhatsApp, and the device that sent it."""

    wa_message_id: str
    device_id: int


@dataclass
class Promises:
    """What had been promised so far.

    Attributes:
        answers: status of each answer, by Idempotency-Key.
        wire: stanzas that left, by WhatsApp's id.
        counters: the highest ratchet counter that left, by device, address and ratchet key.
    """

    answers: dict[str, int] = field(default_factory=dict)
    wire: dict[str, bytes] = field(default_factory=dict)
    counters: dict[tuple[int, Address, bytes], int] = field(default_factory=dict)


def keep(promises: Promises, mark: Mark, sent: dict[str, Sent]) -> None:
    """Take a mark of the record."""
    match mark.kind, mark.values:
        case "answered", (str(key), int(status)):
            promises.answers[key] = status
        case "wire", (str(stanza),):
            data = bytes.fromhex(stanza)
            message = parse_outgoing(decode(data))
            promises.wire[message.id] = data
            device_id = next(s.device_id for s in sent.values() if s.wa_message_id == message.id)
            for jid, enc in message.participants:
                inner = _inner(enc)
                place = device_id, address_of(jid), inner.ratchet_key
                promises.counters[place] = max(promises.counters.get(place, -1), inner.counter)
        case _:
            pass


def _inner(enc: Enc) -> Message:
    return parse_message(
        parse_prekey_message(enc.body).message if enc.kind == "pkmsg" else enc.body
    )


# --- one disk ---


def examine(path: Path, promises: Promises, sent: dict[str, Sent]) -> Iterator[tuple[Broken, str]]:
    """Open what is left and compare it with what was promised."""
    driver = sqlite3.connect(path, isolation_level=None)
    try:
        product._configure((), driver, None)
        found = driver.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            yield Broken.DAMAGED, found
            return
        yield from _compare(Unit(driver, _VAULT, utc_now()), promises, sent)
    except sqlite3.DatabaseError as error:
        yield Broken.DAMAGED, str(error)
    finally:
        driver.close()


def _compare(unit: Unit, promises: Promises, sent: dict[str, Sent]) -> Iterator[tuple[Broken, str]]:
    states: dict[str, tuple[int, RowState]] = {}
    for device_id in {message.device_id for message in sent.values()}:
        page = outbox.messages(unit, device_id, limit=len(sent))
        assert page is not None
        for view in page.messages:
            states[view.wa_message_id] = device_id, RowState(view.state)
    for key, status in promises.answers.items():
        _, state = states.get(sent[key].wa_message_id, (0, None))
        if state is None or (status == OK and state not in _ARRIVED):
            yield Broken.LOST, f"{key} was answered {status} and is {state}"
    for wa_message_id, stanza in promises.wire.items():
        device_id, state = states.get(wa_message_id, (0, None))
        if state in (None, RowState.ACCEPTED):
            yield Broken.REENCRYPTED, f"{wa_message_id} has left and is {state}"
        elif state is RowState.ARMED:
            row = outbox.row_by_wa_message_id(unit, device_id, wa_message_id)
            if row is None or row.stanza != stanza:
                yield Broken.REENCRYPTED, f"{wa_message_id} has left with other bytes"
    for (device_id, address, ratchet_key), counter in promises.counters.items():
        stored = sessions.load_sessions_of(unit, device_id, [address]).get(address)
        chain = None if stored is None else SessionRecord.from_bytes(stored).current.ratchet.sending
        if chain is None or chain.pair.public_key != ratchet_key or chain.counter <= counter:
            yield Broken.REUSED, f"the ratchet for {address} is not past {counter}"


async def _open(path: Path) -> None:
    async with open_database(f"sqlite:///{path}", _VAULT):
        pass


# --- all disks ---


@dataclass(frozen=True, slots=True)
class Examined:
    """What one worker found.

    Attributes:
        marked: how many of the disks were those right after a stanza or an answer.
    """

    states: int
    marked: int
    took_s: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record, and what was on the disk before it."""

    before: bytes
    database: Path
    operations: Sequence[Operation]
    sent: dict[str, Sent]

    def states(self) -> list[tuple[int, Loss]]:
        """Every disk there could be: after which operation, and what became of the rest."""
        disk, found = self.disk(), []
        for number, operation in enumerate(self.operations):
            disk.take(operation)
            if disk.is_certain:
                found.append((number, Loss.KEPT))
            else:
                found += [(number, loss) for loss in Loss]
        return found

    def disk(self) -> Disk:
        """The disk as it was before."""
        return Disk({self.database: bytearray(self.before)})


def choose(recorded: Recorded, count: int, random: Random) -> list[tuple[int, Loss]]:
    """Draw disks: half of them from those right after a promise, which forgive the least."""
    states = recorded.states()
    marked = [s for s in states if isinstance(recorded.operations[s[0]], Mark)]
    others = [s for s in states if not isinstance(recorded.operations[s[0]], Mark)]
    first = random.sample(marked, min(count // 2, len(marked)))
    chosen = first + random.sample(others, min(count - len(first), len(others)))
    return sorted(chosen, key=lambda state: (state[0], state[1].value))


def _examine_all(
    recorded: Recorded, chosen: Sequence[tuple[int, Loss]], seed: int, tell: Tell
) -> None:
    wanted: dict[int, list[Loss]] = {}
    for number, loss in chosen:
        wanted.setdefault(number, []).append(loss)
    begun, findings, count, marked = time.monotonic(), [], 0, 0
    disk, promises = recorded.disk(), Promises()
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as place:
        path = Path(place) / "state" / DATABASE
        for number, operation in enumerate(recorded.operations):
            disk.take(operation)
            if isinstance(operation, Mark):
                keep(promises, operation, recorded.sent)
            for loss in wanted.get(number, ()):
                _write(path, recorded.database, disk.after(loss, Random(f"{seed} {number} {loss}")))
                for broken, text in examine(path, promises, recorded.sent):
                    findings.append(Finding(broken, f"{text} (after operation {number}, {loss})"))
                count += 1
                marked += isinstance(operation, Mark)
                if count % OPENED_OF == 0:
                    trio.run(_open, path)
    tell(Examined(count, marked, time.monotonic() - begun, tuple(findings)))


def _write(path: Path, database: Path, files: dict[Path, bytes]) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(mode=0o700)
    for name, content in files.items():
        copy = path.with_name(name.name)
        copy.write_bytes(content)
        copy.chmod(0o600)
    assert database.name == path.name


# --- the record ---


def record(directory: Path, sends: int, mutant: str) -> tuple[Recorded, list[Finding]]:
    """Let a daemon send under strace; also what the server has to say about it."""
    scene = Scene.make(DEVICES)
    database = directory / DATABASE
    maker = Child(lambda tell: trio.run(_make_template, scene, database, tell))
    assert maker.wait(RECORD_S) == 0
    devices = maker.told(Template)
    before, output = database.read_bytes(), directory / "strace"
    with serving(scene) as (server, url):
        watched = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1000000"]
        watched += ["-e", f"trace={SYSCALLS}", "-e", "signal=none", "-o", str(output)]
        program = [sys.executable, "-m", "tests.torture.power_record", str(directory), url]
        settings = [scene.server.root_key.hex(), str(sends), mutant]
        tokens = [device.token for device in devices]
        subprocess.run([*watched, *program, *settings, *tokens], check=True, timeout=RECORD_S)
    files = {database, database.with_name(f"{DATABASE}-wal")}
    operations = read_record(output, files, directory / MARKS)
    sent = {
        str(mark.values[0]): Sent(
            str(mark.values[1]),
            devices[int(str(mark.values[0]).rpartition("-")[2]) % DEVICES].device_id,
        )
        for mark in operations
        if isinstance(mark, Mark) and mark.kind == "named"
    }
    (witnessed,) = server.told(Witnessed)
    findings = [
        Finding(Broken.REUSED if REUSED_TEXT in text else Broken.VIOLATION, text)
        for text in witnessed.violations
    ]
    return Recorded(before, database, operations, sent), findings


async def _make_template(scene: Scene, database: Path, tell: Tell) -> None:
    for device in await scene.move_in(f"sqlite:///{database}"):
        tell(Template(device.id, device.token))


def main(arguments: Sequence[str]) -> int:
    """Run the lane in this process, which must not have begun anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.power_loss")
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    configure(parser)
    options = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        print(f"  skipped: strace is not installed ({DEMANDED_BY}=1 makes this a failure)")
        return 1 if os.environ.get(DEMANDED_BY) == "1" else 0
    sends = options.sends or (SHARE_SENDS if options.share else SENDS)
    count = options.states or (SHARE_STATES if options.share else STATES)
    with tempfile.TemporaryDirectory() as directory:
        recorded, findings = record(Path(directory), sends, options.mutant or NONE)
    chosen = choose(recorded, count, Random(options.seed))
    workers = [
        Child(partial(_examine_all, recorded, chosen[start::WORKERS], options.seed))
        for start in range(WORKERS)
    ]
    examined: list[Examined] = []
    for worker in workers:
        assert worker.wait(CHECK_S) == 0
        examined += worker.told(Examined)
    return 0 if report(recorded, examined, findings) else 1


def report(recorded: Recorded, examined: Sequence[Examined], findings: Sequence[Finding]) -> bool:
    """Print what came out; whether everything held."""
    kinds = Counter(type(operation).__name__.lower() for operation in recorded.operations)
    print(f"  {len(recorded.sent)} sends:", ", ".join(f"{n} {k}" for k, n in kinds.most_common()))
    states = sum(one.states for one in examined)
    took_s = sum(one.took_s for one in examined)
    print(
        f"  {states} disks of {len(recorded.states())} possible ones,"
        f" {sum(one.marked for one in examined)} right after a promise;"
        f" {1000 * took_s / max(states, 1):.0f} ms each"
    )
    found = [*findings, *(finding for one in examined for finding in one.findings)]
    for broken, number in Counter(finding.broken for finding in found).most_common():
        print(f"  {broken}: {number}")
    for finding in found[:MAX_TOLD]:
        print(f"    {finding.broken}: {finding.text}")
    return not found and states > 0


# --- the lane ---


def configure(parser: ArgumentParser) -> None:
    """Add the options of this lane."""
    parser.add_argument("--states", type=int, help="disks to look at")
    parser.add_argument("--sends", type=int, help="messages in the record")
    parser.add_argument("--mutant", choices=[NORMAL, *sorted(MUTANTS)], help="one mistake")


async def run(options: Namespace) -> bool:
    """Run the lane in a process of its own: this one has an event loop, which cannot be forked."""
    arguments = [f"--seed={options.seed}", *(["--share"] if options.share else [])]
    for name in ("states", "sends", "mutant"):
        if (value := getattr(options, name)) is not None:
            arguments.append(f"--{name}={value}")
    done = await trio.run_process(
        [sys.executable, "-m", "tests.torture.power_loss", *arguments], check=False
    )
    return done.returncode == 0


LANE: Final = Lane("no loss of power loses what was promised", configure, run)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

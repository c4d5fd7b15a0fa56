"""Full disk: the database refuses, is locked, or does not say whether it has committed.

    python -m tests.torture.full_disk [--share] [--seed N] [--cases N] [--only KIND]

A daemon sends until there is no room left, at fifty sizes: by number of pages and by length of the
log, so that each transaction of a send is once the one that fails. Then there is room again, and
without a restart everything goes its way. The same with a lock that another process holds, and with
commits that fail, or take effect while their answer is lost.
"""

from __future__ import annotations

import argparse
import gc
import secrets
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio

from sitpayd.log import configure as configure_log
from sitpayd.storage import outbox
from sitpayd.storage.records import RowState
from sitpayd.whatsapp.codec import decode
from tests.support.waiting import eventually
from tests.torture.children import Child, Tell
from tests.torture.crash_play import Row, Template, Witnessed, serving
from tests.torture.house import House, open_house, watched
from tests.torture.lanes import Lane
from tests.torture.scene import Scene
from tests.torture.trouble import Kind, Refusals, Trouble, troubled
from tests.torture.verdict import REUSED_TEXT, Broken, Finding

# Most of their time they wait.
WORKERS: Final = 24
SIZES: Final = 25
TRANSACTIONS: Final = 12
LOCKS: Final = (0.1, 4.0, 6.0)
LOCKED_BEFORE: Final = ("accept", "arm", "mark_sent")
# Of so many cases one is in the share.
SHARE_OF: Final = 8
CASE_S: Final = 180.0
LANE_S: Final = 1500.0
# No more than this is sent while there is trouble.
MAX_SENDS: Final = 60
# Sends that follow the first refusal.
MORE_SENDS: Final = 2
RECOVERED_WITHIN_S: Final = 60.0
TEXT_LEN: Final = 3000
MAX_TOLD: Final = 20

OK, QUEUED, UNAVAILABLE = 200, 202, 503
_ARRIVED: Final = (RowState.SENT, RowState.DELIVERED, RowState.READ)
# What the daemon says of the trouble itself; anything else is a complaint about itself.
_EXPECTED: Final = (" event=device.storage_failed ", " event=storage.failed ")
_FULL: Final = (Kind.PAGES, Kind.LOG)
_FAILED: Final = (Kind.REFUSED, *_FULL)


# --- one case ---


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request, and its code if it is an error."""

    key: str
    status: int
    code: str | None


@dataclass(frozen=True, slots=True)
class Suffered:
    """What the daemon did.

    Attributes:
        refused: operations that the database refused, in order.
        was_ready: what /readyz said while there was trouble.
        answers: to the requests while there was trouble.
        left: WhatsApp's ids of the stanzas that had left by the time of `rows`.
        rows: what stood in the outbox while there was trouble.
        final: the answers to the same requests later; final_rows: what stands there then.
        recovered_s: seconds from the end of the trouble until it was ready and all was settled.
    """

    refused: tuple[str, ...]
    was_ready: bool
    answers: tuple[Answer, ...]
    left: frozenset[str]
    rows: tuple[Row, ...]
    final: tuple[Answer, ...]
    final_rows: tuple[Row, ...]
    recovered_s: float


@dataclass(frozen=True, slots=True)
class Case:
    """One trouble, and all that is known of it.

    Attributes:
        complaints: lines of the daemon about itself.
    """

    trouble: Trouble
    suffered: Suffered | None
    witnessed: Witnessed
    complaints: tuple[str, ...]


def judge(case: Case) -> list[Finding]:
    """Compare what was seen with what was promised."""
    return [Finding(broken, f"{text} ({case.trouble})") for broken, text in _judge(case)]


def _judge(case: Case) -> Iterator[tuple[Broken, str]]:
    for line in case.complaints:
        yield Broken.COMPLAINT, line
    for violation in case.witnessed.violations:
        yield Broken.REUSED if REUSED_TEXT in violation else Broken.VIOLATION, violation
    for wa_message_id, stanzas in case.witnessed.taken.items():
        if len(set(stanzas)) > 1:
            yield Broken.REENCRYPTED, f"{wa_message_id} with other bytes"
    if case.suffered is None:
        yield Broken.DIED, "the daemon did not get through it"
        return
    yield from _judge_trouble(case.trouble, case.suffered)
    yield from _judge_end(case.suffered, case.witnessed)


def _judge_trouble(trouble: Trouble, suffered: Suffered) -> Iterator[tuple[Broken, str]]:
    """Judge what was said and done while there was trouble."""
    stored = len(suffered.rows)
    not_stored = 0
    for answer in suffered.answers:
        match answer.status, answer.code:
            case ((200 | 202), _):
                pass
            case 503, "storage_full" if trouble.kind in _FAILED:
                not_stored += 1
            case 503, "overloaded" if trouble.kind is Kind.LOCK and trouble.amount > 5:
                not_stored += 1
            case status, code:
                yield Broken.REFUSED, f"{answer.key} was answered {status} {code}"
    if stored != len(suffered.answers) - not_stored:
        yield Broken.LOST, f"{len(suffered.answers)} asked, {not_stored} refused, {stored} stored"
    for row in suffered.rows:
        if row.state is RowState.ACCEPTED and row.wa_message_id in suffered.left:
            yield Broken.REENCRYPTED, f"{row.wa_message_id} has left and is only accepted"
        if row.state in (RowState.FAILED, RowState.EXPIRED, RowState.CANCELED, RowState.UNKNOWN):
            yield Broken.UNSETTLED, f"{row.wa_message_id} is {row.state}"
    if trouble.kind in _FULL and suffered.was_ready:
        yield Broken.REFUSED, "/readyz calls it ready without room"
    if trouble.kind in _FULL and not suffered.refused:
        yield Broken.UNSETTLED, "there always was room: nothing was tried"
    if trouble.kind is Kind.UNANSWERED and suffered.refused:
        yield Broken.UNSETTLED, f"{suffered.refused} were refused, although they were done"


def _judge_end(suffered: Suffered, witnessed: Witnessed) -> Iterator[tuple[Broken, str]]:
    """Judge what became of everything."""
    keys = {answer.key for answer in suffered.final}
    for answer in suffered.final:
        if answer.status != OK:
            yield Broken.UNSETTLED, f"{answer.key} is answered {answer.status} {answer.code} again"
    for row in suffered.final_rows:
        if row.state not in _ARRIVED:
            yield Broken.UNSETTLED, f"{row.wa_message_id} is {row.state} in the end"
    if len(suffered.final_rows) != len(keys):
        yield Broken.SPLIT, f"{len(keys)} keys, {len(suffered.final_rows)} rows"
    shown = Counter(text.partition(" ")[0] for text in witnessed.shown if text is not None)
    for key in keys:
        if shown[key] != 1:
            yield Broken.TWICE if shown[key] else Broken.LOST, f"{key} is shown {shown[key]} times"


class Ward:
    """Where a daemon suffers, and gets well again.

    Args:
        directory: for its database.
    """

    def __init__(self, scene: Scene, directory: Path) -> None:
        self._scene = scene
        self._path = directory / "sitpayd.db"
        self._log = directory / "log"
        maker = Child(lambda tell: trio.run(self._make, tell))
        assert maker.wait(CASE_S) == 0
        (self._device,) = maker.told(Template)

    async def _make(self, tell: Tell) -> None:
        (device,) = await self._scene.move_in(f"sqlite:///{self._path}")
        tell(Template(device.id, device.token))

    def case(self, trouble: Trouble) -> Case:
        """Let it suffer."""
        with serving(self._scene) as (server, url):
            daemon = Child(partial(self._live, url, trouble))
            daemon.wait(CASE_S)
        (witnessed,) = server.told(Witnessed)
        lines = self._log.read_text(encoding="utf-8").splitlines()
        complaints = [line for line in lines if " level=error " in line or "level=" not in line]
        return Case(
            trouble,
            next(iter(daemon.told(Suffered)), None),
            witnessed,
            tuple(line for line in complaints if not any(word in line for word in _EXPECTED)),
        )

    def _live(self, url: str, trouble: Trouble, tell: Tell) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            configure_log("info", "text", log)
            trio.run(self._at_home, url, trouble, tell)

    async def _at_home(self, url: str, trouble: Trouble, tell: Tell) -> None:
        left: list[str] = []

        def note(stanza: bytes) -> None:
            left.append(decode(stanza).required_text("id"))

        root_key = self._scene.server.root_key
        async with open_house(self._path, url, root_key, converse=watched(note)) as house:
            await house.connected()
            tell(await self._suffer(house, trouble, left))

    async def _suffer(self, house: House, trouble: Trouble, left: list[str]) -> Suffered:
        refusals = Refusals(house.database)
        answers = [await self._send(house, "before")]
        async with troubled(trouble, house.database, self._path, refusals):
            answers += await self._send_on(house, trouble, refusals)
            was_ready = await house.is_ready() if trouble.kind in _FULL else True
            # First what has left: a row may only be further than its stanza.
            gone = frozenset(left)
            rows = await self._rows(house)
            refused = tuple(refusals.refused)
        begun = trio.current_time()
        with suppress(AssertionError):  # the verdict tells what is not settled
            await eventually(house.is_ready, "it is ready", RECOVERED_WITHIN_S)
            await eventually(partial(self._is_settled, house), "all is sent", RECOVERED_WITHIN_S)
        recovered_s = trio.current_time() - begun
        final = [await self._send(house, answer.key, wait_s=25) for answer in answers]
        return Suffered(
            refused=refused,
            was_ready=was_ready,
            answers=tuple(answers),
            left=gone,
            rows=rows,
            final=tuple(final),
            final_rows=await self._rows(house),
            recovered_s=recovered_s,
        )

    async def _send_on(self, house: House, trouble: Trouble, refusals: Refusals) -> list[Answer]:
        """Send until something is refused, and a little longer."""
        answers: list[Answer] = []
        more = MORE_SENDS
        most = MAX_SENDS if trouble.kind in _FULL else MORE_SENDS + 1
        wait_s = 25 if trouble.kind is Kind.LOCK else 1
        while more and len(answers) < most:
            answers.append(await self._send(house, f"send-{len(answers)}", wait_s))
            more -= bool(refusals.refused)
        return answers

    async def _send(self, house: House, key: str, wait_s: int = 1) -> Answer:
        text = f"{key} " + "x" * TEXT_LEN
        answer = await house.send(self._device.token, key, text, Prefer=f"wait={wait_s}")
        body = await answer.get_json()
        return Answer(key, answer.status_code, body.get("code"))

    async def _is_settled(self, house: House) -> bool:
        return all(row.state.is_settled for row in await self._rows(house))

    async def _rows(self, house: House) -> tuple[Row, ...]:
        page = await house.database.read(outbox.messages, self._device.device_id)
        assert page is not None
        return tuple(Row(view.wa_message_id, RowState(view.state)) for view in page.messages)


# --- all of them ---


def cases() -> list[Trouble]:
    """Every trouble of the lane."""
    troubles = [Trouble(Kind.PAGES, pages) for pages in range(SIZES)]
    # Half frames, too: a file may end anywhere.
    troubles += [Trouble(Kind.LOG, 2.5 * frames) for frames in range(SIZES)]
    troubles += [Trouble(Kind.LOCK, s, before) for s in LOCKS for before in LOCKED_BEFORE]
    for number in range(1, TRANSACTIONS + 1):
        troubles += [Trouble(Kind.REFUSED, number), Trouble(Kind.UNANSWERED, number)]
    return troubles


def _work(scene: Scene, troubles: Sequence[Trouble], tell: Tell) -> None:
    for trouble in troubles:
        with tempfile.TemporaryDirectory() as directory:
            tell(Ward(scene, Path(directory)).case(trouble))


def suffer(scene: Scene, troubles: Sequence[Trouble]) -> list[Case]:
    """Go through all of these."""
    workers = [Child(partial(_work, scene, troubles[start::WORKERS])) for start in range(WORKERS)]
    found: list[Case] = []
    for worker in workers:
        assert worker.wait(LANE_S) == 0
        found += worker.told(Case)
    return found


def report(found: Sequence[Case], took_s: float) -> bool:
    """Print what came out; whether everything held."""
    for kind in Kind:
        mine = [case for case in found if case.trouble.kind is kind]
        if not mine:
            continue
        first = Counter(
            case.suffered.refused[0] if case.suffered and case.suffered.refused else "nothing"
            for case in mine
        )
        waits = [case.suffered.recovered_s for case in mine if case.suffered]
        refused = ", ".join(f"{name} {number}" for name, number in first.most_common())
        print(
            f"  {kind}: {len(mine)} cases; refused first: {refused};"
            f" recovered within {max(waits, default=0):.1f} s"
        )
    findings = [finding for case in found for finding in judge(case)]
    for broken, number in Counter(finding.broken for finding in findings).most_common():
        print(f"  {broken}: {number}")
    for finding in findings[:MAX_TOLD]:
        print(f"    {finding.broken}: {finding.text}")
    print(f"  {len(found)} cases in {took_s:.0f} s")
    return not findings and bool(found)


def main(arguments: Sequence[str]) -> int:
    """Run the lane in this process, which must not have begun anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.full_disk")
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    configure(parser)
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    troubles = [trouble for trouble in cases() if options.only in (None, trouble.kind)]
    Random(options.seed).shuffle(troubles)
    if options.share:
        troubles = troubles[::SHARE_OF]
    troubles = troubles[: options.cases]
    scene = Scene.make()
    gc.freeze()
    found = suffer(scene, troubles)
    return 0 if report(found, time.monotonic() - begun) and len(found) == len(troubles) else 1


# --- the lane ---


def configure(parser: ArgumentParser) -> None:
    """Add the options of this lane."""
    parser.add_argument("--cases", type=int, help="ends after so many cases")
    parser.add_argument("--only", choices=[str(kind) for kind in Kind], help="one kind of trouble")


async def run(options: Namespace) -> bool:
    """Run the lane in a process of its own: this one has an event loop, which cannot be forked."""
    arguments = [f"--seed={options.seed}", *(["--share"] if options.share else [])]
    for name in ("cases", "only"):
        if (value := getattr(options, name)) is not None:
            arguments.append(f"--{name}={value}")
    done = await trio.run_process(
        [sys.executable, "-m", "tests.torture.full_disk", *arguments], check=False
    )
    return done.returncode == 0


LANE: Final = Lane("full, locked or silent, the database breaks no promise", configure, run)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

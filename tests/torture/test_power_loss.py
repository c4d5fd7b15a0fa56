"""Some disks that a loss of power leaves, and the model of a disk; the rest is `make torture`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.peers.install import skip_or_fail
from tests.torture.disk_ops import (
    SECTOR_LEN,
    Disk,
    Loss,
    Mark,
    Operation,
    Remove,
    Sync,
    Truncate,
    Write,
    read_record,
)
from tests.torture.power_loss import DEMANDED_BY

FILE, LOG = Path("/state/db"), Path("/state/db-wal")


def disk(*operations: Operation) -> Disk:
    made = Disk({FILE: bytearray(b"old")})
    for operation in operations:
        made.take(operation)
    return made


def left(disk: Disk, loss: Loss, seed: int = 1) -> dict[Path, bytes]:
    return disk.after(loss, Random(seed))


def test_what_is_synced_stays() -> None:
    synced = disk(Write(FILE, 0, b"new"), Sync(FILE, 1))
    assert synced.is_certain
    assert all(left(synced, loss) == {FILE: b"new"} for loss in (Loss.KEPT, Loss.DROPPED))


def test_what_is_not_synced_may_be_gone() -> None:
    pending = disk(Write(FILE, 0, b"new"))
    assert left(pending, Loss.DROPPED) == {FILE: b"old"}
    assert left(pending, Loss.KEPT) == {FILE: b"new"}


def test_a_sync_of_one_file_says_nothing_of_another() -> None:
    pending = disk(Write(FILE, 0, b"new"), Write(LOG, 0, b"log"), Sync(LOG, 2))
    assert left(pending, Loss.DROPPED) == {FILE: b"old", LOG: b"log"}


def test_what_is_written_while_a_sync_runs_is_not_covered() -> None:
    pending = disk(Write(FILE, 0, b"new"), Write(FILE, 0, b"newer"), Sync(FILE, 1))
    assert left(pending, Loss.DROPPED) == {FILE: b"new"}


def test_a_torn_write_ends_at_a_sector() -> None:
    data = b"x" * 4 * SECTOR_LEN
    pending = disk(Write(LOG, 0, data))
    lengths = {len(left(pending, Loss.TORN, seed).get(LOG, b"")) for seed in range(50)}
    assert lengths == {0, SECTOR_LEN, 2 * SECTOR_LEN, 3 * SECTOR_LEN}


def test_scattered_sectors_leave_holes() -> None:
    pending = disk(Write(LOG, 0, b"x" * 8 * SECTOR_LEN))
    assert any(
        b"\0" * SECTOR_LEN in left(pending, Loss.SCATTERED, seed).get(LOG, b"")
        for seed in range(50)
    )


def test_a_removed_or_cut_file_may_still_be_whole() -> None:
    pending = disk(Truncate(FILE, 1), Remove(FILE))
    assert left(pending, Loss.DROPPED) == {FILE: b"old"}
    assert left(pending, Loss.TORN) == {FILE: b"o"}
    assert left(pending, Loss.KEPT) == {}


def escaped(text: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text)


def test_a_record_is_read_in_the_order_of_its_calls(tmp_path: Path) -> None:
    log, marks = escaped(bytes(LOG)), escaped(b"/state/marks")
    record = tmp_path / "record"
    record.write_text(
        f'7  pwrite64(4<{log}>, "{escaped(b"abc")}", 3, 32) = 3\n'
        f"7  fdatasync(4<{log}> <unfinished ...>\n"
        f'8  write(9<{marks}>, "{escaped(b"""["answered", "key", 200]""")}", 24) = 24\n'
        f"7  <... fdatasync resumed>)       = 0\n"
        f"7  ftruncate(4<{log}>, 0)         = 0\n"
        f'7  unlink("{log}")                = 0\n'
        f'7  write(2<{escaped(b"/dev/null")}>, "{escaped(b"abc")}", 3) = 3\n'
    )
    assert read_record(record, {FILE, LOG}, Path("/state/marks")) == [
        Write(LOG, 32, b"abc"),
        Mark("answered", ("key", 200)),
        Sync(LOG, 1),
        Truncate(LOG, 0),
        Remove(LOG),
    ]


def test_no_loss_of_power_loses_what_was_promised() -> None:
    if shutil.which("strace") is None:
        skip_or_fail("strace is not installed", demanded_by=DEMANDED_BY)
    lane = [sys.executable, "-m", "tests.torture.power_loss", "--sends=8", "--states=60"]
    done = subprocess.run(
        [*lane, "--seed=1"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 disks" in done.stdout

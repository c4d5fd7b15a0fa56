"""What a program did to its files, from strace's record, and which disks a power loss can leave.

The model is that of a disk behind a page cache: what was written before a completed fsync of the
file is there; of what was written since, any sectors are there or are not. A name that was removed
may still be there.

Source: sqlite.org/atomiccommit.html, sections 2 and 9; Pillai et al., "All File Systems Are Not
Created Equal", OSDI 2014.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from random import Random
from typing import Final

SECTOR_LEN: Final = 512
SYSCALLS: Final = "pwrite64,write,fsync,fdatasync,ftruncate,unlink"

_LINE: Final = re.compile(rb"(\d+) +(<\.\.\. )?(\w+)( resumed>)?(.*)", re.DOTALL)
_FILE: Final = re.compile(rb"\((?:\d+<)?\"?((?:\\x[0-9a-f]{2})+)")
_DATA: Final = re.compile(rb", \"((?:\\x[0-9a-f]{2})*)\", (\d+)(?:, (\d+))?")
_SIZE: Final = re.compile(rb">, (\d+)")
_UNFINISHED: Final = b"<unfinished ...>"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written at an offset."""

    path: Path
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut, or made longer, to a size."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A name taken away."""

    path: Path


@dataclass(frozen=True, slots=True)
class Sync:
    """A completed fsync; `before` counts the operations that had begun when it was called."""

    path: Path
    before: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A note of the program itself."""

    kind: str
    values: tuple[object, ...]


Change = Write | Truncate | Remove
Operation = Change | Sync | Mark


def read_record(record: Path, files: set[Path], marks: Path) -> list[Operation]:
    """Read what strace wrote, made with -f -y -xx: changes of these files, syncs and marks."""
    operations: list[Operation] = []
    begun: dict[bytes, Sync] = {}
    with record.open("rb") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, is_rest, call, _, rest = match.groups()
            if is_rest:
                sync = begun.pop(thread, None)
                if sync is not None and b"= 0" in rest:
                    operations.append(sync)
                continue
            named = _FILE.match(rest)
            path = Path(_bytes(named[1]).decode()) if named else None
            if path == marks:
                data = _DATA.search(rest)
                assert data is not None
                kind, *values = json.loads(_bytes(data[1]))
                operations.append(Mark(kind, tuple(values)))
            if path is None or path not in files or b"= -1" in rest:
                continue
            if call in (b"fsync", b"fdatasync"):
                sync = Sync(path, len(operations))
                if _UNFINISHED in rest:
                    begun[thread] = sync
                else:
                    operations.append(sync)
            else:
                operations.append(_change(call, path, rest))
    return operations


def _change(call: bytes, path: Path, rest: bytes) -> Change:
    if call == b"unlink":
        return Remove(path)
    if call == b"ftruncate":
        size = _SIZE.search(rest)
        assert size is not None
        return Truncate(path, int(size[1]))
    data = _DATA.search(rest)
    if data is None or data[3] is None:
        raise AssertionError(f"the database is written with {call.decode()}")
    content = _bytes(data[1])
    assert len(content) == int(data[2]), "strace has cut the data"
    return Write(path, int(data[3]), content)


def _bytes(escaped: bytes) -> bytes:
    return bytes.fromhex(escaped.replace(rb"\x", b"").decode())


class Loss(Enum):
    """What becomes of changes that no fsync covers.

    KEPT: all are there. DROPPED: none is. TORN: all but the last, of which only the first sectors
    are. SCATTERED: of each any sectors.
    """

    KEPT = auto()
    DROPPED = auto()
    TORN = auto()
    SCATTERED = auto()


@dataclass
class Disk:
    """Files as they are for certain, and the changes since.

    Attributes:
        files: what an fsync has covered, by path; a file that is not there is missing.
    """

    files: dict[Path, bytearray]
    _pending: list[tuple[int, Change]] = field(default_factory=list)
    _count: int = 0

    def take(self, operation: Operation) -> None:
        """Go one operation further."""
        match operation:
            case Sync(path=path, before=before):
                covered = [
                    change
                    for number, change in self._pending
                    if change.path == path and number < before
                ]
                for change in covered:
                    _apply(self.files, change)
                self._pending = [
                    (number, change)
                    for number, change in self._pending
                    if change.path != path or number >= before
                ]
            case Mark():
                pass
            case change:
                self._pending.append((self._count, change))
        self._count += 1

    @property
    def is_certain(self) -> bool:
        """Whether a power loss could change nothing."""
        return not self._pending

    def after(self, loss: Loss, random: Random) -> dict[Path, bytes]:
        """The files that one loss of power leaves."""
        files = {path: bytearray(content) for path, content in self.files.items()}
        for change in self._survivors(loss, random):
            _apply(files, change)
        return {path: bytes(content) for path, content in files.items()}

    def _survivors(self, loss: Loss, random: Random) -> Iterator[Change]:
        changes = [change for _, change in self._pending]
        match loss:
            case Loss.DROPPED:
                return
            case Loss.KEPT:
                yield from changes
            case Loss.TORN:
                yield from changes[:-1]
                last = changes[-1]
                if isinstance(last, Write):
                    sectors = -(-len(last.data) // SECTOR_LEN)
                    length = SECTOR_LEN * random.randrange(sectors)
                    yield Write(last.path, last.offset, last.data[:length])
            case Loss.SCATTERED:
                for change in changes:
                    if isinstance(change, Write):
                        yield from _sectors(change, random)
                    elif random.random() < 0.5:
                        yield change


def _sectors(write: Write, random: Random) -> Iterator[Write]:
    """Some sectors of a write; they lie where the disk has them, not where the write begins."""
    begin = 0
    while begin < len(write.data):
        length = SECTOR_LEN - (write.offset + begin) % SECTOR_LEN
        if random.random() < 0.5:
            yield Write(write.path, write.offset + begin, write.data[begin : begin + length])
        begin += length


def _apply(files: dict[Path, bytearray], change: Change) -> None:
    if isinstance(change, Remove):
        files.pop(change.path, None)
        return
    content = files.setdefault(change.path, bytearray())
    match change:
        case Write(offset=offset, data=data):
            if data:
                content.extend(bytes(max(0, offset + len(data) - len(content))))
                content[offset : offset + len(data)] = data
        case Truncate(size=size):
            del content[size:]
            content.extend(bytes(size - len(content)))

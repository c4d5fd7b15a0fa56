"""Children: processes forked from one that has imported everything and opened nothing.

SQLite and threads do not survive a fork, so whoever forks here must have neither, and no event
loop. A child reports values through a pipe, which outlives it.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
Tell = Callable[[object], None]

# Exit status of a child whose work raised.
FAILED: Final = 1

# A servant has done what it was told.
_DONE: Final = "done"

# Source: prctl(2).
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class Child:
    """A forked process."""

    def __init__(self, work: Callable[[Tell], None]) -> None:
        self._reading, writing = os.pipe()
        self._told = bytearray()
        self._is_over = False
        self._pid = os.fork()
        if not self._pid:
            os.close(self._reading)
            _live(work, writing)
        os.close(writing)

    def listen(self, for_s: float) -> bool:
        """Take what it tells; whether it has ended, which is the earliest end of the time."""
        deadline = time.monotonic() + for_s
        while not self._is_over and (left_s := deadline - time.monotonic()) > 0:
            if select.select([self._reading], [], [], left_s)[0]:
                data = os.read(self._reading, 1 << 16)
                self._told += data
                self._is_over = not data
        return self._is_over

    def answers(self, within_s: float) -> list[object] | None:
        """Take what it tells up to the next `_DONE`; None: that did not come."""
        deadline = time.monotonic() + within_s
        while not self._is_over and (left_s := deadline - time.monotonic()) > 0:
            told = self.told(object)
            if _DONE in told:
                self._told.clear()
                return told[: told.index(_DONE)]
            if select.select([self._reading], [], [], left_s)[0]:
                data = os.read(self._reading, 1 << 16)
                self._told += data
                self._is_over = not data
        return None

    def wait(self, within_s: float) -> int | None:
        """Wait for its end; returns its exit status. None: it had to be killed."""
        is_over = self.listen(within_s)
        os.close(self._reading)
        if not is_over:
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status) if is_over else None

    def told(self, kind: type[T]) -> list[T]:
        """The values of this type that it told, in order."""
        values = []
        pipe = io.BytesIO(self._told)
        while pipe.tell() < len(self._told):
            try:
                values.append(pickle.load(pipe))
            except (EOFError, pickle.UnpicklingError):
                break  # it died while it told this one
        return [value for value in values if isinstance(value, kind)]


class Servant:
    """A forked process that does one thing after another, as it is told.

    Args:
        work: does one of them; what it tells is the answer.
    """

    def __init__(self, work: Callable[[object, Tell], None]) -> None:
        reading, self._orders = os.pipe()

        def serve(tell: Tell) -> None:
            os.close(self._orders)
            with os.fdopen(reading, "rb") as orders:
                # Its master's end is its own.
                while orders.peek(1):
                    work(pickle.load(orders), tell)
                    tell(_DONE)

        self._child = Child(serve)
        os.close(reading)

    def do(self, order: object, within_s: float) -> list[object] | None:
        """Give an order and wait for the answers; None: it died over it, or had to be killed."""
        os.write(self._orders, pickle.dumps(order))
        answers = self._child.answers(within_s)
        if answers is None:
            os.close(self._orders)
            self._child.wait(0)
        return answers


def _live(work: Callable[[Tell], None], writing: int) -> None:
    """Do the work, and end without the cleaning up that belongs to the parent."""
    # Nobody is left behind by a lane that is interrupted.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def tell(value: object) -> None:
        data = pickle.dumps(value)
        while data:
            data = data[os.write(writing, data) :]

    try:
        work(tell)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)

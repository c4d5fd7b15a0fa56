"""The witness of a simulated world: sees every frame and every commit, and judges at the end.

What it sees becomes the trace, whose digest tells two runs apart. What must never be is looked for
at each step (INV3, INV5) or when everything has come to rest.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

import trio

from sitpayd.simulator.routing import LEAVES_OUT
from sitpayd.simulator.violations import Kind, Violation
from sitpayd.storage.records import CAME_FROM, RowState, to_micros
from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.events import Event
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import Pattern
from sitpayd.whatsapp.schema.whatsapp_pb2 import SignalMessage
from sitpayd.whatsapp.signal.session import parse_prekey_message
from sitpayd.whatsapp.stanzas.message import Enc, parse_outgoing
from tests.torture.verdict import REUSED_TEXT

# What a bad network makes of an honest client.
_EXCUSED: Final = frozenset({Kind.NOISE, Kind.SILENT, Kind.UNANSWERED})
_MAC_LEN: Final = 8


class Breach(StrEnum):
    """Which promise was broken; the invariants' numbers are those of the design."""

    LOST = "INV1 answered as sent and not shown"
    TWICE = "INV2 shown twice"
    REUSED = "INV3 ratchet counter reused"
    REENCRYPTED = "INV3 encrypted again under one id"
    UNSAVED = "INV3 on the wire before it was stored"
    DISORDER = "INV4 out of order"
    BACKWARDS = "INV5 a state moved the wrong way"
    FOREIGN = "INV6 another tenant's message"
    UNSETTLED = "INV7 no end"
    SWOLLEN = "INV8 something grows"
    FALSE_REFUSAL = "refused and shown"
    FORGED = "shown and never sent"
    SPLIT = "two messages under one key"
    ANSWER = "an answer that nothing here deserves"
    VIOLATION = "protocol violation"
    COMPLAINT = "the daemon complains"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: which, when (seconds), and what exactly."""

    breach: Breach
    at: float
    text: str


@dataclass(slots=True)
class Row:
    """A row of the outbox as it was last committed."""

    id: int
    device_id: int
    seq: int
    message_id: str
    wa_message_id: str
    state: RowState
    reason: str | None


@dataclass
class Witness:
    """What happened in one world.

    Attributes:
        rows: of the outbox, by id, as last committed.
        is_verbose: print the trace.
        parts: how often a message was written for devices that had missed it.
    """

    driver: sqlite3.Connection
    is_verbose: bool = False
    findings: list[Finding] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)
    events: int = 0
    parts: int = 0
    _trace: hashlib._Hash = field(default_factory=hashlib.sha256)
    _written: Counter[str] = field(default_factory=Counter)
    _counters: dict[tuple[str, str, bytes, int], bytes] = field(default_factory=dict)

    # --- the trace ---

    def note(self, what: str, detail: str | bytes = "") -> None:
        """Add something to the trace."""
        self.events += 1
        now = trio.current_time()
        data = detail if isinstance(detail, bytes) else detail.encode()
        self._trace.update(f"{now!r}|{what}|{len(data)}|".encode() + data)
        if self.is_verbose:
            shown = detail if isinstance(detail, str) else f"{len(detail)} bytes"
            print(f"{now:12.6f} {what} {shown}", flush=True)

    @property
    def digest(self) -> str:
        """The digest of the trace."""
        return self._trace.hexdigest()

    def accuse(self, breach: Breach, text: str) -> None:
        """Note a broken promise."""
        self.findings.append(Finding(breach, trio.current_time(), text))
        if self.is_verbose:
            print(f"{trio.current_time():12.6f} *** {breach}: {text}", flush=True)

    # --- the disk ---

    def committed(self) -> None:
        """Compare the outbox with what it was before this commit."""
        for id, device_id, seq, message_id, wa_message_id, name, reason in self.driver.execute(
            "SELECT id, device_id, seq, message_id, wa_message_id, state, reason FROM outbox"
        ):
            state, known = RowState(name), self.rows.get(id)
            if known is not None and known.state is state:
                if known.wa_message_id != wa_message_id:
                    self.accuse(Breach.BACKWARDS, f"{message_id} has got another id")
                    known.wa_message_id = wa_message_id
                continue
            before = None if known is None else known.state
            self.note("row", f"{seq} of {device_id}: {before} -> {state} {reason or ''}")
            legal = state is RowState.ACCEPTED if before is None else before in CAME_FROM[state]
            if not legal:
                self.accuse(Breach.BACKWARDS, f"{message_id}: {before} -> {state}")
            self.rows[id] = Row(id, device_id, seq, message_id, wa_message_id, state, reason)

    def held(self, now: datetime) -> set[str]:
        """The message ids of accepted rows that say why they wait, and until when."""
        rows = self.driver.execute(
            "SELECT message_id FROM outbox WHERE state = 'accepted' AND held_until > ?"
            " AND held_reason IS NOT NULL",
            (to_micros(now),),
        )
        return {message_id for (message_id,) in rows}

    @property
    def marked(self) -> dict[str, int]:
        """The device of each row that missed devices, by message id."""
        return dict(
            self.driver.execute("SELECT message_id, device_id FROM outbox WHERE missed_devices")
        )

    # --- the wire ---

    def frame(self, end: str, data: bytes) -> None:
        """A frame has arrived."""
        self.note(end, data)

    def tap(self, owner: str, connection: Connection) -> Connection:
        """See what a daemon writes before it is encrypted for the wire."""
        return _Tap(connection, owner, self)  # type: ignore[return-value]  # the same shape

    def written(self, owner: str, item: Node | bytes) -> None:
        """Judge what is about to be written."""
        node = decode(item) if isinstance(item, bytes) else item
        if self.is_verbose:
            self.note("write", f"{owner} {_brief(node)}")
        if node.tag != "message":
            return
        sent = parse_outgoing(node)
        if isinstance(item, bytes):
            self._written[sent.id] += 1
            self.parts += sent.is_partial
        if isinstance(item, bytes) and not any(
            row.wa_message_id == sent.id and row.state is not RowState.ACCEPTED
            for row in self.rows.values()
        ):
            self.accuse(Breach.UNSAVED, sent.id)
        for jid, enc in sent.participants:
            ratchet_key, counter = _place(enc)
            digest = hashlib.sha256(enc.body).digest()
            place = (owner, str(jid), ratchet_key, counter)
            if self._counters.setdefault(place, digest) != digest:
                self.accuse(Breach.REUSED, f"{sent.id} from {owner} to {jid}")

    # --- the end ---

    def violations(self, broken: Iterable[Violation], *, forgetful: bool) -> None:
        """Judge what the server has to complain about."""
        for violation in broken:
            if violation.kind in _EXCUSED:
                continue
            if forgetful and violation.kind is Kind.UNDECRYPTABLE:
                continue
            if violation.kind is Kind.FANOUT and self._is_stale(violation.text):
                continue
            breach = Breach.VIOLATION
            if violation.kind is Kind.SIGNAL and REUSED_TEXT in violation.text:
                breach = Breach.REUSED
            if violation.kind is Kind.DUPLICATE:
                breach = Breach.REENCRYPTED
            self.accuse(breach, f"{violation.kind.value} {violation.device}: {violation.text}")

    def _is_stale(self, text: str) -> bool:
        """Whether a message left a device out only because it was armed before that was linked.

        The server saw a repetition first: what was written before it never came.
        """
        _, message_id, *_ = text.split()
        return LEAVES_OUT in text and self._written[message_id.rstrip(":")] > 1

    def order(self, device_id: int, screen: str, shown: Iterable[str]) -> None:
        """Judge the order in which one device's messages stand in one chat, by WhatsApp's ids."""
        seqs: Mapping[str, int] = {
            row.wa_message_id: row.seq for row in self.rows.values() if row.device_id == device_id
        }
        last = -1
        for id in shown:
            seq = seqs.get(id)
            if seq is None:
                continue
            if seq < last:
                self.accuse(Breach.DISORDER, f"{screen} shows {seq} after {last}")
            last = max(seq, last)


class _Tap:
    """A connection that is listened to."""

    def __init__(self, connection: Connection, owner: str, witness: Witness) -> None:
        self._connection = connection
        self._owner = owner
        self._witness = witness
        self.data_to_send: Callable[[], list[bytes]] = connection.data_to_send
        self.receive: Callable[[bytes], list[Event]] = connection.receive

    @property
    def has_failed(self) -> bool:
        return self._connection.has_failed

    @property
    def pattern(self) -> Pattern:
        return self._connection.pattern

    def send(self, node: Node) -> None:
        self._witness.written(self._owner, node)
        self._connection.send(node)

    def send_encoded(self, stanza: bytes) -> None:
        self._witness.written(self._owner, stanza)
        self._connection.send_encoded(stanza)


def _place(enc: Enc) -> tuple[bytes, int]:
    """Ratchet key and counter of a ciphertext."""
    body = parse_prekey_message(enc.body).message if enc.kind == "pkmsg" else enc.body
    message = SignalMessage.FromString(body[1:-_MAC_LEN])
    return message.ratchetKey, message.counter


def _brief(node: Node) -> str:
    children = " ".join(child.tag for child in node.children)
    attrs = " ".join(f"{name}={value}" for name, value in node.attrs.items())
    return f"<{node.tag} {attrs}> {children} {len(encode(node))}"

"""The verdict of a storm, from what can be seen outside the daemon. Pure.

A partner's program knows what it was answered; the phones know what they show, and decide by their
ratchets; the server knows every ciphertext that was on the wire. Nothing is asked of the daemon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.torture.plan import Draft

REUSED_TEXT: Final = "a ratchet counter was used for two messages"


class Broken(StrEnum):
    """Which promise was broken.

    LOST: answered as sent and shown nowhere. TWICE: shown more than once by one phone. REUSED: one
    ratchet counter, two ciphertexts. REENCRYPTED: one id, two ciphertexts, unasked. DISORDER: shown
    in another order than accepted. UNSETTLED: no final answer. REFUSED: an answer that nothing here
    deserves. FORGED: shown, and never sent like this. SPLIT: one
    idempotency key, two messages. VIOLATION: another broken rule of the
    protocol. DIED: the daemon ended by itself. COMPLAINT: it logged an error.
    DAMAGED: its database does not pass a check.
    """

    LOST = "lost"
    TWICE = "shown twice"
    REUSED = "ratchet counter reused"
    REENCRYPTED = "encrypted again under one id"
    DISORDER = "out of order"
    UNSETTLED = "without a final answer"
    REFUSED = "wrongly refused"
    FORGED = "shown but never sent"
    SPLIT = "two messages under one key"
    VIOLATION = "protocol violation"
    DIED = "the daemon ended by itself"
    COMPLAINT = "the daemon logged an error"
    DAMAGED = "the database is damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise; the text names whose, by serial, id or number."""

    broken: Broken
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as one screen shows it: a phone's, or a linked device's.

    Attributes:
        from_me: a copy of what a companion of the own account sent.
    """

    id: str
    text: str
    from_me: bool = False


class Fate(StrEnum):
    """What a partner's program knows of its message in the end."""

    OPEN = "open"
    SENT = "sent"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Screen:
    """Where messages are shown.

    Attributes:
        number: of its account.
        device: index of a linked device; None: the phone.
    """

    number: str
    device: int | None
    shown: Sequence[Shown]

    @property
    def name(self) -> str:
        """How findings name it."""
        return f"{'phone' if self.device is None else f'device {self.device}'} of {self.number}"


def judge_screens(
    drafts: Sequence[Draft],
    accounts: Sequence[str],
    fates: Mapping[int, Fate],
    screens: Iterable[Screen],
) -> list[Finding]:
    """Compare what was sent with what is shown.

    Args:
        accounts: number of each device's account.
        fates: by serial, of the messages that must have arrived if they are SENT; one that is not
            here may still be under way.
    """
    findings: list[Finding] = []
    for screen in screens:
        expected = {(False, d.text): d for d in drafts if d.to == screen.number}
        for draft in drafts:
            # What a device sends itself is in its own list of sent messages, not a copy.
            if accounts[draft.device] == screen.number and draft.device != screen.device:
                expected[True, draft.text] = draft
        findings += _compare(screen, expected, fates)
    return findings


def _compare(
    screen: Screen, expected: Mapping[tuple[bool, str], Draft], fates: Mapping[int, Fate]
) -> list[Finding]:
    findings: list[Finding] = []
    ids: dict[tuple[bool, str], list[str]] = defaultdict(list)
    last: dict[tuple[bool, int], int] = {}
    for item in screen.shown:
        place = (item.from_me, item.text)
        draft = expected.get(place)
        if draft is None:
            findings.append(Finding(Broken.FORGED, f"{screen.name} shows {item.id}"))
            continue
        if place not in ids:
            chat = (item.from_me, draft.chat)
            if draft.serial < last.get(chat, -1):
                text = f"{screen.name} shows #{draft.serial} after #{last[chat]}"
                findings.append(Finding(Broken.DISORDER, text))
            last[chat] = max(draft.serial, last.get(chat, -1))
        ids[place].append(item.id)
    for place, draft in expected.items():
        times = ids.get(place, [])
        what = f"#{draft.serial} at {screen.name}"
        if len(times) > 1:
            under = "one id" if len(set(times)) == 1 else f"{len(set(times))} ids"
            findings.append(Finding(Broken.TWICE, f"{what}, {len(times)} times under {under}"))
        if not times and fates.get(draft.serial) is Fate.SENT:
            findings.append(Finding(Broken.LOST, what))
    return findings


def judge_fates(fates: Mapping[int, Fate], reasons: Mapping[int, str]) -> list[Finding]:
    """Judge the answers when nothing is under way any more."""
    findings = []
    for serial, fate in fates.items():
        if fate is Fate.OPEN:
            findings.append(Finding(Broken.UNSETTLED, f"#{serial}"))
        if fate is Fate.REFUSED:
            findings.append(Finding(Broken.REFUSED, f"#{serial}: {reasons.get(serial)}"))
    return findings


def judge_rows(drafts: Iterable[Draft], rows: Iterable[tuple[str, str]]) -> list[Finding]:
    """Compare what a device's list of messages says with what its programs wrote.

    Args:
        rows: text and state of each outgoing message.
    """
    findings = []
    states: dict[str, list[str]] = defaultdict(list)
    for text, state in rows:
        states[text].append(state)
    for draft in drafts:
        listed = states[draft.text]
        what = f"#{draft.serial} is listed as {', '.join(listed) or 'nothing'}"
        if len(listed) > 1:
            findings.append(Finding(Broken.SPLIT, what))
        # Every phone here confirms what it shows, and says so until it is heard.
        if listed != ["delivered"]:
            findings.append(Finding(Broken.UNSETTLED, what))
    return findings


def judge_server(violations: Iterable[Mapping[str, object]]) -> list[Finding]:
    """Judge what the server has seen: its list of violations."""
    findings = []
    for violation in violations:
        kind, text = violation["kind"], f"{violation['device']}: {violation['text']}"
        broken = Broken.VIOLATION
        if kind == "signal" and REUSED_TEXT in text:
            broken = Broken.REUSED
        if kind == "duplicate":
            broken = Broken.REENCRYPTED
        findings.append(Finding(broken, f"{kind} {text}"))
    return findings

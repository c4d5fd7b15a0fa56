"""The verdict of the conversation, from what was accepted and what is shown. Pure.

Every text is written once, so a text tells its message. A screen is whatever shows messages: a
phone, a companion of the simulator, a device of the daemon, a Baileys. It should show what its
account wrote elsewhere and what was written to it, once each, in order per author and chat.

What looks wrong may be right by WhatsApp's own rules; `excuse` knows these cases, and asks the
server's journal for the proof of each. A device that asked for a message again got it later, or,
if it had it already, again. Who is unlinked answers no such request. Baileys encrypts for all
devices anew when one of them asks, and does not write to devices that it has not heard of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from sitpayd.simulator.routing import LEAVES_OUT
from tests.torture.verdict import Broken, Fate

# How long a message may be on its way when things go wrong: a lost ack is noticed after 75 s.
LATE_S: Final = 150.0
# What may be well a moment later.
MAY_COME: Final = frozenset({Broken.LOST, Broken.UNSETTLED})


# What Baileys answers a message whose key it has used: it stores its sessions, and even confirms,
# before it shows what it has read; what it holds back is gone with its connection.
# Source: Baileys lib/Socket/messages-recv.js, lib/Utils/event-buffer.js.
KEY_USED_ALREADY: Final = "487"


class Kind(Enum):
    """What a screen is."""

    PHONE = auto()
    COMPANION = auto()
    DAEMON = auto()
    BAILEYS = auto()


@dataclass(frozen=True, slots=True)
class Person:
    """An account: its number, and its LID without server."""

    number: str
    lid: str

    @property
    def names(self) -> frozenset[str]:
        """How a screen may call the chat with this person."""
        jids = (f"{self.number}@s.whatsapp.net", f"{self.lid}@lid")
        return frozenset((self.number, self.lid, *jids))


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as a screen shows it; `chat` names the other person, somehow."""

    text: str
    id: str
    from_me: bool
    chat: str


@dataclass(slots=True)
class Span:
    """While a screen was linked, under this address; clock seconds, None: it still is."""

    jid: str
    since: float
    until: float | None = None


@dataclass(slots=True)
class Screen:
    """Where messages are shown; `shown` from the first to the last."""

    name: str
    kind: Kind
    person: Person
    spans: list[Span]
    shown: list[Shown] = field(default_factory=list)

    def span_at(self, moment: float) -> Span | None:
        """The linking that it had at a moment."""
        spans = [span for span in self.spans if span.since <= moment]
        return spans[-1] if spans and (spans[-1].until or moment) >= moment else None


@dataclass(slots=True)
class Message:
    """One message.

    Attributes:
        serial: counts up with every message that is written; one author writes them one by one.
        begun: when it began to be sent; settled: when its fate was known. Clock seconds.
        id: WhatsApp's id, once it is known.
        reason: why it was refused or is unknown.
    """

    serial: int
    text: str
    author: Screen
    to: Person
    begun: float
    fate: Fate = Fate.OPEN
    settled: float = 0.0
    id: str | None = None
    reason: str = ""

    @property
    def author_is_gone(self) -> bool:
        """Whether the device that wrote it was unlinked since."""
        span = self.author.span_at(self.begun)
        return span is None or span.until is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise; message and screen where it is about one.

    Attributes:
        times: how often a message is shown.
    """

    broken: Broken
    text: str
    message: Message | None = None
    screen: Screen | None = None
    times: int = 0

    def __str__(self) -> str:
        return f"{self.broken}: {self.text}"


@dataclass(frozen=True, slots=True)
class Copy:
    """What the server knows of one device's copy of a message.

    Attributes:
        deliveries: how often it was queued for the device.
        asked: how often the device asked for it again.
        answer: how it answered: "receipt", "ack", or an error code.
        is_confirmed: whether it has told that it read it.
    """

    deliveries: int
    asked: int
    answer: str | None = None
    is_confirmed: bool = False


def judge_screens(
    messages: Sequence[Message], screens: Iterable[Screen], settled_before: float
) -> list[Finding]:
    """Compare what was written with what is shown.

    Args:
        messages: by serial.
        settled_before: what was settled later may still be on its way.
    """
    by_text = {message.text: message for message in messages}
    by_person: dict[Person, list[Message]] = defaultdict(list)
    for message in messages:
        by_person[message.author.person].append(message)
        by_person[message.to].append(message)
    findings: list[Finding] = []
    for screen in screens:
        expected = [it for it in by_person[screen.person] if it.author is not screen]
        findings += _foreign(screen, by_text)
        findings += _disordered(screen, by_text)
        findings += _counted(screen, expected, settled_before)
    return findings


def _foreign(screen: Screen, by_text: Mapping[str, Message]) -> list[Finding]:
    """What is shown and was never sent like this."""
    findings = []
    for item in screen.shown:
        message = by_text.get(item.text)
        fault = None
        if message is None:
            fault = f"shows {item.id}, which nobody wrote"
        elif message.author is screen:
            fault = f"shows its own #{message.serial} as somebody else's"
        elif screen.person not in (message.author.person, message.to):
            fault = f"shows #{message.serial}, which is not for it"
        else:
            fault = _misplaced(screen, item, message)
        if fault is not None:
            text = f"{screen.name} {fault}"
            findings.append(Finding(Broken.FORGED, text, message, screen))
    return findings


def _misplaced(screen: Screen, item: Shown, message: Message) -> str | None:
    is_own = message.author.person is screen.person
    other = message.to if is_own else message.author.person
    if message.fate is Fate.REFUSED:
        return f"shows #{message.serial}, which was refused: {message.reason}"
    if item.from_me != is_own:
        return f"shows #{message.serial} as if it had another author"
    if item.chat not in other.names:
        return f"shows #{message.serial} in the chat {item.chat}"
    if message.id not in (None, item.id):
        return f"shows #{message.serial} under another id"
    return None


def _disordered(screen: Screen, by_text: Mapping[str, Message]) -> list[Finding]:
    findings = []
    last: dict[tuple[str, Person], int] = {}
    seen: set[str] = set()
    for item in screen.shown:
        message = by_text.get(item.text)
        if message is None or item.text in seen:
            continue
        seen.add(item.text)
        chat = (message.author.name, message.to)
        before = last.get(chat, -1)
        if message.serial < before:
            text = f"{screen.name} shows #{message.serial} after #{before}"
            findings.append(Finding(Broken.DISORDER, text, message, screen))
        last[chat] = max(before, message.serial)
    return findings


def _counted(screen: Screen, expected: Iterable[Message], settled_before: float) -> list[Finding]:
    findings = []
    times: dict[str, int] = defaultdict(int)
    for item in screen.shown:
        times[item.text] += 1
    for message in expected:
        count = times[message.text]
        what = f"#{message.serial} of {message.author.name} at {screen.name}"
        if count > 1:
            text = f"{what}, {count} times"
            findings.append(Finding(Broken.TWICE, text, message, screen, count))
        is_due = message.fate is Fate.SENT and message.settled <= settled_before
        if not count and is_due and _had_time(screen, message):
            findings.append(Finding(Broken.LOST, what, message, screen))
    return findings


def _had_time(screen: Screen, message: Message) -> bool:
    """Whether the screen was there before the message, and long enough after it."""
    span = screen.span_at(message.begun)
    if span is None:
        return False
    return span.until is None or message.settled + LATE_S <= span.until


def excuse(finding: Finding, copies: Mapping[str, Copy]) -> str | None:
    """Why something that looks wrong is right; None: it is wrong.

    Args:
        copies: of the message, by address, as the server knows them.
    """
    message, screen = finding.message, finding.screen
    if message is None or screen is None:
        return None
    span = screen.span_at(message.begun) or screen.spans[-1]
    copy = copies.get(span.jid)
    by_baileys = message.author.kind is Kind.BAILEYS
    if finding.broken is Broken.LOST:
        if copy is None and by_baileys:
            return "Baileys did not know the device"
        if copy is not None and copy.asked and message.author_is_gone:
            return "asked for again, and its author was unlinked"
        if copy is not None and screen.kind is Kind.BAILEYS:
            has_read = copy.is_confirmed or copy.answer == KEY_USED_ALREADY
            return "Baileys has read it, and forgot to show it" if has_read else None
    if screen.kind is Kind.BAILEYS and finding.broken is Broken.DISORDER:
        return "Baileys shows its backlog beside what is new"
    if screen.kind is Kind.DAEMON and finding.broken is Broken.TWICE:
        return None  # it knows what it has
    if finding.broken in (Broken.TWICE, Broken.DISORDER) and copy is not None:
        if copy.asked and finding.times <= 1 + copy.asked:
            return "asked for again"
        if by_baileys and copy.deliveries > 1:
            return "encrypted anew by Baileys for all devices"
    return None


# Refusals that this run causes: a device is unlinked, replaced or paused, or the server gives no
# list of devices or no keys for the only one. All are certain, so nothing of it may be shown.
CAUSED: Final = frozenset(
    (
        "no_devices",
        *(
            f"device_{status}"
            for status in ("unpaired", "pairing", "paired", "logged_out", "replaced", "paused")
        ),
    )
)


def judge_server(
    violations: Iterable[Mapping[str, object]], baileys: frozenset[str]
) -> list[Finding]:
    """Judge what the server has seen. That Baileys leaves devices out is known of it.

    Args:
        baileys: addresses of clients that are Baileys.
    """
    findings = []
    for violation in violations:
        kind, text = violation["kind"], f"{violation['device']}: {violation['text']}"
        if violation["device"] in baileys and kind == "fanout" and LEAVES_OUT in text:
            continue
        findings.append(Finding(Broken.VIOLATION, f"{kind} {text}"))
    return findings


def judge_fates(messages: Iterable[Message]) -> list[Finding]:
    """Judge the answers when nothing is under way any more."""
    findings = []
    for message in messages:
        what = f"#{message.serial} of {message.author.name}"
        by_daemon = message.author.kind is Kind.DAEMON
        if message.fate is Fate.OPEN:
            findings.append(Finding(Broken.UNSETTLED, what, message))
        if message.fate is Fate.REFUSED and message.reason not in CAUSED:
            findings.append(Finding(Broken.REFUSED, f"{what}: {message.reason}", message))
        if message.fate is Fate.UNKNOWN and by_daemon and message.reason not in CAUSED:
            findings.append(Finding(Broken.UNSETTLED, f"{what}: {message.reason}", message))
    return findings


def judge_rows(
    screen: Screen,
    messages: Iterable[Message],
    rows: Iterable[tuple[str, str]],
    confirmed: frozenset[str],
) -> list[Finding]:
    """Compare a device's own list with what was written through it.

    Args:
        rows: text and state of every outgoing message that was not written elsewhere.
        confirmed: texts of which a device of the recipient has told the server that it has them.
    """
    states: dict[str, list[str]] = defaultdict(list)
    for text, state in rows:
        states[text].append(state)
    findings = []
    for message in messages:
        if message.author is not screen:
            continue
        listed = states.pop(message.text, [])
        what = f"#{message.serial} of {screen.name} is listed as {', '.join(listed) or 'nothing'}"
        if len(listed) > 1:
            findings.append(Finding(Broken.SPLIT, what, message))
        wanted = _wanted_states(message, message.text in confirmed)
        if not wanted.issuperset(listed) or (message.fate is Fate.SENT and not listed):
            findings.append(Finding(Broken.UNSETTLED, what, message))
    texts = [f"{screen.name} lists {state} what nobody wrote" for state in states.values()]
    return findings + [Finding(Broken.FORGED, text) for text in texts]


def _wanted_states(message: Message, is_confirmed: bool) -> frozenset[str]:
    match message.fate:
        case Fate.SENT:
            # Receipts for a device that was unlinked go nowhere.
            lenient = message.author_is_gone or not is_confirmed
            return frozenset(("delivered", "read", "sent") if lenient else ("delivered", "read"))
        case Fate.UNKNOWN:
            return frozenset(("unknown",))
        case Fate.REFUSED:
            return frozenset(("failed", "canceled", "expired"))
        case Fate.OPEN:
            return frozenset()

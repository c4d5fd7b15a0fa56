"""The plan of a storm, drawn from a seed: who writes what to whom, and when the daemon dies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

CHATS_PER_DEVICE: Final = 3
# Every so many devices one is linked to the account of the device before it.
SHARED_EVERY: Final = 4
# Of ten kills so many come while the daemon starts, whatever it has got done.
EARLY_OF_TEN: Final = 1
EARLY_S: Final = 2.5
LATE_S: Final = 0.15
MAX_TEXT_LEN: Final = 300
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz äöüß€ हिन्दी 🎉"


class Manner(Enum):
    """How a partner's program sends.

    WAITING waits for each answer; BRIEF waits a second and asks again; QUEUEING takes 202 for an
    answer, goes on, and looks up later what became of it.
    """

    WAITING = auto()
    BRIEF = auto()
    QUEUEING = auto()


@dataclass(frozen=True, slots=True)
class Draft:
    """One message to be sent.

    Attributes:
        serial: its place among all; the text begins with it.
        device: index of the device that sends it; chat: index of its program among all programs.
        to: number of the recipient.
    """

    serial: int
    device: int
    chat: int
    to: str
    text: str
    key: str


@dataclass(frozen=True, slots=True)
class Chat:
    """One partner's program: it writes to one recipient, one message after the other."""

    device: int
    to: str
    manner: Manner
    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill the daemon.

    Attributes:
        after: how many messages are settled; None: while it starts.
        delay_s: seconds after that, or after its start.
    """

    after: int | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it.

    Attributes:
        accounts: number of each device's account; two devices may share one.
        strangers: numbers without a device.
    """

    seed: int
    accounts: tuple[str, ...]
    strangers: tuple[str, ...]
    chats: tuple[Chat, ...]
    kills: tuple[Kill, ...]

    @property
    def numbers(self) -> list[str]:
        """Every account once."""
        return list(dict.fromkeys(self.accounts + self.strangers))

    @property
    def drafts(self) -> list[Draft]:
        """Every message, by serial."""
        drafts = [draft for chat in self.chats for draft in chat.drafts]
        return sorted(drafts, key=lambda draft: draft.serial)


def draw(seed: int, *, sends: int, kills: int, devices: int, strangers: int) -> Plan:
    """Draw a plan."""
    random = Random(seed)
    accounts = tuple(
        f"9198{index - (index % SHARED_EVERY == SHARED_EVERY - 1):08d}" for index in range(devices)
    )
    others = tuple(f"4915{index:08d}" for index in range(strangers))
    chats = CHATS_PER_DEVICE * devices
    chat_of = [serial % chats for serial in range(sends)]
    random.shuffle(chat_of)
    manners = list(Manner)
    drawn = []
    for chat in range(chats):
        device = chat // CHATS_PER_DEVICE
        # One chat of each device is with somebody who has a linked device, too. No chat twice:
        # order is promised within a chat.
        linked = [number for number in dict.fromkeys(accounts) if number != accounts[device]]
        to = (
            linked[device % len(linked)]
            if chat % CHATS_PER_DEVICE == 0
            else others[(device + (chat % CHATS_PER_DEVICE) * (strangers // 2)) % strangers]
        )
        drafts = tuple(
            Draft(serial, device, chat, to, _text(random, serial), f"storm-{seed}-{serial}")
            for serial in range(sends)
            if chat_of[serial] == chat
        )
        manner = manners[(chat + device) % len(manners)]
        drawn.append(Chat(device, to, manner, drafts))
    return Plan(seed, accounts, others, tuple(drawn), _kills(random, sends, kills))


def _kills(random: Random, sends: int, kills: int) -> tuple[Kill, ...]:
    early = set(random.sample(range(1, kills), kills * EARLY_OF_TEN // 10)) if kills > 1 else set()
    drawn = []
    for index in range(kills):
        if index in early:
            drawn.append(Kill(None, random.uniform(0.0, EARLY_S)))
        else:
            after = round(sends * (index + random.uniform(0.5, 1.0)) / (kills + 1))
            drawn.append(Kill(after, random.uniform(0.0, LATE_S)))
    return tuple(drawn)


def _text(random: Random, serial: int) -> str:
    length = random.randint(0, MAX_TEXT_LEN)
    return f"#{serial} {''.join(random.choices(_LETTERS, k=length))}".strip()

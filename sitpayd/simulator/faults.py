"""Faults: what the server is told to do wrong, each a bounded number of times.

A fault waits until the place it concerns asks for it, and is used up there. Whom it concerns is an
account (by number) or one device of it; None means everybody. A fault may be rare: then it happens
to so many per thousand of those it concerns, drawn from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

from .accounts import Device

ALWAYS: Final = 1000


class FaultKind(StrEnum):
    """What goes wrong.

    Of a client's message: NACK answers it with an error and routes nothing; LOSE neither routes nor
    answers; LOSE_ACK routes and does not answer; REPEAT_ACK answers twice; DELAY_ACK answers late;
    DROP_BEFORE and DROP_AFTER cut the socket instead of, or after, routing it, unanswered.
    To a client: REPEAT_MESSAGE delivers a message twice; LATE_MESSAGE delivers it behind the next
    one; LOSE_NOTIFICATION forgets a notification; GARBLE sends a Noise frame with a flipped bit;
    SPLIT cuts a frame across two WebSocket messages; JOIN puts two frames into one; NO_OFFLINE_END
    leaves out the end of the backlog; FAIL_LOGIN answers a login with `<failure>`; REFUSE_ROUTING
    closes a connection that came with edge routing bytes.
    Of an iq: REFUSE_BUNDLE answers a question for this device's bundle with an error,
    REFUSE_DEVICES one for its account's devices; REFUSE_CHECK answers the device's question whether
    numbers have accounts with an error for each; REFUSE_IQ refuses any iq of the device, LOSE_IQ
    leaves it unanswered; NO_DIGEST answers a question for the device's own keys without them.
    Of a phone: CORRUPT sends a message that does not decrypt; FORGET drops its sessions before it
    reads the next message; SILENT takes a message and sends no receipt, as if the phone were off;
    PASSKEY answers a scan or a code with the request for the account's passkey; DEAF leaves a
    request for a message once more unheard.
    """

    NACK = "nack"
    LOSE = "lose"
    LOSE_ACK = "lose_ack"
    REPEAT_ACK = "repeat_ack"
    DELAY_ACK = "delay_ack"
    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    REPEAT_MESSAGE = "repeat_message"
    LATE_MESSAGE = "late_message"
    LOSE_NOTIFICATION = "lose_notification"
    GARBLE = "garble"
    SPLIT = "split"
    JOIN = "join"
    NO_OFFLINE_END = "no_offline_end"
    FAIL_LOGIN = "fail_login"
    REFUSE_ROUTING = "refuse_routing"
    REFUSE_BUNDLE = "refuse_bundle"
    REFUSE_DEVICES = "refuse_devices"
    REFUSE_CHECK = "refuse_check"
    REFUSE_IQ = "refuse_iq"
    LOSE_IQ = "lose_iq"
    NO_DIGEST = "no_digest"
    CORRUPT = "corrupt"
    FORGET = "forget"
    SILENT = "silent"
    PASSKEY = "passkey"
    DEAF = "deaf"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        number: digits of the account it concerns; None for all.
        device: number of the device; None for all of the account.
        count: how often it still happens.
        code: the error or failure code, where one is sent.
        seconds: of a delay; of a temporary ban.
        ban_code: why a temporary ban (402) was given.
        per_mille: to how many of a thousand of those it concerns it happens.
        seed: of the draw; None takes any.
    """

    kind: FaultKind
    number: str | None = None
    device: int | None = None
    count: int = 1
    code: int = 500
    seconds: float | None = None
    ban_code: int | None = None
    per_mille: int = ALWAYS
    seed: int | None = None

    def concerns(self, device: Device) -> bool:
        """Whether it is meant for this device."""
        return self.number in (None, device.account.number) and self.device in (
            None,
            device.number,
        )


class Faults:
    """The faults that wait."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, Random]] = []

    def add(self, fault: Fault) -> None:
        """Let a fault happen."""
        self._waiting.append((fault, Random(fault.seed)))

    def take(self, device: Device, *kinds: FaultKind) -> Fault | None:
        """Use up the first fault of one of these kinds that concerns this device."""
        for index, (fault, random) in enumerate(self._waiting):
            if fault.kind not in kinds or not fault.concerns(device):
                continue
            if random.randrange(ALWAYS) >= fault.per_mille:
                continue
            if fault.count > 1:
                self._waiting[index] = replace(fault, count=fault.count - 1), random
            else:
                del self._waiting[index]
            return fault
        return None

    @property
    def waiting(self) -> list[Fault]:
        """What has not happened yet."""
        return [fault for fault, _ in self._waiting]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._waiting.clear()

"""The judgement of a simulated world, when everything has come to rest.

What the partners' programs were answered is compared with what the phones show and what the rows
say. What must hold at every step is the witness's (witness.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sitpayd.actors.device import DeviceActor
from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.repairs import MAX_WAITING
from sitpayd.actors.shelf import MAX_SESSIONS
from sitpayd.simulator.phone import Phone
from sitpayd.simulator.server import Server
from sitpayd.storage import outbox
from sitpayd.storage.database import Unit
from sitpayd.storage.records import DeviceRecord, RowState
from tests.torture.callers import Answer, Ask, Message
from tests.torture.life import Life
from tests.torture.verdict import Fate
from tests.torture.witness import Breach, Row, Witness

# INV8: tasks of a daemon at rest, for each device and besides.
_TASKS_PER_DEVICE: Final = 6
_TASKS_BESIDES: Final = 25
_ARRIVED: Final = (RowState.SENT, RowState.DELIVERED, RowState.READ)


@dataclass(frozen=True)
class Judge:
    """Judges one world.

    Attributes:
        records: the devices; numbers: of their accounts, in the same order.
        messages: what the programs sent.
        told: what people wrote to devices: index of the device, by text.
        forgetful: phones may have lost their sessions. Such a phone knows a repetition by its id
            alone, and what it could not read comes again, later.
    """

    witness: Witness
    server: Server
    records: Sequence[DeviceRecord]
    numbers: Sequence[str]
    messages: Sequence[Message]
    told: Mapping[str, int]
    counts: Counter[str]
    forgetful: bool

    # --- while the daemon lives ---

    async def look_at_the_living(self, life: Life, ask: Ask, now: datetime) -> None:
        """INV7 and INV8 while the daemon is there; INV6 through its front door."""
        waits = set()
        for index, record in enumerate(self.records):
            status = life.board.get(record.session_id)
            if (
                status is not None
                and status.status in NEEDS_A_PERSON
                and status.status != Phase.LOGGED_OUT
            ):
                # Its queue is kept until somebody acts, or the messages' time is over.
                waits.add(record.id)
                self.counts[f"rests: {status.reason}"] += 1
            await self._look_for_strangers(index, ask)
        held = self.witness.held(now)
        self.counts["held"] += len(held)
        for row in self.witness.rows.values():
            if not row.state.is_settled and not (row.device_id in waits or row.message_id in held):
                self.witness.accuse(Breach.UNSETTLED, f"{row.message_id} is {row.state}")
        for message_id, device_id in self.witness.marked.items():
            if device_id not in waits:
                self.witness.accuse(Breach.UNSETTLED, f"{message_id} misses devices for ever")
        for message in self.messages:
            waiting = self.records[message.device].id in waits or message.ids & held
            if message.fate is Fate.OPEN and not waiting:
                self.witness.accuse(Breach.UNSETTLED, f"{message.text} has no final answer")
        self._look_at_sizes(life)

    async def _look_for_strangers(self, index: int, ask: Ask) -> None:
        """INV6: each tenant sees its own, and nothing of the others."""
        record, rows = self.records[index], list(self.witness.rows.values())
        base = f"/wa/{record.token}/messages"
        own = {row.message_id for row in rows if row.device_id == record.id}
        listed = await ask("GET", base, {}, None, 90.0)
        if listed is not None and listed.status == 200:
            messages = listed.body["messages"]
            assert isinstance(messages, list)
            seen = {item["message_id"] for item in messages if item["direction"] == "out"}
            if seen != own and not listed.body["has_more"]:
                self.witness.accuse(Breach.FOREIGN, f"{sorted(seen ^ own)} listed at {index}")
        other = next((row.message_id for row in rows if row.device_id != record.id), None)
        if other is not None:
            answer: Answer | None = await ask("GET", f"{base}/{other}", {}, None, 90.0)
            if answer is not None and answer.status != 404:
                self.witness.accuse(Breach.FOREIGN, f"{other} is shown to {index}")

    def _look_at_sizes(self, life: Life) -> None:
        """INV8: nothing has been left behind."""
        found = {
            "waiters": len(life.outcomes._watches),
            "requests": len(life.exchanges),
            "writes": life.database._send_job.statistics().current_buffer_used,
        }
        for handle in life.registry:
            actor = getattr(handle.outlook, "__self__", None)
            if isinstance(actor, DeviceActor):
                found["sessions"] = max(0, len(actor._memory.shelf) - MAX_SESSIONS)
                repairs = actor._machine._delivery.repairs
                found["repairs"] = max(0, repairs.waiting - 2 * MAX_WAITING)
        found["tasks"] = max(0, life.tasks - _TASKS_BESIDES - _TASKS_PER_DEVICE * len(self.records))
        for name, size in found.items():
            if size:
                self.witness.accuse(Breach.SWOLLEN, f"{size} {name} too many")

    # --- afterwards ---

    def judge(self, complaints: Sequence[str], unit: Unit) -> None:
        """Compare what was answered with what is shown.

        Args:
            complaints: errors in the daemon's log.
            unit: reads the database.
        """
        witness = self.witness
        self.counts["messages"] = len(witness.rows)
        self.counts["parts"] = witness.parts
        for row in witness.rows.values():
            self.counts[f"row {row.state}"] += 1
        for line in complaints:
            witness.accuse(Breach.COMPLAINT, line[:2000])
        witness.violations(self.server.violations.broken, forgetful=self.forgetful)
        listed = [self._listed(unit, record) for record in self.records]
        self._judge_inboxes(listed)
        shown = self._shown()
        sent = {(message.to, message.text) for message in self.messages}
        for number, text in shown:
            if (number, text) not in sent and text not in self.told:
                witness.accuse(Breach.FORGED, f"{text!r} at {number}")
        rows = {row.message_id: row for row in witness.rows.values()}
        for message in self.messages:
            self._judge_message(message, shown, listed, rows)
        if not self.forgetful:
            self._judge_order()

    def _judge_message(
        self,
        message: Message,
        shown: Mapping[tuple[str, str], Sequence[str]],
        listed: Sequence[Counter[str]],
        rows: Mapping[str, Row],
    ) -> None:
        witness, ids = self.witness, shown.get((message.to, message.text), [])
        if self.forgetful:
            ids = list(dict.fromkeys(ids))
        # A device whose keys the server would not give at that moment is left out: then at least
        # another one of the recipient's has it.
        is_seen = bool(ids) or any(
            number == message.to and message.text in texts
            for number, texts in zip(self.numbers, listed, strict=True)
        )
        what = f"{message.text} to {message.to} ({message.reason or message.fate})"
        if len(ids) > 1:
            witness.accuse(Breach.TWICE, f"{what} under {ids}")
        if message.fate is Fate.SENT and not is_seen:
            witness.accuse(Breach.LOST, what)
        if is_seen and not ids:
            self.counts["not on the phone"] += 1
        if is_seen and (message.fate is Fate.REFUSED or message.is_taken_back):
            witness.accuse(Breach.FALSE_REFUSAL, what)
        for message_id in message.ids:
            row = rows.get(message_id)
            if row is None:
                witness.accuse(Breach.LOST, f"{what}: no row {message_id}")
            elif row.state in _ARRIVED and not is_seen:
                witness.accuse(Breach.LOST, f"{what}: row {message_id} is {row.state}")

    def _judge_order(self) -> None:
        """INV4: in each chat as the messages were accepted."""
        for record, number in zip(self.records, self.numbers, strict=True):
            for phone in self._phones:
                shown = [i.id for i in phone.inbox if i.sender == number and not i.from_me]
                screen = f"{phone.account.number} from {number}"
                self.witness.order(record.id, screen, shown)

    def _judge_inboxes(self, listed: Sequence[Counter[str]]) -> None:
        """What people and other devices write stands in a device's list, once."""
        for index, (number, texts) in enumerate(zip(self.numbers, listed, strict=True)):
            for text, times in texts.items():
                if times > 1:
                    self.witness.accuse(Breach.TWICE, f"{text!r} {times} times at {number}")
            account = self.server.accounts.by_number(number)
            assert account is not None
            if self.forgetful or all(device.link is None for device in account.companions):
                continue
            for text, to in self.told.items():
                if to == index and text not in texts:
                    self.witness.accuse(Breach.LOST, f"{text!r} came to {number}, unlisted")

    def _shown(self) -> dict[tuple[str, str], list[str]]:
        """The ids under which people see each text."""
        shown: dict[tuple[str, str], list[str]] = {}
        for phone in self._phones:
            for item in phone.inbox:
                if not item.from_me and item.text is not None:
                    place = (phone.account.number, item.text)
                    shown.setdefault(place, []).append(item.id)
        return shown

    @property
    def _phones(self) -> list[Phone]:
        return [self.server.phone(account.number) for account in self.server.accounts]

    @staticmethod
    def _listed(unit: Unit, record: DeviceRecord) -> Counter[str]:
        """The texts in a device's list that came from others."""
        page = outbox.messages(unit, record.id, limit=1000)
        assert page is not None
        # A text is forgotten a day after the logout.
        incoming = (m.text for m in page.messages if m.direction == "in")
        return Counter(text for text in incoming if text is not None)

"""A fleet behind the front door: devices in chosen states, each with its row, handle and actor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from sitpayd.actors.phase import Phase
from sitpayd.actors.status import Evidence, Proof
from sitpayd.storage import devices, partners
from sitpayd.storage.database import Unit
from sitpayd.storage.records import DeviceRecord
from tests.support.fake_actor import FakeActor
from tests.support.front import Front


@dataclass(frozen=True)
class Planned:
    """A device that is to be there.

    Attributes:
        age_s: how long it has been in its phase; for_s: how long it is said to stay in it.
        heard_s: age of its proof of life; None: there is none.
    """

    name: str
    phase: Phase = Phase.CONNECTED
    reason: str | None = None
    partner: str = "ABC Reseller"
    phone: str | None = "919876543210"
    age_s: float = 5400
    for_s: float = 0
    heard_s: float | None = None


async def settle(front: Front, planned: Sequence[Planned]) -> list[FakeActor]:
    """Let these devices be there; returns their actors in the same order."""
    records = await front.database.write(_store, planned)
    actors = []
    for plan, record in zip(planned, records, strict=True):
        await front.registry.adopt(record)
        actor = await front.actor(record.session_id)
        actor.enter(plan.phase, plan.reason, age_s=plan.age_s, for_s=plan.for_s)
        if plan.heard_s is not None:
            actor.handle.proof = Proof(trio.current_time() - plan.heard_s, Evidence.PONG)
        actors.append(actor)
    return actors


def _store(unit: Unit, planned: Sequence[Planned]) -> list[DeviceRecord]:
    users: dict[str, tuple[int, int]] = {}
    records = []
    for plan in planned:
        if plan.partner not in users:
            partner, _ = partners.create_partner(unit, plan.partner, "a@b.example", "b.example")
            user = partners.create_user(unit, partner.id, "Operations", "a@b.example")
            users[plan.partner] = partner.id, user.id
        record = devices.create_device(unit, *users[plan.partner], plan.name)
        if plan.phone is not None:
            devices.set_phone(unit, record.id, plan.phone)
        records.append(replace(record, phone=plan.phone))
    return records


_PARTNERS: Final = (
    "Kirana Connect",
    "Lotus Messaging",
    "Nimbus CRM",
    "Blue Harbor Travel",
    "Vega Clinics",
    "Orchid Retail",
    "Tamarind Foods",
)
_OWNERS: Final = ("Asha", "Ravi", "Meera", "John", "Fatima", "Chen", "Priya", "Sven", "Noor", "Tom")
_PLACES: Final = ("front desk", "sales", "support line", "pharmacy", "shop 2", "bookings", "iPhone")
# How many of a thousand are in a state, and for how long on average.
_STATES: Final = (
    (938, Phase.CONNECTED, None, 90_000),
    (14, Phase.WAITING, "network", 40),
    (7, Phase.WAITING, "no_answer", 30),
    (5, Phase.CONNECTING, None, 4),
    (2, Phase.PAIRING, None, 40),
    (9, Phase.UNPAIRED, None, 9_000),
    (4, Phase.UNPAIRED, "qr_expired", 3_000),
    (9, Phase.PAUSED, None, 90_000),
    (6, Phase.LOGGED_OUT, "device_removed", 30_000),
    (2, Phase.ACTION_REQUIRED, "passkey", 4_000),
    (1, Phase.REPLACED, "replaced", 2_000),
    (2, Phase.BANNED, "temporary_ban", 7_000),
    (1, Phase.FAULTED, "crashing", 300),
)
_UNLINKED: Final = (Phase.PAIRING, Phase.UNPAIRED)
_BAN_S: Final = 86_400.0


def believable(count: int, seed: int = 7) -> list[Planned]:
    """A fleet as an operator knows it: nearly all is well, and a little of everything is not."""
    chance = random.Random(seed)
    weights = [state[0] for state in _STATES]
    planned = []
    for _, phase, reason, mean_s in chance.choices(_STATES, weights, k=count):
        heard = {Phase.CONNECTED: chance.uniform(0, 28), Phase.WAITING: chance.uniform(30, 90)}
        planned.append(
            Planned(
                name=f"{chance.choice(_OWNERS)}, {chance.choice(_PLACES)}",
                phase=phase,
                reason=reason,
                partner=chance.choice(_PARTNERS),
                phone=None if phase in _UNLINKED else f"9198765{chance.randrange(100_000):05}",
                age_s=chance.expovariate(1 / mean_s),
                for_s=_BAN_S if phase is Phase.BANNED else 0,
                heard_s=heard.get(phase),
            )
        )
    return planned

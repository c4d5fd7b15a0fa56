"""T-59: two devices of different tenants, with the same contacts and the same ids, never mix.

Every query that takes a device is called, again and again, with whatever fits its arguments: also
with row numbers, message ids and digests of the other device. What stands in the database about the
other one stays as it is, bit for bit, and nothing of it is ever in an answer. Queries are found by
their form, so that a new one is held to this by itself.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import sqlite3
import types
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest

import sitpayd.storage
from sitpayd.errors import SealError, SitpaydError
from sitpayd.storage import outbox
from sitpayd.storage.contacts import person_digest
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.records import Accepted, DeviceRecord
from tests.storage.builders import NOON, RECIPIENT, a_message, make_tenant, some_vault

Query = Callable[..., object]

STEPS_EACH = 15
# What both devices know: people, ids, words.
NUMBER, LID = RECIPIENT.partition("@")[0], "200000000000002"
SHARED = (NUMBER, LID, RECIPIENT, f"{LID}@lid", f"{LID}:2@lid", "3EB0SAME", "3EB0OTHER", "reason")
# Fields that hold what a person wrote, or is called.
PRIVATE = frozenset({"text", "push_name", "name", "phone", "proxy", "value"})
# Seldom, or there would soon be nothing left that could mix.
ENDS = ("delete_", "forget_", "remove_", "start_anew", "settle_", "linked_to")


class Twin:
    """One of the two devices, and what it alone knows."""

    def __init__(self, device: DeviceRecord, mark: str) -> None:
        self.device = device
        self.mark = mark
        self.message_ids: list[str] = []
        self.digests: list[bytes] = []


def queries() -> dict[str, Query]:
    """Every public function of the floor that takes a transaction and a device."""
    found: dict[str, Query] = {}
    for info in pkgutil.iter_modules(sitpayd.storage.__path__, "sitpayd.storage."):
        if info.ispkg:
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if not inspect.isfunction(value) or value.__module__ != module.__name__:
                continue
            if not name.startswith("_") and list(inspect.signature(value).parameters)[:2] == [
                "unit",
                "device_id",
            ]:
                found[f"{info.name.rpartition('.')[2]}.{name}"] = value
    return found


class Caller:
    """Draws what fits an argument, by its type."""

    def __init__(self, rng: Random, own: Twin, other: Twin) -> None:
        self.rng = rng
        self.own = own
        self.other = other

    def arguments(self, query: Query) -> dict[str, object]:
        hints = get_type_hints(query)
        names = list(inspect.signature(query).parameters)[2:]
        return {name: self.value(name, hints[name]) for name in names}

    def value(self, name: str, kind: object) -> object:
        origin, inner = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            return self.value(name, self.rng.choice(inner))
        if origin is Literal:
            return self.rng.choice(inner)
        if origin is Callable:
            return lambda first, *others: first
        if origin is tuple:
            if inner[1:] == (...,):
                inner = inner[:1] * self.rng.randrange(3)
            return tuple(self.value(name, part) for part in inner)
        if origin is Mapping:
            pairs = range(self.rng.randrange(1, 3))
            return {self.value("", inner[0]): self.value(name, inner[1]) for _ in pairs}
        if origin in (Iterable, Collection, Sequence, list):
            return [self.value(name, inner[0]) for _ in range(self.rng.randrange(3))]
        if origin in (set, frozenset):
            return frozenset(self.value(name, inner[0]) for _ in range(self.rng.randrange(3)))
        assert isinstance(kind, type), f"nothing is known that fits {name}: {kind}"
        return self.plain(name, kind)

    def plain(self, name: str, kind: type) -> object:
        rng = self.rng
        if kind is str:
            ids = self.own.message_ids + self.other.message_ids
            return self.own.mark if name in PRIVATE else rng.choice([*SHARED, *ids])
        if kind is bytes:
            digests = self.own.digests + self.other.digests if "digest" in name else []
            return rng.choice([self.own.mark.encode(), *digests])
        if kind is datetime:
            return NOON + timedelta(minutes=rng.randrange(-60, 60))
        if kind is timedelta:
            return timedelta(minutes=rng.randrange(60))
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            return kind(
                **{f.name: self.value(f.name, hints[f.name]) for f in dataclasses.fields(kind)}
            )
        choices: dict[type, Sequence[object]] = {
            int: range(6),
            bool: (True, False),
            float: (0.0, 1.5),
            types.NoneType: (None,),
        }
        if issubclass(kind, enum.Enum):
            return rng.choice(list(kind))
        assert kind in choices, f"nothing is known that fits {name}: {kind}"
        return rng.choice(choices[kind])


def rows_about(unit: Unit, device_id: int) -> dict[str, list[tuple[object, ...]]]:
    """Everything that stands in the database about a device, as it stands."""
    tables = [row[0] for row in unit.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    about = {}
    for table in tables:
        columns = {
            row["name"] for row in unit.rows(f"SELECT name FROM pragma_table_info('{table}')")
        }
        key = "device_id" if "device_id" in columns else "id" if table == "device" else None
        if key is not None:
            rows = unit.rows(f"SELECT * FROM {table} WHERE {key} = ? ORDER BY rowid", (device_id,))
            about[table] = [tuple(row) for row in rows]
    return about


def leaves(value: object) -> Iterator[object]:
    """What an answer consists of, also where its text form hides it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from leaves([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def tells_of(answer: object, twin: Twin) -> bool:
    marks = (twin.mark, twin.mark.encode())
    for leaf in leaves(answer):
        text = isinstance(leaf, str) and twin.mark in leaf
        data = isinstance(leaf, bytes) and (marks[1] in leaf or leaf in twin.digests)
        if text or data:
            return True
    return False


async def two_devices(database: Database) -> list[Twin]:
    """With the same messages to the same person, under the same ids."""
    twins = []
    for mark in ("<one's own>", "<the other's>"):
        tenant = await database.write(make_tenant, mark)
        twin = Twin(tenant.device, mark)
        for wa_message_id in ("3EB0SAME", "3EB0OTHER"):
            message = a_message(twin.device, wa_message_id=wa_message_id, text=mark)
            accepted = await database.write(outbox.accept, message)
            assert isinstance(accepted, Accepted)
            twin.message_ids.append(message.message_id)
        twin.digests.append(await database.read(person_digest, twin.device.id, RECIPIENT))
        twins.append(twin)
    return twins


@pytest.mark.parametrize("seed", range(2))
async def test_no_query_for_a_device_touches_or_tells_another(seed: int) -> None:
    rng, done = Random(seed), Counter[str]()
    everything = queries()
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        twins = await two_devices(database)
        for _ in range(STEPS_EACH * len(everything)):
            own, other = rng.sample(twins, 2)
            name = rng.choice(list(everything))
            if any(end in name for end in ENDS) and rng.random() < 0.9:
                continue
            before = await database.read(rows_about, other.device.id)
            arguments = Caller(rng, own, other).arguments(everything[name])
            try:
                answer = await database.write(everything[name], own.device.id, **arguments)
            except SealError as error:
                raise AssertionError(f"{name} read what is not its own") from error
            except (SitpaydError, sqlite3.Error, AssertionError, ValueError, TypeError):
                continue  # it does not fit after all; the transaction is rolled back
            done[name] += 1
            assert await database.read(rows_about, other.device.id) == before, name
            assert not tells_of(answer, other), name
    never = everything.keys() - done.keys() - {n for n in everything if any(e in n for e in ENDS)}
    assert never == set(), "these were never called with something that fits"


async def test_mixing_query_would_be_noticed() -> None:
    """A statement that forgets its device changes the other's rows; an answer can tell of them."""
    async with open_database("sqlite://", some_vault(), inline=True) as database:
        _, other = await two_devices(database)

        def forgetful(unit: Unit) -> None:
            unit.run("UPDATE outbox SET held_reason = 'x' WHERE wa_message_id = '3EB0SAME'")

        before = await database.read(rows_about, other.device.id)
        assert before["outbox"]
        await database.write(forgetful)
        assert await database.read(rows_about, other.device.id) != before
        row = await database.read(outbox.row_by_wa_message_id, other.device.id, "3EB0SAME")
        assert tells_of({"rows": [row]}, other)

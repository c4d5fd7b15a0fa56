from __future__ import annotations

import pytest

from sitpayd.actors.directory import MAX_AGE_S, MAX_OFFLINE_S, MAX_PEOPLE, Directory
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.stanzas.usync import Device, UserDevices
from tests.actors.builders import FRIEND_LID, FRIEND_PN

FRIEND = UserDevices(FRIEND_PN, FRIEND_LID, (Device(0),))


def knows_friend() -> Directory:
    directory = Directory()
    directory.put(FRIEND_PN, FRIEND, 0.0)
    return directory


def test_what_was_put_is_found_for_a_day() -> None:
    directory = knows_friend()
    assert directory.get(FRIEND_PN, MAX_AGE_S) == FRIEND
    assert directory.get(FRIEND_PN, MAX_AGE_S + 1.0) is None


def test_stranger_is_unknown() -> None:
    assert knows_friend().get(pn("1"), 0.0) is None


def test_new_answer_replaces_the_old_one() -> None:
    directory, two = knows_friend(), UserDevices(FRIEND_PN, FRIEND_LID, (Device(0), Device(1, 1)))
    directory.put(FRIEND_PN, two, 1.0)
    assert directory.get(FRIEND_PN, 1.0) == two


@pytest.mark.parametrize(
    "name", [FRIEND_PN, FRIEND_LID, FRIEND_LID.with_device(3)], ids=["number", "lid", "device"]
)
def test_person_is_forgotten_under_every_name(name: Jid) -> None:
    directory = knows_friend()
    directory.forget(name)
    assert directory.get(FRIEND_PN, 0.0) is None


def test_forgetting_one_keeps_the_others() -> None:
    directory = knows_friend()
    directory.forget(lid("1"))
    assert directory.get(FRIEND_PN, 0.0) == FRIEND


def test_short_time_offline_changes_nothing() -> None:
    directory = knows_friend()
    directory.offline(10.0)
    directory.offline(200.0)
    directory.online(10.0 + MAX_OFFLINE_S)
    assert directory.get(FRIEND_PN, 400.0) == FRIEND


def test_long_time_offline_counts_from_its_first_moment() -> None:
    directory = knows_friend()
    directory.offline(10.0)
    directory.offline(200.0)
    directory.online(10.0 + MAX_OFFLINE_S + 1.0)
    assert directory.get(FRIEND_PN, 400.0) is None


def test_each_time_offline_is_measured_for_itself() -> None:
    directory = knows_friend()
    directory.offline(0.0)
    directory.online(200.0)
    directory.offline(400.0)
    directory.online(600.0)
    assert directory.get(FRIEND_PN, 600.0) == FRIEND


def test_person_asked_for_least_lately_is_forgotten_first() -> None:
    directory = knows_friend()
    for number in range(MAX_PEOPLE - 1):
        directory.put(pn(str(number)), FRIEND, 0.0)
    directory.get(FRIEND_PN, 0.0)
    directory.put(pn("one more"), FRIEND, 0.0)
    assert directory.get(FRIEND_PN, 0.0) == FRIEND
    assert directory.get(pn("0"), 0.0) is None

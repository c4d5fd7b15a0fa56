from __future__ import annotations

import pytest

from sitpayd.actors.directory import MAX_AGE_S, MAX_OFFLINE_S, MAX_PEOPLE, Directory
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.stanzas.message import phash
from sitpayd.whatsapp.stanzas.notification import (
    DeviceAction,
    DevicesChanged,
    ListedDevice,
    OwnDevices,
)
from sitpayd.whatsapp.stanzas.usync import Device, UserDevices
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_LID, OWN_PN

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


# --- notifications ---


# Of the list of devices: by number, by LID.
Hashes = tuple[str | None, str | None]


def hash_of(user: Jid, *numbers: int) -> str:
    return phash(user.with_device(number) for number in numbers)


def notice(
    action: DeviceAction,
    *numbers: int,
    hashes: Hashes = (None, None),
    user: Jid = FRIEND_PN,
    lid: Jid | None = FRIEND_LID,
) -> DevicesChanged:
    devices = tuple(ListedDevice(FRIEND_PN.with_device(n), None, n or None) for n in numbers)
    return DevicesChanged(user, lid, action, devices, *hashes)


BY_NUMBER, BY_LID = hash_of(FRIEND_PN, 0, 2), hash_of(FRIEND_LID, 0, 2)
BOTH: Hashes = (BY_NUMBER, BY_LID)


@pytest.mark.parametrize("hashes", [BOTH, (BY_NUMBER, None), (None, BY_LID)])
def test_added_device_joins_the_list_whose_hash_the_server_tells(hashes: Hashes) -> None:
    directory = knows_friend()
    directory.change(notice("add", 2, hashes=hashes), 1.0)
    assert directory.get(FRIEND_PN, 1.0) == UserDevices(
        FRIEND_PN, FRIEND_LID, (Device(0), Device(2, 2))
    )


@pytest.mark.parametrize(
    "hashes",
    [
        (None, None),
        (hash_of(FRIEND_PN, 0, 2, 3), None),
        (BY_NUMBER, hash_of(FRIEND_LID, 0, 2, 3)),
        (hash_of(FRIEND_PN, 0), BY_LID),
    ],
    ids=["no hash", "another", "another by lid", "another by number"],
)
def test_list_whose_hash_is_another_is_asked_for_anew(hashes: Hashes) -> None:
    directory = knows_friend()
    directory.change(notice("add", 2, hashes=hashes), 1.0)
    assert directory.get(FRIEND_PN, 1.0) is None


def test_device_that_is_not_in_the_signed_list_is_not_added() -> None:
    directory = knows_friend()
    added = (ListedDevice(FRIEND_PN.with_device(2)),)
    directory.change(DevicesChanged(FRIEND_PN, None, "add", added, BY_NUMBER), 1.0)
    assert directory.get(FRIEND_PN, 1.0) is None


def test_removed_device_leaves_the_list() -> None:
    directory, two = Directory(), UserDevices(FRIEND_PN, FRIEND_LID, (Device(0), Device(2, 2)))
    directory.put(FRIEND_PN, two, 0.0)
    directory.change(notice("remove", 2, hashes=(hash_of(FRIEND_PN, 0), None)), 1.0)
    assert directory.get(FRIEND_PN, 1.0) == FRIEND


def test_changed_list_holds_for_a_day_from_then_on() -> None:
    directory = knows_friend()
    directory.change(notice("add", 2, hashes=BOTH), MAX_AGE_S)
    assert directory.get(FRIEND_PN, 2 * MAX_AGE_S) is not None


def test_changed_list_may_be_reachable_again() -> None:
    directory = knows_friend()
    directory.give_up(FRIEND_PN)
    directory.change(notice("add", 2, hashes=BOTH), 1.0)
    assert not directory.is_given_up(FRIEND_PN, 1.0)


def test_update_does_not_say_what_changed() -> None:
    directory = knows_friend()
    directory.change(notice("update", hashes=(hash_of(FRIEND_PN, 0), None)), 1.0)
    assert directory.get(FRIEND_PN, 1.0) is None


@pytest.mark.parametrize(
    ("user", "other"),
    [(FRIEND_PN, None), (FRIEND_LID, None), (lid("7"), FRIEND_LID), (FRIEND_LID, pn("7"))],
)
def test_notice_finds_the_list_under_every_name(user: Jid, other: Jid | None) -> None:
    directory = knows_friend()
    directory.change(notice("add", 2, hashes=BOTH, user=user, lid=other), 1.0)
    known = directory.get(FRIEND_PN, 1.0)
    assert known is not None
    assert len(known.devices) == 2


def test_notice_about_somebody_else_changes_nothing() -> None:
    directory = knows_friend()
    directory.change(notice("add", 2, user=pn("7"), lid=lid("7")), 1.0)
    assert directory.get(FRIEND_PN, 1.0) == FRIEND


def test_notice_brings_the_lid_that_was_not_known() -> None:
    directory = Directory()
    directory.put(FRIEND_PN, UserDevices(FRIEND_PN, None, (Device(0),)), 0.0)
    directory.change(notice("add", 2, hashes=BOTH), 1.0)
    known = directory.get(FRIEND_PN, 1.0)
    assert known is not None
    assert known.lid == FRIEND_LID


@pytest.mark.parametrize("hosted", [Jid(FRIEND_PN.user, "hosted", 5), FRIEND_PN.with_device(99)])
def test_hosted_device_joins_as_one(hosted: Jid) -> None:
    directory = knows_friend()
    jid = Jid(FRIEND_PN.user, "hosted", hosted.device)
    added = (ListedDevice(hosted, None, 5),)
    directory.change(DevicesChanged(FRIEND_PN, None, "add", added, phash([FRIEND_PN, jid])), 1.0)
    known = directory.get(FRIEND_PN, 1.0)
    assert known is not None
    assert known.addresses() == (FRIEND_PN, jid)


OURSELVES = UserDevices(OWN_PN.bare, OWN_LID.bare, ())


def own(*numbers: int, dhash: str | None = None) -> OwnDevices:
    listed = tuple(OWN_PN.bare.with_device(number) for number in numbers)
    return OwnDevices(listed, dhash or hash_of(OWN_PN.bare, *numbers))


def test_own_list_is_replaced_and_tells_who_is_gone() -> None:
    directory = Directory()
    assert directory.replace_own(OURSELVES, own(0, 7, 9), 0.0) == frozenset()
    known = directory.get(OWN_PN.bare, 0.0)
    assert known is not None
    assert [device.id for device in known.devices] == [0, 7, 9]
    assert known.lid == OWN_LID.bare
    assert directory.replace_own(OURSELVES, own(0, 7, 11), 1.0) == {9}


@pytest.mark.parametrize("listed", [own(0, 7, dhash="2:another"), OwnDevices((OWN_PN,), None)])
def test_own_list_whose_hash_does_not_match_is_asked_for_anew(listed: OwnDevices) -> None:
    directory = Directory()
    directory.replace_own(OURSELVES, own(0, 7, 9), 0.0)
    assert directory.replace_own(OURSELVES, listed, 1.0) == frozenset()
    assert directory.get(OWN_PN.bare, 1.0) is None

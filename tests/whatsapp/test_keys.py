"""Ids of one-time prekeys: 24 bits, round and round, never one that is still kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.keys import MAX_PREKEY_ID, free_prekey_ids, prekey_id_after

# Where the numbers come round, and anywhere else.
key_ids = st.one_of(
    st.integers(MAX_PREKEY_ID - 5, MAX_PREKEY_ID), st.integers(0, 5), st.integers(0, MAX_PREKEY_ID)
)


def test_prekey_ids_begin_with_one_and_wrap_past_the_end() -> None:
    assert prekey_id_after(0) == 1
    assert prekey_id_after(MAX_PREKEY_ID) == 1


@given(key_ids, st.integers(0, 20), st.sets(key_ids, max_size=30))
def test_new_prekeys_take_no_id_that_is_kept(key_id: int, count: int, taken: set[int]) -> None:
    ids = free_prekey_ids(key_id, count, taken)
    assert len(set(ids)) == len(ids) == count
    assert not set(ids) & taken
    assert all(1 <= fresh <= MAX_PREKEY_ID for fresh in ids)


def test_ids_that_are_kept_are_passed_over_at_the_wrap() -> None:
    assert free_prekey_ids(MAX_PREKEY_ID - 1, 3, {1, 2}) == (MAX_PREKEY_ID, 3, 4)

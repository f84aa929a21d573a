"""A place that is full of strangers' records still takes a known signer's; one that is full of known ones does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import ManualClock
from common.codec import canonical
from common.contracts.peer_escrow import COPY_NS, CopyPointer
from common.contracts.peer_registry import CAPABILITY_NS, CapabilityPointer
from common.identity.did import did_of
from common.identity.keys import SigningKey
from common.store import Store
from common.units import Did, UnixMs
from dux_p2pd.record_table import Counts, RecordTable
from dux_p2pd.records import Offered, RecordBody, sign_record
from dux_p2pd.rules import RECORD_ROOM_BYTES, RECORDS_PER_DID_MAX
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.store import MIGRATIONS

NOW_MS = UnixMs(1_790_000_000_000)
KEY = SigningKey(b"s" * 32)


def record(number: int) -> Offered:
    """One signer's record under the same name as everybody's."""
    pointer, did = canonical(CapabilityPointer(at_ms=NOW_MS)), did_of(bytes([number]) * 32)
    body = RecordBody(
        v=1, ns=CAPABILITY_NS.name, name="gpu", did=did, key_seq=0, seq_ms=NOW_MS, ttl_s=3600, payload=pointer
    )
    return Offered.of(sign_record(body, KEY), 0, 0)


@pytest.fixture
def known() -> set[Did]:
    """Who is no stranger here."""
    return set()


@pytest.fixture
def shelf(known: set[Did]) -> RecordShelf:
    """A shelf whose place for this name is full."""
    clock = ManualClock(NOW_MS)
    directory: Any = SimpleNamespace(is_known=known.__contains__)
    table = RecordTable(Store.open(None, MIGRATIONS, clock))
    names: dict[str, Any] = {CAPABILITY_NS.name: CAPABILITY_NS}
    made = RecordShelf(table, directory, names, clock=clock, bytes_max=1 << 30, stamp_bits=0)
    for number in range(CAPABILITY_NS.per_name_max):
        one = record(number)
        table.put(one.body, one.key, one.data, salt=0, stamp=0, mine=number == 0, now_ms=NOW_MS)
    return made


def test_a_known_signer_takes_a_strangers_place(shelf: RecordShelf, known: set[Did]) -> None:
    """A stranger does not; and who has a place there already needs no other."""
    newcomer = record(200)
    assert "signers already" in str(shelf.refusal(newcomer, 0, 40))
    known.add(newcomer.body.did)
    assert shelf.refusal(newcomer, 0, 40) is None
    assert "not newer" in str(shelf.refusal(record(1), 0, 40))


def test_among_known_ones_nobody_has_to_go(shelf: RecordShelf, known: set[Did]) -> None:
    """This node's own record, which is no stranger's, does not count as a place to be had."""
    newcomer = record(200)
    known |= {record(number).body.did for number in range(1, CAPABILITY_NS.per_name_max)} | {newcomer.body.did}
    assert "signers already" in str(shelf.refusal(newcomer, 0, 40))


def test_what_was_asked_before_a_change_is_asked_anew_after_it(shelf: RecordShelf, known: set[Did]) -> None:
    """Counts and the newest record follow what is put and what goes."""
    table, one, name = shelf.table, record(200), CAPABILITY_NS.name
    full = CAPABILITY_NS.per_name_max
    assert table.newest(one.body.did, name, "gpu") is None
    assert table.counts(one.body.did, name, "gpu", one.key).dids_at_key == full
    known.add(one.body.did)
    table.put(one.body, one.key, one.data, salt=0, stamp=0, mine=False, now_ms=NOW_MS)
    assert table.newest(one.body.did, name, "gpu") == (0, NOW_MS)
    after = table.counts(one.body.did, name, "cpu", one.key)
    assert (after.dids_at_key, after.of_did, after.of_did_in_ns) == (full + 1, 1, 1)
    table.drop(next(row for row in table.at(one.key, NOW_MS) if row.did == one.body.did))
    assert table.newest(one.body.did, name, "gpu") is None
    assert table.counts(one.body.did, name, "gpu", one.key) == Counts(0, 0, full, full * RECORD_ROOM_BYTES)
    table.sweep(NOW_MS + 3_600_001)
    assert table.counts(one.body.did, name, "gpu", one.key).dids_at_key == 0


def test_a_name_that_stands_at_three_keys_counts_once(shelf: RecordShelf, known: set[Did]) -> None:
    """In a small network one node holds all three: the signer has as many names there as with one key each.

    Planted bug noticed: with rows counted, a third of the quota is left and the rest of the signer's records go.
    """
    shelf._namespaces = {COPY_NS.name: COPY_NS}
    signer = did_of(bytes([201]) * 32)
    known.add(signer)
    for number in range(RECORDS_PER_DID_MAX):
        for salt in range(1 + COPY_NS.salted):
            copy = pointer_of(signer, number, salt)
            assert shelf.refusal(copy, 0, 40) is None, (number, salt)
            shelf.table.put(copy.body, copy.key, copy.data, salt=salt, stamp=0, mine=False, now_ms=NOW_MS)
    assert "has 64 records here" in str(shelf.refusal(pointer_of(signer, RECORDS_PER_DID_MAX, 0), 0, 40))
    assert "no key 3" in str(shelf.refusal(pointer_of(signer, 0, 3), 0, 40))


def pointer_of(did: Did, number: int, salt: int) -> Offered:
    """Who keeps the copy of one of the signer's contracts."""
    body = RecordBody(
        v=1, ns=COPY_NS.name, name=f"{number:064x}", did=did, key_seq=0, seq_ms=NOW_MS, ttl_s=3600,
        payload=canonical(CopyPointer(holders=(did,))),
    )  # fmt: skip
    return Offered.of(sign_record(body, KEY), salt, 0)

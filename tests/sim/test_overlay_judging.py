"""What a history of the overlay holds for true: papers read once, and which wish could have been fulfilled."""

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from common.codec import canonical
from common.identity.branch import inception_of, operational_key
from common.identity.errors import BadEvent, BadRecord
from common.identity.log import LogBytes
from common.identity.node_record import NodeRecord
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.units import UnixMs
from dux_sim.overlay.people import People
from dux_sim.world.keys import MADE_MS, keys_of
from dux_sim.world.signatures import Papers

HOUR_MS = 3_600_000
KEY = b"k" * 32


def test_papers_that_were_read_once_are_not_believed_at_another_time() -> None:
    """Shared by all nodes while they count, and judged anew when they may not."""
    branch, papers = keys_of(1).branch, Papers()
    data = canonical(LogBytes(events=(inception_of(branch, 0),)))
    log = papers.log(data, now_ms=MADE_MS, inception_bits=0)
    assert papers.log(data, now_ms=MADE_MS + HOUR_MS, inception_bits=0) is log
    with pytest.raises(BadEvent):
        papers.log(data, now_ms=MADE_MS - HOUR_MS, inception_bits=0)
    record = NodeRecord(
        v=1, did=log.did, key_seq=0, seq_ms=UnixMs(MADE_MS), issued_ms=UnixMs(MADE_MS),
        expires_ms=UnixMs(MADE_MS + HOUR_MS), transport_keys=(operational_key(keys_of(2).branch, 0).public,),
        endpoints=(), relays=(), mailbox_keys=(), coin_link=None,
    )  # fmt: skip
    signed = sign(operational_key(branch, 0), Purpose.NODE_RECORD, record)
    assert papers.record(signed, log, now_ms=MADE_MS) is papers.record(signed, log, now_ms=MADE_MS + 1)
    with pytest.raises(BadRecord):
        papers.record(signed, log, now_ms=MADE_MS + HOUR_MS)


def test_a_wish_counts_only_when_somebody_in_reach_holds_the_very_record() -> None:
    """Another worker's record at the same place finds nobody the worker that has never said what it can do."""
    disk = sqlite3.connect(":memory:")
    disk.execute("CREATE TABLE records (key BLOB, did TEXT, envelope BLOB)")
    disk.execute("INSERT INTO records VALUES (?, 'did:a', x'00')", (KEY,))
    rows = SimpleNamespace(rows=lambda sql, *values: disk.execute(sql, values).fetchall())
    holder = SimpleNamespace(
        is_here=True, lies=False, was_there=lambda _since: True, node=SimpleNamespace(disk=lambda _name: rows)
    )
    people: Any = People.__new__(People)
    people.world = SimpleNamespace(members=[holder], were_together=lambda *_: True)
    asker: Any = SimpleNamespace()
    assert people._is_held(asker, KEY, 0.0, by="did:a")
    assert not people._is_held(asker, KEY, 0.0, by="did:b")
    holder.is_here = False  # the other process looks at its disk
    assert not people._is_held(asker, KEY, 0.0, by="did:a")
    holder.is_here = True
    people.world.were_together = lambda *_: False
    assert not people._is_held(asker, KEY, 0.0, by="did:a")

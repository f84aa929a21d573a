"""p2pd's decisions as tables: records, gossip, stamps, time-outs, scores."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.codec import Canon, canonical
from common.contracts.peer_store import TagPointer
from common.errors import BadParams
from common.identity.keys import SigningKey
from common.identity.stamp import has_stamp, make_stamp
from common.nets import may_listen_at
from common.rpc.method import OWN_DID, Names, Namespace
from common.units import Did
from dux_p2pd.records import GossipBody, RecordBody, message_id, record_key, sign_gossip, split_gossip, split_record
from dux_p2pd.rules import (
    DIDS_PER_KEY_MAX,
    RECORDS_PER_DID_MAX,
    Shelf,
    gossip_fault,
    keep_fault,
    pause_s,
    record_fault,
    stamped_gossip,
)
from dux_p2pd.scores import BAN_AT, HALF_LIFE_S, VERIFICATIONS_PER_S, Scores

NOW_MS = 1_790_000_000_000
DID = Did("did:dux:" + "a" * 52)
ANY = Names(pattern=".*", says="anything", example="n")
POINTER = canonical(TagPointer(service_ids=("a",)))
NS = Namespace(name="tag", owner="stored", payload=TagPointer, names=ANY, summary="x", payload_bytes_max=100)
SMALL = replace(NS, payload_bytes_max=len(POINTER) - 1)
OWN = replace(NS, name="node", names=OWN_DID)
RECORD = RecordBody(v=1, ns="tag", name="n", did=DID, key_seq=1, seq_ms=NOW_MS, ttl_s=60, payload=POINTER)
SHELF = Shelf(
    newest=None, of_did=0, of_did_in_ns=0, dids_at_key=0, bytes_held=0, bytes_max=10**6, nearer_nodes=0,
    signer_known=True, strangers_at_key=False, strangers_held=False, has_stamp=True,
)  # fmt: skip
GOSSIP = GossipBody(v=1, topic="t", did=DID, key_seq=0, seq_ms=NOW_MS, ttl_s=120, payload=b"x", stamp=0)


@pytest.mark.parametrize(
    ("ns", "changes", "believed"),
    [
        (NS, {}, True),
        (None, {}, False),
        (SMALL, {}, False),
        (NS, {"payload": b"x"}, False),
        (SMALL, {"payload": b""}, True),
        (replace(NS, ttl_s_max=59), {}, False),
        (replace(NS, belongs=lambda did, _name, _content: None if did == "x" else "not its own"), {}, False),
        (NS, {"seq_ms": NOW_MS + 600_001}, False),
        (NS, {"seq_ms": NOW_MS + 600_000}, True),
        (NS, {"seq_ms": NOW_MS - 60_000}, False),
        (NS, {"seq_ms": NOW_MS - 59_999}, True),
        (OWN, {}, False),
        (OWN, {"name": DID}, True),
    ],
)
def test_which_records_are_believed(ns: Namespace[Canon] | None, changes: dict[str, object], *, believed: bool) -> None:
    """A known namespace, its limits, neither from the future nor expired, under the own DID where that is the rule."""
    assert (record_fault(msgspec.structs.replace(RECORD, **changes), ns, NOW_MS) is None) is believed


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"newest": (1, NOW_MS)}, False),
        ({"newest": (1, NOW_MS - 1)}, True),
        ({"newest": (2, 0)}, False),
        ({"newest": (0, NOW_MS + 1)}, True),
        ({"of_did": RECORDS_PER_DID_MAX}, False),
        ({"of_did": RECORDS_PER_DID_MAX, "newest": (1, 0)}, True),
        ({"of_did_in_ns": 8}, False),
        ({"dids_at_key": DIDS_PER_KEY_MAX}, False),
        ({"dids_at_key": DIDS_PER_KEY_MAX, "strangers_at_key": True}, True),
        ({"dids_at_key": DIDS_PER_KEY_MAX, "strangers_at_key": True, "signer_known": False}, False),
        ({"dids_at_key": DIDS_PER_KEY_MAX, "newest": (1, 0)}, True),
        ({"has_stamp": False}, True),
        ({"has_stamp": False, "signer_known": False}, False),
        ({"signer_known": False}, True),
        ({"nearer_nodes": 40}, False),
        ({"nearer_nodes": 39}, True),
        ({"bytes_held": 10**6 - 1}, False),
        ({"bytes_held": 10**6 - 1, "strangers_held": True}, True),
        ({"bytes_held": 10**6 - 1, "strangers_held": True, "signer_known": False}, False),
    ],
)
def test_which_records_are_kept(changes: dict[str, object], *, kept: bool) -> None:
    """Newer than what is known, among the 2k nearest, within the quotas; known signers may take a stranger's place."""
    shelf = Shelf(**{**{name: getattr(SHELF, name) for name in Shelf.__struct_fields__}, **changes})  # type: ignore[arg-type]
    assert (keep_fault(RECORD, replace(NS, per_signer_max=8), shelf, 40) is None) is kept


@pytest.mark.parametrize(
    ("seq_ms", "ttl_s", "fits"),
    [
        (NOW_MS, 120, True),
        (NOW_MS - 120_000, 120, True),
        (NOW_MS - 120_001, 120, False),
        (NOW_MS + 120_001, 120, False),
        (NOW_MS - 6000, 5, False),
    ],
)
def test_gossip_is_of_now_or_nothing(seq_ms: int, ttl_s: int, *, fits: bool) -> None:
    """At most two minutes old or young, and no older than its own life."""
    assert (gossip_fault(msgspec.structs.replace(GOSSIP, seq_ms=seq_ms, ttl_s=ttl_s), NOW_MS) is None) is fits


def test_a_stamp_counts_for_its_message_only() -> None:
    """It covers signer and body; on another body or signer the same nonce is as good as a random one."""
    nonce = make_stamp(stamped_gossip(GOSSIP), 8)
    assert has_stamp(stamped_gossip(GOSSIP), nonce, 8)
    assert stamped_gossip(msgspec.structs.replace(GOSSIP, stamp=nonce)) == stamped_gossip(GOSSIP)
    for changes in ({"payload": b"y"}, {"seq_ms": NOW_MS + 1}, {"topic": "u"}):
        assert stamped_gossip(msgspec.structs.replace(GOSSIP, **changes)) != stamped_gossip(GOSSIP)


def test_the_message_id_covers_the_signature() -> None:
    """Two envelopes of one body are two messages: marking one as seen does not touch the other."""
    one, other = sign_gossip(GOSSIP, SigningKey(b"1" * 32)), sign_gossip(GOSSIP, SigningKey(b"2" * 32))
    assert split_gossip(one)[0].body == split_gossip(other)[0].body
    assert message_id(one) != message_id(other)


@given(st.binary(max_size=300))
def test_random_bytes_are_never_a_record_or_a_message(data: bytes) -> None:
    """Whatever comes in, the answer is BadParams and nothing else."""
    for split in (split_record, split_gossip):
        with pytest.raises(BadParams):
            split(data)  # type: ignore[operator]


def test_places_of_names_do_not_run_into_each_other() -> None:
    """(`ab`, `c`) and (`a`, `bc`) are two places."""
    assert record_key("ab", "c") != record_key("a", "bc")


def test_pauses_grow() -> None:
    """They double up to a minute and are never without spread."""
    assert [pause_s(failures, 1.0) for failures in (0, 1, 2, 20)] == [0.5, 1.0, 2.0, 60.0]
    assert pause_s(3, 0.0) < pause_s(3, 1.0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("::1:80", None),
        ("[::1:80", None),
        ("host:0", None),
        ("host:65536", None),
        ("host", None),
        (":80", None),
        ("host:８０", None),  # noqa: RUF001 - digits of another script
    ],
)
def test_endpoints_have_one_form(text: str, address: tuple[str, int] | None) -> None:
    """host:port with an ASCII port, or nothing."""
    assert may_listen_at(text) == address


def test_blame_fades_and_bans() -> None:
    """It halves in ten minutes; at the limit the DID is banned and its sheet is clean for after the ban."""
    clock = ManualClock()
    scores = Scores(clock)
    assert not scores.blame("x", BAN_AT - 1)
    clock.advance(HALF_LIFE_S)
    assert scores.of("x") == pytest.approx((BAN_AT - 1) / 2)
    assert scores.blame("x", BAN_AT / 2 + 1)
    assert (scores.of("x"), scores.of("y")) == (0.0, 0.0)


def test_verifications_are_rationed_per_peer() -> None:
    """After its share in one second a peer waits, another does not."""
    clock = ManualClock()
    scores = Scores(clock)
    assert all(scores.may_verify("x") for _ in range(int(VERIFICATIONS_PER_S)))
    assert not scores.may_verify("x")
    assert scores.may_verify("y")
    clock.advance(1.0)
    assert scores.may_verify("x")

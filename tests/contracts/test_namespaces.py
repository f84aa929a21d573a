"""The table of DHT namespaces: every kind of record is there, with rules that refuse what they should."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import common.contracts
from common.codec import Canon
from common.contracts.peer import namespaces
from common.rpc.method import DAEMONS, RECORD_NAME_CHARS_MAX, Namespace

SPACES = namespaces()
CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = [
    importlib.import_module(f"common.contracts.{found.name}")
    for found in pkgutil.iter_modules(common.contracts.__path__)
    if found.name.startswith("peer_")
]
DID, OTHER = "did:dux:" + "a" * 52, "did:dux:" + "b" * 52


def test_every_kind_of_record_has_its_namespace() -> None:
    """Those of network.md §4 that the decision on namespaces has kept, and each by one daemon."""
    assert {"did", "service", "tag", "capability", "node", "attestation"} <= set(SPACES)
    assert all(space.owner in DAEMONS for space in SPACES.values())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_namespace_is_written_by_its_owner_and_read_by_somebody(space: Namespace[Canon]) -> None:
    """A rule for records that nobody writes, or nobody reads, is a promise that nothing keeps."""
    name = next(name for module in MODULES for name, value in vars(module).items() if value is space)
    written = re.compile(rf"(put_record|publish|put|DhtPut)\(\s*(ns=)?{name}\b")
    read = re.compile(rf"(get_records|get|find|record_key)\(\s*{name}\b")
    owner = [path.read_text() for path in (CHECKOUT / f"dux_{space.owner}").rglob("*.py")]
    programs = [
        path.read_text()
        for folder in CHECKOUT.glob("dux_*")
        if folder.name != "dux_sim"
        for path in folder.rglob("*.py")
    ]
    assert any(written.search(text) for text in owner), f"{space.owner} writes no record of {space.name!r}"
    assert any(read.search(text) for text in programs), f"nobody reads records of {space.name!r}"


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_namespace_takes_its_example_and_refuses_other_names(space: Namespace[Canon]) -> None:
    """Its own example is a name; too long, empty and foreign names are none; under a DID only its owner writes."""
    assert space.names.fault(space.names.example, DID) is None
    for name in ("", "x" * (RECORD_NAME_CHARS_MAX + 1), "UPPER CASE", "../x", "a\nb"):
        assert space.names.fault(name, DID) is not None
    assert (space.names.fault(space.names.example, OTHER) is not None) is space.names.of_signer


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_payload_is_what_the_namespace_says_or_withdraws_the_name(space: Namespace[Canon]) -> None:
    """Garbage, too much of it and too long a life are refused, with words; nothing at all withdraws."""
    name = space.names.example
    assert space.fault(DID, name, b"", 60) is None
    for payload in (b"\x00", b"\xff" * 40, b"\x90\x90"):
        assert space.payload.__name__ in (space.fault(DID, name, payload, 60) or "")
    assert "bytes" in (space.fault(DID, name, bytes(space.payload_bytes_max + 1), 60) or "")
    for ttl_s in (0, space.ttl_s_max + 1):
        assert "ttl_s" in (space.fault(DID, name, b"", ttl_s) or "")


def test_logs_live_a_week_all_else_two_days_and_what_is_for_the_lost_stands_at_three_keys() -> None:
    """TTL and salted keys as TI §3.1 and §3.2 have them."""
    assert {name for name, space in SPACES.items() if space.ttl_s_max > 172_800} == {"did"}
    assert SPACES["did"].ttl_s_max == 604_800
    assert {name for name, space in SPACES.items() if space.salted} == {"did", "escrow-copy"}

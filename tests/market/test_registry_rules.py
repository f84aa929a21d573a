"""Nodes: what is believed of them, how lately they were heard of, who meets a filter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.codec import canonical
from common.contracts.registry import ListNodes, NodeStatus
from common.errors import BadParams
from common.receipts import NO_HARDWARE, Attested, NodeInfo2, NodeInfo3, described, opened_node, wallet_fault
from dux_registryd.model import KnownNode, Presence, RatedNode
from dux_registryd.reputation_rules import score_of
from dux_registryd.rules import (
    by_reputation,
    capabilities_of,
    capability_index,
    gpu_of,
    hardware_fault,
    heartbeat_fault,
    meets,
    newer_node,
    node_fault,
    status_of,
    with_gpu,
)
from tests.market.makers import BUYER, NETWORK, NOW_MS, SELLER, changed, heartbeat, node

HOUR_MS = 3_600_000


def rated(**changes: Any) -> RatedNode:
    """The seller as a stranger with one day's presence."""
    known = KnownNode(info=node(**changes), heartbeat=None, heard_ms=NOW_MS)
    return RatedNode(node=known, score=score_of([], Presence(0, 1)), jobs_done=0, jobs_failed=0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"withdrawn": True, "wallet_address": ""}, None),
        ({"hostname": "", "ip_address": ""}, None),
        ({"ip_address": "2001:db8::1"}, None),
        ({"network": "00" * 32}, "another network"),
        ({"wallet_address": "0x1234567890abcdef1234567890abcdef12345678"}, "Flopcoin address"),
        ({"wallet_address": ""}, "no wallet address"),
        ({"hostname": "my node"}, "host name"),
        ({"ip_address": "192.168.1.256"}, "IP address"),
        ({"region": "e\nu"}, "region"),
        ({"capabilities": ("b", "a")}, "sorted"),
        ({"capabilities": ("A",)}, "not a capability"),
    ],
)
def test_a_node_is_taken_or_told_why_not(changes: dict[str, Any], word: str | None) -> None:
    """A sound description has no fault; each wrong field has its own words."""
    fault = node_fault(node(**changes), NETWORK)
    assert (fault is None) if word is None else (word in (fault or ""))


def test_an_ethereum_address_is_answered_with_what_to_write_instead() -> None:
    """The command lines of the specification print 0x addresses: the error teaches the right one."""
    assert "duxnet wallet address" in (wallet_fault("0x1234567890abcdef1234567890abcdef12345678") or "")
    assert wallet_fault("mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef") is None


@given(st.lists(st.text(max_size=12), max_size=50))
def test_capabilities_have_one_form(names: list[str]) -> None:
    """Tidied names are sorted, each once, at most 32; tidying again changes nothing."""
    tidy = capabilities_of(names)
    assert list(tidy) == sorted(set(tidy))
    assert len(tidy) <= 32
    assert capabilities_of(tidy) == tidy
    assert capabilities_of(["API Hosting", "api-hosting"]) == ("api_hosting",)


@given(st.integers(-(10**6), 10**6), st.integers(0, 2 * 10**6))
def test_of_two_descriptions_the_later_stays(first: int, second: int) -> None:
    """Whatever the order of arrival, the later of two believable descriptions is held; none from the future is."""
    one, two = node(at_ms=NOW_MS + first), node(at_ms=NOW_MS + second)
    assert newer_node(one, two, NOW_MS) == (second > first and second <= 600_000)
    assert newer_node(None, two, NOW_MS) == (second <= 600_000)


@pytest.mark.parametrize(
    ("changes", "held_at", "tip", "word"),
    [
        ({}, None, 100, None),
        ({}, None, None, None),
        ({"height": 160}, NOW_MS - 1, 100, None),
        ({"network": "00" * 32}, None, 100, "another network"),
        ({"at_ms": NOW_MS + 600_001}, None, 100, "future"),
        ({"height": 40}, None, 100, None),
        ({"height": 161}, None, 100, "too far"),
        ({"height": 39}, None, 100, "too far"),
        ({}, NOW_MS, 100, "newer one"),
    ],
)
def test_a_heartbeat_is_taken_or_told_why_not(
    changes: dict[str, Any], held_at: int | None, tip: int | None, word: str | None
) -> None:
    """A later heartbeat of this network that cites a block there can be is taken, another is not."""
    held = heartbeat(at_ms=held_at) if held_at is not None else None
    fault = heartbeat_fault(heartbeat(**changes), held, network=NETWORK, now_ms=NOW_MS, tip=tip)
    assert (fault is None) if word is None else (word in (fault or ""))


def test_silence_makes_a_node_stale_and_then_offline() -> None:
    """Three missed heartbeats: stale; an hour: offline; never heard of: offline."""
    silent = {0: NodeStatus.ACTIVE, 180_000: NodeStatus.ACTIVE, 180_001: NodeStatus.STALE, HOUR_MS: NodeStatus.STALE}
    silent[HOUR_MS + 1] = NodeStatus.OFFLINE
    assert {ms: status_of(NOW_MS - ms, NOW_MS, 60.0) for ms in silent} == silent
    assert status_of(0, NOW_MS, 60.0) is NodeStatus.OFFLINE
    assert {ms: status_of(NOW_MS - ms, NOW_MS, 10.0) for ms in silent} == silent, "a quick node makes nobody late"
    assert status_of(NOW_MS - 300_000, NOW_MS, 100.0) is NodeStatus.ACTIVE


def test_a_gpu_goes_by_what_is_asked_named_told_and_seen() -> None:
    """Named before told before seen; nothing asked keeps what was told; refused takes all of it back."""
    assert gpu_of(None, "", "told", "seen") == "told"
    assert gpu_of(None, "named", "told", "") == "named"
    assert [gpu_of(True, *words) for words in (("", "", "seen"), ("", "told", "seen"), ("", "", ""))] == [
        "seen", "told", "",
    ]  # fmt: skip
    assert gpu_of(False, "named", "told", "seen") == ""
    offered = ("API", "GPU", "gpu-declared")
    assert with_gpu(offered, "", "seen") == ("api",)
    assert with_gpu(offered, "named", "seen") == ("api", "gpu")
    assert with_gpu(offered, "named", "") == ("api", "gpu_declared")


@pytest.mark.parametrize(
    ("met", "missed"),
    [
        ({}, {"min_cpu": 9}),
        ({"min_cpu": 8}, {"min_memory_mb": 16_385}),
        ({"min_memory_mb": 16_384}, {"min_storage_gb": 501}),
        ({"min_storage_gb": 500}, {"min_reputation": 0.51}),
        ({"min_reputation": 0.5}, {"min_tier": 2}),
        ({"min_tier": 1}, {"capabilities": ("gpu",)}),
        ({"capabilities": ("Task Execution",)}, {"capabilities": ("task_execution", "gpu")}),
        ({"capabilities": ("task_execution", "api_hosting")}, {"region": "us"}),
        ({"region": "EU"}, {"status": NodeStatus.STALE}),
        ({"status": NodeStatus.ACTIVE, "gpu": True}, {"min_cpu": 9, "gpu": True}),
    ],
)
def test_a_filter_is_met_at_its_bound_and_missed_beyond(met: dict[str, Any], missed: dict[str, Any]) -> None:
    """Every filter on its own lets the node through at its bound and stops it one step further."""
    assert meets(rated(), NodeStatus.ACTIVE, ListNodes(**met))
    assert not meets(rated(), NodeStatus.ACTIVE, ListNodes(**missed))
    assert not meets(rated(gpu_model=""), NodeStatus.ACTIVE, ListNodes(gpu=True))


@pytest.mark.parametrize(
    ("met", "missed"),
    [
        ({"hostname": "NODE"}, {"hostname": "nodes"}),
        ({"start": SELLER[:12]}, {"start": BUYER[:12]}),
        ({"gpu_model": "rtx 3080"}, {"gpu_model": "rtx 4090"}),
        ({"wallet_address": "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"}, {"wallet_address": "mzBc"}),
        ({"os_version": "22.04"}, {"os_version": "22"}),
        ({"duxos_version": "1.0.0"}, {"duxos_version": "1.0"}),
        ({"cpu_arch": "x86_64"}, {"cpu_arch": "x86"}),
        ({"min_free_cpu": 4}, {"min_free_cpu": 5}),
        ({"min_free_memory_mb": 4_096}, {"min_free_memory_mb": 4_097}),
        ({"min_uptime_s": 60}, {"min_uptime_s": 61}),
        ({"max_load": 0.5}, {"max_load": 0.499}),
        ({"min_tasks": 3}, {"min_tasks": 4}),
        ({"min_success_rate": 0.75}, {"min_success_rate": 0.76}),
    ],
)
def test_names_room_and_work_filter_too(met: dict[str, Any], missed: dict[str, Any]) -> None:
    """Texts, what the last heartbeat left free, and jobs: each filter alone, at its bound and beyond."""
    machine = NO_HARDWARE.__class__("EPYC", "x86_64", 2_450, "6.1", 0, "2.0")
    known = KnownNode(info=node(), heartbeat=heartbeat(), heard_ms=NOW_MS, hardware=machine)
    found = RatedNode(node=known, score=score_of([], Presence(0, 1)), jobs_done=3, jobs_failed=1)
    assert meets(found, NodeStatus.ACTIVE, ListNodes(**met))
    assert not meets(found, NodeStatus.ACTIVE, ListNodes(**missed))


@pytest.mark.parametrize(
    "asked", [{"min_free_cpu": 1}, {"min_free_memory_mb": 1}, {"min_uptime_s": 1}, {"max_load": 9}]
)
def test_a_node_that_never_beat_has_nothing_free(asked: dict[str, Any]) -> None:
    """Without a heartbeat no filter about load is met; a stranger without jobs has no success rate to meet."""
    assert not meets(rated(), NodeStatus.ACTIVE, ListNodes(**asked))
    assert not meets(rated(), NodeStatus.ACTIVE, ListNodes(min_success_rate=0.1))


def test_all_versions_of_the_description_are_read() -> None:
    """Earlier ones read as version 3 with nothing told of machine or look key; what is none is refused as none."""
    machine = NO_HARDWARE.__class__("EPYC", "x86_64", 2_450, "6.1", 0, "2.0")
    second = NodeInfo2(version=2, info=node(), hardware=machine)
    third = NodeInfo3(version=3, info=node(), hardware=machine, look_key=b"k" * 32)
    for told, hardware, key in ((node(), NO_HARDWARE, b""), (second, machine, b""), (third, machine, b"k" * 32)):
        envelope = Attested(body=canonical(told), did=SELLER, key_seq=0, signature=b"s" * 64)
        assert described(envelope) == NodeInfo3(version=3, info=node(), hardware=hardware, look_key=key)
        assert opened_node(canonical(envelope))[1] == node()
    with pytest.raises(BadParams, match="NodeInfo3"):
        described(Attested(body=canonical(heartbeat()), did=SELLER, key_seq=0, signature=b"s" * 64))
    assert hardware_fault(machine) is None
    assert "kernel" in (hardware_fault(changed(machine, kernel="6\x1b[2J")) or "")


def test_the_best_standing_comes_first_and_ties_go_by_name() -> None:
    """Order by standing, then quality, then DID: the same list on every node."""
    good = rated()
    better = RatedNode(node=good.node, score=score_with(standing=5), jobs_done=1, jobs_failed=0)
    other = rated(did=BUYER)
    assert sorted([good, better, other], key=by_reputation) == [better, other, good]


def score_with(standing: int) -> Any:
    """A stranger's score with another standing."""
    import dataclasses  # noqa: PLC0415 - used here only

    return dataclasses.replace(score_of([], Presence(0, 1)), standing_milli=standing)


def test_the_index_names_everybody_who_offers() -> None:
    """Every capability of every node is in the index, sorted, and nothing else."""
    one = KnownNode(info=node(), heartbeat=None, heard_ms=0)
    two = KnownNode(info=changed(node(), did=BUYER, capabilities=("api_hosting",)), heartbeat=None, heard_ms=0)
    assert capability_index([one, two]) == {"api_hosting": (BUYER, SELLER), "task_execution": (SELLER,)}
    assert capability_index([]) == {}

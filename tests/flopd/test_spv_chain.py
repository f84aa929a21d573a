"""The chain of headers: every rule, every way to branch, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.chain.invalid import Invalid
from common.chain.messages import RawHeader
from common.chain.wire import HEADER_BYTES, sha256d
from dux_flopd import spv_chain
from dux_flopd.spv_chain import Base, HeaderChain, Unconnected, genesis_base
from dux_flopd.spv_store import HeaderFile
from tests.flopd.spv_kit import EMBEDDED, a_node, add, chain_for, headers_of, remined, with_checkpoints, workless

SPACING_S = 60


def test_a_whole_chain_is_judged_and_known_by_height() -> None:
    """Plain and merge-mined headers, with Digishield at every step: the tip, the work and every hash are the node's."""
    node = a_node(blocks=40)
    chain = chain_for(node)
    assert add(chain, headers_of(node)) == 40
    assert add(chain, headers_of(node)) == 0
    assert (chain.tip.hash, chain.tip.work) == (node.chain.tip.hash, node.chain.tip.work)
    assert [chain.hash_at(height) for height in range(41)] == [entry.hash for entry in node.chain.active]
    assert chain.hash_at(41) is chain.hash_at(-1) is None
    assert chain.is_proven


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (lambda raw, _: remined(raw, 0x207FFFFE), "bad-diffbits"),
        (lambda raw, _: remined(raw, 0x207FFFFF, time_s=1_790_000_000), "time-too-old"),
        (lambda raw, _: remined(raw, 0x207FFFFF, version=0xA30003), "bad-version"),
        (lambda raw, _: remined(raw, 0x207FFFFF, version=0xA20004), "bad-chain-id"),
        (lambda raw, _: RawHeader(raw[:76] + b"\xff\xff\xff\xff", b""), "high-hash|bad-auxpow-flag"),
        (lambda raw, proof: RawHeader(raw, proof[:-80] + bytes(80)), "bad-auxpow"),
        (lambda raw, proof: RawHeader(raw, proof[:-1]), "bad-auxpow"),
        (lambda raw, _: RawHeader(raw, b""), "bad-auxpow-flag"),
    ],
)
def test_each_rule_refuses_and_changes_nothing(bend: object, reason: str) -> None:
    """One wrong header: named, not taken; the true one is taken after it."""
    node = a_node(blocks=4)
    headers = headers_of(node)
    chain = chain_for(node)
    add(chain, headers[:3])
    wrong = bend(headers[3].raw, headers[3].proof)  # type: ignore[operator]
    with pytest.raises(Invalid, match=reason):
        add(chain, [wrong])
    assert chain.tip.height == 3
    assert add(chain, headers[3:]) == 1


def test_a_header_from_the_future_is_refused_until_then() -> None:
    """Two hours ahead of the time of day and no second more."""
    node = a_node(blocks=1)
    chain, headers = chain_for(node), headers_of(node)
    time_s = node.chain.tip.block.header.time_s
    with pytest.raises(Invalid, match="time-too-new"):
        chain.add(headers, time_s - 7_201)
    assert chain.add(headers, time_s - 7_200) == 1


def test_work_decides_and_the_first_seen_wins_ties() -> None:
    """A branch of the same work changes nothing; one block more and it is the best chain, from the fork on."""
    node = a_node(blocks=10)
    chain = chain_for(node)
    mine = headers_of(node)
    add(chain, mine)
    chain.same_up_to = 10
    node.exclude(node.chain.active[7])
    node.mine(b"\x52", 4)
    other = headers_of(node)
    add(chain, other)
    assert (chain.tip.hash, chain.deepest_fork) == (sha256d(mine[9].raw), 0)
    node.mine(b"\x52", 1)
    add(chain, headers_of(node, 11))
    assert (chain.tip.hash, chain.tip.height) == (node.chain.tip.hash, 11)
    assert (chain.same_up_to, chain.deepest_fork) == (6, 4)
    assert [chain.hash_at(height) for height in range(12)] == [entry.hash for entry in node.chain.active]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=5))
def test_the_tip_is_always_the_nodes(forks: list[tuple[int, int]]) -> None:
    """Whatever branches and reorganisations a node goes through, its headers lead the wallet to the same chain."""
    node = a_node(blocks=3)
    chain = chain_for(node)
    add(chain, headers_of(node))
    for longer, back in forks:
        depth = min(back, node.chain.tip.height - 1)
        if depth:
            node.exclude(node.chain.active[node.chain.tip.height - depth + 1])
        node.mine(bytes([0x51 + depth]), depth + longer)
        add(chain, headers_of(node))
        assert (chain.tip.hash, chain.tip.work) == (node.chain.tip.hash, node.chain.tip.work)


def test_headers_that_follow_nothing_known_are_told_as_such() -> None:
    """A gap is no fault: somebody asks from further back."""
    node = a_node(blocks=6)
    chain = chain_for(node)
    with pytest.raises(Unconnected):
        add(chain, headers_of(node, 3))
    assert chain.tip.height == 0


def test_the_locator_finds_the_fork_however_deep() -> None:
    """Dense at the tip, doubling below, down to the base: a few names for any length."""
    node = a_node(blocks=200)
    chain = chain_for(node)
    add(chain, headers_of(node))
    heights = [node.chain.entries[name].height for name in chain.locator()]
    assert heights[:11] == [*range(200, 190, -1), 189]
    assert heights[-1] == 0
    assert len(heights) < 25
    assert heights == sorted(heights, reverse=True)


def test_below_a_checkpoint_links_are_enough_and_its_hash_decides() -> None:
    """No work is judged below; a chain that misses the checkpoint counts for nothing from the last one met on."""
    node = a_node(blocks=30)
    network = with_checkpoints(node, 5, 20)
    chain = chain_for(node, network)
    headers = headers_of(node)
    add(chain, headers[:10])
    assert (chain.tip.height, chain.is_proven) == (10, False)
    with pytest.raises(Invalid, match="checkpoint-mismatch"):
        add(chain, workless(headers[9].raw, 12))
    assert chain.tip.height == 5
    add(chain, headers[5:])
    assert (chain.tip.hash, chain.tip.work) == (node.chain.tip.hash, node.chain.tip.work)
    assert chain.is_proven
    with pytest.raises(Unconnected):
        add(chain, [remined(headers[18].raw, 0x207FFFFF)])
    again = chain_for(node, network)
    again.restore(chain.raws_above(0))
    with pytest.raises(Invalid, match="bad-fork-prior-to-checkpoint"):
        add(again, [remined(headers[18].raw, 0x207FFFFF, time_s=1_790_001_141)])


def test_below_a_checkpoint_a_broken_link_is_a_fault() -> None:
    """In the middle of what a peer sends; at its start it is only unconnected, and unproven headers can be let go."""
    node = a_node(blocks=20)
    headers = headers_of(node)
    chain = chain_for(node, with_checkpoints(node, 20))
    with pytest.raises(Invalid, match="bad-link"):
        add(chain, [headers[0], headers[2]])
    add(chain, workless(node.chain.active[0].block.header.raw, 7))
    with pytest.raises(Unconnected):
        add(chain, headers)
    chain.forget_unproven()
    assert add(chain, headers) == 20
    chain.forget_unproven()
    assert chain.tip.height == 20


def test_a_chain_with_less_work_than_the_network_has_is_not_proven() -> None:
    """However many headers there are."""
    node = a_node(blocks=5)
    fields = {name: getattr(EMBEDDED, name) for name in EMBEDDED.__struct_fields__}
    chain = chain_for(node, type(EMBEDDED)(**fields | {"work_min": "ffffff"}))
    add(chain, headers_of(node))
    assert not chain.is_proven


def test_branches_are_limited_in_depth_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too deep a fork follows nothing known; too many headers beside the best chain are dropped with their sender."""
    monkeypatch.setattr(spv_chain, "FORK_DEPTH_MAX", 10)
    monkeypatch.setattr(spv_chain, "SIDE_HEADERS_MAX", 5)
    node = a_node(blocks=30)
    chain = chain_for(node)
    headers = headers_of(node)
    add(chain, headers)
    with pytest.raises(Unconnected):
        add(chain, [remined(headers[15].raw, 0x207FFFFF)])
    for at in range(20):
        add(chain, [remined(headers[29].raw, 0x207FFFFF, time_s=1_790_002_000 + at)])
        assert len(chain._entries) <= 16
    monkeypatch.setattr(spv_chain, "SIDE_HEADERS_MAX", 3)
    node.exclude(node.chain.active[26])
    node.mine(b"\x52", 5)
    with pytest.raises(Invalid, match="too-many-side-headers"):
        add(chain, headers_of(node, 26))
    assert chain.tip.hash == sha256d(headers[29].raw)


def test_a_rule_that_needs_more_than_the_base_holds_says_so() -> None:
    """A bundle too short for the network's retarget is no silent guess."""
    node = a_node(blocks=3)
    chain = HeaderChain(EMBEDDED, Base(height=3, headers=(node.chain.tip.block.header.raw,), work=1))
    node.mine(b"\x51")
    with pytest.raises(Invalid, match="below the base"):
        add(chain, headers_of(node, 4))


def test_what_was_kept_comes_back_and_a_torn_end_does_not(tmp_path: Path) -> None:
    """The file after a restart, after a reorganisation, with a torn last header, and with one bit turned."""
    node = a_node(blocks=25)
    chain = chain_for(node)
    base = genesis_base(node.chain.active[0].block.header.raw)
    file = HeaderFile(tmp_path, base, "ab" * 32)
    assert file.load(chain_for(node)) == 0
    add(chain, headers_of(node))
    file.save(chain)
    node.exclude(node.chain.active[22])
    node.mine(b"\x52", 6)
    add(chain, headers_of(node))
    file.save(chain)
    path = next(tmp_path.iterdir())
    assert path.stat().st_size == 27 * HEADER_BYTES
    again = chain_for(node)
    assert file.load(again) == 27
    assert (again.tip.hash, again.tip.work) == (node.chain.tip.hash, node.chain.tip.work)
    node.mine(b"\x51", 1)
    assert add(again, headers_of(node, 28)) == 1
    path.write_bytes(path.read_bytes() + b"torn")
    assert file.load(chain_for(node)) == 27
    whole = bytearray(path.read_bytes())
    whole[20 * HEADER_BYTES + 40] ^= 1
    path.write_bytes(bytes(whole))
    assert file.load(chain_for(node)) == 21 or path.stat().st_size <= 21 * HEADER_BYTES


def test_what_no_checkpoint_confirms_is_not_kept(tmp_path: Path) -> None:
    """A chain below its checkpoint writes nothing."""
    node = a_node(blocks=10)
    chain = chain_for(node, with_checkpoints(node, 10))
    file = HeaderFile(tmp_path, genesis_base(node.chain.active[0].block.header.raw), "ab" * 32)
    add(chain, headers_of(node)[:9])
    file.save(chain)
    assert list(tmp_path.iterdir()) == []
    add(chain, headers_of(node, 10))
    file.save(chain)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_chain_goes_on_from_a_base_in_the_middle() -> None:
    """Eleven headers and their work are enough to judge all that follows by every rule."""
    node = a_node(blocks=60)
    raws = tuple(entry.block.header.raw for entry in node.chain.active[30:41])
    base = Base(height=30, headers=raws, work=node.chain.active[40].work)
    chain = HeaderChain(EMBEDDED, base)
    assert add(chain, headers_of(node, 41)) == 20
    assert (chain.tip.hash, chain.tip.work) == (node.chain.tip.hash, node.chain.tip.work)
    assert chain.hash_at(29) is None
    assert chain.locator()[-1] == node.chain.active[30].hash

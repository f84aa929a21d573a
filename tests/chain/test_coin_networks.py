"""The network files, and the difficulty rules that they choose, against known answers."""

from __future__ import annotations

import struct

import pytest

from common.chain import auxpow, difficulty
from common.chain.coin_network import FOLDER, AuxPowRule, CoinNetwork, Retarget, UnknownNetwork, coin_network
from common.chain.invalid import Invalid
from common.chain.params import FAMILIES
from common.chain.wire import NULL_HASH, AuxPow, Header, Reader, read_auxpow, read_header, sha256d, shown

DOGE = {"name": "x", "magic": "00000000", "port": 1, "genesis": "", "protocol": 1, "peer_protocol_min": 1}
DOGE |= {"user_agent": "", "spacing_s": 60, "pow_limit_bits": 0x1E0FFFFF}


def classic(faster_max: int) -> CoinNetwork:
    rule = Retarget(from_height=0, kind="classic", every=240, timespan_s=14_400, faster_max=faster_max)
    return CoinNetwork(retarget=(rule,), **DOGE)


DIGISHIELD = CoinNetwork(retarget=(Retarget(from_height=0, kind="digishield", timespan_s=60),), **DOGE)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "embedded"])
def test_the_genesis_in_the_file_is_the_familys(name: str) -> None:
    """Every network's file holds the header whose hash the wallet knows it by, with the work that it claims."""
    network = coin_network(name)
    raw = bytes.fromhex(network.genesis)
    header = read_header(Reader(raw))
    assert shown(sha256d(raw)) == FAMILIES[name].genesis
    if name != "litecoin-regtest":  # its genesis carries no scrypt work; nobody judges a genesis
        assert difficulty.meets(raw, header.bits, difficulty.target_of(network.pow_limit_bits))
    assert [item.height for item in network.checkpoints] == sorted(item.height for item in network.checkpoints)


def test_every_family_has_a_file_and_every_file_a_family() -> None:
    """None is forgotten, and a name that is no file is told by name."""
    files = {item.name.removesuffix(".yaml") for item in FOLDER.iterdir() if item.name.endswith(".yaml")}
    assert files == set(FAMILIES)
    for name in ("nowhere", "../networks/embedded", ""):
        with pytest.raises(UnknownNetwork):
            coin_network(name)


@pytest.mark.parametrize(
    ("bits", "time_s", "before_s", "expected"),
    [  # Dogecoin's own blocks at 145,000 and after, by the same rule with the same interval
        (0x1B499DFD, 1395094679, 1395094427, 0x1B671062),
        (0x1B3439CD, 1395101360, 1395100835, 0x1B4E56B3),
        (0x1B446F21, 1395380447, 1395380517, 0x1B335358),
        (0x1B671062, 1395094727, 1395094679, 0x1B6558A4),
    ],
)
def test_digishield_on_real_blocks(bits: int, time_s: int, before_s: int, expected: int) -> None:
    """Slow, very slow, backward and rounded: as they were mined."""
    known = {9: (time_s, bits), 8: (before_s, 0)}
    assert difficulty.next_bits(DIGISHIELD, 10, time_s + 60, known.__getitem__) == expected


@pytest.mark.parametrize(
    ("network", "height", "bits", "time_s", "first_s", "expected"),
    [  # Dogecoin before: every 240 blocks, an interval of four hours
        (classic(16), 240, 0x1E0FFFF0, 1386475638, 1386474927, 0x1E00FFFF),
        (classic(8), 9600, 0x1C1A1206, 1386954113, 1386942008, 0x1C15EA59),
    ],
)
def test_the_classic_retarget_on_real_blocks(
    network: CoinNetwork, height: int, bits: int, time_s: int, first_s: int, expected: int
) -> None:
    """At the interval's end the measured time counts, within its bounds; in between nothing moves."""
    back = height - 1 - (240 if height > 240 else 239)
    known = {height - 1: (time_s, bits), back: (first_s, 0)}
    assert difficulty.next_bits(network, height, time_s + 1, known.__getitem__) == expected
    assert difficulty.next_bits(network, height + 1, time_s + 1, {height: (time_s, bits)}.__getitem__) == bits


def test_a_late_block_on_a_test_network_is_easy() -> None:
    """More than two spacings after its parent, and not one second sooner."""
    network = coin_network("flopcoin-test")
    known = {100: (1_000, 0x1D00FFFF), 99: (970, 0x1D00FFFF)}
    assert difficulty.next_bits(network, 101, 1_061, known.__getitem__) == network.pow_limit_bits
    assert difficulty.next_bits(network, 101, 1_060, known.__getitem__) != network.pow_limit_bits


def test_the_product_forgets_what_does_not_fit() -> None:
    """On Flopcoin's regtest the easiest target times four intervals is taken modulo 2^256, as by its own code."""
    network = coin_network("flopcoin-regtest")
    known = {1: (10_000_000, 0x207FFFFF), 0: (0, 0x207FFFFF)}
    found = difficulty.next_bits(network, 2, 10_000_000, known.__getitem__)
    assert found == difficulty.bits_of(difficulty.target_of(0x207FFFFF) * 14_400 % 2**256 // 3_600)


def test_rules_change_at_their_heights() -> None:
    """Flopcoin main: every 60 blocks before 145, every block from there."""
    network = coin_network("flopcoin-main")
    assert [network.retarget_at(height).kind for height in (0, 144, 145)] == ["classic", "classic", "digishield"]


RULE = AuxPowRule(from_height=100, chain_id=163, is_strict=True)
NETWORK = CoinNetwork(retarget=(Retarget(from_height=0, kind="same"),), auxpow=RULE, **DOGE)


def at_version(version: int) -> Header:
    return Header(version, NULL_HASH, NULL_HASH, 1, 0x1E0FFFFF, 0)


def a_proof() -> AuxPow:
    data = struct.pack("<i", 1) + b"\x01" + NULL_HASH + struct.pack("<I", 0xFFFFFFFF) + b"\x00" + bytes(4)
    data += b"\x00" + bytes(4) + NULL_HASH + b"\x00" + bytes(4) + b"\x00" + bytes(4) + bytes(80)
    return read_auxpow(Reader(data))


@pytest.mark.parametrize(
    ("version", "height", "has_proof", "reason"),
    [
        (163 << 16 | 4, 100, True, "bad-auxpow-flag"),
        (163 << 16 | 0x104, 100, False, "bad-auxpow-flag"),
        (162 << 16 | 4, 100, False, "bad-chain-id"),
        (4, 5, False, "bad-chain-id"),
        (1, 100, False, "late-legacy-block"),
        (2, 100, False, "late-legacy-block"),
        (163 << 16 | 0x104, 99, True, "early-auxpow-block"),
        (1, 99, False, "high-hash"),
        (163 << 16 | 4, 100, False, "high-hash"),
        (163 << 16 | 0x104, 100, True, "bad-auxpow"),
    ],
)
def test_versions_and_proofs_belong_together(version: int, height: int, has_proof: bool, reason: str) -> None:  # noqa: FBT001
    """Old blocks only below the height, merged ones only from there, each with the chain's number, flag and proof."""
    with pytest.raises(Invalid) as caught:
        auxpow.check_work(NETWORK, height, at_version(version), a_proof() if has_proof else None)
    assert caught.value.reason == reason


def test_a_network_without_merged_mining_takes_no_proof() -> None:
    """However much work a stranger's header has: nothing binds it to the block."""
    plain = CoinNetwork(retarget=NETWORK.retarget, **DOGE)
    with pytest.raises(Invalid, match="no merged mining"):
        auxpow.check_work(plain, 5, at_version(0x104), a_proof())
    with pytest.raises(Invalid, match="high-hash"):
        auxpow.check_work(plain, 5, at_version(4), None)


def test_a_network_that_is_not_strict_takes_other_numbers() -> None:
    """The test network: another chain's number is no fault of its own."""
    loose = CoinNetwork(
        retarget=NETWORK.retarget, auxpow=AuxPowRule(from_height=0, chain_id=3908, is_strict=False), **DOGE
    )
    with pytest.raises(Invalid, match="high-hash"):
        auxpow.check_work(loose, 5, at_version(162 << 16 | 4), None)

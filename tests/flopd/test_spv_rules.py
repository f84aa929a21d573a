"""What a light wallet believes of blocks, of the pool, of peers, and what it calls suspicious: case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain import merkle, partial_merkle
from common.chain.invalid import Invalid
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, parse, serialize, txid
from common.chain.wire import encode_header, shown
from common.randomness import SeededRandomness
from common.units import Florins
from dux_flopd.spv_book import AddressBook, is_public, owner_block_of, split_address
from dux_flopd.spv_pool import GONE_MAX, KEPT_S, POOL_MAX, Pool, is_coinbase
from dux_flopd.spv_rules import Unprovable, block_named, by_txid, check_whole_work, header_bytes, proven, whole
from dux_flopd.spv_signals import PeerSeen, Seen, Signal, signals_of
from tests.attacks.registry import attack
from tests.flopd.spv_kit import EMBEDDED, a_node

NODE = a_node("rules", 4)
BLOCK = NODE.chain.active[4].block
HEAD = encode_header(BLOCK.header, BLOCK.auxpow)


def merkle_block(wanted: bool) -> bytes:  # noqa: FBT001
    txids = [tx.txid for tx in BLOCK.txs]
    return partial_merkle.encode_merkle_block(
        HEAD, partial_merkle.prove(txids, [wanted] * len(txids), BLOCK.header.raw)
    )


def test_a_proven_transaction_needs_its_bytes() -> None:
    """With them it is in the block; without, the whole block is asked for; of a wrong proof nothing is believed."""
    raws = by_txid([tx.raw for tx in BLOCK.txs])
    block = proven(merkle_block(True), raws)
    assert [item.txid for item in block.txs] == [shown(tx.txid) for tx in BLOCK.txs]
    assert (block.hash, block.previous) == (shown(BLOCK.hash), shown(BLOCK.header.prev))
    assert block_named(merkle_block(True)) == block.hash
    assert proven(merkle_block(False), {}).txs == ()
    with pytest.raises(Unprovable):
        proven(merkle_block(True), {})
    with pytest.raises(Invalid):
        proven(merkle_block(True)[:-1], raws)
    with pytest.raises(Invalid):
        proven(HEAD[:100], raws)


def test_bytes_that_are_no_transaction_are_a_fault() -> None:
    """A peer that sends noise as `tx` is not asked again."""
    with pytest.raises(Invalid):
        by_txid([b"\x01\x02"])


@attack(
    "coin network",
    tries="a 64-byte transaction that is two hashes side by side (CVE-2017-12842)",
    meets="never proven by parts: the whole block is asked for",
)
def test_a_matched_transaction_of_64_bytes_is_never_proven_by_parts() -> None:
    """CVE-2017-12842, the other direction: it may be two hashes side by side, so the whole block is asked for."""
    raw = serialize(Tx((TxInput(Outpoint("00" * 31 + "01", 1), b"abcd", 0),), (TxOutput(Florins(0), b""),)))
    assert len(raw) == 64
    name = bytes.fromhex(txid(parse(raw)))[::-1]
    header = bytes(36) + name + bytes(12)
    payload = partial_merkle.encode_merkle_block(header, partial_merkle.prove([name], [True], header))
    with pytest.raises(Unprovable):
        proven(payload, {shown(name): raw})


def test_a_whole_block_is_bound_by_its_header() -> None:
    """Nothing missing, nothing doubled, the coinbase first, the merged-mining proof a true one."""
    assert [item.txid for item in whole(BLOCK.raw).txs] == [shown(tx.txid) for tx in BLOCK.txs]
    check_whole_work(EMBEDDED, 4, BLOCK.raw)
    at = header_bytes(BLOCK.raw)
    raws = [tx.raw for tx in BLOCK.txs]
    for bent in (BLOCK.raw[:at] + b"\x00", BLOCK.raw[:at] + b"\x02" + raws[0] + raws[0], BLOCK.raw[: at + 20]):
        with pytest.raises(Invalid):
            whole(bent)
    assert at > 80
    bent = BLOCK.raw[: at - 44] + bytes(32) + BLOCK.raw[at - 12 :]  # the parent block's merkle root
    with pytest.raises(Invalid):
        check_whole_work(EMBEDDED, 4, bent)
    with pytest.raises(Invalid):
        check_whole_work(EMBEDDED, 4, BLOCK.raw[:100])


@attack("coin network", tries="a block lengthened by its own end (CVE-2012-2459)", meets="refused")
def test_a_block_lengthened_by_its_own_end_is_refused() -> None:
    """CVE-2012-2459 on a whole block: the same root, and a transaction twice."""
    raws = [serialize(a_tx(number, number)) for number in range(3)]
    root = merkle.root_of([bytes.fromhex(txid(parse(raw)))[::-1] for raw in raws])[0]
    header = (4).to_bytes(4, "little") + bytes(32) + root + bytes(12)
    with pytest.raises(Invalid, match="bad-txns-duplicate"):
        whole(header + b"\x04" + b"".join([*raws, raws[2]]))


def test_pairs_of_hashes_are_no_block() -> None:
    """A level of the tree above the leaves, given as if it were the transactions: its first is no coinbase."""
    raw = serialize(Tx((TxInput(Outpoint("00" * 31 + "01", 1), b"abcd", 0),), (TxOutput(Florins(0), b""),)))
    name = bytes.fromhex(txid(parse(raw)))[::-1]
    header = (4).to_bytes(4, "little") + bytes(32) + name + bytes(12)
    with pytest.raises(Invalid, match="bad-cb-missing"):
        whole(header + b"\x01" + raw)


# what waits


def a_tx(number: int, spends: int) -> Tx:
    return Tx((TxInput(Outpoint(f"{spends:064x}", 0)),), (TxOutput(Florins(number), b"\x51"),))


def put(pool: Pool, tx: Tx, *, own: bool = False, peer: str = "", now_s: float = 0.0) -> str:
    name = txid(tx)
    pool.add(name, tx, serialize(tx), now_s, own=own, peer=peer)
    return name


def test_a_strangers_transaction_counts_when_enough_peers_announce_it() -> None:
    """One of two is not enough; an own one needs nobody."""
    pool = Pool()
    stranger, own = put(pool, a_tx(1, 1), peer="a"), put(pool, a_tx(2, 2), own=True)
    assert pool.believed(2) == [own]
    assert pool.announced(stranger, "a")
    assert pool.believed(2) == [own]
    assert pool.announced(stranger, "b")
    assert pool.believed(2) == [stranger, own]
    assert put(pool, a_tx(1, 1), peer="c") == stranger
    assert pool.believed(3) == [stranger, own]
    assert not pool.announced("ff" * 32, "a")


def test_a_payment_that_pays_more_takes_the_place_of_an_own_one_and_of_nobody_elses() -> None:
    """The replaced one and what hangs on it wait no more; a cheaper one replaces nothing; strangers' are not judged."""
    pool = Pool()
    coin, change = Outpoint("ab" * 32, 0), Outpoint("01" * 32, 0)
    first = Tx((TxInput(coin),), (TxOutput(Florins(90), b"\x51"),))
    child = Tx((TxInput(change),), (TxOutput(Florins(80), b"\x51"),))
    better = Tx((TxInput(coin),), (TxOutput(Florins(70), b"\x51"),))
    pool.add("01" * 32, first, b"", 0.0, own=True)
    pool.add("02" * 32, child, b"", 0.0, own=True)
    pool.add("03" * 32, first, b"", 0.0, own=False, peer="a")
    assert pool.outbid_by(better) == (["01" * 32], [])
    assert pool.outbid_by(first) == ([], ["01" * 32])
    pool.replace(["01" * 32])
    assert pool.believed(1) == ["03" * 32]
    assert pool.is_gone("02" * 32)


def test_a_block_ends_what_it_confirms_and_what_it_contradicts() -> None:
    """Both leave; the contradicted one does not come back from the books, the confirmed one only after a roll back."""
    pool = Pool()
    mined, rival, other = (
        put(pool, a_tx(1, 1), own=True),
        put(pool, a_tx(2, 1), own=True),
        put(pool, a_tx(3, 3), own=True),
    )
    pool.on_block([(mined, a_tx(1, 1))])
    assert pool.believed(1) == [other]
    assert pool.is_confirmed(mined)
    assert not pool.is_confirmed(rival)
    pool.give_back(rival, a_tx(2, 1), b"r", 1.0)
    assert pool.believed(1) == [other]
    pool.on_roll_back()
    assert not pool.is_confirmed(mined)
    pool.give_back(mined, a_tx(1, 1), b"m", 1.0)
    assert set(pool.believed(1)) == {other, mined}
    assert set(pool.spent) == {Outpoint(f"{1:064x}", 0), Outpoint(f"{3:064x}", 0)}


def test_what_builds_on_a_contradicted_transaction_goes_with_it() -> None:
    """Children and their children; another that stands alone stays; the block that undoes it brings all back."""
    pool = Pool()
    parent = a_tx(1, 1)
    child = Tx((TxInput(Outpoint(txid(parent), 0)),), (TxOutput(Florins(1), b"\x51"),))
    grandchild = Tx((TxInput(Outpoint(txid(child), 0)),), (TxOutput(Florins(1), b"\x51"),))
    names = [put(pool, tx, own=True) for tx in (parent, child, grandchild)]
    other = put(pool, a_tx(4, 4), own=True)
    pool.on_block([("ab" * 32, a_tx(2, 1))])
    assert pool.believed(1) == [other]
    assert all(pool.is_gone(name) for name in names)
    pool.on_block([(names[0], parent)])
    assert not pool.is_gone(names[0])
    pool.on_roll_back()
    assert not pool.is_gone(names[1])


def test_what_is_remembered_as_gone_has_an_end() -> None:
    """The newest are kept; a contradicted one that was never here is no news."""
    pool = Pool()
    names = [put(pool, a_tx(number, number), own=True) for number in range(1, 4)]
    for at, name in enumerate(names):
        pool._gone |= {f"{at}-{number}": None for number in range(GONE_MAX)}
        pool.on_block([("ab" * 32, a_tx(9, at + 1))])
        assert pool.is_gone(name)
    assert len(pool._gone) == GONE_MAX


def test_the_pool_forgets_after_a_day_and_has_an_end() -> None:
    """24 hours, so many transactions; coinbases never wait."""
    pool = Pool()
    old = put(pool, a_tx(8_888_888, 8_888_888), own=True)
    for number in range(POOL_MAX + 5):
        put(pool, a_tx(number + 1, number + 1), own=True, now_s=KEPT_S)
    assert len(pool.believed(1)) == POOL_MAX
    pool.expire(KEPT_S + 1)
    assert pool.get(old) is None
    assert pool.is_gone(old)
    coinbase = Tx((TxInput(Outpoint("00" * 32, 0xFFFFFFFF)),), (TxOutput(Florins(1), b"\x51"),))
    assert is_coinbase(coinbase)
    assert not pool.add(txid(coinbase), coinbase, b"c", 0.0, own=False)
    pool.refuse(put(pool, a_tx(9_999_999, 9_999_999), own=True))
    assert pool.get(txid(a_tx(9_999_999, 9_999_999))) is None


# whom to ask


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("node.example", ("node.example", 7)),
        ("node.example:9", ("node.example", 9)),
        ("10.0.0.1:9", ("10.0.0.1", 9)),
        ("[2001:db8::1]:9", ("2001:db8::1", 9)),
        ("[2001:db8::1]", ("2001:db8::1", 7)),
        ("2001:db8::1", ("2001:db8::1", 7)),
    ],
)
def test_addresses_as_people_write_them(address: str, expected: tuple[str, int]) -> None:
    """With and without a port, IPv6 in brackets or bare."""
    assert split_address(address, 7) == expected


def test_peers_are_apart_and_the_owners_come_first() -> None:
    """No two of one address block; those that were told only when none that was named is left."""
    book = AddressBook(["10.1.0.1:1", "10.1.9.9:1", "10.2.0.1:1"], apart=True, draw=SeededRandomness(1).below)
    book.learn(["192.0.2.1:1"])
    first = book.next([], 0.0)
    second = book.next([first or ""], 0.0)
    assert owner_block_of(first or "") != owner_block_of(second or "")
    third = book.next([first or "", second or ""], 0.0)
    assert third == "192.0.2.1:1"
    assert book.next([first or "", second or "", third], 0.0) is None
    assert owner_block_of("[2001:db8::1]:3") == owner_block_of("2001:db8:ffff::2") == "2001:db8::/32"
    assert owner_block_of("node.example:3") == "node.example"


def test_failures_wait_longer_each_time_and_liars_a_day() -> None:
    """One second, two, four, up to ten minutes; an answer clears it; a ban holds for a day with its reason."""
    book = AddressBook(["a:1"], apart=True, draw=SeededRandomness(1).below)
    for wait_s in (1.0, 2.0, 4.0):
        book.failed("a:1", 100.0)
        assert book.next([], 100.0 + wait_s - 0.1) is None
        assert book.next([], 100.0 + wait_s) == "a:1"
    book.succeeded("a:1")
    book.failed("a:1", 100.0)
    assert book.next([], 101.0) == "a:1"
    book.ban("a:1", "it lied", 100.0)
    assert book.bans(100.0) == [("a:1", "it lied")]
    assert book.next([], 100.0 + 86_399) is None
    assert (book.next([], 100.0 + 86_400), book.bans(100.0 + 86_400)) == ("a:1", [])


@attack(
    "coin network",
    tries="tells of addresses without end, and of private ones",
    meets="a thousand; none of a house's own network",
)
def test_the_book_has_an_end_and_no_private_addresses() -> None:
    """A thousand told addresses; none of a house's own network is taken from a stranger."""
    book = AddressBook([], apart=False, draw=SeededRandomness(1).below)
    book.learn([f"host{number}:1" for number in range(1_500)])
    book.learn(list(book._known)[:3])
    book.succeeded("nobody:1")
    assert len(book._known) == 1_000
    assert [is_public(host) for host in ("8.8.8.8", "10.0.0.1", "127.0.0.1", "::1", "name")] == [True, *[False] * 4]


# what looks wrong

FINE = {
    "peers": [PeerSeen(net=f"net{at}", height=100, tip_shown=b"t") for at in range(4)],
    "wanted": 4,
    "apart": True,
    "height": 100,
    "tip_age_s": 60.0,
    "spacing_s": 60,
    "is_real_time": True,
    "bits_now": 0x1C0FFFFF,
    "bits_day_ago": 0x1C0FFFFF,
    "deepest_fork": 0,
    "withheld": 0,
    "unheard": 0,
    "checked_blocks": 5,
    "unchecked_blocks": 0,
}
ONE_NET = [PeerSeen(net="net", height=100, tip_shown=b"t") for _ in range(4)]
TWO_TIPS = [PeerSeen(net=f"net{at}", height=100, tip_shown=bytes([at % 2 + 1])) for at in range(4)]
AHEAD = [PeerSeen(net=f"net{at}", height=104, tip_shown=b"") for at in range(4)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"wanted": 5}, [Signal.FEW_PEERS]),
        ({"peers": ONE_NET}, [Signal.ONE_NET]),
        ({"peers": ONE_NET, "apart": False}, []),
        ({"peers": TWO_TIPS}, [Signal.TIPS_DISAGREE]),
        ({"peers": AHEAD}, [Signal.BEHIND_PEERS]),
        ({"peers": AHEAD, "height": 101}, []),
        ({"tip_age_s": 3_601.0}, [Signal.STALE_TIP]),
        ({"tip_age_s": 3_601.0, "is_real_time": False}, []),
        ({"bits_now": 0x1C7FFFF8}, []),
        ({"bits_now": 0x1D00FFFF}, [Signal.DIFFICULTY_FELL]),
        ({"bits_now": 0x1D00FFFF, "is_real_time": False}, []),
        ({"deepest_fork": 6}, [Signal.DEEP_FORK]),
        ({"deepest_fork": 5}, []),
        ({"withheld": 1}, [Signal.WITHHELD]),
        ({"unheard": 1}, [Signal.UNHEARD]),
        ({"unchecked_blocks": 6}, [Signal.UNCHECKED]),
        ({"unchecked_blocks": 6, "wanted": 1}, []),  # a network of one coin node: there is nobody to ask beside it
    ],
)
def test_each_sign_shows_alone(change: dict[str, object], expected: list[Signal]) -> None:
    """At its bound and not before."""
    assert signals_of(Seen(**FINE | change)) == expected  # type: ignore[arg-type]


@given(st.integers(0, 10), st.integers(0, 10))
def test_fewer_peers_than_wanted_is_always_told(have: int, wanted: int) -> None:
    """Whatever else holds."""
    seen = Seen(**FINE | {"peers": FINE["peers"][:1] * have, "wanted": wanted})  # type: ignore[index,arg-type]
    assert (Signal.FEW_PEERS in signals_of(seen)) == (have < wanted)


def test_what_does_not_wait_cannot_be_refused() -> None:
    """A refusal that comes after a block has confirmed the payment changes nothing."""
    pool = Pool()
    pool.refuse("ab" * 32)
    assert pool.get("ab" * 32) is None
    assert pool.version == 0

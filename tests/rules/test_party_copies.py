"""Copies of contracts that their parties keep for each other: one for each owner, its own, and never an earlier one."""

from __future__ import annotations

import pytest

from common.clock import ManualClock
from common.store import Store
from dux_escrowd import store as shelf
from dux_escrowd.schema import MIGRATIONS
from dux_escrowd.store import Shelf
from tests.attacks.registry import attack

BUYER, SELLER, OTHER = "did:dux:buyer", "did:dux:seller", "did:dux:other"
CONTRACT, TAG = "c" * 64, b"t" * 32


@pytest.fixture
def store() -> Store:
    return Store.open(None, MIGRATIONS, ManualClock())


def put(store: Store, owner: str, version: int, sealed: bytes, tag: bytes = TAG) -> bool:
    with store.transaction() as tx:
        return Shelf.keep_copy(tx, tag, owner, CONTRACT, version, sealed)


def rows(store: Store) -> int:
    found = store.row("SELECT count(*) AS n FROM party_copies")
    return int(found["n"]) if found else 0


def test_one_copy_of_a_contract_is_kept_for_each_owner(store: Store) -> None:
    """Under whatever tags and versions they come; an earlier one than what is kept is not, and is not said to be."""
    assert put(store, SELLER, 1_000, b"first")
    assert not any(put(store, SELLER, 1_000 - n, b"x", n.to_bytes(32, "big")) for n in range(1, 100))
    assert (rows(store), Shelf(store).copy(TAG, SELLER)) == (1, (1_000, b"first"))
    assert put(store, SELLER, 1_000, b"the same step again")
    assert put(store, SELLER, 1_001, b"next", b"u" * 32)
    assert (rows(store), Shelf(store).copy(TAG, SELLER)) == (1, None)
    assert Shelf(store).copy(b"u" * 32, SELLER) == (1_001, b"next")
    assert put(store, BUYER, 1, b"another's")
    assert rows(store) == 2


def test_who_was_told_a_tag_takes_nobodys_place(store: Store) -> None:
    """The seller puts junk under the buyer's tag while this node knows no copy of it: the buyer's own is kept, too."""
    assert put(store, SELLER, 9, b"junk")
    assert put(store, BUYER, 1, b"real")
    assert Shelf(store).copy(TAG, BUYER) == (1, b"real")
    assert Shelf(store).copy(TAG, OTHER) == (9, b"junk")


def test_the_askers_newest_copy_counts_wherever_it_is_kept(store: Store) -> None:
    """As a party's or as a stranger's; nobody else's version does. To others what came first is given."""
    kept = "INSERT INTO kept_copies (tag, owner, version, until, sealed, came) VALUES (?, ?, ?, 100, ?, ?)"
    with store.transaction() as tx:
        tx.execute(kept, TAG, OTHER, 1, b"first come", 1)
        tx.execute(kept, TAG, SELLER, 99, b"junk", 2)
        tx.execute(kept, TAG, BUYER, 7, b"newest", 3)
    assert Shelf(store).copy(TAG, BUYER) == (7, b"newest")
    assert Shelf(store).copy(TAG, "did:dux:restored") == (1, b"first come")
    assert put(store, BUYER, 6, b"older")
    assert Shelf(store).copy(TAG, BUYER) == (7, b"newest")
    assert put(store, BUYER, 8, b"newer")
    assert Shelf(store).copy(TAG, BUYER) == (8, b"newer")
    assert Shelf(store).copy(TAG, "did:dux:restored") == (8, b"newer")


def put_lot(store: Store, contract: str, state: str, number: int = 0) -> None:
    with store.transaction() as tx:
        tx.execute("INSERT OR REPLACE INTO lots VALUES (?, ?, ?, 0, x'')", contract, number, state)


def kept(store: Store, contract: str, size: int) -> bool:
    with store.transaction() as tx:
        fits = Shelf(store).has_room_for_copy(tx, contract, size)
        return fits and Shelf.keep_copy(tx, contract[0].encode() * 32, BUYER, contract, 1, bytes(size))


@attack(
    "escrow",
    tries="two names agree on contracts without end, pay for none, and hand an arbiter their copies of each",
    meets="of what nobody pays for 64 MiB are kept, void ones go first, and what was paid for always has room",
)
def test_contracts_that_nobody_pays_fill_no_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpaid one has no room where others hold it; a void one gives way, unless a stray payment lies on it."""
    monkeypatch.setattr(shelf, "UNPAID_COPIES_BYTES_MAX", 100)
    for name in "abc":
        put_lot(store, name * 64, "AGREED")
    assert [kept(store, name * 64, 50) for name in "abc"] == [True, True, False]
    put_lot(store, "c" * 64, "FUNDED_SEEN")
    assert kept(store, "c" * 64, 50)
    put_lot(store, "a" * 64, "VOID")
    put_lot(store, "a" * 64, "STRAY", 1)
    put_lot(store, "d" * 64, "AGREED")
    assert kept(store, "d" * 64, 50), "what a stray lies on is paid for"
    put_lot(store, "b" * 64, "VOID")
    put_lot(store, "e" * 64, "AGREED")
    assert not kept(store, "e" * 64, 101)
    assert Shelf(store).copy(b"b" * 32, BUYER), "none goes in vain"
    assert kept(store, "e" * 64, 50)
    held = [str(row["contract_id"])[0] for row in store.rows("SELECT contract_id FROM party_copies ORDER BY 1")]
    assert held == ["a", "c", "d", "e"]
    with store.transaction() as tx:
        Shelf.drop_copies(tx, "a" * 64)
    assert rows(store) == 3


def test_void_contracts_of_others_are_not_followed_without_end(store: Store) -> None:
    """The newest ones are; one's own purchases, what a coin lies on, and what may still be paid always are."""
    contract = (
        "INSERT INTO contracts (contract_id, role, stage, buyer, seller, created_ms, created_height, follow) "
        "VALUES (?, ?, 'lot', 'b', 's', ?, 1, 1)"
    )
    cases = [
        ("a", "arbiter", "VOID"), ("b", "seller", "VOID"), ("c", "buyer", "VOID"), ("d", "arbiter", "AGREED"),
        ("e", "arbiter", "VOID"), ("f", "arbiter", "VOID"),
    ]  # fmt: skip
    for at, (name, role, state) in enumerate(cases):
        with store.transaction() as tx:
            tx.execute(contract, name * 64, role, at)
        put_lot(store, name * 64, state)
    put_lot(store, "b" * 64, "STRAY", 1)
    assert [name[0] for name in Shelf(store).void_beyond(1)] == ["e", "a"]
    assert Shelf(store).void_beyond(3) == []


def test_copies_of_an_earlier_release_move_over() -> None:
    """Of several rows of one contract and owner the one with the largest version stays."""
    at = next(n for n, sql in enumerate(MIGRATIONS) if "party_copies" in sql)
    store = Store.open(None, MIGRATIONS[:at], ManualClock())
    with store.transaction() as tx:
        for tag, version in ((b"a" * 32, 3), (b"b" * 32, 2)):
            tx.execute("INSERT INTO copies VALUES (?, ?, ?, ?, ?)", tag, SELLER, CONTRACT, version, b"%d" % version)
    for sql in MIGRATIONS[at].split(";"):
        with store.transaction() as tx:
            tx.execute(sql)
    assert (rows(store), Shelf(store).copy(b"a" * 32, SELLER)) == (1, (3, b"3"))

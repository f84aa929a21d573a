"""The registry's shelf of receipts: what a file of a version before keeps, and who comes back first."""

from __future__ import annotations

from pathlib import Path

from common.chain.script import BRANCH_COOP
from common.clock import ManualClock
from common.codec import canonical
from common.receipt_keys import LotSpent
from common.receipts import SettledReceipt, facts_id
from common.store import Store
from dux_registryd.payment_rules import GIVEN_WAY, NOT_SHOWN, SeenPayment
from dux_registryd.store import MIGRATIONS, Book
from dux_registryd.store_receipts import REVIVED_MAX
from dux_registryd.waiting_room import WaitingRoom
from tests.market.keyed import LOT, keyed
from tests.market.makers import BUYER, SELLER, STRANGER, changed, receipt
from tests.market.test_receipt_keys import sealed

BEFORE_TWO_WORDS = next(at for at, step in enumerate(MIGRATIONS) if "words_kept" in step)


def test_words_of_a_version_before_are_kept_with_their_numbers(tmp_path: Path) -> None:
    """Peers go on where they stood, and each signer may now have a word without a key and one with."""
    path, facts = tmp_path / "registry.sqlite", facts_id(receipt())
    with Store.open(path, MIGRATIONS[:BEFORE_TWO_WORDS], ManualClock()).transaction() as tx:
        for number, (one, key) in enumerate([(receipt(), "none"), (keyed(receipt(signer=BUYER)), "shown")], 5):
            row = (number, facts, one.signer, one.height, canonical(sealed(one)), key)
            tx.execute("INSERT INTO words (number, facts, signer, height, body, key) VALUES (?, ?, ?, ?, ?, ?)", *row)
        claim = (facts, b"", "", "", "", 0, 0, 0, 0, "", "", "pending", NOT_SHOWN, 1)
        tx.execute(f"INSERT INTO claims VALUES ({', '.join('?' * len(claim))})", *claim)
    book = Book(Store.open(path, MIGRATIONS, ManualClock()))
    assert [number for number, _ in book.words_after(0, 0, 10)] == [5, 6]
    assert book.waiting() == [(receipt().signer, 1, True)]
    with book.store.transaction() as tx:
        assert [put(book, tx, one) for one in (receipt(), keyed(receipt()), keyed(receipt()))] == [False, True, False]
    assert [number > 6 for number, _ in book.words_after(6, 0, 10)] == [True]


def test_the_best_attested_come_back_first_and_not_all_at_once() -> None:
    """Of many that gave way to one claim a bounded number waits again, those with a shown key before made-up crowds."""
    book = Book(Store.open(None, MIGRATIONS, ManualClock()))
    winner, other = facts_id(receipt()), facts_id(receipt(cid=b"\x09" * 32))
    crowd = [receipt(cid=bytes([7, number]) * 16) for number in range(REVIVED_MAX + 20)]
    owner, couple = receipt(cid=b"\x02" * 32), receipt(cid=b"\x03" * 32)
    with book.store.transaction() as tx:
        for one in (*crowd, owner, keyed(owner), couple, changed(couple, signer=BUYER)):
            put(book, tx, one)
        book.judge_keys(tx, facts_id(owner), SeenPayment(100, (), (LotSpent(LOT, BRANCH_COOP),)))
        for one in (*crowd, owner, couple):
            book.set_state(tx, facts_id(one), GIVEN_WAY, outdone_by=winner)
        book.set_state(tx, facts_id(crowd[0]), GIVEN_WAY, outdone_by=other)
        assert book.revive(tx, winner) == REVIVED_MAX
    waits = {claim.facts for claim in book.pending(0, book.place("claims"), 1_000)}
    assert len(waits) == REVIVED_MAX
    assert {facts_id(owner), facts_id(couple)} <= waits
    assert facts_id(crowd[0]) not in waits
    with book.store.transaction() as tx:
        assert [book.revive(tx, winner) for _ in range(2)] == [21, 0]


def test_places_are_counted_again_each_second() -> None:
    """What the chain has settled since leaves its place within a second; what was let in counts at once."""
    book, clock = Book(Store.open(None, MIGRATIONS, ManualClock())), ManualClock()
    room = WaitingRoom(book, clock, places=2)
    kept = [receipt(cid=bytes([number]) * 32, signer=(SELLER, BUYER)[number]) for number in range(2)]
    with book.store.transaction() as tx:
        for one in kept:
            assert not room.is_shut_to(one.signer)
            room.let_in(tx, one.signer)
            put(book, tx, one)
        assert room.is_shut_to(STRANGER)
        book.set_state(tx, facts_id(kept[0]), GIVEN_WAY)
        clock.advance(0.9)
        assert room.is_shut_to(STRANGER)
        clock.advance(0.1)
        assert not room.is_shut_to(STRANGER)
        room.let_in(tx, STRANGER)
        assert room.is_shut_to(SELLER)


def put(book: Book, tx: object, one: SettledReceipt) -> bool:
    return book.put_word(tx, facts_id(one), one, sealed(one))  # type: ignore[arg-type]

"""The registry's shelf of receipts: what a file of a version before keeps."""

from __future__ import annotations

from pathlib import Path

from common.clock import ManualClock
from common.codec import canonical
from common.receipts import SettledReceipt, facts_id
from common.store import Store
from dux_registryd.store import MIGRATIONS, Book
from tests.market.keyed import keyed
from tests.market.makers import BUYER, receipt
from tests.market.test_receipt_keys import sealed

BEFORE_TWO_WORDS = next(at for at, step in enumerate(MIGRATIONS) if "words_kept" in step)


def test_words_of_a_version_before_are_kept_with_their_numbers(tmp_path: Path) -> None:
    """Peers go on where they stood, and each signer may now have a word without a key and one with."""
    path, facts = tmp_path / "registry.sqlite", facts_id(receipt())
    with Store.open(path, MIGRATIONS[:BEFORE_TWO_WORDS], ManualClock()).transaction() as tx:
        for number, (one, key) in enumerate([(receipt(), "none"), (keyed(receipt(signer=BUYER)), "shown")], 5):
            row = (number, facts, one.signer, one.height, canonical(sealed(one)), key)
            tx.execute("INSERT INTO words (number, facts, signer, height, body, key) VALUES (?, ?, ?, ?, ?, ?)", *row)
    book = Book(Store.open(path, MIGRATIONS, ManualClock()))
    assert [number for number, _ in book.words_after(0, 0, 10)] == [5, 6]
    with book.store.transaction() as tx:
        assert [put(book, tx, one) for one in (receipt(), keyed(receipt()), keyed(receipt()))] == [False, True, False]
    assert [number > 6 for number, _ in book.words_after(6, 0, 10)] == [True]


def put(book: Book, tx: object, one: SettledReceipt) -> bool:
    return book.put_word(tx, facts_id(one), one, sealed(one))  # type: ignore[arg-type]

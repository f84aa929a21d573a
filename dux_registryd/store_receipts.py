"""The part of the registry's file that holds receipts: SQL of claims and words and nothing else.

A receipt is kept as a *claim* (the facts that its signers agree on) and the *words* of those signers. A claim's cursor
grows whenever its state changes, so that readers can follow; a word's number is the order of arrival, for peers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.codec import canonical
from common.contracts.registry import ReceiptState
from common.receipts import Attested, KeyedReceipt, Outcome, SettledReceipt, opened_receipt, without_key
from common.store import Row, Store, Tx
from common.units import BlockHeight, Did, Florins
from dux_registryd.model import Settlement
from dux_registryd.payment_rules import IDLE, REVIVED, Finding, KeyState, SeenPayment, key_state
from dux_registryd.store_nodes import next_number

REVIVED_MAX = 100  # claims that one fallen claim lets wait again; each is a look at the chain


@dataclass(frozen=True, slots=True)
class Claim:
    """One contract's end as its signers tell it, and what became of it here."""

    facts: bytes
    cursor: int
    state: ReceiptState
    reason: str
    receipt: SettledReceipt  # the first word's; words differ in signer, time, output hash and key only
    words: tuple[bytes, ...]
    told: tuple[SettledReceipt, ...]  # each signer's that counts: none with a strange key, unseen keys left out
    held: frozenset[tuple[Did, bool]]  # signers whose word without a key, or with one (True), adds nothing any more

    def holds(self, receipt: SettledReceipt) -> bool:
        """Whether this signer's word of this kind is held, or one that is worth more."""
        return (receipt.signer, isinstance(receipt, KeyedReceipt)) in self.held


class ReceiptShelf:
    """Receipts as this registry holds them."""

    store: Store

    def put_word(self, tx: Tx, facts: bytes, receipt: SettledReceipt, envelope: Attested) -> bool:
        """Keep a signer's word, and the claim it makes if it is the first; whether it was new.

        A claim that was refused waits again: a further signer may make it the better attested of two. Of each signer
        one word without a key is kept and one with: the first counts until the chain has shown the other's key.
        """
        keyed = isinstance(receipt, KeyedReceipt)
        new = tx.execute(
            "INSERT OR IGNORE INTO words (facts, signer, height, body, key) VALUES (?, ?, ?, ?, ?)",
            facts,
            receipt.signer,
            receipt.height,
            canonical(envelope),
            (KeyState.UNSEEN if keyed else KeyState.NONE).value,
        ).rowcount
        held = tx.row("SELECT state FROM claims WHERE facts = ?", facts)
        if new and held is None:
            self._open_claim(tx, facts, receipt)
        elif new and held is not None and held["state"] == ReceiptState.REFUSED.value:
            self.set_state(tx, facts, (ReceiptState.PENDING, "a further signer was heard"))
        return bool(new)

    def judge_keys(self, tx: Tx, facts: bytes, seen: SeenPayment) -> None:
        """Write down which keys of a claim's words are in the scripts that its payment spends.

        One that is takes the place of its signer's word without; a strange one takes nothing back.
        """
        for word in tx.rows("SELECT number, signer, body FROM words WHERE facts = ? AND key = 'unseen'", facts):
            state = key_state(opened_receipt(word["body"])[1], seen)
            tx.execute("UPDATE words SET key = ? WHERE number = ?", state.value, word["number"])
            if state is KeyState.SHOWN:
                tx.execute("DELETE FROM words WHERE facts = ? AND signer = ? AND key = 'none'", facts, word["signer"])

    def _open_claim(self, tx: Tx, facts: bytes, receipt: SettledReceipt) -> None:
        tx.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
            facts,
            receipt.cid,
            receipt.buyer,
            receipt.seller,
            receipt.txid,
            receipt.height,
            int(receipt.price_florins),
            int(receipt.gross_florins),
            int(receipt.tax_florins),
            receipt.outcome.value,
            receipt.service_id,
            ReceiptState.PENDING.value,
            "its payment was not looked for yet",
            next_number(tx, "claims"),
            receipt.signer,
        )

    def set_state(self, tx: Tx, facts: bytes, finding: Finding, outdone_by: bytes | None = None) -> None:
        """Write down what was found; readers are told when it differs. `outdone_by`: the claim that it gave way to."""
        state, reason = finding
        tx.execute(
            "UPDATE claims SET outdone_by = ? WHERE facts = ? AND outdone_by IS NOT ?", outdone_by, facts, outdone_by
        )
        tx.execute(
            "UPDATE claims SET state = ?, reason = ?, cursor = ? WHERE facts = ? AND (state != ? OR reason != ?)",
            state.value,
            reason,
            next_number(tx, "claims"),
            facts,
            state.value,
            reason,
        )

    def revive(self, tx: Tx, fallen: bytes) -> int:
        """Let those wait again that gave way to a claim which has fallen; how many.

        No more than a bound, those under keys that their payment shows before others, and of these the most signed.
        """
        rows = tx.rows(
            "SELECT facts FROM claims WHERE outdone_by = ? ORDER BY "
            "(SELECT count(*) FROM words WHERE words.facts = claims.facts AND key = 'shown') DESC, "
            "(SELECT count(DISTINCT signer) FROM words WHERE words.facts = claims.facts) DESC, cursor LIMIT ?",
            fallen,
            REVIVED_MAX,
        )
        for row in rows:
            self.set_state(tx, row["facts"], REVIVED)
        return len(rows)

    def reopen_from(self, tx: Tx, height: int) -> int:
        """After a reorganisation: receipts from this height on are to be checked again."""
        return tx.execute(
            "UPDATE claims SET state = 'pending', reason = 'the chain was reorganised', outdone_by = NULL, cursor = ? "
            "WHERE height >= ? AND state != 'pending'",
            next_number(tx, "claims"),
            height,
        ).rowcount

    def claim(self, facts: bytes) -> Claim | None:
        """One claim by its facts."""
        row = self.store.row("SELECT * FROM claims WHERE facts = ?", facts)
        return self._claim(row) if row else None

    def claim_of(self, cid: bytes) -> Claim | None:
        """What is known of a contract: the settled claim if there is one, else the newest."""
        row = self.store.row(
            "SELECT * FROM claims WHERE cid = ? ORDER BY state = 'settled' DESC, cursor DESC LIMIT 1", cid
        )
        return self._claim(row) if row else None

    def pending(self, after: int, upto: int, limit: int) -> list[Claim]:
        """Claims that wait for the chain or for more words, and settled ones with a key that was not looked for.

        Those whose last change lies in (after, upto], the oldest change first.
        """
        rows = self.store.rows(
            "SELECT * FROM claims WHERE cursor > ? AND cursor <= ? AND (state = 'pending' OR (state = 'settled' AND "
            "facts IN (SELECT facts FROM words WHERE key = 'unseen'))) ORDER BY cursor LIMIT ?",
            after,
            upto,
            limit,
        )
        return [self._claim(row) for row in rows]

    def count_claims(self) -> dict[str, int]:
        """How many claims are in each state."""
        rows = self.store.rows("SELECT state, count(*) AS n FROM claims GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    def waiting(self) -> list[tuple[Did, int, bool]]:
        """Whose claims wait: the name whose word made them, how many, and whether idly (see `payment_rules.IDLE`)."""
        rows = self.store.rows(
            "SELECT teller, reason IN (?, ?) AS idle, count(*) AS n FROM claims WHERE state = 'pending' "
            "GROUP BY teller, idle ORDER BY teller, idle",
            *IDLE,
        )
        return [(Did(row["teller"]), int(row["n"]), bool(row["idle"])) for row in rows]

    def forget_waiting(self, tx: Tx, teller: str, *, idle: bool) -> None:
        """Let go of one waiting claim of a name: of the idle ones the one that is so longest, else the newest."""
        found = tx.rows(
            "SELECT facts FROM claims WHERE state = 'pending' AND teller = ? AND (reason IN (?, ?)) = ? "
            "ORDER BY cursor",
            teller,
            *IDLE,
            idle,
        )
        if found:
            facts = found[0 if idle else -1]["facts"]
            tx.execute("DELETE FROM words WHERE facts = ?", facts)
            tx.execute("DELETE FROM claims WHERE facts = ?", facts)

    def rivals(self, facts: bytes, receipt: SettledReceipt) -> list[Claim]:
        """The settled claims with other facts that name the same payment or the same contract."""
        rows = self.store.rows(
            "SELECT * FROM claims WHERE (txid = ? OR cid = ?) AND state = 'settled' AND facts != ? ORDER BY cursor",
            receipt.txid,
            receipt.cid,
            facts,
        )
        return [self._claim(row) for row in rows]

    def claims_after(self, cursor: int, from_height: int, *, settled_only: bool, limit: int) -> list[Claim]:
        """Claims that changed after a cursor, oldest change first."""
        state = "settled" if settled_only else "%"
        rows = self.store.rows(
            "SELECT * FROM claims WHERE cursor > ? AND height >= ? AND state LIKE ? ORDER BY cursor LIMIT ?",
            cursor,
            from_height,
            state,
            limit,
        )
        return [self._claim(row) for row in rows]

    def settled_between(self, low: int, high: int) -> list[Claim]:
        """Settled claims whose payment's height lies in the window."""
        rows = self.store.rows(
            "SELECT * FROM claims WHERE state = 'settled' AND height BETWEEN ? AND ? ORDER BY height, cid", low, high
        )
        return [self._claim(row) for row in rows]

    def words_after(self, number: int, from_height: int, limit: int) -> list[tuple[int, bytes]]:
        """Signed receipts in the order of their arrival."""
        rows = self.store.rows(
            "SELECT number, body FROM words WHERE number > ? AND height >= ? ORDER BY number LIMIT ?",
            number,
            from_height,
            limit,
        )
        return [(row["number"], bytes(row["body"])) for row in rows]

    def words_about(self, seller: str, limit: int) -> list[bytes]:
        """Signed receipts of a seller's contracts, the newest first."""
        rows = self.store.rows(
            "SELECT words.body FROM words JOIN claims USING (facts) WHERE claims.seller = ? "
            "ORDER BY words.height DESC, words.number LIMIT ?",
            seller,
            limit,
        )
        return [bytes(row["body"]) for row in rows]

    def settlements(self) -> list[Settlement]:
        """Every settled contract."""
        return [_settlement(row) for row in self.store.rows("SELECT * FROM claims WHERE state = 'settled'")]

    def settlements_of(self, did: str) -> list[Settlement]:
        """The settled contracts that a node was a party of, newest first."""
        rows = self.store.rows(
            "SELECT * FROM claims WHERE state = 'settled' AND (seller = ? OR buyer = ?) ORDER BY height DESC, cid",
            did,
            did,
        )
        return [_settlement(row) for row in rows]

    def last_tip(self) -> tuple[int, str] | None:
        """The tip at which receipts were last checked."""
        row = self.store.row("SELECT height, hash FROM chain")
        return (row["height"], row["hash"]) if row else None

    def height_by(self, seen: int | None) -> int:
        """The tip's height as it was seen, of a node that has seen none since its start the last one kept; else 0."""
        last = self.last_tip()
        return seen if seen is not None else last[0] if last else 0

    def set_last_tip(self, tx: Tx, height: int, block_hash: str) -> None:
        """Remember the tip at which receipts were checked."""
        tx.execute("INSERT OR REPLACE INTO chain VALUES (1, ?, ?)", height, block_hash)

    def _claim(self, row: Row) -> Claim:
        words = self.store.rows("SELECT body, key FROM words WHERE facts = ? ORDER BY signer, number", row["facts"])
        receipts = [(opened_receipt(word["body"])[1], KeyState(word["key"])) for word in words]
        return Claim(
            facts=bytes(row["facts"]),
            cursor=row["cursor"],
            state=ReceiptState(row["state"]),
            reason=row["reason"],
            receipt=receipts[0][0],
            words=tuple(bytes(word["body"]) for word in words),
            told=_heard(receipts),
            held=frozenset(
                (told.signer, with_key)
                for told, key in receipts
                for with_key in ((False, True) if key is KeyState.SHOWN else (key is not KeyState.NONE,))
            ),
        )


def _heard(words: Iterable[tuple[SettledReceipt, KeyState]]) -> tuple[SettledReceipt, ...]:
    """Each signer's word that counts: under a key that was shown, else without one."""
    heard: dict[Did, SettledReceipt] = {}
    for told, key in words:
        if key is KeyState.SHOWN or (key is not KeyState.STRANGE and told.signer not in heard):
            heard[told.signer] = without_key(told) if key is KeyState.UNSEEN else told
    return tuple(heard.values())


def by_seller(settlements: Iterable[Settlement]) -> dict[Did, list[Settlement]]:
    """Settlements under the seller that they speak of."""
    found: dict[Did, list[Settlement]] = {}
    for settlement in settlements:
        found.setdefault(settlement.seller, []).append(settlement)
    return found


def _settlement(row: Row) -> Settlement:
    return Settlement(
        cid=bytes(row["cid"]),
        buyer=Did(row["buyer"]),
        seller=Did(row["seller"]),
        price_florins=Florins(row["price"]),
        gross_florins=Florins(row["gross"]),
        tax_florins=Florins(row["tax"]),
        height=BlockHeight(row["height"]),
        outcome=Outcome(row["outcome"]),
    )

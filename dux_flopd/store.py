"""What is ours and what was decided, in SQL: own coins, payments, contracts and their keys."""

from __future__ import annotations

from common.chain.tx import Outpoint, parse
from common.store import Row, Store, Tx
from common.units import Florins
from dux_flopd.blocks import skeleton
from dux_flopd.chain_store import coin_of
from dux_flopd.model import (
    BroadcastEffect,
    ContractKeyRow,
    ContractRow,
    FollowedScript,
    NewPayment,
    OwnCoin,
    OwnTx,
    PaymentKind,
    Spent,
    StoredPayment,
)

DAY_MS = 86_400_000
OPEN_PAYMENTS_MAX = 1_000  # handed to the node again in one round

# A payment is over when a rival of it is in a block, or when it was refused: then it binds nothing. A copy with
# other input scripts (malleated by a stranger) is no rival: it pays the same.
_LIVE = """payments.refused = '' AND NOT EXISTS (
    SELECT 1 FROM binds b JOIN spends s ON s.txid = b.txid AND s.vout = b.vout
    JOIN txs t ON t.txid = s.spender
    WHERE b.payment = payments.txid AND s.height IS NOT NULL AND t.skeleton <> payments.skeleton)"""


def _payment(row: Row) -> StoredPayment:
    return StoredPayment(
        txid=row["txid"],
        raw=row["raw"],
        kind=PaymentKind(row["kind"]),
        request_id=row["request_id"],
        counterparty=row["counterparty"],
        amount=row["amount"],
        fee=row["fee"],
        at_ms=row["at_ms"],
        contract_id=row["contract_id"],
        refused=row["refused"],
        skeleton=row["skeleton"],
        replaced_by=row["replaced_by"],
    )


class WalletStore:
    """The wallet's part of flopd's store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def last_seen(self, tx: Tx, branch: int) -> int:
        """The highest number of a branch that has ever been paid or handed out; -1 for none."""
        row = tx.row(
            "SELECT max(number) AS last FROM scripts WHERE kind = 'own' AND branch = ? AND (label <> ''"
            " OR EXISTS (SELECT 1 FROM coins WHERE coins.script = scripts.script))",
            branch,
        )
        return -1 if row is None or row["last"] is None else row["last"]

    def last_followed(self, tx: Tx, branch: int) -> int:
        """The highest number of a branch that is followed; -1 for none."""
        row = tx.row("SELECT max(number) AS last FROM scripts WHERE kind = 'own' AND branch = ?", branch)
        return -1 if row is None or row["last"] is None else row["last"]

    def hand_out(self, tx: Tx, item: FollowedScript) -> None:
        """A followed own script is in use from now on."""
        tx.execute("UPDATE scripts SET label = ? WHERE script = ?", item.label, item.script)

    def unspent(self) -> list[OwnCoin]:
        """Own coins that nothing known spends, oldest first."""
        rows = self.store.rows(
            f"""SELECT coins.*, scripts.branch, scripts.number, EXISTS (
                    SELECT 1 FROM binds JOIN payments ON payments.txid = binds.payment
                    WHERE binds.txid = coins.txid AND binds.vout = coins.vout AND {_LIVE}) AS is_locked
                FROM coins JOIN scripts ON scripts.script = coins.script
                WHERE scripts.kind = 'own' AND NOT EXISTS (
                    SELECT 1 FROM spends WHERE spends.txid = coins.txid AND spends.vout = coins.vout)
                ORDER BY coins.height IS NULL, coins.height, coins.position, coins.vout"""  # noqa: S608 - fixed text
        )
        return [OwnCoin(coin_of(row), row["branch"], row["number"], bool(row["is_locked"])) for row in rows]

    def in_contracts(self) -> int:
        """Florins in unspent lots that this wallet funded."""
        row = self.store.row(
            """SELECT coalesce(sum(coins.value), 0) AS sum FROM coins JOIN scripts ON scripts.script = coins.script
               WHERE scripts.kind = 'lot' AND scripts.label IN ('buyer', 'payer') AND NOT EXISTS (
                   SELECT 1 FROM spends WHERE spends.txid = coins.txid AND spends.vout = coins.vout)"""
        )
        return int(row["sum"]) if row else 0

    def add_payment(self, tx: Tx, payment: NewPayment) -> None:
        """Store a payment, bind its coins, and want it handed to the node: one decision."""
        tx.execute(
            "INSERT OR IGNORE INTO payments (txid, raw, skeleton, kind, request_id, caller, counterparty, amount, fee,"
            " contract_id, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            payment.txid,
            payment.raw,
            skeleton(parse(payment.raw)),
            payment.kind,
            payment.request_id,
            payment.caller,
            payment.counterparty,
            payment.amount,
            payment.fee,
            payment.contract_id,
            tx.now_ms(),
        )
        tx.execute("UPDATE payments SET refused = '' WHERE txid = ?", payment.txid)  # decided again: tried again
        for point in payment.binds:
            tx.execute("INSERT OR IGNORE INTO binds VALUES (?, ?, ?)", point.txid, point.vout, payment.txid)
        tx.outbox(f"broadcast/{payment.txid}", "broadcast", BroadcastEffect(payment.txid))

    def payment(self, txid: str) -> StoredPayment | None:
        """One payment."""
        row = self.store.row("SELECT * FROM payments WHERE txid = ?", txid)
        return _payment(row) if row else None

    def live_payment(self, contract_id: str, kind: PaymentKind) -> StoredPayment | None:
        """The payment of this kind for a contract, unless it is over for good."""
        row = self.store.row(
            f"SELECT * FROM payments WHERE contract_id = ? AND kind = ? AND {_LIVE} ORDER BY number DESC",  # noqa: S608
            contract_id,
            kind,
        )
        return _payment(row) if row else None

    def open_payments(self) -> list[StoredPayment]:
        """Live payments that neither wait at the node nor are in a block; own ones before what was only handed in."""
        rows = self.store.rows(
            f"SELECT * FROM payments WHERE {_LIVE} AND replaced_by = '' AND NOT EXISTS ("  # noqa: S608
            " SELECT 1 FROM txs WHERE txs.txid = payments.txid OR (txs.skeleton = payments.skeleton"
            " AND txs.height IS NOT NULL)) ORDER BY kind = ?, number LIMIT ?",
            PaymentKind.RELAY,
            OPEN_PAYMENTS_MAX,
        )
        return [_payment(row) for row in rows]

    def payments(self) -> list[StoredPayment]:
        """All payments that move own coins or lots, newest first."""
        return [_payment(row) for row in self.store.rows("SELECT * FROM payments ORDER BY number DESC")]

    def refuse(self, tx: Tx, txid: str, reason: str) -> None:
        """The node refused it for good: it binds nothing any more, and what it should have replaced stands again."""
        tx.execute("UPDATE payments SET refused = ? WHERE txid = ?", reason, txid)
        tx.execute("UPDATE payments SET replaced_by = '' WHERE replaced_by = ?", txid)

    def is_bound(self, point: Outpoint) -> bool:
        """Whether a payment that is not over spends this output, also before the view has seen either."""
        sql = f"""SELECT 1 FROM binds JOIN payments ON payments.txid = binds.payment
                  WHERE binds.txid = ? AND binds.vout = ? AND replaced_by = '' AND {_LIVE}"""  # noqa: S608 - fixed text
        return self.store.row(sql, point.txid, point.vout) is not None

    def replace(self, tx: Tx, old: str, new: str) -> None:
        """From now on the new payment speaks for the old one."""
        tx.execute("UPDATE payments SET replaced_by = ? WHERE txid = ?", new, old)

    def coins_of(self, payment: str) -> list[OwnCoin]:
        """The own coins that a payment spends, in no order."""
        rows = self.store.rows(
            """SELECT coins.*, scripts.branch, scripts.number FROM binds
               JOIN coins ON coins.txid = binds.txid AND coins.vout = binds.vout
               JOIN scripts ON scripts.script = coins.script AND scripts.kind = 'own' WHERE binds.payment = ?""",
            payment,
        )
        return [OwnCoin(coin_of(row), row["branch"], row["number"], is_locked=True) for row in rows]

    def most_spent(self, since_ms: int) -> dict[str, int]:
        """What the standing approval has paid since then: in all, and of the caller and counterparty with most."""
        paid = "FROM payments WHERE at_ms > ? AND caller <> 'cli' AND refused = '' AND replaced_by = ''"
        found = {"per day": f"SELECT sum(amount) AS sum {paid}"}
        for name, column in (("per caller and day", "caller"), ("per counterparty and day", "counterparty")):
            found[name] = f"SELECT sum(amount) AS sum {paid} GROUP BY {column} ORDER BY sum DESC LIMIT 1"
        rows = {name: self.store.row(sql, since_ms) for name, sql in found.items()}
        return {name: int(row["sum"] or 0) if row else 0 for name, row in rows.items()}

    def has_rival_in_block(self, txid: str) -> bool:
        """Whether another transaction in a block spends what this payment wanted to spend."""
        sql = f"SELECT 1 FROM payments WHERE txid = ? AND refused = '' AND NOT ({_LIVE})"  # noqa: S608 - fixed text
        return self.store.row(sql, txid) is not None

    def spent_since(self, tx: Tx, caller: str, counterparty: str) -> Spent:
        """What was decided to be paid within the last day, the owner's own payments not counted."""
        row = tx.row(
            "SELECT coalesce(sum(amount), 0) AS everything, coalesce(sum(amount * (caller = ?)), 0) AS by_caller,"
            " coalesce(sum(amount * (counterparty = ?)), 0) AS to_one FROM payments"
            " WHERE at_ms > ? AND caller <> 'cli' AND refused = '' AND replaced_by = ''",
            caller,
            counterparty,
            tx.now_ms() - DAY_MS,
        )
        values = (row["everything"], row["by_caller"], row["to_one"]) if row else (0, 0, 0)
        return Spent(*(Florins(int(value)) for value in values))

    def put_label(self, tx: Tx, name: str, label: str) -> None:
        """The owner's word for an address or a transaction; an empty one takes it away."""
        if label:
            tx.execute("INSERT OR REPLACE INTO labels VALUES (?, ?)", name, label)
        else:
            tx.execute("DELETE FROM labels WHERE name = ?", name)

    def labels(self) -> dict[str, str]:
        """The owner's words, by address or transaction."""
        return {row["name"]: row["label"] for row in self.store.rows("SELECT * FROM labels")}

    def own_place(self, script: bytes) -> tuple[int, int] | None:
        """Branch and number of the own key that this script pays."""
        row = self.store.row("SELECT branch, number FROM scripts WHERE script = ? AND kind = 'own'", script)
        return (row["branch"], row["number"]) if row else None

    def own_txs(self) -> list[OwnTx]:
        """Every transaction that moved own coins, newest first, with what it did to the total."""
        rows = self.store.rows(
            """SELECT t.txid, t.height, t.at_ms, t.skeleton,
                 (SELECT coalesce(sum(c.value), 0) FROM coins c JOIN scripts s ON s.script = c.script
                   WHERE c.txid = t.txid AND s.kind = 'own') AS came,
                 (SELECT coalesce(sum(c.value), 0) FROM spends x JOIN coins c ON c.txid = x.txid AND c.vout = x.vout
                   JOIN scripts s ON s.script = c.script WHERE x.spender = t.txid AND s.kind = 'own') AS went
               FROM txs t ORDER BY t.height IS NOT NULL, t.height DESC, t.at_ms DESC"""
        )
        moved = [row for row in rows if row["came"] or row["went"]]
        return [
            OwnTx(row["txid"], row["height"], row["at_ms"], int(row["came"] - row["went"]), row["skeleton"])
            for row in moved
        ]

    def contract_key(self, purpose: str, nonce: bytes) -> ContractKeyRow | None:
        """The key made for this nonce."""
        row = self.store.row("SELECT * FROM contract_keys WHERE purpose = ? AND nonce = ?", purpose, nonce)
        return ContractKeyRow(row["number"], row["purpose"], row["nonce"], row["cid"]) if row else None

    def contract_key_at(self, number: int) -> ContractKeyRow | None:
        """The key of this number."""
        row = self.store.row("SELECT * FROM contract_keys WHERE number = ?", number)
        return ContractKeyRow(row["number"], row["purpose"], row["nonce"], row["cid"]) if row else None

    def add_contract_key(self, tx: Tx, number: int, purpose: str, nonce: bytes) -> None:
        """The key of this number is for a contract with this nonce."""
        tx.execute("INSERT INTO contract_keys (number, purpose, nonce) VALUES (?, ?, ?)", number, purpose, nonce)

    def adopt(self, tx: Tx, row: ContractRow) -> None:
        """Store an agreed contract and bind its key to it, for good."""
        values = (row.cid, row.body, row.role, row.key_index, tx.now_ms())
        tx.execute("INSERT OR IGNORE INTO contracts VALUES (?, ?, ?, ?, ?)", *values)
        tx.execute("UPDATE contract_keys SET cid = ? WHERE number = ?", row.cid, row.key_index)

    def contract(self, cid: str) -> ContractRow | None:
        """An adopted contract."""
        row = self.store.row("SELECT * FROM contracts WHERE cid = ?", cid)
        return ContractRow(row["cid"], row["body"], row["role"], row["key_number"]) if row else None

    def signed_award(self, tx: Tx, cid: str, outpoint: Outpoint, template: bytes) -> bytes:
        """The award that this wallet has signed for an outpoint: this one from now on, when there was none."""
        where = (cid, outpoint.txid, outpoint.vout)
        tx.execute("INSERT OR IGNORE INTO awards VALUES (?, ?, ?, ?)", *where, template)
        row = tx.row("SELECT template FROM awards WHERE cid = ? AND txid = ? AND vout = ?", *where)
        return bytes(row["template"]) if row else template

"""What the chain shows on followed scripts, in SQL: blocks, coins, spends, transactions.

Every method takes the decision it is part of. Whatever leaves the best chain goes back to waiting, and what no longer
waits is forgotten: the books are never ahead of the chain (money.md law 5).
"""

from __future__ import annotations

from collections.abc import Mapping

from common.chain.tx import Outpoint
from common.store import Row, Store, Tx
from dux_flopd.model import Coin, FollowedScript, ScriptKind, SpendRow

BLOCKS_KEPT = 2_000  # hashes by which a reorganisation is noticed; a deeper one asks for a new scan


def coin_of(row: Row) -> Coin:
    """A row of `coins`."""
    point = Outpoint(row["txid"], row["vout"])
    return Coin(point, row["script"], row["value"], row["height"], row["position"], bool(row["is_coinbase"]))


def script_of(row: Row) -> FollowedScript:
    """A row of `scripts`."""
    return FollowedScript(row["script"], ScriptKind(row["kind"]), row["branch"], row["number"], row["label"])


class ChainStore:
    """The chain's part of flopd's store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def top(self) -> tuple[int, str, int] | None:
        """Height, hash and time of the last block read; None before the first."""
        row = self.store.row("SELECT height, hash, time_s FROM blocks ORDER BY height DESC LIMIT 1")
        return (row["height"], row["hash"], row["time_s"]) if row else None

    def block_hash(self, height: int) -> str | None:
        """The hash of a block read lately."""
        row = self.store.row("SELECT hash FROM blocks WHERE height = ?", height)
        return row["hash"] if row else None

    def add_block(self, tx: Tx, height: int, block_hash: str, time_s: int) -> None:
        """A block was read."""
        tx.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", height, block_hash, time_s)
        tx.execute("DELETE FROM blocks WHERE height < ?", height - BLOCKS_KEPT)

    def roll_back(self, tx: Tx, fork_height: int) -> None:
        """Blocks above the fork are gone; what they held waits until the mempool or a new block shows it again."""
        tx.execute("DELETE FROM blocks WHERE height > ?", fork_height)
        for table in ("coins", "spends", "txs"):
            tx.execute(f"UPDATE {table} SET height = NULL WHERE height > ?", fork_height)  # noqa: S608 - fixed names

    def coins_above(self, tx: Tx, height: int) -> list[Coin]:
        """Outputs in blocks above a height, as they will be once those blocks are gone: waiting."""
        rows = tx.rows(
            "SELECT txid, vout, script, value, NULL AS height, position, is_coinbase FROM coins WHERE height > ?",
            height,
        )
        return [coin_of(row) for row in rows]

    def spends_above(self, tx: Tx, height: int) -> list[tuple[Outpoint, str]]:
        """Spends in blocks above a height, with the spending transaction."""
        rows = tx.rows("SELECT txid, vout, spender FROM spends WHERE height > ?", height)
        return [(Outpoint(row["txid"], row["vout"]), row["spender"]) for row in rows]

    def follow(self, tx: Tx, item: FollowedScript, from_height: int, *, is_read: bool) -> None:
        """Follow a script; one that is followed already may only gain the wish to be read from further back."""
        known = tx.row("SELECT kind, from_height, is_read FROM scripts WHERE script = ?", item.script)
        if known is None:
            values = (item.script, item.kind, item.branch, item.index, item.label, from_height, is_read)
            tx.execute("INSERT INTO scripts VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
        elif from_height < known["from_height"]:
            sql = "UPDATE scripts SET from_height = ?, is_read = ? WHERE script = ?"
            tx.execute(sql, from_height, is_read, item.script)

    def scripts(self) -> list[FollowedScript]:
        """Everything followed."""
        return [script_of(row) for row in self.store.rows("SELECT * FROM scripts")]

    def script(self, script: bytes) -> FollowedScript | None:
        """One followed script."""
        row = self.store.row("SELECT * FROM scripts WHERE script = ?", script)
        return script_of(row) if row else None

    def unread(self) -> dict[bytes, int]:
        """The newly followed scripts, and the height from which each wants to be read."""
        rows = self.store.rows("SELECT script, from_height FROM scripts WHERE is_read = 0")
        return {row["script"]: row["from_height"] for row in rows}

    def mark_read(self, tx: Tx, scripts: Mapping[bytes, int]) -> None:
        """These have been read from their heights on; one that by now wants to be read from further back has not."""
        for script, from_height in scripts.items():
            tx.execute("UPDATE scripts SET is_read = 1 WHERE script = ? AND from_height = ?", script, from_height)

    def is_read(self, scripts: list[bytes]) -> bool:
        """Whether all of these scripts have been read up to the tip."""
        return all(self.store.row("SELECT 1 FROM scripts WHERE script = ? AND is_read = 1", item) for item in scripts)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        """One output."""
        row = self.store.row("SELECT * FROM coins WHERE txid = ? AND vout = ?", outpoint.txid, outpoint.vout)
        return coin_of(row) if row else None

    def coins_on(self, script: bytes) -> list[Coin]:
        """Every output on a script: in the chain's order, waiting ones last."""
        sql = "SELECT * FROM coins WHERE script = ? ORDER BY height IS NULL, height, position, txid, vout"
        return [coin_of(row) for row in self.store.rows(sql, script)]

    def paid_on(self, script: bytes, least: int) -> Coin | None:
        """The first output of so much on a script, waiting ones last."""
        return next((coin for coin in self.coins_on(script) if coin.value >= least), None)

    def all_points(self) -> dict[Outpoint, bytes]:
        """The script of every known output, for a scanner that starts."""
        rows = self.store.rows("SELECT txid, vout, script FROM coins")
        return {Outpoint(row["txid"], row["vout"]): row["script"] for row in rows}

    def put_coin(self, tx: Tx, coin: Coin) -> bool:
        """An output was seen; false when that was known with the same height."""
        row = tx.row("SELECT height FROM coins WHERE txid = ? AND vout = ?", coin.outpoint.txid, coin.outpoint.vout)
        if row is not None and row["height"] == coin.height:
            return False
        values = (coin.script, coin.value, coin.height, coin.position, coin.is_coinbase)
        sql = "INSERT OR REPLACE INTO coins VALUES (?, ?, ?, ?, ?, ?, ?)"
        tx.execute(sql, coin.outpoint.txid, coin.outpoint.vout, *values)
        return True

    def put_spend(self, tx: Tx, outpoint: Outpoint, spender: str, height: int | None, script_sig: bytes) -> bool:
        """A spend was seen; false when that was known with the same height."""
        where = (outpoint.txid, outpoint.vout, spender)
        row = tx.row("SELECT height FROM spends WHERE txid = ? AND vout = ? AND spender = ?", *where)
        if row is not None and row["height"] == height:
            return False
        tx.execute("INSERT OR REPLACE INTO spends VALUES (?, ?, ?, ?, ?)", *where, height, script_sig)
        return True

    def put_tx(self, tx: Tx, txid: str, raw: bytes, skeleton: bytes, height: int | None) -> None:
        """A transaction that touches a followed script was seen."""
        tx.execute(
            "INSERT INTO txs VALUES (?, ?, ?, ?, ?) ON CONFLICT (txid) DO UPDATE SET height = excluded.height",
            txid,
            raw,
            skeleton,
            height,
            tx.now_ms(),
        )

    def waiting(self) -> list[str]:
        """The ids of known transactions that are in no block."""
        return [row["txid"] for row in self.store.rows("SELECT txid FROM txs WHERE height IS NULL")]

    def forget(self, tx: Tx, txid: str) -> tuple[list[Coin], list[Outpoint]]:
        """A transaction neither waits nor is in a block any more; returns the outputs and spends that went with it."""
        coins = [coin_of(row) for row in tx.rows("SELECT * FROM coins WHERE txid = ?", txid)]
        spends = [Outpoint(r["txid"], r["vout"]) for r in tx.rows("SELECT * FROM spends WHERE spender = ?", txid)]
        tx.execute("DELETE FROM coins WHERE txid = ?", txid)
        tx.execute("DELETE FROM spends WHERE spender = ?", txid)
        tx.execute("DELETE FROM txs WHERE txid = ?", txid)
        return coins, spends

    def rivals(self, tx: Tx, outpoint: Outpoint, winner: str) -> list[str]:
        """Other transactions that spend this output and are in no block: the winner's block has ended them."""
        sql = "SELECT spender FROM spends WHERE txid = ? AND vout = ? AND spender <> ? AND height IS NULL"
        return [row["spender"] for row in tx.rows(sql, outpoint.txid, outpoint.vout, winner)]

    def spend_of(self, outpoint: Outpoint) -> SpendRow | None:
        """What spends an output: the one in a block, else one that waits."""
        row = self.store.row(
            "SELECT s.*, t.raw FROM spends s JOIN txs t ON t.txid = s.spender WHERE s.txid = ? AND s.vout = ?"
            " ORDER BY s.height IS NULL, s.spender LIMIT 1",
            outpoint.txid,
            outpoint.vout,
        )
        return SpendRow(outpoint, row["spender"], row["height"], row["script_sig"], row["raw"]) if row else None

    def raw_tx(self, txid: str) -> tuple[bytes, int | None] | None:
        """A known transaction's bytes and height."""
        row = self.store.row("SELECT raw, height FROM txs WHERE txid = ?", txid)
        return (row["raw"], row["height"]) if row else None

"""What the owner keeps beside the node's own money, in SQL: accounts, watched things, shared addresses, bonds."""

from __future__ import annotations

from dataclasses import dataclass

from common.store import Row, Store, Tx


@dataclass(frozen=True)
class WatchedScript:
    """A script without its key; `account` 0: by itself."""

    script: bytes
    account: int
    branch: int
    number: int
    label: str


@dataclass(frozen=True)
class WatchedAccount:
    """Another wallet's account."""

    number: int
    text: str
    label: str


@dataclass(frozen=True)
class Shared:
    """An address that several wallets spend from; `number`: of this wallet's key in it."""

    script: bytes
    redeem: bytes
    number: int
    label: str


@dataclass(frozen=True)
class BondRow:
    """A bond; `is_told`: its owner wants it known."""

    number: int
    script: bytes
    is_told: bool


def _watched(row: Row) -> WatchedScript:
    return WatchedScript(row["script"], row["account"], row["branch"], row["number"], row["label"])


def _shared(row: Row) -> Shared:
    return Shared(row["script"], row["redeem"], row["number"], row["label"])


class OwnerStore:
    """The owner's part of flopd's store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def accounts(self, tx: Tx) -> list[int]:
        """The numbers of further accounts that are open."""
        return [row["number"] for row in tx.rows("SELECT number FROM accounts ORDER BY number")]

    def account_names(self) -> dict[int, str]:
        """Further accounts by number."""
        return {row["number"]: row["name"] for row in self.store.rows("SELECT * FROM accounts ORDER BY number")}

    def open_account(self, tx: Tx, number: int, name: str) -> None:
        """An account is in use from now on; a name that it has stays."""
        tx.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?)", number, name)

    def watch_account(self, tx: Tx, text: str, label: str) -> WatchedAccount:
        """Another wallet's account, once."""
        row = tx.row("SELECT coalesce(max(number), 0) + 1 AS next FROM watched_accounts")
        number = row["next"] if row else 1
        tx.execute("INSERT OR IGNORE INTO watched_accounts VALUES (?, ?, ?)", number, text, label)
        return next(item for item in self.watched_accounts() if item.text == text)

    def watched_accounts(self) -> list[WatchedAccount]:
        """All of them."""
        rows = self.store.rows("SELECT * FROM watched_accounts ORDER BY number")
        return [WatchedAccount(row["number"], row["text"], row["label"]) for row in rows]

    def watch(self, tx: Tx, item: WatchedScript, redeem: bytes = b"") -> None:
        """A script to watch; a later label is the one that counts."""
        tx.execute(
            "INSERT INTO watched VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (script) DO UPDATE SET label = excluded.label",
            item.script,
            item.account,
            item.branch,
            item.number,
            item.label,
            redeem,
        )

    def watched(self, account: int) -> list[WatchedScript]:
        """The scripts of a watched account, or (0) those by themselves."""
        sql = "SELECT * FROM watched WHERE account = ? ORDER BY branch, number, script"
        return [_watched(row) for row in self.store.rows(sql, account)]

    def watched_script(self, script: bytes) -> WatchedScript | None:
        """One of them."""
        row = self.store.row("SELECT * FROM watched WHERE script = ?", script)
        return _watched(row) if row else None

    def last_paid(self, account: int, branch: int) -> int:
        """The highest number of a watched account's branch that was ever paid; -1 for none."""
        row = self.store.row(
            "SELECT max(number) AS last FROM watched WHERE account = ? AND branch = ?"
            " AND EXISTS (SELECT 1 FROM coins WHERE coins.script = watched.script)",
            account,
            branch,
        )
        return -1 if row is None or row["last"] is None else row["last"]

    def new_shared_key(self, tx: Tx, label: str) -> int:
        """The number of the next key for a shared address."""
        row = tx.row("SELECT coalesce(max(number), -1) + 1 AS next FROM shared_keys")
        number = row["next"] if row else 0
        tx.execute("INSERT INTO shared_keys VALUES (?, ?)", number, label)
        return int(number)

    def shared_key_count(self) -> int:
        """How many such keys were given out."""
        row = self.store.row("SELECT count(*) AS count FROM shared_keys")
        return int(row["count"]) if row else 0

    def add_shared(self, tx: Tx, item: Shared) -> None:
        """A shared address; a later label is the one that counts."""
        tx.execute(
            "INSERT INTO shared VALUES (?, ?, ?, ?) ON CONFLICT (script) DO UPDATE SET label = excluded.label",
            item.script,
            item.redeem,
            item.number,
            item.label,
        )
        tx.execute("INSERT OR IGNORE INTO shared_keys VALUES (?, ?)", item.number, item.label)

    def shared(self) -> list[Shared]:
        """All shared addresses."""
        return [_shared(row) for row in self.store.rows("SELECT * FROM shared ORDER BY number, script")]

    def shared_at(self, script: bytes) -> Shared | None:
        """The shared address with this output script."""
        row = self.store.row("SELECT * FROM shared WHERE script = ?", script)
        return _shared(row) if row else None

    def add_bond(self, tx: Tx, number: int, script: bytes) -> None:
        """A bond of this number is, or was, used."""
        tx.execute("INSERT OR IGNORE INTO bonds (number, script) VALUES (?, ?)", number, script)

    def tell_bond(self, tx: Tx, number: int) -> None:
        """Others may know of it."""
        tx.execute("UPDATE bonds SET told = 1 WHERE number = ?", number)

    def bonds(self) -> list[BondRow]:
        """All bonds, the earliest to end first."""
        rows = self.store.rows("SELECT * FROM bonds ORDER BY number")
        return [BondRow(row["number"], row["script"], bool(row["told"])) for row in rows]

    def mark(self, tx: Tx, name: str, value: int) -> None:
        """Remember a number by a name."""
        tx.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", name, value)

    def marked(self, name: str) -> int | None:
        """The number of this name."""
        row = self.store.row("SELECT value FROM marks WHERE name = ?", name)
        return None if row is None else int(row["value"])

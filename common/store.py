"""Each daemon's own SQLite file: one writer, one transaction per decision, nothing half done.

A decision writes its facts, its new state, the effects it wants (outbox), what others may hear of it (events) and a
line of the audit log in one transaction; the outbox worker performs the effects afterwards, as often as it takes. A
crash at any moment therefore means "do it again", which every receiver answers with its first answer.

The store knows no daemon's tables but its own five: schema_version, outbox, events, audit, answers.
Source: architecture.md §5, style.md 2.4, settled.md 26 and 28.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from common.clock import Clock
from common.codec import json_bytes
from common.errors import CorruptStore, DuxError, Ending, NewerSchema

Row = sqlite3.Row
Value = str | int | float | bytes | None

ANSWERS_KEPT_MS = 90 * 86_400_000  # a caller that repeats a request after 90 days has lost its own books
EVENTS_KEPT = 100_000  # rows; a reader further behind starts from the oldest kept

_OWN_MIGRATIONS = (
    """
    CREATE TABLE outbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT, effect_id TEXT NOT NULL UNIQUE, lane TEXT NOT NULL,
        kind TEXT NOT NULL, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL,
        done_ms INTEGER, error TEXT);
    CREATE INDEX outbox_open ON outbox (due_ms) WHERE done_ms IS NULL;
    CREATE TABLE events (
        cursor INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL);
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
        prev BLOB NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE answers (
        caller TEXT NOT NULL, method TEXT NOT NULL, request_id TEXT NOT NULL, params_hash BLOB NOT NULL,
        answer BLOB NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (caller, method, request_id)) WITHOUT ROWID;
    """,
)


class Effect(msgspec.Struct, frozen=True):
    """One row of the outbox: something to be done once the decision is on disk."""

    effect_id: str
    lane: str
    kind: str
    body: bytes
    attempts: int


class Event(msgspec.Struct, frozen=True):
    """One thing that happened, as told to whoever reads this daemon's events."""

    cursor: int
    at_ms: int
    kind: str
    body: bytes


class Tx:
    """One decision being written. Everything in it lands together or not at all."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self.wakes_outbox = False
        self.wakes_readers = False

    def execute(self, sql: str, *values: Value) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(sql, values)

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """All rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Value) -> Row | None:
        """The first row of a query, or None."""
        found: Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def now_ms(self) -> int:
        """The time this decision is stamped with."""
        return self._clock.unix_ms()

    def outbox(self, effect_id: str, kind: str, body: object, *, lane: str = "") -> None:
        """Want an effect. The same id twice is one effect. Effects of one lane are performed in order."""
        self.execute(
            "INSERT OR IGNORE INTO outbox (effect_id, lane, kind, body, due_ms) VALUES (?, ?, ?, ?, ?)",
            effect_id,
            lane or effect_id,
            kind,
            json_bytes(body),
            self._clock.unix_ms(),
        )
        self.wakes_outbox = True

    def cancel_effects(self, lane: str) -> int:
        """Strike out what is still open in a lane; returns how many."""
        closed = self.execute(
            "UPDATE outbox SET done_ms = ?, error = 'cancelled' WHERE lane = ? AND done_ms IS NULL", self.now_ms(), lane
        )
        return closed.rowcount

    def emit(self, kind: str, body: object) -> None:
        """Tell the readers of this daemon's events."""
        self.execute("INSERT INTO events (at_ms, kind, body) VALUES (?, ?, ?)", self.now_ms(), kind, json_bytes(body))
        self.wakes_readers = True

    def audit(self, kind: str, body: object) -> bytes:
        """Append a line to the hash-chained log; returns its hash."""
        last = self.row("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        number, prev = (last["number"] + 1, last["hash"]) if last else (1, b"\0" * 32)
        text, at_ms = json_bytes(body), self.now_ms()
        digest = audit_hash(number, at_ms, kind, text, prev)
        self.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", number, at_ms, kind, text, prev, digest)
        return digest

    def answer(self, caller: str, method: str, request_id: str) -> Row | None:
        """The answer once given to this request, if any."""
        return self.row(
            "SELECT params_hash, answer FROM answers WHERE caller = ? AND method = ? AND request_id = ?",
            caller,
            method,
            request_id,
        )

    def remember(self, caller: str, method: str, request_id: str, params_hash: bytes, answer: bytes) -> None:
        """Keep the answer to a request, in the same transaction as what it decided. The first one stays."""
        self.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
            caller,
            method,
            request_id,
            params_hash,
            answer,
            self.now_ms(),
        )


class Store:
    """A daemon's SQLite file, open."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None, clock: Clock) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock
        self._open_tx = False
        self._closed = False
        self.decisions, self.decisions_s = 0, 0.0  # written or rolled back, and the seconds they took: for /metrics
        self._outbox_wakers: list[Callable[[], None]] = []
        self._event_wakers: list[Callable[[], None]] = []

    @classmethod
    def open(cls, path: Path | None, migrations: Sequence[str], clock: Clock) -> Self:
        """Open or make the file (None: in memory), bring its schema up, check it.

        Raises:
            NewerSchema: written by a newer version; nothing was changed.
            CorruptStore: SQLite's check or the audit chain fails; nothing was changed.
        """
        name = str(path) if path else ":memory:"
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        store = cls(connection, path, clock)
        try:
            store._prepare(name)
            store.bring_up(name, migrations)
        except BaseException:
            connection.close()
            raise
        return store

    def bring_up(self, name: str, migrations: Sequence[str]) -> None:
        """Bring the schema up, check what is there, forget what is too old; `name` is told in errors.

        Raises:
            NewerSchema, CorruptStore: nothing was changed.
        """
        self._migrate(name, {"common": _OWN_MIGRATIONS, "daemon": tuple(migrations)})
        self.check()
        self._prune()

    def _prepare(self, name: str) -> None:
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            raise CorruptStore(path=name, detail=str(error)) from error

    def _migrate(self, name: str, parts: dict[str, tuple[str, ...]]) -> None:
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (part TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        found = {row["part"]: row["version"] for row in self._connection.execute("SELECT * FROM schema_version")}
        for part, migrations in parts.items():
            if found.get(part, 0) > len(migrations):
                raise NewerSchema(path=name, found=f"{part} {found[part]}", known=f"{part} {len(migrations)}")
        for part, migrations in parts.items():
            for number in range(found.get(part, 0), len(migrations)):
                self._run_migration(part, number + 1, migrations[number])

    def _run_migration(self, part: str, version: int, sql: str) -> None:
        stamp = f"INSERT OR REPLACE INTO schema_version VALUES ('{part}', {version});"  # noqa: S608 - our own words
        self._connection.executescript(f"BEGIN IMMEDIATE; {sql}\n; {stamp} COMMIT;")

    def check(self) -> None:
        """SQLite's own check and the audit chain.

        Raises:
            CorruptStore: with what is wrong.
        """
        name = str(self._path or ":memory:")
        verdict = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise CorruptStore(path=name, detail=verdict)
        broken = first_broken_line(self.rows("SELECT * FROM audit ORDER BY number"))
        if broken is not None:
            raise CorruptStore(path=name, detail=f"audit line {broken} does not follow from the one before")

    def _prune(self) -> None:
        with self.transaction() as tx:
            tx.execute("DELETE FROM answers WHERE at_ms < ?", tx.now_ms() - ANSWERS_KEPT_MS)
            tx.execute("DELETE FROM events WHERE cursor <= (SELECT max(cursor) FROM events) - ?", EVENTS_KEPT)
            tx.execute("DELETE FROM outbox WHERE done_ms < ?", tx.now_ms() - ANSWERS_KEPT_MS)

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """One decision: committed when the block ends, rolled back when it raises. Never nested or across an await."""
        if self._open_tx:
            raise RuntimeError("a decision is being written already: transactions do not nest")
        tx = self._make_tx()
        self._open_tx = True
        began = self._clock.monotonic()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield tx
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        finally:
            self._open_tx = False
            self.decisions += 1
            self.decisions_s += self._clock.monotonic() - began
        self._wake(tx)

    def write(self, sql: str, *values: Value) -> int:
        """A decision of one statement, which SQLite commits or undoes by itself; how many rows it concerned."""
        if self._open_tx:
            raise RuntimeError("a decision is being written already: transactions do not nest")
        tx, began = self._make_tx(), self._clock.monotonic()
        try:
            rows = tx.execute(sql, *values).rowcount
        finally:
            self.decisions += 1
            self.decisions_s += self._clock.monotonic() - began
        self._wake(tx)
        return rows

    def _make_tx(self) -> Tx:
        return Tx(self._open(), self._clock)

    def _wake(self, tx: Tx) -> None:
        for waker in self._outbox_wakers if tx.wakes_outbox else ():
            waker()
        for waker in self._event_wakers if tx.wakes_readers else ():
            waker()

    def _open(self) -> sqlite3.Connection:
        if self._closed:  # a call that came in just before the end, or a task that outlives it by a moment
            raise Ending
        return self._connection

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """All rows of a query, outside any decision."""
        return self._open().execute(sql, values).fetchall()

    def row(self, sql: str, *values: Value) -> Row | None:
        """The first row of a query, or None."""
        found: Row | None = self._open().execute(sql, values).fetchone()
        return found

    def backup(self, target: Path) -> None:
        """A consistent copy while running; the target appears whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(target.suffix + ".part")
        unfinished.unlink(missing_ok=True)
        copy = sqlite3.connect(unfinished)
        try:
            self._open().backup(copy)
        finally:
            copy.close()
        unfinished.replace(target)

    def on_outbox(self, waker: Callable[[], None]) -> None:
        """Call `waker` after every decision that wanted an effect."""
        self._outbox_wakers.append(waker)

    def on_event(self, waker: Callable[[], None]) -> None:
        """Call `waker` after every decision that emitted an event."""
        self._event_wakers.append(waker)

    def close(self) -> None:
        """Close the file; open decisions are lost, which is what they are for."""
        self._closed = True
        self._connection.close()


def audit_hash(number: int, at_ms: int, kind: str, body: bytes, prev: bytes) -> bytes:
    """The hash of one audit line: over its number, time, kind, body and the hash before it."""
    head = f"duxnet/audit/v1\0{number}\0{at_ms}\0{kind}\0".encode()
    return hashlib.sha256(head + len(body).to_bytes(8, "big") + body + prev).digest()


def first_broken_line(lines: Sequence[Any]) -> int | None:
    """The number of the first audit line that does not follow from the one before it, or None; anyone may run it."""
    prev = b"\0" * 32
    for expected, line in enumerate(lines, start=1):
        right = audit_hash(line["number"], line["at_ms"], line["kind"], line["body"], prev)
        if line["number"] != expected or line["prev"] != prev or line["hash"] != right:
            return expected
        prev = right
    return None


def effect_error(error: DuxError) -> str:
    """How a failed effect is written down."""
    return f"{error.key} ({error.code}): {error.message}"

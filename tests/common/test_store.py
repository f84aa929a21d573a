"""Laws of the store: whole decisions or none, a log nobody can bend, copies while running."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from common.clock import ManualClock, SystemClock
from common.codec import Wire
from common.errors import CallerMistake, CorruptStore, DuxError, Ending, Internal, NewerSchema, NotNow, Unavailable
from common.event_feed import EventFeed
from common.outbox import IDLE_MS, OutboxWorker, pause_ms
from common.store import Effect, Store, Tx

LOG = structlog.get_logger()
COINS = ["CREATE TABLE coins (id INTEGER PRIMARY KEY, value INTEGER NOT NULL CHECK (value >= 0));"]


class Note(Wire, frozen=True):
    text: str


def make(path: Path | None = None, migrations: list[str] | None = None) -> Store:
    return Store.open(path, COINS if migrations is None else migrations, ManualClock())


def test_a_decision_lands_whole_or_not_at_all() -> None:
    """An error anywhere in the block leaves rows, effects, events, answers and the log as they were."""
    store = make()
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as tx:  # noqa: PT012 - the block is the decision
        tx.execute("INSERT INTO coins VALUES (1, 5)")
        tx.outbox("e1", "pay", Note(text="x"))
        tx.emit("Paid", Note(text="x"))
        tx.audit("paid", Note(text="x"))
        tx.remember("cli", "m", "r", b"h", b"{}")
        tx.execute("INSERT INTO coins VALUES (2, -1)")
    for table in ("coins", "outbox", "events", "audit", "answers"):
        assert store.rows(f"SELECT * FROM {table}") == [], table


def test_a_decision_of_one_statement_lands_at_once_or_not_at_all(tmp_path: Path) -> None:
    """It is on disk when the call returns, counts among the decisions, and nests in none.

    Planted bugs noticed: it is left open until the next decision; it runs inside an open one.
    """
    path = tmp_path / "store.db"
    store = make(path)
    before = store.decisions
    assert store.write("INSERT INTO coins VALUES (1, 5), (2, 7)") == 2
    with pytest.raises(sqlite3.IntegrityError):
        store.write("UPDATE coins SET value = value - ?", 6)
    assert store.decisions == before + 2
    assert [tuple(row) for row in sqlite3.connect(path).execute("SELECT * FROM coins")] == [(1, 5), (2, 7)]
    with store.transaction() as tx:
        tx.execute("INSERT INTO coins VALUES (3, 1)")
        with pytest.raises(RuntimeError):
            store.write("DELETE FROM coins")
    assert len(store.rows("SELECT * FROM coins")) == 3
    store.close()
    with pytest.raises(Ending):
        store.write("DELETE FROM coins")


def test_a_closed_store_says_that_the_daemon_is_ending() -> None:
    """A call that meets the end of its daemon is told to repeat, not that it met a bug."""
    store = make()
    store.close()
    with pytest.raises(Ending, match="repeat"):
        store.rows("SELECT 1")
    with pytest.raises(Ending), store.transaction():
        pass


def test_transactions_do_not_nest() -> None:
    """A second decision inside a first is a bug and is told so; the first one is undone."""
    store = make()
    with pytest.raises(RuntimeError, match="do not nest"), store.transaction() as tx:  # noqa: PT012 - as above
        tx.execute("INSERT INTO coins VALUES (1, 5)")
        with store.transaction():
            pass
    assert store.rows("SELECT * FROM coins") == []


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    """An older program never writes into a newer program's file."""
    path = tmp_path / "s.sqlite"
    make(path, [*COINS, "CREATE TABLE more (id INTEGER);"]).close()
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="daemon 2"):
        make(path)
    assert path.read_bytes() == before


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    """Opening again with one more migration runs only that one."""
    path = tmp_path / "s.sqlite"
    store = make(path)
    with store.transaction() as tx:
        tx.execute("INSERT INTO coins VALUES (1, 5)")
    store.close()
    store = make(path, [*COINS, "ALTER TABLE coins ADD COLUMN note TEXT DEFAULT 'old';"])
    assert [tuple(row) for row in store.rows("SELECT * FROM coins")] == [(1, 5, "old")]


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    """Half a migration never stays: the old version can still open the file."""
    path = tmp_path / "s.sqlite"
    make(path).close()
    with pytest.raises(sqlite3.OperationalError):
        make(path, [*COINS, "CREATE TABLE a (id INTEGER); CREATE TABLE coins (id INTEGER);"])
    store = make(path)
    assert store.rows("SELECT name FROM sqlite_master WHERE name = 'a'") == []


@pytest.mark.parametrize("change", ["body = x'00'", "kind = 'other'", "at_ms = at_ms + 1", "prev = zeroblob(32)"])
def test_a_bent_audit_line_is_found_at_start(tmp_path: Path, change: str) -> None:
    """Whoever edits the log in place is found out, whatever column he edits."""
    path = tmp_path / "s.sqlite"
    store = make(path)
    for number in range(3):
        with store.transaction() as tx:
            tx.audit("paid", Note(text=str(number)))
    store.close()
    raw = sqlite3.connect(path)
    raw.execute(f"UPDATE audit SET {change} WHERE number = 2")
    raw.commit()
    raw.close()
    with pytest.raises(CorruptStore, match="audit line 2"):
        make(path)


def test_a_removed_audit_line_is_found(tmp_path: Path) -> None:
    """A line cut out of the middle breaks the chain."""
    path = tmp_path / "s.sqlite"
    store = make(path)
    for number in range(3):
        with store.transaction() as tx:
            tx.audit("paid", Note(text=str(number)))
    store.close()
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM audit WHERE number = 2")
    raw.commit()
    raw.close()
    with pytest.raises(CorruptStore, match="audit line 2"):
        make(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Garbage in the file is told at start, before anything is written."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(CorruptStore):
        make(path)


def test_a_backup_is_whole_while_decisions_go_on(tmp_path: Path) -> None:
    """The copy opens by itself and holds every decision made before it."""
    store = make(tmp_path / "s.sqlite")
    with store.transaction() as tx:
        tx.execute("INSERT INTO coins VALUES (1, 5)")
        tx.audit("paid", Note(text="x"))
    store.backup(tmp_path / "backup" / "s.sqlite")
    with store.transaction() as tx:
        tx.execute("INSERT INTO coins VALUES (2, 5)")
    copy = make(tmp_path / "backup" / "s.sqlite")
    assert [row["id"] for row in copy.rows("SELECT id FROM coins")] == [1]


async def test_events_wait_for_something_new() -> None:
    """A reader gets what it has not seen, in order, as soon as it is decided."""
    store = make()
    feed = EventFeed(store)
    assert await feed.since(0, 0, 10) == []
    waiting = asyncio.ensure_future(feed.since(0, 5, 10))
    await asyncio.sleep(0)
    for text in "ab":
        with store.transaction() as tx:
            tx.emit("Said", Note(text=text))
    assert next(iter(await waiting)).kind == "Said"
    assert [event.cursor for event in await feed.since(0, 0, 10)] == [1, 2]
    assert [event.cursor for event in await feed.since(1, 0, 10)] == [2]


async def run_outbox(store: Store, perform: object, until: object, refused: object = None) -> None:
    worker = OutboxWorker(store, perform, clock=SystemClock(), log=LOG, refused=refused)  # type: ignore[arg-type]
    task = asyncio.ensure_future(worker.run())
    async with asyncio.timeout(20):
        while not until():  # type: ignore[operator]
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait((task,))


async def test_an_effect_survives_the_crash_of_its_performer(tmp_path: Path) -> None:
    """What was wanted before a crash is done after it, and done effects are not repeated."""
    path, done = tmp_path / "s.sqlite", []
    store = Store.open(path, [], SystemClock())
    with store.transaction() as tx:
        tx.outbox("e1", "pay", Note(text="1"))
    store.close()  # the process dies here

    async def perform(effect: Effect) -> None:
        done.append(effect.effect_id)

    store = Store.open(path, [], SystemClock())
    await run_outbox(store, perform, lambda: store.row("SELECT 1 FROM outbox WHERE done_ms IS NOT NULL"))
    store.close()
    store = Store.open(path, [], SystemClock())
    with store.transaction() as tx:
        tx.outbox("e2", "pay", Note(text="2"))
    await run_outbox(store, perform, lambda: "e2" in done)
    assert done == ["e1", "e2"]


@pytest.mark.parametrize("error", [Unavailable(), NotNow(), Internal(call_id="call-1")], ids=lambda error: error.key)
async def test_an_effect_is_tried_until_its_neighbour_is_well(error: DuxError) -> None:
    """Down, busy or with a bug of its own means later; the lane waits, others go on, nothing is lost or reordered."""
    store = Store.open(None, [], SystemClock())
    done: list[str] = []
    down = 2

    async def perform(effect: Effect) -> None:
        nonlocal down
        if effect.lane == "a" and down:
            down -= 1
            raise error
        done.append(effect.effect_id)

    with store.transaction() as tx:
        for name in ("a1", "a2"):
            tx.outbox(name, "pay", Note(text=""), lane="a")
        tx.outbox("b1", "pay", Note(text=""), lane="b")
    await run_outbox(store, perform, lambda: len(done) == 3)
    assert done == ["b1", "a1", "a2"]


async def test_a_bug_in_one_effect_stops_no_other() -> None:
    """An effect that raises what nobody foresaw is tried again and told of; other lanes go on; nothing is lost."""
    store = Store.open(None, [], SystemClock())
    done: list[str] = []
    bugs = 2

    async def perform(effect: Effect) -> None:
        nonlocal bugs
        if effect.lane == "a" and bugs:
            bugs -= 1
            raise KeyError("nobody thought of this")
        done.append(effect.effect_id)

    with store.transaction() as tx:
        tx.outbox("a1", "pay", Note(text=""), lane="a")
        tx.outbox("b1", "pay", Note(text=""), lane="b")
    await run_outbox(store, perform, lambda: len(done) == 2)
    assert done == ["b1", "a1"]


async def test_a_refused_effect_is_closed_and_told_once() -> None:
    """A wrong effect is not repeated for ever: the daemon learns of it in the transaction that closes it."""
    store = Store.open(None, COINS, SystemClock())

    async def perform(_effect: Effect) -> None:
        raise CallerMistake

    def refused(tx: Tx, effect: Effect, _error: DuxError) -> None:
        tx.execute("INSERT INTO coins VALUES (?, 1)", int(effect.effect_id))

    with store.transaction() as tx:
        tx.outbox("7", "pay", Note(text=""))
        tx.outbox("7", "pay", Note(text="a second wish with the same id is the same wish"))
    await run_outbox(store, perform, lambda: store.row("SELECT 1 FROM coins"), refused)
    assert [row["id"] for row in store.rows("SELECT id FROM coins")] == [7]


def test_pauses_grow_and_are_bounded() -> None:
    """From 0.2 s, doubling, never above 30 s, for any number of tries."""
    pauses = [pause_ms(attempts) for attempts in (0, 1, 2, 30, 10_000)]
    assert pauses == [200, 400, 800, 30_000, 30_000]


async def until(predicate: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            await asyncio.sleep(0.01)


async def test_a_clock_that_is_set_back_holds_no_effect_back() -> None:
    """Postponed while the clock was two hours ahead, an effect is tried again at once when it is right."""
    clock = ManualClock()
    store, tries = Store.open(None, [], clock), list[str]()

    async def perform(effect: Effect) -> None:
        tries.append(effect.effect_id)
        if len(tries) == 1:
            raise Unavailable

    with store.transaction() as tx:
        tx.outbox("e1", "pay", Note(text=""))
    worker = OutboxWorker(store, perform, clock=clock, log=LOG)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        await until(lambda: store.row("SELECT 1 FROM outbox WHERE attempts = 1"))
        clock.advance(-2 * 3600)
        worker._wake.set()
        await until(lambda: store.row("SELECT 1 FROM outbox WHERE done_ms IS NOT NULL"))
        running.cancel()
    assert tries == ["e1", "e1"]


async def test_an_outbox_whose_effect_is_under_way_does_not_poll() -> None:
    """While a lane is busy and nothing else is open, the worker sleeps until it is woken."""
    store, going = Store.open(None, [], SystemClock()), asyncio.Event()

    async def perform(_effect: Effect) -> None:
        await going.wait()

    with store.transaction() as tx:
        tx.outbox("e1", "pay", Note(text=""))
    worker, looks = OutboxWorker(store, perform, clock=SystemClock(), log=LOG), list[float]()
    plain = worker._look

    def look() -> tuple[list[Effect], float]:
        found = plain()
        looks.append(found[1])
        return found

    worker._look = look  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        await until(lambda: worker._busy)
        worker._wake.set()
        await until(lambda: len(looks) == 2)
        assert looks[1] == IDLE_MS / 1000
        going.set()
        await until(lambda: store.row("SELECT 1 FROM outbox WHERE done_ms IS NOT NULL"))
        running.cancel()

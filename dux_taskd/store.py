"""The only file with SQL: tasks, assignments, cases, and what was said about them.

Writing takes a `Tx`, so that several changes are one decision; reading does not.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from common.codec import from_json, json_bytes
from common.contracts.task import FINAL, TaskLine
from common.store import Store, Tx
from common.units import Did, UnixMs
from dux_taskd import rules_buyer
from dux_taskd.model import Assignment, Case, CaseState, JobState, LegState, Task
from dux_taskd.stage_rules import Stages

LINES_SHOWN = 100
QUOTE_HOLDS_MS = 2 * 3_600_000  # a main-net contract is funded within an hour and a half of its quote, or never

S = TypeVar("S", Task, Assignment, Case, Stages)


def job_ref(contract_id: str) -> str:
    """The task id of a seller's assignment."""
    return f"job-{contract_id}"


def case_ref(contract_id: str) -> str:
    """The task id of an arbiter's case."""
    return f"case-{contract_id}"


class TaskStore:
    """Typed access to taskd's tables."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Buyer.

    def put_task(self, tx: Tx, task: Task) -> None:
        """Write a task as it is now, and find it by its contracts."""
        state = rules_buyer.state_of(task)
        tx.execute(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE SET body = excluded.body, "
            "state = excluded.state, final = excluded.final, proposing = excluded.proposing",
            task.task_id,
            json_bytes(task),
            state.value,
            int(state in FINAL),
            int(any(leg.state is LegState.NEW for leg in task.legs)),
            task.created_ms,
        )
        for leg in task.legs:
            if leg.contract_id:
                tx.execute("INSERT OR IGNORE INTO legs VALUES (?, ?, ?)", leg.contract_id, task.task_id, leg.number)

    def task(self, task_id: str) -> Task | None:
        """A task of this node as buyer."""
        return self._read("SELECT body FROM tasks WHERE task_id = ?", task_id, Task)

    def leg_of(self, contract_id: str) -> tuple[str, int] | None:
        """(task id, leg number) of a contract that this node bought by."""
        row = self.store.row("SELECT task_id, leg FROM legs WHERE contract_id = ?", contract_id)
        return (str(row["task_id"]), int(row["leg"])) if row else None

    def running_tasks(self, limit: int) -> list[Task]:
        """Tasks whose job runs now, newest first."""
        rows = self.store.rows("SELECT body FROM tasks WHERE state = 'running' ORDER BY created_ms DESC LIMIT ?", limit)
        return [from_json(bytes(row["body"]), Task) for row in rows]

    def is_proposing(self) -> bool:
        """True while some contract may have been proposed without its name being known here yet."""
        return self.store.row("SELECT 1 FROM tasks WHERE proposing LIMIT 1") is not None

    def put_stages(self, tx: Tx, stages: Stages) -> None:
        """Write a purchase in stages as it is now."""
        tx.execute("INSERT OR REPLACE INTO stages VALUES (?, ?)", stages.stages_id, json_bytes(stages))

    def stages(self, stages_id: str) -> Stages | None:
        """A purchase in stages of this node."""
        return self._read("SELECT body FROM stages WHERE stages_id = ?", stages_id, Stages)

    # Seller.

    def put_assignment(self, tx: Tx, assignment: Assignment) -> None:
        """Write an assignment as it is now."""
        self._put(tx, "assignments", assignment)

    def assignment(self, contract_id: str) -> Assignment | None:
        """A job of this node as seller or checker."""
        return self._read("SELECT body FROM assignments WHERE contract_id = ?", contract_id, Assignment)

    def working(self) -> list[Assignment]:
        """Every job that is to be run, oldest first."""
        return self._read_all(
            "SELECT body FROM assignments WHERE state = ? ORDER BY created_ms", JobState.WORKING.value, Assignment
        )

    def open_jobs(self, now_ms: int) -> int:
        """How many jobs are funded and not done, or quoted lately: an old quote that nobody took holds no place."""
        row = self.store.row(
            "SELECT count(*) AS n FROM assignments WHERE state IN ('working', 'paused') "
            "OR (state = 'quoted' AND created_ms > ?)",
            now_ms - QUOTE_HOLDS_MS,
        )
        return int(row["n"]) if row else 0

    # Arbiter.

    def put_case(self, tx: Tx, case: Case) -> None:
        """Write a case as it is now."""
        self._put(tx, "cases", case)

    def case(self, contract_id: str) -> Case | None:
        """A case of this node as arbiter."""
        return self._read("SELECT body FROM cases WHERE contract_id = ?", contract_id, Case)

    def open_cases(self) -> list[Case]:
        """Every case that is to be decided, oldest first."""
        return self._read_all("SELECT body FROM cases WHERE state = ? ORDER BY created_ms", CaseState.OPEN.value, Case)

    # All roles.

    def refs(self, role: str, *, open_only: bool, limit: int) -> list[str]:
        """Task ids, newest first."""
        rows = self.store.rows(
            "SELECT ref FROM ("
            "SELECT 'buyer' AS role, task_id AS ref, created_ms, final FROM tasks UNION ALL "
            "SELECT 'seller', 'job-' || contract_id, created_ms, state IN ('closed', 'refused') FROM assignments "
            "UNION ALL SELECT 'arbiter', 'case-' || contract_id, created_ms, state != 'open' FROM cases) "
            "WHERE (? = '' OR role = ?) AND NOT (final AND ?) ORDER BY created_ms DESC, ref LIMIT ?",
            role,
            role,
            int(open_only),
            limit,
        )
        return [str(row["ref"]) for row in rows]

    def say(self, tx: Tx, ref: str, text: str) -> None:
        """Add a line to the story of a task."""
        tx.execute("INSERT INTO lines (ref, at_ms, text) VALUES (?, ?, ?)", ref, tx.now_ms(), text[:500])

    def lines(self, ref: str) -> tuple[TaskLine, ...]:
        """The newest lines, oldest of them first."""
        rows = self.store.rows(
            "SELECT at_ms, text FROM lines WHERE ref = ? ORDER BY number DESC LIMIT ?", ref, LINES_SHOWN
        )
        return tuple(TaskLine(at_ms=UnixMs(row["at_ms"]), text=row["text"]) for row in reversed(rows))

    def set_serving(self, tx: Tx, service_id: str, *, serve: bool) -> None:
        """Start or stop running jobs for a service."""
        sql = "INSERT OR IGNORE INTO serving VALUES (?)" if serve else "DELETE FROM serving WHERE service_id = ?"
        tx.execute(sql, service_id)

    def serving(self) -> tuple[str, ...]:
        """The services that this node runs jobs for."""
        return tuple(str(row["service_id"]) for row in self.store.rows("SELECT * FROM serving ORDER BY service_id"))

    def keep_input_key(self, tx: Tx, blob: str, key: bytes, audience: tuple[Did, ...]) -> None:
        """Keep the key of a private input, and who may have it."""
        tx.execute("INSERT OR REPLACE INTO input_keys VALUES (?, ?, ?)", blob, key, msgspec.json.encode(audience))

    def input_key(self, blob: str, asker: str | None = None) -> bytes | None:
        """The key of a private input; for another node only if it is of the audience."""
        row = self.store.row("SELECT key, audience FROM input_keys WHERE blob = ?", blob)
        if row is None or (asker is not None and asker not in msgspec.json.decode(row["audience"], type=list[str])):
            return None
        return bytes(row["key"])

    def keep_receipt(self, tx: Tx, contract_id: str, receipt: bytes) -> None:
        """Keep this node's own signed receipt."""
        tx.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?)", contract_id, receipt)

    def receipt(self, contract_id: str) -> bytes | None:
        """This node's own signed receipt of a contract."""
        row = self.store.row("SELECT receipt FROM receipts WHERE contract_id = ?", contract_id)
        return bytes(row["receipt"]) if row else None

    def cursor(self, name: str) -> int:
        """How far a neighbour's events were read."""
        row = self.store.row("SELECT value FROM cursors WHERE name = ?", name)
        return int(row["value"]) if row else 0

    def set_cursor(self, tx: Tx, name: str, value: int) -> None:
        """Written in the same decision as what the event led to."""
        tx.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", name, value)

    def _put(self, tx: Tx, table: str, value: Assignment | Case) -> None:
        tx.execute(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT (contract_id) "  # noqa: S608 - one of two names of ours
            "DO UPDATE SET body = excluded.body, state = excluded.state",
            value.contract_id,
            json_bytes(value),
            value.state.value,
            value.created_ms,
        )

    def _read(self, sql: str, key: str, kind: type[S]) -> S | None:
        row = self.store.row(sql, key)
        return from_json(bytes(row["body"]), kind) if row else None

    def _read_all(self, sql: str, key: str, kind: type[S]) -> list[S]:
        return [from_json(bytes(row["body"]), kind) for row in self.store.rows(sql, key)]

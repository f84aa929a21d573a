"""What this node's programs have paid for over HTTP: each call once, with the header that was made for it.

Promises: a call's header is on the disk before a program gets it, so a repeat sends the same bytes; what is reserved
for calls that have not ended counts as spent; a day is a day of UTC. A call that was given up leaves a voucher with the
payee: it counts for its most until its channel shows that less of it can be, or was, taken. What a close pays the payee
beyond what it signed that its calls cost counts, too, on the day on which it is seen. The only file of this package
with SQL.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from common.clock import Clock
from common.errors import CallerMistake, NotNow
from common.store import Row, Store, Tx
from common.units import Florins

DAY_MS = 86_400_000
CALLS_KEPT_MS = 400 * DAY_MS
LOOK_EVERY_MS = 30_000  # at the channels that were paid over: a close takes longer to get into a block
GIVEN_UP = "given up"  # a state of calls

MIGRATIONS = (
    """
    CREATE TABLE calls (
        oid TEXT PRIMARY KEY, bound BLOB NOT NULL, at_ms INTEGER NOT NULL, day INTEGER NOT NULL, payee TEXT NOT NULL,
        url TEXT NOT NULL, chid TEXT NOT NULL, number INTEGER NOT NULL, most INTEGER NOT NULL, charged INTEGER,
        state TEXT NOT NULL, header TEXT NOT NULL, receipt TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX calls_by_day ON calls (day);
    """,
    """
    CREATE TABLE given_up (
        chid TEXT NOT NULL, number INTEGER NOT NULL, oid TEXT NOT NULL, at_ms INTEGER NOT NULL, day INTEGER NOT NULL,
        most INTEGER NOT NULL, counts INTEGER NOT NULL, is_final INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (chid, number)) WITHOUT ROWID;
    CREATE INDEX given_up_by_day ON given_up (day);
    CREATE INDEX given_up_by_oid ON given_up (oid);
    """,
    """
    CREATE TABLE channels (
        chid TEXT PRIMARY KEY, payee TEXT NOT NULL, at_ms INTEGER NOT NULL, day INTEGER NOT NULL DEFAULT 0,
        over INTEGER NOT NULL DEFAULT 0, is_final INTEGER NOT NULL DEFAULT 0,
        is_told INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE INDEX channels_by_day ON channels (day);
    CREATE INDEX channels_in_question ON channels (is_final);
    """,
)


class OverCallLimit(CallerMistake):
    """This call may cost {most_florins}, {limit_florins} are allowed for one: raise --max-per-call."""

    code = 3160
    key = "over-call-limit"


class OverDayLimit(NotNow):
    """Today {spent_florins} are spent or promised, {limit_florins} are allowed: wait for 00:00 UTC."""

    code = 3161
    key = "over-day-limit"


class OtherRequest(CallerMistake):
    """The id {oid} was used for another request; take a new one."""

    code = 3162
    key = "oid-of-other-request"


class UnknownCall(CallerMistake):
    """No call {oid} was paid here."""

    code = 3163
    key = "unknown-paid-call"
    http_status = 404


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner allows."""

    per_call_florins: Florins
    per_day_florins: Florins
    open_florins: Florins  # size of a channel that has to be opened


class PaidCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `bound`: hash of the request that it is for; `charged` None: not ended."""

    oid: str
    bound: bytes
    payee: str
    url: str
    chid: str
    number: int
    most_florins: int
    charged_florins: int | None
    state: str
    header: str
    receipt: str


class Overtaken(msgspec.Struct, frozen=True, kw_only=True):
    """A channel whose close paid its payee so much more than it had signed that its calls cost."""

    chid: str
    payee: str
    over_florins: int


class Ledger:
    """The book of paid calls."""

    def __init__(self, path: Path | None, clock: Clock, limits: Limits) -> None:
        self._store = Store.open(path, MIGRATIONS, clock)
        self._clock = clock
        self._looked_ms = -LOOK_EVERY_MS
        self.limits = limits

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def find(self, oid: str, bound: bytes | None = None) -> PaidCall | None:
        """The call of this id.

        Raises:
            OtherRequest: it was for something else.
        """
        with self._store.transaction() as tx:
            row = tx.row("SELECT * FROM calls WHERE oid = ?", oid)
        if row is None:
            return None
        if bound is not None and row["bound"] != bound:
            raise OtherRequest(oid=oid)
        return _call(row)

    def known(self, oid: str) -> PaidCall:
        """The call of this id, which was paid here.

        Raises:
            UnknownCall: it was not.
        """
        found = self.find(oid)
        if found is None:
            raise UnknownCall(oid=oid)
        return found

    def reserve(self, call: PaidCall) -> None:
        """Promise a call's most, within the limits, before anything is signed.

        Raises:
            OverCallLimit, OverDayLimit: nothing is promised.
        """
        if call.most_florins > self.limits.per_call_florins:
            raise OverCallLimit(most_florins=call.most_florins, limit_florins=int(self.limits.per_call_florins))
        with self._store.transaction() as tx:
            spent = self._spent(tx) + call.most_florins
            if spent > self.limits.per_day_florins:
                raise OverDayLimit(spent_florins=spent, limit_florins=int(self.limits.per_day_florins))
            for table in ("calls", "given_up", "channels"):
                tx.execute(f"DELETE FROM {table} WHERE at_ms < ?", self._clock.unix_ms() - CALLS_KEPT_MS)  # noqa: S608
            tx.execute(
                "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 'reserved', '', '')",
                call.oid,
                call.bound,
                self._clock.unix_ms(),
                self._today(),
                call.payee,
                call.url,
                call.chid,
                call.number,
                call.most_florins,
            )

    def paid(self, oid: str, *, chid: str, number: int, header: str) -> None:
        """The voucher is made: from now on the call is repeated with this header."""
        with self._store.transaction() as tx:
            tx.execute(
                "UPDATE calls SET chid = ?, number = ?, header = ?, state = 'paid' WHERE oid = ?",
                chid,
                number,
                header,
                oid,
            )
            tx.execute(
                "INSERT OR IGNORE INTO channels (chid, payee, at_ms) SELECT chid, payee, ? FROM calls WHERE oid = ?",
                self._clock.unix_ms(),
                oid,
            )

    def raise_most(self, oid: str, most_florins: int) -> None:
        """Promise more for a metered call that is running.

        Raises:
            OverCallLimit, OverDayLimit: nothing more is promised.
        """
        if most_florins > self.limits.per_call_florins:
            raise OverCallLimit(most_florins=most_florins, limit_florins=int(self.limits.per_call_florins))
        with self._store.transaction() as tx:
            tx.execute("UPDATE calls SET most = max(most, ?) WHERE oid = ?", most_florins, oid)
            spent = self._spent(tx)
            if spent > self.limits.per_day_florins:
                raise OverDayLimit(spent_florins=spent, limit_florins=int(self.limits.per_day_florins))

    def ended(self, oid: str, *, state: str, charged_florins: int, receipt: str) -> None:
        """How the call ended."""
        with self._store.transaction() as tx:
            tx.execute(
                "UPDATE calls SET state = ?, charged = ?, receipt = ? WHERE oid = ?",
                state,
                charged_florins,
                receipt,
                oid,
            )

    def taken_back(self, oid: str) -> None:
        """Nothing was signed for this call: its promise is taken back."""
        with self._store.transaction() as tx:
            tx.execute("DELETE FROM calls WHERE oid = ? AND state = 'reserved'", oid)

    def given_up(self, oid: str) -> None:
        """This call's voucher was refused and is with the payee all the same: the id may be paid anew, this counts."""
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT OR IGNORE INTO given_up (chid, number, oid, at_ms, day, most, counts) "
                "SELECT chid, number, oid, at_ms, day, most, most FROM calls WHERE oid = ? AND state = 'paid'",
                oid,
            )
            tx.execute("UPDATE calls SET state = ?, charged = 0 WHERE oid = ? AND state = 'paid'", GIVEN_UP, oid)

    def channels_given_up(self, oid: str) -> int:
        """Over how many channels this id's call was given up."""
        with self._store.transaction() as tx:
            row = tx.row("SELECT count(DISTINCT chid) AS n FROM given_up WHERE oid = ?", oid)
        return int(row["n"]) if row else 0

    def is_look_due(self) -> bool:
        """Whether it is time to look at the channels that are in question; true once in a while."""
        now = self._clock.unix_ms()
        is_due = now - self._looked_ms >= LOOK_EVERY_MS
        self._looked_ms = now if is_due else self._looked_ms
        return is_due

    def in_question(self) -> list[str]:
        """Channels that were paid over and whose end is not known here, or not what it means for given-up calls."""
        with self._store.transaction() as tx:
            rows = tx.rows(
                "SELECT chid FROM channels WHERE is_final = 0 UNION "
                "SELECT chid FROM given_up WHERE day = ? AND is_final = 0 ORDER BY chid",
                self._today(),
            )
        return [row["chid"] for row in rows]

    def bound(self, chid: str, left_florins: int, *, is_closed: bool, is_final: bool) -> None:
        """The payee can have, or by a close has, so much more over this channel than its calls cost.

        Calls that are under way promise a part of it, and count themselves. `is_final`: the close lies deep.
        """
        with self._store.transaction() as tx:
            row = tx.row("SELECT sum(most) AS n FROM calls WHERE chid = ? AND state = 'paid'", chid)
            running = 0 if row is None else int(row["n"] or 0)
            left = left_florins - (0 if is_closed else running)
            for one in tx.rows("SELECT number, most FROM given_up WHERE chid = ? ORDER BY number", chid):
                counts = max(0, min(int(one["most"]), left))
                left -= counts
                tx.execute(
                    "UPDATE given_up SET counts = ?, is_final = ? WHERE chid = ? AND number = ?",
                    counts,
                    int(is_final),
                    chid,
                    one["number"],
                )
            over = max(0, left - running) if is_closed else 0
            tx.execute(
                "UPDATE channels SET day = CASE WHEN over = 0 THEN ? ELSE day END, is_final = ?, "
                "is_told = is_told AND over >= ?, over = ? WHERE chid = ?",
                self._today(),
                int(is_final),
                over,
                over,
                chid,
            )

    def untold(self) -> list[Overtaken]:
        """Closes that took more than calls cost, of which the owner was not told; from now on it was."""
        with self._store.transaction() as tx:
            rows = tx.rows("SELECT chid, payee, over FROM channels WHERE over > 0 AND is_told = 0 ORDER BY chid")
            tx.execute("UPDATE channels SET is_told = 1 WHERE over > 0")
        return [Overtaken(chid=row["chid"], payee=row["payee"], over_florins=int(row["over"])) for row in rows]

    def spent_today(self) -> Florins:
        """Charged, promised, given up with a voucher out, and taken beyond it all, since 00:00 UTC."""
        with self._store.transaction() as tx:
            return Florins(self._spent(tx))

    def newest(self, limit: int) -> list[PaidCall]:
        """The last calls, newest first."""
        with self._store.transaction() as tx:
            return [_call(row) for row in tx.rows("SELECT * FROM calls ORDER BY at_ms DESC LIMIT ?", limit)]

    def _spent(self, tx: Tx) -> int:
        row = tx.row(
            "SELECT (SELECT coalesce(sum(coalesce(charged, most)), 0) FROM calls WHERE day = ?) + "
            "(SELECT coalesce(sum(counts), 0) FROM given_up WHERE day = ?) + "
            "(SELECT coalesce(sum(over), 0) FROM channels WHERE day = ?) AS spent",
            self._today(),
            self._today(),
            self._today(),
        )
        return int(row["spent"]) if row else 0

    def _today(self) -> int:
        return self._clock.unix_ms() // DAY_MS


def _call(row: Row) -> PaidCall:
    return PaidCall(
        oid=row["oid"],
        bound=row["bound"],
        payee=row["payee"],
        url=row["url"],
        chid=row["chid"],
        number=row["number"],
        most_florins=row["most"],
        charged_florins=row["charged"],
        state=row["state"],
        header=row["header"],
        receipt=row["receipt"],
    )

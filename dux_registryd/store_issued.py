"""The shelf of issued attestations: of every node the newest root that this one gave it, and when it was last put."""

from __future__ import annotations

from common.store import Store, Tx
from common.units import Did

ISSUED_MIGRATION = """
CREATE TABLE issued (
    subject TEXT PRIMARY KEY, root BLOB NOT NULL, expires_ms INTEGER NOT NULL, put_ms INTEGER NOT NULL) WITHOUT ROWID;
"""


class IssuedShelf:
    """Rows, no opinion."""

    store: Store

    def put_ms(self, subject: str) -> int:
        """When this node's root was last put (Unix ms); 0: never."""
        row = self.store.row("SELECT put_ms FROM issued WHERE subject = ?", subject)
        return int(row["put_ms"]) if row else 0

    def keep_issued(self, tx: Tx, subject: str, root: bytes, expires_ms: int, *, keep_max: int) -> None:
        """Keep a node's newest root; those that end first make room."""
        tx.execute(
            "INSERT INTO issued VALUES (?, ?, ?, 0) ON CONFLICT (subject) DO UPDATE SET root = excluded.root, "
            "expires_ms = excluded.expires_ms",
            *(subject, root, expires_ms),
        )
        tx.execute(
            "DELETE FROM issued WHERE subject IN "
            "(SELECT subject FROM issued ORDER BY expires_ms DESC, subject LIMIT -1 OFFSET ?)",
            keep_max,
        )

    def was_put(self, tx: Tx, subject: str, now_ms: int) -> None:
        """This node's root is on its way into the DHT."""
        tx.execute("UPDATE issued SET put_ms = ? WHERE subject = ?", now_ms, subject)

    def issued_before(self, tx: Tx, now_ms: int, before_ms: int, count: int) -> list[tuple[Did, bytes]]:
        """Roots that hold and were not put since then, the longest waiting first; those that have ended are dropped."""
        tx.execute("DELETE FROM issued WHERE expires_ms <= ?", now_ms)
        rows = self.store.rows(
            "SELECT subject, root FROM issued WHERE put_ms <= ? ORDER BY put_ms, subject LIMIT ?", *(before_ms, count)
        )
        return [(Did(row["subject"]), bytes(row["root"])) for row in rows]

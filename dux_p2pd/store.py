"""p2pd's tables; those of DHT records stand in `record_table.py`. No other file of p2pd has SQL.

It knows rows, not what they mean: whether a record may be kept is decided in `rules.py`, whether a log holds in
`common/identity/log.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.store import Row, Store, Tx
from common.units import Did, UnixMs
from dux_p2pd.mail_table import MAIL_MIGRATION
from dux_p2pd.record_table import RECORDS_MIGRATION
from dux_p2pd.store_places import PLACES_MIGRATION

MIGRATIONS = (
    """
    CREATE TABLE own (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE nodes (
        did TEXT PRIMARY KEY, log BLOB NOT NULL, disputed INTEGER NOT NULL, frozen INTEGER NOT NULL,
        record BLOB, seq_ms INTEGER NOT NULL DEFAULT 0, first_ms INTEGER NOT NULL, learned_ms INTEGER NOT NULL,
        met_ms INTEGER NOT NULL DEFAULT 0, address TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    CREATE INDEX nodes_by_age ON nodes (learned_ms);
    CREATE TABLE records (
        did TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, key BLOB NOT NULL, key_seq INTEGER NOT NULL,
        seq_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, forget_ms INTEGER NOT NULL, offered_ms INTEGER NOT NULL,
        mine INTEGER NOT NULL, envelope BLOB, PRIMARY KEY (did, ns, name)) WITHOUT ROWID;
    CREATE INDEX records_by_key ON records (key);
    CREATE TABLE blobs (
        id TEXT PRIMARY KEY, manifest BLOB NOT NULL, size_bytes INTEGER NOT NULL, have BLOB NOT NULL,
        complete INTEGER NOT NULL, used_ms INTEGER NOT NULL, keep_until_ms INTEGER NOT NULL) WITHOUT ROWID;
    """,
    "CREATE TABLE proofs (did TEXT PRIMARY KEY, proof BLOB NOT NULL) WITHOUT ROWID;",
    PLACES_MIGRATION,
    RECORDS_MIGRATION,
    MAIL_MIGRATION,
)


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What is kept of one DID."""

    did: Did
    log: bytes
    disputed: bool
    frozen: bool
    record: bytes | None
    first_ms: UnixMs
    learned_ms: UnixMs
    met_ms: UnixMs
    address: str


@dataclass(frozen=True, slots=True)
class BlobRow:
    """What is kept of one blob; `have` has one bit per chunk."""

    id: str
    manifest: bytes
    size_bytes: int
    have: bytes
    complete: bool
    keep_until_ms: UnixMs


class OwnTable:
    """Small things of this node itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> bytes | None:
        """The value last set."""
        row = self._store.row("SELECT value FROM own WHERE name = ?", name)
        return bytes(row["value"]) if row else None

    def set(self, name: str, value: bytes) -> None:
        """Keep a value."""
        with self._store.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO own VALUES (?, ?)", name, value)


class NodeTable:
    """Event logs and node records of others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        row = store.row("SELECT count(*) AS held FROM nodes")
        self._rows = int(row["held"]) if row else 0  # counted once, then kept up
        self._at_fault = {str(row["did"]) for row in store.rows("SELECT did FROM proofs")}  # few, and asked for often

    def get(self, did: str) -> NodeRow | None:
        """What is kept of this DID."""
        row = self._store.row("SELECT * FROM nodes WHERE did = ?", did)
        return _node(row) if row else None

    def put(self, node: NodeRow, seq_ms: int, *, keep_max: int, proof: bytes) -> None:
        """Keep a node's log and record, and the proof of a fault; the ones learned longest ago make room."""
        fresh = self._store.row("SELECT 1 FROM nodes WHERE did = ?", node.did) is None
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (did) DO UPDATE SET "
                "log = excluded.log, disputed = excluded.disputed, frozen = excluded.frozen, record = excluded.record, "
                "seq_ms = excluded.seq_ms, learned_ms = excluded.learned_ms",
                *(node.did, node.log, int(node.disputed), int(node.frozen), node.record, seq_ms),
                *(node.first_ms, node.learned_ms, node.met_ms, node.address),
            )
            if self._rows + fresh > keep_max:
                tx.execute(
                    "DELETE FROM nodes WHERE did IN (SELECT did FROM nodes ORDER BY learned_ms DESC LIMIT -1 OFFSET ?)",
                    keep_max,
                )
            self._write_proof(tx, node.did, proof)
        self._note_proof(node.did, proof)
        self._rows = min(self._rows + fresh, keep_max)

    def proof(self, did: str) -> bytes:
        """The proof of a fault of this DID; empty when there is none."""
        if did not in self._at_fault:
            return b""
        row = self._store.row("SELECT proof FROM proofs WHERE did = ?", did)
        return bytes(row["proof"]) if row else b""

    def put_proof(self, did: str, proof: bytes) -> None:
        """Keep a proof; an empty one: there is no fault any more."""
        with self._store.transaction() as tx:
            self._write_proof(tx, did, proof)
        self._note_proof(did, proof)

    def _write_proof(self, tx: Tx, did: str, proof: bytes) -> None:
        if proof:
            tx.execute("INSERT OR REPLACE INTO proofs VALUES (?, ?)", did, proof)
        elif did in self._at_fault:
            tx.execute("DELETE FROM proofs WHERE did = ?", did)

    def _note_proof(self, did: str, proof: bytes) -> None:
        """Once it is committed."""
        if proof:
            self._at_fault.add(did)
        else:
            self._at_fault.discard(did)


def _node(row: Row) -> NodeRow:
    return NodeRow(
        did=Did(row["did"]),
        log=row["log"],
        disputed=bool(row["disputed"]),
        frozen=bool(row["frozen"]),
        record=row["record"],
        first_ms=UnixMs(row["first_ms"]),
        learned_ms=UnixMs(row["learned_ms"]),
        met_ms=UnixMs(row["met_ms"]),
        address=row["address"],
    )


class BlobTable:
    """Which chunks of which blobs are here, and until when they must stay."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, blob: str) -> BlobRow | None:
        """What is kept of a blob."""
        row = self._store.row("SELECT * FROM blobs WHERE id = ?", blob)
        return _blob(row) if row else None

    def put(self, blob: BlobRow, now_ms: int) -> None:
        """Keep what is known of a blob; a promise to keep it is never shortened."""
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET have = excluded.have, "
                "complete = excluded.complete, used_ms = excluded.used_ms, "
                "keep_until_ms = max(keep_until_ms, excluded.keep_until_ms)",
                *(blob.id, blob.manifest, blob.size_bytes, blob.have, int(blob.complete), now_ms, blob.keep_until_ms),
            )

    def used(self, blob: str, now_ms: int) -> None:
        """The blob was read now."""
        with self._store.transaction() as tx:
            tx.execute("UPDATE blobs SET used_ms = ? WHERE id = ?", now_ms, blob)

    def drop(self, blob: str) -> None:
        """Forget a blob."""
        with self._store.transaction() as tx:
            tx.execute("DELETE FROM blobs WHERE id = ?", blob)

    def idle(self, now_ms: int) -> list[BlobRow]:
        """Blobs that need not be kept, least recently used first."""
        return [
            _blob(row)
            for row in self._store.rows("SELECT * FROM blobs WHERE keep_until_ms <= ? ORDER BY used_ms", now_ms)
        ]

    def kept(self, now_ms: int, count: int) -> list[tuple[str, int]]:
        """Ids and sizes of whole blobs that must be kept, those for longest first."""
        rows = self._store.rows(
            "SELECT id, size_bytes FROM blobs WHERE complete = 1 AND keep_until_ms > ? "
            "ORDER BY keep_until_ms DESC LIMIT ?",
            *(now_ms, count),
        )
        return [(row["id"], row["size_bytes"]) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Number of blobs and their bytes in all."""
        row = self._store.row("SELECT count(*) AS blobs, coalesce(sum(size_bytes), 0) AS bytes FROM blobs")
        return (row["blobs"], row["bytes"]) if row else (0, 0)


def _blob(row: Row) -> BlobRow:
    return BlobRow(
        id=row["id"],
        manifest=row["manifest"],
        size_bytes=row["size_bytes"],
        have=row["have"],
        complete=bool(row["complete"]),
        keep_until_ms=UnixMs(row["keep_until_ms"]),
    )

"""The store's file: services with their full-text index, ratings, calls, rate limits. The only place with SQL."""

from __future__ import annotations

from dataclasses import dataclass

from common.codec import canonical
from common.contracts.registry import NodeStatus
from common.receipts import SERVICE_BYTES_MAX, Attested, Rating, RatingNotice, ServiceRecord, opened
from common.store import Row, Store, Tx
from common.units import Did
from dux_stored.model import Bucket, Offer, Stars

CANDIDATES_MAX = 2_000  # services that one search looks at more closely

MIGRATIONS = [
    """
    CREATE TABLE services (
        service_id TEXT PRIMARY KEY, provider TEXT NOT NULL, updated_ms INTEGER NOT NULL, withdrawn INTEGER NOT NULL,
        body BLOB NOT NULL, cursor INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX services_cursor ON services (cursor);
    CREATE INDEX services_provider ON services (provider);
    CREATE VIRTUAL TABLE offers USING fts5(
        service_id UNINDEXED, name, tags, slug, description, tokenize = 'unicode61 remove_diacritics 0');
    CREATE TABLE ratings (
        number INTEGER PRIMARY KEY AUTOINCREMENT, cid BLOB NOT NULL UNIQUE, service_id TEXT NOT NULL,
        rater TEXT NOT NULL, stars INTEGER NOT NULL, review TEXT NOT NULL, at_ms INTEGER NOT NULL,
        counted INTEGER NOT NULL, notice BLOB NOT NULL);
    CREATE INDEX ratings_service ON ratings (service_id) WHERE counted = 1;
    CREATE INDEX ratings_pending ON ratings (counted) WHERE counted = 0;
    CREATE TABLE calls (cid BLOB PRIMARY KEY, service_id TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX calls_service ON calls (service_id);
    CREATE TABLE buckets (
        service_id TEXT NOT NULL, buyer TEXT NOT NULL, room_milli INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (service_id, buyer)) WITHOUT ROWID;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    """
]


@dataclass(frozen=True, slots=True)
class HeldRating:
    """One rating as kept here."""

    cid: bytes
    service_id: str
    rater: Did
    stars: int
    review: str
    at_ms: int
    counted: bool
    notice: bytes


class Shelf:
    """What this store holds."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # services

    def service(self, service_id: str) -> ServiceRecord | None:
        """A service's newest record, withdrawn or not."""
        row = self.store.row("SELECT body FROM services WHERE service_id = ?", service_id)
        return _record(row) if row else None

    def signed_service(self, service_id: str) -> bytes | None:
        """A service's record as signed."""
        row = self.store.row("SELECT body FROM services WHERE service_id = ?", service_id)
        return bytes(row["body"]) if row else None

    def services_of(self, provider: str) -> list[ServiceRecord]:
        """A provider's services, withdrawn ones too."""
        rows = self.store.rows("SELECT body FROM services WHERE provider = ? ORDER BY service_id", provider)
        return [_record(row) for row in rows]

    def services_after(self, cursor: int, limit: int) -> list[tuple[int, bytes]]:
        """Signed records that changed after a cursor, oldest change first."""
        sql = "SELECT cursor, body FROM services WHERE cursor > ? ORDER BY cursor LIMIT ?"
        return [(row["cursor"], bytes(row["body"])) for row in self.store.rows(sql, cursor, limit)]

    def count_services(self, provider: str = "") -> int:
        """How many services are kept, of one provider or of all."""
        sql = "SELECT count(*) AS n FROM services WHERE ? IN ('', provider)"
        row = self.store.row(sql, provider)
        return int(row["n"]) if row else 0

    def put_service(self, tx: Tx, record: ServiceRecord, envelope: Attested) -> None:
        """Keep a record in place of the one before, and index its words unless it is withdrawn."""
        tx.execute("DELETE FROM offers WHERE service_id = ?", record.service_id)
        tx.execute(
            "INSERT OR REPLACE INTO services VALUES (?, ?, ?, ?, ?, ?)",
            record.service_id,
            record.provider,
            record.updated_ms,
            int(record.withdrawn),
            canonical(envelope),
            _next(tx, "services"),
        )
        if not record.withdrawn:
            tx.execute(
                "INSERT INTO offers VALUES (?, ?, ?, ?, ?)",
                record.service_id,
                record.name,
                " ".join(record.tags),
                record.slug,
                record.description,
            )

    def candidates(self, expression: str, statuses: dict[Did, NodeStatus]) -> list[Offer]:
        """Offers whose words fit the index expression (all of them for an empty one), best fitting first."""
        if expression:
            rows = self.store.rows(
                "SELECT services.body, bm25(offers, 0.0, 8.0, 4.0, 4.0, 1.0) AS relevance FROM offers "
                "JOIN services USING (service_id) WHERE offers MATCH ? ORDER BY relevance LIMIT ?",
                expression,
                CANDIDATES_MAX,
            )
        else:
            rows = self.store.rows(
                "SELECT body, 0.0 AS relevance FROM services WHERE withdrawn = 0 ORDER BY updated_ms DESC LIMIT ?",
                CANDIDATES_MAX,
            )
        return [self._offer(_record(row), statuses, float(row["relevance"])) for row in rows]

    def offer(self, record: ServiceRecord, statuses: dict[Did, NodeStatus]) -> Offer:
        """A record with what is counted of it."""
        return self._offer(record, statuses, 0.0)

    def _offer(self, record: ServiceRecord, statuses: dict[Did, NodeStatus], relevance: float) -> Offer:
        return Offer(
            record=record,
            stars=self.stars(record.service_id),
            total_calls=self.total_calls(record.service_id),
            status=statuses.get(record.provider),
            relevance=relevance,
        )

    # ratings

    def rating(self, cid: bytes) -> HeldRating | None:
        """The rating of a contract."""
        row = self.store.row("SELECT * FROM ratings WHERE cid = ?", cid)
        return _rating(row) if row else None

    def put_rating(self, tx: Tx, rating: Rating, notice: RatingNotice, *, counted: bool) -> None:
        """Keep a contract's rating; the first one stays."""
        tx.execute(
            "INSERT OR IGNORE INTO ratings (cid, service_id, rater, stars, review, at_ms, counted, notice) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rating.cid,
            rating.service_id,
            rating.rater,
            rating.stars,
            rating.review,
            rating.at_ms,
            int(counted),
            canonical(notice),
        )

    def count_rating(self, tx: Tx, cid: bytes, *, counted: bool) -> None:
        """Count a contract's rating, or no longer."""
        tx.execute("UPDATE ratings SET counted = ? WHERE cid = ?", int(counted), cid)

    def drop_rating(self, tx: Tx, cid: bytes) -> None:
        """Forget a rating whose payment was refused."""
        tx.execute("DELETE FROM ratings WHERE cid = ?", cid)

    def pending_ratings(self, limit: int) -> list[HeldRating]:
        """Ratings that wait for their payment."""
        rows = self.store.rows("SELECT * FROM ratings WHERE counted = 0 ORDER BY number LIMIT ?", limit)
        return [_rating(row) for row in rows]

    def count_pending(self) -> int:
        """How many ratings wait."""
        row = self.store.row("SELECT count(*) AS n FROM ratings WHERE counted = 0")
        return int(row["n"]) if row else 0

    def reviews(self, service_id: str, limit: int) -> list[HeldRating]:
        """A service's counted ratings, newest first."""
        sql = "SELECT * FROM ratings WHERE service_id = ? AND counted = 1 ORDER BY at_ms DESC, number DESC LIMIT ?"
        return [_rating(row) for row in self.store.rows(sql, service_id, limit)]

    def ratings_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """Ratings with their receipts in the order of their arrival."""
        sql = "SELECT number, notice FROM ratings WHERE number > ? ORDER BY number LIMIT ?"
        return [(row["number"], bytes(row["notice"])) for row in self.store.rows(sql, number, limit)]

    def stars(self, service_id: str) -> Stars:
        """What buyers gave a service."""
        sql = "SELECT count(*) AS n, coalesce(sum(stars), 0) AS s FROM ratings WHERE service_id = ? AND counted = 1"
        row = self.store.row(sql, service_id)
        return Stars(count=row["n"], total=row["s"]) if row else Stars(0, 0)

    # calls

    def put_call(self, tx: Tx, cid: bytes, service_id: str) -> None:
        """Count a settled contract once."""
        tx.execute("INSERT OR REPLACE INTO calls VALUES (?, ?)", cid, service_id)

    def drop_call(self, tx: Tx, cid: bytes) -> None:
        """A contract is no longer settled."""
        tx.execute("DELETE FROM calls WHERE cid = ?", cid)

    def total_calls(self, service_id: str) -> int:
        """Settled contracts of a service."""
        row = self.store.row("SELECT count(*) AS n FROM calls WHERE service_id = ?", service_id)
        return int(row["n"]) if row else 0

    # rate limits

    def bucket(self, service_id: str, buyer: str) -> Bucket | None:
        """A buyer's room to call a service."""
        sql = "SELECT room_milli, at_ms FROM buckets WHERE service_id = ? AND buyer = ?"
        row = self.store.row(sql, service_id, buyer)
        return Bucket(room_milli=row["room_milli"], at_ms=row["at_ms"]) if row else None

    def put_bucket(self, tx: Tx, service_id: str, buyer: str, bucket: Bucket) -> None:
        """Remember a buyer's room; room that is full again after a minute is forgotten."""
        tx.execute("DELETE FROM buckets WHERE at_ms < ?", bucket.at_ms - 60_000)
        tx.execute(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?)", service_id, buyer, bucket.room_milli, bucket.at_ms
        )

    # places to go on from

    def place(self, name: str) -> int:
        """How far this node has read something; 0 at first."""
        row = self.store.row("SELECT value FROM counter WHERE name = ?", name)
        return int(row["value"]) if row else 0

    def keep_place(self, name: str, value: int) -> None:
        """Remember it."""
        with self.store.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", name, value)


def _next(tx: Tx, name: str) -> int:
    tx.execute("INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", name)
    row = tx.row("SELECT value FROM counter WHERE name = ?", name)
    return int(row["value"]) if row else 1


def _record(row: Row) -> ServiceRecord:
    return opened(row["body"], ServiceRecord, body_bytes_max=SERVICE_BYTES_MAX)[1]


def _rating(row: Row) -> HeldRating:
    return HeldRating(
        cid=bytes(row["cid"]),
        service_id=row["service_id"],
        rater=Did(row["rater"]),
        stars=row["stars"],
        review=row["review"],
        at_ms=row["at_ms"],
        counted=bool(row["counted"]),
        notice=bytes(row["notice"]),
    )

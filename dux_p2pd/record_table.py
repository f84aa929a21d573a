"""The table of DHT records: rows and counts, no opinion. A row without envelope remembers how new the last one was.

Whether a record may be kept, and which one goes for it, is decided in `rules.py` and `shelf.py`.
"""

from __future__ import annotations

from itertools import starmap
from typing import NamedTuple

import msgspec

from common.store import Store
from common.units import Did, UnixMs
from dux_p2pd.records import RecordBody
from dux_p2pd.rules import FLOOR_TTLS, RECORD_ROOM_BYTES

RECORDS_MIGRATION = """
ALTER TABLE records RENAME TO records_before;
DROP INDEX records_by_key;
CREATE TABLE records (
    did TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, salt INTEGER NOT NULL, key BLOB NOT NULL,
    key_seq INTEGER NOT NULL, seq_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, forget_ms INTEGER NOT NULL,
    offered_ms INTEGER NOT NULL, mine INTEGER NOT NULL, stamp INTEGER NOT NULL, envelope BLOB,
    PRIMARY KEY (did, ns, name, salt)) WITHOUT ROWID;
INSERT INTO records SELECT did, ns, name, 0, key, key_seq, seq_ms, expires_ms, forget_ms, offered_ms, mine, 0,
    envelope FROM records_before;
DROP TABLE records_before;
CREATE INDEX records_by_key ON records (key);
CREATE INDEX records_by_offer ON records (offered_ms);
"""
NOTED_EVERY_MS = 60_000  # an offer of what is held is noted: not each, the k holders of a record hear of several
_COLUMNS = "did, ns, name, salt, key, seq_ms, expires_ms, offered_ms, mine, stamp, envelope"


class RecordRow(msgspec.Struct, frozen=True):
    """One kept DHT record."""

    did: Did
    ns: str
    name: str
    salt: int
    key: bytes
    seq_ms: UnixMs
    expires_ms: UnixMs
    offered_ms: UnixMs
    mine: bool
    stamp: int
    envelope: bytes


class RecordPlace(NamedTuple):
    """Which record it is, and how new."""

    did: Did
    ns: str
    name: str
    salt: int
    key: bytes
    seq_ms: int


class Counts(msgspec.Struct, frozen=True):
    """What is held that one record's quotas are about."""

    of_did: int  # names, each at one or more of its keys
    of_did_in_ns: int
    dids_at_key: int
    bytes_held: int


class RecordTable:
    """DHT records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = self._count_rows()  # of all, floors among them: counted once, then kept up
        # the last answers of `newest` and `counts`, until something is written: one offer asks for them several times
        self._newest: tuple[tuple[str, str, str, int], tuple[int, int] | None] | None = None
        self._counts: tuple[tuple[str, str, str, bytes], tuple[int, int, int]] | None = None

    def at(self, key: bytes, now_ms: int) -> list[RecordRow]:
        """The unexpired records at a place, newest first."""
        return self._read("key = ? AND expires_ms > ? ORDER BY seq_ms DESC, did", key, now_ms)

    def signers_at(self, key: bytes, now_ms: int) -> list[Did]:
        """Who, besides this node, has an unexpired record at a place."""
        sql = "SELECT DISTINCT did FROM records WHERE key = ? AND expires_ms > ? AND envelope IS NOT NULL AND mine = 0"
        return [Did(row["did"]) for row in self._store.rows(sql, key, now_ms)]

    def due(self, before_ms: int, now_ms: int, count: int) -> list[RecordRow]:
        """Unexpired records not offered since by anybody, the longest waiting first."""
        return self._read("offered_ms < ? AND expires_ms > ? ORDER BY offered_ms LIMIT ?", before_ms, now_ms, count)

    def all(self, now_ms: int, count: int) -> list[RecordRow]:
        """Unexpired records, newest first."""
        return self._read("expires_ms > ? ORDER BY seq_ms DESC, did LIMIT ?", now_ms, count)

    def places(self, now_ms: int, count: int, *, since_ms: int, within: tuple[bytes, bytes]) -> list[RecordPlace]:
        """Where the unexpired records are that were signed since then and stand within these keys, newest first."""
        sql = (
            "SELECT did, ns, name, salt, key, seq_ms FROM records WHERE key BETWEEN ? AND ? AND envelope IS NOT NULL "
            "AND expires_ms > ? AND seq_ms >= ? ORDER BY seq_ms DESC, did LIMIT ?"
        )
        return list(starmap(RecordPlace, self._store.rows(sql, *within, now_ms, since_ms, count)))

    def held(self, place: RecordPlace) -> RecordRow | None:
        """The record there, unless it is gone or another by now."""
        where = "did = ? AND ns = ? AND name = ? AND salt = ? AND seq_ms = ?"
        return next(iter(self._read(where, place.did, place.ns, place.name, place.salt, place.seq_ms)), None)

    def others(self, count: int) -> list[RecordRow]:
        """Records of others, the longest not offered first."""
        return self._read("mine = 0 ORDER BY offered_ms, did LIMIT ?", count)

    def _read(self, where: str, *values: bytes | int | str) -> list[RecordRow]:
        rows = self._store.rows(
            f"SELECT {_COLUMNS} FROM records WHERE envelope IS NOT NULL AND {where}",  # noqa: S608
            *values,
        )
        return [
            RecordRow(
                did=Did(row["did"]),
                ns=row["ns"],
                name=row["name"],
                salt=row["salt"],
                key=row["key"],
                seq_ms=UnixMs(row["seq_ms"]),
                expires_ms=UnixMs(row["expires_ms"]),
                offered_ms=UnixMs(row["offered_ms"]),
                mine=bool(row["mine"]),
                stamp=row["stamp"],
                envelope=row["envelope"],
            )
            for row in rows
        ]

    def newest(self, did: str, ns: str, name: str, salt: int = 0) -> tuple[int, int] | None:
        """(key_seq, seq_ms) of the newest record known at this place of a name, also of an expired one."""
        asked = did, ns, name, salt
        if self._newest is None or self._newest[0] != asked:
            sql = "SELECT key_seq, seq_ms FROM records WHERE did = ? AND ns = ? AND name = ? AND salt = ?"
            row = self._store.row(sql, *asked)
            self._newest = asked, (row["key_seq"], row["seq_ms"]) if row else None
        return self._newest[1]

    def counts(self, did: str, ns: str, name: str, key: bytes) -> Counts:
        """What the quotas of a record are measured by: the signer's other names, and who else stands at this key.

        A name counts once, however many of its keys are here: in a small network one node holds them all.
        """
        asked = did, ns, name, key
        if self._counts is None or self._counts[0] != asked:
            row = self._store.row(
                "SELECT (SELECT count(*) FROM (SELECT DISTINCT ns, name FROM records WHERE did = ? "
                "AND (ns, name) <> (?, ?) AND envelope IS NOT NULL)) AS of_did, (SELECT count(DISTINCT name) "
                "FROM records WHERE did = ? AND ns = ? AND name <> ? AND envelope IS NOT NULL) AS in_ns, "
                "(SELECT count(DISTINCT did) FROM records WHERE key = ? AND envelope IS NOT NULL) AS at_key",
                *(did, ns, name, did, ns, name, key),
            )
            self._counts = asked, (row["of_did"], row["in_ns"], row["at_key"]) if row else (0, 0, 0)
        return Counts(*self._counts[1], self._rows * RECORD_ROOM_BYTES)

    def put(
        self, body: RecordBody, key: bytes, envelope: bytes, *, salt: int, stamp: int, mine: bool, now_ms: int
    ) -> None:
        """Keep a record in place of the older one under its name."""
        forget_ms = body.expires_ms + FLOOR_TTLS * body.ttl_s * 1000
        fresh = self.newest(body.did, body.ns, body.name, salt) is None
        self._newest = self._counts = None
        self._store.write(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(body.did, body.ns, body.name, salt, key, body.key_seq, body.seq_ms, body.expires_ms, forget_ms),
            *(now_ms, int(mine), stamp, envelope),
        )
        self._rows += fresh

    def drop(self, row: RecordRow) -> None:
        """Give a record's room to another; how new it was is remembered no longer either."""
        self._newest = self._counts = None
        self._store.write(
            "DELETE FROM records WHERE did = ? AND ns = ? AND name = ? AND salt = ?",
            *(row.did, row.ns, row.name, row.salt),
        )
        self._rows -= 1

    def offered(self, rows: list[RecordRow], now_ms: int) -> None:
        """These were offered to others now."""
        with self._store.transaction() as tx:
            for row in rows:
                tx.execute(
                    "UPDATE records SET offered_ms = ? WHERE did = ? AND ns = ? AND name = ? AND salt = ?",
                    *(now_ms, row.did, row.ns, row.name, row.salt),
                )

    def has(self, body: RecordBody, salt: int, envelope: bytes, now_ms: int) -> bool:
        """Whether this very record is held and unexpired; that somebody offered it is noted, once in a while."""
        row = self._store.row(
            "SELECT offered_ms FROM records WHERE did = ? AND ns = ? AND name = ? AND salt = ? AND envelope = ? "
            "AND expires_ms > ?",
            *(body.did, body.ns, body.name, salt, envelope, now_ms),
        )
        if row is not None and row["offered_ms"] < now_ms - NOTED_EVERY_MS:
            self._store.write(
                "UPDATE records SET offered_ms = ? WHERE did = ? AND ns = ? AND name = ? AND salt = ?",
                *(now_ms, body.did, body.ns, body.name, salt),
            )
        return row is not None

    def sweep(self, now_ms: int) -> None:
        """Forget the content of expired records, and after a while their numbers too."""
        self._newest = self._counts = None
        with self._store.transaction() as tx:
            tx.execute("UPDATE records SET envelope = NULL WHERE expires_ms <= ? AND envelope IS NOT NULL", now_ms)
            self._rows -= tx.execute("DELETE FROM records WHERE forget_ms <= ?", now_ms).rowcount

    def count(self) -> int:
        """Records held."""
        row = self._store.row("SELECT count(*) AS held FROM records WHERE envelope IS NOT NULL")
        return int(row["held"]) if row else 0

    def _count_rows(self) -> int:
        row = self._store.row("SELECT count(*) AS held FROM records")
        return int(row["held"]) if row else 0

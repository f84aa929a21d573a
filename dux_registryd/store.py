"""The registry's file: its tables, and the shelves in it (`store_*`). No other SQL."""

from __future__ import annotations

from common.store import Store
from dux_registryd.store_issued import ISSUED_MIGRATION, IssuedShelf
from dux_registryd.store_nodes import NodeShelf
from dux_registryd.store_presence import PresenceShelf
from dux_registryd.store_receipts import Claim, ReceiptShelf, by_seller
from dux_registryd.store_standing import StandingShelf

__all__ = ["MIGRATIONS", "Book", "Claim", "by_seller"]

MIGRATIONS = [
    """
    CREATE TABLE nodes (
        did TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, withdrawn INTEGER NOT NULL, body BLOB NOT NULL,
        heard_ms INTEGER NOT NULL, beat BLOB, cursor INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX nodes_cursor ON nodes (cursor);
    CREATE TABLE heartbeats (
        did TEXT NOT NULL, height INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (did, height)) WITHOUT ROWID;
    CREATE TABLE presence (did TEXT NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (did, day)) WITHOUT ROWID;
    CREATE TABLE claims (
        facts BLOB PRIMARY KEY, cid BLOB NOT NULL, buyer TEXT NOT NULL, seller TEXT NOT NULL, txid TEXT NOT NULL,
        height INTEGER NOT NULL, price INTEGER NOT NULL, gross INTEGER NOT NULL, tax INTEGER NOT NULL,
        outcome TEXT NOT NULL, service_id TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        cursor INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX claims_cursor ON claims (cursor);
    CREATE INDEX claims_cid ON claims (cid);
    CREATE INDEX claims_seller ON claims (seller) WHERE state = 'settled';
    CREATE INDEX claims_buyer ON claims (buyer) WHERE state = 'settled';
    CREATE UNIQUE INDEX claims_payment ON claims (txid) WHERE state = 'settled';
    CREATE UNIQUE INDEX claims_contract ON claims (cid) WHERE state = 'settled';
    CREATE TABLE words (
        number INTEGER PRIMARY KEY AUTOINCREMENT, facts BLOB NOT NULL, signer TEXT NOT NULL, height INTEGER NOT NULL,
        body BLOB NOT NULL, UNIQUE (facts, signer));
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE chain (one INTEGER PRIMARY KEY CHECK (one = 1), height INTEGER NOT NULL, hash TEXT NOT NULL);
    """,
    """
    CREATE TABLE sightings (
        target TEXT NOT NULL, slot INTEGER NOT NULL, prober TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (target, slot, prober)) WITHOUT ROWID;
    CREATE INDEX sightings_slot ON sightings (slot);
    CREATE TABLE slots (
        did TEXT NOT NULL, slot INTEGER NOT NULL, drawn INTEGER NOT NULL, seen INTEGER NOT NULL, up INTEGER NOT NULL,
        PRIMARY KEY (did, slot)) WITHOUT ROWID;
    CREATE TABLE days (
        did TEXT NOT NULL, day INTEGER NOT NULL, up INTEGER NOT NULL, PRIMARY KEY (did, day)) WITHOUT ROWID;
    CREATE TABLE probing (
        did TEXT NOT NULL, day INTEGER NOT NULL, drawn INTEGER NOT NULL, done INTEGER NOT NULL,
        PRIMARY KEY (did, day)) WITHOUT ROWID;
    CREATE TABLE links (
        prober TEXT NOT NULL, target TEXT NOT NULL, rtt_us INTEGER NOT NULL, least_ms INTEGER NOT NULL,
        samples INTEGER NOT NULL, slot INTEGER NOT NULL, PRIMARY KEY (prober, target)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE statements (
        id BLOB PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, signer TEXT NOT NULL, place TEXT NOT NULL,
        at_ms INTEGER NOT NULL, body BLOB NOT NULL, cursor INTEGER NOT NULL,
        UNIQUE (kind, signer, place)) WITHOUT ROWID;
    CREATE INDEX statements_subject ON statements (kind, subject, at_ms);
    CREATE INDEX statements_cursor ON statements (cursor);
    CREATE TABLE sanctions (
        did TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL, evidence TEXT NOT NULL,
        since_ms INTEGER NOT NULL, until_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE restricted (did TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE attestations (
        root BLOB PRIMARY KEY, issuer TEXT NOT NULL, envelope BLOB NOT NULL, claims BLOB NOT NULL,
        expires_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE panels (audit BLOB PRIMARY KEY, members TEXT NOT NULL) WITHOUT ROWID;
    """,
    ISSUED_MIGRATION,
    """
    ALTER TABLE slots ADD COLUMN net TEXT NOT NULL DEFAULT '';
    CREATE INDEX slots_slot ON slots (slot);
    """,
    """
    DROP INDEX claims_contract;
    ALTER TABLE words ADD COLUMN key TEXT NOT NULL DEFAULT 'none';
    CREATE INDEX words_unseen ON words (facts) WHERE key = 'unseen';
    """,
    """
    ALTER TABLE nodes ADD COLUMN look_key BLOB NOT NULL DEFAULT x'';
    ALTER TABLE nodes ADD COLUMN look_since INTEGER NOT NULL DEFAULT 0;
    UPDATE probing SET drawn = drawn * 1000;
    DELETE FROM sightings;
    """,
    "DELETE FROM statements WHERE kind IN ('benchmark', 'quote');",  # of before challengers drew themselves
    """
    CREATE TABLE words_kept (
        number INTEGER PRIMARY KEY AUTOINCREMENT, facts BLOB NOT NULL, signer TEXT NOT NULL, height INTEGER NOT NULL,
        body BLOB NOT NULL, key TEXT NOT NULL);
    INSERT INTO words_kept SELECT number, facts, signer, height, body, key FROM words;
    DROP TABLE words;
    ALTER TABLE words_kept RENAME TO words;
    CREATE UNIQUE INDEX words_of ON words (facts, signer, key = 'none');
    CREATE INDEX words_unseen ON words (facts) WHERE key = 'unseen';
    """,
    """
    ALTER TABLE claims ADD COLUMN outdone_by BLOB;
    CREATE INDEX claims_outdone ON claims (outdone_by) WHERE outdone_by IS NOT NULL;
    """,
    """
    ALTER TABLE claims ADD COLUMN teller TEXT NOT NULL DEFAULT '';
    UPDATE claims SET teller = (SELECT signer FROM words WHERE words.facts = claims.facts ORDER BY number LIMIT 1);
    CREATE INDEX claims_waiting ON claims (teller, reason, cursor) WHERE state = 'pending';
    """,
]


class Book(NodeShelf, ReceiptShelf, PresenceShelf, StandingShelf, IssuedShelf):
    """What this registry holds."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def place(self, name: str) -> int:
        """Where this node stands in reading something (0 at first)."""
        row = self.store.row("SELECT value FROM counter WHERE name = ?", name)
        return int(row["value"]) if row else 0

    def keep_place(self, name: str, value: int) -> None:
        """Remember where this node stands."""
        with self.store.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", name, value)

"""flopd's tables, as migrations: what the chain shows, what is ours, what was decided."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash TEXT NOT NULL, time_s INTEGER NOT NULL);
    CREATE TABLE scripts (
        script BLOB PRIMARY KEY, kind TEXT NOT NULL, branch INTEGER NOT NULL, number INTEGER NOT NULL,
        label TEXT NOT NULL, from_height INTEGER NOT NULL, is_read INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX scripts_unread ON scripts (from_height) WHERE is_read = 0;
    CREATE TABLE coins (
        txid TEXT NOT NULL, vout INTEGER NOT NULL, script BLOB NOT NULL, value INTEGER NOT NULL, height INTEGER,
        position INTEGER NOT NULL, is_coinbase INTEGER NOT NULL, PRIMARY KEY (txid, vout)) WITHOUT ROWID;
    CREATE INDEX coins_by_script ON coins (script);
    CREATE INDEX coins_by_height ON coins (height);
    CREATE TABLE spends (
        txid TEXT NOT NULL, vout INTEGER NOT NULL, spender TEXT NOT NULL, height INTEGER, script_sig BLOB NOT NULL,
        PRIMARY KEY (txid, vout, spender)) WITHOUT ROWID;
    CREATE INDEX spends_by_spender ON spends (spender);
    CREATE INDEX spends_by_height ON spends (height);
    CREATE TABLE txs (
        txid TEXT PRIMARY KEY, raw BLOB NOT NULL, skeleton BLOB NOT NULL, height INTEGER, at_ms INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX txs_by_skeleton ON txs (skeleton);
    CREATE INDEX txs_by_height ON txs (height);
    CREATE TABLE payments (
        number INTEGER PRIMARY KEY AUTOINCREMENT, txid TEXT NOT NULL UNIQUE, raw BLOB NOT NULL, skeleton BLOB NOT NULL,
        kind TEXT NOT NULL, request_id TEXT NOT NULL, caller TEXT NOT NULL, counterparty TEXT NOT NULL,
        amount INTEGER NOT NULL, fee INTEGER NOT NULL, contract_id TEXT NOT NULL, at_ms INTEGER NOT NULL,
        refused TEXT NOT NULL DEFAULT '');
    CREATE INDEX payments_by_contract ON payments (contract_id);
    CREATE INDEX payments_by_time ON payments (at_ms);
    CREATE TABLE binds (
        txid TEXT NOT NULL, vout INTEGER NOT NULL, payment TEXT NOT NULL, PRIMARY KEY (txid, vout, payment)) WITHOUT
        ROWID; CREATE INDEX binds_by_payment ON binds (payment); CREATE TABLE contract_keys ( number INTEGER PRIMARY
        KEY, purpose TEXT NOT NULL, nonce BLOB NOT NULL, cid TEXT NOT NULL DEFAULT '', UNIQUE (purpose, nonce)); CREATE
        TABLE contracts ( cid TEXT PRIMARY KEY, body BLOB NOT NULL, role TEXT NOT NULL, key_number INTEGER NOT NULL,
        at_ms INTEGER NOT NULL) WITHOUT ROWID; CREATE TABLE awards ( cid TEXT NOT NULL, txid TEXT NOT NULL, vout INTEGER
        NOT NULL, template BLOB NOT NULL, PRIMARY KEY (cid, txid, vout)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE labels (name TEXT PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE payments ADD COLUMN replaced_by TEXT NOT NULL DEFAULT '';
    CREATE TABLE accounts (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE watched_accounts (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, label TEXT NOT NULL);
    CREATE TABLE watched (
        script BLOB PRIMARY KEY, account INTEGER NOT NULL, branch INTEGER NOT NULL, number INTEGER NOT NULL,
        label TEXT NOT NULL, redeem BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE shared_keys (number INTEGER PRIMARY KEY, label TEXT NOT NULL);
    CREATE TABLE shared (script BLOB PRIMARY KEY, redeem BLOB NOT NULL, number INTEGER NOT NULL, label TEXT NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE bonds (number INTEGER PRIMARY KEY, script BLOB NOT NULL, told INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    """,
    # keys that a search for lost channels only tried were bound to none, and no new contract could have their numbers
    """
    DELETE FROM contract_keys WHERE cid = '' AND NOT EXISTS (
        SELECT 1 FROM scripts WHERE scripts.kind = 'own' AND scripts.branch = 3
        AND scripts.number = contract_keys.number AND scripts.label <> '');
    """,
)

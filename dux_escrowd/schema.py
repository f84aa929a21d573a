"""The tables of escrowd's store, one migration after another; a migration that was released is never changed."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE contracts (
        contract_id TEXT PRIMARY KEY, role TEXT NOT NULL, stage TEXT NOT NULL, buyer TEXT NOT NULL,
        seller TEXT NOT NULL, created_ms INTEGER NOT NULL, created_height INTEGER NOT NULL, key_index INTEGER,
        cid TEXT, script BLOB, address TEXT, salt BLOB, preimage BLOB, reason TEXT NOT NULL DEFAULT '',
        evidence BLOB NOT NULL DEFAULT x'', follow INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX contracts_followed ON contracts (follow) WHERE follow = 1;
    CREATE INDEX contracts_by_cid ON contracts (cid);
    CREATE TABLE documents (
        contract_id TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (contract_id, kind, owner)) WITHOUT ROWID;
    CREATE TABLE births (
        contract_id TEXT NOT NULL, number INTEGER NOT NULL, lot BLOB NOT NULL,
        PRIMARY KEY (contract_id, number)) WITHOUT ROWID;
    CREATE TABLE lots (
        contract_id TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, facts INTEGER NOT NULL,
        lot BLOB NOT NULL, PRIMARY KEY (contract_id, number)) WITHOUT ROWID;
    CREATE TABLE facts (
        contract_id TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        state TEXT NOT NULL, fact BLOB NOT NULL, PRIMARY KEY (contract_id, number, position)) WITHOUT ROWID;
    CREATE TABLE statements (
        contract_id TEXT NOT NULL, signer TEXT NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
        kind TEXT NOT NULL, heard_height INTEGER NOT NULL, taken INTEGER NOT NULL, attested BLOB NOT NULL,
        effect_id TEXT UNIQUE, PRIMARY KEY (contract_id, signer, seq)) WITHOUT ROWID;
    CREATE TABLE waiting (
        contract_id TEXT NOT NULL, name TEXT NOT NULL, fact BLOB NOT NULL,
        PRIMARY KEY (contract_id, name)) WITHOUT ROWID;
    CREATE TABLE acked (
        contract_id TEXT NOT NULL, peer TEXT NOT NULL, signer TEXT NOT NULL, next_seq INTEGER NOT NULL,
        PRIMARY KEY (contract_id, peer, signer)) WITHOUT ROWID;
    CREATE TABLE faults (
        contract_id TEXT NOT NULL, signer TEXT NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL,
        PRIMARY KEY (contract_id, signer)) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE contracts ADD COLUMN series TEXT NOT NULL DEFAULT '';
    ALTER TABLE contracts ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE contracts ADD COLUMN bond INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX contracts_by_series ON contracts (series) WHERE series <> '';
    """,
    """
    CREATE TABLE channels (
        chid TEXT PRIMARY KEY, side TEXT NOT NULL, other TEXT NOT NULL, terms BLOB NOT NULL, key_index INTEGER NOT NULL,
        state BLOB NOT NULL, phase TEXT NOT NULL, output_script BLOB NOT NULL, address TEXT NOT NULL,
        created_ms INTEGER NOT NULL, created_height INTEGER NOT NULL, follow INTEGER NOT NULL,
        reason TEXT NOT NULL DEFAULT '', opening BLOB NOT NULL DEFAULT x'', final BLOB NOT NULL DEFAULT x'');
    CREATE INDEX channels_followed ON channels (follow) WHERE follow = 1;
    CREATE INDEX channels_by_other ON channels (other, side);
    CREATE TABLE channel_calls (
        chid TEXT NOT NULL, j INTEGER NOT NULL, oid TEXT NOT NULL, call BLOB NOT NULL, voucher BLOB NOT NULL,
        answer BLOB NOT NULL DEFAULT x'', response BLOB, said BLOB NOT NULL DEFAULT x'', at_ms INTEGER NOT NULL,
        PRIMARY KEY (chid, j)) WITHOUT ROWID;
    CREATE INDEX channel_calls_by_oid ON channel_calls (chid, oid);
    CREATE TABLE channel_vouchers (
        chid TEXT NOT NULL, outpoint TEXT NOT NULL, cum INTEGER NOT NULL, j INTEGER NOT NULL, voucher BLOB NOT NULL,
        PRIMARY KEY (chid, outpoint, cum)) WITHOUT ROWID;
    CREATE TABLE channel_faults (
        chid TEXT NOT NULL, j INTEGER NOT NULL, voucher BLOB NOT NULL, PRIMARY KEY (chid, j, voucher)) WITHOUT ROWID;
    CREATE TABLE channel_offers (
        hash BLOB PRIMARY KEY, offer BLOB NOT NULL, what TEXT NOT NULL, valid_to INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE watched_closes (
        chid BLOB PRIMARY KEY, payee TEXT NOT NULL, raw BLOB NOT NULL, output_script BLOB NOT NULL,
        from_height INTEGER NOT NULL, publish_at INTEGER NOT NULL, until INTEGER NOT NULL,
        published INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    """,
    """
    CREATE TABLE copies (
        tag BLOB PRIMARY KEY, owner TEXT NOT NULL, contract_id TEXT NOT NULL, version INTEGER NOT NULL,
        sealed BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX copies_by_contract ON copies (contract_id, owner);
    """,
    """
    CREATE TABLE kept_copies (
        tag BLOB NOT NULL, owner TEXT NOT NULL, version INTEGER NOT NULL, until INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (tag, owner)) WITHOUT ROWID;
    CREATE INDEX kept_copies_by_until ON kept_copies (until);
    """,
    """
    CREATE INDEX channel_calls_with_response ON channel_calls (chid, j) WHERE response NOT NULL;
    CREATE INDEX channel_calls_unanswered ON channel_calls (chid, at_ms) WHERE answer = x'';
    """,
    """
    ALTER TABLE channels ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
    UPDATE channels SET copied = 1000 * CAST(strftime('%s', 'now') AS INTEGER);
    CREATE TABLE royalty_payments (
        payment_id TEXT PRIMARY KEY, address TEXT NOT NULL, amount INTEGER NOT NULL,
        txid TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    """,
    """
    CREATE TABLE channel_doors (payee TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    DROP TABLE watched_closes;
    CREATE TABLE watched_closes (
        chid BLOB NOT NULL, payee TEXT NOT NULL, raw BLOB NOT NULL, publish_at INTEGER NOT NULL,
        until INTEGER NOT NULL, published INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (chid, payee)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE kept_copies ADD COLUMN came INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX kept_copies_by_came ON kept_copies (came);
    CREATE TABLE party_copies (
        contract_id TEXT NOT NULL, owner TEXT NOT NULL, tag BLOB NOT NULL, version INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (contract_id, owner));
    CREATE INDEX party_copies_by_tag ON party_copies (tag);
    INSERT OR REPLACE INTO party_copies SELECT contract_id, owner, tag, version, sealed FROM copies ORDER BY version;
    DROP TABLE copies;
    """,
)

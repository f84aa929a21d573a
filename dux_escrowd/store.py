"""The only file with SQL: contracts, their lots, the facts that led there, statements, secrets and evidence.

Promise: what one decision wrote is there whole or not at all (it is handed the transaction); nothing is overwritten but
snapshots of lots, which the facts give again. Secrets (r, vote salts, K that was shown) stay in this file, readable by
escrowd alone. It decides nothing.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from common.codec import Canon, canonical, from_canonical
from common.store import Row, Store, Tx, Value
from common.units import Did
from dux_escrowd.facts import AnyFact, Fact
from dux_escrowd.model import Lot, Role, State
from dux_escrowd.statements import Heard, opened_statement

C = TypeVar("C", bound=Canon)
DOCUMENT_BYTES_MAX = 65_536
UNPAID_COPIES_BYTES_MAX = 67_108_864  # 64 MiB of parties' copies of contracts that nobody has paid for


class Agreed(msgspec.Struct, frozen=True):
    """One contract's row: who and what, beside the lots."""

    contract_id: str
    role: Role
    stage: str
    buyer: Did
    seller: Did
    created_ms: int
    created_height: int
    key_index: int | None
    cid: str | None
    script: bytes | None
    address: str | None
    salt: bytes | None
    preimage: bytes | None
    reason: str
    evidence: bytes
    follow: int
    series: str  # hex; empty: one lot alone
    number: int  # which lot of the series
    bond: int


class Shelf:
    """Reads and writes what escrowd remembers; writing always inside the decision it is handed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- contracts --------------------------------------------------------------------------------------------------

    def contract(self, contract_id: str) -> Agreed | None:
        """The contract's row."""
        row = self._store.row("SELECT * FROM contracts WHERE contract_id = ?", contract_id)
        return _agreed(row) if row else None

    def contract_by_cid(self, cid: str) -> Agreed | None:
        """The contract with this hash."""
        row = self._store.row("SELECT * FROM contracts WHERE cid = ?", cid)
        return _agreed(row) if row else None

    def followed(self) -> list[Agreed]:
        """Contracts whose script is watched, oldest first."""
        rows = self._store.rows("SELECT * FROM contracts WHERE follow = 1 ORDER BY created_ms, contract_id")
        return [_agreed(row) for row in rows]

    def void_beyond(self, most: int) -> list[str]:
        """Followed contracts of others that came to nothing, with no coin on their script: all but the newest ones."""
        rows = self._store.rows(
            "SELECT contract_id FROM contracts WHERE follow = 1 AND role != 'buyer' AND EXISTS (SELECT 1 FROM lots "
            "WHERE lots.contract_id = contracts.contract_id AND number = 0 AND state = 'VOID') AND NOT EXISTS "
            "(SELECT 1 FROM lots WHERE lots.contract_id = contracts.contract_id AND number > 0) "
            "ORDER BY created_ms DESC, contract_id DESC LIMIT -1 OFFSET ?", most,
        )  # fmt: skip
        return [str(row["contract_id"]) for row in rows]

    def named(self, role: Role) -> list[str]:
        """Contracts in which this node has the role, oldest first."""
        rows = self._store.rows(
            "SELECT contract_id FROM contracts WHERE role = ? ORDER BY created_ms, contract_id", role.value
        )
        return [row["contract_id"] for row in rows]

    def listed(self, before: str | None, limit: int, start: str = "") -> list[Agreed]:
        """Newest first; those whose id begins so."""
        rows = self._store.rows(
            "SELECT * FROM contracts WHERE (?1 IS NULL OR (created_ms, contract_id) < "
            "(SELECT created_ms, contract_id FROM contracts WHERE contract_id = ?1)) "
            "AND substr(contract_id, 1, length(?3)) = ?3 ORDER BY created_ms DESC, contract_id DESC LIMIT ?2",
            before,
            limit,
            start,
        )
        return [_agreed(row) for row in rows]

    def series(self, row: Agreed) -> list[Agreed]:
        """The lots of work of a contract's series between the same two, in order; empty for one lot alone."""
        return self._of_series(row, bond=0)

    def bond_of(self, row: Agreed) -> Agreed | None:
        """The bond lot beside a series, if there is one by now."""
        return next(iter(self._of_series(row, bond=1)), None)

    def _of_series(self, row: Agreed, *, bond: int) -> list[Agreed]:
        if not row.series:
            return []
        pair = (row.buyer, row.seller) if bool(bond) == bool(row.bond) else (row.seller, row.buyer)
        return self.of_series(row.series, buyer=pair[0], seller=pair[1], bond=bond)

    def of_series(self, series: str, *, buyer: str, seller: str, bond: int) -> list[Agreed]:
        """The lots of a series between these two, in order; refused ones are none."""
        rows = self._store.rows(
            "SELECT * FROM contracts WHERE series = ? AND bond = ? AND buyer = ? AND seller = ? AND stage <> 'refused' "
            "ORDER BY number, created_ms, contract_id",
            series, bond, buyer, seller,
        )  # fmt: skip
        return [_agreed(found) for found in rows]

    def is_known_series(self, series: str, buyer: str) -> bool:
        """Whether a lot of this buyer's series is here already."""
        found = self._store.row("SELECT 1 FROM contracts WHERE series = ? AND buyer = ? LIMIT 1", series, buyer)
        return found is not None

    def drafts(self) -> list[Agreed]:
        """Contracts that have no lot yet and may still get one."""
        rows = self._store.rows(
            "SELECT * FROM contracts WHERE stage NOT IN ('lot', 'refused') ORDER BY created_ms, contract_id"
        )
        return [_agreed(row) for row in rows]

    def unfunded(self, buyer: str) -> int:
        """How many contracts with this buyer wait for terms or coins; the lots of a series count as one."""
        return self._unfunded("buyer = ?", buyer)

    def unfunded_of_others(self, me: str) -> int:
        """How many contracts that others want to buy by wait here for terms or coins."""
        return self._unfunded("buyer != ?", me)

    def _unfunded(self, whose: str, did: str) -> int:
        row = self._store.row(
            "SELECT count(DISTINCT CASE series WHEN '' THEN contract_id ELSE series END) AS n "  # noqa: S608 - constants
            f"FROM contracts LEFT JOIN lots USING (contract_id) WHERE {whose} AND stage != 'refused' "
            "AND (lots.state IS NULL OR (lots.number = 0 AND lots.state IN ('DRAFT', 'DRAWING', 'AGREED')))",
            did,
        )
        return int(row["n"]) if row else 0

    @staticmethod
    def open(tx: Tx, row: Agreed) -> None:
        """A new contract."""
        tx.execute(
            "INSERT INTO contracts (contract_id, role, stage, buyer, seller, created_ms, created_height, key_index, "
            "salt, series, number, bond) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.contract_id, row.role, row.stage, row.buyer, row.seller, row.created_ms, row.created_height,
            row.key_index, row.salt, row.series, row.number, row.bond,
        )  # fmt: skip

    @staticmethod
    def note(tx: Tx, contract_id: str, **values: Value) -> None:
        """Set columns of a contract."""
        names = ", ".join(f"{name} = ?" for name in values)
        tx.execute(f"UPDATE contracts SET {names} WHERE contract_id = ?", *values.values(), contract_id)  # noqa: S608 - own names

    def keys_beyond(self, numbers: int) -> tuple[int, int]:
        """The highest key number in use from `numbers` on, -1 for none, and the height of the oldest one's agreement.

        Channels count, too: their keys have the same numbers.
        """
        row = self._store.row(
            "SELECT max(key_index) AS highest, min(created_height) AS height FROM ("
            "SELECT key_index, created_height FROM contracts UNION ALL SELECT key_index, created_height FROM channels) "
            "WHERE key_index >= ?",
            numbers,
        )
        return (-1, 0) if row is None or row["highest"] is None else (int(row["highest"]), int(row["height"]))

    # --- documents: what was signed or sent for a contract ----------------------------------------------------------

    def document(self, contract_id: str, kind: str, form: type[C], owner: str = "") -> C | None:
        """A canonical document of the contract."""
        body = self.raw(contract_id, kind, owner)
        return from_canonical(body, form, max_bytes=DOCUMENT_BYTES_MAX) if body is not None else None

    def raw(self, contract_id: str, kind: str, owner: str = "") -> bytes | None:
        """The bytes of a document."""
        row = self._store.row(
            "SELECT body FROM documents WHERE contract_id = ? AND kind = ? AND owner = ?", contract_id, kind, owner
        )
        return bytes(row["body"]) if row else None

    def owned(self, contract_id: str, kind: str) -> dict[str, bytes]:
        """All documents of a kind by their owners."""
        rows = self._store.rows(
            "SELECT owner, body FROM documents WHERE contract_id = ? AND kind = ? ORDER BY owner", contract_id, kind
        )
        return {row["owner"]: bytes(row["body"]) for row in rows}

    @staticmethod
    def keep(tx: Tx, contract_id: str, kind: str, document: Canon | bytes, owner: str = "") -> None:
        """Keep a document; the first of its kind and owner stays, but a case may be shown again with more."""
        body = document if isinstance(document, bytes) else canonical(document)
        verb = "INSERT OR REPLACE" if kind == "case" else "INSERT OR IGNORE"
        tx.execute(f"{verb} INTO documents VALUES (?, ?, ?, ?)", contract_id, kind, owner, body)

    # --- lots and facts ---------------------------------------------------------------------------------------------

    def lot(self, contract_id: str, number: int = 0) -> Lot | None:
        """A lot as it stands."""
        row = self._store.row("SELECT lot FROM lots WHERE contract_id = ? AND number = ?", contract_id, number)
        return msgspec.msgpack.decode(row["lot"], type=Lot) if row else None

    def lots(self, contract_id: str) -> list[Lot]:
        """The lot and its strays."""
        rows = self._store.rows("SELECT lot FROM lots WHERE contract_id = ? ORDER BY number", contract_id)
        return [msgspec.msgpack.decode(row["lot"], type=Lot) for row in rows]

    def position(self, contract_id: str, number: int) -> int:
        """How many facts the lot has taken."""
        row = self._store.row("SELECT facts FROM lots WHERE contract_id = ? AND number = ?", contract_id, number)
        return int(row["facts"]) if row else 0

    def facts(self, contract_id: str, number: int = 0) -> list[tuple[Fact, State, int]]:
        """The facts a lot has taken, the state each led to, and when (Unix ms)."""
        rows = self._store.rows(
            "SELECT fact, state, at_ms FROM facts WHERE contract_id = ? AND number = ? ORDER BY position",
            contract_id,
            number,
        )
        return [(decode_fact(row["fact"]), State(row["state"]), int(row["at_ms"])) for row in rows]

    def births(self) -> list[Lot]:
        """Every lot as it began."""
        rows = self._store.rows("SELECT lot FROM births ORDER BY contract_id, number")
        return [msgspec.msgpack.decode(row["lot"], type=Lot) for row in rows]

    @staticmethod
    def begin(tx: Tx, lot: Lot) -> None:
        """A new lot."""
        body = msgspec.msgpack.encode(lot)
        tx.execute("INSERT INTO births VALUES (?, ?, ?)", lot.contract_id, lot.number, body)
        tx.execute("INSERT INTO lots VALUES (?, ?, ?, 0, ?)", lot.contract_id, lot.number, lot.state.value, body)

    @staticmethod
    def advance(tx: Tx, lot: Lot, fact: Fact, position: int, *, state: State | None = None) -> None:
        """A lot after its next fact; `state`: what that fact led to, where the lot has moved on since.

        The fact is left out of the history when nothing but the clock moved.
        """
        tx.execute(
            "UPDATE lots SET state = ?, facts = ?, lot = ? WHERE contract_id = ? AND number = ?",
            lot.state.value, position + 1, msgspec.msgpack.encode(lot), lot.contract_id, lot.number,
        )  # fmt: skip
        tx.execute(
            "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)",
            lot.contract_id, lot.number, position, tx.now_ms(), (state or lot.state).value, msgspec.json.encode(fact),
        )  # fmt: skip

    # --- statements -------------------------------------------------------------------------------------------------

    def chain(self, contract_id: str, signer: str) -> list[bytes]:
        """The hashes of a signer's statements, in order."""
        rows = self._store.rows(
            "SELECT hash FROM statements WHERE contract_id = ? AND signer = ? ORDER BY seq", contract_id, signer
        )
        return [bytes(row["hash"]) for row in rows]

    def chains(self, contract_id: str) -> dict[Did, list[bytes]]:
        """Every chain held of a contract."""
        rows = self._store.rows("SELECT DISTINCT signer FROM statements WHERE contract_id = ?", contract_id)
        return {Did(row["signer"]): self.chain(contract_id, row["signer"]) for row in rows}

    def said(self, contract_id: str, signer: str, from_seq: int = 0, limit: int = 100) -> list[bytes]:
        """A signer's signed statements from a number on."""
        rows = self._store.rows(
            "SELECT attested FROM statements WHERE contract_id = ? AND signer = ? AND seq >= ? ORDER BY seq LIMIT ?",
            contract_id, signer, from_seq, limit,
        )  # fmt: skip
        return [bytes(row["attested"]) for row in rows]

    def heard(self, contract_id: str, kind: str) -> list[Heard]:
        """All statements of a kind, newest last within each signer."""
        rows = self._store.rows(
            "SELECT attested FROM statements WHERE contract_id = ? AND kind = ? ORDER BY signer, seq", contract_id, kind
        )
        return [opened_statement(bytes(row["attested"])) for row in rows]

    def untaken(self, contract_id: str) -> list[tuple[Heard, int]]:
        """Statements whose fact the lot has not taken yet, and the tip at which each was heard."""
        rows = self._store.rows(
            "SELECT attested, heard_height FROM statements WHERE contract_id = ? AND taken = 0 ORDER BY signer, seq",
            contract_id,
        )
        return [(opened_statement(bytes(row["attested"])), int(row["heard_height"])) for row in rows]

    def authored(self, effect_id: str) -> bool:
        """Whether this effect's statement was signed before."""
        return self._store.row("SELECT 1 FROM statements WHERE effect_id = ?", effect_id) is not None

    @staticmethod
    def add_statement(
        tx: Tx, contract_id: str, heard: Heard, *, height: int, taken: bool, effect_id: str | None = None
    ) -> None:
        """One more statement of its signer's chain."""
        statement = heard.statement
        tx.execute(
            "INSERT INTO statements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            contract_id, statement.signer, statement.seq, heard.hash, statement.kind.value, height, int(taken),
            canonical(heard.attested), effect_id,
        )  # fmt: skip

    @staticmethod
    def take_statement(tx: Tx, contract_id: str, heard: Heard) -> None:
        """The lot has taken this statement's fact."""
        tx.execute(
            "UPDATE statements SET taken = 1 WHERE contract_id = ? AND signer = ? AND seq = ?",
            contract_id, heard.statement.signer, heard.statement.seq,
        )  # fmt: skip

    # --- facts that wait for their phase, acknowledgements, faults --------------------------------------------------

    def waiting(self, contract_id: str) -> dict[str, Fact]:
        """Facts that came before their phase, by name."""
        rows = self._store.rows("SELECT name, fact FROM waiting WHERE contract_id = ? ORDER BY name", contract_id)
        return {row["name"]: decode_fact(row["fact"]) for row in rows}

    @staticmethod
    def wait(tx: Tx, contract_id: str, name: str, fact: Fact) -> None:
        """Keep a fact until its phase comes."""
        body = msgspec.json.encode(fact)
        tx.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?)", contract_id, name, body)

    @staticmethod
    def done_waiting(tx: Tx, contract_id: str, name: str) -> None:
        """The fact was taken."""
        tx.execute("DELETE FROM waiting WHERE contract_id = ? AND name = ?", contract_id, name)

    def acked(self, contract_id: str, peer: str) -> dict[Did, int]:
        """Which statement of each signer the peer wants next."""
        rows = self._store.rows(
            "SELECT signer, next_seq FROM acked WHERE contract_id = ? AND peer = ?", contract_id, peer
        )
        return {Did(row["signer"]): int(row["next_seq"]) for row in rows}

    @staticmethod
    def ack(tx: Tx, contract_id: str, peer: str, signer: str, next_seq: int) -> None:
        """The peer holds a chain up to here."""
        tx.execute("INSERT OR REPLACE INTO acked VALUES (?, ?, ?, ?)", contract_id, peer, signer, next_seq)

    def fault(self, contract_id: str, signer: str) -> tuple[bytes, bytes] | None:
        """The proof that a signer contradicted itself."""
        row = self._store.row("SELECT * FROM faults WHERE contract_id = ? AND signer = ?", contract_id, signer)
        return (bytes(row["first"]), bytes(row["second"])) if row else None

    @staticmethod
    def add_fault(tx: Tx, contract_id: str, signer: str, first: bytes, second: bytes) -> None:
        """Keep a proof; the first stays."""
        tx.execute("INSERT OR IGNORE INTO faults VALUES (?, ?, ?, ?)", contract_id, signer, first, second)

    def documents(self, contract_id: str) -> list[tuple[str, str, bytes]]:
        """Every document of a contract: kind, owner, bytes."""
        rows = self._store.rows("SELECT * FROM documents WHERE contract_id = ? ORDER BY kind, owner", contract_id)
        return [(row["kind"], row["owner"], bytes(row["body"])) for row in rows]

    def copy(self, tag: bytes, asker: str) -> tuple[int, bytes] | None:
        """Version and bytes of another's encrypted copy, kept here as a party of the contract or as none.

        The asker's own before anybody's: its newest. Then the one that came first, of a party before all others; who
        knows a tag may have junk kept under it.
        """
        row = self._store.row(
            "SELECT version, sealed FROM ("
            "SELECT version, sealed, owner = ? AS own, 0 AS strange, rowid AS came FROM party_copies WHERE tag = ? "
            "UNION ALL SELECT version, sealed, owner = ?, 1, came FROM kept_copies WHERE tag = ?) "
            "ORDER BY own DESC, own * version DESC, strange, came", asker, tag, asker, tag,
        )  # fmt: skip
        return (int(row["version"]), bytes(row["sealed"])) if row else None

    @staticmethod
    def keep_copy(tx: Tx, tag: bytes, owner: str, contract_id: str, version: int, sealed: bytes) -> bool:
        """One copy for each owner of a contract; whether it is kept: not in place of one with a larger version."""
        mine = "contract_id = ? AND owner = ?"
        tx.execute(
            "INSERT INTO party_copies (contract_id, owner, tag, version, sealed) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (contract_id, owner) DO UPDATE SET tag = excluded.tag, version = excluded.version, "
            "sealed = excluded.sealed WHERE excluded.version >= version",
            contract_id, owner, tag, version, sealed,
        )  # fmt: skip
        row = tx.row(f"SELECT tag, version FROM party_copies WHERE {mine}", contract_id, owner)  # noqa: S608 - own words
        return row is not None and (bytes(row["tag"]), int(row["version"])) == (tag, version)

    def has_room_for_copy(self, tx: Tx, contract_id: str, more: int) -> bool:
        """Whether so many bytes more have room: always for a contract that was paid for; else copies of void ones go.

        A contract that nobody pays costs two names nothing, however many there are.
        """
        paid = "SELECT 1 FROM lots WHERE contract_id = ? AND state NOT IN ('DRAFT', 'DRAWING', 'AGREED', 'VOID')"
        if tx.row(paid, contract_id) is not None:
            return True
        unpaid = f"FROM party_copies AS kept WHERE NOT EXISTS ({paid.replace('?', 'kept.contract_id')})"
        row = tx.row(f"SELECT coalesce(sum(length(sealed)), 0) AS bytes {unpaid}")
        over = (int(row["bytes"]) if row else 0) + more - UNPAID_COPIES_BYTES_MAX
        void = "EXISTS (SELECT 1 FROM lots WHERE contract_id = kept.contract_id AND state = 'VOID')"
        gone = list[int]()
        for old in tx.rows(f"SELECT rowid AS at, length(sealed) AS size {unpaid} AND {void} ORDER BY at"):
            if over > 0:
                gone.append(int(old["at"]))
                over -= int(old["size"])
        for at in gone if over <= 0 else ():
            tx.execute("DELETE FROM party_copies WHERE rowid = ?", at)
        return over <= 0

    @staticmethod
    def drop_copies(tx: Tx, contract_id: str) -> None:
        """The copies of a contract that is over: nobody needs it back."""
        tx.execute("DELETE FROM party_copies WHERE contract_id = ?", contract_id)

    @staticmethod
    def restore(tx: Tx, row: Agreed) -> None:
        """A contract's row as it was."""
        values = msgspec.structs.asdict(row)
        names = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        tx.execute(f"INSERT INTO contracts ({names}) VALUES ({marks})", *values.values())  # noqa: S608 - own names

    def setting(self, name: str) -> bytes | None:
        """A value of this daemon's own, such as a cursor."""
        row = self._store.row("SELECT value FROM settings WHERE name = ?", name)
        return bytes(row["value"]) if row else None

    @staticmethod
    def set(tx: Tx, name: str, value: bytes) -> None:
        """Keep a value of this daemon's own."""
        tx.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)


def _agreed(row: Row) -> Agreed:
    return msgspec.convert({key: row[key] for key in row.keys()}, Agreed)  # noqa: SIM118 - sqlite3.Row iterates values


def decode_fact(body: bytes) -> Fact:
    """A fact from its stored form."""
    fact: Fact = msgspec.json.decode(body, type=AnyFact)
    return fact

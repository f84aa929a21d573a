"""The part of the registry's file that holds statements about standing, and sanctions: SQL of these and nothing else.

A statement has a place: of one kind, signer and place there is one, the first that came. Another one at the same place
is a contradiction, which the caller is told of. The operator's sanctions are this node's own; `restricted` remembers
what was last told in events.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from common.codec import canonical, from_canonical
from common.standing import NOTE_BYTES_MAX, Kind, Note, note_id
from common.store import Row, Store, Tx
from common.units import Did, UnixMs
from dux_registryd.model import Sanction, State
from dux_registryd.sanction_rules import OPERATOR
from dux_registryd.store_nodes import next_number

PER_SIGNER_MAX = 2_000  # statements kept of one signer and kind; a busy challenger signs a few a day
KEPT_MS = {Kind.FAULT: 2 * 365 * 86_400_000, Kind.BOND: 3 * 365 * 86_400_000}  # no bond lasts longer than two years
KEPT_ELSE_MS = 180 * 86_400_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A statement with what it is found by."""

    kind: Kind
    subject: Did  # about whom
    signer: Did  # who said it; of a fault: who committed it
    place: str
    at_ms: UnixMs
    note: Note


class StandingShelf:
    """Statements and sanctions as this registry holds them."""

    store: Store

    def put_statement(self, tx: Tx, kept: Kept) -> bool:
        """Keep a statement; whether it was new at its place."""
        return bool(
            tx.execute(
                "INSERT OR IGNORE INTO statements VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                note_id(kept.note),
                kept.kind.value,
                kept.subject,
                kept.signer,
                kept.place,
                kept.at_ms,
                canonical(kept.note),
                next_number(tx, "statements"),
            ).rowcount
        )

    def statement_at(self, kind: Kind, signer: str, place: str) -> Kept | None:
        """What somebody has said at a place."""
        row = self.store.row(
            "SELECT * FROM statements WHERE kind = ? AND signer = ? AND place = ?", kind.value, signer, place
        )
        return _kept(row) if row else None

    def statements_about(self, kind: Kind, subject: str, from_ms: int = 0, limit: int = 1_000) -> list[Kept]:
        """Statements of a kind about a node, the newest first."""
        rows = self.store.rows(
            "SELECT * FROM statements WHERE kind = ? AND subject = ? AND at_ms >= ? ORDER BY at_ms DESC, id LIMIT ?",
            kind.value,
            subject,
            from_ms,
            limit,
        )
        return [_kept(row) for row in rows]

    def statements_by(self, kind: Kind, signer: str, from_ms: int = 0, limit: int = 1_000) -> list[Kept]:
        """Statements of a kind by a node, the newest first."""
        rows = self.store.rows(
            "SELECT * FROM statements WHERE kind = ? AND signer = ? AND at_ms >= ? ORDER BY at_ms DESC, id LIMIT ?",
            kind.value,
            signer,
            from_ms,
            limit,
        )
        return [_kept(row) for row in rows]

    def statements_of(self, kind: Kind, limit: int) -> list[Kept]:
        """All statements of a kind, the newest first."""
        sql = "SELECT * FROM statements WHERE kind = ? ORDER BY at_ms DESC, id LIMIT ?"
        return [_kept(row) for row in self.store.rows(sql, kind.value, limit)]

    def statement(self, identity: bytes) -> Kept | None:
        """A statement by its name."""
        row = self.store.row("SELECT * FROM statements WHERE id = ?", identity)
        return _kept(row) if row else None

    def put_panel(self, tx: Tx, audit_id: bytes, panel: tuple[Did, ...]) -> None:
        """Keep who was drawn for an audit."""
        tx.execute("INSERT OR IGNORE INTO panels VALUES (?, ?)", audit_id, " ".join(panel))

    def panel(self, audit_id: bytes) -> tuple[Did, ...] | None:
        """Who was drawn for an audit; None: nobody yet."""
        row = self.store.row("SELECT members FROM panels WHERE audit = ?", audit_id)
        return tuple(Did(did) for did in row["members"].split()) if row else None

    def notes_about(self, subject: str, limit: int, bytes_max: int) -> tuple[bytes, ...]:
        """Faults, audits and their verdicts of a node, the newest first, as many as fit."""
        rows = self.store.rows(
            "SELECT body FROM statements WHERE (kind IN ('fault', 'audit') AND subject = ?) OR (kind = 'verdict' AND "
            "subject IN (SELECT lower(hex(id)) FROM statements WHERE kind = 'audit' AND subject = ?)) "
            "ORDER BY kind, at_ms DESC LIMIT ?",
            subject,
            subject,
            limit,
        )
        found: list[bytes] = []
        for row in rows:
            if sum(map(len, found)) + len(row["body"]) <= bytes_max:
                found.append(bytes(row["body"]))
        return tuple(found)

    def put_attestation(
        self, tx: Tx, root: bytes, issuer: str, envelope: bytes, claims: tuple[bytes, ...], expires_ms: int
    ) -> None:
        """Keep what another node has attested of this one; its older word goes."""
        tx.execute("DELETE FROM attestations WHERE issuer = ?", issuer)
        row = (root, issuer, envelope, msgspec.msgpack.encode(claims), expires_ms)
        tx.execute("INSERT INTO attestations VALUES (?, ?, ?, ?, ?)", *row)

    def attestations(self, now_ms: int) -> list[tuple[Did, bytes, tuple[bytes, ...]]]:
        """What others have attested of this node and still holds, the newest first."""
        rows = self.store.rows(
            "SELECT * FROM attestations WHERE expires_ms > ? ORDER BY expires_ms DESC, issuer", now_ms
        )
        return [
            (Did(row["issuer"]), bytes(row["envelope"]), msgspec.msgpack.decode(row["claims"], type=tuple[bytes, ...]))
            for row in rows
        ]

    def count_statements_by(self, kind: Kind, signer: str) -> int:
        """How many statements of a kind are kept of one signer."""
        row = self.store.row("SELECT count(*) AS n FROM statements WHERE kind = ? AND signer = ?", kind.value, signer)
        return int(row["n"]) if row else 0

    def statements_after(self, cursor: int, limit: int) -> list[tuple[int, bytes]]:
        """Notes in the order of their arrival."""
        sql = "SELECT cursor, body FROM statements WHERE cursor > ? ORDER BY cursor LIMIT ?"
        return [(row["cursor"], bytes(row["body"])) for row in self.store.rows(sql, cursor, limit)]

    def fault_times(self) -> dict[Did, list[int]]:
        """When each node's proven faults were committed."""
        found: dict[Did, list[int]] = {}
        for row in self.store.rows("SELECT signer, at_ms FROM statements WHERE kind = 'fault' ORDER BY at_ms"):
            found.setdefault(Did(row["signer"]), []).append(row["at_ms"])
        return found

    def thin_statements(self, tx: Tx, now_ms: int) -> None:
        """Drop what is older than it is kept."""
        for kind in Kind:
            before_ms = now_ms - KEPT_MS.get(kind, KEPT_ELSE_MS)
            tx.execute("DELETE FROM statements WHERE kind = ? AND at_ms < ?", kind.value, before_ms)

    # sanctions

    def put_sanction(self, tx: Tx, one: Sanction) -> None:
        """An operator's sanction; a later one of the same node replaces it."""
        tx.execute(
            "INSERT OR REPLACE INTO sanctions VALUES (?, ?, ?, ?, ?, ?)",
            one.did,
            one.state.value,
            one.reason,
            one.evidence,
            one.since_ms,
            one.until_ms,
        )

    def drop_sanction(self, tx: Tx, did: str) -> bool:
        """Lift an operator's sanction; whether there was one."""
        return bool(tx.execute("DELETE FROM sanctions WHERE did = ?", did).rowcount)

    def sanctions(self) -> dict[Did, Sanction]:
        """The operator's sanctions, also those that have ended."""
        rows = self.store.rows("SELECT * FROM sanctions ORDER BY did")
        return {
            Did(row["did"]): Sanction(
                did=Did(row["did"]),
                state=State(row["state"]),
                reason=row["reason"],
                evidence=row["evidence"],
                set_by=OPERATOR,
                since_ms=row["since_ms"],
                until_ms=row["until_ms"],
            )
            for row in rows
        }

    def restricted(self) -> dict[Did, str]:
        """Whose state was last told in an event, and which."""
        return {Did(row["did"]): row["state"] for row in self.store.rows("SELECT * FROM restricted ORDER BY did")}

    def set_restricted(self, tx: Tx, did: str, state: str) -> None:
        """Remember what was told; empty: nothing is kept from it any more."""
        if state:
            tx.execute("INSERT OR REPLACE INTO restricted VALUES (?, ?)", did, state)
        else:
            tx.execute("DELETE FROM restricted WHERE did = ?", did)


def _kept(row: Row) -> Kept:
    return Kept(
        kind=Kind(row["kind"]),
        subject=Did(row["subject"]),
        signer=Did(row["signer"]),
        place=row["place"],
        at_ms=UnixMs(row["at_ms"]),
        note=from_canonical(bytes(row["body"]), Note, max_bytes=NOTE_BYTES_MAX),
    )

"""The mailbox's tables and their SQL: parcels kept for others, letters that came, letters that were sent.

It knows rows, not what they mean; `mail_rules.py` decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.contracts.p2p_mail import LetterView, MailArrived, MailDelivered, MailSent
from common.identity.mail import Letter
from common.rpc.table import Ctx
from common.store import Row, Store, Tx
from common.units import Did, UnixMs

MAIL_MIGRATION = """
    CREATE TABLE parcels (
        id BLOB PRIMARY KEY, recipient TEXT NOT NULL, sender TEXT NOT NULL, parcel BLOB, ack BLOB,
        expires_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX parcels_by_recipient ON parcels (recipient, sender);
    CREATE TABLE letters (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, box TEXT NOT NULL, sender TEXT NOT NULL,
        recipient TEXT NOT NULL, at_ms INTEGER NOT NULL, subject TEXT NOT NULL, payload BLOB,
        forget_ms INTEGER NOT NULL);
    CREATE TABLE outbox_mail (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, parcel_id BLOB NOT NULL, box TEXT NOT NULL,
        recipient TEXT NOT NULL, at_ms INTEGER NOT NULL, subject TEXT NOT NULL, payload BLOB NOT NULL,
        parcel BLOB NOT NULL, copies INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
        due_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class KeptParcel:
    """One parcel kept for somebody; without bytes only its acknowledgement is remembered."""

    id: bytes
    recipient: Did
    parcel: bytes | None
    ack: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """One letter of ours on its way."""

    id: bytes
    parcel_id: bytes
    box: str
    recipient: Did
    parcel: bytes
    copies: int
    tries: int
    expires_ms: int


class MailTable:
    """All three."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # parcels kept for others

    def parcel(self, identity: bytes) -> KeptParcel | None:
        """One parcel."""
        row = self._store.row("SELECT * FROM parcels WHERE id = ?", identity)
        return _kept(row) if row else None

    def keep(self, identity: bytes, recipient: Did, sender: Did, parcel: bytes, expires_ms: int) -> None:
        """Keep a parcel."""
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT OR IGNORE INTO parcels VALUES (?, ?, ?, ?, NULL, ?)",
                *(identity, recipient, sender, parcel, expires_ms),
            )

    def waiting(self, recipient: Did) -> list[KeptParcel]:
        """What waits for a recipient, oldest first."""
        rows = self._store.rows(
            "SELECT * FROM parcels WHERE recipient = ? AND parcel IS NOT NULL ORDER BY expires_ms, id", recipient
        )
        return [_kept(row) for row in rows]

    def room(self, recipient: Did, sender: Did) -> tuple[int, int, int]:
        """Parcels of this recipient, of this sender for it, bytes of all."""
        row = self._store.row(
            "SELECT (SELECT count(*) FROM parcels WHERE recipient = ? AND parcel IS NOT NULL) AS of_recipient, "
            "(SELECT count(*) FROM parcels WHERE recipient = ? AND sender = ? AND parcel IS NOT NULL) AS of_sender, "
            "(SELECT coalesce(sum(length(parcel)), 0) FROM parcels) AS held",
            *(recipient, recipient, sender),
        )
        return (row["of_recipient"], row["of_sender"], row["held"]) if row else (0, 0, 0)

    def acked(self, ids: tuple[bytes, ...], recipient: Did, ack: bytes) -> int:
        """Throw a recipient's parcels away and remember that it has them; how many there were."""
        with self._store.transaction() as tx:
            return sum(
                tx.execute(
                    "UPDATE parcels SET parcel = NULL, ack = ? WHERE id = ? AND recipient = ? AND parcel IS NOT NULL",
                    *(ack, identity, recipient),
                ).rowcount
                for identity in ids
            )

    # letters that came

    def has_letter(self, identity: bytes) -> bool:
        """Whether it came before, also when it was dropped since."""
        return self._store.row("SELECT 1 FROM letters WHERE id = ?", identity) is not None

    def take_in(self, identity: bytes, letter: Letter, forget_ms: int) -> None:
        """Keep a letter, and tell of it, at once."""
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT INTO letters (id, box, sender, recipient, at_ms, subject, payload, forget_ms) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(identity, letter.box, letter.sender, letter.recipient, letter.at_ms, letter.subject),
                *(letter.payload, forget_ms),
            )
            arrived = MailArrived(id=identity.hex(), sender=letter.sender, box=letter.box, subject=letter.subject)
            tx.emit("MailArrived", arrived)

    def count(self, box: str) -> int:
        """Letters in a box."""
        row = self._store.row("SELECT count(*) AS held FROM letters WHERE box = ? AND payload IS NOT NULL", box)
        return int(row["held"]) if row else 0

    def letters(self, box: str, after: int, limit: int) -> list[LetterView]:
        """A box's letters."""
        rows = self._store.rows(
            "SELECT *, 0 AS copies, 1 AS delivered FROM letters WHERE box = ? AND number > ? AND payload IS NOT NULL "
            "ORDER BY number LIMIT ?",
            *(box, after, limit),
        )
        return [_view(row, Did(row["sender"])) for row in rows]

    def drop(self, box: str, ids: list[bytes]) -> None:
        """Throw a box's letters away; their ids stay, so that they do not come again."""
        with self._store.transaction() as tx:
            for identity in ids:
                tx.execute("UPDATE letters SET payload = NULL WHERE id = ? AND box = ?", identity, box)

    # letters that were sent

    def post(self, letter: Letter, identity: bytes, parcel_id: bytes, parcel: bytes, expires_ms: int, ctx: Ctx) -> None:
        """Keep a letter until it is acknowledged; a repetition of the request gets this answer from now on."""
        with self._store.transaction() as tx:
            tx.execute(
                "INSERT INTO outbox_mail (id, parcel_id, box, recipient, at_ms, subject, payload, parcel, due_ms, "
                "expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(identity, parcel_id, letter.box, letter.recipient, letter.at_ms, letter.subject, letter.payload),
                *(parcel, letter.at_ms, expires_ms),
            )
            ctx.remember(tx, MailSent(id=identity.hex()))

    def due(self, now_ms: int, limit: int) -> list[Posted]:
        """Letters to be offered again now."""
        return self._posted("delivered = 0 AND due_ms <= ? ORDER BY due_ms LIMIT ?", now_ms, limit)

    def next_due_ms(self) -> int | None:
        """When the next one is due."""
        row = self._store.row("SELECT min(due_ms) AS due FROM outbox_mail WHERE delivered = 0")
        return row["due"] if row else None

    def sent(self, identity: bytes) -> Posted | None:
        """One letter that was sent."""
        return next(iter(self._posted("id = ?", identity)), None)

    def _posted(self, where: str, *values: int | bytes) -> list[Posted]:
        rows = self._store.rows(f"SELECT * FROM outbox_mail WHERE {where}", *values)  # noqa: S608 - from above
        return [
            Posted(
                id=row["id"],
                parcel_id=row["parcel_id"],
                box=row["box"],
                recipient=Did(row["recipient"]),
                parcel=row["parcel"],
                copies=row["copies"],
                tries=row["tries"],
                expires_ms=row["expires_ms"],
            )
            for row in rows
        ]

    def undelivered(self) -> int:
        """Letters that nobody has acknowledged yet."""
        row = self._store.row("SELECT count(*) AS held FROM outbox_mail WHERE delivered = 0")
        return int(row["held"]) if row else 0

    def offered(self, identity: bytes, copies: int, due_ms: int) -> None:
        """It lies at so many nodes, and is offered again then."""
        with self._store.transaction() as tx:
            tx.execute(
                "UPDATE outbox_mail SET copies = ?, tries = tries + 1, due_ms = ? WHERE id = ?",
                *(copies, due_ms, identity),
            )

    def delivered(self, parcel_ids: tuple[bytes, ...], recipient: Did) -> int:
        """The recipient has these of our letters; told once. How many there were."""
        with self._store.transaction() as tx:
            return sum(_delivered(tx, identity, recipient) for identity in parcel_ids)

    def sent_letters(self, box: str, own: Did, after: int, limit: int) -> list[LetterView]:
        """What a box sent."""
        rows = self._store.rows(
            "SELECT * FROM outbox_mail WHERE box = ? AND number > ? ORDER BY number LIMIT ?", box, after, limit
        )
        return [_view(row, own) for row in rows]

    def sweep(self, now_ms: int) -> None:
        """Forget what has expired."""
        with self._store.transaction() as tx:
            tx.execute("DELETE FROM parcels WHERE expires_ms <= ?", now_ms)
            tx.execute("DELETE FROM letters WHERE forget_ms <= ? AND payload IS NULL", now_ms)
            tx.execute("DELETE FROM outbox_mail WHERE expires_ms <= ?", now_ms)


def _kept(row: Row) -> KeptParcel:
    return KeptParcel(id=row["id"], recipient=Did(row["recipient"]), parcel=row["parcel"], ack=row["ack"] or b"")


def _view(row: Row, sender: Did) -> LetterView:
    return LetterView(
        number=row["number"],
        id=row["id"].hex(),
        sender=sender,
        recipient=Did(row["recipient"]),
        at_ms=UnixMs(row["at_ms"]),
        subject=row["subject"],
        payload=row["payload"],
        stored_at=row["copies"],
        delivered=bool(row["delivered"]),
    )


def _delivered(tx: Tx, parcel_id: bytes, recipient: Did) -> int:
    row = tx.row("SELECT id, box FROM outbox_mail WHERE parcel_id = ? AND recipient = ? AND delivered = 0",
                 parcel_id, recipient)  # fmt: skip
    if row is None:
        return 0
    tx.execute("UPDATE outbox_mail SET delivered = 1 WHERE id = ?", row["id"])
    tx.emit("MailDelivered", MailDelivered(id=row["id"].hex(), recipient=recipient, box=row["box"]))
    return 1

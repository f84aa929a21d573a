"""The airdrop's books: rounds, evidence, proposals, signatures, the carry-over ledger, proofs.

All SQL of this daemon is here and in store_fund.py, which keeps bonds, sweeps, key ceremonies and parameter sets.

"""

from __future__ import annotations

from collections.abc import Iterable

from common.codec import canonical, from_canonical, from_json, json_bytes
from common.contracts.airdrop import PROOF_BYTES_MAX, Phase
from common.store import Row, Store, Tx
from common.units import BlockHeight, Did
from dux_airdropd.evidence_rules import item_id
from dux_airdropd.model import NOTHING_CARRIED, Carried, Held, Item, Kind, Owed, Plan, Proof, Proposal, Round
from dux_airdropd.store_fund import FundShelf

MIGRATIONS = (
    """
    CREATE TABLE rounds (
        number INTEGER PRIMARY KEY, from_height INTEGER NOT NULL, cutoff_height INTEGER NOT NULL,
        cutoff_hash TEXT NOT NULL, phase TEXT NOT NULL, txid TEXT NOT NULL, paid_height INTEGER,
        proposal_id BLOB NOT NULL, reason TEXT NOT NULL);
    CREATE TABLE items (
        serial INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, item_id BLOB NOT NULL, kind TEXT NOT NULL,
        data BLOB NOT NULL, UNIQUE (number, item_id));
    CREATE TABLE shown (
        number INTEGER NOT NULL, did TEXT NOT NULL, up_to INTEGER NOT NULL, PRIMARY KEY (number, did)) WITHOUT ROWID;
    CREATE TABLE proposals (
        proposal_id BLOB PRIMARY KEY, number INTEGER NOT NULL, sender TEXT NOT NULL, attempt INTEGER NOT NULL,
        body BLOB NOT NULL, plan BLOB, verdict TEXT) WITHOUT ROWID;
    CREATE TABLE signatures (
        proposal_id BLOB NOT NULL, did TEXT NOT NULL, position INTEGER NOT NULL, signature BLOB NOT NULL,
        PRIMARY KEY (proposal_id, did, position)) WITHOUT ROWID;
    CREATE TABLE refusals (
        proposal_id BLOB NOT NULL, did TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (proposal_id, did)
        ) WITHOUT ROWID;
    CREATE TABLE ledger (did TEXT PRIMARY KEY, florins INTEGER NOT NULL CHECK (florins > 0)) WITHOUT ROWID;
    CREATE TABLE proofs (number INTEGER PRIMARY KEY, body BLOB NOT NULL, plan BLOB NOT NULL, blob TEXT NOT NULL);
    """,
    """
    CREATE TABLE carried (only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL);
    CREATE TABLE bonds (
        did TEXT NOT NULL, item_id BLOB NOT NULL, height INTEGER NOT NULL, until INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (did, item_id)) WITHOUT ROWID;
    CREATE TABLE sweeps (
        sweep_id BLOB PRIMARY KEY, script BLOB NOT NULL, height INTEGER NOT NULL, block_hash TEXT NOT NULL,
        payout BLOB NOT NULL, txid TEXT NOT NULL, mined_height INTEGER, proof BLOB) WITHOUT ROWID;
    CREATE TABLE sweep_signatures (
        sweep_id BLOB NOT NULL, did TEXT NOT NULL, position INTEGER NOT NULL, signature BLOB NOT NULL,
        PRIMARY KEY (sweep_id, did, position)) WITHOUT ROWID;
    CREATE TABLE ceremonies (
        ceremony_id BLOB PRIMARY KEY, plan BLOB NOT NULL, blob TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE ceremony_words (
        ceremony_id BLOB NOT NULL, did TEXT NOT NULL, key_word BLOB NOT NULL, roster_word BLOB,
        PRIMARY KEY (ceremony_id, did)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE sets_told (version INTEGER PRIMARY KEY, body BLOB NOT NULL, told_ms INTEGER NOT NULL);
    CREATE TABLE set_seen (only INTEGER PRIMARY KEY CHECK (only = 1), version INTEGER NOT NULL);
    """,
)
CLOSED = (Phase.PAID.value, Phase.ABANDONED.value)


class Books(FundShelf):
    """Reads and writes of one airdropd."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # rounds

    def open_round(self) -> Round | None:
        """The airdrop in progress."""
        row = self.store.row("SELECT * FROM rounds WHERE phase NOT IN (?, ?)", *CLOSED)
        return _round(row) if row else None

    def last_round(self) -> Round | None:
        """The latest closed airdrop."""
        row = self.store.row("SELECT * FROM rounds WHERE phase IN (?, ?) ORDER BY number DESC LIMIT 1", *CLOSED)
        return _round(row) if row else None

    def last_paid(self) -> Round | None:
        """The latest airdrop that was paid."""
        row = self.store.row("SELECT * FROM rounds WHERE phase = ? ORDER BY number DESC LIMIT 1", Phase.PAID.value)
        return _round(row) if row else None

    def round(self, number: int) -> Round | None:
        """The airdrop of this number."""
        row = self.store.row("SELECT * FROM rounds WHERE number = ?", number)
        return _round(row) if row else None

    def rounds(self, limit: int) -> list[Round]:
        """Airdrops, newest first."""
        return [_round(row) for row in self.store.rows("SELECT * FROM rounds ORDER BY number DESC LIMIT ?", limit)]

    def window_start(self) -> BlockHeight:
        """The first height after the cut-off of the last airdrop that was paid: where evidence starts to count."""
        row = self.store.row("SELECT max(cutoff_height) AS height FROM rounds WHERE phase = ?", Phase.PAID.value)
        return BlockHeight(row["height"] + 1 if row and row["height"] is not None else 0)

    def put_round(self, tx: Tx, round_: Round) -> None:
        """Write an airdrop as it stands now."""
        tx.execute(
            "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            round_.number,
            round_.from_height,
            round_.cutoff_height,
            round_.cutoff_hash,
            round_.phase.value,
            round_.txid,
            round_.paid_height,
            round_.proposal_id,
            round_.reason,
        )

    def drop_round(self, tx: Tx, number: int) -> None:
        """Forget an airdrop whose cut-off block left the chain; its coins still decide the next one."""
        tx.execute("DELETE FROM rounds WHERE number = ?", number)
        tx.execute("DELETE FROM items WHERE number = ?", number)
        tx.execute("DELETE FROM shown WHERE number = ?", number)
        for held in self.proposals(number):
            tx.execute("DELETE FROM signatures WHERE proposal_id = ?", held.proposal_id)
            tx.execute("DELETE FROM refusals WHERE proposal_id = ?", held.proposal_id)
        tx.execute("DELETE FROM proposals WHERE number = ?", number)

    def drop_rounds_after(self, tx: Tx, number: int) -> None:
        """Forget every later airdrop: what it rested on has left the chain."""
        for row in self.store.rows("SELECT number FROM rounds WHERE number > ?", number):
            self.drop_round(tx, row["number"])

    # evidence

    def add_items(self, number: int, items: Iterable[Item]) -> None:
        """Hold verified evidence of an airdrop; known items stay as they are."""
        with self.store.transaction() as tx:
            for item in items:
                tx.execute(
                    "INSERT OR IGNORE INTO items (number, item_id, kind, data) VALUES (?, ?, ?, ?)",
                    number,
                    item_id(item),
                    item.kind.value,
                    item.data,
                )

    def items(self, number: int) -> list[Item]:
        """All evidence held of an airdrop."""
        rows = self.store.rows("SELECT kind, data FROM items WHERE number = ? ORDER BY item_id", number)
        return [Item(Kind(row["kind"]), row["data"]) for row in rows]

    def show_items(self, number: int, did: Did) -> list[Item]:
        """All evidence held, which this custodian has now been shown and has to include from now on."""
        with self.store.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO shown SELECT ?, ?, coalesce(max(serial), 0) FROM items WHERE number = ?",
                number,
                did,
                number,
            )
        return self.items(number)

    def owed_to_see(self, number: int, did: Did) -> list[bytes]:
        """The items that a proposal of this custodian has to include: those shown to it, or all if it never asked."""
        row = self.store.row("SELECT up_to FROM shown WHERE number = ? AND did = ?", number, did)
        up_to = row["up_to"] if row else 2**62
        rows = self.store.rows("SELECT item_id FROM items WHERE number = ? AND serial <= ?", number, up_to)
        return [bytes(found["item_id"]) for found in rows]

    # proposals and signatures

    def add_proposal(self, tx: Tx, held: Held) -> bool:
        """Keep a proposal; False when it is known."""
        done = tx.execute(
            "INSERT OR IGNORE INTO proposals VALUES (?, ?, ?, ?, ?, NULL, ?)",
            held.proposal_id,
            held.proposal.number,
            held.sender,
            held.attempt,
            canonical(held.proposal),
            held.verdict,
        )
        return bool(done.rowcount)

    def judge(self, tx: Tx, proposal_id: bytes, verdict: str, plan: Plan | None) -> None:
        """Write this node's verdict on a proposal: empty is yes."""
        body = json_bytes(plan) if plan is not None else None
        tx.execute("UPDATE proposals SET verdict = ?, plan = ? WHERE proposal_id = ?", verdict, body, proposal_id)

    def proposal(self, proposal_id: bytes) -> Held | None:
        """A proposal by its name."""
        row = self.store.row("SELECT * FROM proposals WHERE proposal_id = ?", proposal_id)
        return _held(row) if row else None

    def proposals(self, number: int) -> list[Held]:
        """All proposals of an airdrop, the earliest attempt first."""
        rows = self.store.rows("SELECT * FROM proposals WHERE number = ? ORDER BY attempt, proposal_id", number)
        return [_held(row) for row in rows]

    def plan_of(self, proposal_id: bytes) -> Plan | None:
        """The shares of a proposal that this node recomputed to the same payout."""
        row = self.store.row("SELECT plan FROM proposals WHERE proposal_id = ?", proposal_id)
        return from_json(row["plan"], Plan) if row and row["plan"] else None

    def add_signatures(self, tx: Tx, proposal_id: bytes, did: Did, signatures: Iterable[bytes]) -> None:
        """Keep a custodian's right signatures, one per input; the first ones stay."""
        for position, signature in enumerate(signatures):
            tx.execute("INSERT OR IGNORE INTO signatures VALUES (?, ?, ?, ?)", proposal_id, did, position, signature)

    def signatures(self, proposal_id: bytes) -> dict[Did, tuple[bytes, ...]]:
        """Right signatures of a proposal by custodian."""
        rows = self.store.rows("SELECT * FROM signatures WHERE proposal_id = ? ORDER BY did, position", proposal_id)
        found: dict[Did, tuple[bytes, ...]] = {}
        for row in rows:
            found[Did(row["did"])] = (*found.get(Did(row["did"]), ()), bytes(row["signature"]))
        return found

    def add_refusal(self, tx: Tx, proposal_id: bytes, did: Did, reason: str) -> None:
        """Keep why a custodian does not sign."""
        tx.execute("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?)", proposal_id, did, reason)

    def refusals(self, number: int) -> list[tuple[Did, str]]:
        """Why custodians did not sign proposals of this airdrop."""
        rows = self.store.rows(
            "SELECT did, reason FROM refusals JOIN proposals USING (proposal_id) WHERE number = ? ORDER BY 1, 2",
            number,
        )
        return [(Did(row["did"]), row["reason"]) for row in rows]

    # ledger and proofs

    def ledger(self) -> dict[Did, int]:
        """What the fund owes from shares too small to pay, by DID, in florins."""
        return {Did(row["did"]): row["florins"] for row in self.store.rows("SELECT * FROM ledger ORDER BY did")}

    def put_ledger(self, tx: Tx, lines: Iterable[Owed]) -> None:
        """The ledger after an airdrop, whole."""
        tx.execute("DELETE FROM ledger")
        for line in lines:
            tx.execute("INSERT INTO ledger VALUES (?, ?)", line.did, int(line.florins))

    def carried(self) -> Carried:
        """What the last paid airdrop left to the next by rule `bonded`."""
        row = self.store.row("SELECT body FROM carried")
        return from_canonical(row["body"], Carried, max_bytes=PROOF_BYTES_MAX) if row else NOTHING_CARRIED

    def put_carried(self, tx: Tx, carried: Carried) -> None:
        """Keep it."""
        tx.execute("INSERT OR REPLACE INTO carried VALUES (1, ?)", canonical(carried))

    def put_proof(self, tx: Tx, proof: Proof, plan: Plan, blob: str) -> None:
        """The proof of a paid airdrop, its shares, and the blob that others fetch it by."""
        tx.execute(
            "INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?)",
            proof.proposal.number,
            canonical(proof),
            json_bytes(plan),
            blob,
        )

    def drop_proof(self, tx: Tx, number: int) -> None:
        """The airdrop is not paid any more, or not by that transaction."""
        tx.execute("DELETE FROM proofs WHERE number = ?", number)

    def proof(self, number: int) -> tuple[Proof, Plan, str] | None:
        """The proof of an airdrop, its shares and its blob."""
        row = self.store.row("SELECT * FROM proofs WHERE number = ?", number)
        if row is None:
            return None
        proof = from_canonical(row["body"], Proof, max_bytes=PROOF_BYTES_MAX)
        return proof, from_json(row["plan"], Plan), row["blob"]

    def proof_before(self, number: int) -> Proof | None:
        """The proof of the last airdrop that was paid before this one."""
        row = self.store.row("SELECT body FROM proofs WHERE number < ? ORDER BY number DESC LIMIT 1", number)
        return from_canonical(row["body"], Proof, max_bytes=PROOF_BYTES_MAX) if row else None


def _round(row: Row) -> Round:
    return Round(
        number=row["number"],
        from_height=BlockHeight(row["from_height"]),
        cutoff_height=BlockHeight(row["cutoff_height"]),
        cutoff_hash=row["cutoff_hash"],
        phase=Phase(row["phase"]),
        txid=row["txid"],
        paid_height=BlockHeight(row["paid_height"]) if row["paid_height"] is not None else None,
        proposal_id=bytes(row["proposal_id"]),
        reason=row["reason"],
    )


def _held(row: Row) -> Held:
    return Held(
        proposal_id=bytes(row["proposal_id"]),
        sender=Did(row["sender"]),
        attempt=row["attempt"],
        proposal=from_canonical(row["body"], Proposal, max_bytes=PROOF_BYTES_MAX),
        verdict=row["verdict"],
    )

"""The part of the airdrop's file that holds shown bonds, sweeps and key ceremonies: SQL of these and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from common.ceremony import CeremonyPlan, plan_id
from common.chain.fund import PAYOUT_BYTES_MAX, FundPayout
from common.codec import canonical, from_canonical
from common.contracts.airdrop import PROOF_BYTES_MAX
from common.store import Row, Store, Tx
from common.units import Did
from dux_airdropd.evidence_rules import item_id
from dux_airdropd.model import Item, Kind, SweepProof

BONDS_PER_NODE = 8  # the longest stay
PLAN_BYTES_MAX = 8_192
CEREMONIES_MAX = 32


class Sweep(msgspec.Struct, frozen=True):
    """A sweep as this keeper computed it; `txid` and `mined_height` once the chain shows it."""

    sweep_id: bytes
    script: bytes
    height: int
    block_hash: str
    payout: FundPayout
    txid: str = ""
    mined_height: int | None = None


class FundShelf:
    """Bonds, sweeps, ceremonies."""

    store: Store

    # bonds

    def put_bond(self, did: Did, item: Item, height: int, until: int) -> bool:
        """Keep a bond that its owner showed; whether there was room: of too many the shortest goes."""
        with self.store.transaction() as tx:
            tx.execute(
                "INSERT OR REPLACE INTO bonds VALUES (?, ?, ?, ?, ?)", did, item_id(item), height, until, item.data
            )
            tx.execute(
                "DELETE FROM bonds WHERE did = ? AND item_id NOT IN (SELECT item_id FROM bonds WHERE did = ? "
                "ORDER BY until DESC, item_id LIMIT ?)",
                did,
                did,
                BONDS_PER_NODE,
            )
        return self.store.row("SELECT 1 FROM bonds WHERE did = ? AND item_id = ?", did, item_id(item)) is not None

    def bonds(self, height: int) -> list[Item]:
        """Bonds that were made up to a height and last longer."""
        rows = self.store.rows(
            "SELECT data FROM bonds WHERE height <= ? AND until > ? ORDER BY did, item_id", height, height
        )
        return [Item(Kind.BOND, row["data"]) for row in rows]

    # sweeps

    def add_sweep(self, tx: Tx, sweep: Sweep) -> None:
        """Write down what this keeper is about to sign; of one script and height the later computation holds."""
        tx.execute(
            "DELETE FROM sweeps WHERE script = ? AND height = ? AND sweep_id != ? AND mined_height IS NULL",
            sweep.script,
            sweep.height,
            sweep.sweep_id,
        )
        tx.execute(
            "INSERT OR IGNORE INTO sweeps VALUES (?, ?, ?, ?, ?, '', NULL, NULL)",
            sweep.sweep_id,
            sweep.script,
            sweep.height,
            sweep.block_hash,
            canonical(sweep.payout),
        )

    def sweep_at(self, script: bytes, height: int) -> Sweep | None:
        """The sweep of a script at a height."""
        row = self.store.row(
            "SELECT * FROM sweeps WHERE script = ? AND height = ? ORDER BY mined_height IS NULL LIMIT 1", script, height
        )
        return _sweep(row) if row else None

    def sweep(self, sweep_id: bytes) -> Sweep | None:
        """A sweep by its name."""
        row = self.store.row("SELECT * FROM sweeps WHERE sweep_id = ?", sweep_id)
        return _sweep(row) if row else None

    def sweeps(self, limit: int) -> list[Sweep]:
        """Sweeps, the newest first."""
        rows = self.store.rows("SELECT * FROM sweeps ORDER BY height DESC, sweep_id LIMIT ?", limit)
        return [_sweep(row) for row in rows]

    def mined(self, tx: Tx, sweep_id: bytes, txid: str, height: int | None, proof: SweepProof | None) -> None:
        """Where the chain shows a sweep now; nowhere, when a reorganisation took it away."""
        body = canonical(proof) if proof is not None else None
        tx.execute(
            "UPDATE sweeps SET txid = ?, mined_height = ?, proof = ? WHERE sweep_id = ?", txid, height, body, sweep_id
        )

    def sweep_proof(self, sweep_id: bytes) -> SweepProof | None:
        """The proof of a sweep that is deep enough."""
        row = self.store.row("SELECT proof FROM sweeps WHERE sweep_id = ?", sweep_id)
        if row is None or row["proof"] is None:
            return None
        return from_canonical(row["proof"], SweepProof, max_bytes=PROOF_BYTES_MAX)

    def add_sweep_signatures(self, tx: Tx, sweep_id: bytes, did: Did, signatures: Iterable[bytes]) -> None:
        """Keep a keeper's right signatures; the first ones stay."""
        for at, signature in enumerate(signatures):
            tx.execute("INSERT OR IGNORE INTO sweep_signatures VALUES (?, ?, ?, ?)", sweep_id, did, at, signature)

    def sweep_signatures(self, sweep_id: bytes) -> dict[Did, tuple[bytes, ...]]:
        """Right signatures by keeper."""
        rows = self.store.rows("SELECT * FROM sweep_signatures WHERE sweep_id = ? ORDER BY did, position", sweep_id)
        found: dict[Did, tuple[bytes, ...]] = {}
        for row in rows:
            found[Did(row["did"])] = (*found.get(Did(row["did"]), ()), bytes(row["signature"]))
        return found

    # ceremonies

    def add_ceremony(self, tx: Tx, plan: CeremonyPlan) -> bool:
        """Take part in a ceremony; False when there are too many."""
        count = self.store.row("SELECT count(*) AS found FROM ceremonies")
        if count is not None and count["found"] >= CEREMONIES_MAX and self.ceremony(plan_id(plan)) is None:
            return False
        tx.execute("INSERT OR IGNORE INTO ceremonies VALUES (?, ?, '')", plan_id(plan), canonical(plan))
        return True

    def ceremony(self, ceremony_id: bytes) -> CeremonyPlan | None:
        """A ceremony's plan."""
        row = self.store.row("SELECT plan FROM ceremonies WHERE ceremony_id = ?", ceremony_id)
        return from_canonical(row["plan"], CeremonyPlan, max_bytes=PLAN_BYTES_MAX) if row else None

    def ceremonies(self) -> list[CeremonyPlan]:
        """All ceremonies that this node takes part in, in the order of their names."""
        rows = self.store.rows("SELECT plan FROM ceremonies ORDER BY ceremony_id")
        return [from_canonical(row["plan"], CeremonyPlan, max_bytes=PLAN_BYTES_MAX) for row in rows]

    def put_words(self, tx: Tx, ceremony_id: bytes, did: Did, key_word: bytes, roster_word: bytes) -> None:
        """A member's words: its key stays what it was first, the agreement may come later."""
        tx.execute("INSERT OR IGNORE INTO ceremony_words VALUES (?, ?, ?, NULL)", ceremony_id, did, key_word)
        if roster_word:
            tx.execute(
                "UPDATE ceremony_words SET roster_word = ? WHERE ceremony_id = ? AND did = ? AND roster_word IS NULL",
                roster_word,
                ceremony_id,
                did,
            )

    def words(self, ceremony_id: bytes) -> dict[Did, tuple[bytes, bytes]]:
        """Each member's key word and roster word; the latter empty while it is not there."""
        rows = self.store.rows("SELECT * FROM ceremony_words WHERE ceremony_id = ? ORDER BY did", ceremony_id)
        return {Did(row["did"]): (bytes(row["key_word"]), bytes(row["roster_word"] or b"")) for row in rows}

    # parameter sets

    def put_set(self, tx: Tx, version: int, data: bytes, told_ms: int) -> None:
        """A signed set that this node tells the network of, and when it last did."""
        tx.execute("INSERT OR REPLACE INTO sets_told VALUES (?, ?, ?)", version, data, told_ms)

    def sets_told_before(self, at_ms: int) -> list[tuple[int, bytes]]:
        """Sets, with their versions, that the network was last told of before then."""
        rows = self.store.rows("SELECT version, body FROM sets_told WHERE told_ms < ? ORDER BY version", at_ms)
        return [(row["version"], bytes(row["body"])) for row in rows]

    def saw_set(self, tx: Tx, version: int) -> None:
        """The operator was told of this version."""
        tx.execute("INSERT OR REPLACE INTO set_seen VALUES (1, ?)", version)

    def newest_set_seen(self) -> int:
        """The newest version that the operator was told of; 0 for none."""
        row = self.store.row("SELECT version FROM set_seen")
        return int(row["version"]) if row else 0


def _sweep(row: Row) -> Sweep:
    return Sweep(
        sweep_id=bytes(row["sweep_id"]),
        script=bytes(row["script"]),
        height=row["height"],
        block_hash=row["block_hash"],
        payout=from_canonical(row["payout"], FundPayout, max_bytes=PAYOUT_BYTES_MAX),
        txid=row["txid"],
        mined_height=row["mined_height"],
    )

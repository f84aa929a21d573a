"""What fidelity bonds count for: whose they are, how much is locked until when, and what may be attested of it.

Pure: the chain's answers and the tip come in. A bond counts while its block is on the best chain and its height is not
reached; nobody can spend it before, so that nothing else has to be watched. An output that its key has signed over to
two nodes counts for neither.

Source: mechanisms.md §2.2 (E2), transport_identity.md §2.4 (selective disclosure).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.chain.bond import PROOF_BYTES_MAX, BondProof, proof_problem
from common.chain.tx import TxOutput
from common.codec import from_canonical
from common.standing import BondTold
from common.units import FLOP, Did

BOND_STEPS = (1, 10, 100, 1_000, 10_000)  # FLOP that are attested as reached
STEPS_SHOWN = 2  # the highest ones, so that all properties of a node have room in one attestation


@dataclass(frozen=True, slots=True)
class Locked:
    """One bond that the chain shows."""

    outpoint: str
    did: Did
    until: int
    florins: int


def proof_of(told: BondTold) -> BondProof:
    """The proof in a statement.

    Raises:
        BadParams: the bytes are none.
    """
    return from_canonical(told.proof, BondProof, max_bytes=PROOF_BYTES_MAX)


def place_of(told: BondTold) -> str:
    """Where the statement stands among its signer's: a bond mined again after a reorganisation is told again."""
    return f"{proof_of(told).bond.outpoint}/{told.block_hash}"


def locked_of(told: BondTold) -> Locked:
    """The bond that a believed statement tells of."""
    bond = proof_of(told).bond
    return Locked(str(bond.outpoint), Did(told.did), bond.until, int(told.value_florins))


def height_fault(told: BondTold, *, tip: int, depth: int) -> str | None:
    """Why its heights keep it from counting now, or None."""
    if proof_of(told).bond.until <= tip:
        return "its height is reached: it locks nothing"
    return None if tip - told.height + 1 >= depth else "its block is not deep enough yet"


def output_fault(told: BondTold, outputs: Sequence[TxOutput]) -> str | None:
    """Why the transaction's outputs do not show the bond, or None."""
    proof = proof_of(told)
    at = proof.bond.outpoint.vout
    if at >= len(outputs):
        return "the chain does not show it at that height"
    if outputs[at].value_florins != told.value_florins:
        return "it holds another sum"
    return proof_problem(proof, told.network, told.did, outputs[at].script) or None


def counted(bonds: Iterable[Locked]) -> dict[Did, tuple[Locked, ...]]:
    """Bonds by node, the last to end first; one that two nodes claim is neither's."""
    by_outpoint: dict[str, set[Locked]] = {}
    for bond in bonds:
        by_outpoint.setdefault(bond.outpoint, set()).add(bond)
    found: dict[Did, list[Locked]] = {}
    for _, claims in sorted(by_outpoint.items()):
        if len(claims) == 1:
            (bond,) = claims
            found.setdefault(bond.did, []).append(bond)
    return {did: tuple(sorted(mine, key=lambda bond: -bond.until)) for did, mine in found.items()}


def florins_locked(bonds: Iterable[Locked], tip: int) -> int:
    """How much is locked at a tip."""
    return sum(bond.florins for bond in bonds if bond.until > tip)


def bond_properties(bonds: Sequence[Locked], tip: int) -> list[tuple[str, str]]:
    """The highest steps that are reached, each with the height until which so much stays locked."""
    reached = []
    for step in BOND_STEPS:
        until = _held_until(bonds, step * FLOP)
        if until > tip:
            reached.append((f"bond>={step}", f"until {until}"))
    return reached[-STEPS_SHOWN:]


def _held_until(bonds: Sequence[Locked], florins: int) -> int:
    """The height before which at least so much is locked; `bonds`: the last to end first. 0: never so much."""
    held = 0
    for bond in bonds:
        held += bond.florins
        if held >= florins:
            return bond.until
    return 0

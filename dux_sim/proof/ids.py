"""Names of spends in the proof's world: which way out, at which step of the fee ladder, and under another id.

Pure. `award-500000000-3 x4'` is an award of half that pays three, at its second step, in a block under another id than
its first.
"""

from __future__ import annotations

from common.chain.fees import FEE_LADDER
from dux_escrowd.model import AwardKey, Exit, Spend

LAST = len(FEE_LADDER) - 1
OTHER = "'"  # the same spend, confirmed under another id


def award_spend(key: AwardKey) -> Spend:
    """The spend that an award makes; with the bond's coin it is another transaction."""
    name = f"award-{key.gross_florins}-{len(key.revealed)}" + ("+bond" if key.bond else "")
    return Spend(Exit.AWARD, name, key.gross_florins, None)


def at_step(txid: str, step: int) -> str:
    """The name of this way out at a step of the ladder; the first step has none."""
    return f"{outcome_of(txid)} x{FEE_LADDER[step]}" if step else outcome_of(txid)


def outcome_of(txid: str) -> str:
    """What it comes to, whatever it pays to miners and whatever its id."""
    return txid.removesuffix(OTHER).partition(" ")[0]


def step_of(txid: str) -> int:
    """The step of the ladder: 0 is the first."""
    times = txid.removesuffix(OTHER).partition(" x")[2]
    return FEE_LADDER.index(int(times)) if times else 0


def malleated(txid: str) -> str:
    """Its name once a block holds it under another id."""
    return txid if txid.endswith(OTHER) else txid + OTHER

"""What a history of money will be, drawn from its seed before it begins: the deal, who misbehaves, and every fault.

A plan is data: a shorter list of faults is another plan of the same seed, which is how a failure is made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from common.randomness import Randomness
from common.units import FLOP
from dux_sim.world.faults import Fault, FaultKind
from dux_sim.world.loop import DiesAt

NODES = 5  # buyer, seller, three arbiters
BUYER, SELLER = 0, 1
ARBITERS = (2, 3, 4)

BuyerKind = Literal["honest", "denies", "junk", "idle", "silent"]
SellerKind = Literal["honest", "refuses", "lazy", "bad-work", "silent", "cancels"]
ArbiterKind = Literal["honest", "silent", "liar"]
LIARS: tuple[str, ...] = ("denies", "junk", "bad-work", "liar")
MUTE: tuple[str, ...] = ("idle", "silent", "lazy")

FIRST_BLOCKS, EARLY_BLOCKS = 3, 16  # agreement and funding; delivery and payment
LAST_FAULT_BLOCK = 110
CRASH_WEIGHT = 3  # drawn so much more often than others: most bugs of a store or an outbox need one
CRASHES: tuple[tuple[DiesAt, int], ...] = (("turn", 400), ("answer", 6), ("commit", 30))  # where, and how far away
OUTAGE_BLOCKS_MAX = 4


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One history, before it happens. `start_block` numbers count from the proposal."""

    seed: int
    price_florins: int
    lock: bool
    policy: Literal["standby", "swap"]
    deliver_blocks: int
    buyer: BuyerKind
    seller: SellerKind
    arbiters: tuple[ArbiterKind, ...]
    contracts: int
    faults: tuple[Fault, ...]

    def kind_of(self, node: int) -> str:
        """How a node behaves."""
        return self.buyer if node == BUYER else self.seller if node == SELLER else self.arbiters[node - 2]

    def honest(self, node: int) -> bool:
        """Whether it follows the protocol to the end."""
        return self.kind_of(node) in ("honest", "refuses", "cancels")

    @property
    def quorum(self) -> bool:
        """Whether k arbiters are honest and there."""
        return sum(kind == "honest" for kind in self.arbiters) >= 2  # noqa: PLR2004 - 2 of 3


def draw(seed: int, random: Randomness, kinds: Sequence[FaultKind]) -> Plan:
    """The plan of a seed with faults of these kinds only."""
    liars, mute = "liar" in kinds, "silence" in kinds
    buyer = _of(random, {"honest": 60, "denies": 8 * liars, "junk": 8 * liars, "idle": 10 * mute, "silent": 8 * mute})
    seller = _of(
        random,
        {"honest": 62, "refuses": 4, "cancels": 8, "bad-work": 9 * liars, "lazy": 8 * mute, "silent": 7 * mute},
    )
    arbiters = tuple(_of(random, {"honest": 80, "silent": 12 * mute, "liar": 8 * liars}) for _ in ARBITERS)
    return msgspec.convert(
        {
            "seed": seed,
            "price_florins": (2 + random.below(20)) * FLOP // 2,
            "lock": random.below(5) > 0,
            "policy": "swap" if random.below(3) == 0 else "standby",
            "deliver_blocks": 4 + random.below(8),
            "buyer": buyer,
            "seller": seller,
            "arbiters": arbiters,
            "contracts": 1 if random.below(6) else 2,
            "faults": faults(random, kinds),
        },
        Plan,
    )


def faults(random: Randomness, kinds: Sequence[FaultKind]) -> tuple[Fault, ...]:
    """Up to six faults, most of them in the first blocks, where most happens."""
    drawn = [kind for kind in kinds if kind in DRAWS]
    drawn += [kind for kind in drawn if kind == "crash"] * CRASH_WEIGHT
    if not drawn:
        return ()
    found = []
    for _ in range(1 + random.below(5)):
        block = random.below((FIRST_BLOCKS, EARLY_BLOCKS, EARLY_BLOCKS, LAST_FAULT_BLOCK)[random.below(4)])
        kind = drawn[random.below(len(drawn))]
        found.append(DRAWS[kind](random, block))
    return tuple(sorted(found, key=lambda fault: fault.block))


def _of(random: Randomness, weights: dict[str, int]) -> str:
    at = random.below(sum(weights.values()))
    for name, weight in weights.items():
        at -= weight
        if at < 0:
            return name
    raise AssertionError(weights)


def _storm(kind: FaultKind) -> Callable[[Randomness, int], Fault]:
    def made(random: Randomness, block: int) -> Fault:
        return Fault(kind=kind, block=block, blocks=2 + random.below(12), share=0.05 + random.uniform() * 0.35)

    return made


def _partition(random: Randomness, block: int) -> Fault:
    apart = 1 + random.below(2**NODES - 2)
    return Fault(kind="partition", block=block, blocks=1 + random.below(OUTAGE_BLOCKS_MAX), apart=apart)


def _crash(random: Randomness, block: int) -> Fault:
    daemon = ("escrowd", "escrowd", "flopd", "p2pd")[random.below(4)]
    node = (BUYER, BUYER, SELLER, SELLER, 2, 3, 4)[random.below(7)]
    dies_at, most = CRASHES[random.below(len(CRASHES))]
    return Fault(
        kind="crash", block=block, blocks=random.below(OUTAGE_BLOCKS_MAX), node=node, daemon=daemon,
        turns=1 + random.below(most), dies_at=dies_at,
    )  # fmt: skip


def _skew(random: Randomness, block: int) -> Fault:
    milliseconds = (random.below(2 * 7_200) - 7_200) * 1000
    return Fault(kind="skew", block=block, blocks=4 + random.below(30), node=random.below(NODES), amount=milliseconds)


def _reorg(random: Randomness, block: int) -> Fault:
    return Fault(kind="reorg", block=block, amount=1 + random.below(2))


def _malleate(random: Randomness, block: int) -> Fault:
    return Fault(kind="malleation", block=block, amount=1 + random.below(3))


def _away(random: Randomness, block: int) -> Fault:
    return Fault(kind="chain-away", block=block, blocks=1 + random.below(OUTAGE_BLOCKS_MAX), node=random.below(NODES))


def _mempool(_random: Randomness, block: int) -> Fault:
    return Fault(kind="mempool", block=block)


DRAWS: dict[FaultKind, Callable[[Randomness, int], Fault]] = {
    "delay": _storm("delay"),
    "loss": _storm("loss"),
    "duplicate": _storm("duplicate"),
    "reorder": _storm("reorder"),
    "partition": _partition,
    "crash": _crash,
    "skew": _skew,
    "reorg": _reorg,
    "malleation": _malleate,
    "chain-away": _away,
    "mempool": _mempool,
}

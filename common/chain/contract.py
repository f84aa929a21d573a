"""The contract of one lot: everything that buyer, seller and arbiters agree, and the script that follows from it.

Work of several stages is a series of such contracts (`Stage`): each lot has its own keys, script and T, so that nobody
ever risks more than one lot; the same panel decides all of them. A bond lot is one more, with the roles swapped.
A service may name a developer (`Royalty`), who is paid a share of the provider's part.

Two nodes that hold the same contract make the same bytes, id, script and transactions; that is how a
wallet can sign only what it rebuilt itself (settled.md 6). What forbids entering one stands in `contract_rules`.
Source: escrow_protocol.md §3 to §5.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache

from common.chain.address import pay_to_script
from common.chain.heights import Heights
from common.chain.script import escrow_script
from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import FLOP, Florins

CONTRACT_VERSION = 2
CONTRACT_BYTES_MAX = 4096  # a panel of seven fits
LOTS_REMEMBERED = 256  # scripts of half a kilobyte; each block asks for those of all open contracts
LOT = 0  # each lot has a contract, and so a nonce, of its own
LOTS_MAX = 8  # of one series
ROYALTY_BPS_MAX = 5_000  # half of the provider's part
ARBITER_PAY_MIN_FLORINS = FLOP // 20  # 0.05 FLOP
ARBITER_PAY_SHARE = 100  # or a hundredth of the price, whichever is more


class Policy(StrEnum):
    """Who goes first after delivery: the buyer pays for K (swap), or the seller shows K while arbiters stand by."""

    SWAP = "swap"
    STANDBY = "standby"


class LotKind(StrEnum):
    """What a lot is for: work that is paid, or the seller's bond beside it."""

    WORK = "work"
    BOND = "bond"


class Stage(Canon, frozen=True):
    """Which lot of a series this is; `ALONE` for a contract of one lot without a bond."""

    series: bytes  # the name that all lots of the series share (32 bytes), or empty
    number: int  # from 0
    count: int  # how many lots of work the series has
    begins: int  # START is due from this height on: where the lot before has to be delivered; 0 for the first
    kind: LotKind


ALONE = Stage(series=b"", number=0, count=1, begins=0, kind=LotKind.WORK)


class Royalty(Canon, frozen=True):
    """The developer's share of the provider's part; `NO_ROYALTY` where the service names nobody."""

    did: str
    payout_script: bytes
    bps: int


NO_ROYALTY = Royalty(did="", payout_script=b"", bps=0)


class Party(Canon, frozen=True):
    """Buyer or seller: who it is, its coin key for this lot, and where it is paid."""

    did: str
    nonce: bytes
    key: bytes
    payout_script: bytes


class Arbiter(Canon, frozen=True):
    """One arbiter of the panel."""

    did: str
    key: bytes
    payout_script: bytes


class Contract(Canon, frozen=True):
    """What buyer and seller sign, and every wallet rebuilds its transactions from."""

    version: int
    network: str  # genesis hash, hex
    buyer: Party
    seller: Party
    service_id: str
    job_hash: bytes
    price_florins: Florins  # A
    arbiter_pay_florins: Florins  # p, to each arbiter who revealed a vote
    arbiters_needed: int  # k
    arbiters: tuple[Arbiter, ...]  # in the bytewise order of their keys
    result_hash: bytes  # h = SHA-256(K): script E+h; empty: script E
    result_salt_hash: bytes  # of r, so that nobody can lie about r (settled.md 2)
    fund_script: bytes  # the community fund's output script
    tax_bps: int
    fee_rate_florins_per_kb: int
    depth_blocks: int  # d
    start_blocks: int  # FUNDED to START
    heights_profile: str
    heights: Heights
    policy: Policy
    swap_limit_florins: Florins
    stage: Stage = ALONE
    royalty: Royalty = NO_ROYALTY


def cid(contract: Contract) -> bytes:
    """The contract's id: the tagged hash of its canonical bytes (32 bytes)."""
    return bytes(tagged_hash(Purpose.CONTRACT, canonical(contract)))


def arbiter_pay_for(price_florins: int) -> Florins:
    """p: what each arbiter who reveals a vote is paid."""
    return Florins(max(ARBITER_PAY_MIN_FLORINS, int(price_florins) // ARBITER_PAY_SHARE))


def bond_value(price_florins: int, seats: int) -> Florins:
    """The value of a bond lot beside lots of this price: a, which is what a dispute costs."""
    return Florins(seats * int(arbiter_pay_for(price_florins)))


def is_bond(contract: Contract) -> bool:
    """Whether this is the lot of a seller's bond: its «buyer» is the seller of the work, who funds it."""
    return contract.stage.kind is LotKind.BOND


def reserve_of(contract: Contract) -> Florins:
    """The reserve a = n·p: goes back to the buyer when nobody disputes. A bond lot has none: it is one."""
    return Florins(len(contract.arbiters) * int(contract.arbiter_pay_florins))


def lot_value(contract: Contract) -> Florins:
    """A + a: exactly what the buyer funds."""
    return Florins(int(contract.price_florins) + int(reserve_of(contract)))


def seated(arbiters: list[Arbiter]) -> tuple[Arbiter, ...]:
    """The arbiters in the order a contract wants them: by key, bytewise."""
    return tuple(sorted(arbiters, key=lambda arbiter: arbiter.key))


@lru_cache(maxsize=LOTS_REMEMBERED)
def lot_script(contract: Contract) -> bytes:
    """The redeem script of the lot: E+h, or E without a result hash.

    Raises:
        BadScript: the panel does not fit.
    """
    return escrow_script(
        buyer=contract.buyer.key,
        seller=contract.seller.key,
        arbiters=tuple(arbiter.key for arbiter in contract.arbiters),
        needed=contract.arbiters_needed,
        timeout=contract.heights.timeout,
        result_hash=contract.result_hash,
    )


def lot_output_script(contract: Contract) -> bytes:
    """The output script that the lot is paid to."""
    return pay_to_script(lot_script(contract))


def result_hash_of(preimage: bytes) -> bytes:
    """The h of a K: plain SHA-256, because the script computes it."""
    return hashlib.sha256(preimage).digest()

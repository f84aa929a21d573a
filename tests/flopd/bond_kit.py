"""The seller's bond lot beside a deal between real wallets: roles swapped, keys of its own, T two margins later."""

from __future__ import annotations

import hashlib

from msgspec import structs

from common.chain.contract import Arbiter, Contract, LotKind, Party, Stage, bond_value, seated
from common.chain.heights import depth_for, heights_profile, plan
from common.contracts.wallet_contract import ContractKey
from common.units import FLOP, Florins

BOND_ROLES = ("seller", "buyer", "arbiter", "arbiter", "arbiter")  # by wallet: who bought the lot sells the bond


def bonded(lot: Contract) -> Contract:
    """The lot as the one of a series that a bond stands beside."""
    series = hashlib.sha256(lot.buyer.nonce + lot.seller.nonce).digest()
    return structs.replace(lot, stage=Stage(series=series, number=0, count=1, begins=0, kind=LotKind.WORK))


def bond_of(lot: Contract, arbiters: list[Arbiter], keys: list[ContractKey], nonces: list[bytes]) -> Contract:
    """What the wallets adopt for the bond; `arbiters` as they stand in the lot, `keys` and `nonces` by wallet."""
    table = heights_profile(lot.heights_profile)
    margins = 2 * (lot.heights.timeout - lot.heights.vote_by)
    job = lot.heights.deliver_by - lot.heights.fund_by
    giver = Party(lot.seller.did, nonces[1], keys[1].pubkey, keys[1].payout_script)
    taker = Party(lot.buyer.did, nonces[0], keys[0].pubkey, keys[0].payout_script)
    seats = [Arbiter(one.did, key.pubkey, key.payout_script) for one, key in zip(arbiters, keys[2:], strict=True)]
    return structs.replace(
        lot,
        buyer=giver,
        seller=taker,
        price_florins=bond_value(int(lot.price_florins), len(lot.arbiters)),
        arbiter_pay_florins=Florins(0),
        arbiters=seated(seats),
        result_hash=b"",
        depth_blocks=depth_for(table, FLOP),
        heights=plan(table, lot.heights.start, job + margins, FLOP),
        stage=structs.replace(lot.stage, kind=LotKind.BOND),
    )

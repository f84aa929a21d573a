"""The seller's bond lot beside a deal between real wallets, with keys of its own."""

from __future__ import annotations

import hashlib

from msgspec import structs

from common.chain.contract import Arbiter, Contract, LotKind, Party, Stage
from common.contracts.wallet_contract import ContractKey
from tests.chain.contract_kit import bond_of

BOND_ROLES = ("seller", "buyer", "arbiter", "arbiter", "arbiter")  # by wallet: who bought the lot sells the bond


def bonded(lot: Contract) -> Contract:
    """The lot as the one of a series that a bond stands beside."""
    series = hashlib.sha256(lot.buyer.nonce + lot.seller.nonce).digest()
    return structs.replace(lot, stage=Stage(series=series, number=0, count=1, begins=0, kind=LotKind.WORK))


def wallets_bond(lot: Contract, arbiters: list[Arbiter], keys: list[ContractKey], nonces: list[bytes]) -> Contract:
    """What the wallets adopt for the bond; `arbiters` as they stand in the lot, `keys` and `nonces` by wallet."""
    giver = Party(lot.seller.did, nonces[1], keys[1].pubkey, keys[1].payout_script)
    taker = Party(lot.buyer.did, nonces[0], keys[0].pubkey, keys[0].payout_script)
    seats = [Arbiter(one.did, key.pubkey, key.payout_script) for one, key in zip(arbiters, keys[2:], strict=True)]
    return bond_of(lot, giver, taker, seats)

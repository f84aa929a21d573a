"""Contracts with known keys, for tests of scripts, templates and spends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import coincurve
import msgspec

from common.chain.address import pay_to_key
from common.chain.contract import (
    CONTRACT_VERSION,
    Arbiter,
    Contract,
    LotKind,
    Party,
    Policy,
    Royalty,
    Stage,
    arbiter_pay_for,
    bond_value,
    result_hash_of,
    seated,
)
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.chain.fund import fund_output_script
from common.chain.heights import depth_for, heights_profile, plan
from common.chain.settle import lot_digest
from common.chain.tx import HASH_TYPE_ALL, Outpoint, Tx
from common.units import FLOP, Florins

PREIMAGE = hashlib.sha256(b"result key").digest()
OUTPOINT = Outpoint("ab" * 32, 1)


def private_key(name: str) -> coincurve.PrivateKey:
    """A fixed private key for a name."""
    return coincurve.PrivateKey(hashlib.sha256(name.encode()).digest())


def public_key(name: str) -> bytes:
    """Its public key."""
    return private_key(name).public_key.format()


def sign_digest(name: str, digest: bytes) -> bytes:
    """The named key's signature with the hash type."""
    return private_key(name).sign(digest, hasher=None) + HASH_TYPE_ALL


@dataclass
class Kit:
    """A contract and the names behind its keys."""

    contract: Contract
    arbiter_names: list[str]  # in the order of their seats
    preimage: bytes | None

    def sign(self, tx: Tx, *names: str) -> dict[bytes, bytes]:
        """Signatures of a spend by key."""
        digest = lot_digest(self.contract, tx)
        return {public_key(name): sign_digest(name, digest) for name in names}


def party(name: str) -> Party:
    """A party with everything derived from its name."""
    key = public_key(name)
    return Party(f"did:dux:{name}", hashlib.sha256(b"nonce" + key).digest(), key, pay_to_key(public_key(name + "-pay")))


def make_contract(
    *,
    price_florins: int = 10 * FLOP,
    arbiters: int = 3,
    locked: bool = True,
    start: int = 100,
    profile: str = "main",
    network: str = "00" * 32,
) -> Kit:
    """A contract that both sides may enter."""
    table = heights_profile(profile)
    names = [f"arbiter-{number}" for number in range(arbiters)]
    seats = [Arbiter(f"did:dux:{name}", public_key(name), pay_to_key(public_key(name + "-pay"))) for name in names]
    contract = Contract(
        version=CONTRACT_VERSION,
        network=network,
        buyer=party("buyer"),
        seller=party("seller"),
        service_id="upscale",
        job_hash=hashlib.sha256(b"job").digest(),
        price_florins=Florins(price_florins),
        arbiter_pay_florins=arbiter_pay_for(price_florins),
        arbiters_needed=(arbiters + 1) // 2,
        arbiters=seated(seats),
        result_hash=result_hash_of(PREIMAGE) if locked else b"",
        result_salt_hash=hashlib.sha256(b"salt").digest(),
        fund_script=fund_output_script(2, tuple(public_key(f"custodian-{number}") for number in range(3))),
        tax_bps=500,
        fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB,
        depth_blocks=depth_for(table, price_florins),
        start_blocks=table.start_blocks,
        heights_profile=profile,
        heights=plan(table, start, 20, price_florins),
        policy=Policy.STANDBY,
        swap_limit_florins=Florins(0),
    )
    by_did = {f"did:dux:{name}": name for name in names}
    return Kit(contract, [by_did[seat.did] for seat in contract.arbiters], PREIMAGE if locked else None)


SERIES = hashlib.sha256(b"series").digest()


def with_stage(kit: Kit, number: int = 0, count: int = 1, begins: int = 0) -> Kit:
    """The same lot as one of a series."""
    stage = Stage(series=SERIES, number=number, count=count, begins=begins, kind=LotKind.WORK)
    return replace(kit, contract=changed(kit.contract, stage=stage))


def bond_beside(kit: Kit) -> Kit:
    """The seller's bond lot beside a lot, with fresh keys."""
    lot, names = kit.contract, [f"{name}-bond" for name in kit.arbiter_names]
    dids = {f"{name}-bond": f"did:dux:{name}" for name in kit.arbiter_names}
    seats = [Arbiter(dids[name], public_key(name), pay_to_key(public_key(name + "-pay"))) for name in names]
    giver = msgspec.structs.replace(party("seller-bond"), did=lot.seller.did)
    taker = msgspec.structs.replace(party("buyer-bond"), did=lot.buyer.did)
    contract = bond_of(lot, giver, taker, seats)
    by_did = {did: name for name, did in dids.items()}
    return Kit(contract, [by_did[seat.did] for seat in contract.arbiters], None)


def bond_of(lot: Contract, giver: Party, taker: Party, seats: list[Arbiter]) -> Contract:
    """The bond of a lot's seller, the `giver`: roles swapped, T two margins later."""
    margins = 2 * (lot.heights.timeout - lot.heights.vote_by)
    table = heights_profile(lot.heights_profile)
    job = lot.heights.deliver_by - lot.heights.fund_by
    return changed(
        lot,
        buyer=giver,
        seller=taker,
        price_florins=bond_value(int(lot.price_florins), len(lot.arbiters)),
        arbiter_pay_florins=Florins(0),
        arbiters=seated(seats),
        result_hash=b"",
        depth_blocks=depth_for(table, FLOP),
        heights=plan(table, lot.heights.start, job + margins, FLOP),
        stage=msgspec.structs.replace(lot.stage, number=0, begins=0, kind=LotKind.BOND),
    )


def with_royalty(kit: Kit, bps: int) -> Kit:
    """The same lot with a developer to be paid."""
    royalty = Royalty(did="did:dux:developer", payout_script=pay_to_key(public_key("developer")), bps=bps)
    return replace(kit, contract=changed(kit.contract, royalty=royalty))


def changed(contract: Contract, **fields: object) -> Contract:
    """The contract with other fields."""
    return msgspec.structs.replace(contract, **fields)

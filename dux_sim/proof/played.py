"""A history's lot with real scripts, keys and transactions: its ways out, and what its script forbids.

Refused must be: a refund before T, a release without K, an award with k - 1 arbiters, a second way out, and every way
out of a coin that a reorganisation took.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from common.chain.address import pay_to_key
from common.chain.contract import (
    CONTRACT_VERSION,
    Arbiter,
    Contract,
    Party,
    arbiter_pay_for,
    lot_output_script,
    lot_script,
    lot_value,
    result_hash_of,
    seated,
)
from common.chain.fund import fund_output_script
from common.chain.heights import Heights
from common.chain.script import award_sig, coop_sig
from common.chain.settle import assemble, lot_digest
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template, build
from common.chain.tx import Outpoint, Tx, txid
from common.units import Florins
from dux_escrowd.model import Exit, Spend
from dux_sim.proof.cast import PRICE
from dux_sim.proof.coins import Chain
from dux_sim.proof.ids import OTHER, outcome_of, step_of
from dux_sim.proof.keys import preimage_of, public_key, signed
from dux_sim.proof.player import History


def contract_for(history: History, shift: int) -> Contract:
    """The history's contract with real keys, its heights moved to where the chain is."""
    name, deal = history.name, history.setting.deal
    heights = Heights(*(value + shift for value in msgspec.structs.astuple(deal.heights)))
    panel = [
        Arbiter(f"did:dux:{who}", _key(name, who), pay_to_key(_key(name, who + "-pay")))
        for who in history.setting.panel
    ]
    return Contract(
        version=CONTRACT_VERSION, network="00" * 32, buyer=_party(name, "buyer"), seller=_party(name, "seller"),
        service_id="proof", job_hash=bytes(32), price_florins=Florins(PRICE),
        arbiter_pay_florins=arbiter_pay_for(PRICE),
        arbiters_needed=deal.arbiters_needed, arbiters=seated(panel),
        result_hash=result_hash_of(preimage_of(name)) if deal.lock else b"", result_salt_hash=bytes(32),
        fund_script=fund_output_script(2, tuple(public_key(f"custodian-{at}") for at in range(3))), tax_bps=500,
        fee_rate_florins_per_kb=history.setting.fee_rate_florins_per_kb,
        depth_blocks=deal.depth_blocks, start_blocks=deal.start_blocks,
        heights_profile="proof", heights=heights, policy=deal.policy, swap_limit_florins=Florins(PRICE),
    )  # fmt: skip


def _key(history: str, who: str) -> bytes:
    return public_key(f"{history}/{who}")


def _party(history: str, who: str) -> Party:
    return Party(f"did:dux:{who}", bytes(32), _key(history, who), pay_to_key(_key(history, who + "-pay")))


def template_of(spend: Spend) -> Template:
    """The product's template of a spend of the model."""
    gross = Florins(spend.gross_florins)
    if spend.exit is Exit.AWARD:
        seats = tuple(range(int(outcome_of(spend.txid).rsplit("-", 1)[1])))
        return Award(gross, Side.SELLER if spend.gross_florins else Side.BUYER, seats)
    if spend.exit is Exit.RELEASE:
        return Release(gross)
    return Cancel() if spend.exit is Exit.CANCEL else Refund()


class Lot:
    """One history's lot on the chain."""

    def __init__(self, history: History, chain: Chain, shift: int) -> None:
        self.history = history
        self.contract = contract_for(history, shift)
        self.value = int(lot_value(self.contract))
        self._purse = chain.purse
        self._paid_from: Outpoint | None = None
        self.outpoint: Outpoint | None = None
        self.gone: list[Outpoint] = []

    def funding(self) -> Tx:
        """The payment to the script; after a reorganisation the same payment under another id."""
        twin = self._paid_from is not None
        self._paid_from = self._paid_from or self._purse.take()
        tx = self._purse.payment(self._paid_from, lot_output_script(self.contract), self.value, twin=twin)
        if self.outpoint is not None:
            self.gone.append(self.outpoint)
        self.outpoint = Outpoint(txid(tx), 0)
        return tx

    def way_out(self, spend: Spend) -> Tx:
        """The spend of the model, complete."""
        place = self.outpoint or Outpoint("00" * 32, 0)
        other = spend.txid.endswith(OTHER)
        return self._assembled(template_of(spend), place, step_of(spend.txid), other=other)

    def _assembled(self, template: Template, outpoint: Outpoint, step: int = 0, *, other: bool = False) -> Tx:
        """`other`: the same ways and sums under another id, by signatures of another number."""
        tx = build(self.contract, outpoint, self.value, template, step)
        names = [f"{self.history.name}/{who}" for who in ("buyer", "seller", *self.history.setting.panel)]
        digest = lot_digest(self.contract, tx)
        signatures = {public_key(name): signed(name, digest, other=other) for name in names}
        return assemble(self.contract, template, tx, signatures, preimage_of(self.history.name))

    def too_early(self) -> Tx:
        """The buyer's way out after T."""
        return self._assembled(Refund(), self.outpoint or Outpoint("00" * 32, 0))

    def rivals(self, spend: Spend) -> Iterator[tuple[str, Tx]]:
        """Another way out than the one that was taken."""
        other = Cancel() if spend.exit is not Exit.CANCEL else Release(Florins(PRICE))
        yield "a second way out", self._assembled(other, self.outpoint or Outpoint("00" * 32, 0))

    def forbidden(self) -> Iterator[tuple[str, Tx]]:
        """What must be refused of a coin that has just come."""
        if self.outpoint is not None:
            if self.contract.result_hash:
                yield "a release without K", self._without_key(self.outpoint)
            yield "an award with k - 1 arbiters", self._with_too_few(self.outpoint)
        for outpoint in self.gone:
            yield "a release of a coin that is gone", self._assembled(Release(Florins(PRICE)), outpoint)

    def _without_key(self, outpoint: Outpoint) -> Tx:
        """A release with something else in K's place."""
        tx = build(self.contract, outpoint, self.value, Release(Florins(PRICE)))
        buyer, seller = (self._sign(tx, who) for who in ("buyer", "seller"))
        return tx.signed([coop_sig(lot_script(self.contract), buyer, seller, bytes(32))])

    def _with_too_few(self, outpoint: Outpoint) -> Tx:
        """An award that k - 1 arbiters have signed, one of them twice."""
        tx = build(self.contract, outpoint, self.value, Award(Florins(PRICE), Side.SELLER, (0, 1)))
        by_key = {_key(self.history.name, who): who for who in self.history.setting.panel}
        seats = [by_key[arbiter.key] for arbiter in self.contract.arbiters][: self.contract.arbiters_needed - 1]
        panel = [self._sign(tx, who) for who in seats]
        return tx.signed([award_sig(lot_script(self.contract), [*panel, panel[-1]], self._sign(tx, "seller"))])

    def _sign(self, tx: Tx, who: str) -> bytes:
        return signed(f"{self.history.name}/{who}", lot_digest(self.contract, tx))

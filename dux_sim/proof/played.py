"""Histories of the walk on a real chain: the same lots with real scripts, keys and transactions, block by block.

What the model's chain took must be taken, in the block in which the model has it; what script or height forbid must be
refused: a refund before T, a release without K, an award with k - 1 arbiters, a second way out, and every way out of a
coin that a reorganisation took. Nobody's word counts here but the node's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

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
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.chain.fund import fund_output_script
from common.chain.heights import Heights
from common.chain.script import award_sig, coop_sig
from common.chain.settle import assemble, lot_digest
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template, build
from common.chain.tx import Outpoint, Tx, txid
from common.units import Florins
from dux_escrowd.model import Exit, Spend
from dux_sim.proof.cast import PRICE, START, Setting
from dux_sim.proof.coins import Chain, Purse, Refusal
from dux_sim.proof.keys import preimage_of, public_key, signed

REASON_CHARS = 60  # of the node's own words


class Event(msgspec.Struct, frozen=True):
    """What the model's chain had at a height that it did not have before."""

    height: int
    coin: str  # the model's outpoint
    spend: Spend | None


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One history: who agreed on what, and what its chain showed, block by block."""

    name: str
    setting: Setting
    events: tuple[Event, ...]
    end: int

    @property
    def exit(self) -> str:
        """How it ended."""
        last = next((event.spend for event in reversed(self.events) if event.spend), None)
        return last.txid if last else "unspent"

    @property
    def coins(self) -> tuple[str, ...]:
        """The model's coins, in order: more than one after a reorganisation."""
        return tuple(dict.fromkeys(event.coin for event in self.events))


class Played(msgspec.Struct):
    """What a chain said."""

    chain: str
    histories: int = 0
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    taken: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    reorganised: int = 0
    differences: list[str] = msgspec.field(default_factory=list)
    skipped: str = ""


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
        fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB, depth_blocks=deal.depth_blocks, start_blocks=deal.start_blocks,
        heights_profile="proof", heights=heights, policy=deal.policy, swap_limit_florins=Florins(PRICE),
    )  # fmt: skip


def _key(history: str, who: str) -> bytes:
    return public_key(f"{history}/{who}")


def _party(history: str, who: str) -> Party:
    return Party(f"did:dux:{who}", bytes(32), _key(history, who), pay_to_key(_key(history, who + "-pay")))


class Lot:
    """One history's lot on the chain."""

    def __init__(self, history: History, chain: Chain, purse: Purse, shift: int) -> None:
        self.history = history
        self.contract = contract_for(history, shift)
        self.value = int(lot_value(self.contract))
        self._purse, self._chain = purse, chain
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
        return self._assembled(self._template(spend), self.outpoint or Outpoint("00" * 32, 0))

    def _template(self, spend: Spend) -> Template:
        gross = Florins(spend.gross_florins)
        if spend.exit is Exit.AWARD:
            seats = tuple(range(int(spend.txid.rsplit("-", 1)[1])))
            return Award(gross, Side.SELLER if spend.gross_florins else Side.BUYER, seats)
        if spend.exit is Exit.RELEASE:
            return Release(gross)
        return Cancel() if spend.exit is Exit.CANCEL else Refund()

    def _assembled(self, template: Template, outpoint: Outpoint) -> Tx:
        tx = build(self.contract, outpoint, self.value, template)
        names = [f"{self.history.name}/{who}" for who in ("buyer", "seller", *self.history.setting.panel)]
        signatures = {public_key(name): signed(name, lot_digest(self.contract, tx)) for name in names}
        return assemble(self.contract, template, tx, signatures, preimage_of(self.history.name))

    def refund(self) -> Tx:
        """The buyer's way out after T."""
        return self._assembled(Refund(), self.outpoint or Outpoint("00" * 32, 0))

    def rival(self, taken: Spend) -> Tx:
        """Another way out than the one that was taken."""
        other = Cancel() if taken.exit is not Exit.CANCEL else Release(Florins(PRICE))
        return self._assembled(other, self.outpoint or Outpoint("00" * 32, 0))

    def of_old_coins(self) -> list[Tx]:
        """A release of each coin that is gone."""
        return [self._assembled(Release(Florins(PRICE)), outpoint) for outpoint in self.gone]

    def without_key(self) -> Tx | None:
        """A release with something else in K's place."""
        if not self.contract.result_hash or self.outpoint is None:
            return None
        tx = build(self.contract, self.outpoint, self.value, Release(Florins(PRICE)))
        buyer, seller = (self._sign(tx, who) for who in ("buyer", "seller"))
        return tx.signed([coop_sig(lot_script(self.contract), buyer, seller, bytes(32))])

    def with_too_few(self) -> Tx | None:
        """An award that k - 1 arbiters have signed, one of them twice."""
        if self.outpoint is None:
            return None
        tx = build(self.contract, self.outpoint, self.value, Award(Florins(PRICE), Side.SELLER, (0, 1)))
        by_key = {_key(self.history.name, who): who for who in self.history.setting.panel}
        seats = [by_key[arbiter.key] for arbiter in self.contract.arbiters][: self.contract.arbiters_needed - 1]
        panel = [self._sign(tx, who) for who in seats]
        return tx.signed([award_sig(lot_script(self.contract), [*panel, panel[-1]], self._sign(tx, "seller"))])

    def _sign(self, tx: Tx, who: str) -> bytes:
        return signed(f"{self.history.name}/{who}", lot_digest(self.contract, tx))


class Player:
    """Plays many histories at once on one chain: the model's height 100 is where the chain stands at the beginning."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.told = Played(chain.name)
        self._refused: Counter[str] = Counter()
        self._funded_height = 0

    def play(self, histories: Iterable[History]) -> None:
        """All of these, side by side; histories with a reorganisation are played one by one."""
        plain: list[History] = []
        moved: list[History] = []
        for history in histories:
            (moved if len(history.coins) > 1 else plain).append(history)
        self._play(plain)
        for history in moved:
            self._play([history])
        self.told.refused = dict(sorted(self._refused.items()))

    def _play(self, histories: list[History]) -> None:
        shift = self._chain.height - START
        lots = [Lot(history, self._chain, self._chain.purse, shift) for history in histories]
        for height in range(START + 1, max((history.end for history in histories), default=START) + 1):
            for lot in lots:
                self._before(lot, height)
            self._chain.mine()
            for lot in lots:
                self._after(lot, height)
        for lot in lots:
            self.told.histories += 1
            self.told.exits[lot.history.exit] = self.told.exits.get(lot.history.exit, 0) + 1

    def _before(self, lot: Lot, height: int) -> None:
        for event in lot.history.events:
            if event.height != height:
                continue
            if event.spend is None:
                self._fund(lot)
            else:
                self._must_take(lot, lot.way_out(event.spend), f"{event.spend.txid} at T{_from(lot, height)}")

    def _fund(self, lot: Lot) -> None:
        moved, tx = lot.outpoint is not None, lot.funding()
        if not moved:
            self._funded_height = self._chain.height + 1
            self._must_take(lot, tx, "the funding")
            return
        self._chain.replace(self._chain.height - self._funded_height + 1, tx)
        self.told.reorganised += 1
        self.told.taken += 1

    def _after(self, lot: Lot, height: int) -> None:
        for event in lot.history.events:
            if event.height == height and event.spend is None:
                self._forbidden_of_fresh_coin(lot)
            if event.height == height and event.spend is not None:
                self._must_refuse(lot, lot.rival(event.spend), "a second way out")
        timeout = lot.history.setting.deal.heights.timeout
        spent = any(event.spend is not None and event.height <= height for event in lot.history.events)
        if height == timeout - 1 and lot.outpoint is not None and not spent:
            self._must_refuse(lot, lot.refund(), "a refund before T")

    def _forbidden_of_fresh_coin(self, lot: Lot) -> None:
        self._must_refuse(lot, lot.refund(), "a refund before T")
        for what, tx in (
            ("a release without K", lot.without_key()),
            ("an award with k - 1 arbiters", lot.with_too_few()),
        ):
            if tx is not None:
                self._must_refuse(lot, tx, what)
        for tx in lot.of_old_coins():
            self._must_refuse(lot, tx, "a release of a coin that is gone")

    def _must_take(self, lot: Lot, tx: Tx, what: str) -> None:
        try:
            self._chain.send(tx)
            self.told.taken += 1
        except Refusal as refusal:
            self.told.differences.append(f"{lot.history.name}: {what} was refused: {refusal}")

    def _must_refuse(self, lot: Lot, tx: Tx, what: str) -> None:
        try:
            self._chain.send(tx)
        except Refusal as refusal:
            self._refused[f"{what}: {str(refusal)[:REASON_CHARS]}"] += 1
        else:
            self.told.differences.append(f"{lot.history.name}: {what} was taken")


def _from(lot: Lot, height: int) -> str:
    return f"{height - lot.history.setting.deal.heights.timeout:+d}"

"""A keeper's half of a sweep: computing it, signing it, handing signatures round, having it sent, booking it.

Promises: it signs only what it computed from its own chain, and takes others' signatures only for that; every step is
on disk before the next, and doing it again gives the same bytes. Nobody leads: whoever has enough signatures sends the
sweep, and two who do send the same transaction. Source: money.md §6.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from structlog.typing import FilteringBoundLogger

from common.chain.address import pay_to_script
from common.chain.fund import fund_redeem_script, payout_signatures_are_right
from common.codec import Wire, from_json
from common.contracts.airdrop import NotACustodian, OtherRound
from common.contracts.airdrop_fund import FundSwept
from common.contracts.peer_airdrop import Kept, SweepCall
from common.contracts.wallet_chain import Tip
from common.contracts.wallet_contract import PayoutSignatures
from common.errors import BadParams
from common.network import Quorum
from common.store import Effect, Tx
from common.units import BlockHeight, Did, Florins
from dux_airdropd import rules
from dux_airdropd.effects import Outside
from dux_airdropd.model import Figures, FundCoin, SweepCoin, SweepProof, SweepSource
from dux_airdropd.payout_rules import held_at
from dux_airdropd.store import Books
from dux_airdropd.store_fund import Sweep
from dux_airdropd.sweep_rules import plan_sweep, sweep_height, sweep_id

SEND_SWEEP, SETTLE_SWEEP = "send-sweep", "settle-sweep"
SWEEPS_LOOKED_AT = 64  # the latest ones, whose place on the chain may still change


class SweepErrand(Wire, frozen=True):
    """What the outbox is to do: about which sweep, with whom."""

    sweep_id: bytes
    did: Did = Did("")
    signatures: tuple[PayoutSignatures, ...] = ()


class Keeping(msgspec.Struct, frozen=True):
    """A swept script with its keepers."""

    source: SweepSource
    keys: dict[Did, bytes]

    @property
    def script(self) -> bytes:
        """The output script."""
        return pay_to_script(fund_redeem_script(self.source.needed, self.source.pubkeys))


def keeping_of(quorum: Quorum, least_florins: int) -> Keeping:
    """The keepers of a profile's collector or earlier custodians."""
    keys = {one.did: bytes.fromhex(one.pubkey) for one in quorum.custodians}
    return Keeping(SweepSource(quorum.threshold, quorum.pubkeys, least_florins), keys)


class Sweeper:
    """Empties collectors and the scripts of earlier custodians into the fund."""

    def __init__(
        self,
        books: Books,
        outside: Outside,
        keepings: Sequence[Keeping],
        *,
        figures: Figures,
        every_blocks: int,
        log: FilteringBoundLogger,
    ) -> None:
        self._books = books
        self._outside = outside
        self.keepings = {keeping.script: keeping for keeping in keepings}
        self._figures = figures
        self._every = every_blocks
        self._log = log
        self._looked: Tip | None = None

    def renew(self, keepings: Sequence[Keeping], every_blocks: int) -> None:
        """A later parameter set says what is worth a sweep, and how often one is made."""
        self.keepings = {keeping.script: keeping for keeping in keepings}
        self._every = every_blocks

    async def look(self, tip: Tip) -> None:
        """Once per block: book what the chain shows, then this keeper's next steps for each script that it keeps."""
        if tip == self._looked or not self.keepings:
            return
        own = await self._outside.own_did()
        for script, keeping in sorted(self.keepings.items()):
            coins = await self._outside.coins(script)
            self._book(script, coins, tip)
            if own in keeping.keys:
                await self._sign(keeping, coins, tip, own)
        self._looked = tip

    async def _sign(self, keeping: Keeping, coins: Sequence[FundCoin], tip: Tip, own: Did) -> None:
        sweep = await self._computed(keeping, coins, tip.height)
        if sweep is None or sweep.mined_height is not None:
            return
        if own not in self._books.sweep_signatures(sweep.sweep_id):
            signatures = await self._outside.sign(f"sweep-sign-{sweep.sweep_id.hex()}", sweep.payout)
            with self._books.store.transaction() as tx:
                self._books.add_sweep(tx, sweep)
                self._books.add_sweep_signatures(tx, sweep.sweep_id, own, signatures)
                for did in sorted(set(keeping.keys) - {own}):
                    _want(tx, SEND_SWEEP, SweepErrand(sweep_id=sweep.sweep_id, did=did))
                tx.audit("sweep signed", {"height": sweep.height, "sweep": sweep.sweep_id.hex()})
        self._settle(keeping, sweep)

    async def _computed(self, keeping: Keeping, coins: Sequence[FundCoin], tip: int) -> Sweep | None:
        """This keeper's own sweep of the latest period."""
        height = sweep_height(tip, self._figures.depth_blocks, self._every)
        if height is None:
            return None
        block = await self._outside.block_hash(height)
        held = self._books.sweep_at(keeping.script, height)
        if held is not None and held.block_hash == block:
            return held
        payout = plan_sweep(
            keeping.source, coins, height, block, network=self._figures.network, target=self._figures.fund_script
        )
        return Sweep(sweep_id(payout), keeping.script, height, block, payout) if payout is not None else None

    async def take(self, call: SweepCall, sender: Did) -> Kept:
        """Another keeper's signatures: kept when they fit the sweep that this node computed itself."""
        keeping = self.keepings.get(call.script)
        if keeping is None or sender not in keeping.keys:
            raise NotACustodian(did=sender)
        sweep = self._books.sweep_at(call.script, call.height)
        if sweep is None or sweep.block_hash != call.block_hash:
            raise OtherRound(number=-1, cutoff_height=-1 if sweep is None else sweep.height)
        if not payout_signatures_are_right(sweep.payout, keeping.keys[sender], call.signatures):
            raise BadParams(detail="these signatures do not fit the sweep that this node computed")
        with self._books.store.transaction() as tx:
            self._books.add_sweep_signatures(tx, sweep.sweep_id, sender, call.signatures)
        self._settle(keeping, sweep)
        return Kept(kept=True)

    def _settle(self, keeping: Keeping, sweep: Sweep) -> None:
        signatures = self._books.sweep_signatures(sweep.sweep_id)
        if len(signatures) < keeping.source.needed:
            return
        chosen = tuple(
            PayoutSignatures(pubkey=keeping.keys[did], signatures=list(signatures[did]))
            for did in sorted(signatures)[: keeping.source.needed]
        )
        with self._books.store.transaction() as tx:
            _want(tx, SETTLE_SWEEP, SweepErrand(sweep_id=sweep.sweep_id, signatures=chosen))

    async def perform(self, effect: Effect) -> None:
        """Do what a decision wanted, unless the sweep is on the chain by now, or has been computed anew."""
        errand = from_json(effect.body, SweepErrand)
        sweep = self._books.sweep(errand.sweep_id)
        if sweep is None or sweep.mined_height is not None:
            return
        if effect.kind == SETTLE_SWEEP:
            await self._outside.settle(effect.effect_id, sweep.payout, list(errand.signatures))
            return
        own = self._books.sweep_signatures(sweep.sweep_id)[await self._outside.own_did()]
        call = SweepCall(sweep.script, sweep.height, sweep.block_hash, own)
        await self._outside.send_sweep(errand.did, call)

    # what the chain shows

    def _book(self, script: bytes, coins: Sequence[FundCoin], tip: Tip) -> None:
        for sweep in self._books.sweeps(SWEEPS_LOOKED_AT):
            if sweep.script != script:
                continue
            spent = next((coin for coin in coins if rules.pays(coin, sweep.payout)), None)
            deep = spent is not None and rules.is_deep(spent.spent_height or 0, tip.height, self._figures.depth_blocks)
            where = (spent.spent_txid, spent.spent_height) if spent is not None and deep else ("", None)
            if where != (sweep.txid, sweep.mined_height):
                self._booked(sweep, coins, *where)

    def _booked(self, sweep: Sweep, coins: Sequence[FundCoin], txid: str, height: int | None) -> None:
        swept = sum(int(out.value_florins) for out in sweep.payout.outputs)
        fee = sum(int(item.value_florins) for item in sweep.payout.inputs) - swept
        told = FundSwept(
            txid=txid, height=BlockHeight(height or 0), swept_florins=Florins(swept), fee_florins=Florins(fee)
        )
        proof = None if height is None else self._proof(sweep, coins, txid, height)
        with self._books.store.transaction() as tx:
            self._books.mined(tx, sweep.sweep_id, txid, height, proof)
            if height is not None:
                tx.emit("FundSwept", told)
            tx.audit("sweep booked", {"sweep": sweep.sweep_id.hex(), "txid": txid, "height": height or 0})

    def _proof(self, sweep: Sweep, coins: Sequence[FundCoin], txid: str, height: int) -> SweepProof:
        source = self.keepings[sweep.script].source
        lay = [
            SweepCoin(coin.outpoint, Florins(coin.value_florins), coin.height or 0)
            for coin in sorted(held_at(coins, sweep.height), key=lambda coin: (coin.outpoint.txid, coin.outpoint.vout))
        ]
        return SweepProof(
            network=self._figures.network,
            needed=source.needed,
            pubkeys=source.pubkeys,
            height=sweep.height,
            block_hash=sweep.block_hash,
            coins=tuple(lay),
            payout=sweep.payout,
            txid=txid,
            mined_height=height,
        )


def _want(tx: Tx, kind: str, errand: SweepErrand) -> None:
    tx.outbox(f"{kind}-{errand.sweep_id.hex()}-{errand.did}", kind, errand, lane=f"sweep-{errand.did}")

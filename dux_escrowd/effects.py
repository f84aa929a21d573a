"""The only file that carries orders to the wallet (keys, funding, coin signatures, ways out), and the dispatcher.

Promise: an order is asked again whether it is still wanted right before it is done; the wallet is called under the
order's own id, so doing it twice is doing it once; what comes of it returns as a fact. Source: style.md 2.4,
escrow_protocol.md §8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from common.chain.contract import Contract, lot_output_script, lot_script
from common.chain.templates import Cancel, Refund, Release, Template, rungs_of
from common.codec import canonical
from common.contracts import wallet_bond_lot as wallet_both
from common.contracts import wallet_chain as chain
from common.contracts import wallet_contract as wallet
from common.contracts.escrow import StaleTip
from common.contracts.escrow_views import FundingFailed
from common.contracts.wallet_errors import ContractUnknown
from common.errors import DuxError, NotFound, NotNow
from common.store import Effect, Tx
from common.units import BlockHeight, Did, Florins
from dux_escrowd.book import Errand
from dux_escrowd.desk import Desk
from dux_escrowd.facts import AwardSaid, CancelSaid, Pushed, Ready, ReleaseSaid
from dux_escrowd.hearing import Ear, award_template, fact_of, outpoint_of
from dux_escrowd.lots import Lots
from dux_escrowd.model import AwardKey, Exit, Lot, State
from dux_escrowd.orders import Adopt, Fund, Order, Settle, ShowKey, SignAward, SignCancel, SignRelease, Word
from dux_escrowd.rules import still_wanted
from dux_escrowd.statements import Heard
from dux_escrowd.store import Agreed
from dux_escrowd.voice import Voice
from dux_escrowd.words import SaidAward, SaidCancel, SaidReady, SaidRelease

SHOWS_KEY_OR_REFUNDS = (Exit.RELEASE, Exit.REFUND)
ATTEMPTS_AFTER_END = 20  # of anything still open once the contract is closed or void

Performer = Callable[[Any, Effect], Awaitable[None]]
WayOut = tuple[Template, list[wallet.KeySignature], bytes | None, int]
CoinSigned = ReleaseSaid | CancelSaid | AwardSaid


class Job(msgspec.Struct, frozen=True):
    """An order with everything around it."""

    errand: Errand
    row: Agreed
    lot: Lot
    contract: Contract
    effect_id: str

    @property
    def cid(self) -> str:
        """The contract's hash, as the wallet knows it."""
        return self.row.cid or ""


class WalletHand:
    """Orders that the wallet carries out."""

    def __init__(self, desk: Desk, voice: Voice) -> None:
        self._desk = desk
        self._voice = voice

    async def adopt(self, job: Job, _order: Adopt) -> None:
        """The wallet rebuilds the script; the chain is watched; READY."""
        if job.row.key_index is None:
            raise NotFound(what="key of contract", name=job.row.contract_id)
        adopt = wallet.AdoptContract(
            request_id=job.effect_id,
            contract=canonical(job.contract),
            role=job.row.role.value,
            key_index=job.row.key_index,
        )
        adopted = await self._desk.flopd.call(wallet.CONTRACT_ADOPT, adopt)
        script = lot_output_script(job.contract)
        from_height = BlockHeight(job.contract.heights.start)
        watch = chain.WatchScripts(request_id=f"{job.effect_id}/watch", scripts=[script], from_height=from_height)
        await self._desk.flopd.call(chain.CHAIN_WATCH, watch)
        same = adopted.output_script == script and adopted.cid == job.cid
        with self._desk.book.store.transaction() as tx:
            self._desk.book.shelf.note(tx, job.row.contract_id, script=script, address=adopted.address)
        said = SaidReady(lot_script(job.contract), job.contract.fund_script)
        fact = Ready(at=await self._desk.height(), by=self._desk.me, same=same)
        await self._voice.say(job.lot, Word.READY, said, job.effect_id, fact)

    async def fund(self, job: Job, _order: Fund) -> None:
        """Exactly A + a to the script that all have rebuilt; the lots of a series in one payment.

        Raises:
            PeerNotReady: not all of the series is agreed yet.
        """
        first, *others = [row.cid or "" for row in Lots(self._desk.book).to_fund(job.row)]
        wish = wallet.FundContract(request_id=job.effect_id, cid=first, together=tuple(others))
        await self._desk.flopd.call(wallet.CONTRACT_FUND, wish)

    async def sign_release(self, job: Job, order: SignRelease) -> None:
        """Coin signatures, then RELEASE."""
        gross = Florins(order.gross_florins)
        signatures = await self._sign(job, order.outpoint, Release(gross))
        await self._voice.say(job.lot, Word.RELEASE, SaidRelease(order.outpoint, gross, signatures), job.effect_id)

    async def sign_cancel(self, job: Job, order: SignCancel) -> None:
        """Coin signatures with K, then CANCEL."""
        signatures = await self._sign(job, order.outpoint, Cancel())
        preimage = await self.preimage(job.row) if job.contract.result_hash else b""
        await self._voice.say(job.lot, Word.CANCEL, SaidCancel(order.outpoint, signatures, preimage), job.effect_id)

    async def sign_award(self, job: Job, order: SignAward) -> None:
        """Coin signatures, then AWARD."""
        key = order.key
        if key.bond:
            await self._voice.say(job.lot, Word.AWARD, await self._signed_both(job, key), job.effect_id)
            return
        signatures = await self._sign(job, key.outpoint, award_template(job.contract, key))
        said = SaidAward(key.outpoint, Florins(key.gross_florins), key.revealed, signatures)  # type: ignore[arg-type]
        await self._voice.say(job.lot, Word.AWARD, said, job.effect_id)

    async def _signed_both(self, job: Job, key: AwardKey) -> SaidAward:
        """An award of lot and bond, signed by this wallet for both inputs."""
        ask = wallet_both.SignBoth(
            request_id=job.effect_id, cid=job.cid, outpoint=outpoint_of(key.outpoint), bond_cid=self._bond_cid(job),
            bond_outpoint=outpoint_of(key.bond), revealed=award_template(job.contract, key).revealed,
        )  # fmt: skip
        signed = await self._desk.flopd.call(wallet_both.CONTRACT_SIGN_BOTH, ask)
        revealed = tuple(Did(did) for did in key.revealed)
        return SaidAward(key.outpoint, Florins(0), revealed, (signed.signature,), key.bond, signed.bond_signature)

    def _bond_cid(self, job: Job) -> str:
        bond = self._desk.book.shelf.bond_of(job.row)
        if bond is None or bond.cid is None:
            raise NotFound(what="bond of contract", name=job.row.contract_id)
        return bond.cid

    async def _settle_both(self, job: Job, order: Settle, key: AwardKey) -> None:
        ask = wallet_both.SettleBoth(
            request_id=job.effect_id, cid=job.cid, outpoint=outpoint_of(order.outpoint), bond_cid=self._bond_cid(job),
            bond_outpoint=outpoint_of(key.bond), revealed=award_template(job.contract, key).revealed,
            signatures=self._award_signatures(job, order),
        )  # fmt: skip
        await self._desk.flopd.call(wallet_both.CONTRACT_SETTLE_BOTH, ask)

    async def _sign(self, job: Job, outpoint: str, template: Template) -> tuple[bytes, ...]:
        """Coin signatures for every rung of the fee ladder that the gross is worth."""
        value = job.lot.coin.value_florins if job.lot.coin else 0
        rungs = rungs_of(job.contract, outpoint_of(outpoint), value, template)
        ask = wallet.SignContract(
            request_id=job.effect_id, cid=job.cid, outpoint=outpoint_of(outpoint), template=template, rungs=rungs
        )
        return tuple((await self._desk.flopd.call(wallet.CONTRACT_SIGN, ask)).signatures)

    async def preimage(self, row: Agreed) -> bytes:
        """K: the seller's from its wallet, an arbiter's from the evidence."""
        if row.preimage is not None:
            return row.preimage
        return (await self._desk.flopd.call(wallet.CONTRACT_REVEAL, wallet.RevealKey(cid=row.cid or ""))).preimage

    async def settle(self, job: Job, order: Settle) -> None:
        """This node's way out: assembled and judged by the wallet, then on its way."""
        if order.award is not None and order.award.bond:
            await self._settle_both(job, order, order.award)
        else:
            await self._settle_one(job, order)
        fact = Pushed(at=await self._desk.height(), exit=order.exit)
        with self._desk.book.store.transaction() as tx:
            self._desk.book.learn(tx, job.row.contract_id, fact, job.errand.number)

    async def _settle_one(self, job: Job, order: Settle) -> None:
        template, signatures, preimage, rung = self._way_out(job, order)
        ask = wallet.SettleContract(
            request_id=job.effect_id,
            cid=job.cid,
            outpoint=outpoint_of(order.outpoint),
            template=template,
            signatures=signatures,
            rung=rung,
            preimage=preimage,
        )
        await self._desk.flopd.call(wallet.CONTRACT_SETTLE, ask)

    def _way_out(self, job: Job, order: Settle) -> WayOut:
        """The way out with what is held for it, at the rung that was ordered or the highest that was co-signed."""
        if order.exit is Exit.RELEASE:
            release = self._last(job, Word.RELEASE, SaidRelease, order.outpoint)
            rung = min(order.rung, len(release.signatures) - 1)
            held = wallet.KeySignature(pubkey=job.contract.buyer.key, signature=release.signatures[rung])
            return Release(release.gross_florins), [held], None, rung
        if order.exit is Exit.CANCEL:
            cancel = self._last(job, Word.CANCEL, SaidCancel, order.outpoint)
            rung = min(order.rung, len(cancel.signatures) - 1)
            held = wallet.KeySignature(pubkey=job.contract.seller.key, signature=cancel.signatures[rung])
            return Cancel(), [held], cancel.preimage or None, rung
        if order.exit is Exit.AWARD and order.award is not None:
            said = self._awards(job, order.award)
            rung = min([order.rung, *(len(one.signatures) - 1 for one in said.values())])
            held_for = {key: one.signatures[rung] for key, one in said.items()}
            template = award_template(job.contract, order.award)
            return template, [wallet.KeySignature(pubkey=k, signature=s) for k, s in held_for.items()], None, rung
        return Refund(), [], None, order.rung

    def _award_signatures(self, job: Job, order: Settle) -> list[wallet.KeySignature]:
        """The arbiters' signatures of both inputs of an award with a bond, each by its own key."""
        bond = self._desk.book.records.bond(job.row.contract_id)
        if order.award is None or bond is None:
            raise NotFound(what="bond of contract", name=job.row.contract_id)
        keys = {arbiter.key: arbiter.did for arbiter in job.contract.arbiters}
        of_bond = {arbiter.did: arbiter.key for arbiter in bond.contract.arbiters}
        said = self._awards(job, order.award)
        pairs = [(key, one.signatures[0]) for key, one in said.items()]
        pairs += [(of_bond[keys[key]], one.bond_signature) for key, one in said.items()]
        return [wallet.KeySignature(pubkey=key, signature=signature) for key, signature in pairs]

    def _awards(self, job: Job, award: AwardKey) -> dict[bytes, SaidAward]:
        """What arbiters have said for exactly this award, by their keys of the lot."""
        keys = {arbiter.did: arbiter.key for arbiter in job.contract.arbiters}
        found: dict[bytes, SaidAward] = {}
        for heard, fact in self._right(job, Word.AWARD):
            if isinstance(fact, AwardSaid) and isinstance(heard.said, SaidAward) and fact.key == award:
                found[keys[Did(fact.by)]] = heard.said
        return found

    def _last(self, job: Job, word: Word, form: type[Any], outpoint: str) -> Any:
        """The last such statement of the party whose coin signatures it carries, where they fit; junk is passed."""
        said = [heard.said for heard, _fact in self._right(job, word)]
        fitting = [body for body in said if isinstance(body, form) and body.outpoint == outpoint]
        if word is Word.RELEASE:
            fitting = [body for body in fitting if int(body.gross_florins) == job.lot.release_gross_florins]
        if not fitting:
            raise NotFound(what=f"{word.value} of contract", name=job.row.contract_id)
        return fitting[-1]

    def _right(self, job: Job, word: Word) -> list[tuple[Heard, CoinSigned]]:
        """Statements whose coin signatures are their signer's own and fit what this node builds."""
        ear = Ear(job.contract, job.lot, 0, self._desk.book.records.bond(job.row.contract_id))
        signers = {Word.RELEASE: (job.row.buyer,), Word.CANCEL: (job.row.seller,)}.get(word, job.lot.panel)
        heard = self._desk.book.shelf.heard(job.row.contract_id, word)
        facts = [(item, fact_of(item, ear)) for item in heard if item.statement.signer in signers]
        return [(item, fact) for item, fact in facts if isinstance(fact, CoinSigned) and fact.valid]


class Effects:
    """Performs the outbox: orders after asking whether they are still wanted, everything else as it stands."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.knows_all: Callable[[], bool] = lambda: True  # whether the wallet was handed what it had forgotten
        self._orders: dict[str, Callable[[Job, Any], Awaitable[None]]] = {}
        self._others: dict[str, tuple[type[Any], Callable[[Any], Awaitable[None]]]] = {}

    def carries(self, order: type[Order], hand: Callable[[Job, Any], Awaitable[None]]) -> None:
        """Orders of this kind go to `hand`."""
        self._orders[order.__name__] = hand

    def sends(self, kind: str, form: type[Any], hand: Callable[[Any], Awaitable[None]]) -> None:
        """Outbox rows of this kind, with this body, go to `hand`."""
        self._others[kind] = (form, hand)

    async def perform(self, effect: Effect) -> None:
        """Do one row of the outbox.

        Raises:
            NotNow, Unavailable: it is done again later. DuxError: it was refused for good.
        """
        if effect.kind in self._others:
            form, hand = self._others[effect.kind]
            body = msgspec.json.decode(effect.body, type=form)
            if not self._is_over(body.contract_id, effect):
                await hand(body)
            return
        errand = msgspec.json.decode(effect.body, type=Errand)
        job = await self._job(errand, effect)
        if job is not None and not self._is_over(errand.contract_id, effect):
            try:
                await self._orders[effect.kind](job, errand.order)
            except ContractUnknown as error:
                if self.knows_all():
                    raise
                raise NotNow from error

    async def _job(self, errand: Errand, effect: Effect) -> Job | None:
        lot = self._desk.book.shelf.lot(errand.contract_id, errand.number)
        contract = self._desk.book.records.contract(errand.contract_id)
        if lot is None or contract is None:
            return None
        tip = await self._desk.tip()
        if not still_wanted(lot, errand.order, int(tip.height)):
            self._desk.log.info("order dropped", effect_id=effect.effect_id, order=effect.kind, state=lot.state.value)
            return None
        order = errand.order
        risky = isinstance(order, ShowKey) or (isinstance(order, Settle) and order.exit in SHOWS_KEY_OR_REFUNDS)
        if risky and not self._desk.is_fresh(tip):
            raise StaleTip(height=int(tip.height))
        return Job(errand, self._desk.row(errand.contract_id), lot, contract, effect.effect_id)

    def _is_over(self, contract_id: str, effect: Effect) -> bool:
        lot = self._desk.book.shelf.lot(contract_id)
        ended = lot is not None and lot.state in (State.CLOSED, State.VOID)
        return ended and effect.attempts > ATTEMPTS_AFTER_END

    def refused(self, tx: Tx, effect: Effect, error: DuxError) -> None:
        """An order was refused for good: the readers of events learn it where they can do something about it."""
        if effect.kind in (Fund.__name__, Adopt.__name__):
            errand = msgspec.json.decode(effect.body, type=Errand)
            self._desk.book.tell(tx, FundingFailed(contract_id=errand.contract_id, reason=error.message))

"""The only file that calls other daemons for an order: each is performed as often as it takes, and heard as a fact.

Promise: every call to escrowd, registryd and stored carries a `request_id` made of the order's own name, so that doing
it twice is the same as once. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from common.chain.address import address_to_script
from common.chain.contract_rules import arbiters_needed_for
from common.chain.params import family_named
from common.codec import canonical, from_canonical, from_json
from common.contracts import escrow, registry
from common.contracts import store as store_contract
from common.contracts.escrow_views import ContractView, Settlement
from common.contracts.p2p import BlobHold
from common.contracts.p2p_errors import BlobMissing
from common.contracts.registry_service import SERVICE_HAD, ServiceHad, ServiceNotTaken
from common.contracts.task import KindNotOffered, TooFewHolders
from common.contracts.wallet_contract import CONTRACT_VOUCH, VouchContract
from common.contracts.wallet_errors import NotAgreed
from common.errors import DuxError, NotFound, NotNow, Unavailable
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.parts import Neighbours
from common.peers import Peers
from common.receipts import Attested, KeyedReceipt, LotKeys, SettledReceipt
from common.storage_receipts import RECEIPTS_MIN, Wanted, checked
from common.store import Effect, Tx
from common.units import BlockHeight, Did, Florins, Hash32, UnixMs, tax_of
from common.work import JOB_BYTES_MAX, JobSpec, job_hash, output_hash_of
from dux_taskd import model, rules_seller
from dux_taskd.considering import Considering
from dux_taskd.desk import Desk
from dux_taskd.executor import Executor
from dux_taskd.materials import Materials, WrongMaterial
from dux_taskd.model import FoundFaulty, Leg, Opened, Proposed, RanAgain, Refused, ReRun, Task
from dux_taskd.results import Delivery, NotAsPromised, Results
from dux_taskd.sandbox.model import Ended
from dux_taskd.stage_rules import BeginStage
from dux_taskd.stages import StageDesk
from dux_taskd.store import TaskStore

OPEN_ATTEMPTS_MAX = 9  # about two minutes of growing pauses; then it counts as not delivered
RERUN_ATTEMPTS_MAX = 4
HOLDERS_MAX = 4  # receipts that a statement has room for
HOLD_TRIES = 2  # more, where holders are away; then the result is delivered with what there is


class Effects:
    """Performs taskd's orders."""

    def __init__(
        self,
        *,
        neighbours: Neighbours,
        network: NetworkProfile,
        store: TaskStore,
        desk: Desk,
        executor: Executor,
        considering: Considering,
        stages: StageDesk,
        hold_s: int,
    ) -> None:
        self._escrowd, self._registryd = neighbours("escrowd"), neighbours("registryd")
        self._stored, self._flopd = neighbours("stored"), neighbours("flopd")
        self._peers = Peers(neighbours("p2pd"))
        self._network, self._store, self._desk, self._executor = network, store, desk, executor
        self._considering, self._stages, self._hold_s = considering, stages, hold_s
        self._results = Results(self._peers)
        self._materials = Materials(self._peers, store)
        self._table: dict[str, tuple[type[Any], Callable[[Any, Effect], Awaitable[None]]]] = {
            "Propose": (model.Propose, self._propose),
            "OpenResult": (model.OpenResult, self._open_result),
            "RunAgain": (model.RunAgain, self._run_again),
            "JudgeLeg": (model.JudgeLeg, self._judge),
            "CancelLeg": (model.CancelLeg, self._cancel),
            "Consider": (model.Consider, self._consider),
            "GiveQuote": (model.GiveQuote, self._quote),
            "HandOver": (model.HandOver, self._hand_over),
            "GiveBack": (model.GiveBack, self._give_back),
            "CastVote": (model.CastVote, self._vote),
            "SignReceipt": (model.SignReceipt, self._sign_receipt),
            "BeginStage": (BeginStage, lambda order, _effect: self._stages.perform(order)),
        }

    async def perform(self, effect: Effect) -> None:
        """Do what the order says.

        Raises:
            NotNow, Unavailable: again later. DuxError: it will never work; `refused` says what that means.
        """
        kind, act = self._table[effect.kind]
        await act(from_json(effect.body, kind), effect)

    def refused(self, tx: Tx, effect: Effect, error: DuxError) -> None:
        """An order that a neighbour calls wrong: the task or assignment goes on without it."""
        order = from_json(effect.body, self._table[effect.kind][0])
        if isinstance(order, model.Propose):
            self._desk.take(tx, order.task_id, Refused(leg=order.leg, reason=error.message))
        elif isinstance(order, model.OpenResult):
            self._desk.take(tx, order.task_id, FoundFaulty(leg=order.leg, reason=error.message))
        elif isinstance(order, model.RunAgain):
            nothing = ReRun(output_hash=b"", reason=error.message)
            self._desk.take(tx, order.task_id, RanAgain(rerun=nothing))
        elif isinstance(order, BeginStage):
            self._stages.refused(tx, order, error.message)
        elif isinstance(order, model.Consider):
            self._desk.seller(tx, order.contract_id, lambda a: rules_seller.on_decided(a, error.message))

    # Buyer.

    async def _propose(self, order: model.Propose, effect: Effect) -> None:
        task, leg = self._leg(order.task_id, order.leg)
        if leg.state is not model.LegState.NEW:
            return
        job = from_canonical(leg.plan.job, JobSpec, max_bytes=JOB_BYTES_MAX)
        is_main = leg.plan.kind is model.LegKind.MAIN
        wish = escrow.Propose(
            request_id=effect.effect_id,
            seller=leg.plan.worker,
            service_id=leg.plan.service_id,
            job=leg.plan.job,
            job_hash=bytes(job_hash(job)),
            price_florins=leg.plan.price_florins,
            arbiters=tuple(did for did in task.arbiters if did not in (task.buyer, leg.plan.worker)),
            arbiters_needed=arbiters_needed_for(leg.plan.price_florins),
            deliver_blocks=task.deliver_blocks,
            result_lock=leg.plan.result_lock,
            policy=task.policy if is_main else "standby",
            swap_limit_florins=task.swap_limit_florins if is_main else Florins(0),
            lots=task.lots if is_main else None,
            royalty=await self._royalty(leg.plan),
        )
        answer = await self._escrowd.call(escrow.PROPOSE, wish)
        self._take(task.task_id, Proposed(leg=leg.number, contract_id=answer.contract_id))

    async def _royalty(self, plan: model.Plan) -> escrow.RoyaltyWish | None:
        """Where the service's developer is paid its share: at the address of its own node record.

        Raises:
            NotFound: that node is not known here, so nobody can be paid.
        """
        if not plan.royalty_bps:
            return None
        asked = registry.NodeName(node_id=plan.developer)
        node = await self._registryd.call(registry.NODE_SHOW, asked)
        script = address_to_script(node.wallet_address, family_named(self._network.chain))
        return escrow.RoyaltyWish(developer=Did(plan.developer), payout_script=script, bps=plan.royalty_bps)

    async def _open_result(self, order: model.OpenResult, effect: Effect) -> None:
        task, leg = self._leg(order.task_id, order.leg)
        job = from_canonical(leg.plan.job, JobSpec, max_bytes=JOB_BYTES_MAX)
        delivery = Delivery(
            contract_id=leg.contract_id,
            worker=leg.plan.worker,
            ciphertext_blob=leg.ciphertext_blob,
            commitment=leg.commitment,
            work_receipt=leg.work_receipt,
            holders=leg.holders,
            content_key=leg.content_key,
        )
        fact: model.Fact
        try:
            found = await self._results.open(delivery, job)
            blob = await self._peers.put_blob(found.output) if leg.plan.kind is model.LegKind.MAIN else ""
            fact = Opened(leg=leg.number, output_hash=bytes(found.output_hash), output_blob=blob)
        except NotAsPromised as error:
            fact = FoundFaulty(leg=leg.number, reason=str(error))
        except BlobMissing:
            if effect.attempts < OPEN_ATTEMPTS_MAX:
                raise
            fact = FoundFaulty(leg=leg.number, reason="nobody who promised to keep the result gives it")
        self._take(task.task_id, fact)

    async def _run_again(self, order: model.RunAgain, effect: Effect) -> None:
        """The buyer's own run of the job: a hash, or why there is none."""
        task = self._task(order.task_id)
        main = next(leg for leg in reversed(task.legs) if leg.plan.kind is model.LegKind.MAIN)
        job = from_canonical(main.plan.job, JobSpec, max_bytes=JOB_BYTES_MAX)
        try:
            package, data = await self._materials.gather(job, [main.plan.worker, task.buyer])
            outcome = await self._executor.execute(job, package, data, lambda _: None)
        except (WrongMaterial, DuxError) as error:
            passing = isinstance(error, NotNow | Unavailable) and not isinstance(error, KindNotOffered)
            if passing and effect.attempts < RERUN_ATTEMPTS_MAX:
                raise
            rerun = ReRun(output_hash=b"", reason=str(error))
        else:
            done = outcome.ended is Ended.DONE
            rerun = ReRun(output_hash=bytes(output_hash_of(outcome.output)) if done else b"", reason=outcome.detail)
        self._take(task.task_id, RanAgain(rerun=rerun))

    async def _judge(self, order: model.JudgeLeg, effect: Effect) -> None:
        _, leg = self._leg(order.task_id, order.leg)
        wish = escrow.Judge(
            request_id=effect.effect_id,
            contract_id=leg.contract_id,
            good=order.good,
            reason=order.reason[: escrow.REASON_CHARS_MAX],
            evidence=order.evidence,
        )
        await self._escrowd.call(escrow.JUDGE, wish)

    async def _cancel(self, order: model.CancelLeg, effect: Effect) -> None:
        _, leg = self._leg(order.task_id, order.leg)
        if leg.contract_id:
            wish = escrow.Cancel(request_id=effect.effect_id, contract_id=leg.contract_id)
            await self._escrowd.call(escrow.CANCEL, wish)

    # Seller.

    async def _consider(self, order: model.Consider, _effect: Effect) -> None:
        offer = self._assignment(order.contract_id)
        if offer.state is not model.JobState.OFFERED:
            return
        fault = await self._considering.fault(offer)
        with self._store.store.transaction() as tx:
            self._desk.seller(tx, order.contract_id, lambda a: rules_seller.on_decided(a, fault))

    async def _quote(self, order: model.GiveQuote, effect: Effect) -> None:
        wish = escrow.Quote(
            request_id=effect.effect_id,
            contract_id=order.contract_id,
            accept=order.accept,
            reason=order.reason[: escrow.REASON_CHARS_MAX],
        )
        await self._escrowd.call(escrow.QUOTE, wish)

    async def _hand_over(self, order: model.HandOver, effect: Effect) -> None:
        """Ask the contract's other nodes to keep the ciphertext, then deliver with those of their receipts that count.

        Raises:
            TooFewHolders: fewer than evidence wants; after some tries it is delivered with what there is.
        """
        done = self._assignment(order.contract_id)
        view = await self._escrowd.call(escrow.SHOW, escrow.ContractRef(contract_id=order.contract_id))
        holders = [did for did in (view.buyer, *view.arbiters) if did != view.seller]
        hold = BlobHold(
            request_id=f"{effect.effect_id}/hold/{effect.attempts}",
            id=done.ciphertext_blob,
            holders=holders,
            until_height=BlockHeight(view.heights.timeout if view.heights else 0),
            keep_s=self._hold_s,
        )
        held = await self._kept(hold, view)
        wanted = min(RECEIPTS_MIN, len(holders))
        if len(held) < wanted and effect.attempts < HOLD_TRIES:
            raise TooFewHolders(held=len(held), wanted=wanted, contract_id=order.contract_id)
        wish = escrow.Deliver(
            request_id=effect.effect_id,
            contract_id=order.contract_id,
            ciphertext_blob=done.ciphertext_blob,
            output_commitment=done.commitment,
            receipts=tuple(receipt for _, receipt in held[:HOLDERS_MAX]),
            holders=(view.seller, *(did for did, _ in held[:HOLDERS_MAX])),
            work_receipt=done.work_receipt,
        )
        await self._escrowd.call(escrow.DELIVER, wish)

    async def _kept(self, hold: BlobHold, view: ContractView) -> list[tuple[Did, bytes]]:
        """Who keeps it, with a receipt that counts."""
        said = [one.receipt for one in (await self._peers.hold_blob(hold)).holders if one.receipt is not None]
        wanted = Wanted(blob=hold.id, until_height=int(hold.until_height), deliverer=view.seller)
        found = zip(await checked(self._peers, said, wanted), said, strict=True)
        return [(item.holder, data) for item, data in found if not item.fault]

    async def _give_back(self, order: model.GiveBack, effect: Effect) -> None:
        wish = escrow.Cancel(request_id=effect.effect_id, contract_id=order.contract_id)
        await self._escrowd.call(escrow.CANCEL, wish)

    # Arbiter.

    async def _vote(self, order: model.CastVote, effect: Effect) -> None:
        wish = escrow.Vote(
            request_id=effect.effect_id,
            contract_id=order.contract_id,
            gross_florins=order.gross_florins,
            reason=order.reason[: escrow.REASON_CHARS_MAX],
        )
        await self._escrowd.call(escrow.VOTE, wish)

    # All.

    async def _sign_receipt(self, order: model.SignReceipt, effect: Effect) -> None:
        """Sign how the contract ended, keep the receipt, hand it to the registry and to the store's counter."""
        own = (await self._peers.info()).did
        if order.role == "arbiter" and own not in self._network.arbiters:
            return
        receipt = await self._with_key(settled_receipt(order, own, self._network), order.role)
        by = await self._peers.sign(Purpose.SETTLED_RECEIPT, receipt)
        signed = canonical(Attested(body=canonical(receipt), did=by.did, key_seq=by.key_seq, signature=by.signature))
        with self._store.store.transaction() as tx:
            self._store.keep_receipt(tx, order.contract_id, signed)
        submit = registry.SubmitReceipt(request_id=effect.effect_id, receipt=signed)
        await self._registryd.call(registry.REPUTATION_SUBMIT, submit)
        if order.role != "arbiter":
            await self._thank(order, effect.effect_id)
            await self._touch(effect.effect_id, signed)

    async def _with_key(self, receipt: SettledReceipt, role: str) -> SettledReceipt:
        """A party's receipt under its coin key of the contract; without, where the wallet knows of no such contract.

        Raises:
            NotNow, Unavailable: the wallet is shut or away; its word is worth waiting for.
        """
        if role == "arbiter":
            return receipt
        try:
            word = await self._flopd.call(CONTRACT_VOUCH, VouchContract(cid=receipt.cid.hex()))
        except (NotFound, NotAgreed):  # a wallet that was restored from its phrase alone
            return receipt
        lot = LotKeys(buyer=word.buyer_key, seller=word.seller_key)
        return KeyedReceipt(**structs.asdict(receipt), lot=lot, lot_signature=word.signature)

    async def _thank(self, order: model.SignReceipt, request_id: str) -> None:
        """A party's word for the arbiters who voted: what their duty is counted by."""
        for seat, arbiter in enumerate(order.voted):
            had = ServiceHad(request_id=f"{request_id}/{seat}", service="vote", server=arbiter, amount=1)
            try:
                await self._registryd.call(SERVICE_HAD, had)
            except ServiceNotTaken:  # never heard of here, or of another day: there is nothing to wait for
                continue

    async def _touch(self, request_id: str, signed: bytes) -> None:
        touch = store_contract.TouchReceipt(request_id=request_id, receipt=signed)
        try:
            await self._stored.call(store_contract.SERVICE_TOUCH, touch)
        except (NotFound, store_contract.BadRating):
            return  # a service that the store does not know has no counter

    # Reading.

    def _take(self, task_id: str, fact: model.Fact) -> None:
        with self._store.store.transaction() as tx:
            self._desk.take(tx, task_id, fact)

    def _task(self, task_id: str) -> Task:
        task = self._store.task(task_id)
        if task is None:
            raise NotFound(what="task", name=task_id)
        return task

    def _leg(self, task_id: str, number: int) -> tuple[Task, Leg]:
        task = self._task(task_id)
        return task, task.legs[number]

    def _assignment(self, contract_id: str) -> model.Assignment:
        found = self._store.assignment(contract_id)
        if found is None:
            raise NotFound(what="assignment", name=contract_id)
        return found


def _tax_of(settlement: Settlement, network: NetworkProfile) -> Florins:
    """The tax by the rate that the contract was made under: an earlier set's, where that is what was paid."""
    taxes = {tax_of(settlement.gross_florins, bps) for bps in network.taxes_bps}
    paid = settlement.fund_florins
    return paid if paid in taxes else tax_of(settlement.gross_florins, network.tax_bps)


def settled_receipt(order: model.SignReceipt, signer: Did, network: NetworkProfile) -> SettledReceipt:
    """The receipt of a closed contract, the same whenever it is made."""
    settlement = order.settlement
    return SettledReceipt(
        network=network.genesis,
        cid=bytes.fromhex(order.cid),
        buyer=order.buyer,
        seller=order.seller,
        service_id=order.service_id,
        price_florins=order.price_florins,
        gross_florins=settlement.gross_florins,
        tax_florins=_tax_of(settlement, network),
        txid=settlement.txid,
        height=BlockHeight(settlement.height or 0),
        outcome=settlement.outcome,
        output_hash=bytes(Hash32(order.output_hash)),
        signer=signer,
        at_ms=UnixMs(order.at_ms),
    )

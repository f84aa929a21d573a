"""contract.*: keys for lots, the agreed contract, its funding, and signatures on ways out that are rebuilt here."""

from __future__ import annotations

from msgspec import structs

from common.chain.contract import (
    CONTRACT_BYTES_MAX,
    Contract,
    lot_output_script,
    lot_value,
    result_hash_of,
)
from common.chain.settle import assemble, judge, lot_digest, signature_is_right
from common.chain.templates import Award, Template, build, rungs_of
from common.chain.tx import Outpoint, TxOutput, serialize, txid
from common.chain.tx import Tx as CoinTx
from common.codec import canonical, from_canonical
from common.contracts.wallet_contract import (
    CONTRACT_ADOPT,
    CONTRACT_CHECK,
    CONTRACT_FUND,
    CONTRACT_NEW_KEY,
    CONTRACT_RESULT_LOCK,
    CONTRACT_REVEAL,
    CONTRACT_SETTLE,
    CONTRACT_SIGN,
    CONTRACT_VOUCH,
    AdoptContract,
    Adopted,
    CheckSignatures,
    ContractFunded,
    ContractKey,
    ContractSignatures,
    FundContract,
    NewContractKey,
    PartyWord,
    Preimage,
    ResultLock,
    ResultLockAsked,
    RevealKey,
    SettleContract,
    Settled,
    SignContract,
    Verdict,
    VouchContract,
)
from common.contracts.wallet_errors import ContractUnknown, NotAgreed
from common.errors import BadParams
from common.network import NetworkProfile
from common.receipt_keys import contract_word, word_digest
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Florins
from dux_flopd.contract_rules import (
    check_depth,
    check_time,
    may_show_key,
    signs,
)
from dux_flopd.lot_part import LotPart
from dux_flopd.model import Coin, ContractRow, NewPayment, PaymentKind
from dux_flopd.rules import check_limits, check_nonce
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet


class ContractMethods:
    """Handlers of contract.*."""

    def __init__(self, wallet: Wallet, scanner: Scanner, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._view = wallet.view
        self._keys = wallet.keyring
        self._scanner = scanner
        self._part = LotPart(wallet, network)

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CONTRACT_NEW_KEY, self.new_key)
        table.serve(CONTRACT_RESULT_LOCK, self.result_lock)
        table.serve(CONTRACT_ADOPT, self.adopt)
        table.serve(CONTRACT_FUND, self.fund)
        table.serve(CONTRACT_SIGN, self.sign)
        table.serve(CONTRACT_CHECK, self.check)
        table.serve(CONTRACT_SETTLE, self.settle)
        table.serve(CONTRACT_REVEAL, self.reveal)
        table.serve(CONTRACT_VOUCH, self.vouch)

    async def new_key(self, params: NewContractKey, ctx: Ctx) -> ContractKey:
        """A key for one lot, and the payout script of the same number. The same nonce gets the same key."""
        check_nonce(params.nonce)
        with self._store.store.transaction() as tx:
            index = self._wallet.bound_key(tx, params.purpose, params.nonce, "payout")
            answer = ContractKey(
                index=index, pubkey=self._keys.contract_public(index), payout_script=self._keys.payout_script(index)
            )
            ctx.remember(tx, answer)
        return answer

    async def result_lock(self, params: ResultLockAsked, _ctx: Ctx) -> ResultLock:
        """H of the result key that the nonce leads to."""
        check_nonce(params.nonce)
        return ResultLock(result_hash=result_hash_of(self._keys.result_key(params.nonce, params.lot)))

    async def adopt(self, params: AdoptContract, ctx: Ctx) -> Adopted:
        """Take part in a contract: every law, our network, our key, our limits."""
        key = self._store.contract_key_at(params.key_index)
        contract = self._part.checked(params.contract, params.role, params.key_index, key)
        with self._store.store.transaction() as tx:
            if params.role == "buyer":
                spent = self._store.spent_since(tx, ctx.caller, contract.seller.did)
                check_limits(self._wallet.settings, int(lot_value(contract)), spent, ctx.caller)
            answer = self._part.take(tx, contract, params.contract, params.role, params.key_index)
            tx.audit("contract adopted", {"cid": answer.cid, "role": params.role, "caller": ctx.caller})
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

    async def fund(self, params: FundContract, ctx: Ctx) -> ContractFunded:
        """Pay the lot once: a repetition, under any request_id, is told of the first payment.

        Also of one that this wallet's books do not know, because they are an older backup's: it lies on the scripts.
        """
        row, contract = self._contract(params.cid)
        lots = [self._fundable(cid) for cid in (params.cid, *params.together)]
        if any(lot.seller.did != contract.seller.did for lot in lots) or len({*params.together, params.cid}) != len(
            lots
        ):
            raise NotAgreed(reason="lots that are funded together are different ones of one seller")
        earlier = self._store.live_payment(row.cid, PaymentKind.FUND_LOT)
        if earlier is not None:
            return ContractFunded(txid=earlier.txid, vout=0, fee_florins=Florins(earlier.fee))
        there = [self._view.store.paid_on(lot_output_script(lot), int(lot_value(lot))) for lot in lots]
        if there[0] is not None and all(there):
            return ContractFunded(txid=there[0].outpoint.txid, vout=there[0].outpoint.vout, fee_florins=Florins(0))
        fund_by = min(lot.heights.fund_by for lot in lots)
        if self._view.height >= fund_by:
            raise NotAgreed(reason=f"the tip {self._view.height} has reached fund_by {fund_by}")
        with self._store.store.transaction() as tx:
            payment = self._wallet.pay(
                tx,
                *(TxOutput(lot_value(lot), lot_output_script(lot)) for lot in lots),
                kind=PaymentKind.FUND_LOT,
                request_id=params.request_id,
                caller=ctx.caller,
                counterparty=contract.seller.did,
                contract_id=row.cid,
            )
            answer = ContractFunded(txid=payment.txid, vout=0, fee_florins=Florins(payment.fee))
            ctx.remember(tx, answer)
        return answer

    def _fundable(self, name: str) -> Contract:
        row, contract = self._contract(name)
        if row.role != "buyer":
            raise NotAgreed(reason=f"this wallet is the {row.role}; only the buyer's funds the lot")
        return contract

    async def sign(self, params: SignContract, ctx: Ctx) -> ContractSignatures:
        """Sign the way out at the first rungs of the fee ladder."""
        row, contract = self._contract(params.cid)
        coin = self._lot_coin(contract, params.outpoint)
        self._check_signable(row, contract, params.template, coin)
        if not 1 <= params.rungs <= rungs_of(contract, params.outpoint, coin.value, params.template):
            raise BadParams(detail="rungs: the fee of the highest would be more than 5 % of what it pays out")
        built = [build(contract, params.outpoint, coin.value, params.template, rung) for rung in range(params.rungs)]
        signatures = [self._keys.sign_contract(row.key_index, lot_digest(contract, tx)) for tx in built]
        answer = ContractSignatures(pubkey=self._keys.contract_public(row.key_index), signatures=signatures)
        with self._store.store.transaction() as tx:
            self._note_award(tx, row, params.outpoint, params.template)
            tx.audit("contract signed", {"cid": row.cid, "role": row.role, "template": type(params.template).__name__})
            ctx.remember(tx, answer)
        return answer

    async def check(self, params: CheckSignatures, _ctx: Ctx) -> Verdict:
        """Whether another's signatures fit the way out as it is built here."""
        _row, contract = self._contract(params.cid)
        value = int(params.value_florins)
        built = [build(contract, params.outpoint, value, params.template, at) for at in range(len(params.signatures))]
        pairs = zip(built, params.signatures, strict=True)
        fits = bool(built) and all(signature_is_right(contract, tx, params.pubkey, sig) for tx, sig in pairs)
        return Verdict(valid=fits)

    async def settle(self, params: SettleContract, ctx: Ctx) -> Settled:
        """Complete, judge, store and broadcast a way out."""
        row, contract = self._contract(params.cid)
        coin = self._lot_coin(contract, params.outpoint)
        self._check_signable(row, contract, params.template, coin)
        check_time(contract, params.template, row.role, self._view.height)
        full = self._complete(row, contract, coin, params)
        judge(contract, full, coin.value)
        fee = coin.value - int(full.paid_florins)
        answer = Settled(txid=txid(full), raw=serialize(full), outputs=list(full.outputs), fee_florins=Florins(fee))
        with self._store.store.transaction() as tx:
            self._store.add_payment(tx, _settlement(answer, row.cid, params, ctx.caller))
            tx.audit("contract settled", {"cid": row.cid, "txid": answer.txid, "role": row.role})
            ctx.remember(tx, answer)
        return answer

    async def reveal(self, params: RevealKey, _ctx: Ctx) -> Preimage:
        """K, for the seller's own escrowd."""
        row, contract = self._contract(params.cid)
        if row.role != "seller":
            raise NotAgreed(reason=f"this wallet is the {row.role}; K is the seller's")
        return Preimage(preimage=self._keys.result_key(contract.seller.nonce, params.lot))

    async def vouch(self, params: VouchContract, _ctx: Ctx) -> PartyWord:
        """Who the parties are, as the contract itself says it: a caller names no DID and no bytes to be signed."""
        row, contract = self._contract(params.cid)
        if row.role not in ("buyer", "seller"):
            raise NotAgreed(reason=f"this wallet is the {row.role}; buyer and seller tell whose contract it is")
        word = contract_word(contract)
        signature = self._keys.sign_contract(row.key_index, word_digest(word))
        with self._store.store.transaction() as tx:
            tx.audit("contract vouched for", {"cid": row.cid, "role": row.role})
        return PartyWord(buyer_key=word.lot.buyer, seller_key=word.lot.seller, signature=signature)

    def _contract(self, name: str) -> tuple[ContractRow, Contract]:
        row = self._store.contract(name)
        if row is None:
            raise ContractUnknown(what="adopted contract", name=name, cid=name)
        return row, from_canonical(row.body, Contract, max_bytes=CONTRACT_BYTES_MAX)

    def _lot_coin(self, contract: Contract, outpoint: Outpoint) -> Coin:
        coin = self._view.store.coin(outpoint)
        if coin is None or coin.script != lot_output_script(contract):
            raise NotAgreed(reason=f"{outpoint} is no output on this contract's script that the chain view knows")
        return coin

    def _check_signable(self, row: ContractRow, contract: Contract, template: Template, coin: Coin) -> None:
        if not signs(template, row.role):
            raise NotAgreed(reason=f"a {type(template).__name__.lower()} does not take the {row.role}'s signature")
        check_depth(contract, template, str(coin.outpoint), coin.height, self._view.height)

    def _note_award(self, tx: Tx, row: ContractRow, outpoint: Outpoint, template: Template) -> None:
        if row.role != "arbiter" or not isinstance(template, Award):
            return
        # Whoever revealed a vote may be known to one arbiter and not yet to another: only the verdict binds.
        wanted = canonical(structs.replace(template, revealed=()))
        if self._store.signed_award(tx, row.cid, outpoint, wanted) != wanted:
            raise NotAgreed(reason="this wallet has signed another award for this outpoint; two would prove a fault")

    def _complete(self, row: ContractRow, contract: Contract, coin: Coin, params: SettleContract) -> CoinTx:
        tx = build(contract, params.outpoint, coin.value, params.template, params.rung)
        signatures = {item.pubkey: item.signature for item in params.signatures}
        own = self._keys.sign_contract(row.key_index, lot_digest(contract, tx))
        signatures[self._keys.contract_public(row.key_index)] = own
        preimage = params.preimage
        if contract.result_hash and may_show_key(params.template, row.role):
            preimage = self._keys.result_key(contract.seller.nonce, 0)
        return assemble(contract, params.template, tx, signatures, preimage)


def _settlement(answer: Settled, name: str, params: SettleContract, caller: str) -> NewPayment:
    return NewPayment(
        txid=answer.txid,
        raw=answer.raw,
        kind=PaymentKind.SETTLE,
        request_id=params.request_id,
        caller=caller,
        counterparty="",
        amount=0,
        fee=int(answer.fee_florins),
        binds=(params.outpoint,),
        contract_id=name,
    )

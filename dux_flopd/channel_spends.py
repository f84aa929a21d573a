"""purse.close and purse.refund: the two ways out of a channel, with more fee when they do not confirm.

The payee's further fee comes from an own confirmed coin that is given to the miners whole, because the payer has signed
every output; where the chain has no replacement, or no coin fits, a child of the payee's output pays for its parent.
Source: channel_protocol.md §2 (what was measured on both chains), §3.
"""

from __future__ import annotations

from common.chain.channel import (
    ChannelTerms,
    channel_output_script,
    close_sig,
    is_state_signature,
    refund_fee,
    refund_sig,
    refund_tx,
    script_of,
    shares_of,
    state_digest,
    state_fee,
    state_tx,
    whole_digest,
)
from common.chain.fees import FEE_LADDER, fee_for, is_dust
from common.chain.script import key_sig
from common.chain.tx import Outpoint, TxInput, TxOutput, p2pkh_input_bytes, parse, serialize, sighash, size_with, txid
from common.chain.tx import Tx as CoinTx
from common.chain.verify import SpendRefused, verify_spend
from common.contracts.wallet_channel import PURSE_CLOSE, PURSE_REFUND, CloseWish, RefundWish, SpendMade
from common.contracts.wallet_errors import NotAgreed, TooEarly
from common.keygen import BRANCH_CHANGE, BRANCH_PAYOUT
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Florins
from dux_flopd.channel_methods import ChannelMethods
from dux_flopd.channel_rules import extra_fee, fee_coin
from dux_flopd.model import ContractRow, NewPayment, OwnCoin, PaymentKind
from dux_flopd.wallet import Wallet


class ChannelSpends:
    """Handlers of the ways out."""

    def __init__(self, wallet: Wallet, methods: ChannelMethods) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._view = wallet.view
        self._keys = wallet.keyring
        self._methods = methods

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(PURSE_CLOSE, self.close)
        table.serve(PURSE_REFUND, self.refund)

    async def close(self, params: CloseWish, ctx: Ctx) -> SpendMade:
        """Complete a state that the payer has signed."""
        row, terms = self._methods.channel(params.chid, "payee")
        value = self._methods.coin(terms, params.outpoint).value
        digest = state_digest(terms, params.outpoint, value, int(params.cum_florins), params.next_script)
        if not is_state_signature(terms.payer_key, digest, params.payer_sig):
            raise NotAgreed(reason="the payer's signature is not of this state")
        earned = shares_of(terms, value, int(params.cum_florins))[0]
        coin = self._fee_coin(terms, params.step, earned) if params.publish and params.step else None
        made = self._closed(row, terms, params, value, coin)
        with self._store.store.transaction() as tx:
            if params.publish:
                binds = (params.outpoint, coin.coin.outpoint) if coin else (params.outpoint,)
                self._keep(tx, row.cid, made, params.request_id, ctx.caller, binds)
            if params.publish and params.step and coin is None:
                made = self._child(tx, row, made, params, ctx.caller)
            ctx.remember(tx, made)
        return made

    def _fee_coin(self, terms: ChannelTerms, step: int, earned: int) -> OwnCoin | None:
        if not self._wallet.family.replaces:
            return None
        need = extra_fee(int(state_fee(terms)), step)
        maturity = self._wallet.family.maturity_blocks
        return fee_coin(self._store.unspent(), need, self._view.height, maturity, earned_florins=earned)

    def _closed(
        self, row: ContractRow, terms: ChannelTerms, params: CloseWish, value: int, coin: OwnCoin | None
    ) -> SpendMade:
        added = (coin.coin.outpoint,) if coin else ()
        cum = int(params.cum_florins)
        bare = state_tx(terms, params.outpoint, value, cum, next_script=params.next_script, fee_inputs=added)
        own = self._keys.sign_contract(row.key_index, whole_digest(terms, bare))
        scripts = [close_sig(script_of(terms), params.payer_sig, own)]
        spent = [TxOutput(Florins(value), channel_output_script(terms))]
        if coin is not None:
            scripts.append(self._key_sig(bare, 1, coin))
            spent.append(TxOutput(Florins(coin.coin.value), coin.coin.script))
        full = bare.signed(scripts)
        verify_spend(full, spent)
        return _made(full, spent, "replaced" if coin else "plain")

    def _key_sig(self, bare: CoinTx, at: int, coin: OwnCoin) -> bytes:
        digest = sighash(bare, at, coin.coin.script)
        signature = self._keys.sign_at(coin.branch, coin.index, digest)
        return key_sig(signature, self._keys.public(coin.branch, coin.index))

    def _child(self, tx: Tx, row: ContractRow, parent: SpendMade, params: CloseWish, caller: str) -> SpendMade:
        """A child of the payee's output that pays for both; without room for it, the parent alone."""
        paid = parse(parent.raw).outputs[0]
        size = size_with(
            CoinTx((TxInput(Outpoint(parent.txid, 0)),), (TxOutput(Florins(0), paid.script),)), [p2pkh_input_bytes()]
        )
        rate = self._wallet.settings.fee_rate_florins_per_kb
        fee = int(fee_for(size + len(parent.raw), rate)) * FEE_LADDER[min(params.step, len(FEE_LADDER) - 1)]
        rest = int(paid.value_florins) - fee
        if is_dust(rest) or paid.script != self._keys.payout_script(row.key_index):
            return parent
        output = TxOutput(Florins(rest), self._wallet.fresh(tx, BRANCH_CHANGE, "change").script)
        bare = CoinTx((TxInput(Outpoint(parent.txid, 0)),), (output,))
        signature = self._keys.sign_at(BRANCH_PAYOUT, row.key_index, sighash(bare, 0, paid.script))
        full = bare.signed([key_sig(signature, self._keys.public(BRANCH_PAYOUT, row.key_index))])
        made = _made(full, [paid], "child")
        try:
            verify_spend(full, [paid])
        except SpendRefused:
            return parent
        self._keep(tx, row.cid, made, f"{params.request_id}/child", caller, (Outpoint(parent.txid, 0),))
        return SpendMade(txid=parent.txid, raw=parent.raw, fee_florins=parent.fee_florins + fee, how="child")

    async def refund(self, params: RefundWish, ctx: Ctx) -> SpendMade:
        """Everything back to the payer."""
        row, terms = self._methods.channel(params.chid, "payer")
        value = self._methods.coin(terms, params.outpoint).value
        if self._view.height < terms.exp:
            raise TooEarly(height=terms.exp, tip=self._view.height)
        fee = int(refund_fee(terms)) * FEE_LADDER[min(params.step, len(FEE_LADDER) - 1)]
        bare = refund_tx(terms, params.outpoint, value, fee)
        own = self._keys.sign_contract(row.key_index, whole_digest(terms, bare))
        full = bare.signed([refund_sig(script_of(terms), own)])
        spent = [TxOutput(Florins(value), channel_output_script(terms))]
        verify_spend(full, spent)
        made = _made(full, spent, "plain")
        with self._store.store.transaction() as tx:
            self._keep(tx, row.cid, made, params.request_id, ctx.caller, (params.outpoint,))
            ctx.remember(tx, made)
        return made

    def _keep(
        self, tx: Tx, name: str, made: SpendMade, request_id: str, caller: str, binds: tuple[Outpoint, ...]
    ) -> None:
        payment = NewPayment(
            txid=made.txid,
            raw=made.raw,
            kind=PaymentKind.SETTLE,
            request_id=request_id,
            caller=caller,
            counterparty="",
            amount=0,
            fee=int(made.fee_florins),
            binds=binds,
            contract_id=name,
        )
        self._store.add_payment(tx, payment)
        tx.audit("channel settled", {"chid": name, "txid": made.txid, "how": made.how})


def _made(full: CoinTx, spent: list[TxOutput], how: str) -> SpendMade:
    fee = sum(int(output.value_florins) for output in spent) - int(full.paid_florins)
    return SpendMade(txid=txid(full), raw=serialize(full), fee_florins=Florins(fee), how=how)

"""fund.*: the custodian's key and its signatures on payouts whose inputs this wallet knows to be the fund's.

Who is paid is airdropd's to recompute; that nothing but the fund's own confirmed coins is spent, on this network, is
checked here.
"""

from __future__ import annotations

from common.ceremony import CeremonyPlan, FundClaim, FundWord, claim_digest, plan_id
from common.chain.address import pay_to_script, script_to_address
from common.chain.fund import (
    PAYOUT_BYTES_MAX,
    FundPayout,
    assemble_payout,
    fund_redeem_script,
    payout_digests,
)
from common.chain.params import family_named
from common.chain.tx import serialize, txid
from common.codec import canonical, from_canonical
from common.community_fund import fund_scripts_of, vault_script_of
from common.contracts.wallet_contract import (
    FUND_COINS,
    FUND_KEY,
    FUND_PROVE,
    FUND_SETTLE,
    FUND_SIGN,
    FundCoins,
    FundKey,
    KeyProven,
    PayoutSent,
    PayoutSignatures,
    ProveKey,
    SettlePayout,
    SignPayout,
)
from common.contracts.wallet_errors import KeyNotOurs, NotAgreed
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Florins
from dux_flopd.chain_methods import coin_view
from dux_flopd.model import NewPayment, PaymentKind
from dux_flopd.wallet import Wallet

PLAN_BYTES_MAX = 8_192


class FundMethods:
    """Handlers of fund.*."""

    def __init__(self, wallet: Wallet, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._network = network

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(FUND_KEY, self.key)
        table.serve(FUND_COINS, self.coins)
        table.serve(FUND_PROVE, self.prove)
        table.serve(FUND_SIGN, self.sign)
        table.serve(FUND_SETTLE, self.settle)

    async def key(self, _params: Empty, _ctx: Ctx) -> FundKey:
        """This node's custodian key."""
        return FundKey(pubkey=self._wallet.keyring.fund_public())

    async def coins(self, _params: Empty, _ctx: Ctx) -> FundCoins:
        """The fund's unspent coins."""
        script, store = vault_script_of(self._network.fund), self._wallet.view.store
        views = [coin_view(store, coin) for coin in store.coins_on(script)]
        unspent = [view for view in views if view.spend is None]
        confirmed = sum(int(view.value_florins) for view in unspent if view.height is not None)
        return FundCoins(
            script=script,
            address=script_to_address(script, family_named(self._network.chain)) or "",
            coins=unspent,
            confirmed_florins=Florins(confirmed),
            pending_florins=Florins(sum(int(view.value_florins) for view in unspent) - confirmed),
            tip=BlockHeight(self._wallet.view.height),
        )

    async def sign(self, params: SignPayout, ctx: Ctx) -> PayoutSignatures:
        """Sign every input of a payout, after the wallet rebuilt it."""
        payout, keys = self._payout(params.payout), self._wallet.keyring
        number = keys.fund_number(payout.pubkeys)
        if number is None:
            raise KeyNotOurs(reason="this node's fund key is not among the custodians'")
        signatures = [keys.sign_fund(digest, number) for digest in payout_digests(payout)]
        answer = PayoutSignatures(pubkey=keys.fund_public(number), signatures=signatures)
        with self._wallet.store.store.transaction() as tx:
            tx.audit("payout signed", {"purpose": payout.purpose, "inputs": len(payout.inputs)})
            ctx.remember(tx, answer)
        return answer

    async def prove(self, params: ProveKey, _ctx: Ctx) -> KeyProven:
        """A word in a key ceremony, built here and signed with the key that the plan names."""
        plan, keys = from_canonical(params.plan, CeremonyPlan, max_bytes=PLAN_BYTES_MAX), self._wallet.keyring
        if plan.network != self._network.genesis:
            raise NotAgreed(reason="the ceremony is of another network")
        pubkey = keys.fund_public(plan.key_number)
        claim = FundClaim(plan_id(plan), params.did, pubkey, params.script)
        signature = keys.sign_fund(claim_digest(claim), plan.key_number)
        return KeyProven(word=canonical(FundWord(claim, signature)))

    async def settle(self, params: SettlePayout, ctx: Ctx) -> PayoutSent:
        """Complete a payout and hand it to the network."""
        payout = self._payout(params.payout)
        full = assemble_payout(payout, {item.pubkey: tuple(item.signatures) for item in params.signatures})
        fee = sum(int(item.value_florins) for item in payout.inputs) - int(full.paid_florins)
        payment = NewPayment(
            txid=txid(full),
            raw=serialize(full),
            kind=PaymentKind.PAYOUT,
            request_id=params.request_id,
            caller=ctx.caller,
            counterparty=payout.purpose,
            amount=0,
            fee=fee,
            binds=tuple(item.outpoint for item in payout.inputs),
            contract_id="",
        )
        answer = PayoutSent(txid=payment.txid, fee_florins=Florins(fee))
        with self._wallet.store.store.transaction() as tx:
            self._wallet.store.add_payment(tx, payment)
            tx.audit("payout settled", {"purpose": payout.purpose, "txid": payment.txid})
            ctx.remember(tx, answer)
        return answer

    def _payout(self, data: bytes) -> FundPayout:
        """A payout of the fund, or a sweep into it, whose inputs this wallet's own chain shows."""
        payout, fund = from_canonical(data, FundPayout, max_bytes=PAYOUT_BYTES_MAX), self._network.fund
        script = pay_to_script(fund_redeem_script(payout.needed, payout.pubkeys))
        if payout.network != self._network.genesis:
            raise NotAgreed(reason="the payout is for another network")
        if script not in fund_scripts_of(fund):
            raise NotAgreed(reason="the payout does not spend this network's fund")
        vault = vault_script_of(fund)
        if script != vault and [output.script for output in payout.outputs] != [vault]:
            raise NotAgreed(reason="what lies on collectors and with earlier custodians goes to the fund, whole")
        for item in payout.inputs:
            coin = self._wallet.view.store.coin(item.outpoint)
            known = coin is not None and coin.script == script and coin.height is not None
            if not known or coin is None or coin.value != int(item.value_florins):
                raise NotAgreed(reason=f"{item.outpoint} is no confirmed coin of the fund with that value")
        return payout

"""wallet.bump, wallet.sweep, wallet.limits: what an owner does with payments beside sending them."""

from __future__ import annotations

from common.accounts import ACCOUNT_SHIFT
from common.chain.address import pay_to_key, script_to_address
from common.chain.fees import SIGNATURE_BYTES_MAX, fee_for, is_dust
from common.chain.key_text import ForeignKey, read_wif
from common.chain.script import key_sig
from common.chain.tx import (
    HASH_TYPE_ALL,
    Outpoint,
    TxInput,
    TxOutput,
    check_size,
    parse,
    serialize,
    sighash,
    size_with,
    txid,
)
from common.chain.tx import Tx as CoinTx
from common.chain.verify import verify_spend
from common.contracts.wallet import WALLET_BUMP, WALLET_LIMITS, WALLET_SWEEP
from common.contracts.wallet_bump import Bump, Bumped, Limits, LimitView, Sweep, Swept
from common.contracts.wallet_errors import BumpRefused, NothingToSweep
from common.keygen import BRANCH_CHANGE, BRANCH_RECEIVE
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Florins
from dux_flopd.bump_rules import RATE_FACTOR, How, Paid, child, free_coins, replacement, ways
from dux_flopd.chain_methods import ChainMethods
from dux_flopd.model import Coin, NewPayment, OwnCoin, PaymentKind, StoredPayment
from dux_flopd.rules import INPUTS_MAX, limit_list, own_limit
from dux_flopd.store import DAY_MS
from dux_flopd.wallet import Wallet


class BumpMethods:
    """Handlers of payments that need more than a send."""

    def __init__(self, wallet: Wallet, chain: ChainMethods) -> None:
        self._wallet = wallet
        self._chain = chain

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_BUMP, self.bump)
        table.serve(WALLET_SWEEP, self.sweep)
        table.serve(WALLET_LIMITS, self.limits)

    async def bump(self, params: Bump, ctx: Ctx) -> Bumped:
        """Speed up what waits, by the first way that is open or the one that was asked for."""
        wallet, found = self._wallet, self._wallet.view.store.raw_tx(params.txid)
        payment = wallet.store.payment(params.txid)
        _check_waits(params.txid, found, payment)
        raw = found[0] if found else payment.raw if payment else b""
        how = self._way(params, payment, raw)
        rate = params.fee_rate_florins_per_kb or RATE_FACTOR * wallet.settings.fee_rate_florins_per_kb
        with wallet.store.store.transaction() as tx:
            if how == "replace" and payment is not None:
                made = self._replaced(tx, payment, rate, params.request_id, ctx.caller)
                wallet.decide(tx, made)
                wallet.store.replace(tx, payment.txid, made.txid)
            else:
                made = self._child(tx, params, raw, payment.fee if payment else 0, rate, ctx.caller)
                wallet.decide(tx, made)
            answer = Bumped(txid=made.txid, how=how, fee_florins=Florins(made.fee))
            ctx.remember(tx, answer)
        return answer

    def _way(self, params: Bump, payment: StoredPayment | None, raw: bytes) -> How:
        own = self._outputs_of(params.txid, raw)
        spent = any(self._wallet.view.store.spend_of(owned.coin.outpoint) or owned.is_locked for owned in own)
        is_send = payment is not None and payment.kind == PaymentKind.SEND
        is_send = is_send and bool(self._wallet.store.coins_of(params.txid))
        open_ways = ways(
            is_send=is_send, replaces=self._wallet.family.replaces, has_own_outputs=bool(own), is_spent=spent
        )
        fitting = [way for way in open_ways if params.how in ("auto", way)]
        if not fitting:
            reason = "nodes of this coin replace nothing, or it is no payment of this wallet's own making"
            if params.how != "replace":
                reason = "it gives nothing back to this wallet that a child could spend"
            raise BumpRefused(txid=params.txid, reason="its change is spent already" if spent else reason)
        return fitting[0]

    def _outputs_of(self, name: str, raw: bytes) -> list[OwnCoin]:
        """The own outputs of a waiting transaction, also before the view has seen it."""
        found = []
        for vout, output in enumerate(parse(raw).outputs):
            place, point = self._wallet.store.own_place(output.script), Outpoint(name, vout)
            if place is not None:
                coin = Coin(point, output.script, int(output.value_florins), None, 0, is_coinbase=False)
                found.append(OwnCoin(coin, *place, is_locked=self._wallet.store.is_bound(point)))
        return found

    def _replaced(self, tx: Tx, old: StoredPayment, rate: int, request_id: str, caller: str) -> NewPayment:
        wallet = self._wallet
        coins = wallet.store.coins_of(old.txid)
        account = coins[0].account
        spare = free_coins(wallet.store.unspent(), account, wallet.view.height, wallet.family.maturity_blocks)
        payee, *rest = parse(old.raw).outputs
        chosen = replacement(old.txid, coins, spare, (payee,), Paid(old.fee, len(old.raw)), rate)
        change = next((output.script for output in rest if wallet.store.own_place(output.script)), b"")
        signed = wallet.signed(tx, chosen, (payee,), account, change)
        return NewPayment(
            txid=txid(signed),
            raw=serialize(signed),
            kind=PaymentKind.SEND,
            request_id=request_id,
            caller=caller,
            counterparty=old.counterparty,
            amount=old.amount,
            fee=chosen.fee,
            binds=tuple(owned.coin.outpoint for owned in chosen.coins),
            contract_id=old.contract_id,
        )

    def _child(self, tx: Tx, params: Bump, raw: bytes, parent_fee: int, rate: int, caller: str) -> NewPayment:
        wallet, own = self._wallet, self._outputs_of(params.txid, raw)
        branch = own[0].account << ACCOUNT_SHIFT | BRANCH_CHANGE
        script = wallet.fresh(tx, branch, "change").script
        value, fee = child(params.txid, own, len(raw), parent_fee, script, rate)
        inputs = tuple(TxInput(owned.coin.outpoint) for owned in own)
        blank = CoinTx(inputs, (TxOutput(Florins(value), script),))
        signed = wallet.keyring.sign_payment(blank, tuple(own))
        verify_spend(signed, [TxOutput(Florins(owned.coin.value), owned.coin.script) for owned in own])
        return self._home(signed, PaymentKind.BUMP, params.request_id, caller, params.txid, fee)

    def _home(
        self, signed: CoinTx, kind: PaymentKind, request_id: str, caller: str, counterparty: str, fee: int
    ) -> NewPayment:
        """A payment to this wallet itself: nothing but its fee leaves."""
        return NewPayment(
            txid=txid(signed),
            raw=serialize(signed),
            kind=kind,
            request_id=request_id,
            caller=caller,
            counterparty=counterparty,
            amount=0,
            fee=fee,
            binds=tuple(item.outpoint for item in signed.inputs),
            contract_id="",
        )

    async def sweep(self, params: Sweep, ctx: Ctx) -> Swept:
        """Read the key's blocks, then bring its coins home; the key is forgotten."""
        wallet, key = self._wallet, read_wif(params.private_key, self._wallet.family)
        script = pay_to_key(key.public)
        await self._chain.follow([script], params.from_height, ctx)
        coins = self._free_on(script)
        with wallet.store.store.transaction() as tx:
            home = wallet.fresh(tx, BRANCH_RECEIVE, "swept")
            signed, fee = _swept(key, script, coins[:INPUTS_MAX], home.script, wallet.settings.fee_rate_florins_per_kb)
            if signed is None:
                address = script_to_address(script, wallet.family) or ""
                raise NothingToSweep(address=address, from_height=params.from_height)
            wallet.decide(tx, self._home(signed, PaymentKind.SWEEP, params.request_id, ctx.caller, "", fee))
            answer = Swept(
                txid=txid(signed),
                address=script_to_address(home.script, wallet.family) or "",
                amount_florins=signed.paid_florins,
                fee_florins=Florins(fee),
                coins=len(signed.inputs),
                coins_left=len(coins) - len(signed.inputs),
            )
            ctx.remember(tx, answer)
        return answer

    def _free_on(self, script: bytes) -> list[Coin]:
        """Confirmed, ripe, unspent coins on a script, the largest first."""
        view, maturity = self._wallet.view, self._wallet.family.maturity_blocks
        found = [
            coin
            for coin in view.store.coins_on(script)
            if coin.height is not None
            and view.store.spend_of(coin.outpoint) is None
            and (not coin.is_coinbase or view.height - coin.height + 1 >= maturity)
        ]
        return sorted(found, key=lambda coin: (-coin.value, coin.outpoint.txid, coin.outpoint.vout))

    async def limits(self, _params: Empty, _ctx: Ctx) -> Limits:
        """The standing approval, and how much of it is used."""
        store, settings = self._wallet.store, self._wallet.settings
        limits, own = limit_list(settings), settings.limits_of_callers
        with store.store.transaction() as tx:
            spent = store.most_spent(tx.now_ms() - DAY_MS)
            spent |= {own_limit(caller): int(store.spent_since(tx, caller, "").by_caller) for caller in own}
        limits += [(own_limit(caller), int(limit)) for caller, limit in sorted(own.items())]
        return Limits(
            limits=[
                LimitView(name=name, limit_florins=Florins(limit), spent_florins=Florins(spent.get(name, 0)))
                for name, limit in limits
            ]
        )


def _check_waits(name: str, found: tuple[bytes, int | None] | None, payment: StoredPayment | None) -> None:
    """Nothing happens for a transaction of this wallet that waits for a block.

    Raises:
        BumpRefused: with what it does instead.
    """
    if found is None and payment is None:
        raise BumpRefused(txid=name, reason="no payment of this wallet has that id; see `duxnet wallet history`")
    if found is not None and found[1] is not None:
        raise BumpRefused(txid=name, reason=f"it is in block {found[1]}")
    if payment is not None and payment.replaced_by:
        raise BumpRefused(txid=name, reason=f"{payment.replaced_by} has replaced it; speed that one up")
    if payment is not None and payment.refused:
        raise BumpRefused(txid=name, reason=f"the network refused it ({payment.refused}); pay again")


def _swept(key: ForeignKey, script: bytes, coins: list[Coin], home: bytes, rate: int) -> tuple[CoinTx | None, int]:
    """The signed sweep and its fee; None when there is nothing, or nothing left after the fee."""
    inputs = tuple(TxInput(coin.outpoint) for coin in coins)
    blank = CoinTx(inputs, (TxOutput(Florins(0), home),))
    longest = len(key_sig(bytes(SIGNATURE_BYTES_MAX), key.public))
    fee = int(fee_for(size_with(blank, [longest] * len(inputs)), rate)) if inputs else 0
    left = sum(coin.value for coin in coins) - fee
    if not inputs or is_dust(left):
        return None, fee
    tx = CoinTx(inputs, (TxOutput(Florins(left), home),))
    sigs = [key_sig(key.sign(sighash(tx, at, script)) + HASH_TYPE_ALL, key.public) for at in range(len(inputs))]
    signed = tx.signed(sigs)
    check_size(signed)
    verify_spend(signed, [TxOutput(Florins(coin.value), coin.script) for coin in coins])
    return signed, fee

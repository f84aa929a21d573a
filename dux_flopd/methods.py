"""wallet.*: the owner's own methods. Contract in, store and rules, contract out."""

from __future__ import annotations

from msgspec import structs

from common.accounts import ACCOUNT_SHIFT
from common.chain.address import address_to_script, script_to_address
from common.chain.fees import DUST_FLORINS, is_dust
from common.chain.tx import TxOutput
from common.contracts.wallet import (
    HISTORY_MAX,
    WALLET_BALANCE,
    WALLET_HISTORY,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    WALLET_STATUS,
    WALLET_UTXOS,
    AddressView,
    Balance,
    History,
    HistoryAsked,
    HistoryEntry,
    NewAddress,
    Send,
    Sent,
    Unspent,
    Unspents,
    WalletStatus,
)
from common.contracts.wallet_errors import DustAmount
from common.contracts.wallet_preview import WALLET_PREVIEW, CoinUsed, Preview, Previewed
from common.keygen import BRANCH_RECEIVE
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Florins, UnixMs
from dux_flopd.model import OwnCoin, OwnTx, PaymentKind, StoredPayment
from dux_flopd.rules import CoinState, coin_state, payment_state, size_of
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet


class WalletMethods:
    """Handlers of wallet.*."""

    def __init__(self, wallet: Wallet, scanner: Scanner, genesis: str) -> None:
        self._wallet = wallet
        self._scanner = scanner
        self._genesis = genesis

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_STATUS, self.status)
        table.serve(WALLET_NEW_ADDRESS, self.new_address)
        table.serve(WALLET_BALANCE, self.balance)
        table.serve(WALLET_HISTORY, self.history)
        table.serve(WALLET_SEND, self.send)
        table.serve(WALLET_PREVIEW, self.preview)
        table.serve(WALLET_UTXOS, self.utxos)

    async def status(self, _params: Empty, _ctx: Ctx) -> WalletStatus:
        """Which chain, how far, and whether it can pay."""
        wallet, problem = self._wallet, self._scanner.problem
        return WalletStatus(
            family=wallet.family.name,
            genesis=self._genesis,
            source=self._scanner.source,
            height=BlockHeight(wallet.view.height),
            hash=wallet.view.hash,
            synced=self._scanner.is_synced,
            unlocked=wallet.keyring.is_open,
            fee_rate_florins_per_kb=wallet.settings.fee_rate_florins_per_kb,
            problems=[problem] if problem else [],
        )

    async def new_address(self, params: NewAddress, ctx: Ctx) -> AddressView:
        """An address that was never handed out."""
        wallet = self._wallet
        with wallet.store.store.transaction() as tx:
            wallet.check_account(tx, params.account)
            item = wallet.fresh(tx, params.account << ACCOUNT_SHIFT | BRANCH_RECEIVE, params.label or "receive")
            view = AddressView(address=self._address(item.script), script=item.script, label=params.label)
            if params.label:
                wallet.store.put_label(tx, view.address, params.label)
            ctx.remember(tx, view)
        return view

    async def balance(self, _params: Empty, _ctx: Ctx) -> Balance:
        """What the wallet holds, by what may be done with it."""
        sums = dict.fromkeys(("spendable", "locked", "immature", "pending"), 0)
        for owned in self._wallet.store.unspent():
            sums[self._state(owned)] += 0 if owned.account else owned.coin.value
        return Balance(
            spendable_florins=Florins(sums["spendable"]),
            locked_florins=Florins(sums["locked"]),
            immature_florins=Florins(sums["immature"]),
            pending_florins=Florins(sums["pending"]),
            total_florins=Florins(sum(sums.values())),
            in_contracts_florins=Florins(self._wallet.store.in_contracts()),
        )

    async def utxos(self, _params: Empty, _ctx: Ctx) -> Unspents:
        """Own coins one by one."""
        return Unspents(
            coins=[
                Unspent(
                    outpoint=owned.coin.outpoint,
                    address=self._address(owned.coin.script),
                    value_florins=Florins(owned.coin.value),
                    height=None if owned.coin.height is None else BlockHeight(owned.coin.height),
                    state=self._state(owned),
                    account=owned.account,
                )
                for owned in self._wallet.store.unspent()
            ]
        )

    async def send(self, params: Send, ctx: Ctx) -> Sent:
        """Pay an address once: decided here, broadcast by the outbox."""
        output = self._output(params)
        with self._wallet.store.store.transaction() as tx:
            self._wallet.check_account(tx, params.account)
            payment = self._wallet.pay(
                tx,
                output,
                kind=PaymentKind.SEND,
                request_id=params.request_id,
                caller=ctx.caller,
                counterparty=params.address,
                only=params.coins,
                account=params.account,
            )
            if params.label:
                self._wallet.store.put_label(tx, payment.txid, params.label)
            sent = Sent(txid=payment.txid, amount_florins=params.amount_florins, fee_florins=Florins(payment.fee))
            ctx.remember(tx, sent)
        return sent

    def _output(self, asked: Send | Preview) -> TxOutput:
        script = address_to_script(asked.address, self._wallet.family)
        if is_dust(asked.amount_florins):
            raise DustAmount(amount_florins=int(asked.amount_florins), least_florins=DUST_FLORINS)
        return TxOutput(asked.amount_florins, script)

    async def preview(self, params: Preview, ctx: Ctx) -> Previewed:
        """What `send` would decide now, for the same caller."""
        wallet, outputs = self._wallet, (self._output(params),)
        with wallet.store.store.transaction() as tx:
            wallet.check_account(tx, params.account)
            wallet.check_limits(tx, int(params.amount_florins), ctx.caller, params.address)
        chosen = wallet.select(outputs, params.coins, params.account)
        return Previewed(
            amount_florins=params.amount_florins,
            fee_florins=Florins(chosen.fee),
            change_florins=Florins(chosen.change),
            size_bytes=size_of(chosen, outputs),
            fee_rate_florins_per_kb=wallet.settings.fee_rate_florins_per_kb,
            coins=tuple(CoinUsed(owned.coin.outpoint, Florins(owned.coin.value)) for owned in chosen.coins),
        )

    async def history(self, params: HistoryAsked, _ctx: Ctx) -> History:
        """Own transactions, those not yet seen first."""
        labels = self._wallet.store.labels()
        entries = [
            structs.replace(entry, label=labels.get(entry.txid) or labels.get(entry.counterparty, ""))
            for entry in (*self._unseen(), *self._seen())
        ]
        limit, offset = min(max(params.limit, 1), HISTORY_MAX), max(params.offset, 0)
        return History(entries=entries[offset : offset + limit], total=len(entries))

    def _seen(self) -> list[HistoryEntry]:
        payments = {payment.skeleton: payment for payment in self._wallet.store.payments()}
        return [_seen_entry(own, payments.get(own.skeleton)) for own in self._wallet.store.own_txs()]

    def _unseen(self) -> list[HistoryEntry]:
        seen = {own.skeleton for own in self._wallet.store.own_txs()}
        missing = [payment for payment in self._wallet.store.payments() if payment.skeleton not in seen]
        kinds = (PaymentKind.SEND, PaymentKind.FUND_LOT)
        return [self._unseen_entry(payment) for payment in missing if payment.kind in kinds]

    def _unseen_entry(self, payment: StoredPayment) -> HistoryEntry:
        conflicted = self._wallet.store.has_rival_in_block(payment.txid)
        state = payment_state(refused=payment.refused, height=None, waits=False, conflicted=conflicted)
        state = "replaced" if payment.replaced_by and state != "refused" else state
        lost = state in ("conflicted", "refused", "replaced")
        return HistoryEntry(
            txid=payment.txid,
            kind=payment.kind.value,
            state=state,
            height=None,
            at_ms=UnixMs(payment.at_ms),
            change_florins=Florins(0 if lost else -payment.amount - payment.fee),
            fee_florins=Florins(payment.fee),
            counterparty=payment.counterparty,
            request_id=payment.request_id,
        )

    def _state(self, owned: OwnCoin) -> CoinState:
        return coin_state(owned, self._wallet.view.height, self._wallet.family.maturity_blocks)

    def _address(self, script: bytes) -> str:
        return script_to_address(script, self._wallet.family) or ""


def _seen_entry(own: OwnTx, payment: StoredPayment | None) -> HistoryEntry:
    state = payment_state(refused="", height=own.height, waits=True, conflicted=False)
    return HistoryEntry(
        txid=own.txid,
        kind=payment.kind.value if payment else ("received" if own.change >= 0 else "spent"),
        state=state,
        height=None if own.height is None else BlockHeight(own.height),
        at_ms=UnixMs(payment.at_ms if payment else own.at_ms),
        change_florins=Florins(own.change),
        fee_florins=Florins(payment.fee) if payment else None,
        counterparty=payment.counterparty if payment else "",
        request_id=payment.request_id if payment else "",
    )

"""Own addresses, coins and payments: what methods put together. One decision per call, in the caller's transaction.

Builds and signs payments from selected coins, judges them before they are stored, and keeps the own scripts followed
some way beyond the last one used.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from common.accounts import ACCOUNT_SHIFT, TOKEN_ACCOUNT
from common.chain.params import ChainFamily
from common.chain.tx import Outpoint, TxInput, TxOutput, check_size, serialize, txid
from common.chain.tx import Tx as CoinTx
from common.chain.verify import verify_spend
from common.contracts.wallet_errors import NoSuchAccount
from common.keygen import BRANCH_CHANGE, BRANCH_PAYOUT, BRANCH_RECEIVE
from common.store import Tx
from common.units import Florins
from dux_flopd.keyring import Keyring
from dux_flopd.model import Coin, FollowedScript, NewPayment, PaymentKind, ScriptKind, Selection
from dux_flopd.owner_store import OwnerStore
from dux_flopd.rules import GAP, check_limits, chosen_coins, select
from dux_flopd.settings import FlopSettings
from dux_flopd.store import WalletStore
from dux_flopd.view import ChainView

OWNER = "cli"  # the person's own command line: approved by being typed
OWN_BRANCHES = (BRANCH_RECEIVE, BRANCH_CHANGE, BRANCH_PAYOUT)
ACCOUNT_BRANCHES = (BRANCH_RECEIVE, BRANCH_CHANGE)  # of the owner's further accounts


class Wallet:
    """What is ours, and how it is paid out."""

    def __init__(
        self, store: WalletStore, view: ChainView, keyring: Keyring, family: ChainFamily, settings: FlopSettings
    ) -> None:
        self.store = store
        self.owner_store = OwnerStore(store.store)
        self.view = view
        self.keyring = keyring
        self.family = family
        self.settings = settings
        view.on_own_coin = self.keep_gap

    def approve(self, settings: FlopSettings) -> None:
        """The owner changed the standing approval or the fee rate; the rest keeps its value until a restart."""
        self.settings = structs.replace(
            self.settings,
            fee_rate_florins_per_kb=settings.fee_rate_florins_per_kb,
            limit_per_payment_florins=settings.limit_per_payment_florins,
            limit_per_day_florins=settings.limit_per_day_florins,
            limit_per_caller_florins=settings.limit_per_caller_florins,
            limits_of_callers=settings.limits_of_callers,
            limit_per_counterparty_florins=settings.limit_per_counterparty_florins,
        )

    def keep_gap(self, tx: Tx, from_height: int) -> None:
        """Follow own scripts `GAP` beyond the last one handed out or paid, in every branch."""
        if not self.keyring.is_open:
            return
        for branch in self.branches(tx):
            first, last = self.store.last_followed(tx, branch) + 1, self.store.last_seen(tx, branch) + GAP
            for index in range(first, last + 1):
                item = FollowedScript(self.keyring.script(branch, index), ScriptKind.OWN, branch, index, "")
                self.view.follow(tx, item, from_height, is_read=True)

    def branches(self, tx: Tx) -> list[int]:
        """The branches whose coins are this wallet's: the node's account, and those that its owner has opened."""
        opened = [number for number in self.owner_store.accounts(tx) if self.sees(number)]
        return [*OWN_BRANCHES, *(number << ACCOUNT_SHIFT | branch for number in opened for branch in ACCOUNT_BRANCHES)]

    def coins_left_on(self, script: bytes) -> list[Coin]:
        """What lies on a followed script, own or not, and nothing known spends."""
        store = self.view.store
        return [coin for coin in store.coins_on(script) if store.spend_of(coin.outpoint) is None]

    def sees(self, account: int) -> bool:
        """Whether its addresses are known; the keys of one account are in a token, which may be unplugged."""
        return account != TOKEN_ACCOUNT or self.keyring.sees_token_account

    def check_account(self, tx: Tx, number: int) -> None:
        """Nothing happens for an account that is open.

        Raises:
            NoSuchAccount: it is not.
        """
        has_keys = number != TOKEN_ACCOUNT or self.keyring.token is not None
        if number and not (number in self.owner_store.accounts(tx) and has_keys):
            raise NoSuchAccount(number=number)

    def fresh(self, tx: Tx, branch: int, label: str) -> FollowedScript:
        """The next own script of a branch, handed out once."""
        index = self.store.last_seen(tx, branch) + 1
        item = FollowedScript(self.keyring.script(branch, index), ScriptKind.OWN, branch, index, label)
        self.view.follow(tx, item, self.view.height + 1, is_read=True)
        self.store.hand_out(tx, item)
        self.keep_gap(tx, self.view.height + 1)
        return item

    def bound_key(self, tx: Tx, purpose: str, nonce: bytes, label: str) -> int:
        """The number of the contract key for a purpose and a nonce: bound to them once, the same ever after."""
        known = self.store.contract_key(purpose, nonce)
        if known is not None:
            return known.index
        index = self.fresh(tx, BRANCH_PAYOUT, label).index
        self.store.add_contract_key(tx, index, purpose, nonce)
        return index

    def take_back(self, tx: Tx, index: int, from_height: int) -> None:
        """A contract that came back is paid to this number: its payouts, and those of all below, are looked for.

        The search for the phrase's coins ends 20 numbers beyond the last one paid; open contracts may lie further.
        """
        first = self.store.last_followed(tx, BRANCH_PAYOUT) + 1
        for number in (*range(first, index), index):  # its own number may be followed already, from later on
            script = self.keyring.payout_script(number)
            self.view.follow(tx, FollowedScript(script, ScriptKind.OWN, BRANCH_PAYOUT, number, ""), from_height)
        self.hand_out_again(tx, index)
        self.keep_gap(tx, self.view.height + 1)

    def hand_out_again(self, tx: Tx, index: int) -> None:
        """A contract key's number was in use before this wallet's memory: it and all below are never fresh again."""
        item = FollowedScript(self.keyring.payout_script(index), ScriptKind.OWN, BRANCH_PAYOUT, index, "payout")
        self.view.follow(tx, item, self.view.height + 1, is_read=True)
        self.store.hand_out(tx, item)

    def pay(
        self,
        tx: Tx,
        *outputs: TxOutput,
        kind: PaymentKind,
        request_id: str,
        caller: str,
        counterparty: str,
        contract_id: str = "",
        only: Sequence[Outpoint] = (),
        account: int = 0,
    ) -> NewPayment:
        """Decide a payment to these outputs: limits, coins, change, signatures, judgement; stored, not yet sent.

        `only`: the coins it may spend; empty: any of the account's.

        Raises:
            OverLimit, InsufficientFunds, CoinsPending, CoinNotFree, WalletLocked: nothing was decided.
        """
        amount = sum(int(output.value_florins) for output in outputs)
        self.check_limits(tx, amount, caller, counterparty)
        chosen = self.select(outputs, only, account)
        signed = self.signed(tx, chosen, outputs, account)
        payment = NewPayment(
            txid=txid(signed),
            raw=serialize(signed),
            kind=kind,
            request_id=request_id,
            caller=caller,
            counterparty=counterparty,
            amount=amount,
            fee=chosen.fee,
            binds=tuple(owned.coin.outpoint for owned in chosen.coins),
            contract_id=contract_id,
        )
        self.decide(tx, payment)
        return payment

    def check_limits(self, tx: Tx, amount: int, caller: str, counterparty: str) -> None:
        """Nothing happens when the caller may pay so much: the owner always, others within its standing approval.

        Raises:
            OverLimit: naming the limit that it breaks.
        """
        if caller != OWNER:
            check_limits(self.settings, amount, self.store.spent_since(tx, caller, counterparty), caller)

    def decide(self, tx: Tx, payment: NewPayment) -> None:
        """Store what was signed, bind its coins, want it broadcast, and write down that it was decided."""
        self.store.add_payment(tx, payment)
        tx.audit("payment decided", _told(payment))

    def select(self, outputs: tuple[TxOutput, ...], only: Sequence[Outpoint], account: int) -> Selection:
        """Which coins would pay these outputs now; nothing is bound.

        Raises:
            InsufficientFunds, CoinsPending, CoinNotFree: none would.
        """
        rate, maturity = self.settings.fee_rate_florins_per_kb, self.family.maturity_blocks
        coins = [owned for owned in self.store.unspent() if owned.account == account]
        if only:
            coins = chosen_coins(coins, only, self.view.height, maturity)
        return select(coins, outputs, rate, self.view.height, maturity)

    def signed(
        self, tx: Tx, chosen: Selection, outputs: tuple[TxOutput, ...], account: int, change_script: bytes = b""
    ) -> CoinTx:
        """The signed and judged transaction of a selection; change to a fresh own script unless one is named."""
        if chosen.change:
            branch = account << ACCOUNT_SHIFT | BRANCH_CHANGE
            script = change_script or self.fresh(tx, branch, "change").script
            outputs = (*outputs, TxOutput(Florins(chosen.change), script))
        inputs = tuple(TxInput(owned.coin.outpoint) for owned in chosen.coins)
        signed = self.keyring.sign_payment(CoinTx(inputs, outputs), chosen.coins)
        check_size(signed)
        verify_spend(signed, [TxOutput(Florins(owned.coin.value), owned.coin.script) for owned in chosen.coins])
        return signed


def _told(payment: NewPayment) -> dict[str, str | int]:
    return {
        "txid": payment.txid,
        "kind": payment.kind.value,
        "caller": payment.caller,
        "counterparty": payment.counterparty,
        "amount_florins": str(payment.amount),
        "fee_florins": str(payment.fee),
        "contract_id": payment.contract_id,
    }

"""wallet.account, accounts, watch, watched: what the owner keeps beside the node's own money."""

from __future__ import annotations

from common.accounts import ACCOUNTS_MAX
from common.chain.address import address_to_script, pay_to_key, pay_to_script, script_to_address
from common.chain.key_text import account_text, read_account
from common.contracts.wallet import (
    WALLET_ACCOUNT,
    WALLET_ACCOUNTS,
    WALLET_WATCH,
    WALLET_WATCHED,
)
from common.contracts.wallet_accounts import Accounts, AccountView, OpenAccount, Watched, WatchedView, WatchOnly
from common.contracts.wallet_errors import AccountsFull
from common.errors import BadParams
from common.keygen import BRANCH_CHANGE, BRANCH_RECEIVE
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import Florins
from dux_flopd.chain_methods import ChainMethods
from dux_flopd.owner_store import WatchedAccount, WatchedScript
from dux_flopd.rules import GAP
from dux_flopd.wallet import Wallet

NODE_ACCOUNT = "node"
WATCHED_BRANCHES = (BRANCH_RECEIVE, BRANCH_CHANGE)


class OwnerMethods:
    """Handlers of accounts and of what is only watched."""

    def __init__(self, wallet: Wallet, chain: ChainMethods) -> None:
        self._wallet = wallet
        self._store = wallet.owner_store
        self._chain = chain

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_ACCOUNT, self.account)
        table.serve(WALLET_ACCOUNTS, self.accounts)
        table.serve(WALLET_WATCH, self.watch)
        table.serve(WALLET_WATCHED, self.watched)

    async def account(self, params: OpenAccount, ctx: Ctx) -> AccountView:
        """The next account of the phrase."""
        wallet = self._wallet
        with self._store.store.transaction() as tx:
            number = 1 + max((0, *(one for one in self._store.accounts(tx) if one <= ACCOUNTS_MAX)))
            if number > ACCOUNTS_MAX:
                raise AccountsFull(most=ACCOUNTS_MAX)
            self._store.open_account(tx, number, params.name)
            wallet.keep_gap(tx, wallet.view.height + 1)
            view = self._view(number, params.name)
            ctx.remember(tx, view)
        return view

    async def accounts(self, _params: Empty, _ctx: Ctx) -> Accounts:
        """All of them, the node's own first."""
        names = {0: NODE_ACCOUNT, **self._store.account_names()}
        known = [(number, name) for number, name in names.items() if self._wallet.sees(number)]
        return Accounts(accounts=[self._view(number, name) for number, name in known])

    def _view(self, number: int, name: str) -> AccountView:
        coins = [owned.coin for owned in self._wallet.store.unspent() if owned.account == number]
        confirmed = sum(coin.value for coin in coins if coin.height is not None)
        return AccountView(
            number=number,
            name=name,
            public_key=account_text(self._wallet.keyring.account_watcher(number), number, self._wallet.family),
            confirmed_florins=Florins(confirmed),
            pending_florins=Florins(sum(coin.value for coin in coins) - confirmed),
        )

    async def watch(self, params: WatchOnly, ctx: Ctx) -> WatchedView:
        """Note it, read its blocks, and show it."""
        given = [bool(item) for item in (params.address, params.account_key, params.redeem_script)]
        if sum(given) != 1:
            raise BadParams(detail="give one of: an address, an account's public key, a redeem script")
        view = await (self._watch_account(params, ctx) if params.account_key else self._watch_script(params, ctx))
        with self._store.store.transaction() as tx:
            ctx.remember(tx, view)
        return view

    async def _watch_script(self, params: WatchOnly, ctx: Ctx) -> WatchedView:
        if params.redeem_script:
            script = pay_to_script(params.redeem_script)
        else:
            script = address_to_script(params.address, self._wallet.family)
        item = WatchedScript(script, 0, 0, 0, params.label)
        with self._store.store.transaction() as tx:
            self._store.watch(tx, item, params.redeem_script)
        await self._chain.follow([script], params.from_height, ctx)
        return self._script_view(item)

    async def _watch_account(self, params: WatchOnly, ctx: Ctx) -> WatchedView:
        read_account(params.account_key, self._wallet.family)
        with self._store.store.transaction() as tx:
            item = self._store.watch_account(tx, params.account_key, params.label)
            self._store.mark(tx, _from_mark(item.number), params.from_height)
        while await self._widen(item, ctx):
            pass
        return self._account_view(item)

    async def watched(self, _params: Empty, ctx: Ctx) -> Watched:
        """Everything watched; an account that was paid at its edge is watched further."""
        for account in self._store.watched_accounts():
            while await self._widen(account, ctx):
                pass
        single = [self._script_view(item) for item in self._store.watched(0)]
        return Watched(watched=[*single, *(self._account_view(item) for item in self._store.watched_accounts())])

    async def _widen(self, account: WatchedAccount, ctx: Ctx) -> bool:
        """Watch an account `GAP` addresses beyond the last one that was paid; false when that is so already."""
        node = read_account(account.text, self._wallet.family)
        known = {(item.branch, item.number) for item in self._store.watched(account.number)}
        fresh = [
            WatchedScript(pay_to_key(node.path(branch, number).public), account.number, branch, number, "")
            for branch in WATCHED_BRANCHES
            for number in range(self._store.last_paid(account.number, branch) + GAP + 1)
            if (branch, number) not in known
        ]
        if not fresh:
            return False
        with self._store.store.transaction() as tx:
            for item in fresh:
                self._store.watch(tx, item)
        from_height = self._store.marked(_from_mark(account.number)) or 0
        await self._chain.follow([item.script for item in fresh], from_height, ctx)
        return True

    def _script_view(self, item: WatchedScript) -> WatchedView:
        name = script_to_address(item.script, self._wallet.family) or item.script.hex()
        return self._shown(name, item.label, [item.script])

    def _account_view(self, account: WatchedAccount) -> WatchedView:
        return self._shown(account.text, account.label, [item.script for item in self._store.watched(account.number)])

    def _shown(self, name: str, label: str, scripts: list[bytes]) -> WatchedView:
        coins = [coin for script in scripts for coin in self._wallet.coins_left_on(script)]
        confirmed = sum(coin.value for coin in coins if coin.height is not None)
        return WatchedView(
            name=name,
            label=label,
            confirmed_florins=Florins(confirmed),
            pending_florins=Florins(sum(coin.value for coin in coins) - confirmed),
        )


def _from_mark(number: int) -> str:
    return f"watched account {number} from"

"""Looks for everything that a phrase can have: coins of every account, bonds, and how many contract keys were used.

Promise: a wallet whose keys were restored looks once through all of it, however often it is stopped, and says so until
then. What only its own books knew (labels, who was paid for what) is in the backup, not in the phrase; contracts and
channels come back from peers' copies, whose keys `contract.find_key` finds. Of the account whose keys are in a token
only the public half is here: its coins are found and shown, and wait for a token with the phrase's keys.

Source: BIP44 (accounts and gap limit), common/chain/bond.py (a bond's key number is its height).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from structlog.typing import FilteringBoundLogger

from common.accounts import ACCOUNT_SHIFT, ACCOUNTS_MAX, TOKEN_ACCOUNT
from common.chain.bond import bond_output_script, last_number, until_of
from common.clock import Clock
from common.contracts.wallet_contract import ContractKey
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed
from common.contracts.wallet_recovery import (
    CONTRACT_FIND_KEY,
    WALLET_RECOVER,
    WALLET_RECOVERY,
    FindContractKey,
    Recover,
    Recovery,
)
from common.keygen import BRANCH_BOND, BRANCH_PAYOUT
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.store import Store, Tx
from common.units import BlockHeight, Florins
from dux_flopd.chain_store import ChainStore
from dux_flopd.model import FollowedScript, ScriptKind
from dux_flopd.owner_store import OwnerStore
from dux_flopd.rules import GAP
from dux_flopd.scanner import Scanner
from dux_flopd.schema import MIGRATIONS
from dux_flopd.wallet import ACCOUNT_BRANCHES, OWN_BRANCHES, Wallet

State = Literal["never", "looking", "done"]
LOOKING = -1
FROM, DONE, ENDS = "recover from", "recovered at", "books end at"  # names of marks
REORGANISED_MAX = 100  # blocks below the end of restored books that are looked through with what is younger
KEYS_SEARCHED = 1_000  # contract keys beyond the last one whose payout was seen


def look_beyond(books: Path, clock: Clock) -> None:
    """Books out of a backup want a search from where they end: a bond that is younger stands in none of them.

    Raises:
        NewerSchema, CorruptStore: a newer flopd wrote them, or they are damaged.
    """
    store = Store.open(books, MIGRATIONS, clock)
    try:
        top, owners = ChainStore(store).top(), OwnerStore(store)
        with store.transaction() as tx:
            owners.mark(tx, ENDS, 0 if top is None else top[0])
    finally:
        store.close()


class Recoverer:
    """The search, and its methods."""

    def __init__(
        self, wallet: Wallet, scanner: Scanner, step_blocks: int, from_height: int, log: FilteringBoundLogger
    ) -> None:
        """`from_height`: below it no block is read."""
        self._wallet = wallet
        self._store = wallet.owner_store
        self._scanner = scanner
        self._step_blocks = step_blocks
        self._from_height = from_height
        self._log = log
        self._looked_for: set[bytes] = set()

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_RECOVER, self.recover)
        table.serve(WALLET_RECOVERY, self.recovery)
        table.serve(CONTRACT_FIND_KEY, self.find_key)

    @property
    def problem(self) -> str:
        """For people, while it looks."""
        return "looking for what the phrase holds" if self._told() == "looking" else ""

    async def run(self) -> None:
        """Look whenever it is wanted. Runs until cancelled."""
        while True:
            async with self._scanner.changed:
                await self._scanner.changed.wait_for(self._is_wanted)
            await self._look(self._store.marked(FROM) or 0)

    def _is_wanted(self) -> bool:
        """Synced and unlocked, with a search begun; keys that came from a phrase begin one by themselves, once."""
        keyring = self._wallet.keyring
        if not (self._scanner.is_synced and keyring.is_open):
            return False
        if self._state() == "never" and keyring.is_restored():
            with self._store.store.transaction() as tx:
                self._store.mark(tx, FROM, max(self._from_height, keyring.birth_height()))
        ends = self._store.marked(ENDS)
        if self._state() != "looking" and ends not in (None, LOOKING):
            with self._store.store.transaction() as tx:
                self._store.mark(tx, FROM, max(self._from_height, ends - REORGANISED_MAX))
                self._store.mark(tx, DONE, LOOKING)
                self._store.mark(tx, ENDS, LOOKING)
        return self._state() == "looking"

    async def _look(self, from_height: int) -> None:
        self._looked_for = set()
        bonds = self._bond_scripts(from_height)
        self._follow([(script, ScriptKind.WATCH, 0, 0) for script in bonds.values()], from_height)
        accounts = [number for number in (*range(1 + ACCOUNTS_MAX), TOKEN_ACCOUNT) if self._wallet.sees(number)]
        branches = [n << ACCOUNT_SHIFT | one for n in accounts for one in (ACCOUNT_BRANCHES if n else OWN_BRANCHES)]
        while fresh := [item for branch in branches for item in self._missing(branch)]:
            self._follow(fresh, from_height)
            await self._until_read([script for script, *_ in fresh])
        await self._until_read(list(bonds.values()))
        with self._store.store.transaction() as tx:
            self._book(tx, bonds)
            self._store.mark(tx, DONE, self._wallet.view.height)
            tx.audit("recovered", {"from_height": from_height, "height": self._wallet.view.height})
        self._log.info("recovered", from_height=from_height)

    def _bond_scripts(self, from_height: int) -> dict[int, bytes]:
        """Every bond that can have been made since then, by number."""
        keys, first = self._wallet.keyring, max(1, from_height // self._step_blocks)
        numbers = range(first, last_number(self._wallet.view.height, self._step_blocks) + 1)
        return {
            number: bond_output_script(keys.public(BRANCH_BOND, number), until_of(number, self._step_blocks))
            for number in numbers
        }

    def _missing(self, branch: int) -> list[tuple[bytes, ScriptKind, int, int]]:
        """Own scripts up to `GAP` beyond the last one paid that were not looked for in this search."""
        with self._store.store.transaction() as tx:
            last = self._wallet.store.last_seen(tx, branch)
        wanted = range(last + GAP + 1)
        unread = [(self._wallet.keyring.script(branch, number), number) for number in wanted]
        return [(script, ScriptKind.OWN, branch, number) for script, number in unread if script not in self._looked_for]

    def _follow(self, items: list[tuple[bytes, ScriptKind, int, int]], from_height: int) -> None:
        with self._store.store.transaction() as tx:
            for script, kind, branch, number in items:
                self._wallet.view.follow(tx, FollowedScript(script, kind, branch, number, ""), from_height)
        self._looked_for |= {script for script, *_ in items}
        self._scanner.look_again()

    async def _until_read(self, scripts: list[bytes]) -> None:
        async with self._scanner.changed:
            await self._scanner.changed.wait_for(lambda: self._wallet.view.store.is_read(scripts))

    def _book(self, tx: Tx, bonds: dict[int, bytes]) -> None:
        """What was found stands in the books; contract keys in flight are not given out again."""
        for number, script in bonds.items():
            if self._wallet.view.store.coins_on(script):
                self._store.add_bond(tx, number, script)
        used = {owned.account for owned in self._wallet.store.unspent()} | self._paid_accounts(tx)
        for number in range(1, max((0, *used - {TOKEN_ACCOUNT})) + 1):
            self._store.open_account(tx, number, f"account {number}")
        if TOKEN_ACCOUNT in used:
            self._store.open_account(tx, TOKEN_ACCOUNT, "token")
        last = self._wallet.store.last_seen(tx, BRANCH_PAYOUT) + GAP
        script = self._wallet.keyring.script(BRANCH_PAYOUT, last)
        self._wallet.store.hand_out(tx, FollowedScript(script, ScriptKind.OWN, BRANCH_PAYOUT, last, "recovered"))
        self._wallet.keep_gap(tx, self._wallet.view.height + 1)

    def _paid_accounts(self, tx: Tx) -> set[int]:
        return {
            number
            for number in (*range(1 + ACCOUNTS_MAX), TOKEN_ACCOUNT)
            if any(self._wallet.store.last_seen(tx, number << ACCOUNT_SHIFT | one) >= 0 for one in ACCOUNT_BRANCHES)
        }

    def _state(self) -> State:
        if self._store.marked(FROM) is None:
            return "never"
        return "looking" if self._store.marked(DONE) in (None, LOOKING) else "done"

    def _told(self) -> State:
        """A search that begins by itself once the chain is read, after a phrase or a backup, counts as begun."""
        keyring = self._wallet.keyring
        begins = self._state() == "never" and keyring.is_open and keyring.is_restored()
        return "looking" if begins or self._store.marked(ENDS) not in (None, LOOKING) else self._state()

    async def recover(self, params: Recover, ctx: Ctx) -> Recovery:
        """Want it, and tell how it stands."""
        self._wallet.keyring.birth_height()  # a locked wallet cannot look
        with self._store.store.transaction() as tx:
            self._store.mark(tx, FROM, params.from_height)
            self._store.mark(tx, DONE, LOOKING)
            view = self._view(params.from_height)
            ctx.remember(tx, view)
        return view

    async def recovery(self, _params: Empty, _ctx: Ctx) -> Recovery:
        """How it stands."""
        return self._view(self._store.marked(FROM) or 0)

    def _view(self, from_height: int) -> Recovery:
        return Recovery(
            state=self._told(),
            from_height=BlockHeight(from_height),
            accounts=[0, *self._store.account_names()],
            bonds=sum(1 for row in self._store.bonds() if self._wallet.coins_left_on(row.script)),
            found_florins=Florins(sum(owned.coin.value for owned in self._wallet.store.unspent())),
        )

    async def find_key(self, params: FindContractKey, ctx: Ctx) -> ContractKey:
        """Search the branch, and bind the number that was found as if it had just been made."""
        index = self._index_of(params.public_key)
        known = self._wallet.store.contract_key_at(index)
        if known is not None and (known.purpose, known.nonce) != (params.purpose, params.nonce):
            raise KeyUsed(index=index)
        keys = self._wallet.keyring
        answer = ContractKey(index=index, pubkey=keys.contract_public(index), payout_script=keys.payout_script(index))
        with self._store.store.transaction() as tx:
            self._wallet.hand_out_again(tx, index)
            if known is None:
                self._wallet.store.add_contract_key(tx, index, params.purpose, params.nonce)
            tx.audit("contract key found", {"index": index, "purpose": params.purpose})
            ctx.remember(tx, answer)
        return answer

    def _index_of(self, pubkey: bytes) -> int:
        with self._store.store.transaction() as tx:
            last = self._wallet.store.last_seen(tx, BRANCH_PAYOUT)
        for index in range(last + 1 + KEYS_SEARCHED):
            if self._wallet.keyring.contract_public(index) == pubkey:
                return index
        raise KeyNotOurs(reason="no contract key of this phrase has that public half")

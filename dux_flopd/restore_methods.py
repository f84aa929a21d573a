"""contract.blob_key, contract.missing, contract.restore, purse.restore: a wallet takes contracts and channels back.

Promise: one is taken back only where this wallet's own key stands in it as the copy says, under every law of a contract
or a channel; its key's number is never handed out for another, and what it was paid meanwhile is looked for in the
chain. Source: escrow_protocol.md §10; channel_protocol.md §8.
"""

from __future__ import annotations

from common.chain.address import script_to_address
from common.chain.channel import channel_output_script, chid, state_fee
from common.contracts.wallet_channel import AdoptedChannel
from common.contracts.wallet_contract import Adopted
from common.contracts.wallet_restore import (
    CONTRACT_BLOB_KEY,
    CONTRACT_MISSING,
    CONTRACT_RESTORE,
    PURSE_RESTORE,
    BlobKey,
    Missing,
    RestoreChannel,
    RestoreContract,
    Standing,
)
from common.keygen import BRANCH_PAYOUT
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from dux_flopd.channel_methods import read_terms
from dux_flopd.channel_rules import check_channel, check_own_side
from dux_flopd.lot_part import LotPart
from dux_flopd.model import ContractKeyRow, ContractRow, FollowedScript, ScriptKind
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet


class RestoreMethods:
    """Their handlers."""

    def __init__(self, wallet: Wallet, scanner: Scanner, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._keys = wallet.keyring
        self._scanner = scanner
        self._network = network
        self._part = LotPart(wallet, network)

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CONTRACT_BLOB_KEY, self.blob_key)
        table.serve(CONTRACT_MISSING, self.missing)
        table.serve(CONTRACT_RESTORE, self.restore)
        table.serve(PURSE_RESTORE, self.restore_channel)

    async def blob_key(self, _params: Empty, _ctx: Ctx) -> BlobKey:
        """From the sub-key of escrow's blobs."""
        with self._store.store.transaction() as tx:
            numbers = self._store.last_seen(tx, BRANCH_PAYOUT) + 1
        return BlobKey(key=self._keys.blob_key(), numbers=numbers, restored=self._keys.is_restored())

    async def missing(self, params: Standing, ctx: Ctx) -> Missing:
        """Books from a backup know neither what was adopted after it nor the keys that were handed out since."""
        with self._store.store.transaction() as tx:
            if params.highest > self._store.last_seen(tx, BRANCH_PAYOUT):
                self._wallet.take_back(tx, params.highest, params.from_height)
                tx.audit("key numbers in use", {"highest": params.highest, "caller": ctx.caller})
        return Missing(names=tuple(name for name in params.names if self._store.contract(name) is None))

    async def restore(self, params: RestoreContract, ctx: Ctx) -> Adopted:
        """Adopt again."""
        index = params.key_index
        known = self._store.contract_key_at(index)
        key = known or ContractKeyRow(index, params.role, params.nonce, "")
        contract = self._part.checked(params.contract, params.role, index, key, back=True)
        with self._store.store.transaction() as tx:
            self._wallet.take_back(tx, index, contract.heights.start)
            if known is None:
                self._store.add_contract_key(tx, index, params.role, params.nonce)
            answer = self._part.take(tx, contract, params.contract, params.role, index)
            tx.audit("contract restored", {"cid": answer.cid, "role": params.role, "caller": ctx.caller})
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

    async def restore_channel(self, params: RestoreChannel, ctx: Ctx) -> AdoptedChannel:
        """Adopt a channel again; it may be at its end."""
        index, terms = params.key_index, read_terms(params.terms)
        check_channel(terms, self._network, self._wallet.view.height, lost=True)
        known = self._store.contract_key_at(index)
        key = known or ContractKeyRow(index, params.side, params.nonce, "")
        pubkey, script = self._keys.contract_public(index), self._keys.payout_script(index)
        check_own_side(terms, params.side, key, pubkey=pubkey, script=script, index=index)
        name, output = chid(terms).hex(), channel_output_script(terms)
        address = script_to_address(output, self._wallet.family) or ""
        answer = AdoptedChannel(chid=name, output_script=output, address=address, fee_florins=state_fee(terms))
        with self._store.store.transaction() as tx:
            self._wallet.take_back(tx, index, params.from_height)
            if known is None:
                self._store.add_contract_key(tx, index, params.side, params.nonce)
            self._store.adopt(tx, ContractRow(name, params.terms, params.side, index))
            item = FollowedScript(output, ScriptKind.LOT, 0, 0, params.side)
            self._wallet.view.follow(tx, item, params.from_height)
            tx.audit("channel restored", {"chid": name, "side": params.side, "caller": ctx.caller})
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

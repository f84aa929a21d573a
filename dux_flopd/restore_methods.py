"""contract.blob_key and contract.restore: a wallet from its phrase takes its open contracts back.

Promise: a contract is taken back only where this wallet's own keys stand in it as the copy says, under every law of a
contract; its key's number is never handed out for another. Source: escrow_protocol.md §10.
"""

from __future__ import annotations

from common.contracts.wallet_contract import Adopted
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY, CONTRACT_RESTORE, BlobKey, RestoreContract
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from dux_flopd.lot_part import LotPart
from dux_flopd.model import ContractKeyRow
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet


class RestoreMethods:
    """Handlers of contract.blob_key and contract.restore."""

    def __init__(self, wallet: Wallet, scanner: Scanner, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._keys = wallet.keyring
        self._scanner = scanner
        self._part = LotPart(wallet, network)

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CONTRACT_BLOB_KEY, self.blob_key)
        table.serve(CONTRACT_RESTORE, self.restore)

    async def blob_key(self, _params: Empty, _ctx: Ctx) -> BlobKey:
        """From the sub-key of escrow's blobs."""
        return BlobKey(key=self._keys.blob_key())

    async def restore(self, params: RestoreContract, ctx: Ctx) -> Adopted:
        """Adopt again."""
        index = params.key_index
        known = self._store.contract_key_at(index)
        key = known or ContractKeyRow(index, params.role, params.nonce, "")
        contract = self._part.checked(params.contract, params.role, index, key)
        with self._store.store.transaction() as tx:
            self._wallet.hand_out_again(tx, index)
            self._wallet.keep_gap(tx, self._wallet.view.height + 1)
            if known is None:
                self._store.add_contract_key(tx, index, params.role, params.nonce)
            answer = self._part.take(tx, contract, params.contract, params.role, index)
            tx.audit("contract restored", {"cid": answer.cid, "role": params.role, "caller": ctx.caller})
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

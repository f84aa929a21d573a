"""contract.blob_key and contract.restore: a wallet from its phrase takes its open contracts back.

Promise: a contract is taken back only where this wallet's own keys stand in it as the copy says, under every law of a
contract; its key's number is never handed out for another. Source: escrow_protocol.md §10.
"""

from __future__ import annotations

from common.chain.address import script_to_address
from common.chain.contract import (
    CONTRACT_BYTES_MAX,
    Contract,
    cid,
    lot_output_script,
    lot_script,
    lot_value,
    result_hash_of,
)
from common.chain.contract_rules import check_contract
from common.codec import from_canonical
from common.contracts.wallet_contract import Adopted
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY, CONTRACT_RESTORE, BlobKey, RestoreContract
from common.keygen import BRANCH_PAYOUT
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from dux_flopd.contract_rules import check_network, check_own_part, own_party
from dux_flopd.model import ContractKeyRow, ContractRow, FollowedScript, ScriptKind
from dux_flopd.scanner import Scanner
from dux_flopd.wallet import Wallet


class RestoreMethods:
    """Handlers of contract.blob_key and contract.restore."""

    def __init__(self, wallet: Wallet, scanner: Scanner, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._keys = wallet.keyring
        self._scanner = scanner
        self._network = network

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CONTRACT_BLOB_KEY, self.blob_key)
        table.serve(CONTRACT_RESTORE, self.restore)

    async def blob_key(self, _params: Empty, _ctx: Ctx) -> BlobKey:
        """From the sub-key of escrow's blobs."""
        return BlobKey(key=self._keys.blob_key())

    async def restore(self, params: RestoreContract, ctx: Ctx) -> Adopted:
        """Adopt again."""
        contract = from_canonical(params.contract, Contract, max_bytes=CONTRACT_BYTES_MAX)
        check_contract(contract)
        check_network(contract, self._network)
        name, index = cid(contract).hex(), params.key_index
        known = self._store.contract_key_at(index)
        party = own_party(contract, params.role)
        check_own_part(
            contract,
            params.role,
            name,
            key=known or ContractKeyRow(index, params.role, params.nonce, ""),
            pubkey=self._keys.contract_public(index),
            payout=self._keys.payout_script(index),
            result_hash=result_hash_of(self._keys.result_key(party.nonce, 0)) if party else b"",
        )
        with self._store.store.transaction() as tx:
            self._reserve(tx, index)
            if known is None:
                self._store.add_contract_key(tx, index, params.role, params.nonce)
            self._store.adopt(tx, ContractRow(name, params.contract, params.role, index))
            item = FollowedScript(lot_output_script(contract), ScriptKind.LOT, 0, 0, params.role)
            self._wallet.view.follow(tx, item, contract.heights.start)
            tx.audit("contract restored", {"cid": name, "role": params.role, "caller": ctx.caller})
            answer = self._adopted(contract, name)
            ctx.remember(tx, answer)
        self._scanner.look_again()
        return answer

    def _reserve(self, tx: Tx, index: int) -> None:
        """The key's number was handed out before: it and all below are never fresh again."""
        item = FollowedScript(self._keys.payout_script(index), ScriptKind.OWN, BRANCH_PAYOUT, index, "payout")
        self._wallet.view.follow(tx, item, self._wallet.view.height + 1, is_read=True)
        self._store.hand_out(tx, item)
        self._wallet.keep_gap(tx, self._wallet.view.height + 1)

    def _adopted(self, contract: Contract, name: str) -> Adopted:
        output_script = lot_output_script(contract)
        return Adopted(
            cid=name,
            redeem_script=lot_script(contract),
            output_script=output_script,
            address=script_to_address(output_script, self._wallet.family) or "",
            value_florins=lot_value(contract),
        )

"""Taking part in a lot: the same laws and the same bookkeeping whether it is agreed now or comes back from a copy.

Promise: a wallet takes part only where its own key and script stand in the contract, under every law of a contract, on
its own network. Source: settled.md 6, escrow_protocol.md §10.
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
from common.network import NetworkProfile
from common.store import Tx
from dux_flopd.contract_rules import check_network, check_own_part, own_party
from dux_flopd.model import ContractKeyRow, ContractRow, FollowedScript, ScriptKind
from dux_flopd.wallet import Wallet


class LotPart:
    """One wallet's part in lots."""

    def __init__(self, wallet: Wallet, network: NetworkProfile) -> None:
        self._wallet = wallet
        self._network = network

    def checked(
        self, body: bytes, role: str, index: int, key: ContractKeyRow | None, *, back: bool = False
    ) -> Contract:
        """The contract in these bytes, in which `key`, of number `index`, is this wallet's own for the role.

        `back`: it was agreed before, under the network's parameters of then.

        Raises:
            BadParams, NotAgreed: it is no contract of this network, or this wallet's part is another.
        """
        contract = from_canonical(body, Contract, max_bytes=CONTRACT_BYTES_MAX)
        check_contract(contract)
        check_network(contract, self._network, back=back)
        keys, party = self._wallet.keyring, own_party(contract, role)
        check_own_part(
            contract,
            role,
            cid(contract).hex(),
            key=key,
            pubkey=keys.contract_public(index),
            payout=keys.payout_script(index),
            result_hash=result_hash_of(keys.result_key(party.nonce, 0)) if party else b"",
        )
        return contract

    def take(self, tx: Tx, contract: Contract, body: bytes, role: str, index: int) -> Adopted:
        """Write it down and follow its script from the height at which it starts."""
        name, output_script = cid(contract).hex(), lot_output_script(contract)
        self._wallet.store.adopt(tx, ContractRow(name, body, role, index))
        item = FollowedScript(output_script, ScriptKind.LOT, 0, 0, role)
        self._wallet.view.follow(tx, item, contract.heights.start)
        return Adopted(
            cid=name,
            redeem_script=lot_script(contract),
            output_script=output_script,
            address=script_to_address(output_script, self._wallet.family) or "",
            value_florins=lot_value(contract),
        )

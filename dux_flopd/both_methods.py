"""contract.*_both: the award of a lot together with the seller's bond lot, signed only as it is rebuilt here.

Promise: this wallet signs one verdict for a coin: an award of the lot alone and one of both exclude each other, and so
do two lots that would take the same bond. Source: escrow_protocol.md §3, §9.
"""

from __future__ import annotations

from common.chain.bond_award import LotCoin, assemble_both, build_both, digests_of_both, judge_both
from common.chain.contract import CONTRACT_BYTES_MAX, Contract, lot_output_script
from common.chain.templates import Award, Side
from common.chain.tx import Outpoint, serialize, txid
from common.codec import Canon, canonical, from_canonical
from common.contracts.wallet_bond_lot import (
    CONTRACT_SETTLE_BOTH,
    CONTRACT_SIGN_BOTH,
    BothSignatures,
    SettleBoth,
    SignBoth,
)
from common.contracts.wallet_contract import Settled
from common.contracts.wallet_errors import ContractUnknown, NotAgreed
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Florins
from dux_flopd.contract_rules import check_depth
from dux_flopd.model import ContractRow, NewPayment, PaymentKind
from dux_flopd.wallet import Wallet

NOTHING = Award(Florins(0), Side.BUYER, ())  # the verdict of every award of both
ROLES = {"arbiter": "arbiter", "buyer": "seller"}  # role in the lot -> role in the bond, whose parties are swapped


class BothVerdict(Canon, frozen=True):
    """What binds this wallet when it signed an award of both: which coins go together."""

    lot: str
    bond: str


class BothMethods:
    """Handlers of contract.sign_both and contract.settle_both."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._store = wallet.store
        self._view = wallet.view
        self._keys = wallet.keyring

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CONTRACT_SIGN_BOTH, self.sign)
        table.serve(CONTRACT_SETTLE_BOTH, self.settle)

    async def sign(self, params: SignBoth, ctx: Ctx) -> BothSignatures:
        """Both inputs, by the two keys of this wallet."""
        rows, coins = self._parts(params)
        answer = self._signed(rows, coins, params.revealed)
        with self._store.store.transaction() as tx:
            if rows[0].role == "arbiter":
                self._bind(tx, params)
            tx.audit("lot and bond signed", {"cid": rows[0].cid, "bond": rows[1].cid, "role": rows[0].role})
            ctx.remember(tx, answer)
        return answer

    async def settle(self, params: SettleBoth, ctx: Ctx) -> Settled:
        """Complete, judge, store and broadcast."""
        rows, coins = self._parts(params)
        if rows[0].role != "buyer":
            raise NotAgreed(reason=f"this wallet is the {rows[0].role}; the buyer completes an award of both")
        own = self._signed(rows, coins, params.revealed)
        signatures = {item.pubkey: item.signature for item in params.signatures}
        signatures |= {own.pubkey: own.signature, own.bond_pubkey: own.bond_signature}
        full = assemble_both(*coins, build_both(*coins, params.revealed), signatures)
        judge_both(*coins, full)
        fee = sum(coin.value_florins for coin in coins) - int(full.paid_florins)
        answer = Settled(txid=txid(full), raw=serialize(full), outputs=list(full.outputs), fee_florins=Florins(fee))
        with self._store.store.transaction() as tx:
            self._store.add_payment(tx, _payment(answer, params, rows[0].cid, ctx.caller))
            tx.audit("lot and bond settled", {"cid": rows[0].cid, "bond": rows[1].cid, "txid": answer.txid})
            ctx.remember(tx, answer)
        return answer

    def _parts(self, params: SignBoth | SettleBoth) -> tuple[tuple[ContractRow, ContractRow], tuple[LotCoin, LotCoin]]:
        lot_row, lot = self._coin(params.cid, params.outpoint)
        bond_row, bond = self._coin(params.bond_cid, params.bond_outpoint)
        if ROLES.get(lot_row.role) != bond_row.role:
            raise NotAgreed(reason=f"this wallet is the {lot_row.role}; arbiters and the buyer sign an award of both")
        return (lot_row, bond_row), (lot, bond)

    def _coin(self, name: str, outpoint: Outpoint) -> tuple[ContractRow, LotCoin]:
        row = self._store.contract(name)
        if row is None:
            raise ContractUnknown(what="adopted contract", name=name, cid=name)
        contract = from_canonical(row.body, Contract, max_bytes=CONTRACT_BYTES_MAX)
        coin = self._view.store.coin(outpoint)
        if coin is None or coin.script != lot_output_script(contract):
            raise NotAgreed(reason=f"{outpoint} is no output on this contract's script that the chain view knows")
        check_depth(contract, NOTHING, str(outpoint), coin.height, self._view.height)
        return row, LotCoin(contract, outpoint, coin.value)

    def _signed(
        self, rows: tuple[ContractRow, ContractRow], coins: tuple[LotCoin, LotCoin], revealed: tuple[int, ...]
    ) -> BothSignatures:
        of_lot, of_bond = digests_of_both(*coins, build_both(*coins, revealed))
        lot, bond = (row.key_index for row in rows)
        return BothSignatures(
            pubkey=self._keys.contract_public(lot),
            signature=self._keys.sign_contract(lot, of_lot),
            bond_pubkey=self._keys.contract_public(bond),
            bond_signature=self._keys.sign_contract(bond, of_bond),
        )

    def _bind(self, tx: Tx, params: SignBoth) -> None:
        wanted = canonical(BothVerdict(str(params.outpoint), str(params.bond_outpoint)))
        for cid, outpoint in ((params.cid, params.outpoint), (params.bond_cid, params.bond_outpoint)):
            if self._store.signed_award(tx, cid, outpoint, wanted) != wanted:
                raise NotAgreed(reason="this wallet has signed another award for a coin; two would prove a fault")


def _payment(answer: Settled, params: SettleBoth, name: str, caller: str) -> NewPayment:
    return NewPayment(
        txid=answer.txid, raw=answer.raw, kind=PaymentKind.SETTLE, request_id=params.request_id, caller=caller,
        counterparty="", amount=0, fee=int(answer.fee_florins), binds=(params.outpoint, params.bond_outpoint),
        contract_id=name,
    )  # fmt: skip

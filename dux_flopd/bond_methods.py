"""wallet.bond_*: fidelity bonds, whose keys and heights follow from each other (common/chain/bond.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from common.chain.address import script_to_address
from common.chain.bond import (
    BadBond,
    Bond,
    BondProof,
    bond_digest,
    bond_output_script,
    bond_script,
    number_for,
    reclaim_digest,
    reclaim_sig,
    reclaim_tx,
    until_of,
)
from common.chain.fees import GROSS_MIN_FLORINS
from common.chain.heights import heights_profile
from common.chain.tx import Outpoint, TxOutput, serialize, txid
from common.chain.tx import Tx as CoinTx
from common.chain.verify import verify_spend
from common.codec import canonical
from common.contracts.wallet import WALLET_BOND_MAKE, WALLET_BOND_RECLAIM, WALLET_BOND_REGISTER, WALLET_BONDS
from common.contracts.wallet_bonds import BondCoin, BondMade, BondName, Bonds, BondTaken, BondView, MakeBond
from common.contracts.wallet_errors import BondLocked
from common.errors import NotFound
from common.keygen import BRANCH_BOND, BRANCH_RECEIVE
from common.network import NetworkProfile
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Did, Florins, format_flop
from dux_flopd.model import Coin, FollowedScript, NewPayment, PaymentKind, ScriptKind
from dux_flopd.owner_store import BondRow
from dux_flopd.wallet import Wallet


class BondMethods:
    """Handlers of bonds."""

    def __init__(self, wallet: Wallet, network: NetworkProfile, own_did: Callable[[], Awaitable[Did]]) -> None:
        self._wallet = wallet
        self._store = wallet.owner_store
        self._genesis = network.genesis
        self._step_blocks = heights_profile(network.heights).bond_step_blocks
        self._own_did = own_did

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_BOND_MAKE, self.make)
        table.serve(WALLET_BONDS, self.bonds)
        table.serve(WALLET_BOND_REGISTER, self.register)
        table.serve(WALLET_BOND_RECLAIM, self.reclaim)

    async def make(self, params: MakeBond, ctx: Ctx) -> BondMade:
        """Pay the bond's script, and follow it."""
        if params.amount_florins < GROSS_MIN_FLORINS:
            least = f"{format_flop(GROSS_MIN_FLORINS)} FLOP, the least bond"
            raise BadBond(reason=f"{format_flop(params.amount_florins)} FLOP are less than {least}")
        wallet = self._wallet
        number = number_for(params.until, wallet.view.height, self._step_blocks)
        script = self._script(number)
        with self._store.store.transaction() as tx:
            self._store.add_bond(tx, number, script)
            item = FollowedScript(script, ScriptKind.WATCH, 0, 0, "")
            wallet.view.follow(tx, item, wallet.view.height + 1, is_read=True)
            payment = wallet.pay(
                tx,
                TxOutput(params.amount_florins, script),
                kind=PaymentKind.BOND,
                request_id=params.request_id,
                caller=ctx.caller,
                counterparty=self._address(script),
            )
            answer = BondMade(
                number=number,
                txid=payment.txid,
                address=self._address(script),
                amount_florins=params.amount_florins,
                fee_florins=Florins(payment.fee),
                until=BlockHeight(until_of(number, self._step_blocks)),
            )
            ctx.remember(tx, answer)
        return answer

    async def bonds(self, _params: Empty, _ctx: Ctx) -> Bonds:
        """Those that hold coins."""
        rows = [(row, coins) for row in self._store.bonds() if (coins := self._wallet.coins_left_on(row.script))]
        did = await self._own_did() if any(row.is_told for row, _ in rows) else None
        return Bonds(
            bonds=[self._view(row, coins, did) for row, coins in rows], tip=BlockHeight(self._wallet.view.height)
        )

    async def register(self, params: BondName, ctx: Ctx) -> BondView:
        """From now on the bond is shown with proofs."""
        row, coins, did = self._row(params.number), self._coins(params.number), await self._own_did()
        with self._store.store.transaction() as tx:
            self._store.tell_bond(tx, row.number)
            view = self._view(BondRow(row.number, row.script, is_told=True), coins, did)
            tx.audit("bond registered", {"number": row.number, "did": did})
            ctx.remember(tx, view)
        return view

    async def reclaim(self, params: BondName, ctx: Ctx) -> BondTaken:
        """All of its coins to a fresh own address."""
        wallet, number = self._wallet, self._row(params.number).number
        until, tip = until_of(number, self._step_blocks), wallet.view.height
        if tip < until:
            raise BondLocked(until=until, tip=tip)
        coins = [coin for coin in self._coins(number) if coin.height is not None]
        pairs = tuple((coin.outpoint, coin.value) for coin in coins)
        with self._store.store.transaction() as tx:
            home = wallet.fresh(tx, BRANCH_RECEIVE, "bond").script
            blank = reclaim_tx(self._owner(number), until, pairs, home, wallet.settings.fee_rate_florins_per_kb)
            signed = self._signed(blank, number, until, dict(pairs))
            fee = sum(coin.value for coin in coins) - int(signed.paid_florins)
            wallet.decide(tx, _reclaimed(signed, params.request_id, ctx.caller, fee))
            answer = BondTaken(txid=txid(signed), amount_florins=signed.paid_florins, fee_florins=Florins(fee))
            ctx.remember(tx, answer)
        return answer

    def _signed(self, blank: CoinTx, number: int, until: int, values: dict[Outpoint, int]) -> CoinTx:
        redeem, keys = bond_script(self._owner(number), until), self._wallet.keyring
        digests = [reclaim_digest(blank, at, redeem) for at in range(len(blank.inputs))]
        signed = blank.signed([reclaim_sig(redeem, keys.sign_at(BRANCH_BOND, number, digest)) for digest in digests])
        script = self._script(number)
        verify_spend(signed, [TxOutput(Florins(values[item.outpoint]), script) for item in blank.inputs])
        return signed

    def _row(self, number: int) -> BondRow:
        found = next((row for row in self._store.bonds() if row.number == number), None)
        if found is None:
            raise NotFound(what="bond", name=str(number))
        return found

    def _coins(self, number: int) -> list[Coin]:
        coins = self._wallet.coins_left_on(self._row(number).script)
        if not coins:
            raise NotFound(what="coin in bond", name=str(number))
        return coins

    def _view(self, row: BondRow, coins: list[Coin], did: Did | None) -> BondView:
        return BondView(
            number=row.number,
            address=self._address(row.script),
            until=BlockHeight(until_of(row.number, self._step_blocks)),
            locked_florins=Florins(sum(coin.value for coin in coins)),
            registered=row.is_told,
            coins=[
                BondCoin(
                    outpoint=coin.outpoint,
                    value_florins=Florins(coin.value),
                    height=None if coin.height is None else BlockHeight(coin.height),
                    proof=self._proof(row.number, coin, did) if row.is_told and did else b"",
                )
                for coin in coins
            ],
        )

    def _proof(self, number: int, coin: Coin, did: Did) -> bytes:
        until = until_of(number, self._step_blocks)
        bond = Bond(self._genesis, did, self._owner(number), until, coin.outpoint)
        return canonical(BondProof(bond, self._wallet.keyring.sign_at(BRANCH_BOND, number, bond_digest(bond))))

    def _owner(self, number: int) -> bytes:
        return self._wallet.keyring.public(BRANCH_BOND, number)

    def _script(self, number: int) -> bytes:
        return bond_output_script(self._owner(number), until_of(number, self._step_blocks))

    def _address(self, script: bytes) -> str:
        return script_to_address(script, self._wallet.family) or ""


def _reclaimed(signed: CoinTx, request_id: str, caller: str, fee: int) -> NewPayment:
    return NewPayment(
        txid=txid(signed),
        raw=serialize(signed),
        kind=PaymentKind.RECLAIM,
        request_id=request_id,
        caller=caller,
        counterparty="",
        amount=0,
        fee=fee,
        binds=tuple(item.outpoint for item in signed.inputs),
        contract_id="",
    )

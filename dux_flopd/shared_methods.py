"""wallet.shared_*, wallet.partial_*: addresses of several wallets, and transactions that they sign one after the other.

A signature leaves only for a transaction whose id its owner has named after a review, in which every value is proven by
the transaction that made the coin. What the coordinator says of it counts for nothing.
"""

from __future__ import annotations

from common.chain.address import address_to_script, pay_to_script, script_to_address
from common.chain.fees import DUST_FLORINS, is_dust
from common.chain.psbt import (
    Partial,
    combine,
    digest_of,
    finish,
    from_text,
    new_partial,
    read_multisig,
    spent_outputs,
    to_text,
    with_signature,
)
from common.chain.script import BadScript, multisig_script
from common.chain.tx import Tx as CoinTx
from common.chain.tx import TxInput, TxOutput, serialize, txid
from common.chain.verify import is_pubkey, verify_spend
from common.contracts.wallet import (
    WALLET_PARTIAL_FINISH,
    WALLET_PARTIAL_MAKE,
    WALLET_PARTIAL_SHOW,
    WALLET_PARTIAL_SIGN,
    WALLET_SHARED,
    WALLET_SHARED_KEY,
    WALLET_SHARED_MAKE,
)
from common.contracts.wallet_errors import BadPartial, DustAmount, KeyNotOurs, NotShared
from common.contracts.wallet_shared import (
    FinishPartial,
    MakePartial,
    MakeShared,
    NewSharedKey,
    PartialSent,
    PartialView,
    Payee,
    SharedAddresses,
    SharedKey,
    SharedView,
    ShowPartial,
    SignPartial,
)
from common.keygen import BRANCH_CHANGE, BRANCH_SHARED
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import Florins
from dux_flopd.chain_methods import ChainMethods
from dux_flopd.model import Coin, NewPayment, PaymentKind
from dux_flopd.owner_store import Shared
from dux_flopd.partial_rules import fee_of, gather, input_bytes, shown_inputs, shown_outputs, warnings
from dux_flopd.rules import GAP
from dux_flopd.wallet import Wallet


class SharedMethods:
    """Handlers of what several wallets sign together."""

    def __init__(self, wallet: Wallet, chain: ChainMethods) -> None:
        self._wallet = wallet
        self._store = wallet.owner_store
        self._chain = chain

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(WALLET_SHARED_KEY, self.shared_key)
        table.serve(WALLET_SHARED_MAKE, self.shared_make)
        table.serve(WALLET_SHARED, self.shared)
        table.serve(WALLET_PARTIAL_MAKE, self.partial_make)
        table.serve(WALLET_PARTIAL_SHOW, self.partial_show)
        table.serve(WALLET_PARTIAL_SIGN, self.partial_sign)
        table.serve(WALLET_PARTIAL_FINISH, self.partial_finish)

    async def shared_key(self, params: NewSharedKey, ctx: Ctx) -> SharedKey:
        """The next key."""
        with self._store.store.transaction() as tx:
            number = self._store.new_shared_key(tx, params.label)
            key = SharedKey(number=number, public_key=self._wallet.keyring.public(BRANCH_SHARED, number))
            ctx.remember(tx, key)
        return key

    async def shared_make(self, params: MakeShared, ctx: Ctx) -> SharedView:
        """Follow the address; by default what comes from now on, for it is new."""
        if not all(is_pubkey(key) for key in params.public_keys):
            raise BadScript(reason="a public key has 33 bytes and is a point of the curve")
        redeem = multisig_script(params.needed, params.public_keys)
        item = Shared(pay_to_script(redeem), redeem, self._own_number(params.public_keys), params.label)
        with self._store.store.transaction() as tx:
            self._store.add_shared(tx, item)
        await self._chain.follow([item.script], params.from_height or self._wallet.view.height + 1, ctx)
        view = self._shared_view(item)
        with self._store.store.transaction() as tx:
            ctx.remember(tx, view)
        return view

    def _own_number(self, keys: tuple[bytes, ...]) -> int:
        """Which of our keys is among these; a wallet that was restored looks beyond those it remembers."""
        for number in range(self._store.shared_key_count() + GAP):
            if self._wallet.keyring.public(BRANCH_SHARED, number) in keys:
                return number
        raise KeyNotOurs(reason="none of these keys is this wallet's; make one with `duxnet wallet shared key`")

    async def shared(self, _params: Empty, _ctx: Ctx) -> SharedAddresses:
        """All of them."""
        return SharedAddresses(shared=[self._shared_view(item) for item in self._store.shared()])

    def _shared_view(self, item: Shared) -> SharedView:
        needed, keys = read_multisig(item.redeem) or (0, ())
        coins = self._wallet.coins_left_on(item.script)
        confirmed = sum(coin.value for coin in coins if coin.height is not None)
        return SharedView(
            address=script_to_address(item.script, self._wallet.family) or "",
            label=item.label,
            needed=needed,
            public_keys=list(keys),
            redeem_script=item.redeem,
            confirmed_florins=Florins(confirmed),
            pending_florins=Florins(sum(coin.value for coin in coins) - confirmed),
        )

    async def partial_make(self, params: MakePartial, _ctx: Ctx) -> PartialView:
        """Build it from confirmed coins of the source; nothing is bound."""
        wallet = self._wallet
        redeem, scripts, change = self._source(params.source)
        coins = [coin for script in scripts for coin in wallet.coins_left_on(script) if coin.height is not None]
        needed = (read_multisig(redeem) or (1, ()))[0]
        outputs = tuple(self._paid(payee) for payee in params.payees)
        rate = wallet.settings.fee_rate_florins_per_kb
        chosen, outputs = gather(coins, outputs, change, input_bytes(redeem, needed), rate)
        tx = CoinTx(tuple(TxInput(coin.outpoint) for coin in chosen), outputs)
        return self._view(new_partial(tx, [self._made(coin) for coin in chosen], [redeem] * len(chosen)))

    def _source(self, name: str) -> tuple[bytes, list[bytes], bytes]:
        """Redeem script (empty: key hashes), the scripts whose coins may be spent, and where change goes."""
        for account in self._store.watched_accounts():
            if account.text == name:
                number = self._store.last_paid(account.number, BRANCH_CHANGE) + 1
                scripts = self._store.watched(account.number)
                change = next(i for i in scripts if (i.branch, i.number) == (BRANCH_CHANGE, number))
                return b"", [item.script for item in scripts], change.script
        script = address_to_script(name, self._wallet.family)
        shared = self._store.shared_at(script)
        if shared is not None:
            return shared.redeem, [script], script
        if self._store.watched_script(script) is None:
            raise NotShared(address=name)
        return b"", [script], script

    def _paid(self, payee: Payee) -> TxOutput:
        if is_dust(payee.amount_florins):
            raise DustAmount(amount_florins=int(payee.amount_florins), least_florins=DUST_FLORINS)
        return TxOutput(payee.amount_florins, address_to_script(payee.address, self._wallet.family))

    def _made(self, coin: Coin) -> bytes:
        found = self._wallet.view.store.raw_tx(coin.outpoint.txid)
        if found is None:
            raise BadPartial(reason=f"the transaction that made {coin.outpoint} is not known here")
        return found[0]

    async def partial_show(self, params: ShowPartial, _ctx: Ctx) -> PartialView:
        """The review."""
        return self._view(from_text(params.psbt))

    async def partial_sign(self, params: SignPartial, ctx: Ctx) -> PartialView:
        """Sign every input that is ours, of exactly the transaction that was reviewed."""
        partial = from_text(params.psbt)
        if txid(partial.tx) != params.txid:
            raise BadPartial(reason=f"it is not {params.txid}, which was reviewed, but {txid(partial.tx)}")
        signed = self._signed(partial)
        view = self._view(signed)
        with self._store.store.transaction() as tx:
            tx.audit("partial signed", {"txid": params.txid, "leaves_us_florins": str(int(view.leaves_us_florins))})
            ctx.remember(tx, view)
        return view

    def _signed(self, partial: Partial) -> Partial:
        signed = partial
        for at, spent in enumerate(spent_outputs(partial)):
            place = self._place(spent.script)
            if place is not None:
                key = self._wallet.keyring.public(*place)
                signature = self._wallet.keyring.sign_at(*place, digest_of(partial, at, spent))
                signed = with_signature(signed, at, key, signature)
        if signed == partial:
            raise KeyNotOurs(reason="none of the coins that it spends is this wallet's, or all are signed already")
        return signed

    def _place(self, script: bytes) -> tuple[int, int] | None:
        """Branch and number of our key for this script."""
        shared = self._store.shared_at(script)
        return (BRANCH_SHARED, shared.number) if shared else self._wallet.store.own_place(script)

    async def partial_finish(self, params: FinishPartial, ctx: Ctx) -> PartialSent:
        """Combine, complete, judge, store, broadcast."""
        partial = combine([from_text(text) for text in params.psbts])
        full, fee = finish(partial), fee_of(partial)
        verify_spend(full, spent_outputs(partial))
        answer = PartialSent(txid=txid(full), fee_florins=Florins(fee))
        payment = NewPayment(
            txid=answer.txid,
            raw=serialize(full),
            kind=PaymentKind.PARTIAL,
            request_id=params.request_id,
            caller=ctx.caller,
            counterparty="",
            amount=0,
            fee=fee,
            binds=tuple(item.outpoint for item in full.inputs),
            contract_id="",
        )
        with self._store.store.transaction() as tx:
            self._wallet.decide(tx, payment)
            ctx.remember(tx, answer)
        return answer

    def _view(self, partial: Partial) -> PartialView:
        wallet = self._wallet
        inputs = shown_inputs(partial, self._own_keys, wallet.family)
        outputs = shown_outputs(partial, self._is_ours, wallet.family)
        spent = sum(int(item.value_florins) for item in inputs if item.ours)
        back = sum(int(item.value_florins) for item in outputs if item.ours)
        return PartialView(
            psbt=to_text(partial),
            txid=txid(partial.tx),
            inputs=inputs,
            outputs=outputs,
            fee_florins=Florins(fee_of(partial)),
            leaves_us_florins=Florins(spent - back),
            warnings=warnings(partial, inputs, outputs, wallet.settings.fee_rate_florins_per_kb),
            complete=all(item.signed >= item.needed for item in inputs),
        )

    def _own_keys(self, script: bytes) -> list[bytes]:
        place = self._place(script)
        return [self._wallet.keyring.public(*place)] if place is not None else []

    def _is_ours(self, script: bytes) -> bool:
        return self._place(script) is not None or self._store.watched_script(script) is not None

"""chain.*: the chain view, for the daemons that follow scripts on it."""

from __future__ import annotations

import asyncio

from common.chain.beacon import beacon_heights, beacon_of, work_hash
from common.chain.tx import Outpoint, Tx, TxOutput, parse, serialize, txid
from common.chain.verify import verify_known
from common.contracts.wallet_chain import (
    CHAIN_BEACON,
    CHAIN_BLOCK_HASH,
    CHAIN_BROADCAST,
    CHAIN_COINS,
    CHAIN_STATUS,
    CHAIN_TIP,
    CHAIN_TX,
    CHAIN_WATCH,
    SCRIPTS_MAX,
    Beacon,
    BlockHash,
    Broadcast,
    Broadcasted,
    ChainStatus,
    CoinBan,
    CoinPeer,
    Coins,
    CoinView,
    HeightAsked,
    ScriptAsked,
    SpendView,
    Tip,
    TxAsked,
    TxView,
    WatchScripts,
)
from common.contracts.wallet_errors import ChainUnavailable, NotSynced
from common.errors import BadParams, NotFound
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Florins
from dux_flopd.blocks import parse_block, work_header
from dux_flopd.chain_store import ChainStore
from dux_flopd.model import Coin, FollowedScript, NewPayment, PaymentKind, ScriptKind
from dux_flopd.scanner import Scanner
from dux_flopd.source import ChainSource, Refused
from dux_flopd.store import WalletStore
from dux_flopd.view import ChainView

WATCH_WAIT_MAX_S = 10.0  # for a node that reads many blocks; the caller repeats
WORKS_KEPT = 1_000  # work hashes remembered: those of the last beacons
SCRIPT_BYTES_MAX = 100  # key hashes and script hashes have 25 and 23


class ChainMethods:
    """Handlers of chain.*."""

    def __init__(self, view: ChainView, scanner: Scanner, node: ChainSource, wallet: WalletStore) -> None:
        self._view = view
        self._store: ChainStore = view.store
        self._scanner = scanner
        self._node = node
        self._wallet = wallet
        self._works: dict[str, bytes] = {}  # block hash -> its work hash

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CHAIN_TIP, self.tip)
        table.serve(CHAIN_STATUS, self.status)
        table.serve(CHAIN_BLOCK_HASH, self.block_hash)
        table.serve(CHAIN_BEACON, self.beacon)
        table.serve(CHAIN_WATCH, self.watch)
        table.serve(CHAIN_COINS, self.coins)
        table.serve(CHAIN_BROADCAST, self.broadcast)
        table.serve(CHAIN_TX, self.tx)

    async def tip(self, _params: Empty, _ctx: Ctx) -> Tip:
        """Where the view stands."""
        view = self._view
        height, synced = BlockHeight(view.height), self._scanner.is_synced
        return Tip(height=height, hash=view.hash, time_s=view.time_s, synced=synced, source=self._node.name)

    async def status(self, _params: Empty, _ctx: Ctx) -> ChainStatus:
        """The source, and what about it looks wrong."""
        found = self._node.status()
        return ChainStatus(
            source=found.source,
            endpoint=found.endpoint,
            header_height=BlockHeight(found.header_height),
            header_hash=found.header_hash,
            peers=[CoinPeer(address=p.address, agent=p.agent, height=p.height, filters=p.filters) for p in found.peers],
            bans=[CoinBan(address=address, reason=reason) for address, reason in found.bans],
            warnings=list(found.warnings),
            peers_wanted=found.peers_wanted,
        )

    async def block_hash(self, params: HeightAsked, _ctx: Ctx) -> BlockHash:
        """The hash at a height up to the view's tip."""
        return BlockHash(height=params.height, hash=await self._hash_at(params.height))

    async def beacon(self, params: HeightAsked, _ctx: Ctx) -> Beacon:
        """The public draw of a height up to the view's tip."""
        await self._hash_at(params.height)  # a height that the view does not have is told before any block is read
        hashes = [await self._hash_at(height) for height in beacon_heights(params.height)]
        works = [await self._work_of(block_hash) for block_hash in hashes]
        return Beacon(height=params.height, beacon=beacon_of(params.height, works))

    async def _work_of(self, block_hash: str) -> bytes:
        """A block's work hash, kept by the block's name: a reorganisation asks for other names."""
        if block_hash not in self._works:
            try:
                header = work_header(await self._node.block(block_hash))
            except Refused as error:
                raise ChainUnavailable(endpoint=self._node.endpoint, detail=str(error)) from error
            if len(self._works) >= WORKS_KEPT:
                self._works.clear()
            self._works[block_hash] = work_hash(header)
        return self._works[block_hash]

    async def watch(self, params: WatchScripts, ctx: Ctx) -> Done:
        """Follow scripts, and wait until the blocks from there on are read."""
        if len(params.scripts) > SCRIPTS_MAX or any(len(item) > SCRIPT_BYTES_MAX for item in params.scripts):
            raise BadParams(detail=f"up to {SCRIPTS_MAX} output scripts of up to {SCRIPT_BYTES_MAX} bytes")
        await self.follow(params.scripts, params.from_height, ctx)
        return Done()

    async def follow(self, scripts: list[bytes], from_height: int, ctx: Ctx) -> None:
        """Follow scripts from a height on, and return when the blocks from there are read.

        Raises:
            NotSynced: not within the time the caller has.
        """
        with self._store.store.transaction() as tx:
            for script in scripts:
                self._view.follow(tx, FollowedScript(script, ScriptKind.WATCH, 0, 0, ""), from_height)
        self._scanner.look_again()
        await self.until_read(scripts, ctx)

    async def until_read(self, scripts: list[bytes], ctx: Ctx) -> None:
        """Return when the scripts' blocks have been read.

        Raises:
            NotSynced: not within the time the caller has.
        """
        wait_s = max(0.0, min(WATCH_WAIT_MAX_S, ctx.seconds_left() - 1.0))
        try:
            async with asyncio.timeout(wait_s), self._scanner.changed:
                await self._scanner.changed.wait_for(lambda: self._store.is_read(scripts))
        except TimeoutError as error:
            raise NotSynced(height=self._view.height) from error

    async def coins(self, params: ScriptAsked, _ctx: Ctx) -> Coins:
        """Every output on a followed script.

        Raises:
            NotSynced: blocks of its past are still to be read; what was found until then would look like all there is.
        """
        if not self._view.follows(params.script):
            raise NotFound(what="watched script", name=params.script.hex())
        if not self._store.is_read([params.script]):
            raise NotSynced(height=self._view.height)
        coins = [coin_view(self._store, coin) for coin in self._store.coins_on(params.script)]
        return Coins(coins=coins, tip=BlockHeight(self._view.height))

    async def broadcast(self, params: Broadcast, ctx: Ctx) -> Broadcasted:
        """Hand over what was made elsewhere, until it is in a block; it binds those of its coins that are known here.

        Raises:
            SpendRefused: it may not spend one of them. A stranger's bytes come here, too: a wrong one would lock it.
        """
        tx = parse(params.raw)
        coins = [self._store.coin(item.outpoint) for item in tx.inputs]
        verify_known(tx, [TxOutput(Florins(coin.value), coin.script) if coin else None for coin in coins])
        payment = _relayed(tx, [coin.outpoint for coin in coins if coin], params.request_id, ctx.caller)
        answer = Broadcasted(txid=payment.txid)
        with self._store.store.transaction() as decision:
            self._wallet.add_payment(decision, payment)
            ctx.remember(decision, answer)
        return answer

    async def tx(self, params: TxAsked, _ctx: Ctx) -> TxView:
        """A transaction that is known here, or that the named block holds."""
        known = self._store.raw_tx(params.txid)
        if known is not None:
            return _tx_view(params.txid, *known)
        if params.height is not None:
            return await self._tx_in_block(params.txid, params.height)
        waits = params.txid in await self._node.waiting()  # a node may know it from an old block, too
        raw = await self._node.waiting_tx(params.txid) if waits else None
        if raw is None:
            raise NotFound(what="transaction", name=params.txid)
        return _tx_view(params.txid, raw, None)

    async def _tx_in_block(self, wanted: str, height: int) -> TxView:
        block = parse_block(await self._node.block(await self._hash_at(height)))
        for item in block.txs:
            if item.txid == wanted:
                return _tx_view(wanted, item.raw, height)
        raise NotFound(what=f"transaction in block {height}", name=wanted)

    async def _hash_at(self, height: int) -> str:
        if not 0 <= height <= self._view.height:
            raise NotFound(what="block at height", name=str(height))
        try:
            found = self._store.block_hash(height) or await self._node.block_hash(height)
        except Refused as error:
            raise ChainUnavailable(endpoint=self._node.endpoint, detail=str(error)) from error
        if found is None:
            raise NotFound(what="block at height", name=str(height))
        return found


def coin_view(store: ChainStore, coin: Coin) -> CoinView:
    """A coin with its spend, as the contract tells it."""
    return CoinView(
        outpoint=coin.outpoint,
        value_florins=Florins(coin.value),
        height=_height(coin.height),
        position=coin.position,
        spend=_spend_view(store, coin.outpoint),
    )


def _spend_view(store: ChainStore, outpoint: Outpoint) -> SpendView | None:
    spend = store.spend_of(outpoint)
    if spend is None:
        return None
    height = _height(spend.height)
    return SpendView(txid=spend.spender, height=height, raw=spend.raw, script_sig=spend.script_sig)


def _tx_view(wanted: str, raw: bytes, height: int | None) -> TxView:
    tx = parse(raw)
    spent = [item.outpoint for item in tx.inputs]
    return TxView(txid=wanted, height=_height(height), raw=serialize(tx), spent=spent, outputs=list(tx.outputs))


def _height(height: int | None) -> BlockHeight | None:
    return None if height is None else BlockHeight(height)


def _relayed(tx: Tx, binds: list[Outpoint], request_id: str, caller: str) -> NewPayment:
    return NewPayment(
        txid=txid(tx),
        raw=serialize(tx),
        kind=PaymentKind.RELAY,
        request_id=request_id,
        caller=caller,
        counterparty="",
        amount=0,
        fee=0,
        binds=tuple(binds),
        contract_id="",
    )

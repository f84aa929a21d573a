"""The coin node of a world: the embedded chain, mined by the script of the history, with forks and malleated spends.

Promises that what consensus allows a hostile miner happens here: blocks vanish, come back with other transactions, and
a transaction returns under another txid, its signatures mirrored (high S), its meaning unchanged. Forks are as deep as
the history says, and are said to be. Work is one cheap hash: who works is scripted, not raced for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import coincurve
import msgspec

from common.chain import difficulty
from common.chain.wire import Tx, TxIn, shown, unshown
from common.contracts.wallet_errors import ChainUnavailable
from dux_flopd.blocks import Block, parse_block
from dux_flopd.source import ChainTip, Refused, SourceStatus
from dux_sim.chain import consensus, miner, tx_rules
from dux_sim.chain.args import RpcError
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile
from dux_sim.chain.rpc import RpcTable
from dux_sim.chain.rpc_actions import NOBODY
from dux_sim.chain.state import Entry
from dux_sim.world.history import History

OP_PUSHDATA1, OP_PUSHDATA2 = 0x4C, 0x4D
_ORDER = coincurve.utils.GROUP_ORDER_INT


def cheap_work_hash(header_raw: bytes) -> bytes:
    """One hash in place of scrypt's thousand: the named part that stands in for proof of work."""
    return hashlib.sha256(header_raw).digest()


@contextmanager
def cheap_work() -> Iterator[None]:
    """While it lasts, blocks are worked and judged by the cheap hash."""
    real = difficulty.work_hash
    difficulty.work_hash = cheap_work_hash
    try:
        yield
    finally:
        difficulty.work_hash = real


class Coin:
    """The chain, and what the history does to it."""

    def __init__(self, profile: ChainProfile, history: History) -> None:
        self.node = Node(profile)
        self.table = RpcTable(self.node)
        self.history = history
        self.changed: dict[asyncio.Event, None] = {}  # of wallets that wait for news
        self.malleated = 0
        self.node.listen(self.tell)

    @property
    def height(self) -> int:
        """The tip's height."""
        return self.node.chain.tip.height

    def tell(self) -> None:
        """Wake who waits for a block or a transaction."""
        for event in self.changed:
            event.set()

    def mine(self, count: int = 1) -> None:
        """Blocks with what waits."""
        for _ in range(count):
            self.node.mine(NOBODY)
            self._note()

    def has_payments(self, depth: int) -> bool:
        """Whether the block that is so deep holds anything but new coins."""
        active = self.node.chain.active
        return depth < len(active) and len(active[-depth].block.txs) > 1

    def fork(self, depth: int, *, malleate: bool) -> None:
        """The last `depth` blocks are replaced by one more; their transactions come back, perhaps as twins."""
        depth = min(depth, self.height)
        first = self.node.chain.active[-depth]
        lost = [tx for entry in self.node.chain.active[-depth:] for tx in entry.block.txs if not tx.is_coinbase]
        self.node.exclude(first)
        self.tell()
        twins = self._twins(lost) if malleate else []
        self._submit(twins)
        for _ in range(depth):
            self.node.mine(NOBODY)
            self._note()

    def _twins(self, lost: list[Tx]) -> list[Tx]:
        """The lost transactions with mirrored signatures, as far as they still stand on the chain."""
        known, made = set(self.node.chain.coins), list[Tx]()
        for tx in lost:
            if all(txin.prevout in known for txin in tx.inputs):
                made.append(twin_of(tx))
        self.malleated += len(made)
        return made

    def _submit(self, txs: list[Tx]) -> None:
        node = self.node
        tip = node.chain.tip
        height, time_s = tip.height + 1, max(node.now_s(), tip.median_time_s + 1)
        coins = node.chain.coins
        fees = sum(tx_rules.fee_of(tx, tx_rules.spent_coins(tx, coins), height) for tx in txs)
        extra = 1_000_000_000 + len(node.chain.entries)
        reward = miner.coinbase_tx(height, consensus.subsidy_at(height) + fees, NOBODY, extra)
        node.submit_block(miner.work(miner.assemble(tip, time_s, (reward, *txs), merged=False)), time_s)
        self._note()

    def drop_waiting(self) -> int:
        """The mempool forgets everything, as after a restart; how many there were."""
        dropped = list(self.node.pool.waiting)
        for txid in dropped:
            if txid in self.node.pool.waiting:
                self.node.pool.drop_with_descendants(txid)
        return len(dropped)

    def _note(self) -> None:
        tip = self.node.chain.tip
        self.history.note("block", f"{tip.height} {shown(tip.hash)}", b"".join(tx.raw for tx in tip.block.txs))


def twin_of(tx: Tx) -> Tx:
    """The same payment under another txid: every signature (r, s) as (r, n - s), which consensus takes."""
    inputs = tuple(TxIn(txin.prevout, _mirrored(txin.script_sig), txin.sequence) for txin in tx.inputs)
    return msgspec.structs.replace(tx, inputs=inputs)


def _mirrored(script_sig: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(script_sig):
        head, size = _push_at(script_sig, at)
        item = script_sig[at + head : at + head + size]
        mirrored = head == 1 and is_signature(item)
        parts.append(_push(_other_s(item)) if mirrored else script_sig[at : at + head + size])
        at += head + size
    return b"".join(parts)


def _push_at(script: bytes, at: int) -> tuple[int, int]:
    """Bytes of the opcode with its length, and bytes pushed."""
    code = script[at]
    if code < OP_PUSHDATA1:
        return 1, code
    if code == OP_PUSHDATA1:
        return 2, script[at + 1]
    if code == OP_PUSHDATA2:
        return 3, int.from_bytes(script[at + 1 : at + 3], "little")
    return 1, 0


def is_signature(item: bytes) -> bool:
    """Whether a push looks like a DER signature with its hash type."""
    return len(item) > 8 and item[0] == 0x30 and item[1] == len(item) - 3  # noqa: PLR2004


def _other_s(signature: bytes) -> bytes:
    size_r = signature[3]
    r = signature[4 : 4 + size_r]
    s = int.from_bytes(signature[6 + size_r : -1], "big")
    body = _der_number(int.from_bytes(r, "big")) + _der_number(_ORDER - s)
    return bytes([0x30, len(body)]) + body + signature[-1:]


def _der_number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(data)]) + data


def _push(item: bytes) -> bytes:
    return bytes([len(item)]) + item


class CoinSource:
    """One wallet's view of the coin node: flopd's `ChainSource`, without a wire. It can be away."""

    def __init__(self, coin: Coin) -> None:
        self._coin = coin
        self._wake = asyncio.Event()
        self.away = False
        coin.changed[self._wake] = None

    @property
    def name(self) -> str:
        """Which kind of source."""
        return "core"

    @property
    def endpoint(self) -> str:
        """For people."""
        return "the simulated chain"

    async def close(self) -> None:
        """Listen no more."""
        self.forget()

    def forget(self) -> None:
        """The wallet is gone."""
        self._coin.changed.pop(self._wake, None)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise ChainUnavailable(endpoint=self.endpoint, detail="the history took it away")

    async def genesis(self) -> str:
        """The hash of block 0."""
        await self._turn()
        return shown(self._coin.node.chain.active[0].hash)

    async def tip(self) -> ChainTip:
        """The best chain's tip."""
        await self._turn()
        tip = self._coin.node.chain.tip
        return ChainTip(tip.height, shown(tip.hash))

    async def wait_for_change(self, wait_ms: int) -> None:
        """Return when a block or a transaction came, or after `wait_ms`."""
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def block_hash(self, height: int) -> str | None:
        """The hash at a height of the best chain; None above the tip."""
        await self._turn()
        active = self._coin.node.chain.active
        return shown(active[height].hash) if 0 <= height < len(active) else None

    async def read(self, block_hash: str) -> Block:
        """A block, whole."""
        return parse_block(await self.block(block_hash))

    async def block(self, block_hash: str) -> bytes:
        """A block's bytes."""
        await self._turn()
        entry: Entry | None = self._coin.node.chain.entries.get(unshown(block_hash))
        if entry is None:
            raise Refused(-5, "Block not found")
        return entry.block.raw

    def status(self) -> SourceStatus:
        """Where the chain stands."""
        tip = self._coin.node.chain.tip
        return SourceStatus(self.name, self.endpoint, tip.height, shown(tip.hash))

    async def waiting(self) -> list[str]:
        """The ids of the transactions that wait for a block."""
        await self._turn()
        return [shown(txid) for txid in self._coin.node.pool.waiting]

    async def waiting_tx(self, txid: str) -> bytes | None:
        """The bytes of a waiting transaction; None when it is gone by now."""
        await self._turn()
        entry = self._coin.node.pool.waiting.get(unshown(txid))
        return None if entry is None else entry.tx.raw

    async def broadcast(self, raw: bytes) -> None:
        """Hand a transaction over; `Refused` when it is not taken."""
        await self._turn()
        before = len(self._coin.node.pool.waiting)
        try:
            self._coin.table.call("sendrawtransaction", [raw.hex()])
        except RpcError as error:
            raise Refused(error.code, error.message) from error
        finally:
            if len(self._coin.node.pool.waiting) != before:
                self._coin.tell()
        self._coin.history.note("pay", shown_raw(raw), raw)


def shown_raw(raw: bytes) -> str:
    """A transaction's id as people write it."""
    return hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex()

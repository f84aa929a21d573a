"""The chain as a light wallet sees it: headers it judged itself, blocks by proof, peers that are checked on each other.

Promises what `dux_flopd.source.ChainSource` asks, without any node of its own to believe. While no peer is connected,
or the headers have not reached the last checkpoint, it says so rather than showing a tip.

Source: docs/protocol/spv.md.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from common.chain.coin_network import CoinNetwork
from common.clock import Clock
from common.contracts.wallet_errors import ChainUnavailable
from dux_flopd.blocks import Block
from dux_flopd.source import ChainTip, PeerView, SourceStatus
from dux_flopd.spv_blocks import BlockReader
from dux_flopd.spv_book import owner_block_of
from dux_flopd.spv_chain import HeaderChain
from dux_flopd.spv_net import PeerNet
from dux_flopd.spv_peer import Peer
from dux_flopd.spv_relay import Relay
from dux_flopd.spv_signals import PeerSeen, Seen, Signal, signals_of
from dux_flopd.spv_sync import HeaderSync
from dux_flopd.spv_watch import Watch

BELIEVED_FROM = 2  # peers that must announce a stranger's transaction, where there are so many
DAY_BLOCKS = 1440
HEIGHTS_KEPT = 5_000
READY_WAIT_S = 2.0  # a handshake and the first headers take less


class SpvSource:
    """A chain source that is nobody's client."""

    def __init__(
        self,
        network: CoinNetwork,
        genesis: str,
        *,
        net: PeerNet,
        sync: HeaderSync,
        reader: BlockReader,
        relay: Relay,
        watch: Watch,
        changed: asyncio.Event,
        clock: Clock,
    ) -> None:
        self._network = network
        self._genesis = genesis
        self._net = net
        self._sync = sync
        self._reader = reader
        self._relay = relay
        self._watch = watch
        self._changed = changed
        self._clock = clock
        self._heights: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Which kind of source."""
        return "spv"

    @property
    def endpoint(self) -> str:
        """How many nodes are connected."""
        return self._net.endpoint

    async def run(self) -> None:
        """Hold connections, until cancelled."""
        await self._net.run()

    async def close(self) -> None:
        """Connections end with `run`."""

    async def genesis(self) -> str:
        """The hash of block 0: what every peer was judged by."""
        return self._genesis

    def _chain(self) -> HeaderChain:
        chain = self._sync.chain
        if chain is None or not self._net.ready():
            raise ChainUnavailable(endpoint=self.endpoint, detail=f"no peer is ready; {self._net.last_reason}")
        if not chain.is_proven:
            detail = f"headers up to {chain.tip.height}, the last checkpoint is at {chain.linked_to}"
            raise ChainUnavailable(endpoint=self.endpoint, detail=detail)
        return chain

    async def tip(self) -> ChainTip:
        """The end of the branch with most work; a peer that is on its way is waited for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_WAIT_S):
                while not self._net.ready():
                    await self._changed.wait()
                    self._changed.clear()
        tip = self._chain().tip
        return ChainTip(tip.height, tip.hash[::-1].hex())

    async def wait_for_change(self, wait_ms: int) -> None:
        """Return when a header or a transaction of the wallet's came, or after `wait_ms`."""
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def block_hash(self, height: int) -> str | None:
        """The hash at a height of the best chain; None above the tip."""
        found = self._chain().hash_at(height)
        if found is None:
            return None
        name = found[::-1].hex()
        self._heights[name] = height
        while len(self._heights) > HEIGHTS_KEPT:
            self._heights.pop(next(iter(self._heights)))
        return name

    def _height_of(self, block_hash: str) -> int | None:
        known = self._heights.get(block_hash)
        return known if known is not None else self._chain().height_of(bytes.fromhex(block_hash)[::-1])

    async def read(self, block_hash: str) -> Block:
        """What a block holds of the wallet's, at least; the pool learns what waits no more."""
        self._watch.take_back(self._clock.monotonic())  # before: a rival of what left the chain may be in this block
        block = await self._reader.read(block_hash, self._height_of(block_hash))
        self._relay.pool.on_block((item.txid, item.tx) for item in block.txs)
        return block

    async def block(self, block_hash: str) -> bytes:
        """A whole block's bytes."""
        return await self._reader.whole(block_hash, self._height_of(block_hash))

    async def waiting(self) -> list[str]:
        """The wallet's transactions that wait for a block, as far as they are believed."""
        pool = self._relay.pool
        self._watch.take_back(self._clock.monotonic())
        self._relay.expire()
        return pool.believed(min(BELIEVED_FROM, max(1, len(self._net.ready()))))

    async def waiting_tx(self, txid: str) -> bytes | None:
        """The bytes of a waiting transaction; None when it is gone by now."""
        known = self._relay.pool.get(txid)
        return known.raw if known else None

    async def broadcast(self, raw: bytes) -> None:
        """Hand a transaction to the peers; `Refused` when they agree that it is wrong."""
        chain = self._chain()
        if not await self._relay.broadcast(raw, chain.tip.hash, self._net.ready()):
            raise ChainUnavailable(endpoint=self.endpoint, detail="no peer took the transaction")

    def status(self) -> SourceStatus:
        """Peers, bans and what looks wrong."""
        chain = self._sync.chain
        return SourceStatus(
            source=self.name,
            endpoint=self.endpoint,
            header_height=chain.tip.height if chain else -1,
            header_hash=chain.tip.hash[::-1].hex() if chain else "",
            peers=tuple(_peer_view(peer) for peer in self._net.ready()),
            bans=tuple(self._net.book.bans(self._clock.monotonic())),
            warnings=tuple(self._warnings(chain)),
            peers_wanted=self._network.peers_wanted,
        )

    def _warnings(self, chain: HeaderChain | None) -> list[str]:
        peers = self._net.ready()
        if chain is None:
            return [Signal.FEW_PEERS.value]
        day_ago = chain.bits_at(max(chain.base_height, chain.tip.height - DAY_BLOCKS))
        seen = Seen(
            peers=[PeerSeen(net=owner_block_of(p.address), height=p.height, tip_shown=p.tip_shown) for p in peers],
            wanted=self._network.peers_wanted,
            apart=self._network.apart,
            height=chain.tip.height,
            tip_age_s=self._sync.now_s - chain.tip.time_s,
            spacing_s=self._network.spacing_s,
            is_real_time=self._network.apart,
            bits_now=chain.tip.bits,
            bits_day_ago=day_ago,
            deepest_fork=chain.deepest_fork,
            withheld=self._reader.withheld,
            unheard=self._relay.unheard,
            checked_blocks=self._reader.checked,
            unchecked_blocks=self._reader.unchecked,
        )
        return [signal.value for signal in signals_of(seen)]


def _peer_view(peer: Peer) -> PeerView:
    agent = peer.version.user_agent if peer.version else ""
    return PeerView(address=peer.address, agent=agent, height=peer.height, filters=peer.has_bloom)

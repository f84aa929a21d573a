"""Reads blocks from peers: what they hold of the wallet's, by filter and proof, from two peers each; or whole.

Promises: no transaction is believed that the block's header does not bind; where two peers answer, what one of them
left out is noticed, told and held against it; where none can prove, the whole block is read. What was read before a
script was followed is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from common.chain import bloom, messages
from common.chain.coin_network import CoinNetwork
from common.chain.invalid import Invalid
from common.chain.messages import Inv
from common.chain.wire import unshown
from common.clock import Clock
from common.contracts.wallet_errors import ChainUnavailable
from common.randomness import Randomness
from dux_flopd.blocks import Block, BlockTx
from dux_flopd.spv_net import PeerNet
from dux_flopd.spv_peer import Peer, PeerFault, PeerLost
from dux_flopd.spv_rules import Unprovable, block_named, by_txid, check_whole_work, proven, whole
from dux_flopd.spv_sync import HeaderSync
from dux_flopd.spv_watch import Watch

ASKED_BOTH = 2  # peers that a filtered block is asked from
BATCH = 32  # filtered blocks in one request
ROUNDS = 4  # other peers are tried so often
NOTED_MAX = 100
DAY_S = 24 * 3600.0


@dataclass
class Read:
    """What one peer answered about one block."""

    peer: str
    block: Block | None  # None: it could not be proven


class BlockReader:
    """Blocks by name."""

    def __init__(
        self, network: CoinNetwork, net: PeerNet, sync: HeaderSync, watch: Watch, random: Randomness, clock: Clock
    ) -> None:
        self._network = network
        self._net = net
        self._sync = sync
        self._watch = watch
        self._random = random
        self._clock = clock
        self._ahead: dict[str, list[Read]] = {}
        self._ahead_version = -1
        self._withheld: list[float] = []
        self.checked = self.unchecked = 0
        self.whole_only = False

    @property
    def withheld(self) -> int:
        """How often a peer left something out in the last day."""
        now_s = self._clock.monotonic()
        self._withheld = [at_s for at_s in self._withheld if now_s - at_s < DAY_S]
        return len(self._withheld)

    async def read(self, block_hash: str, height: int | None) -> Block:
        """What a block holds of the wallet's, at least.

        Raises:
            ChainUnavailable: no peer has it.
        """
        for _ in range(ROUNDS):
            if self._ahead_version != self._watch.scripts_version:
                self._ahead.clear()
                self._ahead_version = self._watch.scripts_version
            if block_hash not in self._ahead:
                await self._fetch(self._batch(block_hash, height))
            reads = self._ahead.pop(block_hash, [])
            if reads and all(item.block is not None for item in reads):
                return self._joined(reads)
            if reads or not self._bloom_peers():
                return whole(await self.whole(block_hash, height))
        raise ChainUnavailable(endpoint=self._net.endpoint, detail=f"no peer shows block {block_hash}")

    def _bloom_peers(self) -> list[Peer]:
        if self.whole_only or len(self._watch.elements()) > bloom.ELEMENTS_MAX:
            return []
        return [peer for peer in self._net.ready() if peer.has_bloom]

    def _batch(self, block_hash: str, height: int | None) -> list[str]:
        """The block, and those that follow it on the best chain: whoever reads on wants them next."""
        chain, names = self._sync.chain, [block_hash]
        if chain is not None and height is not None:
            following = [chain.hash_at(at) for at in range(height + 1, height + BATCH)]
            names += [name[::-1].hex() for name in following if name is not None]
        return names

    async def _fetch(self, names: Sequence[str]) -> None:
        peers = self._random.sample(self._bloom_peers(), ASKED_BOTH)
        answers = await asyncio.gather(*(self._filtered(peer, names) for peer in peers))
        for reads in answers:
            for name, read in reads.items():
                self._ahead.setdefault(name, []).append(read)

    async def _filtered(self, peer: Peer, names: Sequence[str]) -> dict[str, Read]:
        """What one peer proves of these blocks; nothing when it is lost or lies."""
        try:
            await self._net.load_filter(peer)
            wanted = messages.encode_invs(Inv.FILTERED_BLOCK, [unshown(name) for name in names])
            answer = await peer.ask("getdata", wanted, "merkleblock", "tx")
            raws = by_txid(answer["tx"])
            found = {block_named(item): self._proven(peer, item, raws) for item in answer["merkleblock"]}
        except Invalid as error:
            self._net.fault(peer, f"a wrong proof: {error}")
            return {}
        except PeerFault as error:
            self._net.fault(peer, str(error))
            return {}
        except PeerLost:
            return {}
        proven_here = {item.txid for read in found.values() if read.block for item in read.block.txs}
        for name, raw in raws.items():
            if name not in proven_here:  # it came unasked while the answer was being collected
                self._net.hand_on(peer, raw)
        return {name: read for name, read in found.items() if name in names}

    def _proven(self, peer: Peer, payload: bytes, raws: dict[str, bytes]) -> Read:
        try:
            return Read(peer.address, proven(payload, raws))
        except Unprovable:
            return Read(peer.address, None)

    def _joined(self, reads: Sequence[Read]) -> Block:
        """All that any of the peers proved; who left out what concerns the wallet is a liar."""
        blocks = [item.block for item in reads if item.block is not None]
        union: dict[str, BlockTx] = {item.txid: item for block in blocks for item in block.txs}
        matter = {txid for txid, item in union.items() if self._watch.concerns(item.tx)}
        for read in reads:
            shown = {item.txid for item in read.block.txs} if read.block else set()
            if matter - shown:
                self._withheld = [*self._withheld, self._clock.monotonic()][-NOTED_MAX:]
                self._net.fault_named(read.peer, f"it left out {min(matter - shown)}")
        self.checked += len(blocks) > 1
        self.unchecked += len(blocks) == 1
        first = blocks[0]
        txs = tuple(sorted(union.values(), key=lambda item: item.position))
        return Block(hash=first.hash, previous=first.previous, time_s=first.time_s, txs=txs)

    async def whole(self, block_hash: str, height: int | None) -> bytes:
        """A block's bytes, merged-mining proof included, whole and judged.

        Raises:
            ChainUnavailable: no peer has it.
        """
        wanted = messages.encode_invs(Inv.BLOCK, [unshown(block_hash)])
        for peer in self._random.sample(self._net.ready(), ROUNDS):
            try:
                found = (await peer.ask("getdata", wanted, "block"))["block"]
                for payload in found:
                    if block_named(payload) == block_hash:
                        self._judge(payload, height)
                        self.checked += 1
                        return payload
            except Invalid as error:
                self._net.fault(peer, f"a wrong block: {error}")
            except PeerFault as error:
                self._net.fault(peer, str(error))
            except PeerLost:
                continue
        raise ChainUnavailable(endpoint=self._net.endpoint, detail=f"no peer shows block {block_hash}")

    def _judge(self, payload: bytes, height: int | None) -> None:
        whole(payload)
        if height:
            check_whole_work(self._network, height, payload)

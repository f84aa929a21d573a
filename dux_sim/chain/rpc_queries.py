"""RPC methods that only look: blocks, transactions, unspent outputs, the state of the node.

Answers have the shape of Flopcoin Core's (and of litecoind's where that says more), so that one client reads all.
"""

from __future__ import annotations

from common.chain.wire import DecodeError, OutPoint, decode_tx, shown
from dux_sim.chain import audit, policy, views
from dux_sim.chain.args import DESERIALIZATION_ERROR, INVALID_PARAMETER, NOT_FOUND, Args, RpcError
from dux_sim.chain.node import Node
from dux_sim.chain.state import Entry
from dux_sim.chain.views import JsonObject, amount

VERSION = 2_000_000
PROTOCOL_VERSION = 70_016
USER_AGENT = "/Floptoshi:2.0.0/DuxNet-embedded:0.1.0/"
WHOLE = 2  # getblock's verbosity for whole transactions


class Queries:
    """The looking half of the RPC table."""

    def __init__(self, node: Node) -> None:
        """Look at this node."""
        self._node = node
        self._chain = node.chain

    def getblockcount(self, _: Args) -> int:
        """The height of the tip."""
        return self._chain.tip.height

    def getbestblockhash(self, _: Args) -> str:
        """The name of the tip."""
        return shown(self._chain.tip.hash)

    def getblockhash(self, args: Args) -> str:
        """The name of the active block at a height."""
        height = args.whole(0)
        if height > self._chain.tip.height:
            raise RpcError(INVALID_PARAMETER, "Block height out of range")
        return shown(self._chain.active[height].hash)

    def getblock(self, args: Args) -> str | JsonObject:
        """A block: raw (0 or false), with transaction names (1 or true), or with whole transactions (2)."""
        entry = self.entry(args, 0)
        wanted = args.any(1)
        verbosity = int(wanted) if isinstance(wanted, bool) else args.whole(1, 1)
        if verbosity == 0:
            return entry.block.raw.hex()
        return views.block_view(self._chain, entry, whole=verbosity >= WHOLE)

    def getblockheader(self, args: Args) -> str | JsonObject:
        """A header: as JSON, or raw with its AuxPoW."""
        entry = self.entry(args, 0)
        return views.header_view(self._chain, entry) if args.flag(1, default=True) else views.raw_header(entry)

    def entry(self, args: Args, at: int) -> Entry:
        """The block that an argument names.

        Raises:
            RpcError: there is none.
        """
        entry = self._chain.entries.get(args.hash(at))
        if entry is None:
            raise RpcError(NOT_FOUND, "Block not found")
        return entry

    def getrawtransaction(self, args: Args) -> str | JsonObject:
        """A transaction, waiting or on the active chain (every one is indexed)."""
        txid = args.hash(0)
        waiting = self._node.pool.waiting.get(txid)
        if waiting is not None:
            return views.tx_view(waiting.tx) if args.flag(1, default=False) else waiting.tx.raw.hex()
        if txid not in self._chain.tx_places:
            raise RpcError(
                NOT_FOUND, "No such mempool or blockchain transaction. Was it replaced, or not broadcast yet?"
            )
        entry, position = self._chain.tx_places[txid]
        tx = entry.block.txs[position]
        if not args.flag(1, default=False):
            return tx.raw.hex()
        depth, time_s = views.confirmations(self._chain, entry), entry.block.header.time_s
        place = {"blockhash": shown(entry.hash), "confirmations": depth, "time": time_s, "blocktime": time_s}
        return views.tx_view(tx) | place

    def decoderawtransaction(self, args: Args) -> JsonObject:
        """What the bytes of a transaction say."""
        try:
            return views.tx_view(decode_tx(args.hex(0)))
        except DecodeError as error:
            raise RpcError(DESERIALIZATION_ERROR, f"TX decode failed: {error}") from error

    def getrawmempool(self, args: Args) -> list[str] | dict[str, JsonObject]:
        """The waiting transactions, by name or with fees and families."""
        pool = self._node.pool
        if not args.flag(0, default=False):
            return [shown(txid) for txid in pool.waiting]
        return {
            shown(txid): {
                "size": entry.size_bytes,
                "vsize": entry.size_bytes,
                "fee": amount(entry.fee_florins),
                "time": entry.entered_s,
                "ancestorcount": len(pool.ancestors(entry)) + 1,
                "descendantcount": len(pool.descendants(txid)),
                "depends": sorted(shown(parent) for parent in entry.parents),
            }
            for txid, entry in pool.waiting.items()
        }

    def getmempoolinfo(self, _: Args) -> JsonObject:
        """How much waits."""
        waiting = self._node.pool.waiting.values()
        least = amount(policy.RELAY_FEE_FLORINS_PER_KB)
        return {"size": len(waiting), "bytes": sum(entry.size_bytes for entry in waiting), "mempoolminfee": least}

    def gettxout(self, args: Args) -> JsonObject | None:
        """An unspent output; by default one that a waiting transaction spends counts as spent."""
        outpoint = OutPoint(args.hash(0), args.whole(1))
        if not args.flag(2, default=True):
            return views.coin_view(self._chain, self._chain.coins, outpoint)
        if self._node.pool.spender(outpoint) is not None:
            return None
        return views.coin_view(self._chain, self._node.pool.coins, outpoint)

    def gettxoutsetinfo(self, _: Args) -> JsonObject:
        """All unspent outputs, and whether they are what the premine and the subsidies made."""
        supply = audit.supply_of(self._chain)
        return {
            "height": self._chain.tip.height,
            "bestblock": shown(self._chain.tip.hash),
            "transactions": len({outpoint.txid for outpoint in self._chain.coins}),
            "txouts": len(self._chain.coins),
            "total_amount": amount(supply.unspent_florins),
            "premine_amount": amount(supply.premine_florins),
            "subsidies_amount": amount(supply.subsidies_florins),
            "burned_amount": amount(supply.burned_florins),
            "conserved": supply.conserved,
        }

    def getblockchaininfo(self, _: Args) -> JsonObject:
        """Where the chain stands."""
        tip = self._chain.tip
        return {
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": shown(tip.hash),
            "difficulty": views.ratio(tip.block.header.bits),
            "mediantime": tip.median_time_s,
            "verificationprogress": 1,
            "initialblockdownload": False,
            "chainwork": f"{tip.work:064x}",
            "pruned": False,
            "softforks": [{"id": name, "reject": {"status": True}} for name in ("bip34", "bip66", "bip65")],
            "bip9_softforks": {"csv": {"status": "failed"}},
            "warnings": "",
        }

    def getchaintips(self, _: Args) -> list[JsonObject]:
        """The ends of all known branches."""
        return [
            {"height": tip.height, "hash": shown(tip.hash), "status": self._status(tip)}
            for tip in sorted(self._chain.tips(), key=lambda tip: -tip.height)
        ]

    def _status(self, tip: Entry) -> str:
        if tip is self._chain.tip:
            return "active"
        return "valid-fork" if tip.usable() else "invalid"

    def getnetworkinfo(self, _: Args) -> JsonObject:
        """What the node is."""
        return {
            "version": VERSION,
            "subversion": USER_AGENT,
            "protocolversion": PROTOCOL_VERSION,
            "connections": 0,
            "networkactive": False,
            "relayfee": amount(policy.RELAY_FEE_FLORINS_PER_KB),
            "incrementalfee": amount(policy.INCREMENTAL_FEE_FLORINS_PER_KB),
            "softdustlimit": amount(policy.SOFT_DUST_FLORINS),
            "harddustlimit": amount(policy.HARD_DUST_FLORINS),
            "warnings": "",
        }

    def getmininginfo(self, _: Args) -> JsonObject:
        """What a miner would look at."""
        tip = self._chain.tip
        return {
            "blocks": tip.height,
            "difficulty": views.ratio(tip.block.header.bits),
            "pooledtx": len(self._node.pool.waiting),
            "chain": "regtest",
            "time": self._node.now_s(),
            "warnings": "",
        }

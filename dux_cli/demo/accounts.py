"""The demo's auditor: reads the whole chain and asks whether every coin is where the books say.

It trusts neither the nodes' books nor the coin node's own sums: it walks every block, adds up what is unspent, compares
that with what was ever made, and then looks for an owner of every single output. It does not know what the nodes are:
processes on this machine, or containers whose RPC is reached through `docker exec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.chain.address import address_to_script
from common.chain.params import family_named
from common.contracts.airdrop import Share
from common.contracts.wallet import WALLET_UTXOS
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_cli.demo.coin_chain import CoinChain, to_florins
from dux_cli.demo.stage import Stage

EMBEDDED_SUBSIDY_FLOP = 10_000  # per block, from the first block of the embedded chain on
READ_ON_MAX = 20  # a chain that mines faster than its newest blocks can be read is not in step with its sum
LITECOIN_SUBSIDY_FLOP, LITECOIN_HALVING = 50, 150  # blocks, on its regtest


@dataclass(frozen=True)
class Output:
    """An output: how much, whose script, whether a miner made it."""

    value_florins: int
    script: str
    coinbase: bool


@dataclass
class Ledger:
    """The whole chain, read block by block. Outputs are named `txid:n`."""

    height: int = -1
    tip: str = ""  # the hash of the block at that height
    created_florins: int = 0
    outputs: dict[str, Output] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    spends: dict[str, list[str]] = field(default_factory=dict)  # txid -> what it spent
    pays: dict[str, list[str]] = field(default_factory=dict)  # txid -> what it made

    @property
    def unspent(self) -> dict[str, Output]:
        """The outputs that nobody has spent."""
        return {name: output for name, output in self.outputs.items() if name not in self.spent}

    def add(self, tx: dict[str, Any]) -> None:
        """Book one transaction."""
        txid, coinbase = str(tx["txid"]), "coinbase" in tx["vin"][0]
        self.spends[txid] = [f"{spent['txid']}:{spent['vout']}" for spent in tx["vin"] if "txid" in spent]
        self.spent.update(self.spends[txid])
        self.pays[txid] = []
        for output in tx["vout"]:
            if output["scriptPubKey"].get("type") != "nulldata" and to_florins(output["value"]):
                name = f"{txid}:{output['n']}"
                self.outputs[name] = Output(to_florins(output["value"]), output["scriptPubKey"]["hex"], coinbase)
                self.pays[txid].append(name)


@dataclass(frozen=True)
class Audit:
    """What was found. `conserved` is true only when everything adds up and has an owner."""

    height: int
    unspent_florins: int
    created_florins: int  # premine and subsidies
    node_sum_florins: int  # the coin node's own figure
    orphans: tuple[str, ...]  # outputs that nobody's books know
    phantoms: tuple[str, ...]  # coins in a node's books that the chain does not have

    @property
    def conserved(self) -> bool:
        """Nothing appeared, nothing vanished, and all books agree with the chain."""
        sums = self.unspent_florins == self.created_florins == self.node_sum_florins
        return sums and not self.orphans and not self.phantoms


async def audit(stage: Stage) -> Audit:
    """Walk the chain and compare it with every node's books."""
    ledger, node_sum_florins = await read_with_sum(stage.chain)
    unspent = ledger.unspent
    books: dict[str, int] = {}
    for node in stage.nodes.values():
        for coin in (await node.call(WALLET_UTXOS, Empty())).coins:
            if coin.height is not None:
                books[f"{coin.outpoint.txid}:{coin.outpoint.vout}"] = coin.value_florins
    owned = set(books) | await others_coins(stage, unspent)
    wrong = (name for name, value in books.items() if name not in unspent or unspent[name].value_florins != value)
    return Audit(
        height=ledger.height,
        unspent_florins=sum(output.value_florins for output in unspent.values()),
        created_florins=ledger.created_florins,
        node_sum_florins=node_sum_florins,
        orphans=tuple(sorted(set(unspent) - owned)),
        phantoms=tuple(sorted(wrong)),
    )


async def read_with_sum(chain: CoinChain) -> tuple[Ledger, int]:
    """The chain and its node's own sum at the same height, florins; blocks that come in between are read on."""
    ledger = await read_chain(chain)
    height, total_florins = await chain.total()
    for _ in range(READ_ON_MAX):
        if height == ledger.height:
            break
        ledger = await read_chain(chain, ledger)
        height, total_florins = await chain.total()
    return ledger, total_florins


async def read_chain(chain: CoinChain, ledger: Ledger | None = None) -> Ledger:
    """Every block from the genesis to the tip; what is read already only once, while its last block is still there."""
    tip_height = await chain.height()
    if ledger is None or tip_height < ledger.height or await chain.call("getblockhash", ledger.height) != ledger.tip:
        ledger = Ledger()
    for height in range(ledger.height + 1, tip_height + 1):
        name = await chain.call("getblockhash", height)
        block = await chain.call("getblock", name, 2)
        genesis_coin = 1 if height == 0 else 0  # a genesis block's own coin can never be spent
        for tx in block["tx"][genesis_coin:]:
            ledger.add(tx)
            if height == 0:  # the embedded chain's premine stands in its genesis block
                ledger.created_florins += sum(to_florins(output["value"]) for output in tx["vout"])
        ledger.created_florins += subsidy_florins(chain.program, height, block) if height else 0
        ledger.height, ledger.tip = height, name
    return ledger


def subsidy_florins(program: str, height: int, block: dict[str, Any]) -> int:
    """What a block makes, by the rules of its chain (Flopcoin's early subsidies are random: what its coinbase took)."""
    if program == "litecoind":
        return LITECOIN_SUBSIDY_FLOP * FLOP >> (height // LITECOIN_HALVING)
    if program == "embedded":
        return EMBEDDED_SUBSIDY_FLOP * FLOP
    fees = sum(to_florins(tx.get("fee", 0)) for tx in block["tx"][1:])
    return sum(to_florins(output["value"]) for output in block["tx"][0]["vout"]) - fees


async def others_coins(stage: Stage, unspent: dict[str, Output]) -> set[str]:
    """Outputs that belong to no node's wallet by right: the miner's, and the community fund's."""
    fund = stage.fund_script.hex()
    known = {name for name, output in unspent.items() if output.coinbase or output.script == fund}
    if stage.chain.program != "embedded":  # the miner's wallet gave the nodes their first coins and kept the change
        for coin in await stage.chain.call("listunspent", 0):
            known.add(f"{coin['txid']}:{coin['vout']}")
    return known


def has_output(stage: Stage, ledger: Ledger, txid: str, share: Share) -> bool:
    """Does this payout hold exactly this node's share on this node's address?"""
    script = address_to_script(share.address, family_named(stage.profile.chain)).hex()
    found = [ledger.outputs[name] for name in ledger.pays.get(txid, ())]
    return sum(output.value_florins for output in found if output.script == script) == share.paid_florins


@dataclass(frozen=True)
class Paid:
    """One released contract, read back from its transaction's outputs."""

    txid: str
    gross_florins: Florins
    provider_florins: Florins
    fund_florins: Florins
    fees_florins: Florins


def read_release(stage: Stage, ledger: Ledger, txid: str) -> Paid:
    """Who got what: the seller's output stands first, the fund's has the fund's script, the fee is what is missing.

    The chain fee of a release comes out of the seller's part, so gross is what seller and fund got, and the fee.
    """
    paid = [ledger.outputs[name] for name in ledger.pays[txid]]
    locked = sum(ledger.outputs[name].value_florins for name in ledger.spends[txid])
    fund = sum(output.value_florins for output in paid if output.script == stage.fund_script.hex())
    fees = locked - sum(output.value_florins for output in paid)
    provider = paid[0].value_florins
    return Paid(txid, Florins(provider + fund + fees), Florins(provider), Florins(fund), Florins(fees))

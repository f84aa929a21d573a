"""chain.*: the coin chain as flopd sees it, for the daemons that follow scripts on it.

Whoever wants to follow a script watches it, reads what is there with `chain.coins`, and then reads `chain.events`.
Events tell that something changed; `chain.coins` is always the whole truth of now.
"""

from __future__ import annotations

from common.chain.tx import Outpoint, TxOutput
from common.chain.verify import SpendRefused
from common.codec import Wire
from common.contracts.base import events_method
from common.contracts.wallet_errors import ChainUnavailable, NodeRefused, NotSynced
from common.errors import NotFound
from common.rpc.method import Done, Empty, Method
from common.units import BlockHeight, Florins, Hash32

READERS = ("escrowd", "airdropd", "registryd", "taskd", "cli", "module")
WATCHERS = ("escrowd", "airdropd", "registryd", "cli", "module")
SCRIPTS_MAX = 1000  # in one call of chain.watch

EXAMPLE_TXID = "ab" * 32
EXAMPLE_HASH = "0c" * 32
EXAMPLE_SCRIPT = bytes.fromhex("76a914" + "11" * 20 + "88ac")
EXAMPLE_RAW = bytes.fromhex("0100000000")


class Tip(Wire, frozen=True):
    """Where the chain view stands. `synced`: it has read up to the node's tip."""

    height: BlockHeight
    hash: str
    time_s: int
    synced: bool
    source: str


class CoinPeer(Wire, frozen=True):
    """A coin node that a light wallet is connected to. `filters`: it looks for transactions by a filter."""

    address: str
    agent: str
    height: int
    filters: bool


class CoinBan(Wire, frozen=True):
    """A coin node that lied or broke the protocol."""

    address: str
    reason: str


class ChainStatus(Wire, frozen=True):
    """How the chain's source stands. `warnings` are explained in docs/protocol/spv.md; empty: nothing looks wrong."""

    source: str
    endpoint: str
    header_height: BlockHeight
    header_hash: str
    peers: list[CoinPeer]
    bans: list[CoinBan]
    warnings: list[str]
    peers_wanted: int = 0  # of a light wallet


class HeightAsked(Wire, frozen=True):
    """A height."""

    height: BlockHeight


class BlockHash(Wire, frozen=True):
    """The hash of the block at a height, on the best chain."""

    height: BlockHeight
    hash: str


class Beacon(Wire, frozen=True):
    """The public draw of a height on the best chain (common/chain/beacon.py)."""

    height: BlockHeight
    beacon: Hash32


class WatchScripts(Wire, frozen=True):
    """Output scripts to follow, from a height on: what lies in earlier blocks is not found."""

    request_id: str
    scripts: list[bytes]
    from_height: BlockHeight


class ScriptAsked(Wire, frozen=True):
    """A watched output script."""

    script: bytes


class SpendView(Wire, frozen=True):
    """The transaction that spends a coin; height null: seen, not in a block."""

    txid: str
    height: BlockHeight | None
    raw: bytes
    script_sig: bytes


class CoinView(Wire, frozen=True):
    """An output seen on a script; height null: seen, not in a block. `position` orders coins of one block."""

    outpoint: Outpoint
    value_florins: Florins
    height: BlockHeight | None
    position: int
    spend: SpendView | None


class Coins(Wire, frozen=True):
    """Every output on the script that is on the best chain or waiting, in the chain's order, and the tip."""

    coins: list[CoinView]
    tip: BlockHeight


class Broadcast(Wire, frozen=True):
    """A transaction made elsewhere, to be handed to the network until it is in a block."""

    request_id: str
    raw: bytes


class Broadcasted(Wire, frozen=True):
    """Taken: it will be handed to the node, and again until it is in a block."""

    txid: str


class TxAsked(Wire, frozen=True):
    """A transaction by id; without its height only watched, own and waiting ones are found."""

    txid: str
    height: BlockHeight | None = None


class TxView(Wire, frozen=True):
    """A transaction on the best chain, or waiting (height null)."""

    txid: str
    height: BlockHeight | None
    raw: bytes
    spent: list[Outpoint]
    outputs: list[TxOutput]


# Events of chain.events: kind = the class's name, body = its fields.


class TipChanged(Wire, frozen=True):
    """The tip moved; `rolled_back_to` is the last common height when blocks went away."""

    height: BlockHeight
    hash: str
    rolled_back_to: BlockHeight | None


class CoinSeen(Wire, frozen=True):
    """An output on a watched script appeared, or its height changed."""

    script: bytes
    outpoint: Outpoint
    value_florins: Florins
    height: BlockHeight | None


class CoinGone(Wire, frozen=True):
    """An output on a watched script is neither on the best chain nor waiting any more."""

    script: bytes
    outpoint: Outpoint


class SpendSeen(Wire, frozen=True):
    """A watched output was spent, or the spend's height changed."""

    script: bytes
    outpoint: Outpoint
    txid: str
    height: BlockHeight | None


class SpendGone(Wire, frozen=True):
    """A spend of a watched output is neither on the best chain nor waiting any more."""

    script: bytes
    outpoint: Outpoint
    txid: str


CHAIN_TIP: Method[Empty, Tip] = Method(
    name="chain.tip",
    params=Empty,
    result=Tip,
    summary="Where the best chain stands, and whether it has been read up to there.",
    callers=READERS,
    example=(
        Empty(),
        Tip(height=BlockHeight(250), hash=EXAMPLE_HASH, time_s=1_790_000_000, synced=True, source="core"),
    ),
)

CHAIN_STATUS: Method[Empty, ChainStatus] = Method(
    name="chain.status",
    params=Empty,
    result=ChainStatus,
    summary="Where the chain comes from, which coin nodes are connected, and what about them looks wrong.",
    callers=READERS,
    example=(
        Empty(),
        ChainStatus(
            source="spv",
            endpoint="4 coin nodes",
            header_height=BlockHeight(250),
            header_hash=EXAMPLE_HASH,
            peers=[CoinPeer(address="203.0.113.7:32552", agent="/Floptoshi:2.0.0/", height=250, filters=True)],
            bans=[CoinBan(address="198.51.100.9:32552", reason="a wrong header: 16: high-hash")],
            warnings=["few-peers"],
            peers_wanted=4,
        ),
    ),
)

CHAIN_BLOCK_HASH: Method[HeightAsked, BlockHash] = Method(
    name="chain.block_hash",
    params=HeightAsked,
    result=BlockHash,
    summary="The hash of the block at a height of the best chain.",
    callers=READERS,
    raises=(NotFound, ChainUnavailable),
    example=(HeightAsked(height=BlockHeight(7)), BlockHash(height=BlockHeight(7), hash=EXAMPLE_HASH)),
)

CHAIN_BEACON: Method[HeightAsked, Beacon] = Method(
    name="chain.beacon",
    params=HeightAsked,
    result=Beacon,
    summary="The public draw of a height: random numbers from the work of the last six blocks.",
    callers=READERS,
    raises=(NotFound, ChainUnavailable),
    example=(
        HeightAsked(height=BlockHeight(250)),
        Beacon(height=BlockHeight(250), beacon=Hash32(b"\x0b" * 32)),
    ),
)

CHAIN_WATCH: Method[WatchScripts, Done] = Method(
    name="chain.watch",
    params=WatchScripts,
    result=Done,
    summary="Follow output scripts from a height on; answers once the blocks from there are read.",
    callers=WATCHERS,
    once=True,
    raises=(NotSynced, ChainUnavailable),
    example=(
        WatchScripts(request_id="watch-1", scripts=[EXAMPLE_SCRIPT], from_height=BlockHeight(240)),
        Done(),
    ),
)

CHAIN_COINS: Method[ScriptAsked, Coins] = Method(
    name="chain.coins",
    params=ScriptAsked,
    result=Coins,
    summary="Every output seen on a watched script, with its spend; none before all its blocks are read.",
    callers=READERS,
    raises=(NotFound, NotSynced),
    example=(
        ScriptAsked(script=EXAMPLE_SCRIPT),
        Coins(
            coins=[
                CoinView(
                    outpoint=Outpoint(EXAMPLE_TXID, 0),
                    value_florins=Florins(1_030_000_000),
                    height=BlockHeight(245),
                    position=0,
                    spend=None,
                )
            ],
            tip=BlockHeight(250),
        ),
    ),
)

CHAIN_BROADCAST: Method[Broadcast, Broadcasted] = Method(
    name="chain.broadcast",
    params=Broadcast,
    result=Broadcasted,
    summary="Hand a complete transaction to the network, again and again until it is in a block.",
    callers=("escrowd", "airdropd", "cli", "module"),
    once=True,
    raises=(SpendRefused, NodeRefused, ChainUnavailable),
    example=(Broadcast(request_id="send-1", raw=EXAMPLE_RAW), Broadcasted(txid=EXAMPLE_TXID)),
)

CHAIN_TX: Method[TxAsked, TxView] = Method(
    name="chain.tx",
    params=TxAsked,
    result=TxView,
    summary="A transaction by id; with its height also one that nobody here watched.",
    callers=READERS,
    raises=(NotFound, ChainUnavailable),
    example=(
        TxAsked(txid=EXAMPLE_TXID, height=BlockHeight(245)),
        TxView(
            txid=EXAMPLE_TXID,
            height=BlockHeight(245),
            raw=EXAMPLE_RAW,
            spent=[Outpoint("cd" * 32, 1)],
            outputs=[TxOutput(Florins(950_000_000), EXAMPLE_SCRIPT)],
        ),
    ),
)

CHAIN_EVENTS = events_method("chain", READERS)

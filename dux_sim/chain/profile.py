"""What makes one embedded chain different from another: its name, the time of its genesis and its premine.

The genesis block follows from the profile alone, so that every reader of the same profile computes the same network.
The premine is the genesis block's second transaction: ordinary outputs, spendable at once, no coinbase to mature.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from common.chain import merkle
from common.chain.address import address_to_script
from common.chain.params import EMBEDDED
from common.chain.wire import NULL_HASH, NULL_INDEX, Block, Header, OutPoint, Tx, TxIn, TxOut, sha256d
from common.network import NetworkProfile
from common.network import load_profile as load_network
from common.units import parse_florins
from dux_sim.chain import consensus, scripts

GENESIS_TIME_S = 1_790_000_000
PROFILE_BYTES_MAX = 1_000_000


class Premine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Coins that exist from the start: integer florins as a decimal string, and who owns them."""

    address: str
    amount_florins: str


class ChainProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One embedded chain. Each `auxpow_every`-th block is merged mined, as nearly all of mainnet's are; 0: none."""

    name: str
    premine: tuple[Premine, ...] = ()
    genesis_time_s: int = GENESIS_TIME_S
    mine_to: str | None = None  # address of the timer's coinbases; None: coins nobody can spend
    auxpow_every: int = 2


def load_profile(path: Path) -> ChainProfile:
    """The chain profile in a YAML file, or the one that a network profile (`common.network`) contains.

    Raises:
        msgspec.ValidationError: the file does not fit; the message names the place.
        BadSettings: it is a network profile and does not fit.
        ValueError: it is a network profile whose genesis is not that of its own premine.
    """
    with path.open("rb") as file:
        data = file.read(PROFILE_BYTES_MAX)
    plain = msgspec.yaml.decode(data)
    if not isinstance(plain, dict) or "chain" not in plain:
        return msgspec.convert(plain, ChainProfile)
    network = load_network(path)
    profile = chain_of(network)
    if network.genesis != genesis_hash(profile):
        raise ValueError(f"the premine gives genesis {genesis_hash(profile)}, the profile says {network.genesis}")
    return profile


def chain_of(network: NetworkProfile) -> ChainProfile:
    """The embedded chain of a network: its name and its premine decide, its `genesis` is the outcome."""
    premine = tuple(Premine(address, str(int(amount))) for address, amount in network.premine)
    return ChainProfile(name=network.name, premine=premine)


def premine_outputs(profile: ChainProfile) -> tuple[TxOut, ...]:
    """The outputs of the premine, in the profile's order."""
    return tuple(
        TxOut(parse_florins(item.amount_florins), address_to_script(item.address, EMBEDDED)) for item in profile.premine
    )


def genesis_of(profile: ChainProfile) -> Block:
    """The genesis block that the profile determines; it is given, so it carries no work."""
    title = b"DuxNet embedded chain: " + sha256d(profile.name.encode())[:8].hex().encode()
    coinbase = Tx(
        version=1,
        inputs=(
            TxIn(OutPoint(NULL_HASH, NULL_INDEX), scripts.push_number(0) + _push(title), consensus.SEQUENCE_FINAL),
        ),
        outputs=(TxOut(0, bytes([scripts.OP_RETURN])),),
        lock_time=0,
    )
    txs = (coinbase, _premine_tx(profile)) if profile.premine else (coinbase,)
    header = Header(
        version=consensus.CHAIN_ID << 16 | consensus.BLOCK_VERSION_BASE,
        prev=NULL_HASH,
        merkle_root=merkle.root_of([tx.txid for tx in txs])[0],
        time_s=profile.genesis_time_s,
        bits=consensus.POW_LIMIT_BITS,
        nonce=0,
    )
    return Block(header, None, txs)


def _premine_tx(profile: ChainProfile) -> Tx:
    """Spends an outpoint that never existed: only a given block can hold such a transaction."""
    origin = OutPoint(sha256d(b"premine of " + profile.name.encode()), 0)
    return Tx(1, (TxIn(origin, b"", consensus.SEQUENCE_FINAL),), premine_outputs(profile), 0)


def genesis_hash(profile: ChainProfile) -> str:
    """The network's name: the genesis hash as RPC shows it."""
    return genesis_of(profile).hash[::-1].hex()


def _push(data: bytes) -> bytes:
    return struct.pack("B", len(data)) + data

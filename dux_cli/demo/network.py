"""The network of the demo's six nodes, as keys and a profile: who takes part, who judges, who has which first coins.

    buyer, seller                  one process per daemon, as a real node runs
    worker, arbiter-1 … -3         one process per node; the arbiters are the fund's custodians, too

Knows no process and no place: the stage puts it on loopback, compose_files.py into containers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from common.chain.params import family_named
from common.clock import SystemClock
from common.community_fund import fund_address_of
from common.keygen import KeysMade, make_keys
from common.network import Bootstrap, Custodian, FundParameters, KeyFileCosts, NetworkProfile
from common.parameters import AirdropParameters
from common.randomness import SystemRandomness
from common.units import FLOP, Florins

NAMES = ("buyer", "seller", "worker", "arbiter-1", "arbiter-2", "arbiter-3")
SPLIT = ("buyer", "seller")  # one process per daemon
ARBITERS = NAMES[3:]
FAMILY = {"embedded": "embedded", "litecoind": "litecoin-regtest", "flopcoind": "flopcoin-regtest"}
COINS_OF_BUYER = 12  # several contracts are funded at once, each from a confirmed coin of its own
COIN_FLORINS = Florins(25 * FLOP)
FUND_FLORINS = Florins(9_960_000_000)  # 99.6 FLOP: the first job's half a FLOP brings it over 100


def make_network(
    folder: Path, program: str, reached_at: Callable[[str], str], *, birth_height: int
) -> tuple[dict[str, KeysMade], NetworkProfile]:
    """Every node's keys below `folder/<name>/data`, and the profile of their network.

    `reached_at` gives the `host:port` at which others reach a node.
    """
    costs = KeyFileCosts(memory_kib=8192, iterations=1)  # a test network: opening a key file takes milliseconds
    draft = NetworkProfile(name="demo", chain=FAMILY[program], genesis="00" * 32, heights="demo", key_file_costs=costs)
    randomness, now = SystemRandomness(), SystemClock().unix_ms()
    keys = {
        name: make_keys(folder / name / "data", draft, randomness=randomness, made_ms=now, birth_height=birth_height)
        for name in NAMES
    }
    custodians = tuple(Custodian(did=keys[name].did, pubkey=keys[name].fund_pubkey) for name in ARBITERS)
    profile = msgspec.structs.replace(
        draft,
        fund=FundParameters(threshold=2, custodians=custodians),
        arbiters=tuple(keys[name].did for name in ARBITERS),
        bootstrap=tuple(Bootstrap(address=reached_at(name), did=keys[name].did) for name in ARBITERS[:2]),
        airdrop=AirdropParameters(evidence_blocks=4),
    )
    if program == "embedded":
        profile = msgspec.structs.replace(profile, premine=tuple(first_coins(profile, keys)))
    return keys, msgspec.structs.replace(profile, genesis=genesis_of(profile))


def genesis_of(profile: NetworkProfile) -> str:
    """The genesis hash of the profile's chain: the family's own, or what the premine gives."""
    if profile.chain == "embedded":
        from dux_sim.chain.profile import chain_of, genesis_hash

        return genesis_hash(chain_of(profile))
    return family_named(profile.chain).genesis


def first_coins(profile: NetworkProfile, keys: dict[str, KeysMade]) -> list[tuple[str, Florins]]:
    """Who has what in the beginning: the buyer's coins, a little for everybody else, and the fund."""
    buyer = [(keys["buyer"].address, COIN_FLORINS)] * COINS_OF_BUYER
    others = [(keys[name].address, Florins(5 * FLOP)) for name in NAMES if name != "buyer"]
    return [*buyer, *others, (fund_address_of(profile), FUND_FLORINS)]

"""The coin networks as data files: how their peers are spoken to, and by which rules a header is judged.

Promises: a file is read whole or refused; the genesis header in it has the hash that `common.chain.params` names. What
a wallet has to know of addresses and scripts stands there; how to write a new file stands in docs/protocol/spv.md.

Source: facts §1.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from common.errors import CallerMistake

FOLDER = resources.files("common.chain") / "networks"
Height = Annotated[int, Meta(ge=0, lt=2**31)]
HexHash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class UnknownNetwork(CallerMistake):
    """No file in common/chain/networks describes the coin network {name!r}: its peers cannot be spoken to."""

    code = 2016
    key = "unknown-coin-network"


class Retarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the difficulty of the blocks from a height on follows from the blocks before.

    `same`: the parent's. `classic`: every so many blocks, by the time that they took. `digishield`: each block, an
    eighth of the last interval's deviation, within -25 % and +50 %.
    """

    from_height: Height
    kind: Literal["same", "classic", "digishield"]
    every: Annotated[int, Meta(ge=1, le=10_000)] = 1
    timespan_s: Annotated[int, Meta(ge=1)] = 1
    faster_max: Annotated[int, Meta(ge=1)] = 16  # `classic`: the measured time counts as the timespan / 16 at least
    slower_max: Annotated[int, Meta(ge=1)] = 4  # and as four timespans at most


class AuxPowRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From which height on merged mining counts, and under which chain number."""

    from_height: Height
    chain_id: Annotated[int, Meta(ge=1, lt=2**15)]
    is_strict: bool


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A block that is known to be on the best chain."""

    height: Height
    hash: HexHash


class CoinNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One coin network."""

    name: str
    magic: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    port: Annotated[int, Meta(ge=1, lt=2**16)]
    genesis: Annotated[str, Meta(pattern="^([0-9a-f]{160})?$")]  # its 80 bytes; empty: the network profile names it
    protocol: int
    peer_protocol_min: int
    user_agent: Annotated[str, Meta(max_length=200)]
    spacing_s: Annotated[int, Meta(ge=1)]
    pow_limit_bits: int
    retarget: tuple[Retarget, ...]
    easy_after_s: int = 0  # above 0: a block so much later than its parent may have the easiest target
    wraps: bool = False  # the retarget's product forgets what does not fit 256 bits; matters at the easiest targets
    auxpow: AuxPowRule | None = None
    base_version_min: int = 0  # of a block's version without chain number and flag
    seeds: tuple[str, ...] = ()  # names that stand for nodes
    peers_wanted: Annotated[int, Meta(ge=1, le=16)] = 4
    apart: bool = True  # peers shall be in different address blocks
    checkpoints: tuple[Checkpoint, ...] = ()  # in the order of their heights
    work_min: Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")] = "0"  # the best chain has this much, hex

    def retarget_at(self, height: int) -> Retarget:
        """The rule for the block at this height."""
        return next(rule for rule in reversed(self.retarget) if rule.from_height <= height)


@cache
def coin_network(name: str) -> CoinNetwork:
    """The network of this name.

    Raises:
        UnknownNetwork: no file, or one that does not fit.
    """
    file = FOLDER / f"{name}.yaml"
    if not name.replace("-", "").isalnum() or not file.is_file():
        raise UnknownNetwork(name=name)
    found = msgspec.yaml.decode(file.read_bytes(), type=CoinNetwork)
    heights = [rule.from_height for rule in found.retarget]
    if heights != sorted(set(heights)) or heights[:1] != [0]:
        raise UnknownNetwork(name=f"{name}: retarget rules start at 0 and rise")
    return found

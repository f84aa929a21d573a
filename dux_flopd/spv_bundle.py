"""Checkpoint bundles: a recent piece of a chain that a new wallet starts from, instead of from the first block.

A bundle is at least eleven consecutive headers and the work up to the last of them. Whoever makes one vouches for it:
a wallet believes it as it believes its own code, so it is read from a file that came with the release or that the owner
named. `python -m dux_flopd.spv_bundle make|check` writes one from a synced wallet's headers, or compares one with them.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from common.chain import difficulty
from common.chain.coin_network import FOLDER, CoinNetwork, coin_network
from common.chain.header_rules import MEDIAN_TIME_BLOCKS
from common.chain.wire import HEADER_BYTES, sha256d
from common.errors import BadSettings
from dux_flopd.spv_chain import Base, HeaderChain, genesis_base

DEPTH_BLOCKS = 1_440  # a bundle ends a day before the tip: nothing that a fork could still move
HEADERS_KEPT = 64
BUNDLE_BYTES_MAX = 1_000_000


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    network: str
    height: Annotated[int, Meta(ge=0, lt=2**31)]  # of the first header
    headers: tuple[Annotated[str, Meta(pattern="^[0-9a-f]{160}$")], ...]
    work: Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")]  # up to the last header, hex


def base_of(network: CoinNetwork, path: str) -> Base | None:
    """Where a wallet of this network starts: the named bundle, the release's, the genesis, or (None) what peers show.

    Raises:
        BadSettings: the bundle cannot be used.
    """
    shipped = FOLDER / f"{network.name}.bundle.json"
    if path:
        return read_bundle(network, Path(path).read_bytes(), path)
    if shipped.is_file():
        return read_bundle(network, shipped.read_bytes(), shipped.name)
    return genesis_base(bytes.fromhex(network.genesis)) if network.genesis else None


def read_bundle(network: CoinNetwork, data: bytes, path: str) -> Base:
    """The base in a bundle.

    Raises:
        BadSettings: of another network, too short, or its headers do not link.
    """
    try:
        bundle = msgspec.json.decode(data[:BUNDLE_BYTES_MAX], type=Bundle)
    except msgspec.DecodeError as error:
        raise BadSettings(path=path, detail=str(error)) from error
    headers = tuple(bytes.fromhex(text) for text in bundle.headers)
    if bundle.network != network.name:
        raise BadSettings(path=path, detail=f"a bundle of {bundle.network}, not of {network.name}")
    if len(headers) < MEDIAN_TIME_BLOCKS:
        raise BadSettings(path=path, detail=f"{len(headers)} headers, at least {MEDIAN_TIME_BLOCKS} are needed")
    if any(sha256d(one) != other[4:36] for one, other in pairwise(headers)):
        raise BadSettings(path=path, detail="the headers do not link to each other")
    if int(bundle.work, 16) < int(network.work_min, 16):
        raise BadSettings(path=path, detail="less work than the network is known to have")
    return Base(height=bundle.height, headers=headers, work=int(bundle.work, 16))


def make_bundle(chain: HeaderChain, name: str, depth: int) -> Bundle:
    """A bundle that ends `depth` blocks below the tip.

    Raises:
        ValueError: there are not enough headers for one.
    """
    last = chain.tip.height - depth
    first = max(chain.base_height, last - HEADERS_KEPT + 1)
    if last - first + 1 < MEDIAN_TIME_BLOCKS:
        raise ValueError(f"height {last} has fewer than {MEDIAN_TIME_BLOCKS} known headers before it")
    above = [chain.bits_at(height) for height in range(last + 1, chain.tip.height + 1)]
    work = chain.tip.work - sum(difficulty.work_of(bits) for bits in above)
    headers = tuple(chain.raw_at(height).hex() for height in range(first, last + 1))
    return Bundle(network=name, height=first, headers=headers, work=f"{work:x}")


def _chain_of(network: CoinNetwork, headers: Path, start: str) -> HeaderChain:
    """A chain from a wallet's file of headers, every one of them linked anew."""
    base = read_bundle(network, Path(start).read_bytes(), start) if start else genesis_base(_genesis(network))
    chain = HeaderChain(network, base)
    data = headers.read_bytes()
    count = chain.restore(data)
    if count * HEADER_BYTES != len(data):
        raise ValueError(f"{headers}: the header after height {chain.tip.height} does not link")
    return chain


def _genesis(network: CoinNetwork) -> bytes:
    if not network.genesis:
        raise ValueError(f"{network.name} has no genesis of its own: a bundle of it would be of one machine only")
    return bytes.fromhex(network.genesis)


def main(argv: list[str] | None = None) -> int:
    """The command: 0 done, 1 the files disagree, 2 the wish cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m dux_flopd.spv_bundle", description=__doc__)
    parser.add_argument("what", choices=("make", "check"))
    parser.add_argument("--network", required=True, help="such as flopcoin-main")
    parser.add_argument("--headers", required=True, type=Path, help="a synced wallet's headers-*.dat")
    parser.add_argument("--start", default="", help="the bundle that those headers start from; none: the genesis")
    parser.add_argument("--bundle", required=True, type=Path, help="the file to write, or to check")
    parser.add_argument("--depth", type=int, default=DEPTH_BLOCKS, help="blocks below the tip at which it ends")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        network = coin_network(args.network)
        chain = _chain_of(network, args.headers, args.start)
        if args.what == "check":
            return _check(chain, read_bundle(network, args.bundle.read_bytes(), str(args.bundle)))
        made = make_bundle(chain, network.name, args.depth)
        args.bundle.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    except (OSError, ValueError, BadSettings) as error:
        sys.stderr.write(f"spv_bundle: {error}\n")
        return 2
    last = made.height + len(made.headers) - 1
    sys.stdout.write(f"{args.bundle}: heights {made.height} to {last}, work {made.work}\n")
    return 0


def _check(chain: HeaderChain, base: Base) -> int:
    last = base.height + len(base.headers) - 1
    known = [chain.raw_at(height) for height in range(base.height, min(last, chain.tip.height) + 1)]
    above = [chain.bits_at(height) for height in range(last + 1, chain.tip.height + 1)]
    work = chain.tip.work - sum(difficulty.work_of(bits) for bits in above)
    agrees = tuple(known) == base.headers and work == base.work
    sys.stdout.write(f"heights {base.height} to {last}: {'on' if agrees else 'NOT on'} the chain of these headers\n")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())

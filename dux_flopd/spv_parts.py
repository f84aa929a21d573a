"""Puts a light wallet's chain source together: parts meet here, nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy
from structlog.typing import FilteringBoundLogger

from common.chain.coin_network import CoinNetwork
from common.chain.params import family_named
from common.clock import Clock
from common.randomness import Randomness
from dux_flopd.node_rpc import Proxy
from dux_flopd.spv_blocks import BlockReader
from dux_flopd.spv_book import AddressBook
from dux_flopd.spv_bundle import base_of
from dux_flopd.spv_net import PeerNet
from dux_flopd.spv_peer import Dial, EgressAway, Streams
from dux_flopd.spv_pool import Pool
from dux_flopd.spv_relay import Relay
from dux_flopd.spv_source import SpvSource
from dux_flopd.spv_sync import HeaderSync
from dux_flopd.spv_watch import Watch
from dux_flopd.view import ChainView

READ_BYTES_MAX = 1 << 20  # of a stream's buffer


@dataclass(frozen=True)
class SpvWish:
    """What the owner set."""

    peers: Sequence[str]
    bundle: str
    whole_blocks: bool


def spv_source(
    network: CoinNetwork,
    genesis: str,
    wish: SpvWish,
    view: ChainView,
    folder: Path,
    *,
    dial: Dial,
    random: Randomness,
    clock: Clock,
    log: FilteringBoundLogger,
) -> SpvSource:
    """The source, not running yet."""
    changed = asyncio.Event()
    pool = Pool()
    watch = Watch(view, pool)
    sync = HeaderSync(network, genesis, base_of(network, wish.bundle), folder, clock, changed.set)
    relay = Relay(pool, watch, clock, changed, replaces=family_named(network.name).replaces)
    book = AddressBook(wish.peers or network.seeds, apart=network.apart, draw=random.below)
    net = PeerNet(
        network,
        book,
        dial,
        sync,
        relay,
        watch,
        random=random,
        clock=clock,
        log=log,
        uses_filters=not wish.whole_blocks,
    )
    net.on_ready = changed.set
    reader = BlockReader(network, net, sync, watch, random, clock)
    reader.whole_only = wish.whole_blocks
    return SpvSource(
        network, genesis, net=net, sync=sync, reader=reader, relay=relay, watch=watch, changed=changed, clock=clock
    )


def dial_by(proxy: Proxy | None) -> Dial:
    """How a coin node is reached: through p2pd's egress, or straight where no p2pd runs (tests)."""
    return _straight if proxy is None else lambda host, port: _through(proxy, host, port)


async def _straight(host: str, port: int) -> Streams:
    return await asyncio.open_connection(host, port, limit=READ_BYTES_MAX)


async def _through(proxy: Proxy, host: str, port: int) -> Streams:
    try:
        token = proxy.token_file.read_text().strip()
        socks = SocksProxy(ProxyType.SOCKS5, proxy.host, proxy.port, username=proxy.user, password=token, rdns=True)
        connected = await socks.connect(host, port)
    except (ProxyConnectionError, FileNotFoundError) as error:
        raise EgressAway(f"p2pd's egress at {proxy.host}:{proxy.port} is not open: {error}") from error
    except (ProxyError, ProxyTimeoutError) as error:
        raise OSError(f"the egress: {error}") from error
    return await asyncio.open_connection(sock=connected, limit=READ_BYTES_MAX)

"""litecoind as the `chain` container: `python -m dux_cli.demo.coin_container DIR --mine-every SECONDS`.

Promises: makes the chain old enough, gives the nodes their first coins once, then mines on a timer; started again on
the same folder it goes on where it was. Ends on SIGTERM. The login is the one that `compose-files` made.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import yaml

from common.units import Florins
from dux_cli.compose_files import CHAIN_PORT, FIRST_COINS, PEERS_PORT
from dux_cli.demo.coin_chain import LITECOIN_FIRST_BLOCKS, CoinChain

PRIVATE = "10.0.0.0/8"  # the network of docker-compose.yml lies in it


async def hold(folder: Path, mine_every_s: float) -> None:
    """Run the coin node until SIGTERM."""
    login = (folder / "rpc.auth").read_text().strip()
    chain = CoinChain(
        "litecoind",
        folder,
        "0.0.0.0",  # noqa: S104 - a container
        CHAIN_PORT,
        allow=PRIVATE,
        login=login,
        p2p_port=PEERS_PORT,
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        await chain.start(folder)
        if await chain.ripen() == LITECOIN_FIRST_BLOCKS:
            await chain.endow(first_coins(folder))
        await chain.total()
        await mine_until(stopping, chain, mine_every_s)
    finally:
        await chain.stop()


def first_coins(folder: Path) -> list[tuple[str, Florins]]:
    """Who is given what."""
    return [(address, Florins(int(amount))) for address, amount in yaml.safe_load((folder / FIRST_COINS).read_text())]


async def mine_until(stopping: asyncio.Event, chain: CoinChain, every_s: float) -> None:
    """A block each `every_s` seconds (0: none) until asked to stop."""
    while not stopping.is_set():
        try:
            async with asyncio.timeout(every_s or None):
                await stopping.wait()
        except TimeoutError:
            await chain.mine(1)
            await (
                chain.total()
            )  # makes litecoind write its state: nobody else could give it back a block after a SIGKILL


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="coin-container", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mine-every", type=float, default=2.0, metavar="SECONDS")
    options = parser.parse_args()
    asyncio.run(hold(options.folder, options.mine_every))


if __name__ == "__main__":
    main()

"""A litecoind on regtest, called through the same HTTP library as our own daemons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.measure import free_port
from dux_cli.demo.coin_chain import ChainDown, CoinChain, find_program

PROGRAM = "litecoind"
MISSING = "litecoind: not on this machine (apt-get install litecoind)"


@asynccontextmanager
async def litecoind(folder: Path) -> AsyncIterator[CoinChain | None]:
    """The running node, or None where the program is missing."""
    try:
        find_program(PROGRAM)
    except ChainDown:
        yield None
        return
    chain = CoinChain(PROGRAM, folder, "127.0.0.1", free_port())
    try:
        await chain.start(folder)
        yield chain
    finally:
        await chain.stop()

"""A litecoind on regtest, asked through the same HTTP library and the same kind of session as our own daemons."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.measure import free_port
from common.rpc.client import new_session
from dux_cli.demo.coin_chain import ChainDown, CoinChain, find_program

PROGRAM = "litecoind"
MISSING = "litecoind: not on this machine (apt-get install litecoind)"
QUESTION = msgspec.json.encode({"jsonrpc": "1.0", "id": 1, "method": "getblockcount", "params": []})


class CoinClient:
    """Asks for the height."""

    def __init__(self, chain: CoinChain) -> None:
        login = f"{chain.user}:{chain.password_file.read_text()}".encode()
        self._headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        self._url = chain.url
        self._session = new_session()

    async def height(self) -> int:
        """The tip's height: the smallest question it answers."""
        async with self._session.post(self._url, data=QUESTION, headers=self._headers) as response:
            return int(msgspec.json.decode(await response.read())["result"])

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()


@asynccontextmanager
async def litecoind(folder: Path) -> AsyncIterator[CoinClient | None]:
    """A client of a running node, or None where the program is missing."""
    try:
        find_program(PROGRAM)
    except ChainDown:
        yield None
        return
    chain = CoinChain(PROGRAM, folder, "127.0.0.1", free_port())
    try:
        await chain.start(folder)
        client = CoinClient(chain)
        yield client
        await client.close()
    finally:
        await chain.stop()

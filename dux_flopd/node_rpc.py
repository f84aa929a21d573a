"""The coin node's JSON-RPC, as much of it as every Bitcoin-family node has. The only file that speaks to the node.

Knows no wallet in the node: blocks, waiting transactions, and handing over a transaction are all it asks for. A node
that is away is `ChainUnavailable`, an answer that refuses is `Refused` with the node's own code.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType

from common.chain.params import ChainFamily
from common.contracts.wallet_errors import ChainUnavailable
from dux_flopd.blocks import Block, parse_block
from dux_flopd.source import ChainTip, Refused, SourceStatus

CALL_DEADLINE_S = 20.0
WAIT_SPARE_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a 1 MB block in hex with room
UNAUTHORIZED = 401
METHOD_NOT_FOUND = -32601
OUT_OF_RANGE = -8
WRONG_TYPES = (-1, -3, -32602)  # how old nodes refuse an argument of a newer form
NOT_FOUND = -5


@dataclass(frozen=True)
class Proxy:
    """p2pd's egress; `token_file` holds the password and is read for every new session."""

    host: str
    port: int
    user: str
    token_file: Path


class CoinNode:
    """One coin node."""

    def __init__(
        self,
        url: str,
        login: tuple[str, str],
        family: ChainFamily,
        proxy: Proxy | None = None,
        *,
        waiting_ms: int = 0,
    ) -> None:
        """`waiting_ms`: how long at least to wait for a block where the node itself tells of one."""
        self.url = url
        self._waiting_ms = waiting_ms
        self._headers = {"Authorization": aiohttp.encode_basic_auth(*login)}
        self._family = family
        self._proxy = proxy
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None
        self._waits = True  # until it says that it cannot
        self._verbosity: int | bool = 0
        self._tip = ChainTip(-1, "")

    @property
    def name(self) -> str:
        """Which kind of source."""
        return "core"

    @property
    def endpoint(self) -> str:
        """Host and port, without the login."""
        return _shown(self.url)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any, deadline_s: float = CALL_DEADLINE_S) -> Any:
        """The node's result.

        Raises:
            ChainUnavailable: no answer, no connection, or the login is refused.
            Refused: the node's own error.
        """
        body = {"jsonrpc": "1.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._open().post(self.url, data=msgspec.json.encode(body), headers=self._headers) as response,
            ):
                status, text = response.status, await _read(response)
        except (ProxyError, ProxyConnectionError, ProxyTimeoutError) as error:
            await self.close()  # the egress may have a new token: a new session reads it
            raise ChainUnavailable(endpoint=self.endpoint, detail=_reason(error)) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ChainUnavailable(endpoint=self.endpoint, detail=_reason(error)) from error
        return self._result(status, text)

    async def genesis(self) -> str:
        """The hash of block 0."""
        return str(await self.call("getblockhash", 0))

    async def tip(self) -> ChainTip:
        """The best chain's tip."""
        best = str(await self.call("getbestblockhash"))
        if best != self._tip.hash:
            header = await self.call("getblockheader", best)
            self._tip = ChainTip(int(header["height"]), best)
        return self._tip

    async def wait_for_change(self, wait_ms: int) -> None:
        """Return when a block came, or after `wait_ms`; sleeps where the node cannot wait."""
        if self._waits:
            long_ms = max(wait_ms, self._waiting_ms)
            try:
                await self.call("waitfornewblock", long_ms, deadline_s=long_ms / 1000 + WAIT_SPARE_S)
            except Refused as error:
                if error.code != METHOD_NOT_FOUND:
                    raise
                self._waits = False
            else:
                return
        await asyncio.sleep(wait_ms / 1000)

    async def block_hash(self, height: int) -> str | None:
        """The hash at a height of the best chain; None above the tip."""
        try:
            return str(await self.call("getblockhash", height))
        except Refused as error:
            if error.code != OUT_OF_RANGE:  # a node that is starting must not look like a chain that is gone
                raise
            return None

    async def read(self, block_hash: str) -> Block:
        """A block, whole."""
        return parse_block(await self.block(block_hash))

    async def block(self, block_hash: str) -> bytes:
        """A block's bytes."""
        try:
            return bytes.fromhex(await self.call("getblock", block_hash, self._verbosity))
        except Refused as error:
            if error.code not in WRONG_TYPES or self._verbosity is False:
                raise
            self._verbosity = False  # nodes before 0.15 know only true and false
            return bytes.fromhex(await self.call("getblock", block_hash, self._verbosity))

    async def waiting(self) -> list[str]:
        """The ids of the transactions that wait for a block."""
        return [str(item) for item in await self.call("getrawmempool")]

    async def waiting_tx(self, txid: str) -> bytes | None:
        """The bytes of a waiting transaction; None when it is gone by now."""
        try:
            return bytes.fromhex(await self.call("getrawtransaction", txid))
        except Refused:
            return None

    async def broadcast(self, raw: bytes) -> None:
        """Hand a transaction over. `Refused` when the node does not take it."""
        await self.call("sendrawtransaction", raw.hex(), *self._family.broadcast_arguments)

    def status(self) -> SourceStatus:
        """Where it is and how far; nothing here can tell whether it says the truth."""
        return SourceStatus(self.name, self.endpoint, self._tip.height, self._tip.hash)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = _connector(self._proxy) if self._proxy else aiohttp.TCPConnector(limit=8)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session

    def _result(self, status: int, text: bytes) -> Any:
        if status == UNAUTHORIZED:
            raise ChainUnavailable(endpoint=self.endpoint, detail="it refuses the login (node_password_file, --login)")
        try:
            answer = msgspec.json.decode(text)
            error = answer["error"]
        except (msgspec.DecodeError, KeyError, TypeError) as problem:
            detail = f"HTTP {status} without a JSON-RPC answer"
            raise ChainUnavailable(endpoint=self.endpoint, detail=detail) from problem
        if error:
            raise Refused(int(error.get("code", 0)), str(error.get("message", "")))
        return answer["result"]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise OSError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def _connector(proxy: Proxy) -> ProxyConnector:
    return ProxyConnector(
        proxy_type=ProxyType.SOCKS5,
        host=proxy.host,
        port=proxy.port,
        username=proxy.user,
        password=proxy.token_file.read_text().strip(),
        rdns=True,
        limit=8,
    )


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "nothing listens there"
    return str(error) or type(error).__name__

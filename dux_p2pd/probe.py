"""Is a node with one of these transport keys listening there? TLS up to its key, then the connection is dropped.

Promise: at most five seconds, at most a handshake's bytes; nothing is believed but the key that was proved.
"""

from __future__ import annotations

import asyncio

from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.one_link import connected, is_of_one_link
from dux_p2pd.session import Address
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.wire_limits import HANDSHAKE_S

READ_BYTES = 4096


async def answers(
    contexts: TlsContexts, address: Address, keys: tuple[bytes, ...], source: Address | None = None
) -> bool:
    """Whether it is."""
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            if is_of_one_link(address):
                reader, writer = await asyncio.open_connection(sock=await connected(address, source))
            else:
                reader, writer = await asyncio.open_connection(*address, local_addr=source)
            try:
                return await _has_key(TlsEngine(contexts, server_side=False, expected_keys=keys), reader, writer)
            finally:
                writer.transport.abort()
    except (OSError, ValueError):  # TimeoutError is an OSError
        return False


async def _has_key(engine: TlsEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    step = engine.start()
    while step.phase is Phase.HANDSHAKE:
        writer.write(step.to_send)
        data = await reader.read(READ_BYTES)
        if not data:
            return False
        step = engine.receive(data)
    return step.phase is Phase.OPEN and step.error is None

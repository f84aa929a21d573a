"""What attackers and the honest peer beside them need: an authenticated liar, and calls that must go on meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from dux_p2pd.calls import request_head
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.frames import FIN, SYN, Frame, FrameReader, Kind, encode
from dux_p2pd.hello import HelloExchange
from dux_p2pd.tls_keys import contexts_of_seed
from tests.attacks.registry import met
from tests.p2pd.wire_kit import ALPN, TestNode, TestPapers, myself, tls_node

EVE_HOST, HONEST_HOST = "127.0.66.1", "127.0.77.1"
SLOW_S = 3.0  # the honest peer's worst answer on a loaded machine; usual are 2 ms


class Attacker:
    """An authenticated TLS client of our own that says what it likes inside, and hears nothing until it wants to."""

    def __init__(self, name: str = "eve", *, seed: bytes = b"", papers: TestPapers | None = None) -> None:
        self.papers = papers or TestPapers(name)
        self.engine = TlsEngine(contexts_of_seed(seed or self.papers.seed, ALPN), server_side=False)
        self.frames = FrameReader()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self, node: TestNode, host: str = EVE_HOST) -> None:
        """Up to the end of TLS."""
        self.reader, self.writer = await asyncio.open_connection(*node.address, local_addr=(host, 0))
        self.writer.write(self.engine.start().to_send)
        while self.engine.phase is Phase.HANDSHAKE:
            got = await self.reader.read(65536)
            if not got:
                raise ConnectionError("hung up during TLS")
            self.writer.write(self.engine.receive(got).to_send)

    async def introduce(self, to: TestNode) -> None:
        """An honest HELLO; returns when the acceptor's has come."""
        me, key = myself(self.papers), self.engine.peer_key
        exchange = HelloExchange(me, dialler=True, peer_key=key, expected_did=to.did, record_known=True)
        self.say(exchange.start())
        step = exchange.receive(b"")
        while step.introduced is None:
            got = await self.reader.read(65536)
            if not got:
                raise ConnectionError("hung up during the introduction")
            step = exchange.receive(self.engine.receive(got).plaintext)
        list(self.frames.feed(step.leftover))

    def say(self, plaintext: bytes) -> None:
        """Whatever, inside the channel."""
        with suppress(ConnectionError):
            self.writer.write(self.engine.send(plaintext))

    def ask(self, stream: int, method: str = "m", body: bytes = b"", *, flags: int = SYN | FIN) -> None:
        """A request on a stream of the attacker's choice."""
        data = request_head(method, 30.0, ()) + body
        self.say(encode(Kind.DATA, flags, stream, len(data), data))

    async def hear(self) -> list[Frame]:
        """The next frames; none at the end."""
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            return []
        return list(self.frames.feed(self.engine.receive(data).plaintext)) if data else []

    async def is_cut(self, within_s: float = 10.0) -> bool:
        """Whether the node hangs up."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
            return True
        return self.reader.at_eof() or self.reader.exception() is not None

    def close(self) -> None:
        """Gone."""
        self.writer.transport.abort()


@asynccontextmanager
async def inside(node: TestNode, name: str = "eve", host: str = EVE_HOST) -> AsyncIterator[Attacker]:
    """An attacker with a session."""
    eve = Attacker(name)
    await eve.connect(node, host)
    try:
        await eve.introduce(node)
        yield eve
    finally:
        eve.close()


@asynccontextmanager
async def honest_beside(node: TestNode) -> AsyncIterator[list[float]]:
    """An honest peer that calls all the time: every call must be answered, in time; tells how it fared."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    async with tls_node("honest", host=HONEST_HOST) as honest:
        session = await honest.dial(node)

        async def call_on() -> None:
            while True:
                began = loop.time()
                assert await session.request("m", b"x", deadline_s=SLOW_S) == b"m:x"
                took.append(loop.time() - began)
                await asyncio.sleep(0.005)

        calling = asyncio.ensure_future(call_on())
        try:
            yield took
            await asyncio.sleep(0.05)
        finally:
            calling.cancel()
            with suppress(asyncio.CancelledError):
                await calling
    assert len(took) >= 3, "the honest peer was not served"
    took.sort()
    met(f"honest peer beside: {len(took)} calls answered, worst {took[-1] * 1000:.0f} ms")

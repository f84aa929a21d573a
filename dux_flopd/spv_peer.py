"""One connection to a coin node: handshake, requests whose end is known, and what the node says unasked.

Promises: a message larger than its kind may be, a wrong check sum, another network or silence end the connection with
a reason; one request runs at a time, and a ping behind it tells when the node has said all it will say, so that "it
does not have that" needs no time-out. Believes nothing: what is received is judged by whoever asked.

Source: facts §1 (version 70016, user agent), §4 (f) (silence for stale blocks).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from common.chain import messages
from common.chain.coin_network import CoinNetwork
from common.chain.messages import Version, frame
from common.chain.wire import DecodeError
from common.randomness import Randomness

HANDSHAKE_S = 20.0
ASK_S = 30.0
IDLE_S = 180.0
SEND_S = 20.0
COLLECTED_MAX = 20_000  # messages in answer to one request: a batch of blocks with all their transactions
COLLECTED_BYTES_MAX = 16_000_000

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[str, int], Awaitable[Streams]]
Heard = Callable[["Peer", str, bytes], Awaitable[None]]


class PeerLost(Exception):
    """The connection ended; the text says why."""


class EgressAway(OSError):
    """The way out of this node is not open (p2pd starts, or is away): no node of the coin has to do with it."""


class PeerFault(PeerLost):
    """The node broke the protocol, lied, or is of another network: it is not asked again for a day."""


class Peer:
    """A node that is connected."""

    def __init__(self, address: str, network: CoinNetwork, streams: Streams, random: Randomness, heard: Heard) -> None:
        self.address = address
        self._network = network
        self._magic = bytes.fromhex(network.magic)
        self._reader, self._writer = streams
        self._random = random
        self._heard = heard
        self._asking = asyncio.Lock()
        self._collect: dict[str, list[bytes]] | None = None
        self._collected_bytes = 0
        self._pong: asyncio.Future[None] | None = None
        self._ping_nonce = b""
        self.version: Version | None = None
        self.height = -1  # the most that it claimed or showed
        self.tip_shown = b""
        self.filter_version: tuple[int, int] | None = None
        self.failed = ""

    @property
    def has_bloom(self) -> bool:
        """Whether it looks for transactions by a filter."""
        return self.version is not None and bool(self.version.services & messages.NODE_BLOOM)

    async def greet(self, own_height: int, now_s: int, *, relay: bool) -> None:
        """Exchange versions.

        Raises:
            PeerLost: it did not answer. PeerFault: it is none that serves this network.
        """
        nonce = int.from_bytes(self._random.bytes(8), "little")
        mine = Version(
            protocol=self._network.protocol,
            services=0,
            time_s=now_s,
            nonce=nonce,
            user_agent=self._network.user_agent,
            height=own_height,
            relay=relay,  # false: nothing before a filter is loaded
        )
        async with _limit(HANDSHAKE_S, "it did not finish the handshake"):
            await self.send("version", messages.encode_version(mine))
            acknowledged = False
            while self.version is None or not acknowledged:
                command, payload = await self._receive()
                if command == "version":
                    self.version = self._accepted(payload, nonce)
                    await self.send("verack", b"")
                acknowledged = acknowledged or command == "verack"
        self.height = self.version.height

    def _accepted(self, payload: bytes, own_nonce: int) -> Version:
        try:
            version = messages.decode_version(payload)
        except DecodeError as error:
            raise PeerFault(str(error)) from error
        if version.nonce == own_nonce:
            raise PeerFault("it is this wallet itself")
        if version.protocol < self._network.peer_protocol_min:
            raise PeerFault(f"it speaks version {version.protocol} only")
        if not version.services & messages.NODE_NETWORK:
            raise PeerFault("it does not serve the whole chain")
        return version

    async def send(self, command: str, payload: bytes) -> None:
        """Send one message.

        Raises:
            PeerLost: it does not read.
        """
        try:
            async with _limit(SEND_S, "it does not read"):
                self._writer.write(frame(self._magic, command, payload))
                await self._writer.drain()
        except OSError as error:
            raise PeerLost(str(error) or "the connection broke") from error

    async def ask(self, command: str, payload: bytes, *answers: str) -> dict[str, list[bytes]]:
        """Send a request and return every message of these kinds that came before the node had dealt with it.

        Raises:
            PeerLost: no answer in time, or the connection ended. PeerFault: more than any honest answer.
        """
        async with self._asking:
            collected = self._collect = {answer: [] for answer in answers}
            self._collected_bytes = 0
            self._ping_nonce = self._random.bytes(8)
            self._pong = asyncio.get_running_loop().create_future()
            try:
                async with _limit(ASK_S, f"it did not answer {command!r}"):
                    await self.send(command, payload)
                    await self.send("ping", self._ping_nonce)
                    await self._pong
            finally:
                self._collect = None
                if self._pong.done() and not self._pong.cancelled():
                    self._pong.exception()
                self._pong = None
            return collected

    async def listen(self) -> None:
        """Read until the connection ends.

        Raises:
            PeerLost: it ended.
        """
        try:
            while True:
                async with _limit(IDLE_S, "it fell silent"):
                    command, payload = await self._receive()
                await self._take(command, payload)
        except PeerLost as error:
            self.failed = str(error)
            if self._pong is not None and not self._pong.done():
                self._pong.set_exception(PeerLost(str(error)))
            raise

    async def _take(self, command: str, payload: bytes) -> None:
        if command == "ping":
            await self.send("pong", payload)
        elif command == "pong":
            if self._pong is not None and payload == self._ping_nonce and not self._pong.done():
                self._pong.set_result(None)
        elif self._collect is not None and command in self._collect:
            self._gather(self._collect[command], payload)
        else:
            await self._heard(self, command, payload)

    def _gather(self, found: list[bytes], payload: bytes) -> None:
        self._collected_bytes += len(payload)
        if len(found) >= COLLECTED_MAX or self._collected_bytes > COLLECTED_BYTES_MAX:
            raise PeerFault("it answers more than was asked")
        found.append(payload)

    async def _receive(self) -> tuple[str, bytes]:
        try:
            head = await self._reader.readexactly(messages.FRAME_BYTES)
            command, length, check = messages.read_frame_head(head, self._magic)
            payload = await self._reader.readexactly(length)
            messages.check_payload(payload, check)
        except DecodeError as error:
            raise PeerFault(str(error)) from error
        except (OSError, asyncio.IncompleteReadError, struct.error) as error:
            raise PeerLost("it hung up") from error
        return command, payload

    async def close(self) -> None:
        """Hang up."""
        with suppress(OSError, TimeoutError):
            self._writer.close()
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()


@asynccontextmanager
async def _limit(seconds: float, reason: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise PeerLost(reason) from error

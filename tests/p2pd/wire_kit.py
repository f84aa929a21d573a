"""Nodes for tests of the wire: real identities, real papers, transports over loopback sockets or memory."""

import asyncio
import functools
import hashlib
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from common.clock import ManualClock
from common.codec import canonical
from common.identity.branch import did_of_branch, inception_of, make_branch, operational_key
from common.identity.log import decode_log, encode_log, read_log
from common.identity.node_record import RECORD_BYTES_MAX, NodeRecord, open_record
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed, sign
from common.units import Did, UnixMs
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.certs import public_key
from dux_p2pd.hello import Myself
from dux_p2pd.memory_transport import MemoryNetwork, MemoryTransport
from dux_p2pd.mux import Mux
from dux_p2pd.session import OwnPapers, Prompt, Session, Vouched
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.tls_transport import TlsTransport

NETWORK = "00" * 32
ALPN = "dux-test/1"
MADE_MS = 1_790_000_000_000
DAY_MS = 86_400_000


def unread_bytes(mux: Mux) -> int:
    """Bytes received and not yet consumed, over all streams."""
    return sum(flow.unread for flow in mux._flows.values())


class TestPapers:
    """A real identity with one inception event and a node record that names its transport key."""

    __test__ = False

    def __init__(self, name: str, *, clock: ManualClock | None = None, known: bool = True) -> None:
        self.clock = clock or ManualClock(MADE_MS + 1000)
        seed = hashlib.sha512(name.encode()).digest()
        branch = make_branch(seed, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
        self.did = did_of_branch(branch, 0)
        self.key = operational_key(branch, 0)
        self.log = read_log([inception_of(branch, 0)], now_ms=self.clock.unix_ms(), inception_bits=0)
        self.seed = hashlib.sha256(b"transport " + name.encode()).digest()
        self.transport_key = public_key(self.seed)
        self.claimed_keys: tuple[bytes, ...] = (self.transport_key,)
        self.life_ms = DAY_MS
        self.everybody_is_known = known
        self.judged: list[Did] = []

    def own(self) -> OwnPapers:
        return OwnPapers(log_tail=encode_log(self.log), node_record=self.record())

    def record(self) -> bytes:
        now = self.clock.unix_ms()
        record = NodeRecord(
            v=1,
            did=self.did,
            key_seq=0,
            seq_ms=now,
            issued_ms=now,
            expires_ms=UnixMs(now + self.life_ms),
            transport_keys=self.claimed_keys,
            endpoints=(),
            relays=(),
            mailbox_keys=(),
            coin_link=None,
        )
        return canonical(sign(self.key, Purpose.NODE_RECORD, record))

    def judge(self, did: Did, log_tail: bytes, node_record: bytes) -> Vouched:
        self.judged.append(did)
        now = self.clock.unix_ms()
        log = decode_log(log_tail, now_ms=now, inception_bits=0)
        record = open_record(decode_signed(node_record, max_bytes=RECORD_BYTES_MAX), log, now_ms=now)
        return Vouched(log.did, record.transport_keys, node_record, record.expires_ms)

    def is_known(self, did: Did) -> bool:  # noqa: ARG002
        return self.everybody_is_known

    def did_of_key(self, transport_key: bytes) -> Did | None:  # noqa: ARG002
        return None


def myself(papers: TestPapers, *, network: str = NETWORK, features: tuple[str, ...] = ()) -> Myself:
    return Myself(network, papers, features, papers.clock.unix_ms, lambda _: False)


async def echo(_session: Session, incoming) -> bytes:
    return incoming.method.encode() + b":" + await incoming.body()


class TestNode:
    """A transport that serves, with what it saw."""

    __test__ = False

    def __init__(self, transport: BaseTransport, papers: TestPapers) -> None:
        self.transport, self.papers = transport, papers
        self.sessions: list[Session] = []
        self.address = ("", 0)

    @property
    def did(self) -> Did:
        return self.papers.did

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (self.papers.transport_key,)

    async def dial(self, other: "TestNode"):
        return await self.transport.connect(other.address, other.did, other.keys)


Handler = Callable[..., Awaitable[bytes | None]]


@asynccontextmanager
async def tls_node(
    name: str, *, host: str = "127.0.0.1", handler: Handler = echo, papers: TestPapers | None = None, **more
) -> AsyncIterator[TestNode]:
    papers = papers or TestPapers(name)
    shared = {
        "network": NETWORK,
        "papers": papers,
        "clock": papers.clock,
        "log": structlog.get_logger(),
        "contexts": contexts_of_seed(papers.seed, ALPN),
        "listen": (host, 0),
        "bind_source": True,
    }
    async with TlsTransport(**(shared | more)) as transport:
        node = TestNode(transport, papers)
        node.address = await transport.serve(node.sessions.append, handler)
        yield node


async def until(predicate: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait for a predicate; the limit only ends a test that would hang."""
    async with asyncio.timeout(within_s):
        while not predicate():
            await asyncio.sleep(0.005)


THREAD_S = 10.0  # real time: a stamp of a test takes milliseconds


class _JumpingSelector(selectors.SelectSelector):
    """Never sleeps: when nothing is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None):
        if timeout is None:
            return self._from_a_thread()
        self.now += timeout
        return super().select(0)

    def _from_a_thread(self):
        """No timer is set, so only a thread's result may come: work for a stamp, done beside the loop."""
        ready = super().select(THREAD_S)
        if not ready:
            raise RuntimeError("everybody waits for ever")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which hours pass in no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def virtually(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in virtual time, with the parameters that pytest gives it."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(**given))

    return run


@asynccontextmanager
async def memory_node(
    network: MemoryNetwork,
    name: str,
    *,
    host: str,
    handler: Handler = echo,
    prompt: Callable[[str], Prompt | None] = lambda _method: None,
    papers: TestPapers | None = None,
    **more,
) -> AsyncIterator[TestNode]:
    papers = papers or TestPapers(name)
    shared = {
        "network": NETWORK,
        "papers": papers,
        "clock": papers.clock,
        "log": structlog.get_logger(),
        "network_of": network,
        "transport_key": papers.transport_key,
        "listen": (host, 32570),
    }
    async with MemoryTransport(**(shared | more)) as transport:
        transport.prompt = prompt
        node = TestNode(transport, papers)
        node.address = await transport.serve(node.sessions.append, handler)
        yield node

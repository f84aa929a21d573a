"""The transport of the simulator: the same introduction, frames and limits, over pipes in memory, without TLS.

Promise: everything above the cipher is the code that runs on sockets. A pipe behaves as TCP does: bytes come in order
or not at all; a lost segment comes late; what is sent into a cut link waits and arrives when the link heals, if neither
end has given up by then. The proof of the transport key, which TLS gives, is taken from the network object. Delays and
losses come from a `Weather` that a history scripts; randomness is handed to it.

What arrives runs in the receiver's context, not in that of whoever sent it: so a node that dies takes along what was
its own, and nothing of its peers'.

Source: network.md §2, architecture.md §3.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

from common.identity.keys import SigningKey
from common.nets import net_of
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.doorway import Doorway
from dux_p2pd.session import Address
from dux_p2pd.wire_errors import CertificateRefused, HandshakeFailed, PeerUnreachable
from dux_p2pd.wire_limits import HANDSHAKE_S, WRITE_HIGH_BYTES
from dux_p2pd.wire_session import WireSession

_RETRANSMIT_S = 0.2  # what a lost segment costs
_FIRST_PORT = 32570


class Weather(Protocol):
    """What a link does to bytes."""

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:
        """How long these bytes travel, repetitions of lost ones included."""
        ...

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets through now, in this direction."""
        ...


class CalmWeather:
    """A steady delay, a share of lost segments, and links that a test cuts and heals."""

    def __init__(self, randomness: Randomness | None = None, *, delay_s: float = 0.0, loss: float = 0.0) -> None:
        """`loss` is the chance of each segment to be lost; it needs randomness."""
        self.latency_s, self.loss = delay_s, loss
        self._randomness = randomness
        self._cut: set[tuple[str, str]] = set()

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from source to target until healed."""
        self._cut.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """Let it through again; `MemoryNetwork.resume` moves what waited."""
        self._cut.discard((source, target))

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:  # noqa: ARG002 - the same on every link
        """The latency, and a fifth of a second for every time the segment is lost."""
        delay_s = self.latency_s
        while self._randomness is not None and self._randomness.uniform() < self.loss:
            delay_s += _RETRANSMIT_S
        return delay_s

    def is_cut(self, source: str, target: str) -> bool:
        """Whether the link is cut in this direction."""
        return (source, target) in self._cut


Witness = Callable[[str, str, bytes], None]


def _no_witness(_source: str, _target: str, _data: bytes) -> None:
    """Nobody listens in."""


class MemoryNetwork:
    """All listening nodes by address, and the pipes between them. `witness` is told of all bytes that arrive."""

    def __init__(self, weather: Weather | None = None, witness: Witness = _no_witness) -> None:
        self.weather: Weather = weather or CalmWeather()
        self.witness = witness
        self.listening: dict[Address, MemoryTransport] = {}
        self.lines: dict[MemoryLine, None] = {}  # in the order in which they were made
        self._of_host: dict[str, dict[MemoryLine, None]] = {}  # the same by either end: a node comes and goes often

    def add(self, line: MemoryLine) -> None:
        """There is one more."""
        self.lines[line] = None
        for host in line.route:
            self._of_host.setdefault(host, {})[line] = None

    def remove(self, line: MemoryLine | None) -> None:
        """It is no more; nothing happens where it is gone already."""
        if line is not None and line in self.lines:
            del self.lines[line]
            for host in line.route:
                self._of_host[host].pop(line, None)

    def lines_of(self, host: str) -> list[MemoryLine]:
        """Those with an end at this host, in the order in which they were made."""
        return list(self._of_host.get(host, ()))

    def drop(self, owner: MemoryTransport) -> None:
        """A node died: its sockets close by themselves."""
        self.silence(owner)
        for line in [line for line in self.lines_of(owner.host) if line.owner is owner]:
            line.close()

    def silence(self, owner: MemoryTransport) -> None:
        """A node listens no more; its connections live on."""
        for address in [address for address, one in self.listening.items() if one is owner]:
            del self.listening[address]

    def resume(self) -> None:
        """Move on what waited before links that are no longer cut."""
        for line in list(self.lines):
            line.pump()


class MemoryTransport(BaseTransport):
    """Sessions of one simulated node."""

    def __init__(self, *, network_of: MemoryNetwork, transport_key: bytes, listen: Address, **shared: Any) -> None:
        """`transport_key` is taken as proved to every peer. The other arguments are those of BaseTransport."""
        super().__init__(**shared)
        self.transport_key = transport_key
        self.network = network_of
        self.context = copy_context()
        self._listen_on = listen

    @property
    def host(self) -> str:
        """The address that this node dials from and listens on."""
        return self._listen_on[0]

    def use_seed(self, seed: bytes) -> None:
        """Prove the transport key of this seed on connections from now on."""
        self.transport_key = SigningKey(seed).public

    async def probe(self, address: Address, keys: tuple[bytes, ...]) -> bool:
        """Whether a node with one of these keys listens there and the way is free."""
        weather, there = self.network.weather, self.network.listening.get(address)
        is_cut = weather.is_cut(self.host, address[0]) or weather.is_cut(address[0], self.host)
        return there is not None and there.transport_key in keys and not is_cut

    async def _listen(self) -> Address:
        host, port = self._listen_on
        address = host, port or _FIRST_PORT
        if address in self.network.listening:
            raise PeerUnreachable(address=f"{address[0]}:{address[1]}", detail="address already in use")
        self.network.listening[address] = self
        return address

    async def _stop_listening(self) -> None:
        self.network.silence(self)
        for line in [line for line in self.network.lines_of(self.host) if line.owner is self and line.is_unfinished]:
            line.close()

    async def _dial(self, address: Address, did: Did | None, keys: tuple[bytes, ...] | None) -> WireSession:
        text = f"{address[0]}:{address[1]}"
        own_host, weather = self._listen_on[0], self.network.weather
        if weather.is_cut(own_host, address[0]) or weather.is_cut(address[0], own_host):
            await asyncio.sleep(HANDSHAKE_S)
            raise PeerUnreachable(address=text, detail="no answer")
        await asyncio.sleep(weather.delay_s(own_host, address[0], 0) + weather.delay_s(address[0], own_host, 0))
        there = self.network.listening.get(address)
        if there is None:
            raise PeerUnreachable(address=text, detail="connection refused")
        if keys is not None and there.transport_key not in keys:
            raise CertificateRefused(reason="another key than the node record names")
        return await self._connect_to(there, address, did, record_known=keys is not None)

    async def _connect_to(
        self, there: MemoryTransport, address: Address, did: Did | None, *, record_known: bool
    ) -> WireSession:
        net = net_of(self._listen_on[0])
        refusal = there.gate.admit(net, there.now())
        if refusal is not None:
            there.count.refused(refusal)
            raise HandshakeFailed(reason="the connection was closed")
        here_line, there_line = MemoryLine(self, address[0]), MemoryLine(there, self._listen_on[0])
        here_line.other, there_line.other = there_line, here_line
        doorway = Doorway(
            self,
            here_line,
            dialled=True,
            peer_key=there.transport_key,
            address=address,
            expected_did=did,
            record_known=record_known,
        )
        here_line.doorway = doorway
        there.context.copy().run(there._take_in, there_line, self, net)
        doorway.start()
        try:
            return await doorway.outcome
        finally:
            if doorway.session is None:
                here_line.close()

    def _take_in(self, line: MemoryLine, dialler: MemoryTransport, net: str) -> None:
        """The accepting end of a new line."""
        line.doorway = Doorway(self, line, dialled=False, peer_key=dialler.transport_key, address=dialler._listen_on)
        line.doorway.outcome.add_done_callback(lambda _: self.gate.leave(net))


class MemoryLine:
    """One direction's sender and the other's receiver; implements `wire_session.Line`."""

    def __init__(self, owner: MemoryTransport, peer_host: str) -> None:
        self.owner = owner
        self.other: MemoryLine | None = None
        self.doorway: Doorway | None = None
        self._route = owner.host, peer_host
        self._network = owner.network
        self._network.add(self)
        self._waiting: deque[bytes | None] = deque()  # None is the end
        self._travelling: deque[bytes | None] = deque()
        self._waiting_bytes = 0
        self._free_at = 0.0  # nothing overtakes what was sent before
        self._closed = self._is_full = False

    def send(self, data: bytes) -> None:
        """Take bytes; nothing happens on a closed line."""
        if not self._closed:
            self._queue(data)

    def buffered_bytes(self) -> int:
        """Bytes taken and not yet delivered."""
        return self._waiting_bytes

    def close(self) -> None:
        """The other end hears of it after everything sent before."""
        if not self._closed:
            self._queue(None)
            self._closed = True

    def pump(self) -> None:
        """Put what waits on its way, while the link is not cut."""
        loop, weather = asyncio.get_running_loop(), self._network.weather
        source, target = self._route
        receiver = self.owner if self.other is None else self.other.owner
        while self._waiting and not weather.is_cut(source, target):
            item = self._waiting.popleft()
            delay_s = weather.delay_s(source, target, len(item or b""))
            self._free_at = max(self._free_at, loop.time() + delay_s)
            self._travelling.append(item)
            loop.call_at(self._free_at, self._deliver, context=receiver.context.copy())

    def _queue(self, item: bytes | None) -> None:
        self._waiting.append(item)
        self._waiting_bytes += len(item or b"")
        if self._waiting_bytes > WRITE_HIGH_BYTES:
            self._note_room()
        self.pump()

    def _deliver(self) -> None:
        """The item that has travelled longest arrives: timers of one moment may fire in any order."""
        item, other = self._travelling.popleft(), self.other
        self._waiting_bytes -= len(item or b"")
        if self._is_full:
            self._note_room()
        if item is None:
            self._network.remove(self)
            self._network.remove(other)  # what it sends from now on finds nobody
        if other is None or other.doorway is None or other.is_closed:
            return
        if item is None:
            other.close()
            other.doorway.lost("the connection was closed")
        else:
            self._network.witness(*self._route, item)
            other.doorway.receive(item)

    @property
    def route(self) -> tuple[str, str]:
        """Whose end it is, and whose the other one."""
        return self._route

    @property
    def is_closed(self) -> bool:
        """Whether this end was closed."""
        return self._closed

    @property
    def is_unfinished(self) -> bool:
        """Whether its two ends have not introduced themselves."""
        return self.doorway is None or self.doorway.session is None

    @property
    def is_over(self) -> bool:
        """Whether neither end is open."""
        return self._closed and (self.other is None or self.other.is_closed)

    def _note_room(self) -> None:
        is_full = self._waiting_bytes > WRITE_HIGH_BYTES
        session = self.doorway.session if self.doorway is not None else None
        if is_full != self._is_full and session is not None:
            session.set_room(has_room=not is_full)
        self._is_full = is_full

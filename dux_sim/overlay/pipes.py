"""Pipes between the nodes of a large world: every word of a connection, its first and its last, is a letter.

Promises that the two ends of a pipe share nothing: each may be in a process of its own. What is sent into a cut link
waits and arrives when it heals, in order; a first word that meets a cut is lost, as the dialler finds out by its clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.errors import DuxError
from common.nets import net_of
from common.units import Did
from dux_p2pd.doorway import Doorway
from dux_p2pd.memory_transport import MemoryNetwork, MemoryTransport, Weather, Witness
from dux_p2pd.session import Address
from dux_p2pd.wire_errors import CertificateRefused, HandshakeFailed, PeerUnreachable
from dux_p2pd.wire_limits import HANDSHAKE_S, WRITE_HIGH_BYTES
from dux_p2pd.wire_session import WireSession
from dux_sim.overlay.post import Post

DIALS_BITS = 40  # of the number of a pipe: which dial of its dialler it is, and which end
REFUSED, WRONG_KEY, NOT_LET_IN = "refused", "another key", "not let in"


def host_of(number: int) -> str:
    """The address of a node: each has a net of its own."""
    return f"127.{1 + (number >> 8)}.{number & 255}.1"


def number_of(host: str) -> int:
    """Whose address it is, or would be."""
    _, high, low, _ = host.split(".")
    return ((int(high) - 1) << 8) + int(low)


@dataclass
class Dial:
    """A first word that was sent, until it is answered."""

    by: PipeTransport
    address: Address
    did: Did | None
    keys: tuple[bytes, ...] | None
    answer: asyncio.Future[PipeEnd]


class PipeEnd:
    """One node's end; implements `wire_session.Line`. The other end has the same number but for the last bit."""

    def __init__(self, number: int, owner: PipeTransport, peer_host: str) -> None:
        self.number, self.owner = number, owner
        self.doorway: Doorway | None = None
        self.route = owner.host, peer_host
        self.is_closed = False
        self._nodes = number_of(owner.host), number_of(peer_host)
        self._network = owner.network
        self._delay_s = owner.network.weather.delay_s(*self.route, 0)  # a link has one, always the same
        self._waiting: list[bytes | None] = []  # before a link that is cut; None is the end
        self._travelling: list[tuple[float, int]] = []  # when it arrives, and its bytes
        self._held_bytes = 0
        self._free_at = 0.0  # nothing overtakes what was sent before
        self._is_full = self._looks_again = False
        self._network.enter(self)

    def send(self, data: bytes) -> None:
        """Take bytes; nothing happens on a closed end."""
        if self.is_closed:
            return
        if self._travelling:
            self.buffered_bytes()
        self._held_bytes += len(data)
        if self._is_full or self._held_bytes > WRITE_HIGH_BYTES:
            self._note_room()
        self._put(data)
        self._look_again()

    def close(self) -> None:
        """The other end hears of it after everything sent before."""
        if not self.is_closed:
            self.is_closed = True
            self._put(None)
            self._look_again()
            if self.route[1] in self._network.gone:
                self._network.leave(self)

    def buffered_bytes(self) -> int:
        """Bytes taken that have not arrived."""
        now, arrived = self._network.loop_time(), 0
        for at_s, size_bytes in self._travelling:
            if at_s > now:
                break
            self._held_bytes -= size_bytes
            arrived += 1
        del self._travelling[:arrived]
        return self._held_bytes

    def pump(self) -> None:
        """Put what waits on its way, unless the link is cut."""
        if self._waiting and not self._network.weather.is_cut(*self.route):
            waiting, self._waiting = self._waiting, []
            for item in waiting:
                self._go(item)

    def _put(self, item: bytes | None) -> None:
        """Behind what waits already."""
        if self._waiting or self._network.weather.is_cut(*self.route):
            self._waiting.append(item)
            self.pump()
        else:
            self._go(item)

    def _go(self, item: bytes | None) -> None:
        """On its way."""
        network, (source, target) = self._network, self._nodes
        at_s = self.arrives_s()
        if item is None:
            network.post.send(source, target, at_s, "end", self.number ^ 1)
            network.leave(self)
        else:
            self._travelling.append((at_s, len(item)))
            network.post.send(source, target, at_s, "data", self.number ^ 1, item)

    def arrives_s(self) -> float:
        """When what is sent now arrives; it is sent."""
        self._free_at = max(self._free_at, self._network.loop_time() + self._delay_s)
        return self._free_at

    def received(self, data: bytes) -> None:
        """Bytes have arrived, and it is open."""
        self._network.witness(self.route[1], self.route[0], data)
        if self.doorway is not None:
            self.doorway.receive(data)

    def ended(self) -> None:
        """The other end was closed: what this one would send finds nobody."""
        self._network.leave(self)
        self._waiting.clear()
        if not self.is_closed:
            self.is_closed = True
            if self.doorway is not None:
                self.doorway.lost("the connection was closed")

    @property
    def is_unfinished(self) -> bool:
        """Whether its two ends have not introduced themselves."""
        return self.doorway is None or self.doorway.session is None

    def _note_room(self) -> None:
        is_full = self.buffered_bytes() > WRITE_HIGH_BYTES
        session = self.doorway.session if self.doorway is not None else None
        if is_full != self._is_full and session is not None:
            session.set_room(has_room=not is_full)
        self._is_full = is_full

    def _look_again(self) -> None:
        """When the next bytes have arrived, there may be room."""
        if self._is_full and self._travelling and not self._looks_again:
            self._looks_again = True
            context = self.owner.context.copy()
            asyncio.get_running_loop().call_at(self._travelling[0][0], self._is_less, context=context)

    def _is_less(self) -> None:
        self._looks_again = False
        self._note_room()
        self._look_again()


class PipeTransport(MemoryTransport):
    """Sessions of one node, over pipes whose other ends may be anywhere."""

    network: PipeNetwork

    @property
    def listens_on(self) -> Address:
        """Where others reach it."""
        return self._listen_on

    async def probe(self, address: Address, keys: tuple[bytes, ...]) -> bool:
        """Nobody asks: these worlds have no routers.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    async def _dial(self, address: Address, did: Did | None, keys: tuple[bytes, ...] | None) -> WireSession:
        text, weather = f"{address[0]}:{address[1]}", self.network.weather
        if weather.is_cut(self.host, address[0]) or weather.is_cut(address[0], self.host):
            await asyncio.sleep(HANDSHAKE_S)
            raise PeerUnreachable(address=text, detail="no answer")
        answer: asyncio.Future[PipeEnd] = asyncio.get_running_loop().create_future()
        pipe = self.network.dial(Dial(self, address, did, keys, answer), self.transport_key)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                end = await answer
        except TimeoutError:
            raise PeerUnreachable(address=text, detail="no answer") from None
        finally:
            self.network.dials.pop(pipe, None)
        doorway = end.doorway
        assert doorway is not None  # noqa: S101 - made with it, in `answered`
        try:
            return await doorway.outcome
        finally:
            if doorway.session is None:
                end.close()

    def take_in(self, pipe: int, dialler: Address, key: bytes) -> PipeEnd | None:
        """The accepting end of a new pipe, if the gate lets it in."""
        net = net_of(dialler[0])
        refusal = self.gate.admit(net, self.now())
        if refusal is not None:
            self.count.refused(refusal)
            return None
        end = PipeEnd(pipe | 1, self, dialler[0])
        end.doorway = Doorway(self, end, dialled=False, peer_key=key, address=dialler)
        end.doorway.outcome.add_done_callback(lambda _: self.gate.leave(net))
        return end

    def answered(self, pipe: int, dial: Dial, key: bytes) -> None:
        """The dialling end of a pipe whose other end is there."""
        end = PipeEnd(pipe, self, dial.address[0])
        end.doorway = Doorway(
            self, end, dialled=True, peer_key=key, address=dial.address, expected_did=dial.did,
            record_known=dial.keys is not None,
        )  # fmt: skip
        dial.answer.set_result(end)
        end.doorway.start()


class PipeNetwork(MemoryNetwork):
    """The ends of pipes that stand in this process, and who listens here. `witness` is told of all that arrives."""

    listening: dict[Address, PipeTransport]  # type: ignore[assignment]

    def __init__(self, weather: Weather, witness: Witness, post: Post, now_s: Callable[[], float]) -> None:
        super().__init__(weather, witness)
        self.post, self.loop_time = post, now_s
        self.ends: dict[int, PipeEnd] = {}  # in the order in which they were made
        self.dials: dict[int, Dial] = {}
        self.gone: dict[str, None] = {}  # hosts that will never be there again
        self._ends_of: dict[str, dict[int, PipeEnd]] = {}  # the same by either end's host
        self._dialled: dict[str, int] = {}  # by this host, so many
        post.on("dial", self._on_dial)
        post.on("answer", self._on_answer)
        post.on("refusal", self._on_refusal)
        post.on("data", self._on_data)
        post.on("end", self._on_end)

    # what ends there are

    def enter(self, end: PipeEnd) -> None:
        """There is one more."""
        self.ends[end.number] = end
        for host in end.route:
            self._ends_of.setdefault(host, {})[end.number] = end

    def leave(self, end: PipeEnd) -> None:
        """It is no more; nothing happens where it is gone already."""
        if self.ends.get(end.number) is end:
            del self.ends[end.number]
            for host in end.route:
                self._ends_of[host].pop(end.number, None)

    def lines_of(self, host: str) -> list[PipeEnd]:  # type: ignore[override]
        """Those of pipes from or to this host, in the order in which they were made."""
        return list(self._ends_of.get(host, {}).values())

    # nodes

    def drop(self, owner: MemoryTransport) -> None:
        """A node died: its sockets close by themselves, and it waits for no answer."""
        super().drop(owner)
        for pipe in [pipe for pipe, dial in self.dials.items() if dial.by is owner]:
            del self.dials[pipe]

    def forget(self, host: str) -> None:
        """This host is away for good: nothing that waits for it, or in it, will ever arrive."""
        self.gone[host] = None
        for end in [end for end in self.lines_of(host) if end.is_closed]:
            self.leave(end)

    # letters

    def dial(self, dial: Dial, key: bytes) -> int:
        """Send the first word; the number of the pipe that may come of it."""
        source, target = dial.by.host, dial.address[0]
        count = self._dialled[source] = self._dialled.get(source, 0) + 1
        pipe = (number_of(source) << DIALS_BITS) + (count << 1)
        self.dials[pipe] = dial
        keys = None if dial.keys is None else list(dial.keys)
        self._send(source, target, "dial", pipe, *dial.by.listens_on, key, *dial.address, keys)
        return pipe

    def _send(self, source: str, target: str, kind: str, *words: Any) -> None:
        at_s = self.loop_time() + self.weather.delay_s(source, target, 0)
        self.post.send(number_of(source), number_of(target), at_s, kind, *words)

    def _on_dial(
        self, pipe: int, source: str, source_port: int, key: bytes, host: str, port: int, keys: list[bytes] | None
    ) -> None:
        if self.weather.is_cut(source, host) or self.weather.is_cut(host, source):
            return
        there = self.listening.get((host, port))
        if there is None:
            self._send(host, source, "refusal", pipe, REFUSED)
        elif keys is not None and there.transport_key not in keys:
            self._send(host, source, "refusal", pipe, WRONG_KEY)
        else:
            end = there.context.copy().run(there.take_in, pipe, (source, source_port), key)
            if end is None:
                self._send(host, source, "refusal", pipe, NOT_LET_IN)
            else:
                there_key = there.transport_key
                self.post.send(number_of(host), number_of(source), end.arrives_s(), "answer", pipe, host, there_key)

    def _on_answer(self, pipe: int, host: str, key: bytes) -> None:
        dial = self.dials.get(pipe)
        if dial is None or dial.answer.done():  # the dialler waits no more: the other end hears of it
            self._send(host_of(pipe >> DIALS_BITS), host, "end", pipe | 1)
        else:
            dial.by.context.copy().run(dial.by.answered, pipe, dial, key)

    def _on_refusal(self, pipe: int, why: str) -> None:
        dial = self.dials.get(pipe)
        if dial is not None and not dial.answer.done():
            dial.answer.set_exception(_error_of(why, dial.address))

    def _on_data(self, number: int, data: bytes) -> None:
        end = self.ends.get(number)
        if end is not None and not end.is_closed:
            end.owner.context.copy().run(end.received, data)

    def _on_end(self, number: int) -> None:
        end = self.ends.get(number)
        if end is not None:
            end.owner.context.copy().run(end.ended)


def _error_of(why: str, address: Address) -> DuxError:
    """What a dialler learns."""
    if why == WRONG_KEY:
        return CertificateRefused(reason="another key than the node record names")
    if why == NOT_LET_IN:
        return HandshakeFailed(reason="the connection was closed")
    return PeerUnreachable(address=f"{address[0]}:{address[1]}", detail="connection refused")

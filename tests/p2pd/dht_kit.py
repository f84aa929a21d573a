"""DHTs of whole nodes in virtual time, some of them hostile: their ids are made near a key, their answers are lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from common.codec import canonical
from common.contracts.peer_p2p import DHT_FIND, DHT_GET_AT, DHT_STORE, Contact, Contacts, Stored, Values
from common.contracts.peer_store import TagPointer
from common.identity.branch import OperationalBranch, did_of_branch, make_branch
from common.identity.did import node_id_of
from common.identity.log import LogBytes
from common.units import Did
from dux_p2pd.key_source import BranchKeys
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.records import record_key
from tests.p2pd.virtual_net import START_MS, VirtualNode, until

NAME = "t/wanted"
KEY = record_key("tag", NAME)


def seed(number: int) -> bytes:
    return hashlib.sha512(b"dht kit %d" % number).digest()


def branch(number: int) -> OperationalBranch:
    return make_branch(seed(number), net=1, account=0, made_ms=START_MS, inception_bits=0)


def log_bytes(number: int) -> bytes:
    """The event log of a made identity."""
    return canonical(LogBytes(events=tuple(BranchKeys(branch(number)).first_events(0))))


def near_key(count: int, of: int, first: int = 1000) -> list[int]:
    """The numbers of the identities that lie nearest to the key, of so many made."""
    places = {n: node_id_of(did_of_branch(branch(n), 0)) for n in range(first, first + of)}
    return sorted(places, key=lambda n: int.from_bytes(places[n]) ^ int.from_bytes(KEY))[:count]


def pointer(text: str) -> bytes:
    return canonical(TagPointer(service_ids=(text,)))


class DhtNode(VirtualNode):
    """An honest node."""

    in_memory = True

    def __init__(self, net: MemoryNetwork, number: int, host: str, **settings: Any) -> None:
        super().__init__(net, number, seed=seed(number), host=host, **settings)

    async def put(self, payload: bytes, name: str = NAME, ttl_s: int = 3600) -> int:
        return (await self.upkeep.put("tag", name, payload, ttl_s))[0]

    async def get(self, name: str = NAME, **more: Any) -> list[bytes]:
        return [body.payload for body in await self.overlay.dht.get("tag", name, **more)]

    def contact(self) -> Contact:
        return Contact(did=self.did, endpoints=(f"{self.host}:32570",))


class Liar(DhtNode):
    """Answers with whatever it is told to; says that it keeps everything, and keeps nothing."""

    friends: tuple[Contact, ...] = ()
    records: tuple[bytes, ...] = ()
    hangs = False

    async def wake(self) -> None:
        await super().wake()
        answer = self.overlay.router.answer

        async def find(_params: object, _peer: object) -> Contacts:
            await self._maybe_hang()
            return Contacts(contacts=self.friends[:20])

        async def get(_params: object, _peer: object) -> Values:
            await self._maybe_hang()
            return Values(records=self.records, contacts=self.friends[:20])

        async def store(_params: object, _peer: object) -> Stored:
            await self._maybe_hang()
            return Stored(kept=True, reason="")

        answer(DHT_FIND, find)  # type: ignore[arg-type]
        answer(DHT_GET_AT, get)  # type: ignore[arg-type]
        answer(DHT_STORE, store)  # type: ignore[arg-type]

    async def _maybe_hang(self) -> None:
        if self.hangs:
            await asyncio.sleep(1e6)


Place = Callable[[int], str]


def far_apart(index: int) -> str:
    """Each liar in a net of its own."""
    return f"127.200.{index}.1"


def in_two_nets(index: int) -> str:
    """All liars in two /24s."""
    return f"127.201.{index % 2}.{1 + index}"


@asynccontextmanager
async def dht_net(
    honest: int, liars: int = 0, *, place: Place = far_apart, **settings: Any
) -> AsyncIterator[tuple[list[DhtNode], list[Liar]]]:
    """A formed network of honest nodes, and liars near the key whom everybody has met."""
    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    async with AsyncExitStack() as stack:
        good = [DhtNode(net, number, f"127.1.{number}.1", **settings) for number in range(1, honest + 1)]
        for node in good:
            node.bootstrap = tuple(one.address for one in good[:3] if one is not node)
            await node.wake()
            stack.push_async_callback(node.sleep)
        await until(lambda: all(len(node.overlay.peers.sessions()) >= min(8, honest - 1) for node in good))
        bad = [Liar(net, number, place(index), **settings) for index, number in enumerate(near_key(liars, of=150))]
        for one in bad:
            one.bootstrap = tuple(node.address for node in good)
            await one.wake()
            stack.push_async_callback(one.sleep)
        await until(lambda: all(len(one.overlay.peers.sessions()) >= 8 for one in bad))
        for one in bad:
            one.friends = tuple(other.contact() for other in bad if other is not one)
        await asyncio.sleep(90)  # everybody has looked up its own neighbourhood once more
        yield good, bad


def did_number(number: int) -> Did:
    return did_of_branch(branch(number), 0)

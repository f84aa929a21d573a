"""The light wallet's connections: as many peers as wanted, in different address blocks, each in a task of its own.

Promises: connections, addresses, retries and what a peer may announce are limited; a peer that lies or breaks the
protocol is left for a day with the reason kept; peers that do not know each other load filters with draws of their own,
so that two of them together learn little more than one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.chain import bloom, messages
from common.chain.coin_network import CoinNetwork
from common.chain.messages import Inv
from common.chain.wire import DecodeError
from common.clock import Clock
from common.randomness import Randomness
from dux_flopd.spv_book import AddressBook, is_public, split_address
from dux_flopd.spv_chain import Unconnected
from dux_flopd.spv_peer import Dial, EgressAway, Peer, PeerFault, PeerLost
from dux_flopd.spv_relay import Relay
from dux_flopd.spv_sync import HeaderSync
from dux_flopd.spv_watch import Watch

LOOK_S = 0.5  # between looks at whether more peers are wanted and filters are old
CONNECT_S = 20.0
PING_S = 60.0
ANNOUNCED_MAX = 5_000  # things that one peer may announce in a minute


class PeerNet:
    """All connections."""

    def __init__(
        self,
        network: CoinNetwork,
        book: AddressBook,
        dial: Dial,
        sync: HeaderSync,
        relay: Relay,
        watch: Watch,
        *,
        random: Randomness,
        clock: Clock,
        log: FilteringBoundLogger,
        uses_filters: bool,
    ) -> None:
        self._network = network
        self.book = book
        self._dial = dial
        self._sync = sync
        self._relay = relay
        self._watch = watch
        self._random = random
        self._clock = clock
        self._log = log
        self._uses_filters = uses_filters
        self._peers: dict[str, Peer] = {}  # ready to be asked
        self._busy: set[str] = set()  # connecting or connected
        self._wake: dict[str, asyncio.Event] = {}
        self._faults: dict[str, str] = {}
        self._announced: Counter[str] = Counter()
        self.last_reason = "no peer has been tried yet"
        self.on_ready: Callable[[], None] = lambda: None

    @property
    def endpoint(self) -> str:
        """For people."""
        return "1 coin node" if len(self._peers) == 1 else f"{len(self._peers)} coin nodes"

    def ready(self) -> list[Peer]:
        """Peers that can be asked."""
        return [peer for address, peer in sorted(self._peers.items()) if address not in self._faults]

    def fault(self, peer: Peer, reason: str) -> None:
        """This peer lied or broke the protocol: it goes, for a day."""
        self.fault_named(peer.address, reason)

    def fault_named(self, address: str, reason: str) -> None:
        """As `fault`, by address."""
        self._faults.setdefault(address, reason)
        if address in self._wake:
            self._wake[address].set()

    def hand_on(self, peer: Peer, raw: bytes) -> None:
        """A transaction that came while something else was being collected."""
        self._relay.heard_tx(peer, raw)

    async def run(self) -> None:
        """Hold as many connections as wanted. Runs until cancelled."""
        minute = 0.0
        async with asyncio.TaskGroup() as group:
            while True:
                now_s = self._clock.monotonic()
                if now_s - minute > 60.0:  # noqa: PLR2004 - a minute
                    self._announced.clear()
                    minute = now_s
                while len(self._busy) < self._network.peers_wanted:
                    address = self.book.next(sorted(self._busy), now_s)
                    if address is None:
                        break
                    self._busy.add(address)
                    group.create_task(self._serve(address))
                await asyncio.sleep(LOOK_S)

    async def _serve(self, address: str) -> None:
        """One connection from its first to its last byte."""
        reason, is_fault, is_its_own = "it hung up", False, True
        try:
            reason, is_fault = await self._connected(address)
        except EgressAway as error:
            reason, is_its_own = str(error), False
        except PeerLost as error:
            reason, is_fault = str(error), isinstance(error, PeerFault)
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
        finally:
            self._busy.discard(address)
            self._peers.pop(address, None)
            self._wake.pop(address, None)
        reason = self._faults.pop(address, "") or reason
        now_s = self._clock.monotonic()
        self.last_reason = f"{address}: {reason}"
        if is_fault:
            self._log.warning("coin peer banned", peer=address, reason=reason)
            self.book.ban(address, reason, now_s)
        else:
            self._log.info("coin peer lost", peer=address, reason=reason)
            self.book.failed(address, now_s, is_its_own=is_its_own)

    async def _connected(self, address: str) -> tuple[str, bool]:
        """Why the connection ended, and whether that is the peer's fault."""
        host, port = split_address(address, self._network.port)
        async with asyncio.timeout(CONNECT_S):
            streams = await self._dial(host, port)
        peer = Peer(address, self._network, streams, self._random, self._heard)
        ended: list[PeerLost] = []
        try:
            height = self._sync.chain.tip.height if self._sync.chain else 0
            await peer.greet(height, self._sync.now_s, relay=not self._uses_filters)
            self._wake[address] = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._until_lost(peer, ended))
                tending = group.create_task(self._until_lost_tending(peer, ended))
                await asyncio.wait((listening, tending), return_when=asyncio.FIRST_COMPLETED)
                listening.cancel()
                tending.cancel()
        finally:
            await peer.close()
        fault = next((error for error in ended if isinstance(error, PeerFault)), None)
        reason = str(fault or (ended[0] if ended else "it hung up"))
        return reason, fault is not None or address in self._faults

    async def _until_lost(self, peer: Peer, ended: list[PeerLost]) -> None:
        try:
            await peer.listen()
        except PeerLost as error:
            ended.append(error)

    async def _until_lost_tending(self, peer: Peer, ended: list[PeerLost]) -> None:
        try:
            await self._tend(peer)
        except Unconnected:
            ended.append(PeerFault("its headers do not link to ours"))
        except PeerLost as error:
            ended.append(error)

    async def _tend(self, peer: Peer) -> None:
        """Bring a peer up to date, then keep it so until it goes or is found at fault."""
        await self._sync.start(peer)
        await peer.send("sendheaders", b"")
        await self._sync.catch_up(peer)
        await self.load_filter(peer)
        self._peers[peer.address] = peer
        self.book.succeeded(peer.address)
        self._log.info("coin peer ready", peer=peer.address, agent=peer.version.user_agent if peer.version else "")
        self.on_ready()
        await peer.send("getaddr", b"")
        wake, spoken_s = self._wake[peer.address], self._clock.monotonic()
        while peer.address not in self._faults:
            if await _woken(wake):
                await self._sync.catch_up(peer)
            elif self._clock.monotonic() - spoken_s > PING_S:
                spoken_s = self._clock.monotonic()
                await peer.ask("ping", self._random.bytes(8))
            await self.load_filter(peer)

    async def load_filter(self, peer: Peer) -> None:
        """Give the peer a filter of what is looked for now, if it has an older one."""
        if not self._uses_filters or not peer.has_bloom or peer.filter_version == self._watch.version:
            return
        elements = self._watch.elements()
        if len(elements) > bloom.ELEMENTS_MAX:
            return
        asks_anew = peer.filter_version is None or peer.filter_version[0] != self._watch.version[0]
        peer.filter_version = self._watch.version
        tweak = int.from_bytes(self._random.bytes(4), "little")
        await peer.send("filterload", bloom.filter_payload(elements, tweak))
        if asks_anew:
            await peer.send("mempool", b"")  # what waits already may concern a script that is new

    async def _heard(self, peer: Peer, command: str, payload: bytes) -> None:
        """What a peer says unasked. Whatever needs an answer of it is done by its other task."""
        try:
            if command == "headers":
                await self._heard_headers(peer, payload)
            elif command == "inv":
                await self._heard_inv(peer, payload)
            elif command == "tx":
                self._relay.heard_tx(peer, payload)
            elif command == "getdata":
                await self._relay.answer(peer, payload)
            elif command == "addr":
                self._heard_addresses(payload)
        except DecodeError as error:
            raise PeerFault(f"{command}: {error}") from error

    async def _heard_headers(self, peer: Peer, payload: bytes) -> None:
        try:
            await self._sync.take(peer, messages.decode_headers(payload))
        except Unconnected:
            self._wake[peer.address].set()  # some in between are missing: ask for them

    async def _heard_inv(self, peer: Peer, payload: bytes) -> None:
        found = messages.decode_invs(payload)
        self._announced[peer.address] += len(found)
        if self._announced[peer.address] > ANNOUNCED_MAX:
            return
        if any(kind == Inv.BLOCK for kind, _ in found):
            self._wake[peer.address].set()
        fresh = self._relay.unknown(peer, [name for kind, name in found if kind == Inv.TX])
        if fresh:
            await peer.send("getdata", messages.encode_invs(Inv.TX, fresh))

    def _heard_addresses(self, payload: bytes) -> None:
        places = messages.decode_addresses(payload)
        usable = [place for place in places if place.services & messages.NODE_NETWORK and is_public(place.host)]
        self.book.learn([f"[{p.host}]:{p.port}" if ":" in p.host else f"{p.host}:{p.port}" for p in usable])


async def _woken(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(LOOK_S):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True

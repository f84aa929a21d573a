"""The nodes we are connected to: finding a session to a DID, calling over it, noticing who is slow, dead or hostile.

Promise: one session per DID; an address that failed is left alone for a growing while, so that a dead node costs a
caller little; a call waits no longer than this peer's calls usually take (`patience.py`). It knows addresses from node
records and from whoever names a contact, and believes neither: the transport proves who is there.

Source: network.md §3 and §4, transport_identity.md §1.4.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p import PeerView
from common.contracts.p2p_errors import PeerUnknown, PeerUnreachable, SessionClosed
from common.errors import DeadlinePassed, DuxError, NotNow, PeerMisbehaved, Unavailable
from common.nets import may_listen_at, net_of
from common.randomness import Randomness
from common.rpc.method import CP, CR, PeerMethod
from common.units import Did, UnixMs
from dux_p2pd.abuse import Abuse, AbuseCounts
from dux_p2pd.circuits import is_relay_address, is_relayed, relay_address
from dux_p2pd.directory import Directory, Known
from dux_p2pd.patience import Patience
from dux_p2pd.rules import SESSION_LIFE_MS, endpoint_of, inbound_of_net_max, papers_fault, pause_s
from dux_p2pd.scores import BAN_S, Scores
from dux_p2pd.session import Address, Session, Transport
from dux_p2pd.tasks import Tasks

ANSWER_BYTES_MAX = 1 << 20
WAY_S, WAYS_MAX = 10.0, 4096  # whether there is a way to an address is remembered so long, of so many
REST_MAX = 4096  # failed DIDs remembered
DIALS_PER_CALL_MAX = 3  # endpoints of one node that are tried
HINTED_DIALS_MAX = 2  # of those that others named: they may be anybody's
SESSIONS_PER_CALL_MAX = 3  # two nodes that dial each other replace a session at most once

T = TypeVar("T")
Hints = tuple[Address, ...]
"""Where others say that a node is; none: at the addresses of its own node record."""
Resting = tuple[Did, Hints]
"""What is left alone after a failure. Addresses that others gave for a DID rest alone: wrong ones must not keep us from
the DID itself."""

Locate = Callable[[Did], Awaitable[Known]]


@dataclass(slots=True)
class _Rest:
    failures: int
    until_s: float


class PeerBook:
    """Sessions by DID."""

    def __init__(
        self,
        transport: Transport,
        directory: Directory,
        scores: Scores,
        tasks: Tasks,
        *,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        sessions_max: int,
    ) -> None:
        self._transport = transport
        self._directory = directory
        self._scores = scores
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._log = log
        self._sessions_max = sessions_max
        self._since: OrderedDict[Did, UnixMs] = OrderedDict()  # least recently used first
        self._came_from: dict[Did, str] = {}  # of these, the nets of those that dialled us
        self._of_net: Counter[str] = Counter()  # how many of each net
        self._strangers: dict[Did, None] = {}  # of these, those that dialled us and were none of those known here
        self._ending: set[Did] = set()  # of these, the ones whose session takes nothing new any more
        self.patience = Patience(clock)
        self.abuse = AbuseCounts()
        self._rest: OrderedDict[Resting, _Rest] = OrderedDict()
        self._resting: Counter[Did] = Counter()  # how many of these are of each DID: nearly all others are asked for
        self._ways: dict[Address, tuple[bool, float]] = {}
        self._is_searching = False  # for the record of a node that is named by an address without a way
        self.locate: Locate | None = None  # asks the DHT; set at assembly
        self.through_relay: Callable[[Did], Awaitable[Session | None]] | None = None  # set at assembly
        self.last_words: Callable[[Did], Awaitable[None]] | None = None  # before a session without ground is closed
        self.on_up: list[Callable[[Session], None]] = []
        self.on_down: list[Callable[[Did], None]] = []
        self.on_leaving: list[Callable[[Did], None]] = []  # nothing new may begin on a session
        self.on_lost: list[Callable[[Did], None]] = []  # of those down, who did not end for want of room
        directory.on_change.append(self._recheck)

    # sessions that come and go

    def on_session(self, session: Session) -> None:
        """The transport has a new session."""
        did = session.peer.did
        self._since[did] = self._clock.unix_ms()
        self._ending.discard(did)
        self._forget_origin(did)
        if not session.peer.dialled:
            net = self._came_from[did] = net_of(session.peer.address[0])
            self._of_net[net] += 1
            if not self._directory.is_known(did):
                self._strangers[did] = None
        self._wake(did)
        session.closed.add_done_callback(lambda _: self._gone(session))
        session.leaving.add_done_callback(lambda _: self._leaves(did))
        self._log.info("peer connected", did=did, address=session.peer.address[0], dialled=session.peer.dialled)
        for told in self.on_up:
            told(session)
        self._thin_net(did)
        self._make_room(did)

    def _leaves(self, did: Did) -> None:
        if did in self._since and not self.is_connected(did):
            self._ending.add(did)
        for told in self.on_leaving:
            told(did)

    def _gone(self, session: Session) -> None:
        did = session.peer.did
        if self._transport.session_with(did) is not None:
            return
        self._since.pop(did, None)
        self._ending.discard(did)
        self._forget_origin(did)
        self.patience.forget(did)
        self._log.info("peer disconnected", did=did, reason=session.closed.result())
        for told in self.on_down if session.had_no_room else (*self.on_down, *self.on_lost):
            told(did)

    def _forget_origin(self, did: Did) -> None:
        self._strangers.pop(did, None)
        net = self._came_from.pop(did, None)
        if net is not None:
            self._of_net[net] -= 1
            if not self._of_net[net]:
                del self._of_net[net]

    def _thin_net(self, newest: Did) -> None:
        """Of those that dialled us from one net only so many stay: who owns a net cannot be all that a node sees."""
        net = self._came_from.get(newest)
        most = inbound_of_net_max(self._sessions_max)
        if net is None or self._of_net[net] - 1 < most:
            return  # nearly everybody ends here, those on their way out counted
        of_net = {did for did, one in self._came_from.items() if one == net and did != newest}
        same = [did for did in self._since if did in of_net and self.is_connected(did)]
        for did in self._least_wanted(lambda: iter(same), max(0, len(same) + 1 - most)):
            chosen = self._transport.session_with(did)
            if chosen is not None:
                self._ending.add(did)
                chosen.retire("too many from one network", no_room=True)

    def _make_room(self, newest: Did) -> None:
        """Let go of the one not used for longest: first of the strangers that dialled us, who come at no cost.

        A well-known node passes here at each session, with all places taken: nobody is counted, and few are looked at.
        """
        excess = len(self._since) - len(self._ending) - self._sessions_max  # those that end anyway are no others
        if excess <= 0:
            return
        for did in self._least_wanted(lambda: self._others_than(newest), excess):
            chosen = self._transport.session_with(did)
            if chosen is not None:
                self._ending.add(did)
                chosen.retire("making room for another peer", no_room=True)

    def _least_wanted(self, others: Callable[[], Iterator[Did]], count: int) -> list[Did]:
        """So many of these: the first uninvited ones, and when there are too few of them, the first others."""
        uninvited = list(islice(filter(self._is_uninvited, others()), count)) if self._strangers else []
        rest = (did for did in others() if did not in uninvited)
        return uninvited + list(islice(rest, count - len(uninvited)))

    def _others_than(self, newest: Did) -> Iterator[Did]:
        return (did for did in self._since if did != newest and self.is_connected(did))

    def _is_uninvited(self, did: Did) -> bool:
        """A stranger that dialled us, unless it is known by now."""
        return did in self._strangers and not self._directory.is_known(did)

    def _recheck(self, known: Known, held: Known | None) -> None:
        """A newer log or record of a connected node may take its connection's ground away; a new place is tried."""
        if held is None or known.record != held.record:
            self._wake(known.log.did)
        session = self._transport.session_with(known.log.did)
        if session is None:
            return
        before, key = held.log if held else None, session.peer.transport_key
        fault = papers_fault(known.log, before, known.record, key, self._clock.unix_ms())
        if fault is not None:
            self._tasks.spawn(self._part(session, fault), "close session")

    async def _part(self, session: Session, fault: str) -> None:
        """Close, but say first what the other end may not know of its own name."""
        try:
            if self.last_words is not None:
                await self.last_words(session.peer.did)
        finally:
            await session.close(fault)

    def look_again(self) -> None:
        """Look at every connection: what was borne for an hour, or has lasted a day, is no longer."""
        now_ms = self._clock.unix_ms()
        for session in self.sessions():
            known = self._directory.get(session.peer.did)
            if known is not None:
                self._recheck(known, known)
        self.retire_before(now_ms - SESSION_LIFE_MS, "it was a day old")

    def retire_before(self, moment_ms: int, why: str) -> None:
        """Let connections made up to a moment end when what is under way on them has ended."""
        for session in self.sessions():
            if self._since[session.peer.did] <= moment_ms:
                session.retire(why)

    # what others ask

    def sessions(self) -> list[Session]:
        """All sessions that are up."""
        find = self._transport.session_with
        return [session for did in self._since if (session := find(did)) is not None]

    def is_alone(self) -> bool:
        """Whether there is no session that is up."""
        return not any(map(self.is_connected, self._since))

    def count(self) -> int:
        """How many there are, also counting those that are about to end."""
        return len(self._since)

    def views(self) -> list[PeerView]:
        """The sessions as p2p.peers shows them."""
        return [
            PeerView(
                did=session.peer.did,
                address=self._shown(session.peer.address),
                dialled=session.peer.dialled,
                known=self._directory.is_known(session.peer.did),
                since_ms=self._since[session.peer.did],
                clock_skew_ms=session.peer.clock_skew_ms,
                score=round(self._scores.of(session.peer.did), 1),
            )
            for session in self.sessions()
        ]

    def _shown(self, address: Address) -> str:
        if not is_relayed(address):
            return endpoint_of(address)
        if not is_relay_address(address[0]):
            return f"direct path to {address[0]}"
        relays = (did for did in self._since if relay_address(did) == address)
        return f"through {next(relays, 'a relay')}"

    def has_room(self) -> bool:
        """Whether one more session would push out none."""
        return len(self._since) < self._sessions_max

    def is_connected(self, did: Did) -> bool:
        """Whether there is a session with this DID."""
        return self._transport.session_with(did) is not None

    def session_with(self, did: Did) -> Session | None:
        """The session kept with this DID, if there is one."""
        return self._transport.session_with(did)

    def is_resting(self, did: Did, hints: Hints = ()) -> bool:
        """Whether dialling this node (at addresses that others gave) failed so recently that it is left alone."""
        rest = self._rest.get((did, hints)) if did in self._resting else None
        return rest is not None and rest.until_s > self._clock.monotonic()

    def blame(self, did: Did, points: float, why: str) -> None:
        """Count a fault; too many end in a ban."""
        self._log.info("peer blamed", did=did, points=points, reason=why)
        self.abuse.blamed(points)
        if self._scores.blame(did, points):
            self.abuse.add(Abuse.BANNED)
            self._log.warning("peer banned", did=did, reason=why, ban_s=BAN_S)
            self._transport.ban(did, BAN_S)

    def choose(self, did: Did) -> None:
        """This node's own daemons or owner want this DID: it is no stranger here."""
        self._directory.trust(did)

    # dialling

    async def dial(self, address: Address, did: Did | None) -> Session:
        """A session with whoever is at the address, or with this DID only.

        Raises:
            PeerUnreachable, PeerMisbehaved.
        """
        return await self._transport.connect(address, did, self._keys_of(did))

    def _keys_of(self, did: Did | None) -> tuple[bytes, ...] | None:
        """The transport keys in the valid record of a node, where one is held."""
        known = self._directory.get(did) if did else None
        if known is None or known.record is None or known.record.expires_ms <= self._clock.unix_ms():
            return None
        return known.record.transport_keys

    async def session_to(self, did: Did, hints: Hints = ()) -> Session:
        """The session with a DID, made when there is none.

        Raises:
            PeerUnknown, PeerUnreachable, PeerMisbehaved.
        """
        session = self._used(did)
        if session is not None:
            return session
        if self.is_resting(did, hints):
            raise PeerUnreachable(address=did, detail="it did not answer a moment ago")
        addresses = await (self._hinted(did, hints) if hints else self._addresses(did))
        keys = self._keys_of(did)
        try:
            return await self._first(addresses, did)
        except (Unavailable, NotNow, PeerMisbehaved) as error:
            failure: DuxError = error
        relayed = None if hints else await self._relayed(did)
        if relayed is None or isinstance(relayed, DuxError):
            self._let_rest((did, hints))
            failure = relayed or failure
            elsewhere = [] if hints else await self._elsewhere(did, addresses, keys)
            if elsewhere:
                return await self._first(elsewhere, did)
            relayed = None if hints else await self._relayed(did)
        if relayed is None or isinstance(relayed, DuxError):
            raise relayed or failure
        return relayed

    def _used(self, did: Did) -> Session | None:
        """The session with a DID, where there is one: it is wanted now."""
        session = self._transport.session_with(did)
        if session is not None:
            self._since.move_to_end(did)
        return session

    async def _relayed(self, did: Did) -> Session | DuxError | None:
        """A session through a relay; why not; None when its record names no relay.

        Not for a contact that others named: a relay's bytes are for calls of this node's own daemons.
        """
        try:
            return await self.through_relay(did) if self.through_relay is not None else None
        except DuxError as error:
            return error

    async def _addresses(self, did: Did) -> list[Address]:
        known = self._directory.get(did)
        expired = known is None or known.record is None or known.record.expires_ms <= self._clock.unix_ms()
        if expired and self.locate is not None:
            known = await self.locate(did)
        if known is None or known.record is None:
            raise PeerUnknown(did=did)
        found = [address for text in known.record.endpoints if (address := may_listen_at(text)) is not None]
        return found[:DIALS_PER_CALL_MAX]

    async def _hinted(self, did: Did, hints: Hints) -> list[Address]:
        """Where others say that it is; where nothing of ours leads there, what its own record names beside.

        A node of one family of addresses hears of one of both by the other's where the teller knows no more. One record
        is looked for at a time: whoever is asked on the way may be named by such an address, too.
        """
        led_to = list(self.with_way(hints)[:HINTED_DIALS_MAX])
        if self._has_way_to(led_to[0]) or self._is_searching:
            return led_to
        self._is_searching = True
        try:
            return [one for one in await self._addresses(did) if self._has_way_to(one)] or led_to
        except DuxError:
            return led_to
        finally:
            self._is_searching = False

    def with_way(self, addresses: Hints) -> Hints:
        """Those of these that this machine has a way to; where it has to none, all."""
        return tuple(one for one in addresses if self._has_way_to(one)) or addresses

    def _has_way_to(self, address: Address) -> bool:
        """As the kernel said within the last seconds: answers name the same addresses again and again."""
        now_s = self._clock.monotonic()
        said, until_s = self._ways.get(address, (False, now_s))
        if until_s <= now_s:
            if len(self._ways) >= WAYS_MAX:
                self._ways.clear()
            said = self._transport.has_way_to(address)
            self._ways[address] = said, now_s + WAY_S
        return said

    async def _elsewhere(self, did: Did, tried: list[Address], keys: tuple[bytes, ...] | None) -> list[Address]:
        """Where a node is by now that did not answer at these addresses: its newest record as the DHT has it.

        With other transport keys in that record, the same addresses are worth another try.
        """
        try:
            known = await self.locate(did) if self.locate is not None else None
        except DuxError:
            return []
        texts = known.record.endpoints if known is not None and known.record is not None else ()
        found = [address for text in texts if (address := may_listen_at(text)) is not None]
        has_new_keys = self._keys_of(did) != keys
        return [address for address in found if has_new_keys or address not in tried][:DIALS_PER_CALL_MAX]

    async def _first(self, addresses: list[Address], did: Did) -> Session:
        last: DuxError = PeerUnreachable(address=did, detail="its record names no address yet; repeat in a moment")
        for address in addresses:
            try:
                return await self.dial(address, did)
            except DuxError as error:
                last = error
        raise last

    def _let_rest(self, what: Resting) -> None:
        rest = self._rest.pop(what, None)
        if rest is None:
            rest = _Rest(0, 0.0)
            self._resting[what[0]] += 1
        rest.failures += 1
        rest.until_s = self._clock.monotonic() + pause_s(rest.failures, self._random.uniform())
        self._rest[what] = rest
        if len(self._rest) > REST_MAX:
            self._rests_no_more(self._rest.popitem(last=False)[0][0])

    def _wake(self, did: Did) -> None:
        """What failed at the addresses of its own record counts no more."""
        if self._rest.pop((did, ()), None) is not None:
            self._rests_no_more(did)

    def _rests_no_more(self, did: Did) -> None:
        self._resting[did] -= 1
        if not self._resting[did]:
            del self._resting[did]

    # calling

    async def over_session(self, did: Did, ask: Callable[[Session], Awaitable[T]], hints: Hints = ()) -> T:
        """What is asked over a session with a DID; over the next one where a session went away before it began.

        Raises:
            those of `session_to` and of what is asked.
        """
        for _ in range(SESSIONS_PER_CALL_MAX - 1):
            try:
                return await ask(self._used(did) or await self.session_to(did, hints))
            except SessionClosed as error:
                if error.fields.get("begun", True):
                    raise
        return await ask(await self.session_to(did, hints))

    async def call(
        self,
        did: Did,
        method: PeerMethod[CP, CR],
        params: CP,
        *,
        deadline_s: float | None = None,
        hints: Hints = (),
    ) -> CR:
        """Another p2pd's answer; without a deadline, within what this peer's calls usually take.

        Raises:
            DuxError: it cannot be reached, did not answer in time, answered with an error or with nonsense.
        """
        began_s = called_s = self._clock.monotonic()
        is_new = not self.is_connected(did)

        def ask(session: Session) -> Awaitable[bytes]:
            nonlocal called_s
            called_s = self._clock.monotonic()
            wait_s = deadline_s or self.patience.hard_s(did)
            return session.request(method.name, canonical(params), deadline_s=wait_s)

        try:
            answer = await self.over_session(did, ask, hints)
        except (asyncio.CancelledError, DeadlinePassed):
            if self._clock.monotonic() - began_s > self.patience.soft_s(did):
                self.patience.fell_silent(did)
            raise
        if deadline_s is None:
            self.patience.answered(did, self._clock.monotonic() - called_s)
            if is_new:
                self.patience.connected(self._clock.monotonic() - began_s)
        return from_canonical(answer, method.result, max_bytes=ANSWER_BYTES_MAX)

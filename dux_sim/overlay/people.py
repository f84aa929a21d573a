"""What the nodes' owners want of the network: a record found, a peer reached, a worker hired, a word spread.

A wish is repeated as the product's daemons repeat theirs, until it is fulfilled or its time is over. One that was not
fulfilled counts against the network only if everybody whom it took was there all the time, honest, and not parted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from common.chain.contract import NO_ROYALTY
from common.contracts.peer_escrow import OFFER, ONE_LOT, Offer, Quote
from common.contracts.peer_registry import CAPABILITY_NS, PRESENCE_PROBE, CapabilityPointer, ProbeAsk
from common.contracts.peer_store import TAG_NS, TagPointer
from common.errors import DuxError
from common.randomness import Randomness
from common.units import Did, Florins
from dux_p2pd.records import record_key
from dux_sim.overlay.post import AHEAD_S
from dux_sim.overlay.world import Member, OverlayWorld

WISH_S = 60.0  # for how long a wish is repeated
PAUSE_S = 2.0  # between two tries
TRY_S = 15.0
QUOTE_S = 6.0  # a worker that has not quoted by then is left for the next one
RECORD_TTL_S = 7200
WORKERS_TRIED_MAX = 4  # of those that are there, before it is looked up anew
KEPT_MAX = 4000  # records that are asked for later
HEARD_FROM_ALL_S = 3 * AHEAD_S  # a question to every process, and the answers


@dataclass(frozen=True)
class Kept:
    """A record that the network has taken."""

    by: Member
    name: str
    word: str


class People:
    """Wishes, and how they ended: `answered`, `failed` and `excused`, by kind."""

    def __init__(self, world: OverlayWorld, capabilities: Sequence[str]) -> None:
        self.world = world
        self.random: Randomness = world.stream("people")
        self.capabilities = tuple(capabilities)
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.missed: list[str] = []  # what failed, in words
        self.kept: list[Kept] = []
        self._wishes = 0
        self._held: dict[int, bool] = {}  # wishes whose record is looked for on the disks, and whether it was found
        world.post.on("kept", self._on_kept)
        world.post.on("held?", self._on_is_held)
        world.post.on("held", self._on_held)

    def _pick(self, among: Sequence[Member]) -> Member:
        return among[self.random.below(len(among))]

    def _number(self) -> int:
        """Of a wish: each draws from a stream of its own while it is pursued."""
        self._wishes += 1
        return self._wishes

    def there(self) -> list[Member]:
        """Who is honest and up."""
        return [one for one in self.world.members if not one.lies and one.is_there]

    # the wishes

    async def put(self) -> None:
        """Somebody keeps a record with the network."""
        who, name, word = self._pick(self.there()), f"w/{self.random.bytes(8).hex()}", self.random.bytes(8).hex()

        async def act() -> str:
            pointer = TagPointer(service_ids=(word,))
            kept = await who.house.peers("stored").put_record(TAG_NS, name, pointer, ttl_s=RECORD_TTL_S)
            return "" if kept > 0 else "nobody keeps it"

        if await self._wish("put", act, (who,)):
            number = who.node.number
            self.world.post.tell(number, "kept", number, name, word)

    def _on_kept(self, by: int, name: str, word: str) -> None:
        """The network has taken a record: everybody may look for it."""
        if len(self.kept) < KEPT_MAX:
            self.kept.append(Kept(self.world.members[by], name, word))

    async def lookup(self) -> None:
        """Somebody looks for a record that the network has taken."""
        if not self.kept:
            return
        who, kept = self._pick(self.there()), self.kept[self.random.below(len(self.kept))]

        async def act() -> str:
            found = await who.house.peers("stored").get_records(TAG_NS, kept.name)
            is_found = any(one.did == kept.by.node.did and kept.word.encode() in one.payload for one in found)
            return "" if is_found else f"not among the {len(found)} found"

        await self._wish("lookup", act, (who,), record=(record_key(TAG_NS.name, kept.name), lambda _since_s: [kept.by]))

    async def probe(self) -> None:
        """Somebody calls somebody."""
        here = self.there()
        who, whom, nonce = self._pick(here), self._pick(here), self.random.bytes(32)

        async def act() -> str:
            ask = ProbeAsk(slot=1, nonce=nonce)
            answer = await who.house.peers("registryd").call(whom.node.did, PRESENCE_PROBE, ask)
            return "" if answer.nonce == nonce else "another nonce"

        if who is not whom:
            await self._wish("peer call", act, (who, whom))

    async def hire(self) -> None:
        """Somebody needs a worker: who offers the capability is found, asked, and one of them takes the job."""
        who, what = self._pick(self.there()), self.capabilities[self.random.below(len(self.capabilities))]
        workers = [one for one in self.world.members if not one.lies and what in one.house.capabilities]
        random = self.world.stream(f"hire/{self._wishes}")
        refused: list[Did] = []  # one that has said no is not asked again

        async def act() -> str:
            found = await who.house.peers("registryd").get_records(CAPABILITY_NS, what)
            dids = [one.did for one in found if one.did not in (who.node.did, *refused)]
            return await self._offer_to_any(who, random.sample(dids, len(dids)), what, refused, random)

        def near(since_s: float) -> list[Member]:
            here = [one for one in workers if one is not who and one.was_there(since_s)]
            return [one for one in here if self.world.were_together(who, one, since_s)]

        await self._wish("job offer", act, (who,), record=(record_key(CAPABILITY_NS.name, what), near))

    async def _offer_to_any(
        self, who: Member, dids: list[Did], what: str, refused: list[Did], random: Randomness
    ) -> str:
        """Offered to those that are there, as many of them as a buyer tries; the others are left for the next time."""
        there = await who.house.peers("taskd").reach(dids, wanted=WORKERS_TRIED_MAX) if dids else []
        said_no = 0
        for did in there:
            quote = await self._offer(who, did, what, random)
            if quote is not None and quote.accept:
                return ""
            if quote is not None:
                refused.append(did)
                said_no += 1
        return (
            f"of {len(dids)} found {len(there)} were there, {said_no} of them refused, "
            f"{len(refused) - said_no} had refused before"
        )

    async def _offer(self, who: Member, did: Did, what: str, random: Randomness) -> Quote | None:
        """This worker's word on the job; none when it does not come."""
        offer = self._offer_of(did, what, random)
        waiting = who.house.quotes[offer.contract_id] = self.world.loop.create_future()
        try:
            await who.house.peers("escrowd").call(did, OFFER, offer, deadline_s=QUOTE_S)
            async with asyncio.timeout(QUOTE_S):
                quote: Quote = await waiting
                return quote
        except (DuxError, TimeoutError):
            return None
        finally:
            who.house.quotes.pop(offer.contract_id, None)

    def _offer_of(self, seller: Did, what: str, random: Randomness) -> Offer:
        number = random.bytes(32)
        return Offer(
            contract_id=number, network=self.world.profile.genesis, buyer_nonce=number, buyer_key=bytes(33),
            buyer_payout_script=bytes(25), seller=seller, service_id=what, job=bytes(200), job_hash=number,
            price_florins=Florins(1), arbiters=(), arbiters_needed=0, deliver_blocks=12, result_lock=False,
            policy="standby", swap_limit_florins=Florins(0), result_salt_hash=number, fund_script=bytes(23),
            tax_bps=500, fee_rate_florins_per_kb=1, heights_profile="demo", stage=ONE_LOT, royalty=NO_ROYALTY,
            weights=(), parameters=1,
        )  # fmt: skip

    # capabilities

    async def advertise(self, who: Member) -> None:
        """A worker says again what it can do; a liar says that it can do everything."""
        for what in self.capabilities if who.lies else who.house.capabilities:
            pointer = CapabilityPointer(at_ms=who.node.clock().unix_ms())
            try:
                await who.house.peers("registryd").put_record(CAPABILITY_NS, what, pointer, ttl_s=RECORD_TTL_S)
            except DuxError as error:
                self.world.history.tell("advertise", f"{who.name}: {error.message}")

    # how it ends

    async def _wish(
        self, kind: str, act: Callable[[], Awaitable[str]], parties: tuple[Member, ...],
        record: tuple[bytes, Callable[[float], list[Member]]] | None = None,
    ) -> bool:  # fmt: skip
        """Try until it is fulfilled, where the first of the parties lives.

        `act` says what is missing; "" where nothing is. `record`: a place, and whose record there would have done
        since a time; nobody could have fulfilled the wish unless somebody in reach holds one.
        """
        loop, since_s, lacks = self.world.loop, self.world.loop.time(), list[str]()
        number, who = self._number(), parties[0]
        if not who.is_here:
            return False
        while loop.time() < since_s + WISH_S:
            try:
                async with asyncio.timeout(2 * TRY_S):
                    lack = await act()
            except (DuxError, TimeoutError) as error:
                lack = getattr(error, "message", "no answer in time")
            if not lack:
                self.answered[kind] += 1
                self.seconds.setdefault(kind, []).append(loop.time() - since_s)
                self.world.history.note("answered", kind, of=who.name)
                return True
            lacks.append(lack)
            if not self._could(parties, since_s):
                break
            await asyncio.sleep(PAUSE_S)
        may = self._could(parties, since_s)
        if may and record is not None:
            may = await self._was_held(number, who, since_s, record[0], record[1](since_s))
        if may:
            self.failed[kind] += 1
            names, tries = ", ".join(one.name for one in parties), "; ".join(dict.fromkeys(lacks))
            self.missed.append(f"{kind} of {names} at {since_s:.0f} s, tried {len(lacks)} times: {tries}")
            self.world.history.note("failed", kind, of=who.name)
        else:
            self.excused[kind] += 1
        return False

    def _could(self, parties: tuple[Member, ...], since_s: float) -> bool:
        return all(one.was_there(since_s) for one in parties) and all(
            self.world.were_together(parties[0], one, since_s) for one in parties[1:]
        )

    async def _was_held(self, number: int, who: Member, since_s: float, key: bytes, signers: list[Member]) -> bool:
        """Whether the record of one of these signers is held in reach: the disks of every process are looked at."""
        self._held[number] = False
        asker, whose = who.node.number, [one.node.number for one in signers]
        self.world.post.tell(asker, "held?", number, asker, since_s, key, whose)
        await asyncio.sleep(HEARD_FROM_ALL_S)
        return self._held.pop(number)

    def _on_is_held(self, number: int, asker: int, since_s: float, key: bytes, signers: list[int]) -> None:
        """Asked of every process: whether a disk of its own nodes has it."""
        who, dids = self.world.members[asker], [self.world.members[one].node.did for one in signers]
        if any(self._is_held(who, key, since_s, by=did) for did in dids):
            self.world.post.testify("held", number)

    def _on_held(self, number: int) -> None:
        if number in self._held:
            self._held[number] = True

    def _is_held(self, who: Member, key: bytes, since_s: float, *, by: Did) -> bool:
        """Whether somebody honest of this process whom `who` could reach all the time holds this signer's record."""
        sql = "SELECT 1 FROM records WHERE key = ? AND did = ? AND envelope IS NOT NULL"
        for one in self.world.members:
            if not one.is_here or one is who or one.lies or not one.was_there(since_s):
                continue
            if self.world.were_together(who, one, since_s) and one.node.disk("p2pd").rows(sql, key, by):
                return True
        return False

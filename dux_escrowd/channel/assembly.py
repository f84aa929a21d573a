"""The parts of channels meet here: `Channels.assemble` is all that the daemon knows of them."""

from __future__ import annotations

import asyncio

from common.contracts import peer_channel as peer
from common.contracts import peer_copies
from common.contracts.channel_restore import CHANNEL_RESTORE
from common.errors import DuxError
from common.parts import Parts
from dux_escrowd.channel.buying import Buying
from dux_escrowd.channel.carrying import Carrying
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.door import Door
from dux_escrowd.channel.facts import Started
from dux_escrowd.channel.follower import ChannelFollower
from dux_escrowd.channel.greeting import Greeting
from dux_escrowd.channel.hands import WalletHands
from dux_escrowd.channel.ledger import Ledger
from dux_escrowd.channel.methods import ChannelMethods
from dux_escrowd.channel.newest import Newest
from dux_escrowd.channel.offers import Offers
from dux_escrowd.channel.opening import Opening
from dux_escrowd.channel.restoring import Restoring
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.selling import Selling
from dux_escrowd.channel.sessions import Sessions
from dux_escrowd.channel.signing import Signer
from dux_escrowd.channel.watch import Watch
from dux_escrowd.channel.watchers import Watchers
from dux_escrowd.desk import Desk
from dux_escrowd.settings import EscrowSettings

SWEEP_S = 60.0


class Channels:
    """All of it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ledger = Ledger(desk.book.store)
        self.counter = Counter(desk=desk, ledger=self.ledger, signer=Signer(desk.flopd))
        self.carrying = Carrying(self.counter)
        self.greeting = Greeting(self.counter, self.carrying)
        self.safe = Safekeeping(self.counter)
        self.watchers = Watchers(self.counter, self.safe)
        self.hands = self.counter.hands = WalletHands(
            self.counter, self.greeting, self.safe, carrying=self.carrying, watchers=self.watchers
        )
        self.restoring = Restoring(self.counter, self.safe)
        self.newest = Newest(self.counter, self.safe, self.restoring)
        self.opening = Opening(self.counter, self.carrying)
        self.buying = Buying(self.counter, self.greeting, self.opening, self.carrying)
        offers = Offers(self.counter)
        self.selling = Selling(self.counter, offers)
        sessions = Sessions(self.counter, self.selling)
        self.door = Door(self.counter, self.opening, sessions)
        self.methods = ChannelMethods(
            self.counter,
            offers=offers,
            selling=self.selling,
            sessions=sessions,
            buying=self.buying,
            greeting=self.greeting,
            opening=self.opening,
        )
        self.watch = Watch(self.counter, self.safe.active)
        self.follower = ChannelFollower(self.counter, self.greeting.begin, self.hands.again, self.hands.take_back)
        self.follower.on_tip += (self.watch.look, self.safe.look, self.watchers.look)
        self.restoring.when_back.append(self.follower.look_now)

    def serve(self, parts: Parts[EscrowSettings]) -> None:
        """Methods, peer methods and loops of the daemon."""
        self.newest.doubt()
        self.methods.serve(parts.table)
        self.carrying.serve(parts.table)
        self.door.serve(parts.table)
        parts.serve_peer(peer.OPEN, self.methods.take_open)
        parts.serve_peer(peer.HELLO, self.methods.take_hello)
        parts.serve_peer(peer.ASK_HELLO, self.methods.asked_hello)
        parts.serve_peer(peer.FINAL, self.methods.take_final)
        parts.serve_peer(peer.GET, self.methods.take_get)
        parts.serve_peer(peer.KEEP, self.watch.keep)
        parts.serve_peer(peer_copies.COPY_KEEP, self.safe.keep)
        parts.serve_peer(peer_copies.COPIES_GET, self.safe.give)
        parts.table.serve(CHANNEL_RESTORE, self.restoring.restore)
        parts.background("channel follower", self.follower.run)
        parts.background("channel hellos", self.greeting.run)
        parts.background("channel copies", self.safe.run)
        parts.background("channel watchers", self.watchers.run)
        parts.background("channel start", self.start)
        parts.background("channel calls", self.selling.leftover.run)
        parts.gauges["channel_decisions"] = lambda: float(self.ledger.decisions)
        parts.gauges["channel_commits"] = lambda: float(self.ledger.commits)

    async def start(self) -> None:
        """Sessions are over after every start and what was ordered is done again; then late calls are swept.

        However long the wallet reads the chain first: after days without it that takes minutes.
        """
        await self.counter.seen.wait()
        names = self.ledger.shelf.listed("any", open_only=True, limit=10_000)
        doubted = [chid for chid in names if chid in self.ledger.unsure]
        for chid in names:
            if chid not in doubted:
                await self._started(chid)
        if doubted:
            await self.newest.settle(doubted)
            for chid in doubted:
                await self._started(chid)
                self.safe.want(chid)  # none left while the books were in doubt
            await self.follower.look_now()
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.buying.sweep(self.desk.clock.unix_ms())
            except DuxError as error:
                self.desk.log.info("sweep waits", reason=error.message)

    async def _started(self, chid: str) -> None:
        nonce = self.counter.random.bytes(32)
        taken = await self.ledger.take(chid, Started(at=await self.counter.height(), nonce=nonce))
        await self.counter.carry(chid, taken.effects)
        await self.hands.again(chid)

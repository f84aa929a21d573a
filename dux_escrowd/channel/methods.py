"""The handlers of channel.*: contract in, one of the two sides, contract out; and what other nodes may ask."""

from __future__ import annotations

from collections.abc import Callable

from common.chain.channel import FIRST_MIN_FLORINS
from common.chain.channel_heights import channel_profile
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.community_fund import fund_script_of
from common.contracts import channel as c
from common.contracts import peer_channel as peer
from common.contracts.channel_errors import BadChannelTerms, ChannelBusy
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Did, Florins, format_flop
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.buying import Buying
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.greeting import Greeting
from dux_escrowd.channel.offers import Offers
from dux_escrowd.channel.opening import Opening
from dux_escrowd.channel.payer import LIVE
from dux_escrowd.channel.selling import Selling
from dux_escrowd.channel.sessions import Sessions
from dux_escrowd.channel.views import call_view, channel_view, lines

CALLS_SHOWN = 20


class ChannelMethods:
    """What escrowd answers about channels."""

    def __init__(
        self,
        counter: Counter,
        *,
        offers: Offers,
        selling: Selling,
        sessions: Sessions,
        buying: Buying,
        greeting: Greeting,
        opening: Opening,
    ) -> None:
        self._counter, self._ledger = counter, counter.ledger
        self._offers, self._selling, self._sessions = offers, selling, sessions
        self._buying, self._greeting, self._opening = buying, greeting, opening

    def serve(self, table: MethodTable) -> None:
        """All of them."""
        table.serve(c.MAKE_OFFER, lambda params, _ctx: self._offers.offer(params))
        table.serve(c.ADMIT, lambda params, _ctx: self._selling.admit(params))
        table.serve(c.FINISH, lambda params, _ctx: self._selling.finish(params))
        table.serve(c.STILL_AT_WORK, lambda params, _ctx: self._selling.at_work(params))
        table.serve(c.CHUNK, lambda params, _ctx: self._selling.chunk(params))
        table.serve(c.PAY, lambda params, _ctx: self._buying.pay(params))
        table.serve(c.FUEL, lambda params, _ctx: self._buying.fuel(params))
        table.serve(c.SETTLED, lambda params, _ctx: self._buying.settled(params))
        table.serve(c.REFUSED, lambda params, _ctx: self._buying.refused(params))
        table.serve(c.RULES, self.rules)
        table.serve(c.OPEN, self.open)
        table.serve(c.TOP_UP, self.top_up)
        table.serve(c.CLOSE, self.close)
        table.serve(c.REFUND, self.refund)
        table.serve(c.LIST, self.listed)
        table.serve(c.SHOW, self.show)
        table.serve(c.RECOVER, self.recover)
        table.serve(c.RECOVER_FROM, self.recover_from)

    async def rules(self, _params: Empty, _ctx: Ctx) -> c.ChannelRules:
        """How channels to this node are opened."""
        profile, network = channel_profile(self._counter.desk.profile.heights), self._counter.desk.profile
        return c.ChannelRules(
            did=Did(self._counter.me),
            network=self._counter.genesis,
            fund_script=fund_script_of(network.fund),
            tax_bps=network.tax_bps,
            fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB,
            first_min_florins=Florins(FIRST_MIN_FLORINS),
            window=self._counter.desk.settings.channel_window,
            closing_zone=profile.zone_blocks,
            exp_min=profile.exp_min_blocks,
            exp_max=profile.exp_max_blocks,
            depth_caps=tuple((cap.depth, Florins(cap.florins)) for cap in profile.caps),
            on_crash=self._counter.desk.settings.channel_on_crash,
            height=await self._counter.height(),
        )

    async def open(self, params: c.OpenChannel, ctx: Ctx) -> c.ChannelRef:
        """Agree and fund."""
        script, bps = self._counter.royalty(params.developer, params.royalty_bps)
        chid = await self._opening.open(
            params.payee,
            int(params.cap_florins),
            blocks=params.blocks,
            developer_script=script,
            royalty_bps=bps,
            opened=_remembers(ctx),
        )
        return c.ChannelRef(chid=chid)

    async def top_up(self, params: c.TopUp, ctx: Ctx) -> c.ChannelRef:
        """One more channel beside this one, on the same terms."""
        self._ledger.payer(params.chid)
        terms = self._ledger.book(params.chid).terms
        chid = await self._opening.open(
            Did(terms.payee),
            int(params.cap_florins),
            developer_script=terms.developer_script,
            royalty_bps=terms.royalty_bps,
            opened=_remembers(ctx),
        )
        return c.ChannelRef(chid=chid)

    async def close(self, params: c.CloseChannel, _ctx: Ctx) -> c.ChannelView:
        """The end is wanted; `roll` agrees on the next channel first."""
        state = self._ledger.state(params.chid)
        next_script = b""
        if params.roll:
            next_script = await self._next(params.chid)
        nonce = self._counter.random.bytes(32)
        fact = f.CloseWanted(at=await self._counter.height(), next_script=next_script, nonce=nonce)
        taken = await self._ledger.take(params.chid, fact)
        await self._counter.carry(params.chid, taken.effects)
        return await self._view(state.chid)

    async def _next(self, chid: str) -> bytes:
        """A channel that the rest of this one opens, on the same terms."""
        state, terms = self._ledger.payer(chid), self._ledger.book(chid).terms
        rest = state.usable_florins - max(state.need_florins, state.rules.first_min_florins if state.j else 0)
        if rest < state.rules.coin_min_florins:
            raise BadChannelTerms(
                reason=f"{format_flop(max(0, rest))} FLOP would be left for the next channel; close this one instead"
            )
        following = await self._opening.open(
            Did(terms.payee),
            rest,
            developer_script=terms.developer_script,
            royalty_bps=terms.royalty_bps,
            rolled=True,
        )
        with self._ledger.store.transaction() as tx:
            self._ledger.note(tx, chid, opening=following.encode())
        return self._ledger.book(following).output_script

    async def refund(self, params: c.ChannelAct, _ctx: Ctx) -> c.ChannelView:
        """By agreement while nothing was spent; alone from EXP on, which the tables do by themselves."""
        state, tip = self._ledger.payer(params.chid), await self._counter.height()
        if state.state in LIVE and state.spent_florins and tip < state.rules.exp:
            reason = f"calls were paid; close it, or wait for height {state.rules.exp}"
            raise ChannelBusy(chid=params.chid, state=state.state.value, reason=reason)
        nonce = self._counter.random.bytes(32)
        fact = f.CloseWanted(at=tip, nonce=nonce) if tip < state.rules.exp else f.Clock(at=tip)
        taken = await self._ledger.take(params.chid, fact)
        await self._counter.carry(params.chid, taken.effects)
        return await self._view(params.chid)

    async def listed(self, params: c.ListChannels, _ctx: Ctx) -> c.ChannelList:
        """Newest first."""
        names = self._ledger.shelf.listed(
            params.role, open_only=params.open_only, limit=params.limit, start=params.start
        )
        return c.ChannelList(channels=tuple([await self._view(name) for name in names]))

    async def show(self, params: c.ChannelRef, _ctx: Ctx) -> c.ChannelDetail:
        """One of them with its calls."""
        view, shelf = await self._view(params.chid), self._ledger.shelf
        calls = tuple(call_view(row) for row in shelf.newest_calls(params.chid, CALLS_SHOWN))
        state, book = self._ledger.state(params.chid), self._ledger.book(params.chid)
        said = lines(book, state, shelf.faults(params.chid), self._counter.desk.placed.get(params.chid))
        return c.ChannelDetail(channel=view, calls=calls, lines=said)

    async def recover(self, _params: Empty, _ctx: Ctx) -> Done:
        """Hello everywhere."""
        for chid in self._ledger.shelf.listed("payer", open_only=True, limit=500):
            await self._greeting.begin(chid)
        return Done()

    async def recover_from(self, params: c.RecoverFrom, _ctx: Ctx) -> c.ChannelList:
        """With the phrase alone: the payee has the terms, the chain the coin, and a hello the rest."""
        found = await self._opening.recover(params.payee, params.keys)
        return c.ChannelList(channels=tuple([await self._view(chid) for chid in found]))

    async def _view(self, chid: str) -> c.ChannelView:
        return channel_view(self._ledger.book(chid), self._ledger.state(chid), await self._counter.height())

    # --- other nodes --------------------------------------------------------------------------------------------------

    async def take_open(self, params: peer.StampedOpen, sender: Did) -> peer.OpenOk:
        """OPEN_REQ."""
        return peer.OpenOk(terms=await self._opening.take(params.wish, params.stamp, sender))

    async def take_hello(self, params: peer.HelloCall, sender: Did) -> peer.HelloBackCall:
        """Hello."""
        return peer.HelloBackCall(hello_back=await self._sessions.take_hello(params.hello, sender))

    async def asked_hello(self, params: peer.HelloWanted, sender: Did) -> peer.Kept:
        """The payee wants a hello."""
        book = self._ledger.book(params.chid.hex())
        if book.side != "payer" or book.other != sender:
            return peer.Kept(kept=False)
        await self._greeting.begin(book.chid)
        return peer.Kept(kept=True)

    async def take_final(self, params: peer.FinalCall, sender: Did) -> peer.Closing:
        """The last state."""
        taken, state = await self._sessions.take_final(params.final, sender)
        return peer.Closing(taken=taken, state=state)

    async def take_get(self, params: peer.ChannelOf, sender: Did) -> peer.TermsFound:
        """Terms for a payer that lost them."""
        return peer.TermsFound(terms=await self._opening.get(params.payer_key, sender))


def _remembers(ctx: Ctx) -> Callable[[Tx, str], None]:
    """The answer is kept with the channel that it names."""
    return lambda tx, chid: ctx.remember(tx, c.ChannelRef(chid=chid))

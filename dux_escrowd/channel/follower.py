"""Follows the chain for every channel whose script is watched: coins, spends and the tip become facts.

Promise: `chain.coins` is always the whole truth of now; events only wake this loop. It also keeps the tip that calls
are decided at, so that a call asks no other daemon for it. A channel whose blocks the wallet has not all read hears
nothing: its coin would look gone. Source: channel_protocol.md §2, §3, §6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from common.chain.channel import ChannelTerms, refund_fee
from common.chain.fees import FEE_LADDER, is_dust
from common.chain.script import pushes
from common.chain.tx import Outpoint, parse
from common.contracts import wallet_chain as chain
from common.contracts.escrow_base import Refused, WrongPhase
from common.contracts.wallet_errors import NotSynced
from common.errors import NotFound
from dux_escrowd.chain_loop import ChainLoop
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import Channel, Coin, Payee, Payer, PayerState, Spend, SpendKind
from dux_escrowd.channel.shelf import Book

FACTS_PER_LOOK_MAX = 32  # per channel: a look that finds more goes on at the next block
FOLLOWED_AFTER_END_BLOCKS = 1_440
FURTHER_AT_ONCE = 16  # refunds of outputs beside the channel's coin, per look: the most valuable first
CLOSE_PUSHES = 4  # both signatures, the selector, the script


class ChannelFollower(ChainLoop):
    """Looks at the chain and tells the ledger."""

    def __init__(
        self,
        counter: Counter,
        begin: Callable[[str], Awaitable[None]],
        again: Callable[[str], Awaitable[None]],
        take_back: Callable[[str, Outpoint, int], Awaitable[None]],
    ) -> None:
        super().__init__(counter.desk)
        self._counter = counter
        self._ledger = counter.ledger
        self._begin, self._again, self._take_back = begin, again, take_back
        self._clocked: dict[str, int] = {}
        self.on_tip: list[Callable[[int], Awaitable[None]]] = []

    async def _idle(self) -> None:
        self._counter.fresh = self._counter.desk.is_fresh(await self._counter.desk.tip())

    async def _look(self) -> None:
        tip = await self._counter.desk.tip()
        if not tip.synced:
            return
        height = int(tip.height)
        self._counter.tip, self._counter.fresh = height, self._counter.desk.is_fresh(tip)
        self._counter.seen.set()
        unread: NotSynced | None = None
        for chid in self._ledger.shelf.followed():
            try:
                await self._channel(self._ledger.book(chid), height)
            except NotSynced as error:
                unread = error
        for hook in self.on_tip:
            await hook(height)
        if unread is not None:
            raise unread

    async def _channel(self, book: Book, height: int) -> None:
        if book.chid in self._ledger.unsure:
            return
        try:
            found = await self._counter.desk.flopd.call(chain.CHAIN_COINS, chain.ScriptAsked(script=book.output_script))
        except NotFound:
            return  # the wallet follows it from the next block on
        for _ in range(FACTS_PER_LOOK_MAX):
            fact = next_fact(self._ledger.state(book.chid), book.terms, found.coins, height)
            if fact is None or not await self._take(book.chid, fact):
                break
        if self._clocked.get(book.chid) != height:
            self._clocked[book.chid] = height
            await self._take(book.chid, f.Clock(at=height))
            if self._ledger.state(book.chid).state is PayerState.FUND_SENT:
                await self._again(book.chid)  # its coins may have been waiting for this block
            for outpoint, step in further_due(self._ledger.state(book.chid), book.terms, found.coins, height):
                await self._take_back(book.chid, outpoint, step)
        self._let_go(book.chid, height)

    async def _take(self, chid: str, fact: f.Fact) -> bool:
        """Whether it was taken."""
        try:
            taken = await self._ledger.take(chid, fact)
        except (WrongPhase, Refused) as error:
            self._counter.desk.log.debug("chain fact not taken", chid=chid, reason=error.message)
            return False
        await self._counter.carry(chid, taken.effects)
        new, old = taken.next, taken.before
        moved = isinstance(new, Payer) and new.state is not old.state
        if moved and new.state in (PayerState.OPEN_SEEN, PayerState.RESYNC):
            await self._begin(chid)
        return taken.next is not taken.before

    def _let_go(self, chid: str, height: int) -> None:
        if is_past(self._ledger.state(chid), height):
            with self._ledger.store.transaction() as tx:
                self._ledger.note(tx, chid, follow=0)


def is_past(state: Channel, tip: int) -> bool:
    """Whether nothing that concerns an ended channel can happen any more."""
    rests_on = state.spend.height if state.spend else None
    if isinstance(state, Payer):
        rests_on = max(rests_on or 0, state.rules.exp)  # only then can outputs beside the coin be taken back
    has_ended = state.state.value in ("CLOSED", "LOST")
    return has_ended and rests_on is not None and tip > rests_on + FOLLOWED_AFTER_END_BLOCKS


def read_spend(terms: ChannelTerms, own: chain.CoinView) -> Spend:
    """Which way out a spend takes, and what it pays for calls, tax and royalty included."""
    if own.spend is None:
        raise TypeError("the coin is not spent")
    shown = len(pushes(own.spend.script_sig))
    height = None if own.spend.height is None else int(own.spend.height)
    if shown < CLOSE_PUSHES:
        return Spend(SpendKind.REFUND, own.spend.txid, 0, height)
    paid = (terms.payout_script, terms.fund_script, terms.developer_script)
    cum = sum(int(output.value_florins) for output in parse(own.spend.raw).outputs if output.script in paid)
    return Spend(SpendKind.CLOSE, own.spend.txid, cum, height)


Read = Callable[[ChannelTerms, chain.CoinView], Spend]


def next_fact(
    state: Channel, terms: ChannelTerms, coins: Sequence[chain.CoinView], tip: int, read: Read = read_spend
) -> f.Fact | None:
    """The next thing that the chain shows and the channel does not know; None when they agree."""
    seen = {str(item.outpoint): item for item in coins}
    if state.coin is None:
        first = _to_rest_on(state, coins)
        return None if first is None else f.CoinSeen(at=tip, coin=_coin(first))
    own = seen.get(state.coin.outpoint)
    if own is None and state.spend is not None:  # its block went, too: first the state from before it
        return f.SpendGone(at=tip, txid=state.spend.txid)
    if own is None:
        return f.CoinGone(at=tip, outpoint=state.coin.outpoint)
    if _coin(own) != state.coin:
        return f.CoinSeen(at=tip, coin=_coin(own))
    return _spend_fact(state, terms, own, tip, read)


def _to_rest_on(state: Channel, coins: Sequence[chain.CoinView]) -> chain.CoinView | None:
    """The first output in a block that holds enough, the same for both sides; one that was rested on comes before it.

    Anybody may pay a script: what is too small is passed over, so that it never hides the funding.
    """
    least = state.rules.coin_min_florins
    fit = [item for item in coins if item.height is not None and int(item.value_florins) >= least]
    known = state.outpoint if isinstance(state, Payee) else ""
    return next((item for item in fit if str(item.outpoint) == known), fit[0] if fit else None)


def further_due(
    state: Channel, terms: ChannelTerms, coins: Sequence[chain.CoinView], tip: int
) -> list[tuple[Outpoint, int]]:
    """Outputs beside the channel's coin that its payer takes back now, with the step of the fee; none before EXP.

    The fee climbs as long as something is left; what is less than the first fee and dust stays where it is.
    """
    if not isinstance(state, Payer) or tip < state.rules.exp:
        return []
    own = "" if state.coin is None else state.coin.outpoint
    fee, late = int(refund_fee(terms)), (tip - state.rules.exp) // state.rules.step
    due = []
    for item in sorted(coins, key=lambda item: -int(item.value_florins)):
        waits = item.spend is None or item.spend.height is None
        rungs = [step for step, times in enumerate(FEE_LADDER) if not is_dust(int(item.value_florins) - fee * times)]
        if str(item.outpoint) != own and item.height is not None and waits and rungs:
            due.append((item.outpoint, min(late, rungs[-1])))
    return due[:FURTHER_AT_ONCE]


def _spend_fact(state: Channel, terms: ChannelTerms, own: chain.CoinView, tip: int, read: Read) -> f.Fact | None:
    known = state.spend
    if own.spend is None:
        return f.SpendGone(at=tip, txid=known.txid) if known else None
    height = None if own.spend.height is None else int(own.spend.height)
    if known is None or known.txid != own.spend.txid or known.height != height:
        return f.SpendSeen(at=tip, spend=read(terms, own))
    deep = height is not None and tip - height + 1 >= state.rules.depth
    return f.SpendDeep(at=tip, spend=known) if deep and state.state.value in ("CLOSE_SEEN", "REFUND_SEEN") else None


def _coin(view: chain.CoinView) -> Coin:
    height = None if view.height is None else int(view.height)
    return Coin(str(view.outpoint), int(view.value_florins), height)

"""The world of a channel: two disks, messages that may arrive at any time and as often as they like, and a chain.

`learn` is the only way into a table: one decision, one write, then its orders, which `hands` carries out. Laws are
asked where they can break (`laws`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from msgspec.structs import replace

from common.chain.channel import ChannelTerms
from common.channel_messages import NO_ROOT, Outcome
from common.contracts.wallet_chain import CoinView
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.follower import FACTS_PER_LOOK_MAX
from dux_escrowd.channel.model import IN_FLIGHT, CallState, Payee, Payer
from dux_escrowd.channel.model import Spend as SpendTold
from dux_escrowd.channel.orders import Close, Fund, Order, Refund
from dux_escrowd.channel.payee import LIVE
from dux_sim.proof.channel import hands, laws
from dux_sim.proof.channel.cast import EDGES, EXP, OIDS, PAYEE, PAYER, WATCH, ZONE, Setting, signable
from dux_sim.proof.channel.chain import TAKEN_BACK, THERE, TOO_LITTLE, Spend, seen
from dux_sim.proof.channel.moment import Moment
from dux_sim.proof.channel.nodes import Node, Nodes, stated
from dux_sim.proof.channel.sight import terms
from dux_sim.proof.search import require

KEPT_IN_THE_OUTBOX = (Fund, Close, Refund)  # done after a crash, too; what goes to the wire is simply lost
SESSION_MARK = b"/"
COPIES = (1, 2)  # the place of each side's old copies in the allowance


class World:
    """A moment, thawed."""

    __slots__ = ("chain", "copies", "edge", "ghost", "height", "known", "left", "nodes", "running", "sent", "setting")

    def __init__(self, setting: Setting, known: Nodes, moment: Moment) -> None:
        self.setting, self.known = setting, known
        self.edge, self.nodes, self.copies, self.chain, self.sent, running, self.ghost, self.left = moment
        self.running = running
        self.height = EDGES[self.edge]

    def freeze(self) -> Moment:
        """The moment as it stands now, without copies that nobody can put back and words that nobody can hear."""
        self.copies = tuple(copy if self.left[COPIES[side]] else -1 for side, copy in enumerate(self.copies))  # type: ignore[assignment]
        if self.copies[PAYER] < 0 and not self.left[COPIES[PAYER]] and self.honest(PAYER):
            self.sent &= ~self._heard_out()
        return Moment(self.edge, self.nodes, self.copies, self.chain, self.sent, self.running, self.ghost, self.left)

    def _heard_out(self) -> int:
        """Answers that change nothing at the payer, now or ever: to another hello than its last, to an ended call.

        Nonces and numbers are used once. The table itself is asked, too: one that takes such an answer is found.
        """
        payer, out = self.payer, 0
        waiting = {call.j for call in payer.calls if call.state in IN_FLIGHT}
        for number in self.numbers_sent():
            answered = self.known.answers.get(number)
            if answered is None:
                continue
            if isinstance(answered, bytes):
                over = answered != payer.nonce
            else:
                over = answered <= payer.j and answered not in waiting
            if over and self.known.is_silent(self.nodes[PAYER], number, self.edge):
                out |= 1 << number
        return out

    # --- who ----------------------------------------------------------------------------------------------------------

    def node(self, side: int) -> Node:
        """What this side has on its disk."""
        return self.known.nodes[self.nodes[side]]

    @property
    def payer(self) -> Payer:
        """The payer's channel."""
        return cast("Payer", self.node(PAYER).channel)

    @property
    def payee(self) -> Payee:
        """The payee's channel."""
        return cast("Payee", self.node(PAYEE).channel)

    def honest(self, side: int) -> bool:
        """Follows its table."""
        return side not in self.setting.liars

    def awake(self, side: int) -> bool:
        """Honest, and there."""
        return self.honest(side) and not (side == PAYEE and self.ghost.offline)

    # --- facts and orders ---------------------------------------------------------------------------------------------

    def learn(self, side: int, fact: f.Fact) -> bool:
        """One decision and its orders; False if the fact does not fit."""
        return self.learn_number(side, self.known.fact(side, fact))

    def learn_number(self, side: int, fact: int, *, crash: bool = False) -> bool:
        """The same by the fact's number. `crash`: the write is done, and then this side starts anew."""
        if not self.awake(side):
            return False
        outcome = self.known.learn(self.nodes[side], fact, self.edge)
        if outcome is None:
            return False
        if self.known.log is not None:
            self.known.log.append((side, stated(self.node(side), self.known.facts[fact], self.height)))
        self._put(side, outcome[0])
        laws.LEARNT[side](self, self.known.facts[fact])
        for order in outcome[1]:
            if not crash or isinstance(order, KEPT_IN_THE_OUTBOX):
                self.perform(side, order)
        if crash:
            self.restart(side)
        return True

    def perform(self, side: int, order: Order) -> None:
        """Do what the table ordered."""
        hands.HANDS[type(order)](self, order)
        if side == PAYEE:
            laws.payee_stands(self)

    def _put(self, side: int, node: int) -> None:
        self.nodes = (node, self.nodes[PAYEE]) if side == PAYER else (self.nodes[PAYER], node)

    def post(self, side: int, fact: f.Fact) -> None:
        """A message leaves: from now on it may arrive, and who lies keeps it."""
        self.sent |= 1 << self.known.fact(side, fact)

    def numbers_sent(self) -> Iterator[int]:
        """The messages that ever left, the oldest kind first."""
        bits = self.sent
        while bits:
            bit = bits & -bits
            bits ^= bit
            yield bit.bit_length() - 1

    def tell(self, **changes: Any) -> None:
        """Something happened that no table knows."""
        self.ghost = self.ghost._replace(**changes)

    def tell_oid(self, name: str, oid: str, value: Any) -> None:
        """The same, of one call of the application."""
        at = OIDS.index(oid)
        before = getattr(self.ghost, name)
        self.tell(**{name: (*before[:at], value, *before[at + 1 :])})

    # --- starts and copies --------------------------------------------------------------------------------------------

    def restart(self, side: int) -> None:
        """A crash and a start, a reconnection, or a copy put back: nobody has to know which."""
        if side == PAYEE:
            lived, self.running = self.running, ()
            self.learn(PAYEE, f.Started(at=0, nonce=b""))
            self._programs_live(lived)
        else:
            self.hello()

    def _programs_live(self, lived: tuple[int, ...]) -> None:
        """Whose handler delivered parts goes on over the start; what nobody speaks of any more the daemon fails.

        A call without parts is for the start itself to end or to run again: here nothing else does.
        """
        again = self.running
        kept = [call.j for call in self.payee.calls if call.state is CallState.RUNNING and call.sent_florins]
        for j in kept:
            if j not in (*lived, *again):
                self.learn(PAYEE, f.HandlerDone(at=0, j=j, outcome=Outcome.FAILED, resp=NO_ROOT, charged_florins=0))
        self.running = tuple(sorted({*again, *(j for j in lived if j in kept)}))

    def hello(self) -> None:
        """The payer starts: a nonce that was never used."""
        number = self.ghost.nonces
        self.tell(nonces=number + 1, heard=(*self.ghost.heard, 0))
        self.learn(PAYER, f.Started(at=0, nonce=b"n%d" % number))

    def hear_hello(self, hello: int, *, crash: bool = False) -> bool:
        """The payee hears a hello: each time it is heard makes a session of its own."""
        fact = cast("f.HelloCame", self.known.facts[hello])
        at = int(fact.payer_nonce[1:])
        times = self.ghost.heard[at] if at < len(self.ghost.heard) else 0
        session = fact.payer_nonce + SESSION_MARK * (times + 1)
        number = self.known.fact(PAYEE, hands.with_session(fact, session))
        if at < len(self.ghost.heard):
            self.tell(heard=(*self.ghost.heard[:at], times + 1, *self.ghost.heard[at + 1 :]))
        serves = self.payee.state in LIVE  # once it closes, it is too late
        heard = self.learn_number(PAYEE, number, crash=crash)
        if heard and serves and self.honest(PAYER) and self.ghost.forgot:
            self._reminded(fact.receipt.paid_florins)
        return heard

    def copy(self, side: int) -> None:
        """A copy of this side's disk is made."""
        self.copies = (self.nodes[side], self.copies[1]) if side == PAYER else (self.copies[0], self.nodes[side])

    def restore(self, side: int) -> None:
        """The disk is lost, the copy is put back."""
        self._put(side, self.copies[side])
        restored = (True, self.ghost.restored[1]) if side == PAYER else (self.ghost.restored[0], True)
        forgot = self.ghost.forgot + (self.forgotten() if side == PAYEE else 0)
        self.tell(restored=restored, forgot=forgot)
        self.restart(side)
        self.look(side)

    def forgotten(self) -> int:
        """Work that the payee's books do not know any more: neither W nor its step x bounds it, only S does."""
        return sum(max(0, one) for one in self.ghost.earned) - self._remembered()

    def _remembered(self) -> int:
        known = {call.oid for call in (*self.node(PAYEE).archive, *self.payee.calls) if call.state is CallState.OK}
        return sum(max(0, one) for oid, one in zip(OIDS, self.ghost.earned, strict=False) if oid in known)

    def _reminded(self, paid_florins: int) -> None:
        """An honest payer's hello has come in time: what its receipt says is not lost any more."""
        earned = sum(max(0, one) for one in self.ghost.earned)
        left = max(0, earned - max(paid_florins, self._remembered()))
        self.tell(forgot=min(self.ghost.forgot, left))

    # --- the chain ----------------------------------------------------------------------------------------------------

    def look(self, side: int) -> None:
        """What is on the chain becomes facts, then the clock."""
        if not self.awake(side):
            return
        if side == PAYEE and self.height >= EXP - ZONE and not self.ghost.looked:
            self.tell(looked=True)
        coins = seen(self.chain, self.setting.value_florins, self.setting.rules.coin_min_florins)
        self._take_in(side, coins)
        self.learn(side, f.Clock(at=0))
        if side == PAYER and self.chain.beside == THERE:
            self._take_back(coins)

    def _take_in(self, side: int, coins: tuple[CoinView, ...]) -> None:
        """Facts until the books agree with the chain, or one changes nothing: as the product's follower does it."""
        told = self.chain.told()

        def read(_terms: ChannelTerms, own: CoinView) -> SpendTold:
            if told is None or own.spend is None:
                raise TypeError("the coin is not spent")
            return told

        for _ in range(FACTS_PER_LOOK_MAX):
            before = self.nodes[side]
            channel = self.node(side).channel
            fact = self.known.sight.next_fact(channel, terms(), coins, self.height, read)
            if fact is None or not self.learn(side, replace(fact, at=0)) or self.nodes[side] == before:
                return

    def _take_back(self, coins: tuple[CoinView, ...]) -> None:
        for outpoint, _step in self.known.sight.further_due(self.payer, terms(), coins, self.height):
            laws.refund_in_time(self)
            require(outpoint == TOO_LITTLE, "the coin goes back as if it lay beside the channel")
            self.chain = self.chain._replace(beside=TAKEN_BACK)

    def offer(self, spend: Spend) -> None:
        """A transaction is handed to the chain."""
        self.chain = self.chain.offer(spend)

    def next_edge(self, *, take: int = 0, censor: bool = False, late: int | None = None) -> None:
        """Time jumps: what waits is mined, the watcher does its duty, all look but who is late."""
        first = self.height + 1
        if EXP - ZONE < first <= EXP:
            brought = self.awake(PAYEE) or self.chain.waiting or self.chain.spend is not None
            useful = self.ghost.looked and brought and not censor
            self.tell(served=self.ghost.served or bool(useful), censored=censor)
        self.edge += 1
        self.height = EDGES[self.edge]
        self.chain = self.chain.block(first, take=take, censor=censor)
        if self.height >= EXP - WATCH and self.ghost.mirrored:
            self.offer(Spend("close", self.ghost.mirrored, self.chain.outpoint))
        for side in (PAYER, PAYEE):
            if side != late:
                self.look(side)

    def coin_moves(self) -> None:
        """A shallow reorganisation gives the funding another id: no voucher spends it any more."""
        risk = self.payee.cap_florins(self.height)
        self.chain = self.chain.coin_moves()
        self.tell(moved=True, signed=signable(self.setting), shown=(), mirrored=0, excused=self.ghost.excused + risk)
        self.look(PAYER)
        self.look(PAYEE)

    def stranger_pays(self) -> None:
        """Somebody pays the script too little, and before its funding."""
        self.chain = self.chain._replace(beside=THERE)
        self.look(PAYER)
        self.look(PAYEE)

    def spend_goes(self, *, forgotten: bool) -> None:
        """The spend's block goes."""
        self.chain = self.chain.spend_goes(forgotten=forgotten)
        self.look(PAYER)
        self.look(PAYEE)

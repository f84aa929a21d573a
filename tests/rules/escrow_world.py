"""A world for the pure table: a chain, honest nodes that follow a table, liars that do whatever their keys allow.

Laws are asserted where they can break; `heal` lets time pass until every honest party must be out. A message between
nodes that live is late by at most `DELAY` blocks; a spend waits for at most `CENSORED` blocks before T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from common.chain.contract import Policy
from common.chain.heights import DEMO, plan
from common.contracts.escrow import Refused, WrongPhase
from common.units import FLOP
from dux_escrowd import facts as f
from dux_escrowd.model import AwardKey, Coin, Deal, Exit, Lot, Role, Spend, State
from dux_escrowd.observe import OnChain, next_fact
from dux_escrowd.orders import (
    Adopt,
    Fund,
    Order,
    PingArbiters,
    PublishFault,
    Say,
    Settle,
    ShowCase,
    ShowKey,
    SignAward,
    SignCancel,
    SignRelease,
    Tell,
    Word,
)
from dux_escrowd.rules import TABLE, still_wanted
from dux_escrowd.table import Index, step
from dux_escrowd.voting import answer_window_over, winner_of

PRICE, PAY, START = 10 * FLOP, FLOP // 10, 100
B, S, ARBITERS = "buyer", "seller", ("anna", "bert", "carl")
DELAY, CENSORED = 2, 10
K = 2


def deal_for(*, lock: bool = True, policy: Policy = Policy.STANDBY) -> Deal:
    """A contract of 10 FLOP on the demo's heights."""
    return Deal(
        buyer=B, seller=S, price_florins=PRICE, lot_florins=PRICE + 3 * PAY, arbiters_needed=K, seats=3, lock=lock,
        policy=policy, swap_limit_florins=PRICE, depth_blocks=2, start_blocks=6, standby_blocks=60,
        rebroadcast_blocks=10, heights=plan(DEMO, START, 12, PRICE),
    )  # fmt: skip


def role_of(name: str) -> Role:
    """Whose eyes."""
    return {B: Role.BUYER, S: Role.SELLER}.get(name, Role.ARBITER)


@dataclass
class Message:
    """A statement on its way, and since when; what one node sends another arrives in order, evidence beside it."""

    lane: str
    to: str
    fact: f.Fact
    since: int


@dataclass
class World:
    """Everything that happens, and the laws."""

    table: Index = field(default_factory=lambda: TABLE)
    lock: bool = True
    policy: Policy = Policy.STANDBY
    good: bool = True  # the seller's work is what was agreed
    liars: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()  # arbiters who never say anything
    height: int = START

    lots: dict[str, Lot] = field(default_factory=dict)
    waiting: dict[str, list[f.Fact]] = field(default_factory=dict)
    mail: list[Message] = field(default_factory=list)
    coin: Coin | None = None
    spend: Spend | None = None
    spend_since: int = 0
    rivals: list[Spend] = field(default_factory=list)
    coins_made: int = 0
    reorged: bool = False  # the funding went away after work had begun
    keys_shown: bool = False  # K is public or with the buyer
    releases: set[tuple[str, int]] = field(default_factory=set)  # what the buyer's key has signed
    cancels: set[str] = field(default_factory=set)
    awards: dict[AwardKey, set[str]] = field(default_factory=dict)
    heard_answer: set[str] = field(default_factory=set)
    heard_disputes: set[tuple[str, str]] = field(default_factory=set)
    judged: bool = False
    shared_key_by_standby: bool = False
    broken: bool = False
    wallet_down: set[str] = field(default_factory=set)
    wallet_missed: bool = False  # the seller's own wallet was away in the last margin: what it then loses is its own
    delayed: list[tuple[str, Order]] = field(default_factory=list)
    ordered: list[tuple[str, Order]] = field(default_factory=list)
    at_work: bool = False

    def __post_init__(self) -> None:
        """Agreed and funded by everybody's table."""
        for name in (B, S, *ARBITERS):
            self.lots[name] = Lot(contract_id="c" * 64, me=name, role=role_of(name), deal=self.deal)
            self.waiting[name] = []
        for name in self.lots:
            self.learn(name, f.TermsSigned(at=self.height))
            self.learn(name, f.PanelSeated(at=self.height, panel=ARBITERS))
        for name in self.lots:
            for by in self.lots:
                self.learn(name, f.Ready(at=self.height, by=by, same=True))
        if self.coin is None:  # a liar's wallet funds too
            self.fund()
        self.mine(3)

    @property
    def deal(self) -> Deal:
        """What was agreed."""
        return deal_for(lock=self.lock, policy=self.policy)

    def law(self, holds: object, text: str) -> None:
        """A law that has to hold."""
        self.broken = self.broken or not holds
        assert holds, text

    def honest(self, name: str) -> bool:
        """Follows the table."""
        return name not in self.liars and name not in self.silent

    # --- facts and orders ---------------------------------------------------------------------------------------------

    def learn(self, name: str, fact: f.Fact) -> bool:
        """The node takes the fact, and what had waited; False if it does not fit. Liars and the silent ignore all."""
        if not self.honest(name):
            return False
        if not self._take(name, fact):
            return False
        while any(self._take_waiting(name, fact) for fact in list(self.waiting[name])):
            pass
        self._work_off()
        return True

    def _work_off(self) -> None:
        """Orders are done after the decision, one after another."""
        if self.at_work:
            return
        self.at_work = True
        while self.ordered:
            self.perform(*self.ordered.pop(0))
        self.at_work = False

    def _take_waiting(self, name: str, fact: f.Fact) -> bool:
        if not self._take(name, fact):
            return False
        self.waiting[name].remove(fact)
        return True

    def _take(self, name: str, fact: f.Fact) -> bool:
        before = self.lots[name]
        try:
            after, orders = step(self.table, before, fact)
        except (WrongPhase, Refused):
            assert self.lots[name] is before
            return False
        self.lots[name] = after
        self.ordered += [(name, order) for order in orders]
        return True

    def hear(self, name: str, fact: f.Fact) -> None:
        """A statement arrives: taken now or when its phase comes."""
        if isinstance(fact, f.AnswerSaid):
            self.heard_answer.add(name)
        if isinstance(fact, f.DisputeSaid):
            self.heard_disputes.add((name, fact.by))
        if self.honest(name) and not self.learn(name, replace(fact, at=self.height)):
            self.waiting[name].append(replace(fact, at=self.height))

    def send(self, sender: str, fact: f.Fact, *to: str) -> None:
        """A statement leaves."""
        lane = f"{sender}/case" if isinstance(fact, f.EvidenceArrived) else sender
        self.mail += [Message(lane, name, fact, self.height) for name in to]

    def ready_mail(self) -> list[Message]:
        """What may arrive next: the oldest of each lane to each node."""
        first: dict[tuple[str, str], Message] = {}
        for message in self.mail:
            first.setdefault((message.lane, message.to), message)
        return list(first.values())

    def perform(self, name: str, order: Order) -> None:
        """An honest node's hands."""
        lot = self.lots[name]
        if not still_wanted(lot, order, self.height):
            return
        if name in self.wallet_down and isinstance(order, Settle):
            self.delayed.append((name, order))
            return
        HANDS[type(order)](self, name, order)

    def wallet_returns(self) -> None:
        """What had waited for the wallet is done now."""
        self.wallet_down.clear()
        self.ordered += self.delayed
        self.delayed = []
        self._work_off()

    def do_release(self, _name: str, order: SignRelease) -> None:
        """The buyer's wallet signs."""
        self.sign_release(order.outpoint, order.gross_florins)

    def do_cancel(self, _name: str, order: SignCancel) -> None:
        """The seller's wallet signs, with K."""
        self.cancels.add(order.outpoint)
        self.keys_shown = True
        self.send(S, f.CancelSaid(at=0, by=S, outpoint=order.outpoint, valid=True), B)

    def do_award(self, name: str, order: SignAward) -> None:
        """An honest arbiter's wallet signs."""
        self.law(self.height <= self.deal.heights.vote_by, "law e: no coin signature inside the last margin")
        self.sign_award(name, order.key)

    def do_show_key(self, name: str, _order: ShowKey) -> None:
        """K goes to the buyer."""
        self.shared_key_by_standby |= name == S
        self.keys_shown = True
        self.send(name, f.KeyShown(at=0, by=name), B)

    def do_show_case(self, name: str, _order: ShowCase) -> None:
        """Evidence goes to the arbiters, with K where this node has delivered under it."""
        held = not self.lock or (name == S and self.lots[name].delivered_at is not None)
        self.send(name, f.EvidenceArrived(at=0, key=held), *ARBITERS)

    def say(self, name: str, word: Word) -> None:
        """What an honest node says reaches those it concerns."""
        others = [other for other in (B, S) if other != name]
        if word is Word.START:
            self.send(name, f.StartSaid(at=0, by=name), B)
        elif word is Word.DELIVERED:
            to = (B, *ARBITERS) if self.lots[name].disputed_by else (B,)
            self.send(name, f.DeliverySaid(at=0, by=name, claimed_at=self.height), *to)
        elif word is Word.CANCEL_ASK:
            self.send(name, f.CancelAsked(at=0, by=name), S)
        elif word is Word.DISPUTE:
            self.hand_on(name)
            self.send(name, f.DisputeSaid(at=0, by=name), *others, *ARBITERS)
        elif word is Word.ANSWER:
            self.hand_on(name)
            self.send(name, f.AnswerSaid(at=0, by=name), *others, *ARBITERS)
        elif word is Word.VOTE_COMMIT:
            self.check_vote_time(name)
            self.send(name, f.VoteCommitted(at=0, by=name, commitment=b"c"), B, S, *(a for a in ARBITERS if a != name))
        elif word is Word.VOTE_REVEAL:
            gross = self.lots[name].vote_florins or 0
            fact = f.VoteRevealed(at=0, by=name, gross_florins=gross, fits=True)
            self.send(name, fact, B, S, *(a for a in ARBITERS if a != name))

    def check_vote_time(self, name: str) -> None:
        """Law f: an honest arbiter votes only when the other side has answered, or could have."""
        lot = self.lots[name]
        heard = name in self.heard_answer or {(name, B), (name, S)} <= self.heard_disputes
        self.law(heard or answer_window_over(lot, self.height), "law f: a vote before the answer")

    def hand_on(self, name: str) -> None:
        """Before its dispute or answer a party hands the arbiters what both have said: START, delivery, releases."""
        lot = self.lots[name]
        if lot.started or self.lots[S].started:
            self.send(name, f.StartSaid(at=0, by=S), *ARBITERS)
        if lot.delivered_at is not None:
            self.send(name, f.DeliverySaid(at=0, by=S, claimed_at=lot.delivered_at), *ARBITERS)
        if lot.release_gross_florins is not None and lot.release_outpoint is not None:
            for outpoint, gross in sorted(self.releases):
                fact = f.ReleaseSaid(at=0, by=B, outpoint=outpoint, gross_florins=gross, valid=True)
                self.send(name, fact, *ARBITERS)

    def ping(self, name: str) -> None:
        """How many arbiters answer."""
        answers = sum(arbiter not in self.silent for arbiter in ARBITERS)
        if name == S and answers >= K:
            self.learn(S, f.ArbitersStandBy(at=self.height, answers=answers, asked_at=self.height))
        if name == B and answers < K:
            self.learn(B, f.ArbitersSilent(at=self.height))

    # --- keys ---------------------------------------------------------------------------------------------------------

    def sign_release(self, outpoint: str, gross: int) -> None:
        """The buyer's key signs a release, and the seller will hear of it."""
        self.releases.add((outpoint, gross))
        self.send(B, f.ReleaseSaid(at=0, by=B, outpoint=outpoint, gross_florins=gross, valid=True), S)

    def sign_award(self, name: str, key: AwardKey) -> None:
        """An arbiter's key signs an award."""
        signed = {other.gross_florins for other, names in self.awards.items() if name in names}
        same_coin = {other for other, names in self.awards.items() if name in names and other.outpoint == key.outpoint}
        if self.honest(name):
            self.law(not same_coin or signed == {key.gross_florins}, "an honest arbiter signs one verdict for one coin")
        if name in self.awards.setdefault(key, set()):
            return
        self.awards[key].add(name)
        self.send(name, f.AwardSaid(at=0, by=name, key=key, valid=True), B, S, *(a for a in ARBITERS if a != name))

    # --- the chain ----------------------------------------------------------------------------------------------------

    def fund(self) -> None:
        """The buyer's wallet pays the script."""
        self.coins_made += 1
        self.coin = Coin(f"{self.coins_made:064x}:0", self.deal.lot_florins, None)

    def settle(self, name: str, order: Settle) -> None:
        """A spend is handed to the chain: it must be one that the keys allow."""
        heights = self.deal.heights
        if order.exit is Exit.RELEASE:
            pays = [gross for outpoint, gross in self.releases if outpoint == order.outpoint]
            assert self.coin is not None
            self.law(pays, "law a: a release is for the coin that is there")
            self.law(order.outpoint == self.coin.outpoint, "law a: a release is for the coin that is there")
            first_time = self.lots[name].pushed is None
            late = self.lock and first_time and self.height > heights.vote_by
            self.law(not late, "law d: K is not shown inside the last margin")
            self.keys_shown = True
            self.offer(Spend(Exit.RELEASE, "release", max(pays), None))
        elif order.exit is Exit.CANCEL:
            assert order.outpoint in self.cancels
            self.offer(Spend(Exit.CANCEL, "cancel", 0, None))
        elif order.exit is Exit.AWARD:
            assert order.award is not None
            self.complete(order.award)
        else:
            self.law(self.height >= heights.timeout, "a refund before T")
            self.offer(Spend(Exit.REFUND, "refund", 0, None))
        self.learn(name, f.Pushed(at=self.height, exit=order.exit))

    def complete(self, key: AwardKey) -> None:
        """The winner completes an award that k arbiters have signed."""
        winner = B if winner_of(key) is Role.BUYER else S
        self.law(len(self.awards.get(key, ())) >= K, "k signatures")
        if winner == B and self.honest(B) and self.lots[B].release_gross_florins is not None:
            released = self.lots[B].release_stands
            self.law(not released or key.gross_florins >= PRICE, "law c: the buyer takes back what it has released")
        self.offer(Spend(Exit.AWARD, f"award-{key.gross_florins}-{len(key.revealed)}", key.gross_florins, None))

    def offer(self, spend: Spend) -> None:
        """The first spend waits in the mempool; a rival stays with whoever has it."""
        if self.coin is None or self.coin.height is None:
            return
        if self.spend is None:
            self.spend, self.spend_since = spend, self.height
        elif spend.txid != self.spend.txid and spend not in self.rivals:
            self.rivals.append(spend)

    def prefer_rival(self) -> None:
        """A miner takes a rival in place of the spend that waits: possible as long as neither is in a block."""
        if self.spend is not None and self.spend.height is None and self.rivals:
            self.rivals.append(self.spend)
            self.spend, self.spend_since = self.rivals.pop(0), self.height

    def mine(self, blocks: int = 1, *, censor: bool = False) -> None:
        """Blocks; what is due arrives, everybody looks at the chain."""
        for _ in range(blocks):
            self.height += 1
            self.wallet_missed |= S in self.wallet_down and self.height > self.deal.heights.vote_by
            self._confirm(censor=censor)
            for message in [m for m in self.mail if self.height - m.since > DELAY]:
                self.arrive(message)
            for name in self.lots:
                self.look(name)
            self.taskds()

    def _confirm(self, *, censor: bool) -> None:
        if self.coin is not None and self.coin.height is None:
            self.coin = replace(self.coin, height=self.height)
        waits = self.spend is not None and self.spend.height is None
        if waits and self.spend is not None and (not censor or self.height - self.spend_since >= CENSORED):
            self.spend = replace(self.spend, height=self.height)

    def arrive(self, message: Message) -> None:
        """A message arrives."""
        self.mail.remove(message)
        self.hear(message.to, message.fact)

    def arrive_all(self) -> None:
        """All mail, also what answers it."""
        for _ in range(2_000):
            if not self.mail:
                return
            self.arrive(self.ready_mail()[0])
        raise AssertionError("the mail never ends")

    def look(self, name: str) -> None:
        """What is on the chain becomes facts, then the clock."""
        outputs = [OnChain(self.coin, self.spend)] if self.coin is not None else []
        passed: set[tuple[int, f.Fact]] = set()
        while self.honest(name):
            found = next_fact([self.lots[name]], outputs, self.height, passed)
            if found is None:
                break
            passed.add(found)
            self.learn(name, found[1])
        self.learn(name, f.Clock(at=self.height))

    def reorganise(self) -> None:
        """The last blocks go: the spend waits again, or the funding comes back as another transaction."""
        if self.spend is not None and self.spend.height is not None and self.height - self.spend.height < 2:
            self.spend = replace(self.spend, height=None)
        elif self.spend is None and self.coin is not None and self.height < self.deal.heights.fund_by:
            self.reorged = True
            self.coins_made += 1
            self.coin = Coin(f"{self.coins_made:064x}:0", self.deal.lot_florins, None)
            self.rivals.clear()
        for name in self.lots:
            self.look(name)

    # --- the owners' taskds -------------------------------------------------------------------------------------------

    def taskds(self) -> None:
        """Honest taskds: arbiters look at the result when asked, the buyer judges what it can read."""
        for arbiter in ARBITERS:
            if self.lots[arbiter].case_open and self.lots[arbiter].vote_florins is None:
                self.learn(arbiter, f.VoteDecided(at=self.height, gross_florins=PRICE if self.good else 0))
        if self.judged and self.honest(B) and not self.lots[B].release_stands:
            self.judge()

    def work(self) -> None:
        """The seller delivers."""
        if self.honest(S):
            self.learn(S, f.DeliveryMade(at=self.height))

    def judge(self) -> None:
        """The buyer judges what it can read."""
        self.judged = True
        if self.honest(B) and (self.lots[B].revealed or not self.lock):
            self.learn(B, f.ResultGood(at=self.height) if self.good else f.ResultBad(at=self.height))

    # --- the end ------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything arrives and time passes far beyond T; then nobody honest is left inside."""
        self.wallet_returns()
        self.arrive_all()
        while self.height < self.deal.heights.timeout + 12:
            self.mine()
            self.arrive_all()
        if self.honest(B):
            ended = self.lots[B].state in (State.CLOSED, State.VOID)
            self.law(ended, f"dead state: the buyer is left in {self.lots[B].state}")
        if self.honest(S) and self.spend is not None:
            self.law(self.lots[S].state is State.CLOSED, f"dead state: the seller is left in {self.lots[S].state}")
        self.check_bounds()

    def quorum(self) -> bool:
        """At least k arbiters are honest and speak, and no k are bought."""
        return sum(self.honest(name) for name in ARBITERS) >= K

    def check_bounds(self) -> None:
        """The bounds of escrow_protocol.md §2, with honest arbiters or without any quorum."""
        paid = self.spend.gross_florins if self.spend is not None and self.spend.height is not None else 0
        delivered = self.lots[S].delivered_at is not None
        entitled = delivered and self.good and not self.reorged and not self.wallet_missed and not self.cancels
        if self.honest(S) and entitled and self.quorum() and self.coin is not None:
            self.law(paid == PRICE, "an entitled seller is not paid")
        if self.honest(B) and not self.good and self.policy is Policy.STANDBY and self.quorum():
            self.law(paid == 0, "an honest buyer pays for a bad result")
        bought = len(self.liars & set(ARBITERS)) >= K
        awake = (
            not self.reorged and not self.wallet_missed
        )  # K goes to the buyer with an award, which S has to complete
        if self.honest(S) and self.good and self.lock and not paid and not bought and awake:
            self.law(not self.keys_shown or self.shared_key_by_standby or self.cancels, "K was given away for nothing")


HANDS: dict[type[Order], Callable[[World, str, Any], object]] = {
    Fund: lambda world, _name, _order: world.fund(),
    Say: lambda world, name, order: world.say(name, order.word),
    SignRelease: World.do_release,
    SignCancel: World.do_cancel,
    SignAward: World.do_award,
    Settle: World.settle,
    ShowKey: World.do_show_key,
    ShowCase: World.do_show_case,
    PingArbiters: lambda world, name, _order: world.ping(name),
    Tell: lambda _world, _name, _order: None,
    Adopt: lambda _world, _name, _order: None,
    PublishFault: lambda _world, _name, _order: None,
}

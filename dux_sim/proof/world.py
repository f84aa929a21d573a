"""A world for the pure table: a chain, honest nodes that follow it, liars that do whatever their keys allow.

Used by the random histories of the tests and by the exhaustive walk of the proof alike. Laws are asked where they can
break (`laws`); `heal` lets time pass until every honest party must be out. What a node orders is done by `hands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from dux_escrowd import facts as f
from dux_escrowd.model import AwardKey, Coin, Deal, Lot, Spend
from dux_escrowd.observe import OnChain
from dux_escrowd.orders import Order, Settle
from dux_escrowd.rules import TABLE
from dux_sim.proof import hands, laws
from dux_sim.proof.cast import START, B, Funding, S, Setting, deal_for, role_of
from dux_sim.proof.ids import award_spend, malleated, outcome_of
from dux_sim.proof.ladder import climbs_in_time, is_forgotten, is_overrun, is_taken, outbids
from dux_sim.proof.minds import Minds, Node, Outcome
from dux_sim.proof.search import LawBroken, require

MAIL_MAX = 2_000
BESIDE = "f" * 64 + ":1"


class Message(msgspec.Struct, frozen=True):
    """A statement on its way, and since when; what one node sends another arrives in order, evidence beside it.

    What was lost waits with its sender until the next block, and is sent again as long as that lives.
    """

    lane: str
    to: str
    fact: f.Fact
    since: int
    held: bool = False  # an accident: it comes with the next block
    lost: bool = False  # held by its sender, not by the wire


@dataclass
class World:
    """Everything that happens."""

    setting: Setting = field(default_factory=lambda: Setting(deal=deal_for()))
    minds: Minds = field(default_factory=lambda: Minds(TABLE))
    height: int = START

    nodes: dict[str, Node] = field(default_factory=dict)
    mail: list[Message] = field(default_factory=list)
    coin: Coin | None = None
    spend: Spend | None = None
    spend_since: int = 0
    beside: OnChain | None = None  # a stray, and how it was spent
    rivals: list[Spend] = field(default_factory=list)
    coins_made: int = 0
    gone: frozenset[str] = frozenset()  # died on the way
    forked: frozenset[str] = frozenset()  # liars who told the panel one thing and the other party another
    asleep: str = ""  # crashed, and restarted after the next block
    reorged: bool = False  # the funding went away after work could have begun
    keys_shown: bool = False  # K is public or with the buyer
    shared_key_by_standby: bool = False
    releases: frozenset[tuple[str, int]] = frozenset()  # what the buyer's key has signed
    cancels: frozenset[str] = frozenset()
    awards: dict[AwardKey, frozenset[str]] = field(default_factory=dict)
    heard_answer: frozenset[str] = frozenset()
    heard_disputes: frozenset[tuple[str, str]] = frozenset()
    judged: bool = False
    part_taken: bool = False  # the seller's owner settled for a part
    verdict_given: bool = False
    liars_stand_by: bool = True  # bought arbiters answer pings
    broken: bool = False
    fees: int = 0  # the lowest step of the ladder that miners take
    overrun: bool = False  # at T fees were above every step that the seller had
    child: bool = False  # the spend that waits has a child that pays for both
    climbed: dict[str, tuple[str, int]] = field(default_factory=dict)  # who handed in which way out, at which step
    wallet_down: set[str] = field(default_factory=set)
    wallet_missed: bool = False  # the seller's own wallet was away in the last margin: what it then loses is its own
    delayed: list[tuple[str, Order]] = field(default_factory=list)
    ordered: list[tuple[str, Order]] = field(default_factory=list)
    at_work: bool = False
    log: list[tuple[str, int, f.Fact]] | None = None  # who took which fact, where somebody wants to audit it

    @classmethod
    def agreed(cls, setting: Setting, minds: Minds | None = None) -> World:
        """Agreed by everybody's table, and the funding is on its way, a liar's too."""
        world = cls(setting=setting, minds=minds or Minds(TABLE))
        names = (B, S, *setting.panel)
        for name in names:
            lot = Lot(contract_id="c" * 64, me=name, role=role_of(name), deal=setting.deal)
            world.nodes[name] = world.minds.node(Node(lot))
        for name in names:
            world.learn(name, f.TermsSigned(at=world.height))
            world.learn(name, f.PanelSeated(at=world.height, panel=setting.panel))
        for name in names:
            for by in names:
                world.learn(name, f.Ready(at=world.height, by=by, same=True))
        if world.coin is None and setting.funding is not Funding.LATE:
            world.fund()
        return world

    @classmethod
    def funded(cls, setting: Setting, minds: Minds | None = None) -> World:
        """Three blocks later."""
        world = cls.agreed(setting, minds)
        world.mine(3)
        return world

    @property
    def deal(self) -> Deal:
        """What was agreed."""
        return self.setting.deal

    @property
    def lots(self) -> dict[str, Lot]:
        """Each node's lot."""
        return {name: node.lot for name, node in self.nodes.items()}

    def law(self, holds: object, text: str) -> None:
        """A law that has to hold."""
        self.broken = self.broken or not holds
        require(holds, text)

    def honest(self, name: str) -> bool:
        """Follows the table, and lives."""
        return name not in self.setting.liars and name not in self.setting.silent and name not in self.gone

    # --- facts and orders ---------------------------------------------------------------------------------------------

    def learn(self, name: str, fact: f.Fact) -> bool:
        """The node takes the fact, and what had waited; False if it does not fit. Liars and the silent ignore all."""
        outcome = self.minds.learn(self.nodes[name], fact) if self.honest(name) else None
        if outcome is None:
            return False
        self._follow(name, outcome)
        return True

    def pushed(self, name: str, order: Settle) -> None:
        """The chain was handed this spend, of the lot or of a stray."""
        fact = f.Pushed(at=self.height, exit=order.exit)
        number = self.nodes[name].lot_of(order).number
        if not number:
            self.learn(name, fact)
        elif self.honest(name):
            outcome = self.minds.learn_stray(self.nodes[name], number, fact)
            if outcome is not None:
                self._follow(name, outcome)

    def hear(self, name: str, fact: f.Fact) -> None:
        """A statement arrives: taken now or when its phase comes."""
        if isinstance(fact, f.AnswerSaid):
            self.heard_answer |= {name}
        if isinstance(fact, f.DisputeSaid):
            self.heard_disputes |= {(name, fact.by)}
        if self.honest(name):
            self._follow(name, self.minds.hear(self.nodes[name], replace(fact, at=self.height)))

    def look(self, name: str) -> None:
        """What is on the chain becomes facts, then the clock."""
        if self.honest(name) and name != self.asleep:
            self._follow(name, self.minds.look(self.nodes[name], self._outputs(), self.height))

    def _outputs(self) -> tuple[OnChain, ...]:
        main = (OnChain(self.coin, self.spend),) if self.coin is not None else ()
        return main if self.beside is None else (*main, self.beside)

    def is_late(self) -> bool:
        """The funding is late, and it is time to say so: LATE_OK said before waits until then."""
        return self.setting.funding is not Funding.IN_TIME and self.height > self.deal.heights.fund_by

    def is_beside(self, outpoint: str) -> bool:
        """It is the stray's."""
        return self.beside is not None and self.beside.coin.outpoint == outpoint

    def spend_beside(self, spend: Spend) -> None:
        """The first spend of the stray stands."""
        if self.beside is not None and self.beside.spend is None:
            self.beside = replace(self.beside, spend=spend)

    def _follow(self, name: str, outcome: Outcome) -> None:
        self.nodes[name], orders, taken = outcome
        laws.start_is_attended(self, orders)
        for _number, fact in taken:
            if isinstance(fact, f.LateCoin):
                laws.late_is_fair(self, fact)
        if self.log is not None:
            self.log += [(name, number, fact) for number, fact in taken]
        self.ordered += [(name, order) for order in orders]
        self.work_off()

    def work_off(self) -> None:
        """Orders are done after the decision, one after another; those of a node that crashed wait for its restart."""
        if self.at_work:
            return
        self.at_work = True
        while self.ordered:
            name, order = self.ordered.pop(0)
            is_down = name == self.asleep or (name in self.wallet_down and isinstance(order, Settle))
            if is_down:
                self.delayed.append((name, order))
            elif self.honest(name):
                hands.perform(self, name, order)
        self.at_work = False

    def wallet_returns(self) -> None:
        """What had waited for the wallet is done now."""
        self.wallet_down = set()
        self._do_delayed()

    def _do_delayed(self) -> None:
        self.ordered += self.delayed
        self.delayed = []
        self.work_off()

    def restart(self) -> None:
        """The node that crashed is up again: its store is what it was, its outbox goes on."""
        self.asleep = ""
        self._do_delayed()

    # --- the wire -----------------------------------------------------------------------------------------------------

    def send(self, sender: str, fact: f.Fact, *to: str) -> None:
        """A statement leaves; a statement that is on its way already is the same one."""
        lane = f"{sender}/case" if isinstance(fact, f.EvidenceArrived) else sender
        on_its_way = {(message.to, message.fact) for message in self.mail}
        self.mail += [Message(lane, name, fact, self.height) for name in to if (name, fact) not in on_its_way]

    def ready_mail(self) -> list[Message]:
        """What may arrive next: the oldest of each lane to each node."""
        first: dict[tuple[str, str], Message] = {}
        for message in self.mail:
            first.setdefault((message.lane, message.to), message)
        return list(first.values())

    def arrive(self, message: Message) -> None:
        """A message arrives."""
        self.mail.remove(message)
        self.hear(message.to, message.fact)

    def arrive_all(self) -> None:
        """All mail, also what answers it."""
        for _ in range(MAIL_MAX):
            if not self.mail:
                return
            self.arrive(self.ready_mail()[0])
        raise LawBroken("the mail never ends")

    # --- keys ---------------------------------------------------------------------------------------------------------

    def sign_release(self, outpoint: str, gross: int, *to: str) -> None:
        """The buyer's key signs a release, and the seller (or `to`) will hear of it."""
        self.releases |= {(outpoint, gross)}
        self.send(B, f.ReleaseSaid(at=0, by=B, outpoint=outpoint, gross_florins=gross, valid=True), *(to or (S,)))

    def sign_award(self, name: str, key: AwardKey) -> None:
        """An arbiter's key signs an award."""
        if self.honest(name):
            laws.one_verdict(self, name, key)
            laws.stray_award_is_safe(self, key)
        if name in self.awards.get(key, ()):
            return
        self.awards = self.awards | {key: self.awards.get(key, frozenset()) | {name}}
        others = (other for other in self.setting.panel if other != name)
        self.send(name, f.AwardSaid(at=0, by=name, key=key, valid=True), B, S, *others)

    def complete(self, key: AwardKey, spend: Spend | None = None) -> None:
        """The winner completes an award that k arbiters have signed."""
        laws.award_is_fair(self, key)
        self.offer(spend or award_spend(key))

    # --- the chain ----------------------------------------------------------------------------------------------------

    def fund(self) -> None:
        """The buyer's wallet pays the script."""
        self.coins_made += 1
        self.coin = Coin(f"{self.coins_made:064x}:0", self.deal.lot_florins, None)

    def was_there(self, outpoint: str) -> bool:
        """The script had this coin before a reorganisation took it."""
        return 0 < int(outpoint.partition(":")[0] or "0", 16) < self.coins_made

    def offer(self, spend: Spend) -> None:
        """The first spend waits in the mempool; a rival stays with whoever has it."""
        if self.coin is None or self.coin.height is None:
            return
        if self.spend is None or (self.setting.ladder and outbids(self, spend)):
            self._replaced_by(spend)
        elif spend.txid != self.spend.txid and spend not in self.rivals:
            self.rivals = [*self.rivals, spend]

    def _replaced_by(self, spend: Spend) -> None:
        """It waits from now on; what it replaces is a rival, unless it is a lower step of the same."""
        others = [*self.rivals, self.spend] if self.spend is not None else self.rivals
        self.rivals = [one for one in others if outcome_of(one.txid) != outcome_of(spend.txid)]
        self.spend, self.spend_since, self.child = spend, self.height, False

    def prefer_rival(self, at: int = 0) -> None:
        """A miner takes a rival in place of the spend that waits: possible as long as neither is in a block."""
        if self.spend is not None and self.spend.height is None and self.rivals:
            self.rivals = [*self.rivals, self.spend]
            self.spend, self.spend_since, self.child = self.rivals.pop(at), self.height, False

    def mine(self, blocks: int = 1, *, censor: bool = False, other_id: bool = False) -> None:
        """Blocks; what is due arrives, everybody looks at the chain. `other_id`: they hold the spend under another."""
        for _ in range(blocks):
            self.height += 1
            self.fees = self.fees if self.height < self.setting.spike_until else 0
            if not self.coins_made and self.height > self.deal.heights.fund_by:
                self.fund()  # the late payment
            self.wallet_missed |= S in self.wallet_down and self.height > self.deal.heights.vote_by
            self._confirm(censor=censor, other_id=other_id)
            for message in [m for m in self.mail if self.height - m.since > self.setting.delay_blocks]:
                self.arrive(message)
            for name in self.nodes:
                self.look(name)
            self.taskds()
            climbs_in_time(self)
            self.overrun |= is_overrun(self)

    def _confirm(self, *, censor: bool, other_id: bool) -> None:
        if self.beside is not None and self.beside.spend is not None and self.beside.spend.height is None:
            self.beside = replace(self.beside, spend=replace(self.beside.spend, height=self.height))
        if self.setting.stray_florins and self.beside is None and self.height > self.deal.heights.fund_by:
            self.beside = OnChain(Coin(BESIDE, self.setting.stray_florins, self.height), None)
        waits_late = self.setting.funding is not Funding.IN_TIME and not self.is_late()
        left_out = waits_late or (censor and self.spend is None)
        if self.coin is not None and self.coin.height is None and not left_out:
            self.coin = replace(self.coin, height=self.height)
        if is_forgotten(self):
            self.spend, self.rivals = (self.rivals[0], self.rivals[1:]) if self.rivals else (None, [])
            self.spend_since, self.child = self.height, False
        waits = self.spend is not None and self.spend.height is None
        over = self.height - self.spend_since >= self.setting.censored_blocks
        if waits and self.spend is not None and (not censor or over) and is_taken(self):
            txid = malleated(self.spend.txid) if other_id else self.spend.txid
            self.spend = replace(self.spend, txid=txid, height=self.height)

    def reorganise(self) -> None:
        """The last blocks go: the spend waits again, or the funding comes back as another transaction."""
        if self.spend is not None and self.spend.height is not None and self.height - self.spend.height < 2:  # noqa: PLR2004 - d
            self.spend = replace(self.spend, height=None)
        elif self.spend is None and self.coin is not None and self.height < self.deal.heights.fund_by:
            self.reorged = True
            self.fund()
            self.rivals = []
        for name in self.nodes:
            self.look(name)

    # --- the owners' taskds -------------------------------------------------------------------------------------------

    def taskds(self) -> None:
        """Honest taskds: arbiters look at the result when asked, the buyer judges what it can read."""
        for name in self.setting.panel:
            lot = self.nodes[name].lot
            if lot.case_open and lot.vote_florins is None and name != self.asleep:
                self.learn(name, f.VoteDecided(at=self.height, gross_florins=self.setting.worth_florins))
        if self.judged and not self.verdict_given and self.asleep != B:
            self.judge()

    def work(self) -> bool:
        """The seller delivers."""
        return self.learn(S, f.DeliveryMade(at=self.height))

    def judge(self) -> None:
        """The buyer judges what it can read."""
        self.judged = True
        lot = self.nodes[B].lot
        if self.honest(B) and (lot.revealed if self.deal.lock else lot.delivered_at is not None):
            fact = f.ResultGood(at=self.height) if self.setting.good else f.ResultBad(at=self.height)
            self.verdict_given |= self.learn(B, fact)

    # --- the end ------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything arrives and time passes far beyond T; then nobody honest is left inside."""
        self.wallet_returns()
        self.arrive_all()
        while self.height < self.deal.heights.timeout + 12:
            self.mine()
            self.arrive_all()
        laws.at_the_end(self)

    def has_quorum(self) -> bool:
        """At least k arbiters are honest and speak."""
        return sum(self.honest(name) for name in self.setting.panel) >= self.deal.arbiters_needed

    def is_bought(self) -> bool:
        """At least k arbiters do what somebody pays them for."""
        return len(self.setting.liars & set(self.setting.panel)) >= self.deal.arbiters_needed

"""Random histories of the pure table, and the six faults of escrow_protocol.md §11 planted into it and found."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from common.chain.contract import Policy
from dux_escrowd import facts as f
from dux_escrowd import guards as g
from dux_escrowd.model import AwardKey
from dux_escrowd.rules import ROWS, TABLE
from dux_escrowd.table import Index, Row, indexed
from dux_sim.proof.cast import ARBITERS, PRICE, B, K, S, Setting, deal_for
from dux_sim.proof.minds import Minds
from dux_sim.proof.mutations import late_key, late_reveals, silent_in_flight, without
from dux_sim.proof.world import World

pytestmark = [pytest.mark.patient, pytest.mark.timeout(600)]  # only computes, on a machine that may be busy

WHO_LIES = st.sampled_from([(), (B,), (S,), ("anna",), (B, "anna"), (S, "anna"), ("anna", "bert"), (B, "anna", "bert")])
WHO_IS_SILENT = st.sampled_from([(), ("carl",), ("bert", "carl"), ARBITERS])
JUMPS = ["deliver_by", "dispute_by", "answer_by", "commit_by", "reveal_by", "vote_by", "timeout"]


class Histories(RuleBasedStateMachine):
    """Honest nodes live by `table`; everything else is up to the history."""

    table: Index = TABLE

    @initialize(
        lock=st.booleans(), policy=st.sampled_from(Policy), good=st.booleans(), liars=WHO_LIES, silent=WHO_IS_SILENT
    )
    def begin(self, *, lock: bool, policy: Policy, good: bool, liars: tuple[str, ...], silent: tuple[str, ...]) -> None:
        """A funded contract, some liars, some silence."""
        deal = deal_for(lock=lock, policy=policy)
        setting = Setting(
            deal=deal, worth_florins=PRICE if good else 0, liars=frozenset(liars), silent=frozenset(silent)
        )
        self.world = World.funded(setting, Minds(self.table))

    @rule(blocks=st.integers(1, 4), censor=st.booleans())
    def time_passes(self, *, blocks: int, censor: bool) -> None:
        """Some blocks."""
        self.world.mine(blocks, censor=censor)

    @rule(what=st.sampled_from(JUMPS), past=st.integers(0, 1))
    def time_jumps(self, what: str, past: int) -> None:
        """To a height that matters, or just past it."""
        target = getattr(self.world.deal.heights, what) + past
        self.world.mine(max(1, target - self.world.height))

    @rule(at=st.integers(0, 30))
    def mail_arrives(self, at: int) -> None:
        """One message, in any order."""
        ready = self.world.ready_mail()
        if ready:
            self.world.arrive(ready[at % len(ready)])

    @rule()
    def all_mail_arrives(self) -> None:
        """The wire is quick for once."""
        self.world.arrive_all()

    @rule()
    def seller_delivers(self) -> None:
        """The work is done."""
        self.world.work()

    @rule()
    def buyer_judges(self) -> None:
        """The buyer looks at what it can read."""
        self.world.judge()

    @rule(name=st.sampled_from([B, S]))
    def a_party_disputes(self, name: str) -> None:
        """An owner loses patience, or a liar lies."""
        if self.world.honest(name):
            self.world.learn(name, f.DisputeWanted(at=self.world.height))
        elif name in self.world.setting.liars:
            self.world.send(name, f.DisputeSaid(at=0, by=name), *(n for n in self.world.lots if n != name))

    @rule(name=st.sampled_from([B, S]))
    def a_party_wants_to_cancel(self, name: str) -> None:
        """An owner changes its mind."""
        self.world.learn(name, f.CancelWanted(at=self.world.height))

    @rule(share=st.sampled_from([1, 2]))
    def lying_buyer_signs_a_release(self, share: int) -> None:
        """At any time, for any part, for the coin that is there or was there."""
        if B in self.world.setting.liars and self.world.coin is not None:
            self.world.sign_release(self.world.coin.outpoint, PRICE // share)

    @rule()
    def lying_seller_claims_delivery(self) -> None:
        """Garbage, with the right form."""
        if S in self.world.setting.liars:
            fact = f.DeliverySaid(at=0, by=S, claimed_at=self.world.height)
            self.world.send(S, fact, B, *ARBITERS)

    @rule()
    def lying_buyer_takes_an_award(self) -> None:
        """Whatever k arbiters have signed for it."""
        for key, names in self.world.awards.items():
            if B in self.world.setting.liars and len(names) >= K and key.gross_florins == 0 and self._for_coin(key):
                self.world.complete(key)

    @rule(gross=st.sampled_from([0, PRICE]))
    def bought_arbiters_sign(self, gross: int) -> None:
        """Arbiters who were bought sign for the side that bought them."""
        if self.world.coin is None:
            return
        key = AwardKey(self.world.coin.outpoint, gross, tuple(sorted(set(ARBITERS) & self.world.setting.liars)))
        for name in sorted(set(ARBITERS) & self.world.setting.liars):
            self.world.sign_award(name, key)

    @rule()
    def bought_arbiters_commit(self) -> None:
        """They may take part in the vote, too."""
        for name in sorted(set(ARBITERS) & self.world.setting.liars):
            fact = f.VoteCommitted(at=0, by=name, commitment=b"c")
            self.world.send(name, fact, *(other for other in self.world.lots if other != name))

    @rule(gross=st.sampled_from([0, PRICE]))
    def bought_arbiters_reveal(self, gross: int) -> None:
        """At any time, whatever suits them."""
        for name in sorted(set(ARBITERS) & self.world.setting.liars):
            fact = f.VoteRevealed(at=0, by=name, gross_florins=gross, fits=True)
            self.world.send(name, fact, *(other for other in self.world.lots if other != name))

    @rule()
    def a_miner_prefers_the_rival(self) -> None:
        """Two signed spends, and a miner chooses."""
        self.world.prefer_rival()

    @rule()
    def wallet_goes_down(self) -> None:
        """The seller's wallet does not answer."""
        self.world.wallet_down.add(S)

    @rule()
    def wallet_returns(self) -> None:
        """It does again."""
        self.world.wallet_returns()

    @rule()
    def blocks_go_away(self) -> None:
        """A reorganisation."""
        self.world.reorganise()

    def _for_coin(self, key: AwardKey) -> bool:
        return self.world.coin is not None and key.outpoint == self.world.coin.outpoint

    def teardown(self) -> None:
        """The world is healed: everybody honest gets out, within the bounds."""
        if hasattr(self, "world") and not self.world.broken:
            self.world.heal()


LIMITS = settings(
    max_examples=1_500,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def test_no_history_breaks_a_law() -> None:
    """No dead state, no late K, one verdict per coin, the bounds of §2, whatever lies, silence, delays and reorgs."""
    run_state_machine_as_test(Histories, settings=LIMITS)


@pytest.mark.parametrize(("past_blocks", "paid"), [(-1, PRICE), (40, 0)])
def test_a_seller_bears_the_silence_of_its_own_wallet_and_no_other(past_blocks: int, paid: int) -> None:
    """A wallet that is back before `vote_by` costs nothing; one that sleeps past T loses to the refund, lawfully."""
    world = World.funded(Setting(deal=deal_for(lock=False, policy=Policy.SWAP)))
    world.work()
    world.wallet_down.add(S)
    world.mine(world.deal.heights.vote_by + past_blocks - world.height)
    world.heal()
    assert world.spend is not None
    assert world.spend.gross_florins == paid


class Hunt(NamedTuple):
    """Where a fault is looked for: who lies, who is silent, how the story begins, and which moves there are then."""

    law: str
    plant: Callable[[], tuple[Row, ...]]
    liars: tuple[str, ...]
    silent: tuple[str, ...]
    moves: tuple[str, ...]
    story: Callable[[World], object] = World.work
    good: bool = True


def released_then_disputed(world: World) -> None:
    """A lying buyer sends its release while the seller's wallet is down, and then disputes."""
    world.work()
    world.wallet_down.add(S)
    world.sign_release(world.coin.outpoint if world.coin else "", PRICE)
    world.arrive_all()
    world.send(B, f.DisputeSaid(at=0, by=B), S, *ARBITERS)


def disputed_while_released(world: World) -> None:
    """The seller asks the arbiters in the block in which the buyer releases."""
    world.work()
    world.mine(3)
    world.learn(S, f.DisputeWanted(at=world.height))
    world.judge()


def judged_bad(world: World) -> None:
    """The buyer has seen the result, and it is bad; the bought arbiter takes part in the vote."""
    world.work()
    world.mine(3)
    world.judge()
    world.arrive_all()
    for name in sorted(set(ARBITERS) & world.setting.liars):
        world.send(name, f.VoteCommitted(at=0, by=name, commitment=b"c"), *(n for n in world.lots if n != name))
    world.arrive_all()


WIRE = ("time_passes", "mail_arrives", "all_mail_arrives")
HUNTS = {
    "a": Hunt(
        "law a", lambda: without(ROWS, f.ReleaseSaid, g.this_coin), (B,), (),
        (*WIRE, "lying_buyer_signs_a_release", "blocks_go_away"),
    ),
    "b": Hunt(
        "an entitled seller is not paid", lambda: silent_in_flight(ROWS), (B,), (),
        ("time_passes", "all_mail_arrives", "lying_buyer_takes_an_award", "wallet_returns"),
        story=released_then_disputed,
    ),
    "c": Hunt(
        "law c", lambda: without(ROWS, f.AwardSaid, g.fair_to_take), ("anna", "bert"), (),
        (*WIRE, "bought_arbiters_sign"), story=disputed_while_released,
    ),
    "d": Hunt(
        "law d", lambda: late_key(ROWS), (B,), ("bert", "carl"), (*WIRE, "time_jumps", "lying_buyer_signs_a_release"),
    ),
    "e": Hunt(
        "law e", lambda: late_reveals(ROWS), ("bert",), ("carl",),
        (*WIRE, "time_jumps", "bought_arbiters_reveal"), story=judged_bad, good=False,
    ),
    "f": Hunt("law f", lambda: without(ROWS, f.Clock, g.answer_over), (B,), (), (*WIRE, "a_party_disputes")),
}  # fmt: skip
SEARCH = settings(LIMITS, max_examples=5_000, stateful_step_count=20, phases=(Phase.generate,))


def machine_for(hunt: Hunt, table: Index) -> type[RuleBasedStateMachine]:
    """Histories of this table with these liars and moves."""

    def begin(self: Histories) -> None:
        setting = Setting(
            deal=deal_for(), worth_florins=PRICE if hunt.good else 0, liars=frozenset(hunt.liars),
            silent=frozenset(hunt.silent),
        )  # fmt: skip
        self.world = World.funded(setting, Minds(table))
        hunt.story(self.world)

    moves = {name for name, value in vars(Histories).items() if hasattr(value, "hypothesis_stateful_rule")}
    body: dict[str, object] = {"begin": initialize()(begin)}
    body |= dict.fromkeys(moves - set(hunt.moves))
    return type("Hunted", (Histories,), body)


@pytest.mark.histories
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("fault", HUNTS)
def test_a_planted_fault_is_found_and_its_absence_is_quiet(fault: str) -> None:
    """Each fault that the protocol's model found breaks its law here, too; the same search without it finds nothing."""
    hunt = HUNTS[fault]
    run_state_machine_as_test(machine_for(hunt, TABLE), settings=settings(SEARCH, max_examples=80))
    with pytest.raises(AssertionError, match=hunt.law):
        run_state_machine_as_test(machine_for(hunt, indexed(hunt.plant())), settings=SEARCH)

"""The attack of mechanisms.md §2.3, run against the product's own eligibility and division.

Honest nodes trade: the tax of each is drawn from a log-normal or a Pareto law, and all of it together is one cycle's
pot. The attacker buys what the rule asks of `m` identities as cheaply as it can (tax by trading among themselves, chain
fees, a locked bond of the least size), for every m of a ladder, with the pot grown by its own tax so that cycles come
faster. Everybody's evidence goes through `rules.census_of` and `rules.plan_of`; what the attacker's addresses are paid
is what those say. Its profit per cycle of 100 FLOP is what it gets less tax, fees and the cost of locked coins at a
yearly rate r.

What it does not know: what a subnet address costs, and what an owner of idle coins (r = 0) loses by locking them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from common.chain.address import p2pkh_script, script_to_address
from common.chain.fund import fund_output_script
from common.chain.params import family_named
from common.chain.tx import Outpoint
from common.contracts.airdrop import Phase
from common.parameters import BondedParameters
from common.quality import DAY_BLOCKS
from common.randomness import Randomness, SeededRandomness
from common.receipts import Heartbeat, NodeInfo, Outcome, SettledReceipt
from common.units import BPS, FLOP, BlockHeight, Did, Florins, UnixMs
from dux_airdropd import rules
from dux_airdropd.bonded_rules import bond_least, next_bond_least
from dux_airdropd.model import (
    NOTHING_CARRIED,
    BondSeen,
    BondStep,
    Carried,
    Figures,
    FundCoin,
    Round,
    Seen,
    Window,
    Witness,
    WitnessWord,
)
from dux_airdropd.payout_rules import NothingToPay

NETWORK = "5b" * 32
LADDER = (4, 10, 30, 100, 200, 500, 1_000)  # from four on they are each other's three partners
RATES_BPS = (0, 500, 1_000)
CYCLE_DAYS = 7
POT = 100 * FLOP
TAXES_FULL = (FLOP // 1_000, FLOP // 100, FLOP // 20)  # rule `full` asks for none: what an attacker tries
FEES_EACH = FLOP // 100  # three closings by channel: what one identity cannot do without
CUSTODIANS = 3
HEIGHT = 400 * DAY_BLOCKS
PARTNERS = 3
ROUNDING = 4 * PARTNERS  # florins that halves and thirds lose
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"

Law = Literal["lognormal", "pareto"]


class Attack(msgspec.Struct, frozen=True):
    """One attack and what came of it; florins per cycle in which the pot of 100 FLOP fills once."""

    rule: str
    honest: int
    fakes: int
    share_florins: int
    paid_bps: int  # of the pot
    fakes_paid: int
    profit_florins: dict[int, int]  # by the yearly rate on locked coins, basis points

    def each(self, rate_bps: int) -> int:
        """Profit per fake, in florins, rounded down."""
        return self.profit_florins[rate_bps] // self.fakes


class Findings(msgspec.Struct, frozen=True):
    """All attacks of one rule and number of honest nodes, and the best of them for each rate."""

    rule: str
    honest: int
    law: Law
    bond_florins: int
    attacks: tuple[Attack, ...]

    def best(self, rate_bps: int) -> Attack:
        """The attack that pays most."""
        return max(self.attacks, key=lambda attack: attack.profit_florins[rate_bps])

    @property
    def worth_faking(self) -> bool:
        """Whether some number of fakes profits at the yearly rate that the rule reckons with."""
        return self.best(BondedParameters().rate_bps).profit_florins[BondedParameters().rate_bps] > 0


class Population:
    """Nodes with what the rule asks of them, as evidence."""

    def __init__(self, seed: int, honest: int, law: Law) -> None:
        self._random = SeededRandomness(seed)
        self.taxes = _scaled([_draw(self._random, law) for _ in range(honest)], POT)
        self.honest = honest

    def evidence(self, fakes: int, fake_tax: int, bond: int, fill: float) -> list[Witness]:
        """Everybody's, over a cycle that fills in `fill` of its usual time."""
        taxes = [int(tax * fill) for tax in self.taxes] + [fake_tax] * fakes
        found: list[Witness] = []
        seen: list[Seen] = []
        for number, tax in enumerate(taxes):
            group = range(self.honest) if number < self.honest else range(self.honest, self.honest + fakes)
            found += _node(number, tax, bond, list(group), len(found))
            seen.append(Seen(did_of(number), BlockHeight(0), BPS, up_last=True, standing_milli=9_000, fault_height=-1,
                             net=f"10.{number >> 8}.{number & 255}.0/24"))  # fmt: skip
        for at in range(CUSTODIANS):
            for start in range(0, len(seen), 16):
                word = WitnessWord(NETWORK, did_of(900_000 + at), BlockHeight(HEIGHT), "0c" * 32,
                                   tuple(seen[start : start + 16]), UnixMs(0))  # fmt: skip
                found.append(Witness(len(found).to_bytes(32, "big"), word))
        return found


def did_of(number: int) -> Did:
    """The name of a node."""
    letters = ""
    for _ in range(6):
        number, place = divmod(number, 32)
        letters = LETTERS[place] + letters
    return Did("did:dux:" + letters + "a" * 46)


def script_of(number: int) -> bytes:
    """Where a node is paid."""
    return p2pkh_script(number.to_bytes(20, "big"))


def _draw(random: Randomness, law: Law) -> float:
    """One node's trade: sigma 1.5 of a log-normal law, or alpha 1.5 of a Pareto law."""
    one, other = ((random.below(1 << 30) + 1) / (1 << 30) for _ in range(2))
    if law == "pareto":
        return float(one ** (-1 / 1.5))
    return math.exp(1.5 * math.sqrt(-2 * math.log(one)) * math.cos(2 * math.pi * other))


def _scaled(drawn: Sequence[float], total: int) -> list[int]:
    whole = sum(drawn)
    return [int(total * one / whole) for one in drawn]


def _node(number: int, tax: int, bond: int, group: list[int], serial: int) -> list[Witness]:
    """A node's heartbeat, description, bond, and receipts with three partners of its group that sum up to its tax."""
    did = did_of(number)
    address = script_to_address(script_of(number), family_named("embedded")) or ""
    bodies: list[Heartbeat | NodeInfo | SettledReceipt | BondSeen] = [_beat(did), _info(did, address)]
    if bond:
        start = HEIGHT - 100 * DAY_BLOCKS
        bodies.append(BondSeen(did, f"{number:064x}:0", Florins(bond), start, start + 181 * DAY_BLOCKS))
    place = group.index(number)
    partners = [group[(place + step) % len(group)] for step in range(1, PARTNERS + 1)]
    for step, partner in enumerate(one for one in partners if one != number):
        bodies.append(_receipt(number, partner, tax // PARTNERS, serial * 8 + step))
    return [Witness((serial + at).to_bytes(32, "big"), body) for at, body in enumerate(bodies)]


def _beat(did: Did) -> Heartbeat:
    return Heartbeat(NETWORK, did, UnixMs(0), BlockHeight(HEIGHT), "0c" * 32, 1, (0, 0, 0), 0, 0, 0, 0)


def _info(did: Did, address: str) -> NodeInfo:
    return NodeInfo(NETWORK, did, UnixMs(0), False, address, "", 0, "", "", "", 0, 0, 0, "", "", ())


def _receipt(buyer: int, seller: int, tax: int, name: int) -> SettledReceipt:
    gross = Florins(tax * 20)
    return SettledReceipt(
        NETWORK, name.to_bytes(32, "big"), did_of(buyer), did_of(seller), "", gross, gross, Florins(tax),
        f"{name:064x}", BlockHeight(HEIGHT), Outcome.RELEASED, b"", did_of(seller), UnixMs(0),
    )  # fmt: skip


# one attack


def figures_for(rule: str) -> Figures:
    """The fund of the attack: three keepers, the product's own parameters."""
    pubkeys = tuple(sorted(bytes([2]) + bytes([at + 1]) * 32 for at in range(CUSTODIANS)))
    return Figures(
        network=NETWORK, needed=2, pubkeys=pubkeys, fund_script=fund_output_script(2, pubkeys), family="embedded",
        threshold_florins=POT, carry_below_florins=1, min_quality_ppm=500_000, max_nodes=1_000, evidence_blocks=4,
        depth_blocks=6, rule=rule, custodians=frozenset(did_of(900_000 + at) for at in range(CUSTODIANS)),
    )  # fmt: skip


def attack(people: Population, rule: str, fakes: int, bond_florins: int, each_tax: int) -> Attack:
    """`fakes` identities join the honest ones, each with this much tax paid by trading with the others.

    Half of a job's tax counts for each side, and each is a side of twice three jobs: what one pays is what counts.
    """
    figures = figures_for(rule)
    fill = max(0.0, (POT - each_tax * fakes) / POT)
    blocks = max(DAY_BLOCKS, int(CYCLE_DAYS * DAY_BLOCKS * max(fill, 0.02)))
    carried = _carried(people.honest + fakes, bond_florins) if rule == "bonded" else NOTHING_CARRIED
    window = Window(NETWORK, 500, frozenset(), frozenset(), HEIGHT - blocks + 1, HEIGHT, "0c" * 32, frozenset({500}))
    witnesses = people.evidence(fakes, each_tax + ROUNDING, bond_florins if rule == "bonded" else 0, fill)
    found = rules.census_of(witnesses, window, figures, carried, b"\x07" * 32, {})
    now = Round(0, BlockHeight(window.from_height), BlockHeight(HEIGHT), "0c" * 32, Phase.SIGNING)
    pot = [FundCoin(Outpoint("ab" * 32, 0), POT, HEIGHT)]
    try:
        made = rules.plan_of(found, now, pot, {}, carried, figures, name="attack")
        lines = made.lines
    except NothingToPay:
        lines = ()
    own = {did_of(number) for number in range(people.honest, people.honest + fakes)}
    got = [line.share_florins for line in lines if line.member.did in own]
    spent = fakes * (each_tax + FEES_EACH)
    locked = bond_florins * fakes if rule == "bonded" else 0
    lost = {rate: locked * rate * blocks // (BPS * 365 * DAY_BLOCKS) for rate in RATES_BPS}
    return Attack(
        rule=rule, honest=people.honest, fakes=fakes, share_florins=lines[0].share_florins if lines else 0,
        paid_bps=sum(line.share_florins for line in lines) * BPS // POT, fakes_paid=len(got),
        profit_florins={rate: sum(got) - spent - lost[rate] for rate in RATES_BPS},
    )  # fmt: skip


def _carried(seats: int, bond_florins: int) -> Carried:
    """As if all had been there before, fakes among them: newcomers' limits would only slow an attacker down."""
    return Carried(
        tuple(did_of(number) for number in range(seats)), (BondStep(0, Florins(bond_florins)),), strict=False, bound=0
    )


def settled_bond(people: Population) -> int:
    """The least bond after the rule has tuned it on honest nodes alone."""
    figures, bond = figures_for("bonded"), bond_least(NOTHING_CARRIED, BondedParameters())
    reach = int(figures.bonded.tax_least_florins)
    seats = sum(tax >= reach for tax in people.taxes)
    for _ in range(80):
        bond = next_bond_least(figures.bonded, bond, POT, seats, CYCLE_DAYS * DAY_BLOCKS)
    return bond


def attacks(rule: str, honest: int, *, seed: int, law: Law = "lognormal", ladder: Sequence[int] = LADDER) -> Findings:
    """The whole ladder against one rule."""
    people = Population(seed, honest, law)
    bond = settled_bond(people) if rule == "bonded" else 0
    taxes = (int(BondedParameters().tax_least_florins),) if rule == "bonded" else TAXES_FULL
    tried = [[attack(people, rule, fakes, bond, tax) for tax in taxes] for fakes in ladder]
    best = tuple(max(group, key=lambda one: one.profit_florins[RATES_BPS[1]]) for group in tried)
    return Findings(rule, honest, law, bond, best)

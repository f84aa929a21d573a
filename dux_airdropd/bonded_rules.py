"""Who is a verified active node by rule `bonded`, and the share that no fake can profit by.

Pure: evidence, the beacon and what was carried from the airdrop before come in. The same items give the same seats on
every machine. What a receipt or a bond shows, the chain shows; presence, age, standing, faults and the network that a
node is reached in are what custodians have witnessed: a figure counts when as many custodians as it takes to spend the
fund say at least so much, so that fewer cannot lift anybody.

Why it holds: a share is at most `share_bps` of what one identity costs (tax, chain fees, the yearly rate on the least
bond that any seat rests on), so that every fake costs more than it brings, at any number of fakes, to whoever loses
that rate on locked coins. Source: mechanisms.md §2.1-2.3, settled.md 32.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from common.chain.address import BadAddress, address_to_script
from common.chain.params import family_named
from common.parameters import BondedParameters
from common.receipts import Heartbeat, NodeInfo, SettledReceipt
from common.units import BPS, Did, Florins
from dux_airdropd.evidence_rules import newest_nodes, quality_of, settled
from dux_airdropd.model import (
    BondSeen,
    BondStep,
    Carried,
    Census,
    Figures,
    Member,
    Refusal,
    Seen,
    Window,
    Witness,
    WitnessWord,
)

YEAR_DAYS = 365
STRICT_AFTER = 2  # times in a row that newcomers had to wait: then shares are capped without the bond's rate
STEP_UP_BPS, STEP_DOWN_BPS = 12_500, 8_000  # how far the least bond moves at once
MINTED_BOND = 100  # steps of the least bond that are remembered: years of airdrops


def bonded_census(
    witnesses: Iterable[Witness],
    window: Window,
    figures: Figures,
    carried: Carried,
    beacon: bytes,
    asns: Mapping[str, int],
) -> Census:
    """Who gets a seat, why each other known node gets none, and whether newcomers had to wait."""
    held = Evidence(witnesses, window, figures)
    refusals: dict[Did, str] = {}
    passed: list[Did] = []
    for did in held.known():
        reason = held.fault_of(did, carried)
        if reason:
            refusals[did] = reason
        else:
            passed.append(did)
    passed = _one_per_net(passed, held, beacon, refusals)
    passed = _share_of_asn(passed, held, beacon, asns, refusals)
    passed, bound = _newcomers(passed, held, carried, refusals)
    passed = _drawn(passed, figures.max_nodes, beacon, refusals)
    members = [held.member(did) for did in sorted(passed)]
    told = [Refusal(did, held.address(did), held.quality(did), reason) for did, reason in sorted(refusals.items())]
    least = min((held.least_bond(did, carried) for did in passed), default=bond_least(carried, figures.bonded))
    return Census(tuple(members), tuple(told), bound=bound, least_bond_florins=least)


class Evidence:
    """The evidence sorted by node."""

    def __init__(self, witnesses: Iterable[Witness], window: Window, figures: Figures) -> None:
        found = sorted(witnesses, key=lambda witness: witness.item_id)
        bodies = [witness.body for witness in found]
        self._window, self._figures = window, figures
        self.rule, self.height = figures.bonded, window.to_height
        self._nodes = newest_nodes(body for body in bodies if isinstance(body, NodeInfo))
        self._alive = {body.did for body in bodies if isinstance(body, Heartbeat)}
        self._receipts = settled((b for b in bodies if isinstance(b, SettledReceipt)), window.arbiters)
        self._tax, self._partners = taxes_of(self._receipts)
        words = (body for body in bodies if isinstance(body, WitnessWord))
        self._seen = witnessed(words, figures.custodians, figures.needed)
        self._bonds: dict[Did, list[BondSeen]] = defaultdict(list)
        for body in bodies:
            if isinstance(body, BondSeen):
                self._bonds[body.did].append(body)
        self._chosen: dict[Did, BondSeen | None] = {}

    def known(self) -> list[Did]:
        """Every node that some evidence names, in the order of DIDs."""
        return sorted({*self._nodes, *self._alive, *self._tax, *self._bonds})

    def quality(self, did: Did) -> int:
        """Q of the window's receipts."""
        return quality_of(did, self._receipts, tip=self.height, tax_bps=self._window.tax_bps)

    def address(self, did: Did) -> str:
        """Where it wants to be paid."""
        return self._nodes[did].wallet_address if did in self._nodes else ""

    def net(self, did: Did) -> str:
        """The network it was seen in."""
        return self._seen[did].net

    def bond(self, did: Did, carried: Carried) -> BondSeen | None:
        """The oldest bond that is large and long enough."""
        if did not in self._chosen:
            fit = [bond for bond in self._bonds.get(did, ()) if not self._bond_fault(bond, carried)]
            self._chosen[did] = min(fit, key=lambda bond: (bond.height, bond.outpoint), default=None)
        return self._chosen[did]

    def least_bond(self, did: Did, carried: Carried) -> int:
        """What its bond had to be when it was made."""
        bond = self.bond(did, carried)
        return bond_least_at(carried, self.rule, bond.height if bond else self.height)

    def _bond_fault(self, bond: BondSeen, carried: Carried) -> str:
        rule, height, day = self.rule, self.height, self.rule.day_blocks
        if int(bond.value_florins) < bond_least_at(carried, rule, bond.height):
            return "its bond is smaller than the least one"
        if bond.until - bond.height < rule.bond_days * day:
            return f"its bond was not locked for {rule.bond_days} days"
        if bond.until - height < rule.bond_left_days * day:
            return f"its bond has less than {rule.bond_left_days} days left"
        return ""

    def fault_of(self, did: Did, carried: Carried) -> str:
        """Why a node has no seat by its own evidence, or an empty string: the first of E1 to E6 that fails."""
        node = self._nodes.get(did)
        if node is None or node.withdrawn:
            return "it is not registered"
        if did not in self._alive:
            return "no heartbeat since the last cut-off"
        return (
            self._money_fault(did, carried)
            or self._witness_fault(did)
            or ("its wallet address is not of this network" if not self._script(node.wallet_address) else "")
        )

    def _money_fault(self, did: Did, carried: Carried) -> str:
        bonds, rule = self._bonds.get(did, ()), self.rule
        if not bonds:
            return "it has shown no bond"
        if self.bond(did, carried) is None:
            return self._bond_fault(max(bonds, key=lambda bond: (int(bond.value_florins), bond.until)), carried)
        if self._tax.get(did, 0) < int(rule.tax_least_florins):
            return "it paid too little tax since the last cut-off"
        if len(self._partners.get(did, ())) < rule.counterparties:
            return f"it traded with fewer than {rule.counterparties} others since the last cut-off"
        if self.quality(did) < self._figures.min_quality_ppm:
            return "its reputation is too low"
        return ""

    def _witness_fault(self, did: Did) -> str:
        seen = self._seen.get(did)
        if seen is None:
            return "too few custodians have seen it"
        rule, day = self.rule, self.rule.day_blocks
        asked = rule.age_early_days if self.height < rule.early_days * day else rule.age_days
        fault_blocks = self.height - seen.fault_height if seen.fault_height >= 0 else rule.fault_free_days * day
        laws = {
            f"it has been known for less than {asked} days": self.height - seen.since_height >= asked * day,
            f"it was seen in less than {rule.presence_bps / 100:g} % of its slots": seen.up_bps >= rule.presence_bps,
            "it was not there in the last slot": seen.up_last,
            "its standing is too low": seen.standing_milli >= rule.standing_milli,
            f"a fault of it was proven within {rule.fault_free_days} days": fault_blocks >= rule.fault_free_days * day,
        }
        return next((law for law, holds in laws.items() if not holds), "")

    def _script(self, address: str) -> bytes:
        try:
            return address_to_script(address, family_named(self._figures.family))
        except BadAddress:
            return b""

    def member(self, did: Did) -> Member:
        """A node with a seat."""
        address = self.address(did)
        return Member(did, address, self._script(address), self.quality(did))


def taxes_of(receipts: Iterable[SettledReceipt]) -> tuple[dict[Did, int], dict[Did, set[Did]]]:
    """Half of each settled job's tax to each of its parties, and with whom they traded."""
    tax: dict[Did, int] = defaultdict(int)
    partners: dict[Did, set[Did]] = defaultdict(set)
    for receipt in receipts:
        if receipt.gross_florins > 0:
            for one, other in ((receipt.buyer, receipt.seller), (receipt.seller, receipt.buyer)):
                tax[one] += int(receipt.tax_florins) // 2
                partners[one].add(other)
    return dict(tax), dict(partners)


def witnessed(words: Iterable[WitnessWord], custodians: frozenset[Did], needed: int) -> dict[Did, Seen]:
    """What `needed` custodians at least say of each node; of two lines of one custodian the worse counts."""
    told: dict[Did, dict[Did, Seen]] = defaultdict(dict)
    for word in words:
        if word.witness not in custodians:
            continue
        for line in word.lines:
            held = told[line.did].get(word.witness)
            told[line.did][word.witness] = line if held is None else _worse(held, line)
    found = {did: list(lines.values()) for did, lines in sorted(told.items()) if len(lines) >= needed}
    return {did: _agreed(did, lines, needed) for did, lines in found.items()}


def _worse(one: Seen, other: Seen) -> Seen:
    return Seen(
        did=one.did,
        since_height=max(one.since_height, other.since_height),
        up_bps=min(one.up_bps, other.up_bps),
        up_last=one.up_last and other.up_last,
        standing_milli=min(one.standing_milli, other.standing_milli),
        fault_height=max(one.fault_height, other.fault_height),
        net=max(one.net, other.net),
    )


def _agreed(did: Did, lines: Sequence[Seen], needed: int) -> Seen:
    at = needed - 1
    nets = Counter(line.net for line in lines)
    return Seen(
        did=did,
        since_height=sorted(line.since_height for line in lines)[at],
        up_bps=sorted((line.up_bps for line in lines), reverse=True)[at],
        up_last=sum(line.up_last for line in lines) >= needed,
        standing_milli=sorted((line.standing_milli for line in lines), reverse=True)[at],
        fault_height=sorted((line.fault_height for line in lines), reverse=True)[at],
        net=min(nets, key=lambda net: (-nets[net], net)),
    )


# limits that look at all nodes together


def ticket(did: Did, beacon: bytes) -> bytes:
    """A node's place in every draw of a cut-off: the lowest wins."""
    return hashlib.sha256(did.encode() + beacon).digest()


def _one_per_net(passed: list[Did], held: Evidence, beacon: bytes, refusals: dict[Did, str]) -> list[Did]:
    if not held.rule.one_per_net:
        return passed
    kept: list[Did] = []
    taken: set[str] = set()
    for did in sorted(passed, key=lambda one: ticket(one, beacon)):
        net = held.net(did)
        if net in taken:
            refusals[did] = f"another node of {net or 'unknown whereabouts'} has the seat"
            continue
        taken.add(net)
        kept.append(did)
    return kept


def _share_of_asn(
    passed: list[Did], held: Evidence, beacon: bytes, asns: Mapping[str, int], refusals: dict[Did, str]
) -> list[Did]:
    most = max(1, len(passed) * held.rule.asn_seats_bps // BPS)
    kept: list[Did] = []
    seats: Counter[int] = Counter()
    for did in sorted(passed, key=lambda one: ticket(one, beacon)):
        asn = asns.get(held.net(did))
        if asn is not None and seats[asn] >= most:
            refusals[did] = f"AS{asn} has its {most} seats"
            continue
        if asn is not None:
            seats[asn] += 1
        kept.append(did)
    return kept


def _newcomers(passed: list[Did], held: Evidence, carried: Carried, refusals: dict[Did, str]) -> tuple[list[Did], bool]:
    """Those who had a seat, and as many new ones as may join, the oldest bonds first; whether some had to wait."""
    rule, before = held.rule, frozenset(carried.seats)
    most = max(rule.new_seats_least, len(before) * rule.new_seats_bps // BPS)
    new = sorted((did for did in passed if did not in before), key=lambda did: (_bond_age(held, did, carried), did))
    for did in new[most:]:
        refusals[did] = f"{most} new nodes may join at once, and theirs are the older bonds"
    return [did for did in passed if did in before] + new[:most], len(new) > most


def _bond_age(held: Evidence, did: Did, carried: Carried) -> int:
    bond = held.bond(did, carried)
    return bond.height if bond else held.height


def _drawn(passed: list[Did], most: int, beacon: bytes, refusals: dict[Did, str]) -> list[Did]:
    ranked = sorted(passed, key=lambda one: ticket(one, beacon))
    for did in ranked[most:]:
        refusals[did] = "more nodes than shares: the draw went to others"
    return ranked[:most]


# the share and the least bond


def bond_least(carried: Carried, rule: BondedParameters) -> int:
    """What a bond has to hold that is made now, in florins."""
    return int(carried.steps[-1].florins) if carried.steps else int(rule.bond_least_florins)


def bond_least_at(carried: Carried, rule: BondedParameters, height: int) -> int:
    """What a bond had to hold that was made at a height: it is honoured to its end."""
    held = [step for step in carried.steps if step.from_height <= height]
    return int(held[-1].florins) if held else int(rule.bond_least_florins)


def identity_cost(rule: BondedParameters, bond_florins: int, blocks: int, *, strict: bool) -> int:
    """What one verified identity costs its owner for so many blocks, in florins, rounded down."""
    rate = 0 if strict else rule.rate_bps
    locked = bond_florins * rate * blocks // (BPS * YEAR_DAYS * rule.day_blocks)
    return int(rule.tax_least_florins) + int(rule.closings_florins) + locked


def share_cap(rule: BondedParameters, bond_florins: int, blocks: int, *, strict: bool) -> int:
    """The largest share: less than an identity costs."""
    return identity_cost(rule, bond_florins, blocks, strict=strict) * rule.share_bps // BPS


def next_bond_least(rule: BondedParameters, held: int, fund_florins: int, seats: int, blocks: int) -> int:
    """The least bond of the time after: the one by which all of the fund would have been paid, in bounded steps."""
    base = int(rule.tax_least_florins) + int(rule.closings_florins)
    each = fund_florins * BPS // (rule.share_bps * max(1, seats)) - base
    wanted = each * BPS * YEAR_DAYS * rule.day_blocks // (rule.rate_bps * max(1, blocks))
    low, high = held * STEP_DOWN_BPS // BPS, held * STEP_UP_BPS // BPS
    return max(int(rule.bond_least_florins), min(high, max(low, wanted)))


def carried_after(
    carried: Carried, census: Census, rule: BondedParameters, *, fund_florins: int, from_height: int, to_height: int
) -> Carried:
    """What the next airdrop starts from: the seats, the least bond from the cut-off on, the mode."""
    bound = carried.bound + 1 if census.bound else 0
    held = bond_least(carried, rule)
    blocks = to_height - from_height + 1
    made = next_bond_least(rule, held, fund_florins, len(census.members), blocks)
    steps = (*carried.steps, BondStep(to_height + 1, Florins(made))) if made != held else carried.steps
    return Carried(
        seats=tuple(member.did for member in census.members),
        steps=steps[-MINTED_BOND:],
        strict=bound >= STRICT_AFTER,
        bound=bound,
    )

"""The figures of a network that its community may change, as one signed, versioned set.

Version 1 stands in the network's profile and is signed with it. Every later set names its number, the hash of the set
before it and the height from which it holds, and is signed by more than half of the profile's council (charter.py). A
set is checked here and nowhere else: against the constitution's bounds, and against the set before it, of which no
figure may differ by more than a quarter. The vote that decides about a set is none of this module's business.

Source: mechanisms.md §2.2 and §3.1, settled.md 32, money.md §6.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec

from common.codec import Wire, to_plain
from common.errors import BadSettings
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.quality import DAY_BLOCKS
from common.units import BPS, FLOP, Florins

FORM = 1  # of the struct below: a program that reads form 1 cannot read a later one
SETS_MAX = 1_000
STEP_TOP, STEP_BOTTOM = 5, 4  # a figure grows to at most 5/4 and falls to at least 4/5 at once
EASY_CENT = Florins(FLOP // 100)


class ParametersRefused(BadSettings):
    """Parameter set {version} of {path} is refused: {reason}."""

    code = 1160
    key = "parameters-refused"


class BondedParameters(Wire, frozen=True):
    """Rule `bonded`: what makes a node a verified active one, and the share that no fake can profit by."""

    day_blocks: int = DAY_BLOCKS  # all days of this rule in blocks; fewer on a network that is only tried out
    bond_least_florins: Florins = Florins(10 * FLOP)  # B_min at the start; later ones follow from the payouts
    bond_days: int = 180  # it is locked for so long when it is made
    bond_left_days: int = 30  # and for so long still at the cut-off
    tax_least_florins: Florins = Florins(FLOP // 20)  # t_min, half the tax of each settled job
    counterparties: int = 3
    presence_days: int = 7
    presence_bps: int = 8_000  # of the slots of those days
    age_days: int = 30
    age_early_days: int = 7  # while the network itself is younger than `early_days`
    early_days: int = 90
    one_per_net: bool = True  # one seat per IPv4 /24 or IPv6 /48
    asn_seats_bps: int = 500  # of all seats at one ASN
    asn_map: str = ""  # SHA-256 of the map from networks to ASNs; empty: this network has none
    standing_milli: int = 1_000
    fault_free_days: int = 90
    new_seats_bps: int = 1_000  # of last time's seats may be new ones
    new_seats_least: int = 20
    rate_bps: int = 500  # r0: what locked coins cost their owner in a year
    share_bps: int = 9_000  # phi: a share is at most this part of an identity's cost
    closings_florins: Florins = EASY_CENT  # chain fees that one identity cannot do without


class SweepParameters(Wire, frozen=True):
    """When collectors' coins are brought into the fund."""

    every_blocks: int = DAY_BLOCKS
    least_florins: Florins = Florins(FLOP)  # below that they wait


class AirdropParameters(Wire, frozen=True):
    """When the fund is handed back, to whom, and how small a share may be."""

    threshold_florins: Florins = Florins(100 * FLOP)
    rule: Literal["full", "bonded"] = "full"
    min_reputation: float = 0.5  # compares with Q, 0 to 1
    max_nodes: int = 1000
    carry_below_florins: Florins = Florins(FLOP // 10)
    evidence_blocks: int = 4  # how long custodians exchange what they hold after the cut-off, blocks
    heartbeat_s: int = 3600  # a node whose last heartbeat is older is not active, seconds
    bonded: BondedParameters = BondedParameters()
    sweep: SweepParameters = SweepParameters()


class ParameterSet(Wire, frozen=True):
    """One version of the figures. `before`: hash of the set before it, empty for the first."""

    form: int
    network: str
    version: int
    before: str
    from_height: int
    tax_bps: int
    airdrop: AirdropParameters


def set_bytes(one: ParameterSet) -> bytes:
    """What is signed: the same for every spelling of the same file."""
    return json.dumps(to_plain(one), sort_keys=True, separators=(",", ":")).encode()


def set_id(one: ParameterSet) -> str:
    """The name of a set (hex)."""
    return tagged_hash(Purpose.PARAMETERS, set_bytes(one)).hex()


def next_set(held: ParameterSet, *, from_height: int, **changes: Any) -> ParameterSet:
    """The set after `held` with these changes, for founders to sign."""
    return msgspec.structs.replace(
        held, version=held.version + 1, before=set_id(held), from_height=from_height, **changes
    )


def in_force(sets: Sequence[ParameterSet], height: int) -> ParameterSet:
    """The latest of the sets that holds at this height; before the second holds, the first."""
    holding = [one for one in sets if one.from_height <= height]
    return holding[-1] if holding else sets[0]


# what no set may say


def chain_problem(sets: Sequence[ParameterSet], network: str, *, is_main: bool) -> tuple[int, str]:
    """The first set of a history that does not fit, and why; 0 and nothing when all do."""
    if len(sets) > SETS_MAX:
        return len(sets), f"a network has at most {SETS_MAX} sets"
    for one in sets:
        problem = form_problem(one.form) or set_problem(one, is_main=is_main)
        if one.network != network:
            problem = f"it is of network {one.network[:16]}…, not {network[:16]}…"
        if problem:
            return one.version, problem
    for held, new in pairwise(sets):
        problem = step_problem(held, new)
        if problem:
            return new.version, problem
    return 0, ""


def form_problem(form: object) -> str:
    """Why this program cannot read a set of this form, or an empty string."""
    if form == FORM:
        return ""
    if isinstance(form, int) and form > FORM:
        return f"its form {form} is newer than this program reads ({FORM}): update the program"
    return f"its form {form!r} is unknown: forms begin with {FORM}"


def version_problem(theirs: int, ours: int) -> str:
    """What to do when somebody else's statement names another version than this node has, or an empty string."""
    if theirs == ours:
        return ""
    if theirs > ours:
        return (
            f"it is made under parameter set {theirs}, this node has {ours}: "
            "get the newer set and take it with `duxnet parameters apply`"
        )
    return f"it is made under parameter set {theirs}, {ours} holds by now: its maker has to take the newer set"


def step_problem(held: ParameterSet, new: ParameterSet) -> str:
    """Why a set does not follow another, or an empty string."""
    if new.version != held.version + 1:
        return f"it is version {new.version}, the one after {held.version} is needed"
    if new.before != set_id(held):
        return f"it does not rest on version {held.version} as it stands here"
    if new.from_height <= held.from_height:
        return f"it has to hold from a later height than {held.from_height}"
    old, now = _figures(held), _figures(new)
    for name in sorted(old):
        if not _is_step(old[name], now[name]):
            return f"{name} goes from {old[name]} to {now[name]}: a quarter at once is the most"
    return ""


def _is_step(old: int, new: int) -> bool:
    return new == old or (old * STEP_BOTTOM <= new * STEP_TOP and new * STEP_BOTTOM <= old * STEP_TOP)


def _figures(one: ParameterSet) -> dict[str, int]:
    """What the constitution lets grow and fall in steps only."""
    airdrop, bonded = one.airdrop, one.airdrop.bonded
    return {
        "tax_bps": one.tax_bps,
        "airdrop.threshold_florins": int(airdrop.threshold_florins),
        "airdrop.max_nodes": airdrop.max_nodes,
        "airdrop.bonded.bond_least_florins": int(bonded.bond_least_florins),
        "airdrop.bonded.share_bps": bonded.share_bps,
        "airdrop.bonded.rate_bps": bonded.rate_bps,
    }


def set_problem(one: ParameterSet, *, is_main: bool) -> str:
    """What no set may say, on any network and on main, or an empty string."""
    found = bounds_problem(one.tax_bps, one.airdrop)
    if found or not is_main:
        return found
    bonded = one.airdrop.bonded
    main = {
        "airdrop.threshold_florins": (int(one.airdrop.threshold_florins), 50 * FLOP, 1_000 * FLOP),
        "airdrop.max_nodes": (one.airdrop.max_nodes, 100, 2_900),
        "airdrop.bonded.bond_least_florins": (int(bonded.bond_least_florins), 10 * FLOP, 10_000 * FLOP),
        "airdrop.bonded.day_blocks": (bonded.day_blocks, DAY_BLOCKS, DAY_BLOCKS),
    }
    return _outside(main)


def bounds_problem(tax_bps: int, airdrop: AirdropParameters) -> str:
    """Bounds that hold on every network: mechanisms.md §3.1 (constitution) and what the rule can compute with."""
    if not 0 <= tax_bps <= 1000:  # noqa: PLR2004
        return "tax_bps must be between 0 and 1000"
    if not 0 <= airdrop.min_reputation <= 1:
        return "airdrop.min_reputation must be between 0 and 1"
    rule, sweep = airdrop.bonded, airdrop.sweep
    return _outside(
        {
            "airdrop.threshold_florins": (int(airdrop.threshold_florins), FLOP // 100, 1_000_000 * FLOP),
            "airdrop.max_nodes": (airdrop.max_nodes, 1, 2_900),
            "airdrop.carry_below_florins": (int(airdrop.carry_below_florins), FLOP // 100, FLOP * 10),
            "airdrop.evidence_blocks": (airdrop.evidence_blocks, 0, DAY_BLOCKS),
            "airdrop.bonded.day_blocks": (rule.day_blocks, 1, DAY_BLOCKS),
            "airdrop.bonded.bond_least_florins": (int(rule.bond_least_florins), FLOP // 100, 10_000 * FLOP),
            "airdrop.bonded.bond_days": (rule.bond_days, 1, 720),
            "airdrop.bonded.bond_left_days": (rule.bond_left_days, 0, rule.bond_days),
            "airdrop.bonded.tax_least_florins": (int(rule.tax_least_florins), 1, 100 * FLOP),
            "airdrop.bonded.counterparties": (rule.counterparties, 1, 100),
            "airdrop.bonded.presence_days": (rule.presence_days, 1, 7),
            "airdrop.bonded.presence_bps": (rule.presence_bps, 0, BPS),
            "airdrop.bonded.age_early_days": (rule.age_early_days, 0, rule.age_days),
            "airdrop.bonded.asn_seats_bps": (rule.asn_seats_bps, 1, BPS),
            "airdrop.bonded.new_seats_bps": (rule.new_seats_bps, 0, BPS),
            "airdrop.bonded.rate_bps": (rule.rate_bps, 1, 1_000),
            "airdrop.bonded.share_bps": (rule.share_bps, 1, 9_500),
            "airdrop.sweep.every_blocks": (sweep.every_blocks, 1, 30 * DAY_BLOCKS),
            "airdrop.sweep.least_florins": (int(sweep.least_florins), FLOP // 20, 1_000 * FLOP),
        }
    )


def _outside(bounds: dict[str, tuple[int, int, int]]) -> str:
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            return f"{name} must be between {low} and {high}"
    return ""

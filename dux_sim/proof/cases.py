"""Which worlds are walked: every script and policy, everybody's part, every panel, and the allowance of each.

A part is honest (and may die or crash by accident), silent from the beginning, or lying; arbiters who lie are bought.
A case without an honest party protects nobody and is left out. Panels are counted, not named: arbiters are alike.
A case all of whose histories another case has, too, is left out of the long form (`inclusion`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from common.chain.contract import Policy
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from dux_sim.proof.cast import NAMES, PRICE, PROOF, B, Funding, S, Setting, deal_for
from dux_sim.proof.states import Allowance

ONE: Allowance = (1, 1, 1, 1)  # one accident, lie or whim anywhere
LIE: Allowance = (0, 1, 1, 1)  # no accidents
TWO_WHIMS: Allowance = (0, 0, 2, 2)
PARTS: Allowance = (1, 1, 2, 3)
TWO: Allowance = (2, 2, 1, 2)
STATES_MAX = 100_000  # per case; what is cut off is told
SPIKE_AND_LIE: Allowance = (1, 1, 0, 2)
SPIKE_AND_MORE: Allowance = (2, 0, 0, 2)
DEAR = 5  # times the usual fee: of three steps two are worth it
LATE_DELIVER_BLOCKS = 6  # a late coin has START's blocks before it, and half of these
LATE = (Funding.SEEN, Funding.LATE)
DEEP_STATES_MAX = 400_000  # where two accidents anywhere are walked to the end


class Script(msgspec.Struct, frozen=True):
    """A script with a policy."""

    name: str
    lock: bool
    policy: Policy
    swap_limit: int = PRICE


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One world to walk."""

    name: str
    setting: Setting
    left: Allowance
    states_max: int = STATES_MAX
    eager: bool = False  # lies also between the messages of one block


SCRIPTS = (
    Script("E+h standby", lock=True, policy=Policy.STANDBY),
    Script("E+h swap", lock=True, policy=Policy.SWAP),
    Script("E+h swap above its limit", lock=True, policy=Policy.SWAP, swap_limit=PRICE - 1),
    Script("E", lock=False, policy=Policy.STANDBY),
)
PARTIES = {  # name: liars, silent, what the work is worth
    "both honest": ((), (), PRICE),
    "seller lies, good work": ((S,), (), PRICE),
    "seller lies, bad work": ((S,), (), 0),
    "seller silent": ((), (S,), PRICE),
    "buyer lies": ((B,), (), PRICE),
    "buyer silent": ((), (B,), PRICE),
}
HALVES = {  # the same for work of which arbiters find a half worth paying: partial awards
    "both honest, half the work": ((), (), PRICE // 2),
    "seller lies, half the work": ((S,), (), PRICE // 2),
    "buyer lies, half the work": ((B,), (), PRICE // 2),
    "buyer silent, half the work": ((), (B,), PRICE // 2),
}


def case_of(
    script: Script, who: str, *, bought: int = 0, silent: int = 0, seats: int = 3, left: Allowance = ONE,
    states_max: int = STATES_MAX, eager: bool = False, parts: bool = False,
) -> Case:  # fmt: skip
    """A case by its parts."""
    liars, quiet, worth = (PARTIES | HALVES)[who]
    panel = NAMES[:seats]
    deal = deal_for(lock=script.lock, policy=script.policy, profile=PROOF, seats=seats, swap_limit=script.swap_limit)
    setting = Setting(
        deal=deal, panel=panel, worth_florins=worth, liars=frozenset({*liars, *panel[:bought]}),
        silent=frozenset({*quiet, *panel[seats - silent :]}), delay_blocks=10**6, censored_blocks=10**6, parts=parts,
    )  # fmt: skip
    honest = seats - bought - silent
    offered = ", parts by agreement" if parts else ""
    name = f"{script.name}; {who}{offered}; panel of {seats}: {honest} honest, {bought} bought, {silent} silent"
    return Case(name=f"{name}; allowance {left[3]}", setting=setting, left=left, states_max=states_max, eager=eager)


def late_case(script: Script, who: str, funding: Funding, *, left: Allowance = ONE, bought: int = 0) -> Case:
    """A case in which the payment comes too late, with time enough to let it count."""
    case = case_of(script, who, bought=bought, left=left)
    deal = deal_for(
        lock=script.lock, policy=script.policy, profile=PROOF, swap_limit=script.swap_limit, deliver=LATE_DELIVER_BLOCKS
    )
    setting = replace(case.setting, deal=deal, funding=funding)
    return replace(case, name=f"{case.name}; funded {funding.value}", setting=setting)


def stray_case(script: Script, who: str, florins: int, *, left: Allowance = ONE, silent: int = 0) -> Case:
    """A case in which the buyer's wallet pays a second time, after fund_by."""
    case = case_of(script, who, silent=silent, left=left)
    what = "a second payment" if florins == case.setting.deal.lot_florins else "a small stray"
    return replace(case, name=f"{case.name}; {what}", setting=replace(case.setting, stray_florins=florins))


def stray_cases() -> list[Case]:
    """A stray beside a live lot, with everybody's part in it."""
    again = int(deal_for(profile=PROOF).lot_florins)
    found = [stray_case(SCRIPTS[0], who, again, left=LIE) for who in ("both honest", "buyer lies", "seller silent")]
    return [*found, stray_case(SCRIPTS[3], "both honest", again - 1, left=LIE)]


def ladder_case(script: Script, who: str, *, left: Allowance = ONE, dear: bool = False, bought: int = 0) -> Case:
    """A case in which fees may rise; `dear`: two steps are worth it, and miners may want the third."""
    case = case_of(script, who, bought=bought, left=left)
    deal = deal_for(lock=script.lock, policy=script.policy, profile=PROOF, swap_limit=script.swap_limit, ladder=True)
    rate = DEAR * FEE_RATE_FLORINS_PER_KB if dear else FEE_RATE_FLORINS_PER_KB
    until = deal.heights.timeout + 2 if dear else 10**6
    setting = replace(case.setting, deal=deal, ladder=True, fee_rate_florins_per_kb=rate, spike_until=until)
    return replace(case, name=f"{case.name}; fees may rise{' above the ladder' if dear else ''}", setting=setting)


def ladder_cases() -> list[Case]:
    """The ladder of every way out: release, cancel, award, refund; and one that ends too early."""
    found = [ladder_case(SCRIPTS[0], who) for who in ("both honest", "buyer silent", "seller silent")]
    return [*found, ladder_case(SCRIPTS[3], "both honest"), ladder_case(SCRIPTS[0], "buyer silent", dear=True)]


def every_ladder_case() -> list[Case]:
    """Every script and part; and with a second accident, lie or whim beside the spike."""
    found = [ladder_case(script, who, dear=dear) for script in SCRIPTS for who in PARTIES for dear in (False, True)]
    found += [ladder_case(SCRIPTS[0], who, left=SPIKE_AND_LIE) for who in ("buyer lies", "seller lies, good work")]
    deep = [replace(ladder_case(SCRIPTS[0], who, left=SPIKE_AND_MORE), states_max=DEEP_STATES_MAX)
            for who in ("both honest", "seller silent")]  # fmt: skip
    return [*deep, *(case for case in found if inclusion(case) is None)]


def late_cases() -> list[Case]:
    """Late funding: each way it may come, and everybody's part in it."""
    found = [late_case(SCRIPTS[0], "both honest", way) for way in LATE]
    found += [late_case(SCRIPTS[0], who, Funding.LATE, left=LIE) for who in ("buyer lies", "seller lies, good work")]
    return found


def every_late_case() -> list[Case]:
    """The same with accidents beside the lies, for every script and part, and with a bought arbiter."""
    found = [late_case(script, who, way) for script in SCRIPTS for who in PARTIES for way in LATE]
    bought = [late_case(SCRIPTS[0], who, Funding.LATE, bought=1) for who in ("both honest", "buyer lies")]
    return [*bought, *(case for case in found if inclusion(case) is None)]


def every_stray_case() -> list[Case]:
    """Every script and part, with what is too little and with what is enough."""
    again = int(deal_for(profile=PROOF).lot_florins)
    found = [stray_case(script, who, much) for script in SCRIPTS for who in PARTIES for much in (again, again - 1)]
    return [case for case in found if inclusion(case) is None]


def quick_cases() -> list[Case]:
    """The short form: every script, every part, the panels at which something changes."""
    found = [case_of(SCRIPTS[0], parties) for parties in PARTIES]
    found += [case_of(SCRIPTS[0], parties, bought=1) for parties in ("both honest", "buyer lies")]
    found += [case_of(SCRIPTS[0], parties, silent=2) for parties in ("buyer lies", "seller lies, bad work")]
    found += [case_of(SCRIPTS[0], parties) for parties in ("buyer silent, half the work", "seller lies, half the work")]
    found += [
        case_of(SCRIPTS[0], "seller lies, bad work", seats=seats, bought=seats // 2, left=LIE) for seats in (5, 7)
    ]
    found += [case_of(SCRIPTS[0], "both honest", left=TWO_WHIMS, parts=True)]
    for script in SCRIPTS[1:]:
        found += [case_of(script, parties) for parties in ("both honest", "seller lies, bad work", "buyer silent")]
    return [*found, *late_cases(), *stray_cases(), *ladder_cases()]


def full_cases() -> list[Case]:
    """Everything, deepest first, so that two processes end together; what another case has in it is left out."""
    deep = [
        case_of(script, parties, left=TWO, states_max=DEEP_STATES_MAX if parties == "both honest" else STATES_MAX)
        for script in (SCRIPTS[0], SCRIPTS[3])
        for parties in ("both honest", "buyer lies", "seller lies, bad work")
    ]
    eager = [case_of(SCRIPTS[0], parties, bought=1, eager=True) for parties in ("buyer lies", "seller lies, good work")]
    return [
        *deep,
        *eager,
        *every_late_case(),
        *every_stray_case(),
        *every_ladder_case(),
        *(case for case in broad_cases() if inclusion(case) is None),
    ]


def broad_cases() -> list[Case]:
    """Every part with every panel, before any is left out."""
    return [*_larger_panels(), *_halves(), *_every_panel()]


def inclusion(case: Case) -> Setting | None:
    """The world of another case that has every history of this one, judged by the same laws; None: there is none.

    Who is silent takes no fact and has no move, and who lies takes no fact either and may leave every move that its
    keys allow: for the transitions, a silent buyer is one that lies, a silent arbiter one that is bought. What may
    still differ: the bought move together, so the first that is bought takes no move of others away, the second does;
    who is bought answers pings, which only standby reads; and which laws are asked: none of a buyer that is not honest,
    and of the bought only whether they are k. So it goes for a buyer always, for one arbiter where none is bought and
    nobody pings. `tests/sim/test_proof_cases.py` walks both side by side.
    """
    setting = case.setting
    bought = setting.liars & set(setting.panel)
    quiet = sorted(setting.silent & set(setting.panel))
    if B in setting.silent:
        return replace(setting, liars=setting.liars | {B}, silent=setting.silent - {B})
    reads_pings = setting.deal.lock and setting.deal.policy is Policy.STANDBY
    if quiet and not bought and not reads_pings:
        return replace(setting, liars=setting.liars | {quiet[0]}, silent=setting.silent - {quiet[0]})
    return None


def _every_panel() -> Iterator[Case]:
    for script in SCRIPTS:
        for parties in PARTIES:
            for bought in range(4):
                for silent in range(4 - bought):
                    yield case_of(script, parties, bought=bought, silent=silent)


def _halves() -> Iterator[Case]:
    """Partial awards, at the edges of the quorum."""
    for script in SCRIPTS:
        for parties in HALVES:
            for bought, silent in ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1)):
                yield case_of(script, parties, bought=bought, silent=silent)
        for parties in ("both honest", "both honest, half the work", "buyer lies", "seller lies, half the work"):
            yield case_of(script, parties, left=PARTS, parts=True)


def _larger_panels() -> Iterator[Case]:
    """3 of 5 and 4 of 7, at the edge of the quorum and beyond it; those of five with accidents, too."""
    for seats, left in ((5, ONE), (7, LIE)):
        most = (seats - 1) // 2
        for parties in PARTIES:
            for bought, silent in ((0, 0), (most, 0), (most + 1, 0), (0, most), (0, most + 1), (1, most)):
                yield case_of(SCRIPTS[0], parties, seats=seats, bought=bought, silent=silent, left=left)

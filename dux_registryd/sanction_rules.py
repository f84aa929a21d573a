"""Who is kept from duties, lists or this node's door, why, and until when. Pure: figures and the time come in.

Two sources, shown apart: the operator of this node (local, honoured here alone) and the rules (everybody finds the same
from the same evidence). Every sanction ends by itself but a ban for three proven faults: its expiry is the appeal.

Source: mechanisms.md §1.1 (faults; below s = 1; silence).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from common.units import Did
from dux_registryd.fault_rules import AGAIN_DAYS, DAY_MS, SUSPENDED_DAYS, Penalty
from dux_registryd.model import Sanction, State

SILENT_DAYS = 30
OPERATOR, RULES = "operator", "rules"


WORST = (State.BANNED, State.SUSPENDED, State.RELIEVED, State.FROZEN)


def by_rules(did: Did, penalty: Penalty, *, low_by: str, heard_ms: int, now_ms: int) -> list[Sanction]:
    """What the rules keep from a node. `low_by`: what has its standing below 1; empty: it is not."""
    found = []
    if penalty.banned:
        text = f"{penalty.faults} proven faults"
        found.append(Sanction(did, State.BANNED, text, "duxos-node-registry faults", RULES, 0, None))
    elif penalty.suspended_until_ms > now_ms:
        text = f"a second proven fault within {AGAIN_DAYS} days"
        since, until = penalty.suspended_until_ms - SUSPENDED_DAYS * DAY_MS, penalty.suspended_until_ms
        found.append(Sanction(did, State.SUSPENDED, text, "duxos-node-registry faults", RULES, since, until))
    if low_by:
        text = f"its standing is below 1, with {low_by} on its books"
        found.append(Sanction(did, State.RELIEVED, text, "duxnet why node", RULES, 0, None))
    if heard_ms and now_ms - heard_ms > SILENT_DAYS * DAY_MS:
        text = f"silent for more than {SILENT_DAYS} days"
        found.append(Sanction(did, State.FROZEN, text, "", RULES, heard_ms + SILENT_DAYS * DAY_MS, None))
    return found


def causes_of(bad_florins: int, by_audits: int) -> str:
    """What is bad on a node's books, in words: its lost contracts, its failed audits, or both."""
    causes = (("lost contracts", bad_florins - by_audits), ("a failed audit", by_audits))
    return " and ".join(words for words, florins in causes if florins > 0)


def in_force(local: Sequence[Sanction], now_ms: int) -> list[Sanction]:
    """An operator's sanctions that have not ended."""
    return [one for one in local if one.until_ms is None or one.until_ms > now_ms]


def worst(sanctions: Collection[Sanction]) -> State | None:
    """The heaviest of several states; None of none."""
    return next((state for state in WORST if any(one.state is state for one in sanctions)), None)


def may_serve(sanctions: Collection[Sanction]) -> bool:
    """Whether a node may be drawn for a duty."""
    return not sanctions


def may_be_listed(sanctions: Collection[Sanction]) -> bool:
    """Whether a node stands on lists that do not ask for sanctioned ones."""
    return worst(sanctions) not in (State.BANNED, State.SUSPENDED)

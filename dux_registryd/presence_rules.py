"""When a node counts as present: by what drawn challengers saw in each slot, never by what it says.

A slot is a stretch of the chain (`slot_blocks`, ten minutes). In each, about ten challengers draw themselves for every
node (look_rules.py); the slot is up if four neighbourhoods of them saw it (where there are fewer than ten, half of
them), a day is good if four of five of its slots are up. A node that sleeps cannot buy that; a coalition that can must
hold nearly half of all weight.

Source: mechanisms.md §2.4, where seven are drawn in public and three are enough; docs/decisions/secret-draws.md says
why it is ten and four of those who draw themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.chain.beacon import WORKS
from common.network import PresenceParameters
from common.quality import DAY_BLOCKS
from common.units import BPS, Did
from common.witness import Sighting
from dux_registryd.draw_rules import commonest, known_net
from dux_registryd.rules import WITNESS_BLOCKS

SETTLED_BLOCKS = 2  # the draw of a slot looks so far below its start that a reorganisation rarely changes it
GRACE_SLOTS = 2  # after which a slot's sightings have arrived everywhere
KNOWN_BLOCKS = WITNESS_BLOCKS + WORKS  # a heartbeat may name a block so far back; a beacon's first work is so far below
WINDOW_DAYS = 7  # over which the share of slots up is told


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot of one node as judged here."""

    slot: int
    drawn: int  # challengers' seats that there were
    seen: int  # of them, whose saw it
    up: bool
    net: str = ""  # the neighbourhood that most of them saw it in


def slot_of(height: int, rules: PresenceParameters) -> int:
    """The slot that a height lies in."""
    return height // rules.slot_blocks


def beacon_height(slot: int, rules: PresenceParameters) -> int:
    """The height whose beacon draws the challengers of a slot."""
    return max(0, slot * rules.slot_blocks - SETTLED_BLOCKS)


def fixed_at(height: int) -> int:
    """The height at which who may be drawn by a height's beacon must have been known: before anything of it was."""
    return height - KNOWN_BLOCKS


def slots_per_day(rules: PresenceParameters) -> int:
    """Slots in a day of blocks."""
    return DAY_BLOCKS // rules.slot_blocks


def day_of(slot: int, rules: PresenceParameters) -> int:
    """The day of blocks that a slot lies in."""
    return slot * rules.slot_blocks // DAY_BLOCKS


def needed_of(drawn: int, rules: PresenceParameters) -> int:
    """How many of the drawn must have seen a node: `needed` of `challengers`; the same part of fewer, at least half.

    Of fewer all may look, and how many come is no chance that the part would have to allow for.
    """
    part = -(-drawn * rules.needed // rules.challengers)
    return part if drawn >= rules.challengers else max(part, (drawn + 1) // 2)


def judged(slot: int, seats: int, seen: int, nets: Iterable[str], rules: PresenceParameters) -> SlotView:
    """A slot from how many seats there are, whose saw the node, and in what network each says it did."""
    net = commonest(known_net(told) for told in nets)
    return SlotView(slot, seats, seen, seats > 0 and seen >= needed_of(seats, rules), net)


def is_good_day(up: int, rules: PresenceParameters) -> bool:
    """Whether so many slots up make a day good."""
    return up * BPS >= slots_per_day(rules) * rules.good_day_bps


def sighting_fault(sighting: Sighting, *, network: str, target: Did, slot: int, beacon: bytes) -> str | None:
    """Why a sighting does not count here, or None; its proof and its signature are not looked at."""
    if sighting.network != network:
        return "it belongs to another network"
    if (sighting.target, sighting.slot) != (target, slot):
        return "it is about another node or slot"
    if sighting.beacon != beacon:
        return "it was drawn by another beacon"
    return None


def uptime_bps(up_slots: int, first_slot: int | None, now_slot: int, rules: PresenceParameters) -> int | None:
    """The share of the window's finished slots that were up, from the first one known; None before there is one."""
    finished = slots_finished(first_slot, now_slot, rules)
    return min(BPS, up_slots * BPS // finished) if finished else None


def slots_finished(first_slot: int | None, now_slot: int, rules: PresenceParameters) -> int:
    """How many finished slots of the window there are from the first one known."""
    if first_slot is None:
        return 0
    return max(0, now_slot - max(first_slot, now_slot - WINDOW_DAYS * slots_per_day(rules)))

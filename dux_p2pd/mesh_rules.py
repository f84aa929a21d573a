"""Who belongs into the mesh of a topic: decided from what is known of each neighbour, in the order that chance gave.

Promise: a mesh holds 6 to 12 neighbours while there are so many of good standing; at least two of them were dialled by
us, so that nodes which only dial us, however many, never fill it; who was pruned is not grafted again for a minute.
Pure: the caller shuffles.

Source: network.md §5, transport_identity.md §3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from common.units import Did
from dux_p2pd.gossip_limits import (
    GRAFTS_PER_BEAT,
    MESH_BEST,
    MESH_HIGH,
    MESH_LOW,
    MESH_OUTBOUND,
    MESH_PER_NET,
    MESH_WANTED,
    OPPORTUNE_AT,
    OPPORTUNE_PEERS,
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A connected node, as far as the mesh is concerned; `net` is its /24 or /48."""

    did: Did
    score: float
    outbound: bool
    net: str


def wants_pruning(members: Sequence[Neighbour], most: int) -> bool:
    """Whether `to_prune` would name anybody."""
    return len(members) > most or any(one.score < 0 for one in members)


def wants_grafting(members: Sequence[Neighbour]) -> bool:
    """Whether `to_graft` would name anybody, were all others free and of good standing."""
    return len(members) < MESH_LOW or sum(one.outbound for one in members) < MESH_OUTBOUND


def to_prune(members: Sequence[Neighbour], most: int = MESH_HIGH) -> list[Did]:
    """Who leaves the mesh: everybody below zero, and of more than `most` those that neither score nor were dialled."""
    good = [one for one in members if one.score >= 0]
    kept = {one.did for one in (_kept(good) if len(good) > most else good)}
    return [one.did for one in members if one.did not in kept]


def _kept(good: Sequence[Neighbour]) -> list[Neighbour]:
    """MESH_WANTED of them: the best, then the outbound ones that are missing, then by lot with few of each net."""
    ranked = sorted(good, key=lambda one: -one.score)
    kept, rest = ranked[:MESH_BEST], [one for one in good if one not in ranked[:MESH_BEST]]
    missing = max(0, MESH_OUTBOUND - sum(one.outbound for one in kept))
    kept += [one for one in rest if one.outbound][:missing]
    rest = [one for one in rest if one not in kept]
    return (kept + _few_of_each_net_first(kept, rest))[:MESH_WANTED]


def _few_of_each_net_first(kept: Sequence[Neighbour], rest: Sequence[Neighbour]) -> list[Neighbour]:
    nets, late = Counter(one.net for one in kept), set()
    for one in rest:
        nets[one.net] += 1
        if nets[one.net] > MESH_PER_NET:
            late.add(one.did)
    return sorted(rest, key=lambda one: one.did in late)


def to_graft(members: Sequence[Neighbour], others: Sequence[Neighbour]) -> list[Did]:
    """Whom to take in, of those who carry the topic and are not in back-off: few at a time.

    The others graft too: if everybody filled up at once, everybody would end with nearly twice as many.
    """
    good = [one for one in others if one.score >= 0]
    wanted = min(GRAFTS_PER_BEAT, MESH_WANTED - len(members)) if len(members) < MESH_LOW else 0
    chosen = good[:wanted]
    missing = MESH_OUTBOUND - sum(one.outbound for one in (*members, *chosen))
    chosen += [one for one in good[wanted:] if one.outbound][: max(0, missing)]
    return [one.did for one in chosen]


def to_graft_for_more(members: Sequence[Neighbour], others: Sequence[Neighbour]) -> list[Did]:
    """Neighbours that gave more than the median of a mesh that gives little: silent ones cannot keep it for ever."""
    if not members or (middle := median(one.score for one in members)) >= OPPORTUNE_AT:
        return []
    return [one.did for one in others if one.score > max(middle, 0.0)][:OPPORTUNE_PEERS]


def graft_fault(asker: Neighbour, members: Sequence[Neighbour], *, in_backoff: bool) -> str | None:
    """Why a neighbour that grafts us is pruned at once, or None."""
    if in_backoff:
        return "its back-off is not over"
    if asker.score < 0:
        return "its score is below zero"
    if asker.outbound:
        return None
    if len(members) >= MESH_HIGH:
        return "the mesh is full"
    if len(members) >= MESH_WANTED and sum(one.net == asker.net for one in members) >= MESH_PER_NET:
        return "its net has its share"
    return None

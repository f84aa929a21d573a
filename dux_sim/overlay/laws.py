"""What must hold of a large network, judged from outside after it has healed.

1. Of the wishes whose parties were honest, there and not parted, 99.9 % were fulfilled, of each kind.
2. A message reached everybody who was there for its whole life on the same side as whoever said it: 99.9 % of them.
3. No daemon ended by itself, no error went unseen, and no life has more tasks than its sessions explain.
4. Everything that grows with what peers do is within its bound, and no pipe outlives both of its ends.
5. Once healed, every honest node is connected.

Each process finds what there is to find of its own nodes; the judgement is of all findings together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from dux_sim.money.laws import Violation
from dux_sim.overlay.people import People
from dux_sim.overlay.world import SETTINGS, Member, OverlayWorld
from dux_sim.world.history import added

SHARE = 0.999
MESSAGE_LIFE_S = 120.0
SETTLED_S = 30.0  # who came later may not have found its place yet
KINDS = ("put", "lookup", "peer call", "job offer")
TASKS_OF_ITS_OWN, TASKS_PER_SESSION = 64, 8
REASONS_SHOWN = 5


@dataclass
class Word:
    """Something said to everybody. `is_void`: its own node did not take it."""

    by: Member
    payload: bytes
    at_s: float
    listeners: tuple[Member, ...]
    is_void: bool = False


class Findings(msgspec.Struct, kw_only=True):
    """What one process found of its own nodes; of all words that were said, by their order."""

    nodes: int
    answered: dict[str, int]
    failed: dict[str, int]
    excused: dict[str, int]
    seconds: dict[str, list[float]]  # by kind of wish
    missed: list[str]  # wishes, in words
    heard: list[int]
    not_heard: list[int]
    void: list[int]  # words that were not said after all
    errors: list[str]
    faulty: list[tuple[int, str, str]]  # node, law, what is wrong
    open_ends: list[int]  # of pipes
    closed_ends: list[int]
    hashes: dict[str, str]
    counts: dict[str, int]
    faults: dict[str, int]
    events: int


def findings(world: OverlayWorld, people: People, words: Sequence[Word]) -> Findings:
    """Of the nodes that this process plays."""
    heard, missed = zip(*(_ears(world, word) for word in words), strict=True) if words else ((), ())
    ends = world.net.ends.values()
    history = world.history
    return Findings(
        nodes=sum(1 for one in world.members if one.is_here),
        answered=dict(people.answered),
        failed=dict(people.failed),
        excused=dict(people.excused),
        seconds=people.seconds,
        missed=people.missed,
        heard=list(heard),
        not_heard=list(missed),
        void=[number for number, word in enumerate(words) if word.is_void],
        errors=world.errors,
        faulty=[*_daemons(world), *_bounds(world), *_healed(world)],
        open_ends=[one.number for one in ends if not one.is_closed],
        closed_ends=[one.number for one in ends if one.is_closed],
        hashes=history.hashes(),
        counts=dict(history.counts),
        faults=dict(history.faults),
        events=history.events,
    )


def together(found: Sequence[Findings]) -> Findings:
    """What all processes found."""
    void = {number for one in found for number in one.void}
    return Findings(
        nodes=sum(one.nodes for one in found),
        answered=added(one.answered for one in found),
        failed=added(one.failed for one in found),
        excused=added(one.excused for one in found),
        seconds={kind: sorted(s for one in found for s in one.seconds.get(kind, ())) for kind in KINDS},
        missed=sorted(text for one in found for text in one.missed),
        heard=_by_word([one.heard for one in found], void),
        not_heard=_by_word([one.not_heard for one in found], void),
        void=sorted(void),
        errors=sorted(error for one in found for error in one.errors),
        faulty=sorted(fault for one in found for fault in one.faulty),
        open_ends=[end for one in found for end in one.open_ends],
        closed_ends=[end for one in found for end in one.closed_ends],
        hashes={name: digest for one in found for name, digest in one.hashes.items()},
        counts=added(one.counts for one in found),
        faults=added(one.faults for one in found),
        events=sum(one.events for one in found),
    )


def _by_word(counts: Sequence[list[int]], void: set[int]) -> list[int]:
    return [0 if number in void else sum(each) for number, each in enumerate(zip(*counts, strict=True))]


def violations(found: Findings) -> list[Violation]:
    """Every law that does not hold of what all processes found together."""
    broken = [*_wishes(found), *_words(found)]
    broken += [Violation("3 no dead task", error) for error in found.errors[:REASONS_SHOWN]]
    broken += [Violation(law, what) for _, law, what in found.faulty]
    still_open = set(found.open_ends)
    idle = [end for end in found.closed_ends if end ^ 1 not in still_open]
    if idle:
        broken.append(Violation("4 bounds", f"{len(idle)} pipes have no open end"))
    return broken


def summary(found: Findings) -> dict[str, int]:
    """The counts that a report shows."""
    counts = {
        "nodes": found.nodes,
        "messages said": len(found.heard) - len(found.void),
        "heard": sum(found.heard),
        "not heard": sum(found.not_heard),
    }
    for kind in KINDS:
        counts |= {
            f"{kind} answered": found.answered.get(kind, 0),
            f"{kind} failed": found.failed.get(kind, 0),
            f"{kind} excused": found.excused.get(kind, 0),
        }
        counts |= {f"{kind} {name} ms": ms for name, ms in _times(found.seconds.get(kind, []))}
    return counts


def _times(seconds: Sequence[float]) -> Iterator[tuple[str, int]]:
    """Of virtual time, from the wish to its fulfilment."""
    taken = sorted(seconds)
    for name, share in (("p50", 0.5), ("p99", 0.99)) if taken else ():
        yield name, round(taken[min(len(taken) - 1, int(len(taken) * share))] * 1000)


def _wishes(found: Findings) -> Iterator[Violation]:
    for kind in KINDS:
        answered, failed = found.answered.get(kind, 0), found.failed.get(kind, 0)
        if failed > (1 - SHARE) * (answered + failed):
            reasons = "; ".join([one for one in found.missed if one.startswith(kind)][:REASONS_SHOWN])
            yield Violation(f"1 answered: {kind}", f"{failed} of {answered + failed} were not: {reasons}")


def _words(found: Findings) -> Iterator[Violation]:
    heard, missed = sum(found.heard), sum(found.not_heard)
    if missed > (1 - SHARE) * (heard + missed):
        yield Violation("2 heard", f"{missed} of {heard + missed} times a message did not come")


def _ears(world: OverlayWorld, word: Word) -> tuple[int, int]:
    """To how many of this process's nodes that had to hear a message it came, and to how many not."""
    those = listeners(world, word)
    heard = sum(word.payload in one.house.heard for one in those)
    return heard, len(those) - heard


def listeners(world: OverlayWorld, word: Word) -> list[Member]:
    """Who of this process was there during all of the message's life, on the side of whoever said it."""
    until_s = word.at_s + MESSAGE_LIFE_S
    if not was_there(word.by, word.at_s, until_s):
        return []
    return [
        one
        for one in word.listeners
        if one.is_here
        and was_there(one, word.at_s - SETTLED_S, until_s)
        and world.were_together(word.by, one, word.at_s, until_s)
    ]


def was_there(member: Member, from_s: float, until_s: float) -> bool:
    """Whether it was up all of this time."""
    if member.left_s is not None and member.left_s < until_s:
        return False
    return all(back_s < from_s or left_s > until_s for left_s, back_s in member.absences)


def _daemons(world: OverlayWorld) -> Iterator[tuple[int, str, str]]:
    tasks = world.tasks_by_life()
    for member in world.members:
        if not member.is_up:
            continue
        count, sessions = tasks.get(f"{member.name}/p2pd", 0), len(member.net.peers.sessions())
        if count > TASKS_OF_ITS_OWN + TASKS_PER_SESSION * sessions:
            yield member.node.number, "3 no dead task", f"{member.name} has {count} tasks for {sessions} sessions"


def _bounds(world: OverlayWorld) -> Iterator[tuple[int, str, str]]:
    most = SETTINGS["peers_max"]
    for member in world.members:
        if member.is_up and (count := len(member.net.peers.sessions())) > most:
            yield member.node.number, "4 bounds", f"{member.name} has {count} sessions, {most} are allowed"


def _healed(world: OverlayWorld) -> Iterator[tuple[int, str, str]]:
    for member in world.members:
        if not member.is_here or member.lies or member.left_s is not None:
            continue
        if not (member.is_up and member.net.peers.sessions()):
            yield member.node.number, "5 healed", f"{member.name} is connected to nobody"

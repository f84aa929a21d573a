"""What must hold of a large network, judged from outside after it has healed.

1. Of the wishes whose parties were honest, there and not parted, 99.9 % were fulfilled, of each kind.
2. A message reached everybody who was there for its whole life on the same side as whoever said it: 99.9 % of them.
3. No daemon ended by itself, no error went unseen, and no life has more tasks than its sessions explain.
4. Everything that grows with what peers do is within its bound, and no pipe outlives both of its ends.
5. Once healed, every honest node is connected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dux_sim.money.laws import Violation
from dux_sim.overlay.people import People
from dux_sim.overlay.world import SETTINGS, Member, OverlayWorld

SHARE = 0.999
MESSAGE_LIFE_S = 120.0
SETTLED_S = 30.0  # who came later may not have found its place yet
KINDS = ("put", "lookup", "peer call", "job offer")
TASKS_OF_ITS_OWN, TASKS_PER_SESSION = 64, 8
REASONS_SHOWN = 5


@dataclass(frozen=True)
class Word:
    """Something said to everybody."""

    by: Member
    payload: bytes
    at_s: float
    listeners: tuple[Member, ...]


def violations(world: OverlayWorld, people: People, words: Sequence[Word]) -> list[Violation]:
    """Every law that does not hold."""
    found = [*_wishes(people), *_words(world, words), *_daemons(world), *_bounds(world), *_healed(world)]
    world.history.exits.update(summary(world, people, words))
    return found


def summary(world: OverlayWorld, people: People, words: Sequence[Word]) -> dict[str, int]:
    """The counts that a report shows."""
    heard, missed = deliveries(world, words)
    found = {"nodes": len(world.members), "messages said": len(words), "heard": heard, "not heard": missed}
    for kind in KINDS:
        found |= {
            f"{kind} answered": people.answered[kind],
            f"{kind} failed": people.failed[kind],
            f"{kind} excused": people.excused[kind],
        }
        found |= {f"{kind} {name} ms": ms for name, ms in _times(people.seconds.get(kind, []))}
    return found


def _times(seconds: Sequence[float]) -> Iterator[tuple[str, int]]:
    """Of virtual time, from the wish to its fulfilment."""
    taken = sorted(seconds)
    for name, share in (("p50", 0.5), ("p99", 0.99)) if taken else ():
        yield name, round(taken[min(len(taken) - 1, int(len(taken) * share))] * 1000)


def _wishes(people: People) -> Iterator[Violation]:
    for kind in KINDS:
        answered, failed = people.answered[kind], people.failed[kind]
        if failed > (1 - SHARE) * (answered + failed):
            reasons = "; ".join([one for one in people.missed if one.startswith(kind)][:REASONS_SHOWN])
            yield Violation(f"1 answered: {kind}", f"{failed} of {answered + failed} were not: {reasons}")


def deliveries(world: OverlayWorld, words: Sequence[Word]) -> tuple[int, int]:
    """To how many of those who had to hear a message it came, and to how many not."""
    heard = missed = 0
    for word in words:
        for one in listeners(world, word):
            if word.payload in one.house.heard:
                heard += 1
            else:
                missed += 1
    return heard, missed


def listeners(world: OverlayWorld, word: Word) -> list[Member]:
    """Who was there during all of the message's life, on the side of whoever said it."""
    until_s = word.at_s + MESSAGE_LIFE_S
    if not was_there(word.by, word.at_s, until_s):
        return []
    return [
        one
        for one in word.listeners
        if was_there(one, word.at_s - SETTLED_S, until_s) and world.were_together(word.by, one, word.at_s, until_s)
    ]


def was_there(member: Member, from_s: float, until_s: float) -> bool:
    """Whether it was up all of this time."""
    if member.left_s is not None and member.left_s < until_s:
        return False
    return all(back_s < from_s or left_s > until_s for left_s, back_s in member.absences)


def _words(world: OverlayWorld, words: Sequence[Word]) -> Iterator[Violation]:
    heard, missed = deliveries(world, words)
    if missed > (1 - SHARE) * (heard + missed):
        yield Violation("2 heard", f"{missed} of {heard + missed} times a message did not come")


def _daemons(world: OverlayWorld) -> Iterator[Violation]:
    for error in world.errors[:REASONS_SHOWN]:
        yield Violation("3 no dead task", error)
    tasks = world.tasks_by_life()
    for member in world.members:
        if not member.is_up:
            continue
        count, sessions = tasks.get(f"{member.name}/p2pd", 0), len(member.net.peers.sessions())
        if count > TASKS_OF_ITS_OWN + TASKS_PER_SESSION * sessions:
            yield Violation("3 no dead task", f"{member.name} has {count} tasks for {sessions} sessions")


def _bounds(world: OverlayWorld) -> Iterator[Violation]:
    most = SETTINGS["peers_max"]
    for member in world.members:
        if member.is_up and len(member.net.peers.sessions()) > most:
            yield Violation(
                "4 bounds", f"{member.name} has {len(member.net.peers.sessions())} sessions, {most} are allowed"
            )
    idle = [line for line in world.net.lines if line.is_over]
    if idle:
        yield Violation("4 bounds", f"{len(idle)} pipes of {len(world.net.lines)} have no open end")


def _healed(world: OverlayWorld) -> Iterator[Violation]:
    for member in world.members:
        if not member.lies and member.left_s is None and not (member.is_up and member.net.peers.sessions()):
            yield Violation("5 healed", f"{member.name} is connected to nobody")

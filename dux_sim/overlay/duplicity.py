"""How fast a proof of fault reaches everybody: one node shows two logs of its name, in the simulator's own time.

The first log is everywhere when the second is shown to one node that knows the name: from then on that node can prove
the fault, and tells it. The name is known to all, as a registered node's is, because it says something to all before;
and it is an hour old when most join, because no key rotates sooner.
With faults, a tenth of the nodes lie and pass no news on, and a tenth of the others are away when it happens and come
back one after another, a second apart; whoever was told nothing asks before money, as escrowd does.

Source: transport_identity.md §2.4, §7.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from common.contracts.p2p import DID_RESOLVE, GOSSIP_PUBLISH, Publish, Resolve
from common.contracts.peer_registry import TOPIC_NODE
from common.errors import DuxError
from common.identity.branch import operational_key
from common.identity.events import rotation, sign_event
from common.identity.log import Log, encode_log, read_log
from common.units import Did
from dux_sim.overlay.spread import JOIN_EVERY_S, SETTLE_S
from dux_sim.overlay.story import HOUR_S
from dux_sim.overlay.world import FIRST, Member, OverlayWorld
from dux_sim.world.coin import cheap_work
from dux_sim.world.keys import keys_of
from dux_sim.world.signatures import judged_once
from dux_sim.world.world import quiet_memory

SHARE = 10  # one in so many lies, one in so many is away
LOOK_EVERY_S, LOOK_LATER_S, LATER_S = 0.01, 0.5, 5.0  # virtual: how exact the times are, at first and afterwards
ARRIVE_S = 5.0  # what is said before is everywhere by then
TOLD_WITHIN_S = 60.0  # how long is waited for those who are told
AWAY_S, BACK_EVERY_S = 5.0, 1.0  # how long before they leave; between two that come back
ASK_AGE_S, ASK_SOURCES = 600, 2  # what escrowd asks for before a contract
OTHER_HAND = 4_000  # the node whose key the second log names next: of nobody here


class Wanted(msgspec.Struct, frozen=True):
    """Among how many nodes, and whether some lie and some are away."""

    nodes: int
    faults: bool
    seed: int = 1


class Refused(msgspec.Struct, frozen=True):
    """What came of it; shares are of the honest nodes, times of those that were there and are told."""

    honest: int
    knew: int  # the name, when the second log was shown
    told: int  # that hold the proof a minute later, by whatever way
    p50_s: float
    p95_s: float
    last_s: float
    were_there: int  # honest and there all the time
    were_there_told: int
    asked: int  # who were told nothing and asked
    asked_refuse: int  # because they hold the proof now
    asked_unsure: int  # because too few nodes confirm the name


def duplicity(wanted: Wanted) -> Refused:
    """Play it to its end; for a process that does nothing else.

    Raises:
        DuxError: a node would not say its word.
    """
    with quiet_memory(), cheap_work(), judged_once():
        world = OverlayWorld(wanted.seed)
        for number in range(wanted.nodes):
            world.add_member(lies=wanted.faults and number >= FIRST and number % SHARE == SHARE - 1)
        try:
            found: Refused = world.run(_play(world, wanted))
            return found
        finally:
            world.close()


async def _play(world: OverlayWorld, wanted: Wanted) -> Refused:
    for number, member in enumerate(world.members):
        world.start(member)
        await asyncio.sleep(HOUR_S if number == FIRST else JOIN_EVERY_S)
    await asyncio.sleep(SETTLE_S)
    at_fault, first, second, *others = [one for one in world.members[FIRST:] if not one.lies]
    did, base = at_fault.node.did, at_fault.net.keeper.log
    await at_fault.node.door("registryd", "p2pd").call(GOSSIP_PUBLISH, Publish(topic=TOPIC_NODE.name, payload=b"here"))
    await asyncio.sleep(ARRIVE_S)
    now_ms = at_fault.net.keeper.now_ms()
    first.net.directory.learn(did, encode_log(_rotated(at_fault, base, at_fault.node.number, now_ms)))
    await asyncio.sleep(ARRIVE_S)
    away = others[::SHARE] if wanted.faults else []
    for member in away:
        world.crash(member)
    await asyncio.sleep(AWAY_S)
    watched = [one for one in world.members if not one.lies and one is not at_fault]
    knew = sum(one.is_up and one.net.directory.get(did) is not None for one in watched)
    second.net.directory.learn(did, encode_log(_rotated(at_fault, base, OTHER_HAND, now_ms)))
    late_s = await _watch(world, watched, away, did)
    untold = [one for one in watched if one.name not in late_s]
    asked = [await _answer(one, did) for one in untold]
    stayed = [one for one in watched if one not in away]
    times_s = sorted(late_s[one.name] for one in stayed if one.name in late_s)
    return Refused(
        honest=len(watched), knew=knew, told=len(late_s),
        p50_s=times_s[len(times_s) // 2], p95_s=times_s[len(times_s) * 95 // 100], last_s=times_s[-1],
        were_there=len(stayed), were_there_told=len(times_s),
        asked=len(asked), asked_refuse=asked.count("disputed"), asked_unsure=asked.count("unsure"),
    )  # fmt: skip


def _rotated(member: Member, base: Log, next_of: int, now_ms: int) -> Log:
    """Its log with one rotation more, which names a key of node `next_of` as the next one."""
    seq = base.tip.seq + 1
    key, after = operational_key(keys_of(member.node.number).branch, seq), keys_of(next_of).branch
    event = rotation(base.envelopes[-1], base.tip, key.public, operational_key(after, seq + 1).public, now_ms)
    return read_log([*base.envelopes, sign_event(event, key)], now_ms=now_ms, inception_bits=0)


async def _watch(world: OverlayWorld, watched: Sequence[Member], away: Sequence[Member], did: Did) -> dict[str, float]:
    """When each of them first held the name to be at fault, in seconds from now; who is away comes back meanwhile."""
    since_s, late_s, back = world.loop.time(), dict[str, float](), list(away)
    while (passed_s := world.loop.time() - since_s) < TOLD_WITHIN_S and len(late_s) < len(watched):
        while back and passed_s >= (len(away) - len(back) + 1) * BACK_EVERY_S:
            world.bring_back(back.pop(0))
        for member in watched:
            if member.name not in late_s and member.is_up and _holds_fault(member, did):
                late_s[member.name] = passed_s
        await asyncio.sleep(LOOK_EVERY_S if passed_s < LATER_S else LOOK_LATER_S)
    return late_s


def _holds_fault(member: Member, did: Did) -> bool:
    known = member.net.directory.get(did)
    return known is not None and not known.log.sound


async def _answer(member: Member, did: Did) -> Literal["disputed", "sound", "unsure"]:
    """What comes of its asking before a contract; unsure: too few answer, or nobody knows the name."""
    asking = Resolve(did=did, max_age_s=ASK_AGE_S, min_sources=ASK_SOURCES)
    try:
        known = await member.node.door("escrowd", "p2pd").call(DID_RESOLVE, asking)
    except DuxError:
        return "unsure"
    return "disputed" if known.disputed else "sound"

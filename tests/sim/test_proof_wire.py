"""Loss and repetition in the escrow's proof: what a lost message comes to, walked beside the late one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from common.codec import canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Did
from dux_escrowd.orders import Word
from dux_escrowd.statements import Place, next_statement, place_of, statement_hash
from dux_escrowd.words import SaidAnswer
from dux_sim.proof.cases import SCRIPTS, case_of
from dux_sim.proof.moves import all_moves
from dux_sim.proof.states import Allowance, Moment, key_of, thaw
from dux_sim.proof.walk import Walk

ONE_MORE: Allowance = (2, 0, 0, 2)
MOMENTS_MAX = 1_500


def after(walk: Walk, moment: Moment, *wanted: Callable[[str], bool]) -> Moment | None:
    """The moment after these moves, one after another; None: one of them is not there."""
    for fits in wanted:
        act = next((act for name, act in walk.ways(moment) if fits(name)), None)
        if act is None:
            return None
        moment = act()
    return moment


def is_named(name: str) -> Callable[[str], bool]:
    return lambda told: told == name


def time_passes(name: str) -> bool:
    return name in ("mail arrives", "a block")


def to_the_next_block(walk: Walk, moment: Moment, first: str) -> Moment | None:
    """After this accident, until the next block has come."""
    height, found = moment.height, after(walk, moment, is_named(first))
    while found is not None and found.height == height:
        found = after(walk, found, time_passes)
    return found


@pytest.mark.parametrize("script", [SCRIPTS[0], SCRIPTS[3]])
def test_what_is_lost_and_sent_again_is_late_by_a_block_and_gone_with_its_sender(script: object) -> None:
    """Every message of many moments: with a sender that lives, lost and late come to the same moment.

    With one that dies before it sends again, what was lost never comes, and what was late does.
    """
    case = case_of(script, "buyer silent", left=ONE_MORE)
    walk = Walk(case.name, case.setting, case.left)
    queue, known, seen = [walk.start()], set(), Counter[str]()
    for moment in queue:  # grows while it is walked
        if moment.left != ONE_MORE:
            continue
        for name, act in list(walk.ways(moment)):
            if name.startswith("lost: "):
                late = name.replace("lost: ", "late: ", 1)
                ends = [to_the_next_block(walk, moment, one) for one in (name, late)]
                assert None not in ends
                assert key_of(ends[0]) == key_of(ends[1]), name  # type: ignore[arg-type]
                seen["again"] += 1
                seen.update(sender_dies(walk, moment, name, late))
            one = act()
            if len(queue) < MOMENTS_MAX and key_of(one) not in known:
                known.add(key_of(one))
                queue.append(one)
    assert seen["again"] >= 20
    assert seen["gone"] >= 10


def sender_dies(walk: Walk, moment: Moment, lost: str, late: str) -> list[str]:
    """What is on its way after the sender's death, for both."""
    sender, receiver = lost.split(" of ")[1].split(" to ")
    dies = is_named(f"{sender.partition('/')[0]} dies")
    ends = [after(walk, moment, is_named(one), dies) for one in (lost, late)]
    if ends[0] is None or ends[1] is None:
        return []
    gone, there = (Counter((m.lane, m.to, m.fact) for m in end.mail if m.to == receiver) for end in ends)
    assert sum((there - gone).values()) == 1
    return ["gone"]


def test_lost_is_asked_only_where_another_accident_may_follow() -> None:
    """With none to follow it would be the late message once more, as the test above shows."""
    for left, asked in (((1, 0, 0, 1), False), (ONE_MORE, True)):
        case = case_of(SCRIPTS[0], "both honest", left=left)
        walk = Walk(case.name, case.setting, left)
        queue, names = [walk.start()], set[str]()
        for moment in queue:  # grows while it is walked
            names |= {move.name[:5] for move in all_moves(thaw(moment, walk.setting, walk.minds), left, eager=False)}
            queue += [act() for name, act in walk.ways(moment) if time_passes(name) or name == "the seller delivers"]
            if len(queue) > 200:
                break
        assert ("late:" in names, "lost:" in names) == (True, asked)


def test_a_statement_that_comes_again_is_the_one_that_is_held() -> None:
    """Whatever its place in the chain, and whatever came since: the inbox leaves it, so nothing is walked twice."""
    me, hashes, chain = Did("did:dux:a"), list[bytes](), []
    for number in range(6):
        said = next_statement(
            net="00" * 32, cid=bytes(tagged_hash(Purpose.JOB, b"c")), signer=me, hashes=hashes, heads={},
            word=Word.ANSWER, said=SaidAnswer(f"answer {number}"), height=100 + number, block="",
        )  # fmt: skip
        digest = statement_hash(canonical(said))
        assert place_of(said, digest, hashes) is Place.NEXT
        hashes.append(digest)
        chain.append((said, digest))
        assert {place_of(*one, hashes) for one in chain} == {Place.KNOWN}

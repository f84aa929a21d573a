"""Letters between nodes, in one process or over a border to another: their order, and what a lost process means."""

import socket
import threading
from contextvars import Context
from typing import Any

import pytest

from dux_sim.overlay.halves import play_in_two
from dux_sim.overlay.laws import together
from dux_sim.overlay.links import Links
from dux_sim.overlay.pipes import host_of, number_of
from dux_sim.overlay.post import AHEAD_S, LETTERS, PARCELS, STEPS, Border, Letter, Post, region_of
from dux_sim.overlay.story import OverlayStory
from dux_sim.world.history import History
from dux_sim.world.loop import Stuck, VirtualLoop
from dux_sim.world.world import quiet_memory

HERE, ALSO_HERE, THERE = 3, 5, 1  # regions 0, 0 and 1
AT_S = 0.03


def test_letters_of_one_moment_come_by_sender_and_behind_the_timers() -> None:
    """Whatever was asked for first."""
    loop, heard = VirtualLoop(), list[str]()  # type: ignore[abstract]
    post = Post(loop, Context())
    post.on("word", heard.append)
    for source, word in ((ALSO_HERE, "5 a"), (HERE, "3 a"), (ALSO_HERE, "5 b")):
        post.send(source, HERE, AT_S, "word", word)
    loop.call_at(AT_S, heard.append, "timer", context=Context())
    loop.run_until(lambda: len(heard) == 4)
    assert heard == ["timer", "3 a", "5 a", "5 b"]


def test_what_comes_over_the_border_takes_its_place_among_the_letters_from_here() -> None:
    """The other process's letter of an earlier sender is heard first; its process is waited for, and not overtaken."""
    ours, theirs = socket.socketpair()
    loop, heard = VirtualLoop(), list[str]()  # type: ignore[abstract]
    post = Post(loop, Context(), Border(ours.fileno()), region=region_of(HERE))
    post.on("word", heard.append)
    post.send(HERE, HERE, 2 * AHEAD_S, "word", "from here")
    post.send(HERE, THERE, 2 * AHEAD_S, "word", "to there")
    other = Border(theirs.fileno())
    early = Letter(2 * AHEAD_S, (THERE << 36) + 1, "word", ("from there",))
    for step in range(3 * STEPS):
        other.give(PARCELS.encode([early] if step == 0 else []))
    loop.run_until(lambda: len(heard) == 2)
    assert heard == ["from there", "from here"]
    assert [one.words for one in LETTERS.decode(other.take())] == [("to there",)]
    theirs.close()
    loop.call_at(9.0, heard.append, "too far", context=Context())
    with pytest.raises(Stuck, match="the other process has ended"):
        loop.run_until(lambda: "too far" in heard)


def test_both_processes_may_testify_at_one_moment() -> None:
    """Neither's word takes the other's place: they are heard one after the other, in the same order on both sides."""
    heard: tuple[list[str], list[str]] = [], []
    ends = socket.socketpair()
    loops = [VirtualLoop() for _ in ends]  # type: ignore[abstract]
    posts = [Post(loops[side], Context(), Border(ends[side].fileno()), region=side) for side in (0, 1)]
    for side, post in enumerate(posts):
        post.on("held", heard[side].append)
        post.testify("held", f"by {side}")
    for step in range(1, 3 * STEPS):
        for loop in loops:
            loop.call_at(step * AHEAD_S / STEPS, lambda: None, context=Context())
    for _ in range(3 * STEPS - 1):
        for loop in loops:
            loop._jump()
            loop._moment()
    assert heard == (["by 0", "by 1"], ["by 0", "by 1"])


def test_two_that_have_much_to_give_do_not_wait_for_each_other() -> None:
    """More than a socket holds, both ways, before either takes."""
    one, other = socket.socketpair()
    here, there = Border(one.fileno()), Border(other.fileno())
    much = bytes(4_000_000)
    here.give(much)
    there.give(much + b"!")
    taken = None
    for _ in range(1000):
        there._push()
        here._push()
        here._poll.poll(0)
        here._pull()
        there._pull()
        if here._parcels and there._parcels:
            taken = here.take(), there.take()
            break
    assert taken == (much + b"!", much)


def test_who_has_finished_waits_for_the_other() -> None:
    """What it gave last gets there although it was too much at once, and the other's last parcels find somebody."""
    one, other = socket.socketpair()
    here, there = Border(one.fileno()), Border(other.fileno())
    much = bytes(4_000_000)
    here.give(much)
    finishing = threading.Thread(target=here.finish)
    finishing.start()
    assert there.take() == much
    assert finishing.is_alive()
    there.give(b"the last one")
    there.finish()
    finishing.join(10)
    assert not finishing.is_alive()
    with pytest.raises(Stuck, match="the other process has ended"):
        there.take()


def test_nothing_gets_from_region_to_region_sooner_than_a_process_runs_ahead() -> None:
    """And the delay of a link is its own, whoever asks first."""
    links = [Links(_NoChance(), History(lambda: 0.0), 3) for _ in range(2)]
    pairs = [(host_of(a), host_of(b)) for a in range(40) for b in range(a)]
    delays = {pair: links[0].delay_s(*pair, 0) for pair in pairs}
    assert {pair: links[1].delay_s(*pair[::-1], 0) for pair in reversed(pairs)} == delays
    far = [delays[pair] for pair in pairs if region_of(number_of(pair[0])) != region_of(number_of(pair[1]))]
    assert min(far) >= AHEAD_S
    assert min(delays.values()) < 0.02
    assert max(delays.values()) < 0.09
    assert [number_of(host_of(number)) for number in (0, 255, 256, 1999)] == [0, 255, 256, 1999]


class _NoChance:
    """Links draw nothing."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.timeout(300)
def test_two_processes_find_what_one_finds() -> None:
    """The same hash of every node, counts, lies, times and pipes that stand at the end."""
    order: dict[str, Any] = {"nodes": 20, "seed": 3, "hours": 0.05, "kinds": ("churn", "partition", "liars")}
    both, why, _ = play_in_two(**order)
    assert why == ""
    with quiet_memory():
        story = OverlayStory(**order)
        alone = together([story.find()])
        story.world.close()
    assert both is not None
    assert both.hashes == alone.hashes
    assert len(alone.hashes) > 20
    for found in (both, alone):
        found.open_ends.sort()
        found.closed_ends.sort()
    assert both == alone
    assert min(both.faults.get(kind, 0) for kind in ("crash", "power lost", "partition", "wrong contacts")) >= 1


@pytest.mark.timeout(120)
def test_a_process_that_breaks_ends_the_history() -> None:
    """With a reason, and without findings of the other half."""
    wrong: Any = "an hour"
    found, why, _ = play_in_two(nodes=8, seed=3, hours=wrong, kinds=())
    assert found is None
    assert "broke" in why

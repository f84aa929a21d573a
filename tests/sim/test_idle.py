"""What has ended costs nothing: found by the simulator, where a day of old contracts made every block slow."""

import pytest

from dux_escrowd import follower
from dux_sim.money.story import MoneyStory
from dux_sim.world.coin import cheap_work
from dux_sim.world.world import quiet_memory


def test_a_spend_is_read_once_and_not_at_every_block_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks come after it, each node that is in the contract reads the spend and writes it down once."""
    read: list[str] = []
    plain = follower.classify

    def classify(*args: object) -> object:
        read.append(str(args[2]))
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(follower, "classify", classify)
    with quiet_memory(), cheap_work():
        story = MoneyStory(4, ())
        assert story.run() == []
    contracts, nodes = len(set(read)), len(story.world.nodes)
    assert story.history.exits["released"] == contracts >= 1
    assert len(read) <= contracts * nodes

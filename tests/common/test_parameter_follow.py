"""A running profile takes later sets at their heights, and nothing that does not hold."""

from pathlib import Path

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import CapturingLogger

from common.clock import ManualClock
from common.errors import NeighbourDown
from common.network import NetworkProfile, save_profile
from common.parameter_file import (
    SignedSet,
    load_network,
    parameters_file,
    taken_sets,
    waiting_file,
    write_sets,
)
from common.parameter_follow import ParameterFollower
from common.parameters import ParametersRefused, next_set
from tests.attacks.registry import attack
from tests.cli.test_parameters import ALONE, by_founder
from tests.identity.log_kit import ICP, LATER_MS

SECOND = next_set(ALONE.first_parameters, from_height=100, tax_bps=400)
THIRD = next_set(SECOND, from_height=200, tax_bps=450)


class Desk:
    """A profile in a file, a daemon's copy of it, and a chain."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "network.yaml"
        save_profile(ALONE, self.path)
        self.network: NetworkProfile = replace(ALONE)
        self.height, self.asked, self.told = 50, 0, 0
        self.said = CapturingLogger()
        log = structlog.wrap_logger(self.said, processors=[], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.follower = ParameterFollower(
            self.path, self.network, self.tip, clock=ManualClock(unix_ms=LATER_MS), log=log, taken=[self.tell],
        )  # fmt: skip

    async def tip(self) -> int:
        self.asked += 1
        if self.height < 0:
            raise NeighbourDown(daemon="flopd", address="", detail="")
        return self.height

    def tell(self) -> None:
        self.told += 1

    async def version_at(self, height: int) -> int:
        self.height = height
        await self.follower.look()
        return self.network.parameters.version


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_sets_begin_at_their_heights(desk: Desk) -> None:
    """Waiting ones wait; what holds is whole: tax, figures and versions at once, told to who has to know."""
    assert await desk.version_at(50) == 1
    write_sets(waiting_file(desk.path), [by_founder(SECOND, "a0", ICP), by_founder(THIRD, "a0", ICP)])
    assert [await desk.version_at(height) for height in (60, 99, 100, 150, 200)] == [1, 1, 2, 2, 3]
    assert (desk.network.tax_bps, desk.network.taxes_bps, desk.told) == (450, {400, 450, 500}, 2)
    assert desk.network.as_signed == ALONE
    asked = desk.asked
    await desk.follower.look()
    assert desk.asked == asked, "nothing waits and nothing changed: nobody is asked"


async def test_a_set_that_was_taken_in_time_is_taken_at_once(desk: Desk) -> None:
    """`apply` after the height writes beside the profile; a start has read it already."""
    await desk.version_at(50)
    write_sets(parameters_file(desk.path), [by_founder(SECOND, "a0", ICP)])
    assert await desk.version_at(120) == 2


async def test_a_crash_between_the_two_files_leaves_sets_that_are_read_once(desk: Desk) -> None:
    """The set in force stands in both, then: a running node takes it, and the next one can be applied."""
    two, three = by_founder(SECOND, "a0", ICP), by_founder(THIRD, "a0", ICP)
    write_sets(waiting_file(desk.path), [two])
    write_sets(parameters_file(desk.path), [two])
    assert await desk.version_at(150) == 2
    assert taken_sets(desk.path) == (two,)
    write_sets(waiting_file(desk.path), [replace(two, signatures=()), three])
    assert taken_sets(desk.path) == (two, three), "the one in force is the one that counts"


def test_a_set_is_written_whole_or_not_at_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle leaves the file as it was, and the node starts."""
    file = parameters_file(desk.path)
    write_sets(file, [by_founder(SECOND, "a0", ICP)])
    before = file.read_bytes()

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_sets(file, [by_founder(SECOND, "a0", ICP), by_founder(THIRD, "a0", ICP)])
    assert file.read_bytes() == before
    assert load_network(desk.path, now_ms=LATER_MS).parameters.version == 2


@attack(
    "registry",
    tries="a later parameter set beside a running node's profile that too few have signed, or that does not follow",
    meets="refused as at a start: the node stays under the sets it has",
)
async def test_what_does_not_hold_is_not_taken(desk: Desk) -> None:
    """Told once; the sets of before stay in force; a right one later is taken."""
    for bad in (SignedSet(parameters=SECOND), by_founder(replace(SECOND, tax_bps=300), "a0", ICP)):
        write_sets(waiting_file(desk.path), [bad])
        with pytest.raises(ParametersRefused):
            await desk.version_at(300)
        assert await desk.version_at(300) == 1
    write_sets(waiting_file(desk.path), [by_founder(SECOND, "a0", ICP)])
    assert await desk.version_at(300) == 2


async def test_a_wallet_that_is_down_is_asked_again(desk: Desk) -> None:
    """No height, no decision; nothing is forgotten."""
    write_sets(waiting_file(desk.path), [by_founder(SECOND, "a0", ICP)])
    with pytest.raises(NeighbourDown):
        await desk.version_at(-1)
    assert await desk.version_at(100) == 2


async def test_the_loop_tells_and_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a bad set nor a wallet that is down ends it."""
    monkeypatch.setattr("common.parameter_follow.LOOK_S", 0.0)
    write_sets(waiting_file(desk.path), [SignedSet(parameters=SECOND)])
    looked: list[int] = []

    async def look() -> None:
        looked.append(1)
        if len(looked) == 3:
            raise KeyboardInterrupt
        desk.height = -1 if len(looked) == 1 else 300
        await plain()

    plain = desk.follower.look
    monkeypatch.setattr(desk.follower, "look", look)
    with pytest.raises(KeyboardInterrupt):
        await desk.follower.run()
    errors = [call.kwargs["event"] for call in desk.said.calls if call.method_name == "error"]
    assert errors == ["parameter set not taken"]

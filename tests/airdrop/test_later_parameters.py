"""airdropd goes on under a later parameter set: new figures for what comes, the old ones for earlier heights."""

from pathlib import Path

import msgspec
import pytest

from common.network import NetworkProfile
from common.parameter_follow import CHANGES
from common.parameters import AirdropParameters, BondedParameters, SweepParameters, next_set
from common.units import FLOP, Florins
from dux_airdropd.figures import figures_by_height
from tests.airdrop.world import World

LATER = AirdropParameters(
    threshold_florins=Florins(120 * FLOP), sweep=SweepParameters(every_blocks=7, least_florins=Florins(2 * FLOP))
)


def take(network: NetworkProfile, airdrop: AirdropParameters) -> None:
    """What the follower of `common.parameter_follow` does when a set of height 50 holds."""
    later = next_set(network.parameters, from_height=50, tax_bps=450, airdrop=airdrop)
    sets = (network.first_parameters, later)
    newer = msgspec.structs.replace(network, tax_bps=450, airdrop=airdrop, parameter_sets=sets)
    for name in CHANGES:
        msgspec.structs.force_setattr(network, name, getattr(newer, name))


@pytest.fixture
async def world(tmp_path: Path):
    made = World(tmp_path, collector=(2, 3))
    for node in made.nodes:
        await node.start()
    yield made
    for node in made.nodes:
        await node.stop()


async def test_a_running_airdropd_works_under_the_later_set(world: World) -> None:
    """Threshold, sweeps and taxes are the later set's; a cut-off before its height keeps the first's."""
    (node, *_), network = world.nodes, world.network
    before = int((await node.status()).threshold_florins)
    by_height = figures_by_height(network)
    assert by_height(60).threshold_florins == before
    take(network, LATER)
    node.daemon.parts.on_parameters[0]()
    assert int((await node.status()).threshold_florins) == 120 * FLOP
    assert [by_height(height).threshold_florins for height in (49, 50)] == [before, 120 * FLOP]
    assert [node.daemon.recount.figures_at(height).parameters for height in (49, 50)] == [1, 2]
    assert node.daemon.recount.window(0, 60, "").taxes_bps == {450, 500}
    sweeper = node.daemon.sweeper
    assert (sweeper._every, {one.source.least_florins for one in sweeper.keepings.values()}) == (7, {2 * FLOP})
    assert [check() for check in node.daemon.parts.problems if check()] == []


async def test_a_set_that_this_node_lacks_a_file_for_is_told(world: World) -> None:
    """The map of networks that the set names is not here: health says so, with what to do."""
    (node, *_), network = world.nodes, world.network
    take(network, AirdropParameters(bonded=BondedParameters(asn_map="ab" * 32)))
    node.daemon.parts.on_parameters[0]()
    assert any("asn_map" in check() for check in node.daemon.parts.problems)

"""Rule `bonded` among real daemons on a real chain: bonds shown, custodians vouch, shares are capped, files hold."""

from __future__ import annotations

from pathlib import Path

from common.contracts import airdrop as ac
from common.contracts import airdrop_fund as af
from common.contracts.airdrop import Phase
from common.parameters import BondedParameters
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_airdropd.file_rules import check_file
from tests.airdrop.world import World

RULE = BondedParameters(
    day_blocks=1,
    presence_days=7,
    bond_least_florins=Florins(2_000 * FLOP // 100),
    bond_days=60,
    bond_left_days=10,
    counterparties=1,
    age_days=2,
    age_early_days=1,
    early_days=1,
    tax_least_florins=Florins(FLOP),
)


async def test_bonded_nodes_get_a_capped_share_and_the_rest_stays(tmp_path: Path) -> None:
    """Three nodes trade, two of them are bonded: both are paid alike, less than they cost; the file proves it."""
    world = World(tmp_path, nodes=5, rule="bonded", bonded=RULE, fund=99 * FLOP)
    await world.start()
    world.bond(0, 20 * FLOP, 100)
    world.bond(1, 20 * FLOP, 100)
    await world.run(1)
    world.announce(*range(5))
    world.trade(0, 1, 60 * FLOP)
    world.trade(2, 0, 60 * FLOP)
    await world.run(12)
    first, second = (world.paid(number) for number in (0, 1))
    assert first == second > FLOP // 10
    assert [world.paid(number) for number in (2, 3, 4)] == [0, 0, 0]
    *later, view = (await world.nodes[4].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
    assert all(one.cutoff_height >= view.cutoff_height + 7 for one in later), "the next one waits for its window"
    assert (view.phase, view.eligible) == (Phase.PAID, 2)
    assert view.change_florins > 90 * FLOP, "what no identity costs stays in the fund"
    told = await world.nodes[0].ask(af.FUND_ACCOUNTS, Empty())
    assert told.difference_florins == 0
    file = (await world.nodes[0].ask(af.AIRDROP_FILE, af.AirdropFileAsked(number=0))).file
    verdict = check_file(file, kind="airdrop", trusted=world.network)
    assert verdict.problems == []
    assert verdict.outcome is not None
    assert verdict.outcome.carried.seats == tuple(sorted(world.nodes[n].did for n in (0, 1)))
    words = (await world.nodes[4].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked(did=world.nodes[2].did))).lines
    assert "heartbeat" in words[0] or "bond" in words[0]
    await world.stop()

"""Running wallets and escrowds take a later parameter set at its height; what was agreed before keeps its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from common import parameter_follow
from common.contracts import channel as c
from common.daemon import DuxOSDaemon
from common.network import NetworkProfile, save_profile
from common.parameter_file import waiting_file, write_sets
from common.parameters import next_set
from common.rpc.method import Empty
from tests.cli.test_parameters import ALONE, by_founder
from tests.escrow.channel_kit import call, is_in, offer, open_channel
from tests.escrow.kit import Net, Node, market, request_id, until
from tests.identity.log_kit import ICP


@pytest.fixture
def profile(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[NetworkProfile, Path]:
    """The network has a council; every daemon knows where its profile lies, and looks often."""
    made, path = replace(net.profile(), council=ALONE.council), tmp_path / "network.yaml"
    save_profile(made, path)
    net.profile = lambda: replace(made)  # type: ignore[method-assign]  # each daemon its own, as in its own process
    plain = DuxOSDaemon.__init__

    def placed(self: Any, *args: Any, **kept: Any) -> None:
        plain(self, *args, **kept)
        self.profile_path = path

    monkeypatch.setattr(DuxOSDaemon, "__init__", placed)
    monkeypatch.setattr(parameter_follow, "LOOK_S", 0.05)
    return made, path


async def tax(node: Node) -> int:
    return (await node.call(c.RULES, Empty())).tax_bps


async def test_running_daemons_take_a_set_at_its_height(net: Net, profile: tuple[NetworkProfile, Path]) -> None:
    """Before the height 5 %, from it on 4 %, nobody restarted; the channel of before pays what its terms say."""
    made, path = profile
    async with market(net, "buyer", "seller") as (buyer, seller):
        lives = [(node.daemon, node.wallet.daemon) for node in (buyer, seller)]
        old = await open_channel(net, buyer, seller)
        later = next_set(made.parameters, from_height=net.height + 6, tax_bps=400)
        write_sets(waiting_file(path), [by_founder(later, "a0", ICP)])
        await call(buyer, seller, await offer(seller))
        await net.mine(2)
        assert [await tax(node) for node in (buyer, seller)] == [500, 500]
        await net.mine_to(later.from_height)
        for node in (buyer, seller):
            await until(lambda node=node: holds(node, 400), f"{node.name} works under the later set")
        new = await open_channel(net, buyer, seller)
        await call(buyer, seller, await offer(seller))
        assert terms_tax(seller, old) == 500
        assert terms_tax(seller, new) == 400
        for chid in (old, new):
            await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=chid))
        await net.mine_until(lambda: all_closed(seller, old, new), "both are closed")
        assert [(node.daemon, node.wallet.daemon) for node in (buyer, seller)] == lives, "nobody was restarted"
        versions = {daemon.network.parameters.version for pair in lives for daemon in pair}
        assert versions == {2}


async def holds(node: Node, tax_bps: int) -> bool:
    wallet = node.wallet.daemon.network.tax_bps
    return await tax(node) == wallet == tax_bps


async def all_closed(seller: Node, *chids: str) -> bool:
    return all([await is_in(seller, chid, "CLOSED") for chid in chids])


def terms_tax(node: Node, chid: str) -> int:
    assert node.daemon is not None
    run: Any = next(loop for name, loop in node.daemon.parts.loops if name == "channel calls")
    return int(run.__self__._counter.ledger.book(chid).terms.tax_bps)

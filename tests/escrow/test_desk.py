"""What an agreement may rest on: a tip that the wallet has read up to, and nothing older."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import structlog

from common.clock import ManualClock
from common.contracts.wallet_chain import CHAIN_TIP, Tip
from common.contracts.wallet_errors import NotSynced
from common.randomness import SeededRandomness
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight
from dux_escrowd.desk import Desk


def desk_whose_wallet_says(*, synced: bool) -> Desk:
    table = MethodTable(log=structlog.get_logger(), clock=ManualClock(), randomness=SeededRandomness(1))

    async def tip(_params: Empty, _ctx: Ctx) -> Tip:
        return Tip(height=BlockHeight(7), hash="0c" * 32, time_s=1, synced=synced, source="core")

    table.serve(CHAIN_TIP, tip)
    unused = Mock()  # the height needs the wallet alone
    return Desk(
        book=unused, flopd=LocalClient(table, "escrowd"), registryd=unused, peers=unused, me=unused, profile=unused,
        settings=unused, clock=ManualClock(), random=SeededRandomness(1), log=structlog.get_logger(),
    )  # fmt: skip


async def test_no_window_is_counted_from_a_tip_that_is_still_being_read() -> None:
    """A node that has just come back puts an offer off; it would have run out as soon as the wallet caught up."""
    with pytest.raises(NotSynced, match="repeat"):
        await desk_whose_wallet_says(synced=False).height()
    assert await desk_whose_wallet_says(synced=True).height() == 7

"""The draw with the chain at hand: the beacon of the draw block, and whether a panel follows from it.

Promise: no panel is signed here that this node's own chain view does not give. A draw block that a reorganisation took
gives another beacon, so the seats are asked for again in the new order until all have agreed; later it does not matter.

Source: escrow_protocol.md §5.
"""

from __future__ import annotations

from common.chain.contract import Contract
from common.contracts import wallet_chain as chain
from common.contracts.escrow import PeerNotReady, TermsDiffer
from common.contracts.peer_escrow import ROLE
from common.units import BlockHeight
from dux_escrowd.agreement import Terms
from dux_escrowd.desk import Desk
from dux_escrowd.draw import is_drawn, panel_problem
from dux_escrowd.lots import Lots
from dux_escrowd.store import Agreed


async def drawn_beacon(desk: Desk, terms: Terms) -> bytes:
    """The beacon of the terms' draw block; empty where nothing is drawn.

    Raises:
        PeerNotReady: the block is not there yet.
    """
    if not is_drawn(terms):
        return b""
    if await desk.height() < terms.draw_height:
        raise PeerNotReady(did="arbiters", method=ROLE.name, detail=f"the draw is at height {terms.draw_height}")
    asked = chain.HeightAsked(height=BlockHeight(terms.draw_height))
    return bytes((await desk.flopd.call(chain.CHAIN_BEACON, asked)).beacon)


async def require_drawn(desk: Desk, lots: Lots, row: Agreed, terms: Terms, contract: Contract) -> None:
    """Nothing happens for the panel that the draw, or the first lot, gives.

    Raises:
        TermsDiffer: another one. PeerNotReady: it cannot be told yet.
    """
    panel = tuple(arbiter.did for arbiter in contract.arbiters)
    if lots.panel(row):
        lots.require_panel(row, panel)
        return
    problem = panel_problem(terms, panel, await drawn_beacon(desk, terms))
    if problem:
        raise TermsDiffer(contract_id=row.contract_id, reason=problem)

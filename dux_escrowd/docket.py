"""What waits for the person behind this node: as buyer, seller or arbiter, until which height, and how to answer.

Pure. Promise: what is listed is what the table would take from a person now; what escrowd or taskd do by themselves is
not listed, but what happens at the due height if nobody acts is said. Commands are written so that they can be copied.

Source: escrow_protocol.md §8, §9.
"""

from __future__ import annotations

from msgspec import Struct

from common.units import format_flop
from dux_escrowd.model import Lot, Role, State

ARGUED = (State.DISPUTED, State.ANSWERED)


class Item(Struct, frozen=True):
    """One thing that waits. `due`: the last height at which it may be done; `otherwise`: what follows without it."""

    what: str
    due: int
    otherwise: str
    commands: tuple[str, ...]


def items(lot: Lot) -> tuple[Item, ...]:
    """All that waits for this node's person about one lot, the most urgent first."""
    if lot.deal.bond:
        return ()
    found = {Role.BUYER: _buyer, Role.SELLER: _seller, Role.ARBITER: _arbiter}[lot.role](lot)
    return tuple(sorted(found, key=lambda item: item.due))


def _buyer(lot: Lot) -> list[Item]:
    heights, name = lot.deal.heights, lot.contract_id
    has_result = lot.state is State.REVEALED or (lot.state is State.DELIVERED and not lot.deal.lock)
    if has_result:
        return [
            Item(
                "judge the result",
                heights.dispute_by - 1,
                "the seller asks the arbiters",
                (
                    f"duxnet escrow judge {name} --good",
                    f"duxnet escrow judge {name} --bad --reason WHY",
                    f"duxnet escrow pay-part {name} FLOP",
                ),
            )
        ]
    if lot.state in ARGUED and lot.delivered_at is not None:
        settle = (f"duxnet escrow pay-part {name} FLOP", f"duxnet escrow judge {name} --good")
        return [Item("settle before the arbiters do", heights.vote_by - 1, "the arbiters decide", settle)]
    return []


def _seller(lot: Lot) -> list[Item]:
    heights, name = lot.deal.heights, lot.contract_id
    found: list[Item] = []
    if lot.part_florins is not None and lot.part_outpoint == lot.outpoint and lot.state in (
        State.DELIVERED, State.REVEALED, *ARGUED,
    ):  # fmt: skip
        part = format_flop(lot.part_florins)
        take = (f"duxnet escrow take-part {name} {part}",)
        found.append(Item(f"the buyer offers {part} FLOP", heights.vote_by, "the arbiters decide", take))
    if lot.state is State.FUNDED and lot.started:
        back = (f"duxnet escrow cancel {name}",)
        what = "few arbiters answer: stop, or deliver" if lot.unattended else "deliver, or give it back"
        found.append(Item(what, heights.deliver_by, "the buyer asks the arbiters", back))
    return found


def _arbiter(lot: Lot) -> list[Item]:
    heights, name = lot.deal.heights, lot.contract_id
    if not lot.case_open or lot.vote_florins is not None or lot.state is not State.ANSWERED:
        return []
    price = format_flop(lot.deal.price_florins)
    vote = (
        f"duxnet escrow evidence {name}",
        f"duxnet escrow vote {name} 0 --reason WHY",
        f"duxnet escrow vote {name} {price} --reason WHY",
    )
    missed = "the others decide without this node, and it is not paid"
    return [Item("look at the evidence and vote", heights.commit_by, missed, vote)]


def is_near(item: Item, tip: int, start_blocks: int) -> bool:
    """A reminder is due: `start_blocks` (60 on main) or fewer are left."""
    return item.due - tip <= start_blocks

"""Both sides as the product's tables move them, every step remembered: nodes and messages are numbers.

Pure. What a table's fact needs of the store stands here as the store has it: acknowledged calls, which voucher came
with which call, the number in the best one. A node and a message give the same node and orders each time, so each pair
is worked out once.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from common.contracts.escrow_base import Refused, WrongPhase
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import Call, Coin, Payee, Payer, Receipt
from dux_escrowd.channel.orders import Order
from dux_escrowd.channel.table import Index, step
from dux_sim.proof.channel.cast import EDGES, NAMES, PAYEE
from dux_sim.proof.channel.sight import Sight
from dux_sim.proof.search import LawBroken

SOUND = Sight()
SILENT = ("at", "archived", "fresh", "offer_valid", "more", "price_florins")


class Node(msgspec.Struct, frozen=True):
    """What one side has on its disk."""

    channel: Payer | Payee
    archive: tuple[Call, ...] = ()  # payee: acknowledged calls
    vouchers: tuple[tuple[int, int], ...] = ()  # payee: j and cum of what came with each call
    head_j: int = 0  # payee: the number in the best voucher


Outcome = tuple[int, tuple[Order, ...]]


class Nodes:
    """All nodes and messages that were met, and what comes of each pair."""

    def __init__(self, tables: tuple[Index, Index], sight: Sight = SOUND) -> None:
        self._tables = tables
        self.sight = sight
        self.nodes: list[Node] = []
        self._node_numbers: dict[Node, int] = {}
        self.facts: list[f.Fact] = []
        self.sides: list[int] = []
        self.labels: list[str] = []
        self.answers: dict[int, bytes | int] = {}  # of answers to the payer: the nonce or the call that they answer
        self._fact_numbers: dict[tuple[int, f.Fact], int] = {}
        self._known: dict[tuple[int, int, int], Outcome | None] = {}
        self.log: list[tuple[int, f.Fact]] | None = None  # who took which fact, where somebody wants to audit it

    def node(self, node: Node) -> int:
        """The node's number."""
        number = self._node_numbers.setdefault(node, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return number

    def fact(self, side: int, fact: f.Fact) -> int:
        """The number of a fact for this side."""
        number = self._fact_numbers.setdefault((side, fact), len(self.facts))
        if number == len(self.facts):
            self.facts.append(fact)
            self.sides.append(side)
            if isinstance(fact, f.HelloBackCame):
                self.answers[number] = fact.nonce
            elif isinstance(fact, f.AnswerCame):
                self.answers[number] = fact.j
            self.labels.append(f"the {NAMES[side]} hears {told(fact)}")
        return number

    def learn(self, node: int, fact: int, edge: int) -> Outcome | None:
        """The node takes the fact at this edge of time; None: it does not fit, and nothing changes."""
        key = (node, fact, edge)
        if key not in self._known:
            self._known[key] = self._learn(self.nodes[node], self.sides[fact], self.facts[fact], EDGES[edge])
        return self._known[key]

    def is_silent(self, node: int, fact: int, edge: int) -> bool:
        """Whether nothing comes of it."""
        outcome = self.learn(node, fact, edge)
        return outcome is None or (outcome[0] == node and not outcome[1])

    def _learn(self, node: Node, side: int, fact: f.Fact, height: int) -> Outcome | None:
        fact = stated(node, fact, height)
        try:
            channel, orders = step(self._tables[side], node.channel, fact)  # type: ignore[type-var]
        except (WrongPhase, Refused):
            return None
        except TypeError as error:
            raise LawBroken(f"the {NAMES[side]}'s table breaks: {error}") from error
        after = replace(node, channel=channel)
        return self.node(_stored(node, after, fact) if side == PAYEE else after), orders


def stated(node: Node, fact: f.Fact, height: int) -> f.Fact:
    """The fact as this node's daemon states it now."""
    fact = replace(fact, at=height)
    return replace(fact, archived=_archived(node, fact)) if isinstance(fact, f.VoucherCame) else fact


def _archived(node: Node, fact: f.VoucherCame) -> Call | None:
    return next((call for call in node.archive if call.j == fact.j or call.oid == fact.oid), None)


def _stored(before: Node, after: Node, fact: f.Fact) -> Node:
    """What the payee's store keeps beside the channel itself, in the same write."""
    was, now = before.channel, after.channel
    left = {call.j for call in now.calls}
    gone = tuple(call for call in was.calls if call.j not in left)
    after = replace(after, archive=(*after.archive, *gone))
    if not isinstance(fact, f.VoucherCame) or not isinstance(was, Payee) or not isinstance(now, Payee):
        return after
    if now.held_florins == fact.cum_florins > was.held_florins:
        after = replace(after, head_j=fact.j)
    if fact.j in left and all(call.j != fact.j for call in was.calls):
        after = replace(after, vouchers=(*after.vouchers, (fact.j, fact.cum_florins)))
    return after


def told(fact: f.Fact) -> str:
    """A fact in a line of a trace: two facts that differ are told differently."""
    shown = (
        f"{key}={_short(value)}"
        for key, value in msgspec.structs.asdict(fact).items()
        if key not in SILENT and value not in (b"", "", (), 0, False, None, Receipt())
    )
    return f"{type(fact).__name__}({', '.join(shown)})"


def _short(value: object) -> str:
    if isinstance(value, Receipt):
        return f"{value.low}/{value.paid_florins}/{value.bits}/{value.root[:2].hex()}"
    if isinstance(value, Coin):
        return f"{value.outpoint[60:64]}@{value.height}"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, tuple):
        return "[" + " ".join(told_call(item) for item in value) + "]"
    return str(value).lstrip("0").partition(":0")[0]


def told_call(shown: f.Shown) -> str:
    """A shown call, shortly."""
    return f"{shown.j}:{shown.oid}:{shown.outcome or 'open'}:{shown.cum_florins}:{shown.charged_florins}"

"""The faults that a history may hold, by name, and how they are done to a world.

A fault is data, so that a schedule of faults can be printed, repeated and made shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from common.errors import CallerMistake
from dux_sim.world.loop import DiesAt

if TYPE_CHECKING:
    from dux_sim.world.world import World

FaultKind = Literal[
    "delay",
    "loss",
    "duplicate",
    "reorder",
    "partition",
    "crash",
    "skew",
    "reorg",
    "malleation",
    "chain-away",
    "mempool",
    "liar",
    "silence",
    "churn",
    "liars",
]
TWIST_WITHIN_BLOCKS = 30
OVERLAY_KINDS: tuple[FaultKind, ...] = ("churn", "partition", "liars")
KINDS: tuple[FaultKind, ...] = tuple(kind for kind in get_args(FaultKind) if kind not in ("churn", "liars"))


class UnknownFault(CallerMistake):
    """There is no fault {name!r}; say all, none, or some of {known}, separated by commas."""

    code = 1140
    key = "unknown-fault"


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault: at which block of the story it begins, how many blocks it lasts, and its figures."""

    kind: FaultKind
    block: int
    blocks: int = 0
    node: int = 0
    daemon: str = ""
    share: float = 0.0  # of messages
    amount: int = 0  # depth of a reorganisation, milliseconds of skew
    turns: int = 0  # of the daemon's tasks, or answers, or commits, until it dies
    dies_at: DiesAt = "turn"
    apart: int = 0  # bits: which nodes stand on the one side


def is_of_overlay(text: str) -> bool:
    """Whether these are faults that only histories of the overlay know."""
    return bool({name.strip() for name in text.split(",")} & (set(OVERLAY_KINDS) - set(KINDS)))


def parse_faults(text: str, known: tuple[FaultKind, ...] = KINDS) -> tuple[FaultKind, ...]:
    """`all`, `none`, or names separated by commas; `known` are those of the story that is meant.

    Raises:
        UnknownFault: naming those that there are.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return known
    if names in ([], ["none"]):
        return ()
    for name in names:
        if name not in known:
            raise UnknownFault(name=name, known=", ".join(known))
    return tuple(kind for kind in known if kind in names)


class Fate:
    """Does a schedule of faults to a world, block by block."""

    def __init__(self, world: World, faults: Sequence[Fault], *, forever: bool = False) -> None:
        """`forever`: who was silenced by the story stays silent after healing."""
        self._world = world
        self._faults = faults
        self._forever = forever
        self._twisting: list[Fault] = []

    def block(self, number: int, *, block_s: float) -> None:
        """What begins and ends at this block of the story."""
        for fault in self._faults:
            if fault.block == number:
                self._begin(fault, block_s)
        self._twist(number)
        self._weather(number)

    @property
    def last_block(self) -> int:
        """From here on nothing is wrong any more."""
        return max((fault.block + fault.blocks + 1 for fault in self._faults), default=0)

    def heal(self) -> None:
        """Everything is whole again, and every daemon that is wanted runs."""
        world = self._world
        world.weather.heal()
        world.net_resume()
        for node in world.nodes:
            node.skew(0)
            for name, house in node.houses.items():
                house.life.dies_after = None
                source = getattr(house.daemon, "source", None)
                if source is not None:
                    source.away = False
                if house.wanted or not self._forever:
                    house.wanted = True
                    node.start(name)

    def _weather(self, number: int) -> None:
        """Storms and cuts as they stand at this block."""
        world, climate = self._world, self._world.weather.climate
        now = [fault for fault in self._faults if fault.block <= number < fault.block + fault.blocks]
        climate.delay_share = max((f.share for f in now if f.kind == "delay"), default=0.0)
        climate.loss_share = max((f.share for f in now if f.kind == "loss"), default=0.0)
        climate.repeat_share = max((f.share for f in now if f.kind == "duplicate"), default=0.0)
        climate.reorder_share = max((f.share for f in now if f.kind == "reorder"), default=0.0)
        world.weather.set_cuts([f.apart for f in now if f.kind == "partition"], [n.host for n in world.nodes])
        world.net_resume()

    def _begin(self, fault: Fault, block_s: float) -> None:
        world = self._world
        text = msgspec.json.encode(fault).decode()
        lasting_s = fault.blocks * block_s
        if fault.kind == "crash":
            self._crash(fault, lasting_s)
        elif fault.kind == "skew":
            world.history.fault("skew", text)
            world.nodes[fault.node].skew(fault.amount)
            world.later(lasting_s, lambda: world.nodes[fault.node].skew(0))
        elif fault.kind == "reorg":
            self._fork(fault, text)
        elif fault.kind == "malleation":
            self._twisting.append(fault)
        elif fault.kind == "chain-away":
            self._away(fault, text, lasting_s)
        elif fault.kind == "mempool":
            world.history.fault("mempool", f"{world.coin.drop_waiting()} dropped")
        elif fault.kind == "partition":
            world.history.fault("partition", text)
        elif fault.kind == "silence":
            self._silence(fault, text, lasting_s)

    def _crash(self, fault: Fault, lasting_s: float) -> None:
        world, node = self._world, self._world.nodes[fault.node]
        house = node.houses.get(fault.daemon)
        if house is None or not house.life.alive:
            return

        def doom() -> None:
            world.history.fault("crash", f"{house.name} at {fault.dies_at} {fault.turns}")
            node.crash(fault.daemon)
            if house.wanted:
                world.later(0.5 + lasting_s, lambda: node.start(fault.daemon) if house.wanted else None)

        house.life.on_doom = doom
        house.life.dies_after, house.life.dies_at = fault.turns, fault.dies_at

    def _silence(self, fault: Fault, text: str, lasting_s: float) -> None:
        """A whole node is gone, and comes back."""
        world, node = self._world, self._world.nodes[fault.node]
        world.history.fault("silence", text)
        for daemon in node.houses:
            node.houses[daemon].wanted = False
            node.crash(daemon)

        def back() -> None:
            for daemon, house in node.houses.items():
                house.wanted = True
                node.start(daemon)

        world.later(lasting_s, back)

    def _fork(self, fault: Fault, text: str) -> None:
        if self._world.coin.height > fault.amount:
            self._world.coin.fork(fault.amount, malleate=False)
            self._world.history.fault("reorg", text)

    def _twist(self, number: int) -> None:
        """A fork that malleates waits until there is something to malleate."""
        coin = self._world.coin
        for fault in list(self._twisting):
            if number > fault.block + TWIST_WITHIN_BLOCKS:
                self._twisting.remove(fault)
            elif coin.height > fault.amount and coin.has_payments(fault.amount):
                self._twisting.remove(fault)
                before = coin.malleated
                coin.fork(fault.amount, malleate=True)
                if coin.malleated > before:
                    self._world.history.fault("malleation", f"{coin.malleated - before} transactions")

    def _away(self, fault: Fault, text: str, lasting_s: float) -> None:
        source = getattr(self._world.nodes[fault.node].houses["flopd"].daemon, "source", None)
        if source is None:
            return
        self._world.history.fault("chain-away", text)
        source.away = True

        def back() -> None:
            source.away = False

        self._world.later(lasting_s, back)

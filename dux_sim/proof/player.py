"""Histories of a walk on a real chain, block by block, whatever contract they are about.

What the model's chain took must be taken, in the block in which the model has it; what script or height forbid must be
refused. Nobody's word counts here but the node's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec

from common.chain.tx import Tx
from dux_sim.proof.cast import START
from dux_sim.proof.coins import Chain, EmbeddedChain, Refusal, litecoind, litecoind_missing

REASON_CHARS = 60  # of the node's own words


class Event(msgspec.Struct, frozen=True):
    """What the model's chain had at a height that it did not have before."""

    height: int
    coin: str  # the model's outpoint
    spend: Any | None  # None: the coin itself
    name: str = ""  # how the spend is told


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One history: who agreed on what, and what its chain showed, block by block."""

    name: str
    setting: Any
    events: tuple[Event, ...]
    timeout: int  # a height at which the script gives the coin to one side alone
    end: int

    @property
    def exit(self) -> str:
        """How it ended."""
        return next((event.name for event in reversed(self.events) if event.spend), "unspent")

    @property
    def coins(self) -> tuple[str, ...]:
        """The model's coins, in order: more than one after a reorganisation."""
        return tuple(dict.fromkeys(event.coin for event in self.events))


class Played(msgspec.Struct):
    """What a chain said."""

    chain: str
    histories: int = 0
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    taken: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    reorganised: int = 0
    differences: list[str] = msgspec.field(default_factory=list)
    skipped: str = ""


class OnChain(Protocol):
    """One history's contract with real keys and transactions."""

    history: History

    def funding(self) -> Tx:
        """The payment to the script; after a reorganisation the same payment under another id."""
        ...

    def way_out(self, spend: Any) -> Tx:
        """The spend of the model, complete."""
        ...

    def rivals(self, spend: Any) -> Iterator[tuple[str, Tx]]:
        """What must be refused beside the spend that waits."""
        ...

    def too_early(self) -> Tx:
        """The way out by time alone."""
        ...

    def forbidden(self) -> Iterator[tuple[str, Tx]]:
        """What script and outpoint forbid as soon as the coin is there."""
        ...


Maker = Callable[[History, Chain, int], OnChain]  # with how far the model's heights are moved


class Player:
    """Plays many histories at once on one chain: the model's height 100 is where the chain stands at the beginning."""

    def __init__(self, chain: Chain, make: Maker) -> None:
        self._chain, self._make = chain, make
        self.told = Played(chain.name)
        self._refused: Counter[str] = Counter()
        self._funded_height = 0

    def play(self, histories: Iterable[History]) -> None:
        """All of these, side by side; histories with a reorganisation are played one by one."""
        plain: list[History] = []
        moved: list[History] = []
        for history in histories:
            (moved if len(history.coins) > 1 else plain).append(history)
        self._play(plain)
        for history in moved:
            self._play([history])
        self.told.refused = dict(sorted(self._refused.items()))

    def _play(self, histories: list[History]) -> None:
        shift = self._chain.height - START
        lots = [self._make(history, self._chain, shift) for history in histories]
        for height in range(START + 1, max((history.end for history in histories), default=START) + 1):
            for lot in lots:
                self._before(lot, height)
            self._chain.mine()
            for lot in lots:
                self._after(lot, height)
        for lot in lots:
            self.told.histories += 1
            self.told.exits[lot.history.exit] = self.told.exits.get(lot.history.exit, 0) + 1

    def _before(self, lot: OnChain, height: int) -> None:
        for event in lot.history.events:
            if event.height != height:
                continue
            if event.spend is None:
                self._fund(lot, event)
            else:
                what = f"{event.name} at T{height - lot.history.timeout:+d}"
                self._must_take(lot, lot.way_out(event.spend), what)

    def _fund(self, lot: OnChain, event: Event) -> None:
        tx = lot.funding()
        if event.coin == lot.history.coins[0]:
            self._funded_height = self._chain.height + 1
            self._must_take(lot, tx, "the funding")
            return
        self._chain.replace(self._chain.height - self._funded_height + 1, tx)
        self.told.reorganised += 1
        self.told.taken += 1

    def _after(self, lot: OnChain, height: int) -> None:
        events = lot.history.events
        for event in events:
            if event.height == height:
                self._must_refuse(lot, lot.forbidden() if event.spend is None else lot.rivals(event.spend))
        came = any(event.spend is None and event.height == height for event in events)
        there = any(event.spend is None and event.height <= height for event in events)
        spent = any(event.spend is not None and event.height <= height for event in events)
        last = lot.history.timeout - 1  # a block that comes after it may hold the refund, whenever its coin came
        if there and not spent and (height == last or (came and height < last)):
            self._must_refuse(lot, iter([("a refund before its height", lot.too_early())]))

    def _must_take(self, lot: OnChain, tx: Tx, what: str) -> None:
        try:
            self._chain.send(tx)
            self.told.taken += 1
        except Refusal as refusal:
            self.told.differences.append(f"{lot.history.name}: {what} was refused: {refusal}")

    def _must_refuse(self, lot: OnChain, forbidden: Iterator[tuple[str, Tx]]) -> None:
        for what, tx in forbidden:
            try:
                self._chain.send(tx)
            except Refusal as refusal:
                self._refused[f"{what}: {str(refusal)[:REASON_CHARS]}"] += 1
            else:
                self.told.differences.append(f"{lot.history.name}: {what} was taken")


def played_on_chains(histories: list[History], make: Maker, coin_florins: int, *, quick: bool) -> list[Played]:
    """The histories on the embedded chain, and in the long form on litecoind, or why not."""
    told = [_played(EmbeddedChain(len(histories), coin_florins), make, histories)]
    missing = "the short form leaves it out" if quick else litecoind_missing()
    if missing:
        return [*told, Played("litecoind", skipped=missing)]
    with TemporaryDirectory() as folder, litecoind(Path(folder), len(histories), coin_florins) as chain:
        return [*told, _played(chain, make, histories)]


def _played(chain: Chain, make: Maker, histories: list[History]) -> Played:
    player = Player(chain, make)
    player.play(histories)
    return player.told

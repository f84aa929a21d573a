"""The world: one loop, one chain, one network, the nodes, and the streams of chance, all from one seed.

Promises that every draw comes from a stream named for who draws, so that one more draw here changes nothing there.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from common.chain.address import script_to_address
from common.chain.fund import fund_output_script
from common.chain.params import EMBEDDED
from common.network import Bootstrap, Custodian, FundParameters, NetworkProfile, Quorum
from common.parameters import AirdropParameters
from common.randomness import SeededRandomness
from common.rpc.client import Client
from common.units import FLOP, Florins
from dux_p2pd.memory_transport import MemoryNetwork
from dux_sim.chain.profile import chain_of, genesis_hash
from dux_sim.world.coin import Coin
from dux_sim.world.door import Door, House
from dux_sim.world.guard import guarded
from dux_sim.world.history import History, Until
from dux_sim.world.keys import NodeKeys, keys_of
from dux_sim.world.loop import SimTask, VirtualLoop
from dux_sim.world.node import OUTSIDE_PORT, MakeDaemon, SimHouse, SimNode
from dux_sim.world.weather import Storm

CUSTODIANS = 3
THRESHOLD = 2
UNWINDS_MAX = 100
PROFILES_MAX = 16


class World:
    """One history's world."""

    def __init__(self, seed: int, profile: NetworkProfile, *, trace: bool = False, until: int | None = None) -> None:
        self.seed = seed
        self.profile = profile
        self.loop = VirtualLoop()  # type: ignore[abstract]  # what it lacks is out of reach on purpose
        self.loop.on_error = self._note_error
        self.history = self.make_history(trace=trace, until=until)
        self.history.on_stop = self._halt
        self.context = Context()  # of nobody's life
        self.coin = Coin(chain_of(profile), self.history)
        self.weather = Storm(self.stream("weather"), self.history)
        self.net = MemoryNetwork(
            self.weather, lambda source, target, data: self.history.note("frame", f"{source}>{target}", data)
        )
        self.nodes: list[SimNode] = []
        self.graveyard: list[asyncio.Task[Any]] = []
        self.errors: list[str] = []  # what ended a daemon, or was raised where nobody looked
        self.over = False
        self.folder = Path(tempfile.mkdtemp(prefix="duxnet-sim-", dir=_memory_folder()))

    def make_history(self, *, trace: bool, until: int | None) -> History:
        """Where all that happens is noted."""
        return History(self.loop.time, trace=trace, until=until)

    def stream(self, name: str) -> SeededRandomness:
        """The draws of one name."""
        return SeededRandomness(stream_seed(self.seed, name))

    def add_node(self, daemons: tuple[str, ...], make: MakeDaemon) -> SimNode:
        """One more node."""
        node = SimNode(self, len(self.nodes), daemons, make)
        self.nodes.append(node)
        return node

    def numbers(self) -> Iterator[int] | None:
        """Of one life's futures and tasks; none where all lives count together."""
        return None

    def door(self, caller: str, house: House) -> Client:
        """A client between two daemons of a node."""
        return Door(caller, house, self.loop, self.history, self.weather)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in the world's own name after so many virtual seconds."""
        self.loop.call_later(seconds, action, context=self.context.copy())

    def net_resume(self) -> None:
        """Move on what waited before links that are whole again."""
        self.context.copy().run(self.net.resume)

    def came_up(self, node: SimNode, house: SimHouse) -> None:
        """A daemon answers."""
        del node
        self.history.note("ready", house.name, of=house.name)

    def ended(self, node: SimNode, house: SimHouse, reason: str) -> None:
        """A daemon ended by itself."""
        del node
        if reason and not self.over:
            self.errors.append(f"{house.name} ended: {reason}")

    def _halt(self) -> None:
        self.loop.halted = True

    def _note_error(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not self.over:
            self.errors.append(f"{context.get('message', '')}: {type(error).__name__}: {error}")

    def run(self, story: Any) -> Any:
        """Run a coroutine of the history to its end.

        Raises:
            Until: the history stopped where somebody wanted it to.
            Stuck: it cannot go on.
        """
        with guarded():
            task = self.loop.create_task(story, name="story", context=self.context.copy())
            self.loop.run_until(task.done)
        if self.history.stopped:
            raise Until
        return task.result()

    def close(self) -> None:
        """The end: every coroutine that waits is dropped, disks and files go."""
        self.over = True
        self.loop.close()
        self.net.lines.clear()
        self.net.listening.clear()
        with self.loop.pretended():
            for task in [*self.graveyard, *asyncio.all_tasks(self.loop)]:
                if isinstance(task, SimTask):
                    _drop(task)
        self.graveyard.clear()
        for node in self.nodes:
            for name in node.houses:
                node.disk(name).wipe()
        shutil.rmtree(self.folder, ignore_errors=True)


def _drop(task: asyncio.Task[Any]) -> None:
    """Let it unwind; each await on its way out is cut off, too."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it was meant to be dropped
    coroutine = task.get_coro()
    for _ in range(UNWINDS_MAX):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112 - a dead task's last words concern nobody
            continue
        return


@contextmanager
def quiet_memory() -> Iterator[None]:
    """For a process of histories: Python's cycle collector runs between them, never at a moment that addresses decide.

    What dropped coroutines say when they are collected is not heard.
    """
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.collect()
        gc.enable()
        sys.unraisablehook = before


def stream_seed(seed: int, name: str) -> int:
    """The seed of a named stream."""
    return int.from_bytes(hashlib.sha256(f"duxnet/sim/{seed}/{name}".encode()).digest()[:8], "big")


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gone with the world


def collector_of(keepers: Sequence[NodeKeys]) -> Quorum:
    """Two of the keepers' second keys."""
    return Quorum(
        threshold=min(THRESHOLD, len(keepers)),
        custodians=tuple(Custodian(did=one.did, pubkey=one.collector_pubkey) for one in keepers),
    )


@lru_cache(maxsize=PROFILES_MAX)
def profile_for(
    nodes: int, *, coins: int = 6, coin_flop: int = 500, fund_florins: int = 0, collector: bool = False, **airdrop: Any
) -> NetworkProfile:
    """The network of so many nodes: each has coins from the start, the first three keep the fund, all may judge.

    `collector`: the tax is paid to a script of the keepers' other keys, and swept into the fund.
    """
    keys = [keys_of(number) for number in range(nodes)]
    keepers = keys[:CUSTODIANS]
    threshold = min(THRESHOLD, len(keepers))
    pubkeys = tuple(sorted(bytes.fromhex(one.fund_pubkey) for one in keepers))
    fund = script_to_address(fund_output_script(threshold, pubkeys), EMBEDDED) or ""
    premine = [(one.address, Florins(coin_flop * FLOP)) for one in keys for _ in range(coins)]
    if fund_florins:
        premine.append((fund, Florins(fund_florins)))
    profile = NetworkProfile(
        name="simulated",
        chain="embedded",
        genesis="00" * 32,
        heights="demo",
        fund=FundParameters(
            threshold=threshold,
            custodians=tuple(Custodian(did=one.did, pubkey=one.fund_pubkey) for one in keepers),
            collectors=(collector_of(keepers),) if collector else (),
        ),
        arbiters=tuple(one.did for one in keys),
        bootstrap=tuple(
            Bootstrap(address=f"127.{1 + (number >> 8)}.{number & 255}.1:{OUTSIDE_PORT}", did=one.did)
            for number, one in enumerate(keys)
        ),
        airdrop=AirdropParameters(**airdrop),
        premine=tuple(premine),
    )
    return msgspec.structs.replace(profile, genesis=genesis_hash(chain_of(profile)))

"""The daemons of a world: the product's classes, with the parts replaced that would leave the process.

Replaced, and nothing else: the HTTP door (`Door`), the disk (`Disk`), TLS (pipes in memory), the coin node (the
embedded chain), key files, the egress, and the hardware that a node reports. Source: settled.md 26.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from common.chain.params import ChainFamily
from common.clock import Clock
from common.contracts.p2p_errors import BlobMissing
from common.daemon import DuxOSDaemon
from common.parts import Parts, S
from common.units import UnixMs
from common.work import JobKind
from dux_airdropd.daemon import AirdropDaemon
from dux_airdropd.settings import AirdropdSettings
from dux_escrowd.daemon import EscrowDaemon
from dux_escrowd.settings import EscrowSettings
from dux_flopd.daemon import FlopDaemon
from dux_flopd.keyring import Keyring
from dux_flopd.settings import FlopSettings
from dux_flopd.source import ChainSource
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.daemon import P2pDaemon, shut_egress
from dux_p2pd.directory import Directory
from dux_p2pd.egress import Egress
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import BranchKeys, KeySource
from dux_p2pd.look_key import LookKey
from dux_p2pd.memory_transport import MemoryNetwork, MemoryTransport
from dux_p2pd.overlay import shared_arguments
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.transport_keys import TransportKeys
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.machine import Hardware, Machine
from dux_registryd.model import Load
from dux_registryd.settings import RegistrydSettings
from dux_sim.liars import AlteringExecutor
from dux_sim.world.coin import Coin, CoinSource
from dux_sim.world.disk import Disk
from dux_sim.world.keys import NodeKeys
from dux_sim.world.loop import VirtualLoop
from dux_stored.daemon import StoreDaemon
from dux_stored.settings import StoredSettings
from dux_taskd.daemon import TaskDaemon
from dux_taskd.executor import Capacity, Executor
from dux_taskd.sandbox.model import Ended, Offer, Outcome, Probe, Progress, Run
from dux_taskd.settings import TaskSettings, size_bytes

START_MS = 1_790_000_000_000


class WorldClock:
    """One node's clock on the world's time; `skew_ms` is how wrong it goes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.skew_ms = 0
        self.monotonic = loop.time  # virtual seconds; never goes back, however wrong the time of day is set

    def unix_ms(self) -> UnixMs:
        """Milliseconds since 1970, as this node believes."""
        return UnixMs(START_MS + self.skew_ms + int(self._loop.now * 1000))


class Site(Protocol):
    """What a daemon stands on: its node's keys and address, the world's chain and network."""

    number: int
    keys: NodeKeys
    host: str
    coin: Coin
    net: MemoryNetwork
    signed: list[tuple[int, bytes]]

    def disk(self, daemon: str) -> Disk:
        """The disk of one daemon."""
        ...

    def clock(self) -> Clock:
        """The node's clock."""
        ...


class InWorld(DuxOSDaemon[S]):
    """What every simulated daemon has: a disk that outlives it, and no sockets."""

    site: Site

    def _make_parts(self, stack: AsyncExitStack) -> Parts[S]:
        parts = super()._make_parts(stack)
        parts.open_store = self.site.disk(self.name).open
        return parts

    async def _listen(self, parts: Parts[S]) -> None:
        """Callers come through the world's doors."""


class SimP2pd(InWorld[P2pdSettings], P2pDaemon):
    """p2pd on pipes in memory."""

    transport: MemoryTransport

    def load_keys(self, parts: Parts[P2pdSettings]) -> tuple[KeySource, TransportKeys]:
        """Of the node's number."""
        period_s, now_ms = parts.settings.rotate_transport_every_s, parts.clock.unix_ms()
        seed = self.site.keys.transport_seed
        transport = TransportKeys(None, parts.random, now_ms=now_ms, period_s=period_s, seed=seed)
        return BranchKeys(self.site.keys.branch), transport

    def load_look_key(self, parts: Parts[P2pdSettings]) -> LookKey:
        """Of the node's number."""
        return LookKey(None, parts.random, seed=self.site.keys.look_seed)

    def make_transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> BaseTransport:
        """Pipes in place of TLS."""
        self.transport = MemoryTransport(
            network_of=self.site.net,
            transport_key=keeper.transport.public,
            listen=(self.site.host, parts.settings.listen_port),
            **shared_arguments(parts, directory),
        )
        return self.transport

    def log_fetch(self, parts: Parts[P2pdSettings]) -> None:
        """Nobody asks over sockets."""

    async def open_egress(self, parts: Parts[P2pdSettings]) -> Egress:
        """There is nowhere to go."""
        return shut_egress(parts)

    async def bulk(self, verb: str, path: str, body: bytes | None) -> bytes:
        """What `PUT /blob` and `GET /blob/<id>` do.

        Raises:
            BlobMissing: it is not all here.
        """
        if verb == "PUT":
            return (await self.blobs.put(_pieces(body or b""), self.settings.blob_put_keep_s)).encode()
        blob = path.rpartition("/")[2]
        if not self.blobs.stat(blob).complete:
            raise BlobMissing(blob=blob, providers=0)
        return b"".join(self.blobs.read(blob))


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


_DERIVED: dict[tuple[int, int, int], bytes] = {}
DERIVED_MAX = 100_000


def derived(number: int, keyring: Keyring, branch: int, index: int) -> bytes:
    """The public key of a node's number at a place of its tree."""
    found = _DERIVED.get((number, branch, index))
    if found is None:
        found = Keyring.public(keyring, branch, index)
        if len(_DERIVED) < DERIVED_MAX:
            _DERIVED[number, branch, index] = found
    return found


class WatchedKeyring(Keyring):
    """The wallet's keys; what they sign for contracts is noted, to be judged at the end of the history."""

    def __init__(self, site: Site) -> None:
        super().__init__("no file: simulated")
        self._site = site

    def public(self, branch: int, index: int) -> bytes:
        """A public key, derived once per process: nodes of one number have the same in every history."""
        return derived(self._site.number, self, branch, index)

    def sign_contract(self, index: int, digest: bytes) -> bytes:
        """The lot key's signature."""
        self._site.signed.append((index, digest))
        return super().sign_contract(index, digest)


class SimFlopd(InWorld[FlopSettings], FlopDaemon):
    """flopd on the embedded chain."""

    source: CoinSource

    def chain_source(self, family: ChainFamily) -> ChainSource:
        """The world's chain."""
        del family
        self.source = CoinSource(self.site.coin)
        return self.source

    def open_keyring(self, parts: Parts[FlopSettings]) -> Keyring:
        """Open from the start."""
        keyring = WatchedKeyring(self.site)
        parts.stack.callback(keyring.shut)
        keyring.open(self.site.keys.secrets)
        return keyring


class SimEscrowd(InWorld[EscrowSettings], EscrowDaemon):
    """escrowd as it is."""


class SimAirdropd(InWorld[AirdropdSettings], AirdropDaemon):
    """airdropd as it is."""


class SimStored(InWorld[StoredSettings], StoreDaemon):
    """stored as it is."""


class PaperMachine(Machine):
    """The hardware that a simulated node tells of."""

    def __init__(self) -> None:
        super().__init__(Path())

    def hardware(self) -> Hardware:
        """A small machine."""
        return Hardware(hostname="simulated", os_version="12", cpu_cores=4, memory_mb=8192, storage_gb=100)

    def load(self, uptime_s: int) -> Load:
        """Half busy."""
        return Load(
            uptime_s=uptime_s, load_milli=(500, 500, 500), memory_used_bps=5000, disk_used_bps=1000,
            memory_available_mb=4096, cpu_available=2,
        )  # fmt: skip


class SimRegistryd(InWorld[RegistrydSettings], RegistryDaemon):
    """registryd on paper hardware."""

    def machine(self, parts: Parts[RegistrydSettings]) -> Machine:
        """Not this one."""
        del parts
        return PaperMachine()


class PaperRunner:
    """Stands in for the wasm sandbox: the output is a hash of everything that went in, after some virtual seconds."""

    kind = JobKind.WASM
    engine = "simulated-1"

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        """The same output for the same job, on every node."""
        digest = hashlib.sha256(
            b"\0".join((run.package, run.entry.encode(), *(a.encode() for a in run.args), run.input))
        )
        seconds = min(deadline_s, 1.0 + digest.digest()[0] / 16)
        await asyncio.sleep(seconds)
        progress(1000)
        return Outcome(ended=Ended.DONE, engine=self.engine, output=digest.digest(), fuel_used=len(run.input))

    async def probe(self) -> Offer:
        """There is nothing to break out of."""
        return Offer(kind=self.kind, engine=self.engine, probes=(Probe(name="simulated", holds=True, detail=""),))


class SimTaskd(InWorld[TaskSettings], TaskDaemon):
    """taskd with paper sandboxes; `lies`: what it sells is one byte off."""

    lies = False

    def make_executor(self, parts: Parts[TaskSettings]) -> Executor:
        """Runs nothing foreign."""
        budget = size_bytes(parts.settings.memory_budget, "memory_budget")
        executor = Executor((PaperRunner(),), Capacity(parts.settings.jobs_at_once, budget))
        if self.lies:
            executor.__class__ = AlteringExecutor
        return executor

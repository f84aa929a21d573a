"""Assembly of taskd: the parts meet here and nowhere else."""

from __future__ import annotations

from common.chain.heights import heights_profile
from common.contracts import peer_channel, peer_task
from common.contracts import task as contract
from common.daemon import DuxOSDaemon
from common.errors import BadSettings
from common.parts import Parts
from dux_taskd.buying import Buying
from dux_taskd.cases import Chamber
from dux_taskd.considering import Considering
from dux_taskd.desk import Desk
from dux_taskd.effects import Effects
from dux_taskd.executor import Capacity, Executor
from dux_taskd.follower import Follower
from dux_taskd.meter import Meter
from dux_taskd.methods import Methods
from dux_taskd.paid_buying import PaidBuying
from dux_taskd.paid_selling import PaidSelling
from dux_taskd.sandbox.model import Runner
from dux_taskd.sandbox.native import NativeRunner
from dux_taskd.sandbox.wasm import WasmRunner
from dux_taskd.sandbox.wasm_forks import Forks
from dux_taskd.sandbox.wasm_kept import Shelf
from dux_taskd.schema import MIGRATIONS
from dux_taskd.settings import TaskSettings, cpus_milli, size_bytes, slot_socket
from dux_taskd.stages import StageDesk
from dux_taskd.store import TaskStore
from dux_taskd.worker import Workshop


class TaskDaemon(DuxOSDaemon[TaskSettings]):
    """Guards the sandbox; buys, sells and judges work."""

    name = "taskd"
    settings_type = TaskSettings

    def make_executor(self, parts: Parts[TaskSettings]) -> Executor:
        """What runs foreign code; a test of the network may replace it by one that lies."""
        sandbox = parts.settings.sandbox
        wasm: tuple[Runner, ...] = (self._wasm(parts),) if sandbox.runtime != "native" else ()
        launcher = slot_socket(parts.settings)
        native = NativeRunner(parts.clock, launcher, sandbox.allowed_commands, cpus_milli(parts.settings))
        runners = wasm if sandbox.runtime == "wasm" else (*wasm, native)
        budget = size_bytes(parts.settings.memory_budget, "memory_budget")
        return Executor(runners, Capacity(parts.settings.jobs_at_once, budget))

    def _wasm(self, parts: Parts[TaskSettings]) -> WasmRunner:
        forks = Forks(parts.log)
        parts.stack.push_async_callback(forks.close)
        parts.background("forks", forks.keep)
        shelf = Shelf(parts.clock.monotonic)
        parts.stack.push_async_callback(shelf.close)
        parts.background("kept workers", shelf.keep)
        return WasmRunner(parts.clock, forks.start, shelf)

    async def assemble(self, parts: Parts[TaskSettings]) -> None:
        """Store, executor, the three roles, methods, loops."""
        memory_max = size_bytes(parts.settings.sandbox.memory_limit, "sandbox.memory_limit")
        if memory_max > size_bytes(parts.settings.memory_budget, "memory_budget"):
            raise BadSettings(path="memory_budget", detail="it is less than sandbox.memory_limit of a single job")
        store = TaskStore(parts.store(MIGRATIONS))
        executor = self.make_executor(parts)
        workshop = self._workshop(parts, store, executor)
        chamber = Chamber(
            peers=parts.peers,
            flopd=parts.neighbour("flopd"),
            store=store,
            executor=executor,
            spare_blocks=heights_profile(parts.network.heights).rung_blocks,
            log=parts.log,
        )

        def wake() -> None:
            workshop.wake()
            chamber.wake()

        desk = Desk(store, on_work=wake, on_stop=workshop.stop)
        workshop.desk = chamber.desk = desk
        considering = self._considering(parts, store, executor, memory_max)
        buying = Buying(stored=parts.neighbour("stored"), peers=parts.peers, network=parts.network, random=parts.random)
        stages = StageDesk(store, desk, buying, clock=parts.clock, random=parts.random)
        stages.serve(parts.table)
        self._effects(parts, store, desk, executor, considering, stages)
        self._serve(parts, store, desk, executor, workshop, buying)
        self._serve_paid(parts, store, executor)
        follower = Follower(parts.neighbour("escrowd"), store, desk, parts.log)
        parts.background("follow escrowd", follower.run)
        parts.background("workshop", workshop.run)
        parts.background("chamber", chamber.run)
        parts.background("probe", executor.keep_probing)
        parts.gauges["open_jobs"] = lambda: store.open_jobs(parts.clock.unix_ms())
        parts.gauges["kinds_offered"] = lambda: len(executor.offered)
        parts.gauges["sandbox_seconds_total"] = lambda: executor.sandbox_ms / 1000

    def _workshop(self, parts: Parts[TaskSettings], store: TaskStore, executor: Executor) -> Workshop:
        return Workshop(
            escrowd=parts.neighbour("escrowd"),
            registryd=parts.neighbour("registryd"),
            peers=parts.peers,
            store=store,
            executor=executor,
            clock=parts.clock,
            random=parts.random,
            log=parts.log,
        )

    def _considering(
        self, parts: Parts[TaskSettings], store: TaskStore, executor: Executor, memory_max: int
    ) -> Considering:
        return Considering(
            stored=parts.neighbour("stored"),
            escrowd=parts.neighbour("escrowd"),
            peers=parts.peers,
            store=store,
            executor=executor,
            open_jobs_max=parts.settings.open_jobs_max,
            memory_bytes_max=memory_max,
            wall_s_max=parts.settings.sandbox.timeout,
            clock=parts.clock,
        )

    def _effects(
        self,
        parts: Parts[TaskSettings],
        store: TaskStore,
        desk: Desk,
        executor: Executor,
        considering: Considering,
        stages: StageDesk,
    ) -> None:
        effects = Effects(
            neighbours=parts.neighbour,
            network=parts.network,
            store=store,
            desk=desk,
            executor=executor,
            considering=considering,
            stages=stages,
            hold_s=parts.settings.hold_s,
        )
        parts.outbox(store.store, effects.perform, effects.refused)

    @staticmethod
    def _serve_paid(parts: Parts[TaskSettings], store: TaskStore, executor: Executor) -> None:
        """Calls over channels, both sides."""
        escrowd, stored, registryd = (parts.neighbour(name) for name in ("escrowd", "stored", "registryd"))
        buying = PaidBuying(escrowd=escrowd, stored=stored, registryd=registryd, peers=parts.peers)
        selling = PaidSelling(
            escrowd=escrowd,
            stored=stored,
            registryd=registryd,
            peers=parts.peers,
            store=store,
            executor=executor,
            clock=parts.clock,
            lease_s=parts.settings.lease_s,
            log=parts.log,
        )
        parts.stack.push_async_callback(selling.stop)
        parts.background("paid calls", selling.say)
        parts.table.serve(contract.CALL, lambda params, _ctx: buying.call(params))
        parts.serve_peer(peer_channel.QUOTE, selling.quote)
        parts.serve_peer(peer_channel.CALL, selling.call)

    def _serve(
        self,
        parts: Parts[TaskSettings],
        store: TaskStore,
        desk: Desk,
        executor: Executor,
        workshop: Workshop,
        buying: Buying,
    ) -> None:
        meter = Meter(parts.peers, store)
        parts.background("meter", meter.run)
        methods = Methods(
            store=store,
            desk=desk,
            buying=buying,
            executor=executor,
            workshop=workshop,
            meter=meter,
            peers=parts.peers,
            stored=parts.neighbour("stored"),
            clock=parts.clock,
        )
        table = parts.table
        table.serve(contract.PROBE, methods.probe)
        table.serve(contract.SERVE, methods.serve)
        table.serve(contract.SUBMIT, methods.submit)
        table.serve(contract.STATUS, methods.status)
        table.serve(contract.LIST, methods.list)
        table.serve(contract.RESULT, methods.result)
        table.serve(contract.CANCEL, methods.cancel)
        table.serve(contract.TRY_RUN, methods.try_run)
        table.serve(contract.EXPLAIN, methods.explain)
        parts.serve_events(contract.EVENTS, store.store)
        parts.serve_peer(peer_task.INPUT_KEY, methods.input_key)
        parts.serve_peer(peer_task.PROGRESS, methods.progress)

"""What callers ask: contract in, store and rules, contract out. Everything lasting goes on behind the answer."""

from __future__ import annotations

from common.clock import Clock
from common.contracts import task as contract
from common.contracts.peer_task import AskInputKey, AskProgress, InputKey, Progress
from common.contracts.store import SERVICE_SHOW, ServiceName
from common.errors import NotFound, NotPermitted
from common.peers import Peers
from common.rpc.client import Client
from common.rpc.method import Empty
from common.rpc.table import Ctx
from common.units import Did
from common.work import JobKind, output_hash_of
from dux_taskd import views
from dux_taskd.buying import Buying
from dux_taskd.considering import limits_of
from dux_taskd.desk import Desk
from dux_taskd.executor import Executor
from dux_taskd.materials import PACKAGE_BYTES_MAX
from dux_taskd.meter import Meter
from dux_taskd.model import CancelWanted
from dux_taskd.sandbox.model import Ended, Run
from dux_taskd.store import TaskStore
from dux_taskd.worker import Workshop

LOG_CHARS_SHOWN = 4_000
SERVABLE = frozenset(kind.value for kind in JobKind)


class Methods:
    """The handlers of task.* and of taskd's peer methods."""

    def __init__(
        self,
        *,
        store: TaskStore,
        desk: Desk,
        buying: Buying,
        executor: Executor,
        workshop: Workshop,
        meter: Meter,
        peers: Peers,
        stored: Client,
        clock: Clock,
    ) -> None:
        self._store, self._desk, self._buying, self._executor = store, desk, buying, executor
        self._workshop, self._meter, self._peers, self._stored, self._clock = workshop, meter, peers, stored, clock

    async def probe(self, _params: Empty, _ctx: Ctx) -> contract.Probes:
        """Wait for the start-up probe and show it."""
        await self._executor.probed.wait()
        return contract.Probes(kinds=tuple(views.kind_view(offer) for offer in self._executor.offers.values()))

    async def serve(self, params: contract.Serve, ctx: Ctx) -> contract.Serving:
        """Start or stop serving an own published service."""
        if params.serve:
            await self._check_servable(params.service_id)
        with self._store.store.transaction() as tx:
            self._store.set_serving(tx, params.service_id, serve=params.serve)
            result = contract.Serving(service_ids=self._store.serving())
            ctx.remember(tx, result)
        return result

    async def _check_servable(self, service_id: str) -> None:
        try:
            service = (await self._stored.call(SERVICE_SHOW, ServiceName(service_id=service_id))).service
        except NotFound as error:
            raise contract.NotForSale(service_id=service_id, reason="it is not published") from error
        if not service.own or service.withdrawn or service.kind not in SERVABLE:
            reason = "only an own, published service of kind wasm, native or check is run here"
            raise contract.NotForSale(service_id=service_id, reason=reason)
        await self._executor.probed.wait()
        runtime = JobKind(service.kind).runtime
        if runtime not in self._executor.offered:
            offer = self._executor.offers.get(runtime)
            raise contract.KindNotOffered(kind=runtime.value, reason=offer.reason if offer else "switched off here")

    async def submit(self, params: contract.Submit, ctx: Ctx) -> contract.TaskRef:
        """Plan, then write task, keys and answer in one decision."""
        bought = await self._buying.plan(params, self._clock.unix_ms())
        result = contract.TaskRef(task_id=bought.task.task_id)
        with self._store.store.transaction() as tx:
            if bought.given.key:
                self._store.keep_input_key(tx, bought.given.blob, bought.given.key, bought.audience)
            self._desk.begin(tx, bought.task)
            ctx.remember(tx, result)
        return result

    async def status(self, params: contract.TaskRef, _ctx: Ctx) -> contract.TaskView:
        """One task with its story."""
        return await self._view(params.task_id, with_lines=True)

    async def list(self, params: contract.ListTasks, _ctx: Ctx) -> contract.TaskList:
        """Tasks of any role, newest first."""
        refs = self._store.refs(params.role, open_only=params.open_only, limit=params.limit)
        return contract.TaskList(tasks=tuple([await self._view(ref, with_lines=False) for ref in refs]))

    async def result(self, params: contract.TaskRef, _ctx: Ctx) -> contract.TaskView:
        """The task, if its result is here."""
        view = await self._view(params.task_id, with_lines=True)
        if view.output_blob is None:
            raise contract.NoResult(task_id=view.task_id, state=view.state.value, reason=view.reason or "not yet")
        return view

    async def cancel(self, params: contract.CancelTask, ctx: Ctx) -> contract.TaskView:
        """Ask for the end of an own task that has not delivered."""
        task = self._store.task(params.task_id)
        if task is None:
            raise NotFound(what="task of this node as buyer", name=params.task_id)
        view = views.task_view(task, self._store, with_lines=False, progress=0)
        if view.state in contract.FINAL or view.progress_permille:
            raise contract.TooLate(task_id=view.task_id, state=view.state.value)
        with self._store.store.transaction() as tx:
            self._desk.take(tx, params.task_id, CancelWanted())
            after = self._store.task(params.task_id) or task
            result = views.task_view(after, self._store, with_lines=True, progress=0)
            ctx.remember(tx, result)
        return result

    async def explain(self, params: contract.TaskRef, _ctx: Ctx) -> contract.Explanation:
        """Why it stands where it stands."""
        view = await self._view(params.task_id, with_lines=True)
        return contract.Explanation(task_id=view.task_id, lines=views.explain(view))

    async def try_run(self, params: contract.TryRun, _ctx: Ctx) -> contract.TryResult:
        """Run a package here, for its publisher."""
        package = await self._peers.fetch_blob(params.package, [], max_bytes=PACKAGE_BYTES_MAX)
        data = await self._peers.get_blob(params.input_blob)
        run = Run(package=package, entry=params.entry, args=params.args, input=data, limits=limits_of(params.limits))
        await self._executor.probed.wait()
        outcome = await self._executor.run(JobKind(params.kind), run, lambda _: None)
        done = outcome.ended is Ended.DONE
        return contract.TryResult(
            ended=outcome.ended.value,
            detail=outcome.detail,
            engine=outcome.engine,
            fuel_used=outcome.fuel_used,
            wall_ms=outcome.wall_ms,
            memory_peak_bytes=outcome.memory_peak_bytes,
            output_blob=await self._peers.put_blob(outcome.output) if done else None,
            output_hash=bytes(output_hash_of(outcome.output)) if done else None,
            log=outcome.log.decode("utf-8", "replace")[:LOG_CHARS_SHOWN],
        )

    async def _view(self, ref: str, *, with_lines: bool) -> contract.TaskView:
        """A task by its id, whatever this node's part in it is."""
        role, _, contract_id = ref.partition("-")
        task = self._store.task(ref)
        if task is not None:
            return views.task_view(task, self._store, with_lines=with_lines, progress=self._meter.of(task))
        assignment = self._store.assignment(contract_id) if role == "job" else None
        if assignment is not None:
            own = (await self._peers.info()).did
            progress = self._workshop.progress.get(contract_id, 0)
            return views.assignment_view(assignment, own, self._store, progress, with_lines=with_lines)
        case = self._store.case(contract_id) if role == "case" else None
        if case is None:
            raise NotFound(what="task", name=ref)
        return views.case_view(case, self._store, with_lines=with_lines)

    # Peer methods.

    async def input_key(self, params: AskInputKey, sender: Did) -> InputKey:
        """The key of a private input, for its audience only."""
        key = self._store.input_key(params.blob.hex(), asker=sender)
        if key is None:
            raise NotPermitted(caller=sender, method="task.input_key", permitted="the audience of that input")
        return InputKey(key=key)

    async def progress(self, params: AskProgress, sender: Did) -> Progress:
        """How far a job is, for its buyer only."""
        contract_id = params.contract_id.hex()
        assignment = self._store.assignment(contract_id)
        if assignment is None or assignment.buyer != sender:
            raise NotPermitted(caller=sender, method="task.progress", permitted="the buyer of that contract")
        permille = max(assignment.progress_permille, self._workshop.progress.get(contract_id, 0))
        return Progress(permille=permille, state=assignment.state.value)

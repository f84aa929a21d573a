"""The seller's workshop: runs what is funded, encrypts what comes out, and says so to the desk.

Promise: a job runs only while its assignment is WORKING; when that ends (paused, given back) its sandbox is killed. A
crash at any point means «run it again», because the result is written together with the decision to hand it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts import escrow
from common.contracts import registry_machine as registry
from common.errors import DuxError, NotNow, Unavailable
from common.identity.purposes import Purpose
from common.outbox import pause_ms
from common.peers import Peers
from common.randomness import Randomness
from common.receipts import Attested
from common.rpc.client import Client
from common.units import UnixMs
from common.work import (
    JOB_BYTES_MAX,
    SALT_BYTES,
    JobSpec,
    Opening,
    WorkReceipt,
    commitment_of,
    job_hash,
    limits_hash,
    output_hash_of,
)
from dux_taskd import rules_seller, sealing
from dux_taskd.desk import Desk
from dux_taskd.executor import Executor
from dux_taskd.materials import Materials, WrongMaterial
from dux_taskd.model import Assignment
from dux_taskd.results import payload_of
from dux_taskd.sandbox.model import Ended, Outcome
from dux_taskd.store import TaskStore

BUSY_TOLD_S = 2.0  # how long the registry may take to hear that a job runs
PASSING_ATTEMPTS_MAX = 8  # tries to fetch or to reach a neighbour before a contract is given back


class Workshop:
    """Runs assignments."""

    def __init__(
        self,
        *,
        escrowd: Client,
        registryd: Client,
        peers: Peers,
        store: TaskStore,
        executor: Executor,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        self._escrowd, self._registryd = escrowd, registryd
        self._peers, self._store, self._executor = peers, store, executor
        self._clock, self._random, self._log = clock, random, log
        self._materials = Materials(peers, store)
        self._wake = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self.progress: dict[str, int] = {}  # contract -> thousandths, of what runs now
        self.desk: Desk

    def wake(self) -> None:
        """There is something to run."""
        self._wake.set()

    def stop(self, contract_id: str) -> None:
        """This job is no longer wanted: kill it."""
        running = self._running.get(contract_id)
        if running is not None and running is not asyncio.current_task():
            del self._running[contract_id]
            running.cancel()

    async def run(self) -> None:
        """Until cancelled: start whatever is WORKING and not running yet."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                for job in self._store.working():
                    if job.contract_id not in self._running:
                        self._running[job.contract_id] = group.create_task(self._work(job))
                await self._wake.wait()

    async def _work(self, assignment: Assignment) -> None:
        """One assignment to its end, whatever that is."""
        contract_id, attempts = assignment.contract_id, 0
        try:
            while True:
                try:
                    await self._once(assignment)
                except (NotNow, Unavailable) as error:
                    attempts += 1
                    if attempts >= PASSING_ATTEMPTS_MAX:
                        self._failed(contract_id, error.message, may_repeat=False)
                        return
                    self._log.info("job waits", contract_id=contract_id, reason=error.message)
                    await asyncio.sleep(pause_ms(attempts) / 1000)
                except (WrongMaterial, DuxError) as error:
                    self._failed(contract_id, str(error), may_repeat=False)
                    return
                else:
                    return
        finally:
            if self._running.get(contract_id) is asyncio.current_task():
                del self._running[contract_id]
            self.progress.pop(contract_id, None)
            self._wake.set()  # a run that broke is still WORKING, and is started again

    async def _once(self, assignment: Assignment) -> None:
        job = from_canonical(assignment.job, JobSpec, max_bytes=JOB_BYTES_MAX)
        package, data = await self._materials.gather(job, [assignment.buyer])
        await self._tell_busy(job.limits.wall_s)
        try:
            outcome = await self._executor.execute(job, package, data, self._meter(assignment.contract_id))
        finally:
            await self._tell_busy(0.0)
        if outcome.ended is not Ended.DONE:
            reason = f"the run ended with «{outcome.ended.value}»: {outcome.detail}"
            self._failed(assignment.contract_id, reason, may_repeat=outcome.ended is Ended.BROKEN)
            return
        await self._seal(assignment, job, outcome)

    async def _tell_busy(self, seconds: float) -> None:
        """Nobody measures this machine meanwhile; a registry that does not answer is no reason to wait."""
        with suppress(DuxError):
            busy = registry.Busy(seconds=min(seconds, registry.BUSY_S_MAX))
            await self._registryd.call(registry.MACHINE_BUSY, busy, deadline_s=BUSY_TOLD_S)

    def _meter(self, contract_id: str) -> Callable[[int], None]:
        def note(permille: int) -> None:
            self.progress[contract_id] = permille

        return note

    async def _seal(self, assignment: Assignment, job: JobSpec, outcome: Outcome) -> None:
        """Encrypt, keep, sign; then one decision."""
        contract_id = assignment.contract_id
        key = await self._escrowd.call(escrow.RESULT_KEY, escrow.ContractRef(contract_id=contract_id))
        salt, nonce = self._random.bytes(SALT_BYTES), self._random.bytes(sealing.NONCE_BYTES)
        payload = payload_of(job, outcome.output)
        sealed = sealing.seal_result(key.content_key, contract_id, salt=salt, payload=payload, nonce=nonce)
        blob = await self._peers.put_blob(sealed)
        output_hash = output_hash_of(outcome.output)
        commitment = commitment_of(Opening(output_hash=bytes(output_hash), salt=salt))
        receipt = await self._sign(assignment, job, outcome, bytes(commitment))
        with self._store.store.transaction() as tx:
            self.desk.seller(
                tx,
                contract_id,
                lambda a: rules_seller.on_sealed(a, blob, bytes(commitment), receipt, bytes(output_hash)),
            )

    async def _sign(self, assignment: Assignment, job: JobSpec, outcome: Outcome, commitment: bytes) -> bytes:
        receipt = WorkReceipt(
            contract_id=assignment.contract_id,
            worker=(await self._peers.info()).did,
            job_hash=bytes(job_hash(job)),
            package=job.package,
            input_hash=job.input_hash,
            limits_hash=bytes(limits_hash(job.limits)),
            engine=outcome.engine,
            output_commitment=commitment,
            fuel_used=outcome.fuel_used,
            at_ms=UnixMs(self._clock.unix_ms()),
        )
        by = await self._peers.sign(Purpose.WORK_RECEIPT, receipt)
        return canonical(Attested(body=canonical(receipt), did=by.did, key_seq=by.key_seq, signature=by.signature))

    def _failed(self, contract_id: str, reason: str, *, may_repeat: bool) -> None:
        self._log.warning("job failed", contract_id=contract_id, reason=reason)
        with self._store.store.transaction() as tx:
            self.desk.seller(tx, contract_id, lambda a: rules_seller.on_failed(a, reason, may_repeat=may_repeat))

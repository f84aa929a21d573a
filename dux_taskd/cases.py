"""The arbiter's chamber: opens what was delivered, runs the job again, and decides.

Promise: a vote rests on this node's own run or on bytes that speak for themselves; where it cannot tell, it says so and
does not vote. A crash means «decide again», with the same outcome.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.codec import from_canonical
from common.contracts.p2p_errors import BlobMissing
from common.contracts.task import KindNotOffered
from common.errors import BadParams, DuxError, NotNow, Unavailable
from common.outbox import pause_ms
from common.peers import Peers
from common.work import JOB_BYTES_MAX, JobKind, JobSpec, output_hash_of, outputs_agree
from dux_taskd import rules_arbiter
from dux_taskd.desk import Desk
from dux_taskd.executor import Executor
from dux_taskd.materials import Materials, WrongMaterial
from dux_taskd.model import Case
from dux_taskd.results import Delivery, Found, NotAsPromised, Results
from dux_taskd.rules_arbiter import ATTEMPTS_MAX, Finding
from dux_taskd.sandbox.model import Ended
from dux_taskd.store import TaskStore


class Chamber:
    """Decides cases, one after another."""

    def __init__(self, *, peers: Peers, store: TaskStore, executor: Executor, log: FilteringBoundLogger) -> None:
        self._store, self._executor, self._log = store, executor, log
        self._materials, self._results = Materials(peers, store), Results(peers)
        self._wake = asyncio.Event()
        self.desk: Desk

    def wake(self) -> None:
        """There is something to decide."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            for case in self._store.open_cases():
                await self._decide(case)
            if not self._store.open_cases():
                await self._wake.wait()

    async def _decide(self, case: Case) -> None:
        try:
            job = from_canonical(case.job, JobSpec, max_bytes=JOB_BYTES_MAX)
            finding = await self._look(case, job)
        except BadParams as error:
            self._settle(case, None, f"the job cannot be read: {error.message}")
            return
        except KindNotOffered as error:
            self._settle(case, None, error.message)
            return
        except (NotNow, Unavailable) as error:
            await self._later(case, error)
            return
        verdict = rules_arbiter.verdict(case, job.kind, finding)
        if verdict is None and case.attempts < ATTEMPTS_MAX:
            await self._later(case, finding)
            return
        self._settle(case, verdict, f"this node cannot tell: its own run ended with {finding.ended}")

    async def _look(self, case: Case, job: JobSpec) -> Finding:
        """Everything that can be found out, stopping where the answer is plain."""
        if rules_arbiter.delivery_fault(case):
            return Finding()
        last = case.attempts >= ATTEMPTS_MAX
        try:
            found = await self._results.open(_delivery(case), job)
        except NotAsPromised as error:
            return Finding(fault=str(error))
        except BlobMissing:
            if last:
                return Finding(fault="nobody who promised to keep the result gives it")
            raise
        try:
            package, data = await self._materials.gather(job, [case.seller, case.buyer, *case.holders])
        except WrongMaterial as error:
            return Finding(missing=str(error))
        except (NotNow, Unavailable):
            if last:
                return Finding(missing="the worker cannot show what it ran: package or input is missing")
            raise
        outcome = await self._executor.execute(job, package, data, lambda _: None)
        agrees = outcome.ended is Ended.DONE and _agrees(job, found, outcome.output)
        return Finding(ended=outcome.ended, agrees=agrees)

    async def _later(self, case: Case, why: DuxError | Finding) -> None:
        """Write down the attempt, then wait a little."""
        reason = why.message if isinstance(why, DuxError) else str(why.ended)
        self._log.info("case waits", contract_id=case.contract_id, reason=reason)
        with self._store.store.transaction() as tx:
            self.desk.retry_case(tx, case.contract_id)
        await asyncio.sleep(pause_ms(case.attempts) / 1000)

    def _settle(self, case: Case, verdict: rules_arbiter.Verdict | None, reason: str) -> None:
        with self._store.store.transaction() as tx:
            self.desk.decide_case(tx, case.contract_id, verdict, reason)


def _delivery(case: Case) -> Delivery:
    return Delivery(
        contract_id=case.contract_id,
        worker=case.seller,
        ciphertext_blob=case.ciphertext_blob,
        commitment=case.commitment,
        work_receipt=case.work_receipt,
        holders=case.holders,
        content_key=case.content_key,
    )


def _agrees(job: JobSpec, found: Found, output: bytes) -> bool:
    """Own output and delivered one, by the job's comparator; of a check only hashes can be compared."""
    if job.kind is JobKind.CHECK:
        return output_hash_of(output) == found.output_hash
    return outputs_agree(job.comparator, output, found.output)

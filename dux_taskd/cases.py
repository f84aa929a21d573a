"""The arbiter's chamber: opens what was delivered, runs the job again, and decides.

Promise: a vote rests on this node's own run or on bytes that speak for themselves; where it cannot tell, it says so and
does not vote. What cannot be had now (a key, a blob, a neighbour) is waited for as long as a vote still comes in time:
an hour's silence of the holders must not cost the seller its pay. A crash means «decide again», with the same outcome.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.codec import from_canonical
from common.contracts.p2p_errors import BlobMissing
from common.contracts.task import KindNotOffered
from common.contracts.wallet_chain import CHAIN_TIP
from common.errors import BadParams, DuxError, NotNow, Unavailable, may_repeat
from common.outbox import pause_ms
from common.peers import Peers
from common.rpc.client import Client
from common.rpc.method import Empty
from common.storage_receipts import RECEIPTS_MIN, Wanted, checked, promised
from common.work import JOB_BYTES_MAX, JobKind, JobSpec, output_hash_of, outputs_agree
from dux_taskd import rules_arbiter
from dux_taskd.desk import Desk
from dux_taskd.executor import Executor
from dux_taskd.materials import Materials, WrongMaterial
from dux_taskd.model import Case, CaseState
from dux_taskd.results import Delivery, Found, NotAsPromised, Results
from dux_taskd.rules_arbiter import ATTEMPTS_MAX, Finding
from dux_taskd.sandbox.model import Ended
from dux_taskd.store import TaskStore


class EvidenceAway(NotNow):
    """{what} is not here yet; the case waits for it until a vote is due."""

    code = 7008
    key = "evidence-away"


CASES_AT_ONCE = 4  # the executor admits their runs by memory; the rest of a case is waiting
PAUSE_MAX_S = 30.0  # between two looks


class Chamber:
    """Decides cases, side by side; each on its own until its vote is due."""

    def __init__(
        self,
        *,
        peers: Peers,
        flopd: Client,
        store: TaskStore,
        executor: Executor,
        spare_blocks: int,
        log: FilteringBoundLogger,
    ) -> None:
        """`spare_blocks`: how long before a vote is due the last look is taken."""
        self._flopd, self._store, self._executor, self._log = flopd, store, executor, log
        self._spare_blocks = spare_blocks
        self._peers = peers
        self._materials, self._results = Materials(peers, store), Results(peers)
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        self.desk: Desk

    def wake(self) -> None:
        """There is something to decide."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                waiting = [case for case in self._store.open_cases() if case.contract_id not in self._busy]
                for case in waiting[: CASES_AT_ONCE - len(self._busy)]:
                    self._busy.add(case.contract_id)
                    group.create_task(self._hear(case.contract_id))
                await self._wake.wait()

    async def _hear(self, contract_id: str) -> None:
        """Look until the case is decided; it is read anew before each look, for evidence may have come."""
        looks = 0
        try:
            while (case := self._store.case(contract_id)) is not None and case.state is CaseState.OPEN:
                if not await self._decide(case):
                    await asyncio.sleep(min(PAUSE_MAX_S, pause_ms(looks) / 1000))
                    looks += 1
        finally:
            self._busy.discard(contract_id)
            self._wake.set()

    async def _decide(self, case: Case) -> bool:
        """One look; False when another is worth while."""
        last = await self._is_due(case)
        try:
            job = from_canonical(case.job, JobSpec, max_bytes=JOB_BYTES_MAX)
            finding = await self._look(case, job, last=last)
        except BadParams as error:
            return self._settle(case, None, f"the job cannot be read: {error.message}")
        except KindNotOffered as error:
            return self._settle(case, None, error.message)
        except DuxError as error:
            if last and not may_repeat(error):
                return self._settle(case, None, error.message)
            self._log.info("case waits", contract_id=case.contract_id, reason=error.message)
            return False
        verdict = rules_arbiter.verdict(case, job.kind, finding)
        if verdict is None and not finding.vanished and case.attempts < ATTEMPTS_MAX:
            return self._once_more(case, finding)
        why = finding.vanished or f"its own run ended with {finding.ended}"
        return self._settle(case, verdict, f"this node cannot tell: {why}")

    async def _is_due(self, case: Case) -> bool:
        """Whether this is the last look that can still become a vote; never while the chain is not to be seen."""
        try:
            tip = await self._flopd.call(CHAIN_TIP, Empty())
        except DuxError:
            return False
        return tip.synced and int(tip.height) >= case.vote_before - self._spare_blocks

    async def _look(self, case: Case, job: JobSpec, *, last: bool) -> Finding:
        """Everything that can be found out, stopping where the answer is plain.

        Raises:
            NotNow, Unavailable: something cannot be had now, and there is time to wait for it.
        """
        if rules_arbiter.delivery_fault(case):
            if case.ciphertext_blob and not last:
                raise EvidenceAway(what="the key of the result")
            return Finding()
        try:
            found = await self._results.open(_delivery(case), job)
        except NotAsPromised as error:
            return Finding(fault=str(error))
        except BlobMissing:
            if last:
                return await self._gone(case)
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

    async def _gone(self, case: Case) -> Finding:
        """Nobody gives the ciphertext: whether the seller had seen to it that somebody would."""
        wanted = Wanted(blob=case.ciphertext_blob, until_height=case.keep_until, deliverer=case.seller)
        kept = promised(await checked(self._peers, case.receipts, wanted), case.stores)
        return rules_arbiter.evidence_gone(kept, RECEIPTS_MIN)

    def _once_more(self, case: Case, finding: Finding) -> bool:
        """A run that broke here and might go well another time is written down: a crash does not count anew."""
        self._log.info("case is run again", contract_id=case.contract_id, ended=str(finding.ended))
        with self._store.store.transaction() as tx:
            self.desk.retry_case(tx, case.contract_id)
        return False

    def _settle(self, case: Case, verdict: rules_arbiter.Verdict | None, reason: str) -> bool:
        with self._store.store.transaction() as tx:
            self.desk.decide_case(tx, case.contract_id, verdict, reason)
        return True


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

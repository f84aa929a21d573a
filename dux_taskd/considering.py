"""Looks up what an offer has to be measured by: the service, the buyer's standing, this node's load.

It asks the store daemon and p2pd; the measuring itself is `rules_seller.offer_fault`.
"""

from __future__ import annotations

from common.clock import Clock
from common.codec import from_canonical
from common.contracts.escrow import SHOW, ContractRef
from common.contracts.store import SERVICE_ADMIT, SERVICE_SHOW, AdmitBuyer, CallLimits, ServiceName, ServiceView
from common.errors import BadParams, NotFound
from common.peers import Peers
from common.rpc.client import Client
from common.work import JOB_BYTES_MAX, JobSpec, Limits
from dux_taskd import rules_seller
from dux_taskd.executor import Executor
from dux_taskd.model import Assignment
from dux_taskd.store import TaskStore


def limits_of(given: CallLimits) -> Limits:
    """A service's limits as a job names them."""
    return Limits(
        fuel=given.fuel, memory_bytes=given.memory_bytes, wall_s=given.wall_s, output_bytes=given.output_bytes
    )


class Considering:
    """Decides on offers."""

    def __init__(
        self,
        *,
        stored: Client,
        escrowd: Client,
        peers: Peers,
        store: TaskStore,
        executor: Executor,
        open_jobs_max: int,
        memory_bytes_max: int,
        wall_s_max: int,
        clock: Clock,
    ) -> None:
        self._clock, self._escrowd = clock, escrowd
        self._stored, self._peers, self._store, self._executor = stored, peers, store, executor
        self._open_jobs_max, self._memory_bytes_max, self._wall_s_max = open_jobs_max, memory_bytes_max, wall_s_max

    async def fault(self, offer: Assignment) -> str:
        """Why the offer is not taken, or nothing.

        Raises:
            Unavailable, NotNow: ask again later.
        """
        try:
            job = from_canonical(offer.job, JobSpec, max_bytes=JOB_BYTES_MAX)
            service = (await self._stored.call(SERVICE_SHOW, ServiceName(service_id=offer.service_id))).service
        except (BadParams, NotFound) as error:
            return error.message
        await self._executor.probed.wait()
        terms = rules_seller.Terms(
            serving=service.own and not service.withdrawn and offer.service_id in self._store.serving(),
            kind=service.kind,
            price_florins=service.price_florins,
            package=bytes.fromhex(service.package),
            entry=service.entry,
            limits=limits_of(service.limits),
            own_did=(await self._peers.info()).did,
            kinds_offered=self._executor.offered,
            open_jobs=self._store.open_jobs(self._clock.unix_ms()),
            open_jobs_max=self._open_jobs_max,
            memory_bytes_max=self._memory_bytes_max,
            wall_s_max=self._wall_s_max,
            arbiters=await self._arbiters(offer) if job.input_private else frozenset(),
            royalty_is_right=await self._is_royalty(offer, service),
            lock_is_right=await self._is_lock(offer, service),
        )
        return rules_seller.offer_fault(offer, job, terms) or await self._not_admitted(offer)

    async def _is_royalty(self, offer: Assignment, service: ServiceView) -> bool:
        """The offer pays the service's developer what this node has published; nothing where there is none."""
        if not service.developer and not service.royalty_bps:
            return True
        seen = await self._escrowd.call(SHOW, ContractRef(contract_id=offer.contract_id))
        return (seen.developer, seen.royalty_bps) == (service.developer, service.royalty_bps)

    async def _is_lock(self, offer: Assignment, service: ServiceView) -> bool:
        """The offer locks the result where the service does: whoever reads it first need not pay."""
        seen = await self._escrowd.call(SHOW, ContractRef(contract_id=offer.contract_id))
        return seen.result_lock == service.result_lock

    async def _arbiters(self, offer: Assignment) -> frozenset[str]:
        """Who may have to open the input one day."""
        return frozenset((await self._escrowd.call(SHOW, ContractRef(contract_id=offer.contract_id))).arbiters)

    async def _not_admitted(self, offer: Assignment) -> str:
        """What the store daemon holds against this buyer now: its rate limit or its reputation."""
        wish = AdmitBuyer(request_id=f"admit/{offer.contract_id}", service_id=offer.service_id, buyer=offer.buyer)
        answer = await self._stored.call(SERVICE_ADMIT, wish)
        return "" if answer.admitted else answer.reason or "the service does not admit this buyer now"

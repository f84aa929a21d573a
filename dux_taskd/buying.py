"""Makes a task out of a wish: looks up services, fixes job and prices, encrypts a private input; commits to nothing.

Promise: what the task may cost is known, and within the caller's limits, before anything is proposed.
"""

from __future__ import annotations

import msgspec

from common.chain.contract_rules import panel_size_for
from common.codec import canonical
from common.contracts.store import (
    SERVICE_SEARCH,
    SERVICE_SHOW,
    SearchServices,
    ServiceName,
    ServiceView,
    SortBy,
)
from common.contracts.task import BadJob, NoChecker, NoSwap, NotForSale, PriceAbove, Submit, TooFewArbiters
from common.errors import NotFound
from common.network import NetworkProfile
from common.peers import Peers
from common.randomness import Randomness, new_id
from common.rpc.client import Client
from common.units import Did, Florins, format_flop
from common.work import (
    EQUAL,
    Comparator,
    ComparatorKind,
    JobKind,
    JobSpec,
    check_of,
    input_hash_of,
)
from dux_taskd import sealing
from dux_taskd.considering import limits_of
from dux_taskd.materials import PACKAGE_BYTES_MAX
from dux_taskd.model import LegKind, Plan, Task
from dux_taskd.sandbox.wasm_abi import INPUT_BYTES_MAX

CHECKERS_MAX = 3  # second workers tried one after another
CHECKERS_ASKED_MAX = 16  # of the cheapest, whether they are there now
REACH_S = 3.0
KEY_BYTES = 32
RUN_HERE = (JobKind.WASM.value, JobKind.NATIVE.value)


class Input(msgspec.Struct, frozen=True):
    """The input as it travels; `key` is empty for a public one."""

    blob: str
    input_hash: bytes
    key: bytes


class Bought(msgspec.Struct, frozen=True):
    """A task ready to begin, and what has to be kept for it."""

    task: Task
    given: Input
    audience: tuple[Did, ...]


def _seat(arbiters: tuple[Did, ...], own: Did, services: list[ServiceView]) -> None:
    """See that every contract that may be made has its panel.

    Raises:
        TooFewArbiters: one of them has not.
    """
    for one in services:
        wanted, named = panel_size_for(one.price_florins), len(set(arbiters) - {own, one.provider})
        if named < wanted:
            raise TooFewArbiters(price_florins=int(one.price_florins), wanted=wanted, named=named)


def _require_swap(wish: Submit, services: list[ServiceView]) -> None:
    """See that who pays first has said so, and gains by it.

    Raises:
        NoSwap: the price is above the limit, a check would come too late, or the result is to be seen anyway.
    """
    if wish.policy != "swap":
        return
    dearest = max(int(one.price_florins) for one in services)
    price, limit = format_flop(dearest), format_flop(wish.swap_limit_florins)
    laws = (
        (wish.check == "none", "a second worker's finding would come after the payment; buy with check none"),
        (dearest <= wish.swap_limit_florins, f"it costs {price} FLOP, and the swap limit is {limit} FLOP"),
        (all(one.result_lock for one in services), "the service shows its results before they are paid"),
    )
    reason = next((why for holds, why in laws if not holds), "")
    if reason:
        raise NoSwap(reason=reason)


class Buying:
    """Plans purchases."""

    def __init__(self, *, stored: Client, peers: Peers, network: NetworkProfile, random: Randomness) -> None:
        self._stored, self._peers, self._network, self._random = stored, peers, network, random

    async def plan(self, wish: Submit, now_ms: int) -> Bought:
        """The task for a wish.

        Raises:
            NotForSale, PriceAbove, NoChecker, TooFewArbiters, BadJob, NoSwap: with what to change.
        """
        own = (await self._peers.info()).did
        services = [await self._service(wish, one, own) for one in (wish.service_id, *wish.alternatives)]
        services = await self._there_first(services)
        comparator = _comparator(wish)
        checkers = await self._checkers(wish, services[0], own, [s.provider for s in services])
        _require_swap(wish, services)
        arbiters = tuple(did for did in wish.arbiters or self._network.arbiters if did not in wish.strikes)
        _seat(arbiters, own, [*services, *checkers])
        audience = tuple(dict.fromkeys((own, *(s.provider for s in [*services, *checkers]), *arbiters)))
        given = await self._input(wish)
        job_of = _JobMaker(wish, given, comparator, audience)
        await self._bring_packages(services)
        mains = [_plan(LegKind.MAIN, s, job_of.make(s)) for s in services]
        check_job = check_of(job_of.make(services[0]))
        checks = [_plan(LegKind.CHECK, s, check_job) for s in checkers]
        task = Task(
            task_id=new_id(self._random, "task"),
            buyer=own,
            arbiters=arbiters,
            deliver_blocks=wish.deliver_blocks,
            created_ms=now_ms,
            spare=(*mains, *checks),
            policy=wish.policy,
            swap_limit_florins=wish.swap_limit_florins if wish.policy == "swap" else Florins(0),
        )
        return Bought(task, given, audience)

    async def _service(self, wish: Submit, service_id: str, own: Did) -> ServiceView:
        try:
            service = (await self._stored.call(SERVICE_SHOW, ServiceName(service_id=service_id))).service
        except NotFound as error:
            raise NotForSale(service_id=service_id, reason="nobody offers it") from error
        claims = (
            (not service.withdrawn, "it was withdrawn"),
            (service.kind in RUN_HERE, f"it is of kind {service.kind}, which is not run in a sandbox"),
            (service.provider != own, "it is this node's own; try it with task.run"),
        )
        fault = next((fault for holds, fault in claims if not holds), "")
        if fault:
            raise NotForSale(service_id=service_id, reason=fault)
        if service.price_florins > wish.price_limit_florins:
            raise PriceAbove(
                service_id=service_id,
                price_florins=int(service.price_florins),
                limit_florins=int(wish.price_limit_florins),
            )
        return service

    async def _checkers(self, wish: Submit, service: ServiceView, own: Did, sellers: list[Did]) -> list[ServiceView]:
        """Second workers, cheapest first; none when none is wanted."""
        if wish.check == "none":
            return []
        if service.kind != JobKind.WASM.value or wish.compare != "equal":
            raise BadJob(detail="a second worker checks by hash: kind wasm and comparison `equal` only")
        if wish.check == "auto":
            found = await self._find_checkers()
        else:
            found = [(await self._stored.call(SERVICE_SHOW, ServiceName(service_id=wish.check))).service]
        fit = [s for s in found if s.kind == JobKind.CHECK.value and s.provider not in (own, *sellers)]
        fit = [s for s in fit if s.price_florins <= wish.check_limit_florins and not s.withdrawn]
        if not fit:
            raise NoChecker(kind=service.kind)
        return (await self._there_first(fit[:CHECKERS_ASKED_MAX]))[:CHECKERS_MAX]

    async def _there_first(self, services: list[ServiceView]) -> list[ServiceView]:
        """Those whose provider answers now before the others, else in their order: a dead one costs a whole wait."""
        if len(services) < 2:  # noqa: PLR2004 - nothing to choose from
            return services
        providers = list(dict.fromkeys(one.provider for one in services))
        here = await self._peers.reach(providers, wanted=len(providers), limit_s=REACH_S)
        return sorted(services, key=lambda one: one.provider not in here)

    async def _find_checkers(self) -> list[ServiceView]:
        wanted = SearchServices(kind=JobKind.CHECK.value, sort=SortBy.PRICE, include_offline=False)
        found = (await self._stored.call(SERVICE_SEARCH, wanted)).services
        return list(found)

    async def _input(self, wish: Submit) -> Input:
        """Read the input once, for its hash; encrypt it if it is private."""
        data = await self._peers.get_blob(wish.input_blob)
        if len(data) > INPUT_BYTES_MAX:
            raise BadJob(detail=f"the input has {len(data)} bytes, at most {INPUT_BYTES_MAX} are taken")
        input_hash = bytes(input_hash_of(data))
        if not wish.private_input:
            return Input(wish.input_blob, input_hash, b"")
        key, nonce = self._random.bytes(KEY_BYTES), self._random.bytes(sealing.NONCE_BYTES)
        blob = await self._peers.put_blob(sealing.seal_input(key, data, nonce=nonce))
        return Input(blob, input_hash, key)

    async def _bring_packages(self, services: list[ServiceView]) -> None:
        """Keep the packages here too, so that checkers and arbiters can have them from the buyer."""
        for service in services:
            await self._peers.fetch_blob(service.package, [service.provider], max_bytes=PACKAGE_BYTES_MAX)


class _JobMaker:
    """The same wish as a job for each service."""

    def __init__(self, wish: Submit, given: Input, comparator: Comparator, audience: tuple[Did, ...]) -> None:
        self._wish, self._given, self._comparator, self._audience = wish, given, comparator, audience

    def make(self, service: ServiceView) -> JobSpec:
        return JobSpec(
            v=1,
            kind=JobKind(service.kind),
            package=bytes.fromhex(service.package),
            entry=service.entry,
            args=self._wish.args,
            input_blob=bytes.fromhex(self._given.blob),
            input_hash=self._given.input_hash,
            input_private=bool(self._given.key),
            limits=limits_of(service.limits),
            comparator=self._comparator,
            audience=self._audience if self._given.key else (),
        )


def _comparator(wish: Submit) -> Comparator:
    if wish.compare == "equal":
        return EQUAL
    return Comparator(kind=ComparatorKind.TOLERANCE, step=wish.tolerance_step, share_ppm=wish.tolerance_share_ppm)


def _plan(kind: LegKind, service: ServiceView, job: JobSpec) -> Plan:
    return Plan(
        kind=kind,
        service_id=service.id,
        worker=service.provider,
        price_florins=service.price_florins,
        job=canonical(job),
        developer=service.developer,
        royalty_bps=service.royalty_bps,
        result_lock=service.result_lock,
    )

"""Parameter sets that the council has signed, in the DHT by version: told by who was handed one, found by everybody.

Promise: nothing that is found is taken here. It is judged as `duxnet parameters apply` judges a file, by the newest
logs of the founders, and kept for the operator, who takes it once its height has come. What was told is told again
until this node forgets its books, so that a node that was away for several versions finds each of them.

Source: network.md §4 (governance), mechanisms.md §3.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import from_json, json_bytes
from common.contracts.airdrop import ParametersFound
from common.contracts.airdrop_parameters import (
    PARAMETERS_FIND,
    PARAMETERS_PUBLISH,
    NoNewerSet,
    PublishSet,
    SetFound,
    SetPublished,
)
from common.council import Known
from common.errors import BadParams, DuxError
from common.network import NetworkProfile
from common.parameter_file import SignedSet, signing_problem
from common.parameters import ParametersRefused, chain_problem
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Did
from dux_airdropd.effects import Outside
from dux_airdropd.store import Books

FIRST_LOOK_S = 60.0  # after the start: p2pd has met others by then
LOOK_S = 3_600.0
TELL_AGAIN_MS = 12 * 3_600_000  # a record lives for two days
READ_MAX = 8  # records of one version whose blobs are fetched: the founders' first
WHERE = "the network"  # stands for a file's name where a set is refused


class Announcing:
    """This node's part in passing on what the council has signed."""

    def __init__(
        self, books: Books, outside: Outside, network: NetworkProfile, *, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._books = books
        self._outside = outside
        self._network = network
        self._clock = clock
        self._log = log

    def serve(self, table: MethodTable) -> None:
        """Answer the operator."""
        table.serve(PARAMETERS_PUBLISH, self.publish)
        table.serve(PARAMETERS_FIND, self.find)

    async def run(self) -> None:
        """Look for ever."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Tell again what was told long ago, and see whether there is a newer set."""
        await self._attempt(self._tell_again)
        await self._attempt(self._find)

    async def _attempt(self, what: Callable[[], Awaitable[object]]) -> None:
        try:
            await what()
        except DuxError as error:
            self._log.info("parameter sets wait", reason=error.message)

    # telling

    async def publish(self, params: PublishSet, ctx: Ctx) -> SetPublished:
        """A set that this node's operator was handed.

        Raises:
            ParametersRefused: it does not follow this node's, or too few have signed it.
        """
        one = from_json(params.signed, SignedSet)
        problem = self._follows(one) or await self._signing(one)
        if problem:
            raise ParametersRefused(path=WHERE, version=one.parameters.version, reason=problem)
        version, data = one.parameters.version, json_bytes(one)
        blob, kept_at = await self._outside.tell_set(version, data)
        told = SetPublished(version=version, blob=blob, kept_at=kept_at)
        with self._books.store.transaction() as tx:
            self._books.put_set(tx, version, data, self._clock.unix_ms())
            tx.audit("parameter set told", {"version": version})
            ctx.remember(tx, told)
        return told

    async def _tell_again(self) -> None:
        now_ms = self._clock.unix_ms()
        for version, data in self._books.sets_told_before(now_ms - TELL_AGAIN_MS):
            await self._outside.tell_set(version, data)
            with self._books.store.transaction() as tx:
                self._books.put_set(tx, version, data, now_ms)

    # finding

    async def find(self, _params: Empty, _ctx: Ctx) -> SetFound:
        """The set after this node's.

        Raises:
            NoNewerSet: there is none that counts.
        """
        one = await self._find()
        if one is None:
            raise NoNewerSet(version=self._network.parameters.version)
        found = one.parameters
        return SetFound(version=found.version, from_height=BlockHeight(found.from_height), signed=json_bytes(one))

    async def _find(self) -> SignedSet | None:
        version = self._network.parameters.version + 1
        council = set(self._network.council)
        named = await self._outside.sets_named(version)
        for did, pointer in sorted(named, key=lambda told: (told[0] not in council, told[0]))[:READ_MAX]:
            try:
                one = from_json(await self._outside.fetch_set(did, pointer), SignedSet)
                problem = self._follows(one) or await self._signing(one)
            except DuxError as error:
                problem = error.message
            if not problem:
                self._tell_operator(one)
                return one
            self._log.info("parameter set not taken", version=version, told_by=did, reason=problem)
        return None

    def _tell_operator(self, one: SignedSet) -> None:
        """Once for each version."""
        found = one.parameters
        if found.version <= self._books.newest_set_seen():
            return
        with self._books.store.transaction() as tx:
            self._books.saw_set(tx, found.version)
            tx.emit(
                "ParametersFound", ParametersFound(version=found.version, from_height=BlockHeight(found.from_height))
            )

    # judging

    def _follows(self, one: SignedSet) -> str:
        """Why it is not the set after this node's, nor one of those; or an empty string."""
        held = self._network.parameter_sets or (self._network.first_parameters,)
        if one.parameters in held[1:]:
            return ""
        return chain_problem((*held, one.parameters), self._network.genesis, is_main=self._network.is_main)[1]

    async def _signing(self, one: SignedSet) -> str:
        logs = [log for did in self._network.council if (log := await self._outside.log_known(Did(did))) is not None]
        known = Known(logs=tuple(logs), only=frozenset(log.did for log in logs))
        try:
            return signing_problem(self._network, one, now_ms=self._clock.unix_ms(), known=known)
        except BadParams as error:
            return error.message

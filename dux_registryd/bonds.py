"""Fidelity bonds as evidence: this wallet's registered ones told to the network, everybody's checked and counted.

Promises: what counts was shown by the chain of this node's own wallet, deep enough, and counts no longer than its block
stays on the best chain and its height is ahead. What the owner has not registered in the wallet is told to nobody.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.chain.heights import depth_for, heights_profile
from common.clock import Clock
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import attested, body_of
from common.standing import STATEMENT_BYTES_MAX, BondTold, Kind
from common.units import Did, Florins, UnixMs
from dux_registryd.bond_rules import (
    Locked,
    bond_properties,
    counted,
    florins_locked,
    height_fault,
    locked_of,
    output_fault,
    place_of,
    proof_of,
)
from dux_registryd.effects import Outside, OwnBond
from dux_registryd.statements import Heading, Rule, Statements
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept

BONDS_MAX = 10_000  # statements looked at, the newest first
SLACK_BLOCKS = 1  # told one block deeper than others ask, whose tip may be behind
DEEP_BLOCKS = 200  # a block this far below the tip is looked up once


class Bonds:
    """What is locked by whom."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        statements: Statements,
        *,
        network: NetworkProfile,
        clock: Clock,
        log: FilteringBoundLogger,
        check_s: float,
    ) -> None:
        self._book = book
        self._outside = outside
        self._statements = statements
        self._genesis = network.genesis
        self._heights = heights_profile(network.heights)
        self._clock = clock
        self._log = log
        self._check_s = check_s
        self._held: dict[Did, tuple[Locked, ...]] = {}
        self._deep = set[str]()
        statements.judge(Kind.BOND, Rule(Purpose.BOND_TOLD, BondTold, _heading, self._fault))

    async def run(self) -> None:
        """Tell and count for ever."""
        while True:
            try:
                await self.once()
            except DuxError as error:
                self._log.info("bonds not looked at", reason=error.message)
            await asyncio.sleep(self._check_s)

    async def once(self) -> None:
        """Tell of own bonds that are deep enough, then count everybody's."""
        tip = await self._outside.tip()
        if tip is None:
            return
        for bond in await self._outside.own_bonds():
            await self._tell(bond, tip.height)
        kept = [_told_of(one) for one in self._book.statements_of(Kind.BOND, BONDS_MAX)]
        self._held = counted([locked_of(told) for told in kept if await self._is_mined(told, tip.height)])

    async def _tell(self, bond: OwnBond, tip: int) -> None:
        if tip - bond.height + 1 < depth_for(self._heights, bond.value_florins) + SLACK_BLOCKS:
            return
        block_hash = await self._outside.block_hash(bond.height)
        if block_hash is None:
            return
        told = BondTold(
            network=self._genesis,
            did=await self._outside.own_did(),
            proof=bond.proof,
            value_florins=bond.value_florins,
            height=bond.height,
            block_hash=block_hash,
            at_ms=UnixMs(self._clock.unix_ms()),
        )
        if self._book.statement_at(Kind.BOND, told.did, place_of(told)) is None:
            taken = await self._statements.say(Kind.BOND, told)
            self._log.info("bond told", outpoint=place_of(told), word=taken.word, reason=taken.reason)

    async def _is_mined(self, told: BondTold, tip: int) -> bool:
        if told.block_hash in self._deep:
            return True
        mined = await self._outside.block_hash(told.height) == told.block_hash
        if mined and tip - told.height > DEEP_BLOCKS:
            self._deep.add(told.block_hash)
        return mined

    async def _fault(self, told: BondTold) -> str | None:
        tip = await self._outside.tip()
        if tip is None:
            return "this node's chain is not there yet"
        fault = height_fault(told, tip=tip.height, depth=depth_for(self._heights, told.value_florins))
        if fault or await self._outside.block_hash(told.height) != told.block_hash:
            return fault or "the chain has another block at that height"
        return output_fault(told, await self._outside.outputs(proof_of(told).bond.outpoint.txid, told.height))

    # what is known

    def florins(self, did: Did, tip: int) -> Florins:
        """How much a node has locked now."""
        return Florins(florins_locked(self._held.get(did, ()), tip))

    def properties(self, did: Did, tip: int) -> list[tuple[str, str]]:
        """What may be attested of it."""
        return bond_properties(self._held.get(did, ()), tip)


def _told_of(kept: Kept) -> BondTold:
    return body_of(attested(kept.note.body), BondTold, STATEMENT_BYTES_MAX)


def _heading(told: BondTold) -> Heading:
    proof = proof_of(told)
    return Heading(proof.bond.did, Did(told.did), place_of(told), told.at_ms)

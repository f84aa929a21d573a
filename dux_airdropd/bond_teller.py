"""Showing this node's registered bonds to the custodians, so that the next cut-off finds them (rule `bonded`).

Promises: each bond reaches each custodian once per life of this daemon, and again whenever the custodian was away; what
the owner has not registered in the wallet is told to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from common.codec import canonical
from common.contracts.peer_airdrop import BondCall
from common.errors import DuxError
from common.units import BlockHeight, Did, Florins
from dux_airdropd.custody import Custody
from dux_airdropd.effects import Outside
from dux_airdropd.model import BondShown

EVERY_BLOCKS = 10  # an hour has six looks
TOLD_MAX = 10_000


class BondTeller:
    """Tells custodians of own bonds."""

    def __init__(
        self, outside: Outside, custody: Custody, *, custodians: Sequence[Did], log: FilteringBoundLogger
    ) -> None:
        self._outside = outside
        self._custody = custody
        self._custodians = custodians
        self._log = log
        self._told = set[tuple[Did, bytes]]()
        self._looked = -EVERY_BLOCKS

    async def look(self, tip: int) -> None:
        """Every few blocks: hand over what a custodian has not taken yet."""
        if tip - self._looked < EVERY_BLOCKS:
            return
        coins = [coin for coin in await self._outside.own_bonds() if coin.proof]
        calls = [_call(coin.proof, coin.height, coin.value_florins) for coin in coins if coin.height is not None]
        for did in self._custodians:
            for call in calls:
                if (did, call.shown) not in self._told:
                    await self._tell(did, call)
        self._looked = tip

    async def _tell(self, did: Did, call: BondCall) -> None:
        own = await self._outside.own_did()
        try:
            if did == own:
                await self._custody.take_bond(call, own)
            else:
                await self._outside.send_bond(did, call)
        except DuxError as error:
            self._log.info("bond not told", did=did, reason=error.message)
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add((did, call.shown))


def _call(proof: bytes, height: BlockHeight, value: Florins) -> BondCall:
    return BondCall(canonical(BondShown(proof, height, value)))

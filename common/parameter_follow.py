"""A running daemon takes the next parameter set when the chain reaches the height that it names.

Promise: the sets beside the profile, and those that wait there for their heights, are judged as at a start; one that
does not hold leaves the daemon under the sets it has, and the log says so once. A profile changes here and nowhere
else, its figures all at once. What was agreed under an earlier set keeps it: terms name their tax, receipts show it.
Source: settled.md 32; docs/protocol/fund.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError
from common.network import NetworkProfile
from common.parameter_file import parameters_file, taken_sets, under, waiting_file
from common.parameters import ParametersRefused

LOOK_S = 5.0
CHANGES = ("tax_bps", "airdrop", "parameter_sets")

Stamp = tuple[tuple[int, int], ...]


class ParameterFollower:
    """Looks for later sets. `tip`: the chain's height, `taken`: what else has to know."""

    def __init__(
        self,
        profile: Path,
        network: NetworkProfile,
        tip: Callable[[], Awaitable[int]],
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        taken: list[Callable[[], None]],
    ) -> None:
        self._profile = profile
        self._files = (parameters_file(profile), waiting_file(profile))
        self._network = network
        self._tip = tip
        self._clock = clock
        self._log = log
        self._taken = taken
        self._seen: Stamp = ()
        self._waits_for: int | None = None

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            try:
                await self.look()
            except ParametersRefused as error:
                self._log.error("parameter set not taken", reason=error.message)
            except DuxError as error:  # the wallet is down or reads the chain
                self._log.debug("no tip for parameters", reason=error.message)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take what holds by now; files are read when they have changed, the chain when a set waits.

        Raises:
            ParametersRefused: the files hold a set that does not follow, or that too few have signed.
        """
        stamp = tuple(_stamp(path) for path in self._files)
        if stamp == self._seen and self._waits_for is None:
            return
        tip = await self._tip()
        if stamp == self._seen and self._waits_for is not None and tip < self._waits_for:
            return
        self._seen, self._waits_for = stamp, None
        self._take(tip)

    def _take(self, tip: int) -> None:
        signed = taken_sets(self._profile)
        held = len(self._network.parameter_sets[1:])
        at, now_ms = len(signed), self._clock.unix_ms()
        under(self._network.as_signed, signed, path=self._files[0], now_ms=now_ms)  # those that wait, too
        while at > held and signed[at - 1].parameters.from_height > tip:
            at -= 1
        if at < len(signed):
            self._waits_for = signed[at].parameters.from_height
        if at <= held:
            return
        newer = under(self._network.as_signed, signed[:at], path=self._files[0], now_ms=now_ms)
        for name in CHANGES:
            msgspec.structs.force_setattr(self._network, name, getattr(newer, name))
        self._log.info("parameter set taken", version=newer.parameters.version, height=tip)
        for told in self._taken:
            told()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size

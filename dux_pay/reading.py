"""A metered answer read in parts and paid as it comes: the buyer's side of what `streams` delivers.

Promises: at first the price that an answer begins with is promised, and one step more only when the answer waits, never
further beyond what has come than `ahead_florins`; what came goes on at once; a broken line is taken up where it broke;
the end counts by the payee's signature over the whole. Source: channel_protocol.md §6, docs/selling-http.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger

from common.errors import CallerMistake, DuxError, NotNow
from common.units import Florins
from dux_pay.answers import BODY_BYTES_MAX
from dux_pay.buying import Came, Header, Wanted
from dux_pay.headers import RESPONSE, SIGNATURE
from dux_pay.purse import Purse
from dux_pay.streams import ERRORS_FROM, STREAM

IDLE_S = 0.3  # an answer that waits so long may wait for fuel
SILENT_S = 60.0  # without a byte for so long the line counts as broken
TRIES = 6
PAUSE_S, PAUSE_MAX_S = 0.5, 8.0
PAYMENT_REQUIRED, UNAVAILABLE = 402, 503
FAILURE_BYTES_MAX = 64 * 1024

Sink = Callable[[bytes], None]
Ask = Callable[[dict[str, str]], Any]
"""The request once more with these headers: a context manager of aiohttp's."""


@dataclass
class Reading:
    """One answer. `step_florins`: what each fuel adds; `wanted`: the request, as the purse wants it."""

    purse: Purse
    ask: Ask
    wanted: Callable[[str, str], Wanted]
    header: Header
    sink: Sink
    ahead_florins: Florins
    step_florins: Florins
    had: int = 0
    fed: bool = True
    _digest: Any = field(default_factory=hashlib.sha256)
    _promised: int = 0
    _promised_then: int = 0  # when the latest part came
    _log: FilteringBoundLogger = field(default_factory=lambda: structlog.get_logger("buyer"))

    async def run(self) -> tuple[Came | None, int, tuple[tuple[str, str], ...]]:
        """Read to the end; the settled answer with status and headers, None: it is none that was paid for.

        Raises:
            aiohttp.ClientError, TimeoutError: the seller did not answer any more; the same id goes on.
        """
        self._promised = self._promised_then = int(self.header.most_florins)
        tries, failed = TRIES, Exception()
        while tries:
            had = self.had
            try:
                async with self.ask({SIGNATURE: self.header.header, STREAM: str(self.had)}) as answer:
                    done = await self._one(answer)
                if done is not None:
                    return done
                failed = TimeoutError("the answer has not ended")
            except (TimeoutError, aiohttp.ClientError) as error:
                failed = error
            tries = TRIES if self.had > had else tries - 1
            await asyncio.sleep(0 if self.had > had else min(PAUSE_MAX_S, PAUSE_S * 2 ** (TRIES - tries - 1)))
        raise failed

    async def _one(self, answer: aiohttp.ClientResponse) -> tuple[Came | None, int, tuple[tuple[str, str], ...]] | None:
        """One answer of the seller's; None: ask again."""
        if answer.status == PAYMENT_REQUIRED:
            await self._paid_anew(answer)
            return None
        if answer.status == UNAVAILABLE:
            return None
        headers = tuple(answer.headers.items())
        if STREAM not in answer.headers and self.had:
            return await self._ended_otherwise(answer)
        if RESPONSE not in answer.headers:
            await self._read(answer)
            return None if STREAM in answer.headers else (None, answer.status, headers)
        async for part in answer.content.iter_any():
            self._take(part)
        came = Came(
            oid=self.header.oid, response=answer.headers[RESPONSE], status=answer.status, headers=headers,
            body_sha256=self._digest.hexdigest(),
        )  # fmt: skip
        return came, answer.status, headers

    async def _ended_otherwise(
        self, answer: aiohttp.ClientResponse
    ) -> tuple[Came | None, int, tuple[tuple[str, str], ...]]:
        """An answer that what came is no part of: the call failed, and what came costs nothing.

        Raises:
            aiohttp.ClientPayloadError: it is no signed failure.
        """
        headers, body = tuple(answer.headers.items()), await answer.content.read(FAILURE_BYTES_MAX)
        if RESPONSE not in answer.headers or answer.status < ERRORS_FROM:
            raise aiohttp.ClientPayloadError("the seller does not go on where the line broke")
        came = Came(
            oid=self.header.oid, response=answer.headers[RESPONSE], status=answer.status, headers=headers,
            body_sha256=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return came, answer.status, headers

    def _take(self, part: bytes) -> None:
        self.had += len(part)
        if self.had > BODY_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"more than {BODY_BYTES_MAX} bytes")
        self._digest.update(part)
        self._promised_then = self._promised
        self.sink(part)

    async def _read(self, answer: aiohttp.ClientResponse) -> None:
        """Parts as they come; where none does, fuel."""
        silent_s = 0.0
        while not answer.content.at_eof():
            try:
                async with asyncio.timeout(IDLE_S):
                    part = await answer.content.readany()
            except TimeoutError:
                silent_s += IDLE_S
                if silent_s >= SILENT_S:
                    raise
                await self._feed()
                continue
            silent_s = 0.0
            if part:  # none is the end
                self._take(part)

    async def _feed(self) -> None:
        """Promise a step more, as long as no more is promised than may be lost."""
        florins = self._promised + int(self.step_florins)
        if not self.fed or florins - self._promised_then > self.ahead_florins:
            return
        try:
            self.header = await self.purse.fuel(self.header.oid, Florins(florins))
            self._promised = florins
            async with self.ask({SIGNATURE: self.header.header}) as beside:
                if beside.status == PAYMENT_REQUIRED:
                    await self._paid_anew(beside)
        except NotNow as error:
            self._log.info("no fuel now", reason=error.message)
            self.fed = error.key != "over-day-limit"
        except CallerMistake as error:  # the owner's limit: what is covered is read to its end
            self._log.info("no more fuel", reason=error.message)
            self.fed = False
        except (TimeoutError, aiohttp.ClientError, DuxError) as error:  # the next step brings it
            self._log.info("fuel did not arrive", reason=str(error))

    async def _paid_anew(self, answer: aiohttp.ClientResponse) -> None:
        """The seller has begun a new session, or wants what is missing: the same call's next header."""
        headers = {name.upper(): value for name, value in answer.headers.items()}
        self.header = await self.purse.pay(self.wanted(headers.get("PAYMENT-REQUIRED", ""), self.header.oid))

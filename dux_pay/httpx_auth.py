"""A hook for `httpx`: `httpx.AsyncClient(auth=PayAuth())` pays when it meets 402, through the node's gateway.

The same promises as `requests_auth`, for both of httpx's clients: one exchange, written once as steps, and two drivers.
`response.extensions["dux"]` says what the call cost.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from dux_pay.gateway_client import (
    OK,
    PAUSE_MAX_S,
    PAUSE_S,
    PAYMENT_REQUIRED,
    TRIES,
    UNAVAILABLE,
    GatewayAt,
    gateway_of,
    pay_body,
    refusal,
    settled_body,
)
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE

LOCAL_S = httpx.Timeout(5.0, read=660.0)  # a channel that has to be opened waits for a block


@dataclass(frozen=True)
class ToGateway:
    """A step: ask the gateway."""

    verb: str
    body: bytes


@dataclass(frozen=True)
class Pause:
    """A step: wait."""

    seconds: float


Steps = Generator[httpx.Request | ToGateway | Pause, httpx.Response | None, None]


class PayAuth(httpx.Auth):
    """Pays for one client's requests. `most_florins`: no call may cost more."""

    def __init__(
        self, gateway: GatewayAt | None = None, *, node: Path | str | None = None, most_florins: int | None = None
    ) -> None:
        self._at = gateway or gateway_of(node)
        self._most_florins = most_florins

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The exchange, for `httpx.Client`."""
        request.read()
        with httpx.Client(trust_env=False, timeout=LOCAL_S) as local:
            steps = self._steps(request)
            step = next(steps)
            while True:
                answer: httpx.Response | None = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                elif isinstance(step, ToGateway):
                    answer = local.post(f"{self._at.url}/{step.verb}", content=step.body, headers=self._at.headers())
                else:
                    answer = yield step
                    answer.read()
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The exchange, for `httpx.AsyncClient`."""
        await request.aread()
        async with httpx.AsyncClient(trust_env=False, timeout=LOCAL_S) as local:
            steps = self._steps(request)
            step = next(steps)
            while True:
                answer: httpx.Response | None = None
                if isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                elif isinstance(step, ToGateway):
                    url = f"{self._at.url}/{step.verb}"
                    answer = await local.post(url, content=step.body, headers=self._at.headers())
                else:
                    answer = yield step
                    await answer.aread()
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return

    def _steps(self, request: httpx.Request) -> Steps:
        """What is done one after the other; the last request's answer is the caller's."""
        request.headers["Accept-Encoding"] = "identity"  # what is hashed is what was signed
        response = _came((yield request))
        oid, pause_s = "", PAUSE_S
        for _ in range(TRIES):
            if response.status_code == PAYMENT_REQUIRED and REQUIRED in response.headers:
                said = self._taken((yield ToGateway("pay", self._asked(request, response, oid))), request)
                oid, request.headers[SIGNATURE] = said.json()["oid"], said.headers[SIGNATURE]
            elif response.status_code != UNAVAILABLE or not oid:
                break
            else:
                yield Pause(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            response = _came((yield request))
        if oid and RESPONSE in response.headers:
            said = self._taken((yield ToGateway("settled", _told(oid, response))), request)
            response.extensions["dux"] = said.json()

    def _asked(self, request: httpx.Request, response: httpx.Response, oid: str) -> bytes:
        return pay_body(
            required=response.headers[REQUIRED],
            method=request.method,
            url=str(request.url),
            body=request.content,
            oid=oid,
            most_florins=self._most_florins,
        )

    def _taken(self, said: httpx.Response | None, request: httpx.Request) -> httpx.Response:
        answer = _came(said)
        if answer.status_code != OK:
            raise refusal(answer.status_code, answer.text, str(request.url))
        return answer


def _came(answer: httpx.Response | None) -> httpx.Response:
    if answer is None:
        raise TypeError("a step that asks is sent an answer")
    return answer


def _told(oid: str, response: httpx.Response) -> bytes:
    return settled_body(
        oid=oid,
        response=response.headers[RESPONSE],
        status=response.status_code,
        headers=response.headers.multi_items(),
        body=response.content,
    )

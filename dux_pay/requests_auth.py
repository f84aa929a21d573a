"""A hook for `requests`: `requests.get(url, auth=PayAuth())` pays when it meets 402, through the node's gateway.

Promises: the same request goes out again with one header more, byte for byte; while the seller is busy it is repeated
with the same header, so it is charged once; the answer is checked by the gateway, and `response.dux` says what it cost.
Bodies are bytes or text: a stream could not be sent twice.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase

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

PAY_S = 660.0  # a channel that has to be opened waits for a block


class PayAuth(AuthBase):
    """Pays for one session's requests. `most_florins`: no call may cost more."""

    def __init__(
        self, gateway: GatewayAt | None = None, *, node: Path | str | None = None, most_florins: int | None = None
    ) -> None:
        self._at = gateway or gateway_of(node)
        self._most_florins = most_florins
        self._local = requests.Session()
        self._local.trust_env = False  # the gateway is on this machine: no proxy stands between

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Hook a request on its way out."""
        request.headers["Accept-Encoding"] = "identity"  # what is hashed is what was signed
        request.register_hook("response", self._answered)  # type: ignore[no-untyped-call]
        return request

    def _answered(self, response: requests.Response, **more: Any) -> requests.Response:
        if SIGNATURE in response.request.headers:  # a repeat of ours, looked after below
            return response
        oid, pause_s = "", PAUSE_S
        for _ in range(TRIES):
            if response.status_code == PAYMENT_REQUIRED and REQUIRED in response.headers:
                header, oid = self._paid(response, oid)
            elif response.status_code != UNAVAILABLE or not oid:
                break
            else:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            response = self._again(response, header, more)
        return self._settled(response, oid)

    def _paid(self, response: requests.Response, oid: str) -> tuple[str, str]:
        request = response.request
        url = str(request.url)
        asked = pay_body(
            required=response.headers[REQUIRED],
            method=str(request.method),
            url=url,
            body=_bytes(request.body),
            oid=oid,
            most_florins=self._most_florins,
        )
        said = self._local.post(f"{self._at.url}/pay", data=asked, headers=self._at.headers(), timeout=PAY_S)
        if said.status_code != OK:
            raise refusal(said.status_code, said.text, url)
        return said.headers[SIGNATURE], said.json()["oid"]

    def _again(self, response: requests.Response, header: str, more: dict[str, Any]) -> requests.Response:
        response.content  # noqa: B018 - read to its end, so that the line can be used again
        response.close()
        again = response.request.copy()
        again.headers[SIGNATURE] = header
        sent: requests.Response = response.connection.send(again, **more)
        sent.history.append(response)
        sent.request = again
        return sent

    def _settled(self, response: requests.Response, oid: str) -> requests.Response:
        if not oid or RESPONSE not in response.headers:
            return response
        told = settled_body(
            oid=oid,
            response=response.headers[RESPONSE],
            status=response.status_code,
            headers=response.headers.items(),
            body=response.content,
        )
        said = self._local.post(f"{self._at.url}/settled", data=told, headers=self._at.headers(), timeout=PAY_S)
        if said.status_code != OK:
            raise refusal(said.status_code, said.text, str(response.request.url))
        response.dux = said.json()  # type: ignore[attr-defined]
        return response


def _bytes(body: object) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    raise TypeError("a paid request's body is bytes or text: a stream cannot be sent twice")

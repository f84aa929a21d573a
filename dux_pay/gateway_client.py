"""What a hook for a client library says to the node's gateway, without any library: bodies to send, headers to read.

The hooks (`requests_auth`, `httpx_auth`) make the exchange with their own library's means; this keeps what is the same
for both. `gateway_of` finds the gateway of a node by its files. Source: channel_protocol.md §7.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.errors import CallerMistake, Unavailable

URL_VARIABLE, TOKEN_VARIABLE = "DUXNET_GATEWAY", "DUXNET_GATEWAY_TOKEN"
RUN_NAME, URL_FILE, TOKEN_FILE = "gateway", "url", "module.token"
TRIES = 8
PAUSE_S, PAUSE_MAX_S = 0.5, 8.0
PAYMENT_REQUIRED, UNAVAILABLE, OK = 402, 503, 200


class NoGateway(CallerMistake):
    """No gateway is known: start `duxnet gateway`, and set DUXNET_GATEWAY and DUXNET_GATEWAY_TOKEN or name the node."""

    code = 3169
    key = "no-gateway"


class NotPaid(Unavailable):
    """The gateway did not pay for {url}: {reason}."""

    code = 3170
    key = "not-paid"


@dataclass(frozen=True)
class GatewayAt:
    """Where the gateway is, and its token."""

    url: str
    token: str

    def headers(self) -> dict[str, str]:
        """The headers of a call."""
        return {"Dux-Token": self.token, "Content-Type": "application/json"}


def gateway_of(node: Path | str | None = None) -> GatewayAt:
    """The gateway of a node's folder, or of the environment.

    Raises:
        NoGateway: neither says where it is.
    """
    if node is None and URL_VARIABLE in os.environ and TOKEN_VARIABLE in os.environ:
        return GatewayAt(os.environ[URL_VARIABLE].rstrip("/"), Path(os.environ[TOKEN_VARIABLE]).read_text().strip())
    folder = Path(node or os.environ.get("DUXNET_NODE", "")) / "run" / RUN_NAME
    try:
        return GatewayAt((folder / URL_FILE).read_text().strip(), (folder / TOKEN_FILE).read_text().strip())
    except OSError as error:
        raise NoGateway from error


def pay_body(*, required: str, method: str, url: str, body: bytes, oid: str, most_florins: int | None) -> bytes:
    """What `/pay` is asked."""
    asked: dict[str, object] = {
        "required": required,
        "method": method,
        "url": url,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    if oid:
        asked["oid"] = oid
    if most_florins is not None:
        asked["most_florins"] = str(most_florins)
    return json.dumps(asked).encode()


def settled_body(*, oid: str, response: str, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """What `/settled` is told."""
    told = {
        "oid": oid,
        "response": response,
        "status": status,
        "headers": [[name, value] for name, value in headers],
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    return json.dumps(told).encode()


def refusal(status: int, text: str, url: str) -> NotPaid:
    """The gateway's no, as an error."""
    try:
        reason = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        reason = text[:200] or f"status {status}"
    return NotPaid(url=url, reason=str(reason))

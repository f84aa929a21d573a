"""A liar's wallet: what it signs for contracts is one byte off, and its escrowd sends it out as if it were right."""

from __future__ import annotations

from typing import Any

import msgspec

from common.contracts.wallet_contract import CONTRACT_SIGN
from common.rpc.client import DEADLINE_DEFAULT_S, Client
from common.rpc.method import Method, P, R


class JunkSigner:
    """Stands between escrowd and its wallet."""

    def __init__(self, honest: Client) -> None:
        self._honest = honest

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The wallet's answer, with junk in place of coin signatures."""
        answer: Any = await self._honest.call(method, params, deadline_s=deadline_s)
        if method.name != CONTRACT_SIGN.name:
            return answer  # type: ignore[no-any-return]
        bent = [bytes([*item[:10], item[10] ^ 1, *item[11:]]) for item in answer.signatures]
        return msgspec.structs.replace(answer, signatures=bent)  # type: ignore[no-any-return]

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """As it is."""
        return await self._honest.transfer(verb, path, body)


def junk_signer(caller: str, daemon: str, client: Client) -> Client:
    """Bends the clients of one node: only what escrowd has its wallet sign."""
    return JunkSigner(client) if (caller, daemon) == ("escrowd", "flopd") else client

"""The wallet for Python programs: three calls, as the first specification of the wallet has them.

    from dux_cli.flopcoin_wallet import FlopcoinWallet

    wallet = FlopcoinWallet()                      # the node of this user, or FlopcoinWallet("path/of/a/node")
    address = wallet.get_new_address()
    balance = wallet.get_balance()                 # Decimal, in FLOP
    txid = wallet.send_to_address(address, "10.5")

It speaks to the running node's flopd as a module, so the owner's limits per payment and day (flopd.yaml) hold for it.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from common.contracts.wallet import (
    WALLET_BALANCE,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    NewAddress,
    Send,
)
from common.randomness import SystemRandomness
from common.rpc.method import Empty, Method, P, R
from common.units import FLOP, parse_flop
from dux_cli.node_dir import NodeDir, default_node

CALLER = "module"


class FlopcoinWallet:
    """A running node's wallet. Every call may raise what flopd answers, a `common.errors.DuxError`."""

    def __init__(self, node: str | Path = "") -> None:
        self._node = NodeDir(Path(node) if node else default_node()).must_exist()

    def get_new_address(self, label: str = "") -> str:
        """A fresh address to be paid at."""
        return self._call(WALLET_NEW_ADDRESS, NewAddress(request_id=_request_id(), label=label)).address

    def get_balance(self) -> Decimal:
        """What can be spent now, in FLOP."""
        return Decimal(int(self._call(WALLET_BALANCE, Empty()).spendable_florins)) / FLOP

    def send_to_address(self, address: str, amount: str | int | Decimal, request_id: str = "") -> str:
        """Pay so many FLOP; returns the transaction's id. With the `request_id` of an earlier call it is paid once.

        Raises:
            ValueError: no amount; a float is none, because 0.1 is not a tenth.
        """
        if isinstance(amount, float):
            raise TypeError("an amount is a string, an int or a Decimal, such as '10.5'; a float is not exact")
        wish = Send(request_id=request_id or _request_id(), address=address, amount_florins=parse_flop(str(amount)))
        return self._call(WALLET_SEND, wish).txid

    def _call(self, method: Method[P, R], params: P) -> R:
        return asyncio.run(self._asked(method, params))

    async def _asked(self, method: Method[P, R], params: P) -> R:
        client = self._node.client("flopd", CALLER)
        try:
            return await client.call(method, params)
        finally:
            await client.close()


def _request_id() -> str:
    return f"python-{SystemRandomness().bytes(16).hex()}"

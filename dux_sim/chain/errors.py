"""What the embedded chain can refuse beyond `common.chain.invalid`: one exception per thing.

Knows nothing of JSON-RPC codes; `rpc` maps these to them.
"""

from __future__ import annotations

from common.chain.invalid import REJECT_DUPLICATE, Invalid

REJECT_HIGH_FEE = 0x100


class MissingInputs(Invalid):
    """A transaction spends an output that does not exist or is spent already."""

    def __init__(self) -> None:
        super().__init__("bad-txns-inputs-missingorspent")


class AlreadyInChain(Invalid):
    """The transaction is in a block already."""

    def __init__(self) -> None:
        super().__init__("txn-already-known", REJECT_DUPLICATE)


class MiningGaveUp(Exception):
    """No proof of work within the allowed tries: the difficulty has risen; move the chain's time forward."""

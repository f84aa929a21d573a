"""How the chain says no: one exception per thing that can be refused, with Core's own reason words.

Knows nothing of JSON-RPC codes; `rpc` maps these to them.
"""

from __future__ import annotations

REJECT_INVALID = 0x10
REJECT_OBSOLETE = 0x11
REJECT_DUPLICATE = 0x12
REJECT_NONSTANDARD = 0x40
REJECT_INSUFFICIENT_FEE = 0x42
REJECT_HIGH_FEE = 0x100


class DecodeError(ValueError):
    """The bytes are no transaction, header or block of this chain."""


class Invalid(Exception):
    """A transaction or block breaks a rule: `reason` as Core words it, `code` as in its reject message."""

    def __init__(self, reason: str, code: int = REJECT_INVALID, detail: str = "") -> None:
        super().__init__(f"{code}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.code = code
        self.detail = detail


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

"""How a coin network says no: Core's own reason words, and the codes of its `reject` message.

Knows nothing of JSON-RPC; whoever answers there maps these.
"""

from __future__ import annotations

REJECT_MALFORMED = 0x01
REJECT_INVALID = 0x10
REJECT_OBSOLETE = 0x11
REJECT_DUPLICATE = 0x12
REJECT_NONSTANDARD = 0x40
REJECT_INSUFFICIENT_FEE = 0x42


class Invalid(Exception):
    """A header, transaction or block breaks a rule: `reason` as Core words it, `code` as in its reject message."""

    def __init__(self, reason: str, code: int = REJECT_INVALID, detail: str = "") -> None:
        super().__init__(f"{code}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.code = code
        self.detail = detail

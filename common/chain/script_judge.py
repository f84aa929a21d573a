"""The independent judge of scripts: btclib's engine with the rules of this coin. Knows nothing of amounts and fees.

Source: settled.md 19, escrow_protocol.md attack 31.
"""

from __future__ import annotations

from collections.abc import Sequence

from btclib.exceptions import BTClibException
from btclib.script.engine import ScriptFlag, verify_input
from btclib.tx.tx import Tx
from btclib.tx.tx_out import TxOut

RULES = (
    ScriptFlag.P2SH
    | ScriptFlag.DERSIG
    | ScriptFlag.CHECKLOCKTIMEVERIFY
    | ScriptFlag.NULLDUMMY
    | ScriptFlag.STRICTENC
    | ScriptFlag.LOW_S
    | ScriptFlag.SIGPUSHONLY
    | ScriptFlag.MINIMALDATA
    | ScriptFlag.CLEANSTACK
    | ScriptFlag.NULLFAIL
)


def first_fault(raw: bytes, spent: Sequence[tuple[int, bytes] | None]) -> str:
    """Why the network would refuse an input, or an empty string.

    `spent`: florins and script of each input's output; None: not known, its input is not judged.
    """
    judged = Tx.parse(raw, check_validity=False)
    outputs = [TxOut(*(known or (0, b"")), check_validity=False) for known in spent]
    for index, known in enumerate(spent):
        if known is None:
            continue
        try:
            verify_input(outputs, judged, index, RULES)
        except BTClibException as error:
            return f"input {index}: {error}"
    return ""

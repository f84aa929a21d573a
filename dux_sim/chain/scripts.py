"""Scripts: judged by btclib's engine, once with the flags of consensus and once with those of relay.

Pure. The two sets differ on purpose: what relay refuses, a miner may still put into a block (facts §2: high S, extra
stack items and a violated CSV were accepted in own blocks; a violated CLTV was not).
"""

from __future__ import annotations

from collections.abc import Sequence

from btclib.exceptions import BTClibValueError, ScriptError
from btclib.script import ScriptPubKey
from btclib.script.engine import ScriptFlag, verify_input
from btclib.script.engine.script import eval_script
from btclib.script.sig_ops import p2sh_sig_op_count, sig_op_count
from btclib.script.solver import solver
from btclib.tx.tx import Tx as JudgeTx
from btclib.tx.tx_out import TxOut as JudgeOut

from common.chain.invalid import REJECT_NONSTANDARD, Invalid
from common.chain.wire import Tx, TxOut

MANDATORY = ScriptFlag.P2SH
CONSENSUS = MANDATORY | ScriptFlag.DERSIG | ScriptFlag.CHECKLOCKTIMEVERIFY
RELAY = (
    CONSENSUS
    | ScriptFlag.STRICTENC
    | ScriptFlag.LOW_S
    | ScriptFlag.NULLDUMMY
    | ScriptFlag.MINIMALDATA
    | ScriptFlag.DISCOURAGE_UPGRADABLE_NOPS
    | ScriptFlag.CLEANSTACK
    | ScriptFlag.MINIMALIF
    | ScriptFlag.NULLFAIL
    | ScriptFlag.CHECKSEQUENCEVERIFY
    | ScriptFlag.WITNESS
    | ScriptFlag.DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM
    | ScriptFlag.WITNESS_PUBKEYTYPE
)
OP_RETURN = 0x6A
OP_16 = 0x60
OP_PUSHDATA4 = 0x4E
SCRIPT_BYTES_MAX = 10_000
CONSENSUS_FAILURE = "mandatory-script-verify-flag-failed"
RELAY_FAILURE = "non-mandatory-script-verify-flag"


def script_error(tx: Tx, spent: Sequence[TxOut], flags: ScriptFlag) -> str | None:
    """Core's words for the first input whose script fails under these flags; None when all hold."""
    judged = JudgeTx.parse_without_witness(tx.raw, check_validity=False)
    prevouts = [JudgeOut(out.value_florins, ScriptPubKey(out.script), check_validity=False) for out in spent]
    for position in range(len(tx.inputs)):
        try:
            verify_input(prevouts, judged, position, flags)
        except ScriptError as error:
            return error.code.description
        except BTClibValueError as error:
            return str(error)
    return None


def check_scripts(tx: Tx, spent: Sequence[TxOut], flags: ScriptFlag) -> None:
    """Every input's script holds under these flags; the failure says whether all nodes share it or only relay does.

    Raises:
        Invalid: a script fails.
    """
    failure = script_error(tx, spent, flags)
    if failure is None:
        return
    if flags != MANDATORY and script_error(tx, spent, MANDATORY) is None:
        raise Invalid(f"{RELAY_FAILURE} ({failure})", REJECT_NONSTANDARD)
    raise Invalid(f"{CONSENSUS_FAILURE} ({failure})")


def legacy_sigops(tx: Tx) -> int:
    """Signature checks that the scripts of a transaction announce, multisig counted at 20."""
    scripts = [txin.script_sig for txin in tx.inputs] + [out.script for out in tx.outputs]
    return sum(sig_op_count(script) for script in scripts)


def p2sh_sigops(tx: Tx, spent: Sequence[TxOut]) -> int:
    """Signature checks in the redeem scripts, multisig counted by its keys."""
    return sum(
        p2sh_sig_op_count(txin.script_sig, out.script)
        for txin, out in zip(tx.inputs, spent, strict=True)
        if is_p2sh(out.script)
    )


def is_p2sh(script: bytes) -> bool:
    """HASH160, 20 bytes, EQUAL."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87  # noqa: PLR2004


def is_unspendable(script: bytes) -> bool:
    """Whether no input can ever spend it, so that it never enters the set of unspent outputs."""
    return script[:1] == bytes([OP_RETURN]) or len(script) > SCRIPT_BYTES_MAX


def kind_of(script: bytes) -> str:
    """Core's name for the form of an output script: pubkeyhash, scripthash, multisig, nulldata, nonstandard."""
    return str(solver(script)[0])


def multisig_keys(script: bytes) -> int:
    """How many keys a bare multisig script lists; 0 for any other."""
    kind, solved = solver(script)
    return len(solved) - 2 if kind == "multisig" else 0


def redeem_script(script_sig: bytes) -> bytes | None:
    """What the scriptSig leaves on top of the stack; None when it fails or leaves nothing."""
    stack, error = eval_script(script_sig)
    return stack[-1] if error is None and stack else None


def accurate_sigops(script: bytes) -> int:
    """Signature checks of a redeem script, multisig counted by its keys."""
    return sig_op_count(script, accurate=True)


def is_push_only(script: bytes) -> bool:
    """Whether the script is pushes and nothing else, all of them whole."""
    at = 0
    while at < len(script):
        opcode, at = script[at], at + 1
        if opcode > OP_16:
            return False
        if opcode <= OP_PUSHDATA4:
            width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
            length = int.from_bytes(script[at : at + width], "little") if width else opcode
            at += width + length
    return at == len(script)


def push_number(value: int) -> bytes:
    """A number as Core's `CScript << n` writes it; BIP34 wants heights in this form."""
    if value == 0:
        return b"\x00"
    if value <= 16:  # noqa: PLR2004 - OP_1 to OP_16
        return bytes([0x50 + value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return bytes([len(data)]) + data

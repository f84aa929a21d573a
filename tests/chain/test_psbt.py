"""Partially signed transactions: what two wallets write each other, and every way in which one could lie."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.chain.address import pay_to_key, pay_to_script
from common.chain.psbt import (
    combine,
    digest_of,
    finish,
    from_text,
    keys_of,
    read_multisig,
    right_signatures,
    spent_outputs,
    to_text,
    with_signature,
)
from common.chain.settle import MissingSignature
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize
from common.chain.verify import verify_spend
from common.contracts.wallet_errors import BadPartial
from common.units import FLOP, Florins
from tests.chain.contract_kit import public_key, sign_digest
from tests.chain.psbt_kit import NAMES, PAYEE, REDEEM, made, shared_and_own, signed_by


def test_two_of_three_sign_apart_and_together_it_is_a_spend_that_the_network_takes() -> None:
    """In whatever order the copies come; one signature is too few, and a wrong one is none."""
    blank = from_text(to_text(shared_and_own()))
    assert blank == shared_and_own()
    anna, cleo = signed_by(blank, "anna", 0, 1), signed_by(blank, "cleo", 0)
    with pytest.raises(MissingSignature, match="1 signatures of input 0"):
        finish(anna)
    for copies in ([anna, cleo], [cleo, anna], [blank, cleo, anna, anna]):
        both = from_text(to_text(combine(copies)))
        verify_spend(finish(both), spent_outputs(both))
    forged = with_signature(anna, 0, public_key("cleo"), sign_digest("cleo", bytes(32)))
    assert set(right_signatures(forged, 0, spent_outputs(forged)[0])) == {public_key("anna")}
    with pytest.raises(MissingSignature):
        finish(forged)
    stranger = signed_by(blank, "stranger", 0)
    assert right_signatures(stranger, 0, spent_outputs(stranger)[0]) == {}
    with pytest.raises(BadPartial, match="different"):
        combine([anna, replace(cleo, tx=replace(cleo.tx, lock_time=7))])


def test_what_an_input_spends_is_proven_and_not_believed() -> None:
    """Another value, another transaction or an output that it does not have: refused when it is read."""
    partial = shared_and_own()
    lied = made(pay_to_script(REDEEM), pay_to_key(public_key("anna")))
    lied = replace(lied, outputs=(replace(lied.outputs[0], value_florins=Florins(50 * FLOP)), lied.outputs[1]))
    wrong = replace(partial, inputs=(replace(partial.inputs[0], previous=serialize(lied)), partial.inputs[1]))
    with pytest.raises(BadPartial, match="not the one"):
        from_text(to_text(wrong))
    far = replace(partial.tx, inputs=(TxInput(Outpoint(partial.tx.inputs[0].outpoint.txid, 2)), partial.tx.inputs[1]))
    with pytest.raises(BadPartial, match="not the one"):
        from_text(to_text(replace(partial, tx=far)))


def test_only_the_scripts_that_are_known_are_signed() -> None:
    """A hidden script, one of another form, and an odd multi-signature are no keys."""
    partial = shared_and_own()
    hidden = replace(partial, inputs=(replace(partial.inputs[0], redeem=b""), partial.inputs[1]))
    other = replace(partial, inputs=(replace(partial.inputs[0], redeem=b"\x51"), partial.inputs[1]))
    for wrong in (hidden, other):
        with pytest.raises(BadPartial, match="multi-signature"):
            keys_of(wrong.inputs[0], spent_outputs(wrong)[0])
    assert read_multisig(REDEEM) == (2, tuple(sorted(public_key(name) for name in NAMES)))
    unsorted = b"\x51" + b"".join(b"\x21" + k for k in sorted(map(public_key, NAMES), reverse=True)) + b"\x53\xae"
    for script in (b"", b"\x51", b"\x4c", REDEEM + b"\x75", b"\x54" + REDEEM[1:], unsorted, b"\x51\x01\x02\x51\xae"):
        assert read_multisig(script) is None


def test_a_script_that_nobody_can_spend_is_refused_and_a_foreign_redeem_changes_no_digest() -> None:
    """A cut-off script (found by fuzzing) is a named error; a key hash's coin is signed over its own script."""
    partial = shared_and_own()
    spent = spent_outputs(partial)
    with pytest.raises(BadPartial, match="multi-signature"):
        digest_of(partial, 1, replace(spent[1], script=b"\x4c"))
    dressed = replace(partial, inputs=(partial.inputs[0], replace(partial.inputs[1], redeem=b"\x4c")))
    assert digest_of(dressed, 1, spent[1]) == digest_of(partial, 1, spent[1])


def test_what_other_programs_added_is_kept() -> None:
    """Maps this wallet does not know pass through it."""
    partial = shared_and_own()
    extra = ((b"\x06" + public_key("anna"), b"path"),)
    rich = replace(
        partial,
        inputs=(replace(partial.inputs[0], other=extra), partial.inputs[1]),
        outputs=(((b"\x02x", b"y"),),),
        other=((b"\xfcdux", b"\x01" * 300),),
    )
    assert from_text(to_text(rich)) == rich


def pairs(*items: tuple[bytes, bytes]) -> bytes:
    return b"".join(bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in items) + b"\x00"


def text(body: bytes) -> str:
    return base64.b64encode(b"psbt\xff" + body).decode()


GOOD = base64.b64decode(to_text(shared_and_own()))[5:]
BLANK = serialize(Tx((TxInput(Outpoint("cd" * 32, 0)),), (TxOutput(Florins(FLOP), PAYEE),)))
SIGNED = serialize(Tx((TxInput(Outpoint("cd" * 32, 0), b"\x51"),), (TxOutput(Florins(FLOP), PAYEE),)))


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        ("not base64!", "base64"),
        (base64.b64encode(b"other").decode(), "no PSBT"),
        (text(GOOD[:-1]), "cut off"),
        (text(GOOD + b"\x00"), "behind its end"),
        (text(b"\x00"), "damaged"),
        (text(pairs((b"\x00", BLANK), (b"\x00", BLANK))), "twice"),
        (text(pairs((b"\x00", SIGNED))), "signatures already"),
        (text(pairs((b"\x00", BLANK)) + pairs((b"\x03", b"\x83\0\0\0"))), "SIGHASH_ALL"),
        (text(b"\xff" + b"\x01" * 8), "cut off"),
    ],
)
def test_damage_is_told(damaged: str, says: str) -> None:
    """In words, and before anything is believed."""
    with pytest.raises(BadPartial, match=says):
        from_text(damaged)


@given(at=st.integers(0, len(GOOD) - 1), to=st.integers(0, 255))
def test_any_changed_byte_is_refused_or_reads_as_what_it_says(at: int, to: int) -> None:
    """No byte makes the reader fail in another way."""
    changed = bytearray(GOOD)
    changed[at] = to
    try:
        found = from_text(text(bytes(changed)))
    except BadPartial:
        return
    assert from_text(to_text(found)) == found

"""Jobs, commitments, comparison of outputs, sealing: the laws of the nouns of work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.codec import canonical, from_canonical
from common.errors import BadParams
from common.units import Did, UnixMs
from common.work import (
    EQUAL,
    JOB_BYTES_MAX,
    Comparator,
    ComparatorKind,
    JobKind,
    JobSpec,
    Limits,
    Opening,
    WorkReceipt,
    check_of,
    commitment_of,
    input_hash_of,
    job_hash,
    limits_hash,
    output_hash_of,
    outputs_agree,
    receipt_fault,
)
from dux_taskd import sealing

WORKER = Did("did:dux:" + "w" * 52)
JOB = JobSpec(
    v=1, kind=JobKind.WASM, package=b"p" * 32, entry="dux-wasm/1", args=("scale=2",), input_blob=b"i" * 32,
    input_hash=b"h" * 32, input_private=False,
    limits=Limits(fuel=10, memory_bytes=1 << 20, wall_s=5, output_bytes=100), comparator=EQUAL, audience=(),
)  # fmt: skip
RECEIPT = WorkReceipt(
    contract_id="c" * 64, worker=WORKER, job_hash=bytes(job_hash(JOB)), package=JOB.package, input_hash=JOB.input_hash,
    limits_hash=bytes(limits_hash(JOB.limits)), engine="e", output_commitment=b"o" * 32, fuel_used=10, at_ms=UnixMs(1),
)  # fmt: skip
TOLERANT = Comparator(kind=ComparatorKind.TOLERANCE, step=2, share_ppm=500_000)


def test_a_job_travels_unchanged_and_its_hash_names_every_field() -> None:
    """Canonical there and back; whatever is changed gives another hash; a check of it differs in kind only."""
    assert from_canonical(canonical(JOB), JobSpec, max_bytes=JOB_BYTES_MAX) == JOB
    others = [
        replace(JOB, kind=JobKind.NATIVE), replace(JOB, package=b"q" * 32), replace(JOB, args=()),
        replace(JOB, input_hash=b"x" * 32), replace(JOB, input_private=True), replace(JOB, comparator=TOLERANT),
        replace(JOB, limits=replace(JOB.limits, fuel=11)), replace(JOB, audience=(WORKER,)), check_of(JOB),
    ]  # fmt: skip
    assert len({bytes(job_hash(job)) for job in (JOB, *others)}) == 10
    assert replace(check_of(JOB), kind=JobKind.WASM) == JOB
    assert (check_of(JOB).kind.runtime, JobKind.NATIVE.runtime) == (JobKind.WASM, JobKind.NATIVE)


@pytest.mark.parametrize("changes", [{"v": 2}, {"package": b"short"}, {"audience": (Did("nobody"),)}])
def test_what_is_no_job_is_refused(changes: dict[str, object]) -> None:
    """Wrong version, short hashes, names that are no DIDs."""
    with pytest.raises(BadParams):
        from_canonical(canonical(replace(JOB, **changes)), JobSpec, max_bytes=JOB_BYTES_MAX)


@pytest.mark.parametrize(
    ("receipt", "word"),
    [
        (replace(RECEIPT, contract_id="d" * 64), "contract"),
        (replace(RECEIPT, worker=Did("did:dux:" + "x" * 52)), "worker"),
        (replace(RECEIPT, job_hash=b"x" * 32), "job"),
        (replace(RECEIPT, package=b"x" * 32), "package"),
        (replace(RECEIPT, input_hash=b"x" * 32), "input"),
        (replace(RECEIPT, limits_hash=b"x" * 32), "limits"),
        (replace(RECEIPT, fuel_used=11), "fuel"),
    ],
)
def test_a_receipt_of_something_else_is_found_out(receipt: WorkReceipt, word: str) -> None:
    """Each field is compared with the job and the contract."""
    assert receipt_fault(RECEIPT, JOB, "c" * 64, WORKER) is None
    assert word in str(receipt_fault(receipt, JOB, "c" * 64, WORKER))


@given(st.binary(max_size=64), st.binary(max_size=64), st.sampled_from((EQUAL, TOLERANT)))
def test_comparison_is_symmetric_and_reflexive(one: bytes, other: bytes, comparator: Comparator) -> None:
    """Equal outputs agree; whoever is asked first makes no difference; `equal` means equal."""
    assert outputs_agree(comparator, one, one)
    assert outputs_agree(comparator, one, other) == outputs_agree(comparator, other, one)
    assert outputs_agree(EQUAL, one, other) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        (b"\x10\x10\x10\x10", b"\x12\x0e\x10\x10", True),  # two of four, by two
        (b"\x10\x10\x10\x10", b"\x13\x10\x10\x10", False),  # by three
        (b"\x10\x10\x10\x10", b"\x11\x11\x11\x10", False),  # three of four
        (b"\x10", b"\x10\x10", False),  # another length
    ],
)
def test_tolerance_has_a_step_and_a_share(one: bytes, other: bytes, *, agrees: bool) -> None:
    """Both bounds count, and lengths must be equal."""
    assert outputs_agree(TOLERANT, one, other) is agrees


def test_the_custom_comparator_is_reserved() -> None:
    """Nobody may be held to a comparator that nobody runs."""
    with pytest.raises(ValueError, match="reserved"):
        outputs_agree(Comparator(kind=ComparatorKind.CUSTOM, step=0, share_ppm=0), b"", b"")


def test_a_commitment_hides_its_hash_behind_the_salt() -> None:
    """Other salt or other output, other commitment; input and output hashes of the same bytes differ."""
    opening = Opening(output_hash=bytes(output_hash_of(b"x")), salt=b"s" * 32)
    assert commitment_of(opening) != commitment_of(replace(opening, salt=b"t" * 32))
    assert commitment_of(opening) != commitment_of(replace(opening, output_hash=bytes(output_hash_of(b"y"))))
    assert output_hash_of(b"x") != input_hash_of(b"x")


def test_a_sealed_result_opens_for_its_key_and_contract_only() -> None:
    """Another key, another contract, a flipped bit or a stump do not open; the salt comes back with the payload."""
    key = b"k" * 32
    sealed = sealing.seal_result(key, "c1", salt=b"s" * 32, payload=b"out", nonce=b"n" * 12)
    assert sealing.open_result(key, "c1", sealed) == (b"s" * 32, b"out")
    assert len(sealed) == 3 + sealing.OVERHEAD_BYTES
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for other_key, contract, blob in (
        (b"x" * 32, "c1", sealed),
        (key, "c2", sealed),
        (key, "c1", flipped),
        (key, "c1", b""),
    ):
        with pytest.raises(sealing.SealBroken):
            sealing.open_result(other_key, contract, blob)
    private = sealing.seal_input(key, b"secret", nonce=b"n" * 12)
    assert sealing.open_input(key, private) == b"secret"
    with pytest.raises(sealing.SealBroken):
        sealing.open_result(key, "c1", private)

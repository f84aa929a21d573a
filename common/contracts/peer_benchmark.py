"""What registryds ask of each other to measure a machine: work from a fresh seed, checked far cheaper than it is done.

Only who has drawn itself for it may ask, and begins by showing that; seldom, and never while the node works for money;
the asked one may always refuse.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.receipts import Bytes32
from common.rpc.method import PeerMethod
from common.standing import Proof
from common.witness import Slot

BUSY, UNDER_WAY = "it works for money now; ask later", "another measurement is under way; ask later"
LOADED = "its load is too high for a fair measurement now; ask later"
LANES_MAX = 256  # cores measured side by side
MARKS_MAX = 256
SIZE_MB_MAX = 4_096
CHUNK_BYTES = 524_288  # of one transfer, half a peer message
ITERATIONS_MAX = 1 << 24
QUOTE_BYTES_MAX = 1_024  # of each part of a TPM quote
STEPS_MAX = 1 << 20

_Refused = Annotated[str, Meta(max_length=120)]
_Marks = Annotated[tuple[Bytes32, ...], Meta(max_length=MARKS_MAX)]


class BeginAsk(Canon, frozen=True):
    """A measurement begins: what the asker's look key has drawn gives it the right to."""

    period: Slot
    proof: Proof


class BeginAnswer(Canon, frozen=True):
    """Go on; or why not."""

    refused: _Refused


class HashAsk(Canon, frozen=True):
    """Chains of hashes from one seed, one per lane, all at once."""

    period: Slot
    seed: Bytes32
    lanes: Annotated[int, Meta(ge=1, le=LANES_MAX)]
    iterations: Annotated[int, Meta(ge=64, le=ITERATIONS_MAX)]
    marks: Annotated[int, Meta(ge=1, le=64)]


class HashAnswer(Canon, frozen=True):
    """The chains' values at even distances; or why not now."""

    lanes: Annotated[tuple[_Marks, ...], Meta(max_length=LANES_MAX)]
    refused: _Refused


class FillAsk(Canon, frozen=True):
    """Fill memory or disk with what the seed gives, and hold it."""

    period: Slot
    seed: Bytes32
    on_disk: bool
    size_mb: Annotated[int, Meta(ge=1, le=SIZE_MB_MAX)]


class FillAnswer(Canon, frozen=True):
    """It is held; or why not now."""

    refused: _Refused


class WalkAsk(Canon, frozen=True):
    """Walk through what is held, each step's place given by what was read before; then let go of it."""

    period: Slot
    nonce: Bytes32
    steps: Annotated[int, Meta(ge=1, le=STEPS_MAX)]
    marks: Annotated[int, Meta(ge=1, le=MARKS_MAX)]


class WalkAnswer(Canon, frozen=True):
    """The walk's values at even distances; or why not."""

    marks: _Marks
    refused: _Refused


class PullAsk(Canon, frozen=True):
    """So many bytes that the seed gives."""

    period: Slot
    seed: Bytes32
    size: Annotated[int, Meta(ge=0, le=CHUNK_BYTES)]


class PullAnswer(Canon, frozen=True):
    """The bytes; or why not now."""

    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]
    refused: _Refused


class PushAsk(Canon, frozen=True):
    """Bytes to be hashed."""

    period: Slot
    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]


class PushAnswer(Canon, frozen=True):
    """Their SHA-256; or why not now."""

    digest: Annotated[bytes, Meta(max_length=32)]
    refused: _Refused


class QuoteAsk(Canon, frozen=True):
    """A quote over a nonce that is made of both names and this."""

    period: Slot
    nonce: Bytes32


class QuoteAnswer(Canon, frozen=True):
    """TPMT_PUBLIC, TPMS_ATTEST and TPMT_SIGNATURE as the TPM gave them; or why not."""

    public: Annotated[bytes, Meta(max_length=QUOTE_BYTES_MAX)]
    attest: Annotated[bytes, Meta(max_length=QUOTE_BYTES_MAX)]
    signature: Annotated[bytes, Meta(max_length=QUOTE_BYTES_MAX)]
    refused: _Refused


_BY = ("registryd",)
BENCHMARK_BEGIN = PeerMethod(
    name="benchmark.begin", repeated="read",
    owner="registryd", params=BeginAsk, result=BeginAnswer, callers=_BY, cost=8,
    params_bytes_max=128, summary="The right to measure it, which is known to nobody else before.",
)  # fmt: skip
BENCHMARK_HASH = PeerMethod(
    name="benchmark.hash", repeated="anew",
    owner="registryd", params=HashAsk, result=HashAnswer, callers=_BY, cost=8,
    params_bytes_max=128, summary="Chains of hashes from a seed: how fast its cores are, one and all.",
)  # fmt: skip
BENCHMARK_FILL = PeerMethod(
    name="benchmark.fill", repeated="anew",
    owner="registryd", params=FillAsk, result=FillAnswer, callers=_BY, cost=8,
    params_bytes_max=128, summary="Memory or disk filled from a seed and held for a walk.",
)  # fmt: skip
BENCHMARK_WALK = PeerMethod(
    name="benchmark.walk", repeated="anew",
    owner="registryd", params=WalkAsk, result=WalkAnswer, callers=_BY, cost=8,
    params_bytes_max=128, summary="A walk through what is held, too fast for who would have to make it anew.",
)  # fmt: skip
BENCHMARK_PULL = PeerMethod(
    name="benchmark.pull", repeated="anew",
    owner="registryd", params=PullAsk, result=PullAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Bytes from a seed: how fast it sends, and the round trip when they are none.",
)  # fmt: skip
BENCHMARK_PUSH = PeerMethod(
    name="benchmark.push", repeated="anew",
    owner="registryd", params=PushAsk, result=PushAnswer, callers=_BY, cost=4,
    params_bytes_max=CHUNK_BYTES + 128, summary="Bytes to hash: how fast it receives.",
)  # fmt: skip
TPM_QUOTE = PeerMethod(
    name="tpm.quote", repeated="anew",
    owner="registryd", params=QuoteAsk, result=QuoteAnswer, callers=_BY, cost=8,
    params_bytes_max=128, summary="A quote of its TPM 2.0, where it has one.",
)  # fmt: skip

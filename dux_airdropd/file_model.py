"""The public proof file of an airdrop or a sweep: what whoever has no node checks it from. Frozen, no logic.

It carries the network's profile and parameter sets (whose signatures a checker has beside its own copy), the proof, the
event logs of everybody whose signature counts, every transaction that counts with its way to a header, and headers in a
row. `before` is the file of the airdrop before, whose outcome this one starts from; empty for the first.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Canon

FILE_FORM = 1
FILE_BYTES_MAX = 64 * 1024 * 1024
FILE_HEADERS_MAX = 45_000  # a month of blocks: 3.6 MB
FILE_TXS_MAX = 20_000
FILE_LOGS_MAX = 5_000


class TxShown(Canon, frozen=True):
    """A transaction with its place: height, position in the block, hashes up to the root."""

    raw: Annotated[bytes, Meta(max_length=100_000)]
    height: Annotated[int, Meta(ge=0, lt=2**31)]
    index: Annotated[int, Meta(ge=0, lt=2**20)]
    branch: Annotated[tuple[bytes, ...], Meta(max_length=32)]


class FundFile(Canon, frozen=True):
    """A proof with all that it needs."""

    form: int
    kind: Literal["airdrop", "sweep"]
    profile: bytes  # JSON of the network's profile, as its founders signed it
    sets: bytes  # JSON of all parameter sets, once there is a second
    proof: bytes  # canonical bytes of a Proof or a SweepProof
    before: Annotated[bytes, Meta(max_length=32)]  # hash of the proof before; empty: none
    logs: Annotated[tuple[bytes, ...], Meta(max_length=FILE_LOGS_MAX)]
    txs: Annotated[tuple[TxShown, ...], Meta(max_length=FILE_TXS_MAX)]
    headers_from: Annotated[int, Meta(ge=0, lt=2**31)]
    headers: bytes

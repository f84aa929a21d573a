"""chain.*: parts of the chain for others to check: headers in a row, transactions with their way to a header's root."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.wallet_chain import EXAMPLE_HASH, EXAMPLE_RAW, EXAMPLE_TXID, READERS
from common.contracts.wallet_errors import ChainUnavailable
from common.errors import NotFound
from common.rpc.method import Method
from common.units import BlockHeight

HEADERS_MAX = 2_000  # in one answer: 160 KB
EXAMPLE_HEADER = bytes(80)


class TxProofAsked(Wire, frozen=True):
    """A transaction and the height of its block."""

    txid: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    height: BlockHeight


class TxProof(Wire, frozen=True):
    """A transaction, its place in its block, and the hashes that lead from it to the header's merkle root."""

    raw: bytes
    index: int
    branch: list[bytes]
    block_hash: str


class HeadersAsked(Wire, frozen=True):
    """Headers of the best chain, from a height on."""

    from_height: BlockHeight
    count: Annotated[int, Meta(ge=1, le=HEADERS_MAX)]


class Headers(Wire, frozen=True):
    """80 bytes for each block, in the chain's order, up to the tip at most."""

    headers: bytes


CHAIN_TX_PROOF: Method[TxProofAsked, TxProof] = Method(
    name="chain.tx_proof",
    params=TxProofAsked,
    result=TxProof,
    summary="A transaction with the proof that a block of the best chain holds it.",
    callers=READERS,
    raises=(NotFound, ChainUnavailable),
    example=(
        TxProofAsked(txid=EXAMPLE_TXID, height=BlockHeight(250)),
        TxProof(raw=EXAMPLE_RAW, index=0, branch=[], block_hash=EXAMPLE_HASH),
    ),
)
CHAIN_HEADERS: Method[HeadersAsked, Headers] = Method(
    name="chain.headers",
    params=HeadersAsked,
    result=Headers,
    summary="Headers of the best chain in a row.",
    callers=READERS,
    raises=(NotFound, ChainUnavailable),
    deadline_max_s=120.0,
    example=(HeadersAsked(from_height=BlockHeight(0), count=1), Headers(headers=EXAMPLE_HEADER)),
)

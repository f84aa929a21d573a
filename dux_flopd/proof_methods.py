"""chain.headers and chain.tx_proof: parts of the chain that somebody else can check without this node's word."""

from __future__ import annotations

from common.chain.merkle import branch_of
from common.contracts.wallet_chain_proof import (
    CHAIN_HEADERS,
    CHAIN_TX_PROOF,
    Headers,
    HeadersAsked,
    TxProof,
    TxProofAsked,
)
from common.contracts.wallet_errors import ChainUnavailable
from common.errors import NotFound
from common.rpc.table import Ctx, MethodTable
from dux_flopd.blocks import HEADER_BYTES, parse_block
from dux_flopd.source import ChainSource, Refused
from dux_flopd.view import ChainView

KEPT_MAX = 50_000  # headers remembered by their hash: a month and some


class ProofMethods:
    """Handlers of chain.headers and chain.tx_proof."""

    def __init__(self, view: ChainView, node: ChainSource) -> None:
        self._view = view
        self._node = node
        self._headers: dict[str, bytes] = {}

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CHAIN_HEADERS, self.headers)
        table.serve(CHAIN_TX_PROOF, self.tx_proof)

    async def headers(self, params: HeadersAsked, _ctx: Ctx) -> Headers:
        """Headers in a row, up to the view's tip."""
        last = min(params.from_height + params.count, self._view.height + 1)
        names = [await self._hash_at(height) for height in range(params.from_height, last)]
        if not names:
            raise NotFound(what="block at height", name=str(params.from_height))
        return Headers(headers=b"".join([await self._header(name) for name in names]))

    async def tx_proof(self, params: TxProofAsked, _ctx: Ctx) -> TxProof:
        """A transaction with its way to the root."""
        name = await self._hash_at(params.height)
        block = parse_block(await self._block(name))
        for item in block.txs:
            if item.txid == params.txid:
                leaves = [bytes.fromhex(one.txid)[::-1] for one in block.txs]
                branch = list(branch_of(leaves, item.position))
                return TxProof(raw=item.raw, index=item.position, branch=branch, block_hash=name)
        raise NotFound(what=f"transaction in block {params.height}", name=params.txid)

    async def _header(self, name: str) -> bytes:
        if name not in self._headers:
            if len(self._headers) >= KEPT_MAX:
                self._headers.clear()
            self._headers[name] = (await self._block(name))[:HEADER_BYTES]
        return self._headers[name]

    async def _block(self, name: str) -> bytes:
        try:
            return await self._node.block(name)
        except Refused as error:
            raise ChainUnavailable(endpoint=self._node.endpoint, detail=str(error)) from error

    async def _hash_at(self, height: int) -> str:
        if not 0 <= height <= self._view.height:
            raise NotFound(what="block at height", name=str(height))
        try:
            found = self._view.store.block_hash(height) or await self._node.block_hash(height)
        except Refused as error:
            raise ChainUnavailable(endpoint=self._node.endpoint, detail=str(error)) from error
        if found is None:
            raise NotFound(what="block at height", name=str(height))
        return found

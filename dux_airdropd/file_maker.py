"""Making the public proof file of an airdrop or a sweep, from this node's chain and what it knows of signers.

Promises: nothing is left out that the verifier asks for; a file that would be too long is refused with what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from common.charter import profile_bytes
from common.codec import canonical, json_bytes
from common.contracts.airdrop_fund import ProofTooLong
from common.contracts.wallet_chain_proof import HEADERS_MAX
from common.network import NetworkProfile
from common.receipts import SettledReceipt
from common.units import Did
from dux_airdropd.effects import Outside
from dux_airdropd.evidence_rules import open_bond, open_item
from dux_airdropd.file_model import FILE_FORM, FILE_HEADERS_MAX, FundFile, TxShown
from dux_airdropd.model import FundCoin, Item, Kind, Proof, SweepProof
from dux_airdropd.payout_rules import held_at

Places = set[tuple[str, int]]  # transaction and height


class FileMaker:
    """Makes proof files."""

    def __init__(self, outside: Outside, network: NetworkProfile, depth: int) -> None:
        self._outside = outside
        self._network = network
        self._depth = depth

    async def airdrop(self, proof: Proof, before: Proof | None) -> bytes:
        """The file of a paid airdrop."""
        proposal = proof.proposal
        coins = held_at(await self._outside.coins(), proposal.cutoff_height)
        places = _coins(coins) | {(proof.txid, proof.paid_height)} | _places(proposal.items)
        signers = {open_item(item)[0].did for item in proposal.items if item.kind is not Kind.BOND}
        return await self._file("airdrop", canonical(proof), before, places, signers, proof.paid_height)

    async def sweep(self, proof: SweepProof) -> bytes:
        """The file of a sweep."""
        places = {(coin.outpoint.txid, coin.height) for coin in proof.coins} | {(proof.txid, proof.mined_height)}
        return await self._file("sweep", canonical(proof), None, places, set(), proof.mined_height)

    async def _file(
        self, kind: str, proof: bytes, before: Proof | None, places: Places, signers: set[Did], top: int
    ) -> bytes:
        low = 0 if top < FILE_HEADERS_MAX - self._depth else min(height for _, height in places)
        count = top - low + self._depth
        if count > FILE_HEADERS_MAX:
            raise ProofTooLong(count=count, what="headers", most=FILE_HEADERS_MAX)
        made = FundFile(
            form=FILE_FORM,
            kind="airdrop" if kind == "airdrop" else "sweep",
            profile=profile_bytes(self._network.as_signed),
            sets=json_bytes(self._network.parameter_sets),
            proof=proof,
            before=hashlib.sha256(canonical(before)).digest() if before is not None else b"",
            logs=tuple([await self._outside.log_of(did) for did in sorted(signers)]),
            txs=tuple([await self._shown(txid, height) for txid, height in sorted(places)]),
            headers_from=low,
            headers=await self._headers(low, count),
        )
        return canonical(made)

    async def _shown(self, txid: str, height: int) -> TxShown:
        found = await self._outside.tx_proof(txid, height)
        return TxShown(found.raw, height, found.index, tuple(found.branch))

    async def _headers(self, low: int, count: int) -> bytes:
        pieces = [
            await self._outside.headers(low + at, min(HEADERS_MAX, count - at)) for at in range(0, count, HEADERS_MAX)
        ]
        return b"".join(pieces)


def _coins(coins: Iterable[FundCoin]) -> Places:
    return {(coin.outpoint.txid, coin.height) for coin in coins if coin.height is not None}


def _places(items: Iterable[Item]) -> Places:
    """Where the payments and bonds that count as evidence are."""
    found: Places = set()
    for item in items:
        if item.kind is Kind.BOND:
            shown, proof = open_bond(item)
            found.add((proof.bond.outpoint.txid, shown.height))
        elif item.kind is Kind.RECEIPT:
            body = open_item(item)[1]
            if isinstance(body, SettledReceipt):
                found.add((body.txid, body.height))
    return found

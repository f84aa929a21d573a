"""Opens what a worker delivered, and says whether it is what was promised: for the buyer, and for an arbiter.

Promise: `open` returns only an output whose hash opens the worker's commitment, under a receipt that the worker signed
for this very job. It does not know whether the output is right.
"""

from __future__ import annotations

import msgspec

from common.contracts.p2p import Signature
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.peers import Peers
from common.receipts import opened
from common.units import Did, Hash32
from common.work import (
    WORK_RECEIPT_BYTES_MAX,
    JobKind,
    JobSpec,
    Opening,
    WorkReceipt,
    commitment_of,
    output_hash_of,
    receipt_fault,
)
from dux_taskd import sealing


class NotAsPromised(Exception):
    """The delivery is not what the worker is bound to; the text is shown to the arbiters."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What a contract's worker announced, and the key to it."""

    contract_id: str
    worker: Did
    ciphertext_blob: str
    commitment: bytes
    work_receipt: bytes
    holders: tuple[Did, ...]
    content_key: bytes


class Found(msgspec.Struct, frozen=True):
    """An opened result; of a check only the hash is there."""

    output: bytes
    output_hash: Hash32


class Results:
    """Fetching and opening, through p2pd."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def open(self, delivery: Delivery, job: JobSpec) -> Found:
        """The result in the clear.

        Raises:
            BlobMissing, Unavailable: it cannot be had now.
            NotAsPromised: it is there, and is not what was promised.
        """
        await self._check_receipt(delivery, job)
        limit = job.limits.output_bytes + sealing.OVERHEAD_BYTES
        providers = list(dict.fromkeys((delivery.worker, *delivery.holders)))
        sealed = await self._peers.fetch_blob(delivery.ciphertext_blob, providers, max_bytes=limit)
        try:
            salt, payload = sealing.open_result(delivery.content_key, delivery.contract_id, sealed)
        except sealing.SealBroken as error:
            raise NotAsPromised(f"the result does not open with its key: {error}") from error
        found = read_payload(job, payload)
        if commitment_of(Opening(output_hash=found.output_hash, salt=salt)) != delivery.commitment:
            raise NotAsPromised("the result is not the one that was committed to")
        return found

    async def _check_receipt(self, delivery: Delivery, job: JobSpec) -> None:
        """The worker must have signed what it ran: without that nobody could hold it to it."""
        try:
            envelope, receipt = opened(delivery.work_receipt, WorkReceipt, body_bytes_max=WORK_RECEIPT_BYTES_MAX)
        except BadParams as error:
            raise NotAsPromised(f"the work receipt cannot be read: {error.message}") from error
        fault = receipt_fault(receipt, job, delivery.contract_id, delivery.worker)
        if fault or receipt.output_commitment != delivery.commitment or envelope.did != delivery.worker:
            raise NotAsPromised(f"the work receipt does not fit: {fault or 'another commitment or signer'}")
        by = Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        if not await self._peers.was_signed(Purpose.WORK_RECEIPT, envelope.body, by):
            raise NotAsPromised("the work receipt is not signed by the worker")


def read_payload(job: JobSpec, payload: bytes) -> Found:
    """Output and hash in a payload; a check delivers the hash alone.

    Raises:
        NotAsPromised: a check whose payload is no hash.
    """
    if job.kind is not JobKind.CHECK:
        return Found(payload, output_hash_of(payload))
    if len(payload) != 32:  # noqa: PLR2004 - a hash
        raise NotAsPromised("a check delivers a hash of 32 bytes")
    return Found(b"", Hash32(payload))


def payload_of(job: JobSpec, output: bytes) -> bytes:
    """What a worker seals: the output, or for a check its hash."""
    return bytes(output_hash_of(output)) if job.kind is JobKind.CHECK else output

"""A third party's program at the seller: it runs signed orders of strangers for nothing, in the seller's own sandbox.

It is what DuxNet leaves when escrow is taken away: the order is signed by the buyer's node, carried by both p2pds, its
signature verified by the seller's node, run by the seller's taskd, and the answer signed likewise. Each step's seconds
are added up.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from common.codec import Canon, canonical
from common.contracts.p2p import Signature
from common.contracts.task import TRY_RUN, TryRun
from common.daemon import DuxOSDaemon
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.parts import Parts
from common.peers import Peers
from common.rpc.client import Client
from common.rpc.method import PeerMethod
from common.settings import DaemonSettings
from common.units import Did

FAMILY = "bench"
ENTRY = "dux-wasm/1"


class Order(Canon, frozen=True):
    """What the buyer wants run."""

    package: str
    input_blob: str
    nonce: int


class SignedOrder(Canon, frozen=True):
    """An order and its buyer's signature."""

    order: Order
    did: Did
    key_seq: int
    signature: bytes


class Answer(Canon, frozen=True):
    """The result's blob for an order, signed by the seller."""

    output_blob: str
    nonce: int


class SignedAnswer(Canon, frozen=True):
    """An answer and its seller's signature."""

    answer: Answer
    did: Did
    key_seq: int
    signature: bytes


RUN: PeerMethod[SignedOrder, SignedAnswer] = PeerMethod(
    name=f"{FAMILY}.run", owner=FAMILY, params=SignedOrder, result=SignedAnswer, callers=("module",),
    summary="Run an order for nothing.",
)  # fmt: skip


class Times:
    """Seconds by step, over all jobs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add the block's time to a step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - began


class FreeSettings(DaemonSettings, frozen=True, kw_only=True):
    """Where it listens."""

    port: int = 0


class FreeWorker(DuxOSDaemon[FreeSettings]):
    """Runs whatever is signed."""

    name = FAMILY
    settings_type = FreeSettings
    signer: Peers  # the seller's p2pd, under taskd's name: taskd owns the purposes
    runner: Client  # the seller's taskd
    times: Times

    async def assemble(self, parts: Parts[FreeSettings]) -> None:
        """One method for other nodes."""
        parts.serve_peer(RUN, self.run_order)

    async def run_order(self, signed: SignedOrder, sender: Did) -> SignedAnswer:
        """Verify, run, sign."""
        with self.times.of("verified there"):
            await check(self.signer, Purpose.JOB, signed.order, signed, sender)
        wish = TryRun(kind="wasm", package=signed.order.package, entry=ENTRY, input_blob=signed.order.input_blob)
        with self.times.of("run"):
            done = await self.runner.call(TRY_RUN, wish)
        if done.output_blob is None:
            raise BadParams(detail=f"the job ended as {done.ended}: {done.detail}")
        answer = Answer(output_blob=done.output_blob, nonce=signed.order.nonce)
        with self.times.of("signed there"):
            by = await self.signer.sign(Purpose.WORK_RECEIPT, answer)
        return SignedAnswer(answer=answer, did=by.did, key_seq=by.key_seq, signature=by.signature)


async def check(peers: Peers, purpose: Purpose, body: Canon, signed: SignedOrder | SignedAnswer, sender: Did) -> None:
    """The sender has signed this.

    Raises:
        BadParams: it has not.
    """
    by = Signature(did=signed.did, key_seq=signed.key_seq, signature=signed.signature)
    if signed.did != sender or not await peers.is_signed(purpose, canonical(body), by):
        raise BadParams(detail="the signature does not hold")

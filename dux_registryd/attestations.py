"""Attestations in the DHT: those this node has issued stand there under the names of the nodes they are about.

Promise: for each node the newest root that this one issued, while it holds, signed anew whenever it is put; who asks
again and again has it put once an hour. What stands there says who vouches for a node and until when, not for what. A
reader believes a root only with its issuer's signature over it, about that node.

Source: network.md §4 (namespace attestation), transport_identity.md §2.4 (selective disclosure).
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.registry_claims import IssuerList, IssuerSeen, IssuersOf
from common.errors import DuxError
from common.identity.disclosure import ClaimRoot
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.rpc.table import Ctx
from common.store import Tx
from common.units import Did, Hash32
from dux_registryd.effects import PUT_ATTESTATION, ROOT_BYTES_MAX, Outside, Told
from dux_registryd.store import Book
from dux_registryd.views import iso_time

PUT_EVERY_MS = 3_600_000  # of one node: whoever asks to be attested again meanwhile has its root put at the next turn
ISSUED_MAX = 4_096  # nodes whose newest root is kept
TURN_MAX = 512  # roots put in one turn, the longest waiting first


class Attestations:
    """Puts what this node has issued; looks up who has issued for a node."""

    def __init__(
        self, book: Book, outside: Outside, *, clock: Clock, log: FilteringBoundLogger, again_s: float
    ) -> None:
        self._book, self._outside, self._clock, self._log, self._again_s = book, outside, clock, log, again_s

    def issued(self, root: ClaimRoot) -> None:
        """A node was given this root: it replaces the one before."""
        now_ms = self._clock.unix_ms()
        with self._book.store.transaction() as tx:
            is_due = self._book.put_ms(root.subject) <= now_ms - PUT_EVERY_MS
            self._book.keep_issued(tx, root.subject, canonical(root), root.expires_ms, keep_max=ISSUED_MAX)
            if is_due:
                self._put(tx, root.subject, canonical(root), now_ms)

    def _put(self, tx: Tx, subject: Did, root: bytes, now_ms: int) -> None:
        tx.outbox(f"{PUT_ATTESTATION}/{subject}/{now_ms}", PUT_ATTESTATION, Told(signed=root, name=subject))
        self._book.was_put(tx, subject, now_ms)

    async def run(self) -> None:
        """Put again what holds, for ever: a record lives a day."""
        while True:
            await asyncio.sleep(self._again_s)
            self.put_again()

    def put_again(self) -> None:
        """One turn."""
        now_ms = self._clock.unix_ms()
        with self._book.store.transaction() as tx:
            for subject, root in self._book.issued_before(tx, now_ms, now_ms - PUT_EVERY_MS, TURN_MAX):
                self._put(tx, subject, root, now_ms)

    async def issuers(self, params: IssuersOf, _ctx: Ctx) -> IssuerList:
        """Who vouches for a node, as the DHT has it; a record that proves nothing is left out."""
        did = Did(params.node_id)
        found = [await self._seen(did, record) for record in await self._outside.attested_of(did)]
        return IssuerList(issuers=tuple(sorted((one for one in found if one), key=lambda one: one.issuer)))

    async def _seen(self, did: Did, envelope: Attested) -> IssuerSeen | None:
        try:
            root = from_canonical(envelope.body, ClaimRoot, max_bytes=ROOT_BYTES_MAX)
            now_ms = self._clock.unix_ms()
            genuine = await self._outside.was_signed(Purpose.CLAIM_ROOT, envelope, now_ms)
        except DuxError as error:
            self._log.debug("attestation not believed", node_id=did, issuer=envelope.did, reason=error.message)
            return None
        if not genuine or root.subject != did or root.expires_ms <= now_ms:
            return None
        issued, expires = iso_time(root.issued_ms), iso_time(root.expires_ms)
        return IssuerSeen(issuer=envelope.did, root=Hash32(root.root), issued=issued, expires=expires)

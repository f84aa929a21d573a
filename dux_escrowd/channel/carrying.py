"""The payer's channel messages to sellers that take them over HTTP: handed to a program that buys for this node.

Promise: where a seller takes messages over HTTP and a program is there to carry them, they go so; what this way does
not bring goes from node to node. What is brought counts by its signatures alone, which whoever asked checks. This
daemon opens no socket. Source: channel_protocol.md §4, §7; settled.md 24.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from common.codec import canonical, from_canonical
from common.contracts import channel_carried as c
from common.contracts import peer_channel as peer
from common.contracts.escrow import PeerNotReady
from common.contracts.p2p_errors import PeerAnswered
from common.identity.purposes import Purpose
from common.rpc.method import CP, CR, Done, PeerMethod
from common.rpc.table import Ctx, MethodTable
from common.units import Did
from dux_escrowd.channel.counter import Counter

ERRAND_S = 15.0  # after that the nodes' own way is tried
CARRIER_SEEN_S = 2.0  # so long after its last question it counts as there


@dataclass
class _Waiting:
    """An errand on its way."""

    errand: c.Errand
    came: asyncio.Future[c.Brought]
    given: bool = False


class Carrying:
    """The payer's end: `ask` in place of the node's own way."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._shelf = counter.ledger.shelf
        self._waiting: dict[str, _Waiting] = {}
        self._wanted = asyncio.Event()
        self._asking = 0
        self._seen_s = -CARRIER_SEEN_S

    def serve(self, table: MethodTable) -> None:
        """What carriers ask."""
        table.serve(c.ERRANDS, self.errands)
        table.serve(c.BROUGHT, self.brought)

    def learn(self, payee: Did, url: str) -> None:
        """This payee takes messages over HTTP there; an empty address tells nothing."""
        if url and self._shelf.door(payee) != url:
            with self._counter.ledger.store.transaction() as tx:
                self._shelf.put_door(tx, payee, url)

    # --- own messages -------------------------------------------------------------------------------------------------

    async def open(self, payee: Did, asked: peer.StampedOpen) -> bytes:
        """OPEN_REQ to OPEN_OK: the signed terms."""
        if self._shelf.door(payee):
            carried = c.CarriedOpen(payee=payee, wish=asked.wish, stamp=asked.stamp)
            body = canonical(await self._counter.attest(Purpose.CHANNEL_ASK, carried))
            terms = await self._over_http(payee, c.CarriedMessage(kind="open", body=body), peer.OPEN)
            if terms is not None:
                return terms
        return (await self._counter.desk.call(payee, peer.OPEN, asked)).terms

    async def hello(self, payee: Did, hello: bytes) -> bytes:
        """Hello to the signed HelloBack."""
        back = await self._over_http(payee, c.CarriedMessage(kind="hello", body=hello), peer.HELLO)
        if back is not None:
            return back
        return (await self._counter.desk.call(payee, peer.HELLO, peer.HelloCall(hello=hello))).hello_back

    async def final(self, payee: Did, final: bytes) -> peer.Closing:
        """The last state, and whether it is taken."""
        said = await self._over_http(payee, c.CarriedMessage(kind="final", body=final), peer.FINAL)
        if said is not None:
            return from_canonical(said, peer.Closing, max_bytes=c.MESSAGE_BYTES_MAX)
        return await self._counter.desk.call(payee, peer.FINAL, peer.FinalCall(final=final))

    async def _over_http(self, payee: Did, message: c.CarriedMessage, method: PeerMethod[CP, CR]) -> bytes | None:
        """The answer; None: not this way.

        Raises:
            PeerAnswered: the seller refused it. PeerNotReady: it says not now.
        """
        url = self._shelf.door(payee)
        if not url or len(self._waiting) >= c.ERRANDS_MAX or not self._has_carrier():
            return None
        name = self._counter.random.bytes(16).hex()
        errand = c.Errand(name=name, url=url, message=canonical(message))
        waiting = self._waiting[name] = _Waiting(errand, asyncio.get_running_loop().create_future())
        self._wanted.set()
        try:
            async with asyncio.timeout(ERRAND_S):
                brought = await waiting.came
        except TimeoutError:
            return None
        finally:
            del self._waiting[name]
        match brought.outcome:
            case "answered":
                return brought.answer
            case "lost":
                self._counter.desk.log.info("a channel message did not go over HTTP", reason=brought.problem)
                return None
            case "not_now":
                raise PeerNotReady(did=payee, method=method.name, detail=brought.problem)
            case "refused":
                raise PeerAnswered(
                    did=payee, method=method.name, peer_code=0, peer_key="http", detail=brought.problem, retry=False
                )

    def _has_carrier(self) -> bool:
        return bool(self._asking) or self._counter.desk.clock.monotonic() - self._seen_s < CARRIER_SEEN_S

    # --- the carrier --------------------------------------------------------------------------------------------------

    async def errands(self, params: c.AskErrands, _ctx: Ctx) -> c.Errands:
        """What waits, each handed out once."""
        self._asking += 1
        try:
            async with asyncio.timeout(params.wait_s):
                while not self._not_given():
                    self._wanted.clear()
                    await self._wanted.wait()
        except TimeoutError:
            return c.Errands(errands=())
        finally:
            self._asking -= 1
            self._seen_s = self._counter.desk.clock.monotonic()
        found = self._not_given()
        for waiting in found:
            waiting.given = True
        return c.Errands(errands=tuple(waiting.errand for waiting in found))

    def _not_given(self) -> list[_Waiting]:
        return [waiting for waiting in self._waiting.values() if not waiting.given]

    async def brought(self, params: c.Brought, _ctx: Ctx) -> Done:
        """An errand's end; of one that nobody waits for any more nothing is done."""
        waiting = self._waiting.get(params.name)
        if waiting is not None and not waiting.came.done():
            waiting.came.set_result(params)
        return Done()

"""What all of escrowd's hands share: the book, the wallet, other nodes, the chain's tip, and who this node is.

Promise: an error of another node is told apart into "later" and "never", so that the outbox repeats only what can help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from common.chain.heights import heights_profile
from common.clock import Clock
from common.codec import Canon, canonical
from common.contracts import wallet_chain as chain
from common.contracts.escrow import BadStatement, BadTerms, PeerNotReady
from common.contracts.p2p import Signature
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.registry import NODE_LIST, ListNodes, NodeStatus
from common.contracts.wallet_errors import NotSynced
from common.errors import DuxError, NotFound
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.peers import Peers
from common.randomness import Randomness
from common.receipts import Attested
from common.rpc.client import Client
from common.rpc.method import CP, CR, Empty, PeerMethod
from common.storage_receipts import Wanted
from common.units import BlockHeight, Did
from dux_escrowd.book import Book
from dux_escrowd.settings import EscrowSettings
from dux_escrowd.statements import opened_statement
from dux_escrowd.store import Agreed

PEER_DEADLINE_S = 10.0


@dataclass(kw_only=True)
class Desk:
    """The parts that every hand of escrowd holds."""

    book: Book
    flopd: Client
    registryd: Client
    peers: Peers
    me: Did
    profile: NetworkProfile
    settings: EscrowSettings
    clock: Clock
    random: Randomness
    log: FilteringBoundLogger
    placed: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # contract, channel: its copy's keepers, of how many

    async def tip(self) -> chain.Tip:
        """The chain's tip as the wallet sees it."""
        return await self.flopd.call(chain.CHAIN_TIP, Empty())

    async def height(self) -> int:
        """The tip's height, for an agreement: windows that count from an old tip would be over before they begin.

        Raises:
            NotSynced: the wallet is still reading the chain; ask again.
        """
        tip = await self.tip()
        if not tip.synced:
            raise NotSynced(height=int(tip.height))
        return int(tip.height)

    def is_fresh(self, tip: chain.Tip) -> bool:
        """Whether the tip is young enough to decide on K or a refund (no limit on test profiles)."""
        limit_s = heights_profile(self.profile.heights).tip_age_max_s
        return limit_s is None or self.clock.unix_ms() // 1000 - tip.time_s <= limit_s

    async def read_again(self, name: str, script: bytes, from_height: int) -> None:
        """Return when the wallet has read a script's blocks: no coin then looks gone that it only has not seen yet.

        `name`: of the contract or channel that came back.

        Raises:
            NotSynced: not yet; what came back waits for the next look.
        """
        watch = chain.WatchScripts(
            request_id=f"{name}/read again/{self.random.bytes(8).hex()}", scripts=[script],
            from_height=BlockHeight(from_height),
        )  # fmt: skip
        await self.flopd.call(chain.CHAIN_WATCH, watch)

    async def call(self, did: Did, method: PeerMethod[CP, CR], params: CP) -> CR:
        """The other node's answer.

        Raises:
            PeerNotReady, Unavailable: repeat later. PeerAnswered: it refused for good.
        """
        try:
            return await self.peers.call(did, method, params, deadline_s=PEER_DEADLINE_S)
        except PeerAnswered as error:
            if error.for_later:
                detail = str(error.fields.get("detail", ""))
                raise PeerNotReady(did=did, method=method.name, detail=detail) from error
            raise

    async def active(self) -> list[Did]:
        """Nodes that are known to live; none where the registry cannot say."""
        try:
            found = await self.registryd.call(NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))
        except DuxError:
            return []
        return [node.node_id for node in found.nodes]

    async def attest(self, purpose: Purpose, value: Canon) -> Attested:
        """The value under this node's signature."""
        signature = await self.peers.sign(purpose, value)
        return Attested(canonical(value), signature.did, signature.key_seq, signature.signature)

    async def require_signed(self, purpose: Purpose, attested: Attested, contract_id: str) -> None:
        """Nothing happens for a right signature.

        Raises:
            BadStatement: it is not.
        """
        by = Signature(did=attested.did, key_seq=attested.key_seq, signature=attested.signature)
        if not await self.peers.was_signed(purpose, attested.body, by):
            raise BadStatement(contract_id=contract_id, reason=f"the signature of {attested.did} is wrong")

    async def under_present_key(self, statements: Iterable[bytes]) -> tuple[bytes, ...]:
        """The same statements; own ones that bear another key than the present one are signed once more.

        Their hash is that of what they say, so nothing is said twice; who has recovered its name is heard again.
        """
        key_seq = (await self.peers.info()).key_seq
        return tuple([await self._renewed(data, key_seq) for data in statements])

    async def _renewed(self, data: bytes, key_seq: int) -> bytes:
        heard = opened_statement(data)
        if heard.attested.did != self.me or heard.attested.key_seq == key_seq:
            return data
        return canonical(await self.attest(Purpose.ESCROW_STATEMENT, heard.statement))

    async def require_sound(self, did: Did) -> None:
        """Nothing happens for a name that nothing is held against.

        Raises:
            BadTerms: no new business with it. Unavailable: it cannot be told now.
        """
        fault = await self.peers.fault_of(did)
        if fault:
            raise BadTerms(reason=fault)

    def row(self, contract_id: str) -> Agreed:
        """The contract's row.

        Raises:
            NotFound: this node has no such contract.
        """
        row = self.book.shelf.contract(contract_id)
        if row is None:
            raise NotFound(what="contract", name=contract_id)
        return row


def receipts_wanted(desk: Desk, contract_id: str, blob: str) -> Wanted:
    """What storage receipts for a delivery have to say: kept until T at least."""
    lot = desk.book.shelf.lot(contract_id)
    until = lot.deal.heights.timeout if lot else 0
    return Wanted(blob=blob, until_height=until, deliverer=desk.row(contract_id).seller)

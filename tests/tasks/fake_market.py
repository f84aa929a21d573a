"""A small market at the contract: p2pd, escrowd, stored and registryd of each node, served by real tables.

Left out is what the real neighbours do among themselves: peer calls, blobs and contracts go from table to table at
once. The fake escrowd keeps escrowd's promises to taskd: each event once and in order, `request_id` answered twice
alike, no key before delivery, votes by two of three. Signatures are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from common.blobs import StorageReceipt, blob_id
from common.clock import SystemClock
from common.codec import canonical, to_plain
from common.contracts import base, escrow, p2p, registry, store
from common.contracts import escrow_views as views
from common.contracts.p2p_errors import BlobMissing, PeerAnswered, PeerUnreachable
from common.contracts.p2p_reach import P2P_REACH, Reach, Reached
from common.contracts.registry_service import SERVICE_HAD, ServiceHad, ServiceNotTaken
from common.contracts.wallet_chain import CHAIN_TIP, Tip
from common.contracts.wallet_contract import CONTRACT_VOUCH, PartyWord, VouchContract
from common.contracts.wallet_errors import ContractUnknown
from common.errors import DuxError, NeighbourDown, NotFound, may_repeat
from common.identity.did import did_of
from common.identity.keys import SigningKey, is_signed
from common.identity.purposes import OWNER, Purpose
from common.identity.signed import sign
from common.network import NetworkProfile
from common.randomness import SeededRandomness
from common.receipts import Outcome, SettledReceipt, opened_receipt
from common.rpc.client import Client, LocalClient
from common.rpc.method import Done, Empty, Method
from common.rpc.table import Ctx, MethodTable
from common.store import Store
from common.units import BlockHeight, Did, Florins, UnixMs, tax_of
from dux_escrowd.agreement import wish_problem

LOG = structlog.wrap_logger(
    structlog.PrintLogger(sys.__stderr__), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)
GENESIS = "ab" * 32
ARBITERS = (7, 8, 9)


def key_of(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


def did(number: int) -> Did:
    return did_of(key_of(number).public)


NETWORK = NetworkProfile(
    name="test", chain="embedded", genesis=GENESIS, heights="demo", arbiters=tuple(did(n) for n in ARBITERS)
)


@dataclass
class Deal:
    """One contract as all three kinds of parties hold it."""

    contract_id: str
    wish: escrow.Propose
    buyer: Did
    state: str = "OFFERED"
    delivered: escrow.Deliver | None = None
    disputed_by: Did | None = None
    evidence: tuple[bytes, ...] = ()
    votes: dict[Did, int] = field(default_factory=dict)
    settlement: views.Settlement | None = None
    key: bytes = b""
    judged: list[bool] = field(default_factory=list)

    @property
    def arbiters(self) -> tuple[Did, ...]:
        return self.wish.arbiters[: 2 * self.wish.arbiters_needed - 1]

    @property
    def parties(self) -> tuple[Did, ...]:
        return (self.buyer, self.wish.seller, *self.arbiters)


@dataclass
class Market:
    """All nodes, all contracts, all services."""

    folder: Path
    nodes: dict[Did, FakeNode] = field(default_factory=dict)
    deals: dict[str, Deal] = field(default_factory=dict)
    services: dict[str, tuple[int, store.ServiceView]] = field(default_factory=dict)
    receipts: list[SettledReceipt] = field(default_factory=list)
    restored: bool = False  # wallets know of no contract
    thanked: list[tuple[Did, str, str]] = field(default_factory=list)  # by whom, for what, who
    unheard_of: str = ""  # an arbiter that no registry knows
    forgers: tuple[int, ...] = ()  # nodes whose storage receipts somebody else has signed
    holds: list[str] = field(default_factory=list)  # blobs that others were asked to keep, each time
    hold_keys: bool = False  # the seller's escrowd does not show the key by itself
    fund_by_hand: bool = False
    height: int = 100

    def node(self, number: int) -> FakeNode:
        if did(number) not in self.nodes:
            self.nodes[did(number)] = FakeNode(self, number)
        return self.nodes[did(number)]

    def publish(self, number: int, kind: str, price: int, package: str = "", **changes: Any) -> str:
        """A service of node `number`, known to all."""
        service_id = f"{kind}-{number}"
        fields: dict[str, Any] = {
            "id": service_id, "name": kind, "description": "", "version": "1", "provider": did(number),
            "price_florins": Florins(price), "tags": (), "endpoint": "", "rate_limit": 0, "reputation": 0.0,
            "total_calls": 0, "created_at": "", "updated_at": "", "slug": kind, "kind": kind, "package": package,
            "entry": "dux-wasm/1", "limits": store.CallLimits(fuel=10**9, memory_bytes=64 << 20, wall_s=20,
            output_bytes=1 << 20), "min_buyer_reputation": 0.0, "developer": "", "royalty_bps": 0, "ratings": 0,
            "provider_status": None, "withdrawn": False, "own": False,
        }  # fmt: skip
        self.services[service_id] = (number, store.ServiceView(**(fields | changes)))
        return service_id

    def tell(self, who: Did, event: views.EscrowEvent) -> None:
        """An event of that node's escrowd."""
        node = self.nodes[who]
        number = len(node.events) + 1
        body = to_plain(event)
        node.events.append(base.EventView(cursor=number, at_ms=UnixMs(0), kind=type(event).__name__, body=body))
        node.changed.set()

    def advance(self, deal: Deal, *, funded: bool = True) -> None:
        """Agreed; then funded."""
        if deal.state == "OFFERED":
            deal.state = "AGREED"
            for party in deal.parties:
                self.tell(party, views.Agreed(contract_id=deal.contract_id, cid=deal.contract_id, address="2N"))
        if funded:
            deal.state = "FUNDED"
            event = views.Funded(
                contract_id=deal.contract_id, cid=deal.contract_id, buyer=deal.buyer, service_id=deal.wish.service_id,
                job=deal.wish.job, outpoint="aa" * 32 + ":0", deliver_by=200,
            )  # fmt: skip
            self.tell(deal.wish.seller, event)
            self.tell(deal.buyer, views.Started(contract_id=deal.contract_id))

    def show_key(self, deal: Deal) -> None:
        event = views.KeyRevealed(contract_id=deal.contract_id, content_key=deal.key)
        self.tell(deal.buyer, event)

    def restores(self, deal: Deal, *, blocks_left: int) -> None:
        """The seller's disks are new: its escrowd has the contract back from copies, and tells of nothing before."""
        node = self.nodes[deal.wish.seller]
        node.events, node.blobs = [], {}
        returned = views.JobReturned(
            contract_id=deal.contract_id, buyer=deal.buyer, service_id=deal.wish.service_id, job=deal.wish.job,
            job_hash=deal.wish.job_hash, price_florins=deal.wish.price_florins, deliver_blocks=deal.wish.deliver_blocks,
            begun=deal.state == "FUNDED", blocks_left=blocks_left,
        )  # fmt: skip
        self.tell(node.did, returned)

    def dispute(self, deal: Deal, by: Did, reason: str, *, too_late: bool = False) -> None:
        """Both sides are told, the arbiters get the case with whatever was delivered."""
        if deal.state in ("DISPUTED", "CLOSED"):
            return
        deal.state, deal.disputed_by = "DISPUTED", by
        for party in deal.parties[:2]:
            self.tell(party, views.Disputed(contract_id=deal.contract_id, by=by, reason=reason, too_late=too_late))
        done = deal.delivered
        for arbiter in deal.arbiters:
            case = views.CaseOpened(
                contract_id=deal.contract_id, buyer=deal.buyer, seller=deal.wish.seller,
                service_id=deal.wish.service_id, job=deal.wish.job, price_florins=deal.wish.price_florins,
                reason=reason, ciphertext_blob=done.ciphertext_blob if done else None,
                output_commitment=done.output_commitment if done else b"", content_key=deal.key if done else None,
                work_receipt=done.work_receipt if done else b"", holders=done.holders if done else (),
                evidence=deal.evidence, vote_before_height=300, receipts=done.receipts if done else (),
                arbiters=deal.arbiters,
            )  # fmt: skip
            self.tell(arbiter, case)

    def settle(self, deal: Deal, outcome: Outcome, gross: int) -> None:
        """The coin is spent, for good."""
        if deal.state == "CLOSED":
            return
        deal.state = "CLOSED"
        tax = tax_of(gross, NETWORK.tax_bps)
        deal.settlement = views.Settlement(
            outcome=outcome, gross_florins=Florins(gross), provider_florins=Florins(gross) - tax, fund_florins=tax,
            fee_florins=Florins(0), txid=hashlib.sha256(deal.contract_id.encode()).hexdigest(), height=self.height,
        )  # fmt: skip
        voted = tuple(deal.arbiters) if outcome is Outcome.AWARDED else ()
        for party in deal.parties:
            role = {deal.buyer: "buyer", deal.wish.seller: "seller"}.get(party, "arbiter")
            self.tell(party, views.Settled(contract_id=deal.contract_id, settlement=deal.settlement))
            closed = views.Closed(
                contract_id=deal.contract_id, cid=deal.contract_id, role=role, buyer=deal.buyer,
                seller=deal.wish.seller, service_id=deal.wish.service_id, price_florins=deal.wish.price_florins,
                settlement=deal.settlement, output_commitment=b"", voted=voted,
            )  # fmt: skip
            self.tell(party, closed)


class FakeNode:
    """One node: its fake neighbours; taskd under test is put in by the test."""

    def __init__(self, market: Market, number: int) -> None:
        self.market, self.number, self.did = market, number, did(number)
        self.blobs: dict[str, bytes] = {}
        self.events: list[base.EventView] = []
        self.taskd: MethodTable | None = None
        self.alive = True  # a dead process is heard of no more
        self.calls: list[str] = []
        self.changed = asyncio.Event()
        self.tables = {name: self._table() for name in ("p2pd", "flopd", "escrowd", "stored", "registryd")}
        self._serve_p2pd()
        self._serve_escrowd()
        self._serve_flopd()
        self._serve_stored()

    def _table(self) -> MethodTable:
        table = MethodTable(log=LOG, clock=SystemClock(), randomness=SeededRandomness(self.number))
        table.store = Store.open(None, [], SystemClock())
        return table

    def neighbour(self, name: str) -> Client:
        return _Client(self, name)

    def _serve_p2pd(self) -> None:
        table = self.tables["p2pd"]
        table.serve(p2p.P2P_INFO, self._info)
        table.serve(p2p.PEER_CALL, self._peer_call)
        table.serve(P2P_REACH, self._reach)
        table.serve(p2p.IDENTITY_SIGN, self._sign)
        table.serve(p2p.IDENTITY_VERIFY, self._verify)
        table.serve(p2p.BLOB_FETCH, self._fetch)
        self.once(table, p2p.BLOB_HOLD, self._hold)

    def once(self, table: MethodTable, method: Method[Any, Any], act: Callable[[Any], Any]) -> None:
        """Serve a `once` method: the table gives the first answer again, or RequestIdReused."""

        async def handler(params: Any, _ctx: Ctx) -> Any:
            return act(params)

        table.serve(method, handler)

    async def _info(self, _params: Empty, _ctx: Ctx) -> p2p.Info:
        return p2p.Info(
            did=self.did, key_seq=0, network=GENESIS, endpoints=[], sessions=0, contacts=0, records=0, blobs=0,
            blob_bytes=0, egress="",
        )  # fmt: skip

    async def _reach(self, wish: Reach, _ctx: Ctx) -> Reached:
        others = {did: self.market.nodes.get(did) for did in wish.dids}
        return Reached(dids=[did for did, one in others.items() if one is not None and one.taskd is not None])

    async def _peer_call(self, call: p2p.PeerCall, _ctx: Ctx) -> p2p.PeerAnswer:
        other = self.market.nodes.get(call.did)
        if other is None or other.taskd is None:
            raise PeerUnreachable(address=call.did, detail="off")
        client = LocalClient(other.taskd, "p2pd")
        inward = base.PeerCallIn(method=call.method, params=call.params, sender=self.did)
        try:
            answer = await client.call(base.PEER_HANDLE, inward)
        except DuxError as error:
            raise PeerAnswered(
                did=call.did,
                method=call.method,
                peer_code=error.code,
                peer_key=error.key,
                detail=error.message,
                retry=may_repeat(error),
            ) from error
        return p2p.PeerAnswer(result=answer.result)

    async def _sign(self, params: p2p.Sign, ctx: Ctx) -> p2p.Signature:
        assert OWNER[Purpose(params.purpose)] == ctx.caller == "taskd"
        signature = key_of(self.number).sign(Purpose(params.purpose), params.body)
        return p2p.Signature(did=self.did, key_seq=0, signature=signature)

    async def _verify(self, params: p2p.Verify, _ctx: Ctx) -> p2p.Verdict:
        public = key_of(next(n for n in range(1, 200) if did(n) == params.did)).public
        valid = is_signed(public, Purpose(params.purpose), params.body, params.signature)
        return p2p.Verdict(valid=valid, reason="")

    async def _fetch(self, params: p2p.BlobFetch, _ctx: Ctx) -> p2p.BlobStat:
        sources = [self, *(self.market.nodes[one] for one in params.providers if one in self.market.nodes)]
        data = next((node.blobs[params.id] for node in sources if params.id in node.blobs), None)
        if data is None:
            raise BlobMissing(blob=params.id, providers=len(params.providers))
        self.blobs[params.id] = data
        return p2p.BlobStat(
            id=params.id, known=True, complete=True, size_bytes=len(data), chunks_here=1, keep_until_ms=None
        )

    def _hold(self, params: p2p.BlobHold) -> p2p.Held:
        held = []
        self.market.holds.append(params.id)
        for holder in params.holders:
            self.market.nodes[holder].blobs[params.id] = self.blobs[params.id]
            said = StorageReceipt(1, bytes.fromhex(params.id), holder, 0, params.until_height, UnixMs(0))
            number = self.market.nodes[holder].number
            key = key_of(self.number if number in self.market.forgers else number)
            receipt = canonical(sign(key, Purpose.STORAGE_RECEIPT, said))
            held.append(p2p.HeldBy(did=holder, receipt=receipt, reason=""))
        return p2p.Held(holders=held)

    def _serve_escrowd(self) -> None:
        table = self.tables["escrowd"]
        self.once(table, escrow.PROPOSE, self.propose)
        self.once(table, escrow.QUOTE, self._quote)
        self.once(table, escrow.DELIVER, self._deliver)
        self.once(table, escrow.JUDGE, self._judge)
        self.once(table, escrow.CANCEL, self._cancel)
        self.once(table, escrow.VOTE, self._vote)
        table.serve(escrow.RESULT_KEY, self._result_key)
        table.serve(escrow.SHOW, self._show)
        table.serve(escrow.EVENTS, self._events)

    async def _events(self, params: base.EventsSince, _ctx: Ctx) -> base.EventsPage:
        if params.cursor >= len(self.events):
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(params.wait_s):
                    await self.changed.wait()
        found = self.events[params.cursor : params.cursor + params.limit]
        return base.EventsPage(events=found, cursor=found[-1].cursor if found else params.cursor)

    def _deal(self, contract_id: str) -> Deal:
        if contract_id not in self.market.deals:
            raise NotFound(what="contract", name=contract_id)
        return self.market.deals[contract_id]

    def propose(self, wish: escrow.Propose) -> escrow.ContractRef:
        problem = wish_problem(price_florins=wish.price_florins, arbiters=wish.arbiters, needed=wish.arbiters_needed,
                               parties=(self.did, wish.seller))  # fmt: skip
        if problem is not None:
            raise escrow.BadTerms(reason=problem)
        contract_id = hashlib.sha256(f"{self.did}{wish.request_id}".encode()).hexdigest()
        deal = Deal(contract_id, wish, self.did, key=hashlib.sha256(contract_id.encode()).digest())
        self.market.deals[contract_id] = deal
        offer = views.OfferReceived(
            contract_id=contract_id, buyer=self.did, service_id=wish.service_id, job=wish.job, job_hash=wish.job_hash,
            price_florins=wish.price_florins, deliver_blocks=wish.deliver_blocks,
        )  # fmt: skip
        self.market.tell(wish.seller, offer)
        return escrow.ContractRef(contract_id=contract_id)

    def _quote(self, params: escrow.Quote) -> escrow.ContractRef:
        deal = self._deal(params.contract_id)
        assert deal.wish.seller == self.did
        if params.accept:
            self.market.advance(deal, funded=not self.market.fund_by_hand)
        else:
            deal.state = "CLOSED"
            self.market.tell(deal.buyer, views.QuoteRefused(contract_id=deal.contract_id, reason=params.reason))
        return escrow.ContractRef(contract_id=deal.contract_id)

    async def _result_key(self, params: escrow.ContractRef, _ctx: Ctx) -> escrow.ContentKey:
        deal = self._deal(params.contract_id)
        assert self.did == deal.wish.seller
        return escrow.ContentKey(content_key=deal.key)

    def _deliver(self, params: escrow.Deliver) -> escrow.ContractRef:
        deal = self._deal(params.contract_id)
        assert self.did == deal.wish.seller
        if deal.state == "FUNDED":
            deal.state, deal.delivered = "DELIVERED", params
            event = views.Delivered(
                contract_id=deal.contract_id, ciphertext_blob=params.ciphertext_blob,
                output_commitment=params.output_commitment, work_receipt=params.work_receipt, holders=params.holders,
            )  # fmt: skip
            self.market.tell(deal.buyer, event)
            if deal.wish.policy == "swap":  # the buyer's escrowd pays first, and the key comes with the payment
                self.market.settle(deal, Outcome.RELEASED, deal.wish.price_florins)
            if not self.market.hold_keys:
                self.market.show_key(deal)
        return escrow.ContractRef(contract_id=deal.contract_id)

    def _judge(self, params: escrow.Judge) -> escrow.ContractRef:
        deal = self._deal(params.contract_id)
        assert self.did == deal.buyer
        deal.judged.append(params.good)
        if params.good:
            self.market.settle(deal, Outcome.RELEASED, deal.wish.price_florins)
        else:
            deal.evidence = (params.evidence,)
            self.market.dispute(deal, self.did, params.reason)
        return escrow.ContractRef(contract_id=deal.contract_id)

    def _cancel(self, params: escrow.Cancel) -> escrow.ContractRef:
        deal = self._deal(params.contract_id)
        if self.did == deal.buyer:
            self.market.tell(deal.wish.seller, views.CancelAsked(contract_id=deal.contract_id))
        elif deal.state == "FUNDED" or (deal.state == "DISPUTED" and deal.delivered is None):
            self.market.settle(deal, Outcome.CANCELLED, 0)
        else:
            deal.state = "CLOSED"
            for party in deal.parties[:2]:
                self.market.tell(party, views.Voided(contract_id=deal.contract_id))
        return escrow.ContractRef(contract_id=deal.contract_id)

    def _vote(self, params: escrow.Vote) -> escrow.ContractRef:
        deal = self._deal(params.contract_id)
        assert self.did in deal.arbiters
        deal.votes[self.did] = params.gross_florins
        if list(deal.votes.values()).count(params.gross_florins) >= 2:
            self.market.settle(deal, Outcome.AWARDED, params.gross_florins)
        return escrow.ContractRef(contract_id=deal.contract_id)

    async def _show(self, params: escrow.ContractRef, _ctx: Ctx) -> views.ContractView:
        deal = self._deal(params.contract_id)
        role = {deal.buyer: "buyer", deal.wish.seller: "seller"}.get(self.did, "arbiter")
        return views.ContractView(
            contract_id=deal.contract_id, cid=deal.contract_id, role=role, status=views.Status.FUNDED, state=deal.state,
            buyer=deal.buyer, seller=deal.wish.seller, arbiters=deal.arbiters,
            arbiters_needed=deal.wish.arbiters_needed, service_id=deal.wish.service_id,
            job_hash=deal.wish.job_hash, price_florins=deal.wish.price_florins,
            locked_florins=deal.wish.price_florins, policy="standby", heights=None, address=None, outpoint=None,
            settlement=deal.settlement, disputed_by=deal.disputed_by, reason="", created_ms=0,
            result_lock=deal.wish.result_lock,
        )  # fmt: skip

    def _serve_flopd(self) -> None:
        async def tip(_params: Empty, _ctx: Ctx) -> Tip:
            return Tip(height=BlockHeight(self.market.height), hash="00" * 32, time_s=0, synced=True, source="core")

        async def vouch(params: VouchContract, _ctx: Ctx) -> PartyWord:
            if self.market.restored:
                raise ContractUnknown(what="adopted contract", name=params.cid, cid=params.cid)
            return PartyWord(buyer_key=b"\x02" * 33, seller_key=b"\x03" * 33, signature=b"\x30\x01")

        self.tables["flopd"].serve(CHAIN_TIP, tip)
        self.tables["flopd"].serve(CONTRACT_VOUCH, vouch)

    def _serve_stored(self) -> None:
        table = self.tables["stored"]
        table.serve(store.SERVICE_SHOW, self._service)
        table.serve(store.SERVICE_SEARCH, self._search)
        self.once(table, store.SERVICE_ADMIT, lambda _: store.Admission(admitted=True, reason="", retry_after_s=0))
        touched = store.TouchVerdict(state=registry.ReceiptState.SETTLED, total_calls=1)
        self.once(table, store.SERVICE_TOUCH, lambda _: touched)
        self.once(self.tables["registryd"], registry.REPUTATION_SUBMIT, self._submit)
        self.once(self.tables["registryd"], SERVICE_HAD, self._had)

    def _own_view(self, number: int, view: store.ServiceView) -> store.ServiceView:
        return store.ServiceView(
            **{**{f: getattr(view, f) for f in view.__struct_fields__}, "own": number == self.number}
        )

    async def _service(self, params: store.ServiceName, _ctx: Ctx) -> store.ServiceDetail:
        if params.service_id not in self.market.services:
            raise NotFound(what="service", name=params.service_id)
        return store.ServiceDetail(
            service=self._own_view(*self.market.services[params.service_id]), reviews=(), signed=b""
        )

    async def _search(self, params: store.SearchServices, _ctx: Ctx) -> store.SearchResult:
        found = [self._own_view(n, view) for n, view in self.market.services.values() if view.kind == params.kind]
        found.sort(key=lambda view: view.price_florins)
        return store.SearchResult(services=tuple(found), total=len(found), learnt=0)

    def _submit(self, params: registry.SubmitReceipt) -> registry.ReceiptVerdict:
        _, receipt = opened_receipt(params.receipt)
        self.market.receipts.append(receipt)
        return registry.ReceiptVerdict(cid=receipt.cid, state=registry.ReceiptState.SETTLED, reason="")  # type: ignore[arg-type]

    def _had(self, params: ServiceHad) -> Done:
        if params.server == self.market.unheard_of:
            raise ServiceNotTaken(reason="its server is not registered here")
        self.market.thanked.append((self.did, params.service, params.server))
        return Done()

    def put(self, data: bytes) -> str:
        blob = str(blob_id(data))
        self.blobs[blob] = data
        return blob


class _Client:
    """taskd's client of one fake neighbour; bulk bytes go to the node's blobs."""

    def __init__(self, node: FakeNode, name: str) -> None:
        self._node, self._name = node, name

    async def call(self, method: Method[Any, Any], params: Any, *, deadline_s: float = 15.0) -> Any:
        if not self._node.alive:
            raise NeighbourDown(daemon=self._name, address="fake", detail="the caller is dead")
        self._node.calls.append(method.name)
        return await LocalClient(self._node.tables[self._name], "taskd").call(method, params, deadline_s=deadline_s)

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        if verb == "PUT":
            return self._node.put(body or b"").encode()
        blob = path.removeprefix("/blob/")
        if blob not in self._node.blobs:
            raise BlobMissing(blob=blob, providers=0)
        return self._node.blobs[blob]

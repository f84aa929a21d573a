"""RPC of receipts and reputation, and what other nodes may ask of them."""

from __future__ import annotations

from common.codec import from_canonical
from common.contracts.peer_registry import (
    REPUTATION_ASK,
    SYNC_ITEMS_MAX,
    NodesAsk,
    ReceiptsAsk,
    ReputationAnswer,
    ReputationAsk,
    SyncAnswer,
)
from common.contracts.registry import (
    AskOpinion,
    BadReceipt,
    ContractName,
    Evidence,
    EvidenceWindow,
    NodeName,
    Opinion,
    ReceiptList,
    ReceiptNotTaken,
    ReceiptsSince,
    ReceiptState,
    ReceiptVerdict,
    ReceiptView,
    Reputation,
    SubmitReceipt,
)
from common.errors import BadParams, NotFound, Unavailable
from common.quality import PPM
from common.receipts import Attested, attested
from common.rpc.table import Ctx
from common.standing import NOTE_BYTES_MAX, Note
from common.units import BlockHeight, Did, Hash32
from dux_registryd.effects import Outside
from dux_registryd.intake import Intake
from dux_registryd.opinion_rules import Told, difference
from dux_registryd.scores import Scores
from dux_registryd.statements import Statements
from dux_registryd.store import Book
from dux_registryd.views import receipt_view

SHOWN_MAX = 200  # receipts shown to a peer behind a score
NOTES_SHOWN_MAX, NOTES_BYTES_MAX = 100, 400_000  # statements shown beside them


class ReceiptMethods:
    """What callers and peers may do with receipts."""

    def __init__(self, book: Book, outside: Outside, intake: Intake, scores: Scores, statements: Statements) -> None:
        self.book = self._book = book
        self._statements = statements
        self._outside = outside
        self._intake = intake
        self.scores = self._scores = scores

    async def submit(self, params: SubmitReceipt, _ctx: Ctx) -> ReceiptVerdict:
        """Take a receipt, look at the chain at once, and tell the network."""
        envelope = _envelope(params.receipt)
        taken = await self._intake.receipt(envelope, tell=True)
        if taken.word == "reject":
            raise BadReceipt(detail=taken.reason)
        if not taken.facts:
            raise ReceiptNotTaken(reason=taken.reason)
        return await self._verdict(taken.facts)

    async def _verdict(self, facts: bytes) -> ReceiptVerdict:
        try:
            claim = await self._intake.check(facts)
        except Unavailable:
            claim = self._book.claim(facts)
        if claim is None:
            raise NotFound(what="receipt", name=facts.hex())
        return ReceiptVerdict(cid=Hash32(claim.receipt.cid), state=claim.state, reason=claim.reason)

    async def show(self, params: ContractName, _ctx: Ctx) -> ReceiptView:
        """What is known of one contract's end."""
        claim = self._book.claim_of(params.cid)
        if claim is None:
            raise NotFound(what="receipt of contract", name=bytes(params.cid).hex())
        return receipt_view(claim)

    async def since(self, params: ReceiptsSince, _ctx: Ctx) -> ReceiptList:
        """Receipts in the order in which this node's mind about them changed."""
        found = self._book.claims_after(
            params.after_cursor, params.from_height, settled_only=params.settled_only, limit=params.limit
        )
        views = tuple(receipt_view(claim) for claim in found)
        return ReceiptList(receipts=views, next_cursor=views[-1].cursor if views else params.after_cursor)

    async def reputation(self, params: NodeName, _ctx: Ctx) -> Reputation:
        """A node's standing with its evidence."""
        return self._scores.reputation(Did(params.node_id))

    async def opinion(self, params: AskOpinion, _ctx: Ctx) -> Opinion:
        """Another node's score; the receipts it shows are checked here like any other."""
        answer = await self._outside.ask(Did(params.peer), REPUTATION_ASK, ReputationAsk(did=Did(params.of)))
        new = 0
        for data in answer.receipts[:SHOWN_MAX]:
            taken = await self._intake.receipt(_envelope(data), tell=False)
            new += taken.word == "accept"
            claim = self._book.claim(taken.facts) if taken.facts else None
            if claim is not None and claim.state is ReceiptState.PENDING:
                await self._verdict(taken.facts)
        for data in answer.notes[:NOTES_SHOWN_MAX]:
            await self._statements.take(from_canonical(data, Note, max_bytes=NOTE_BYTES_MAX), tell=False)
        score = self._scores.score(Did(params.of))
        told = Told(answer.score_ppm, answer.settled, len(answer.receipts), answer.at_height)
        reason = difference(told, score.score_ppm, own_height=self._scores.tip())
        return Opinion(
            score=answer.score_ppm / PPM,
            standing_milli=answer.standing_milli,
            at_height=BlockHeight(answer.at_height),
            receipts=len(answer.receipts),
            new_receipts=new,
            notes=len(answer.notes),
            own_score=score.score_ppm / PPM,
            own_standing_milli=score.standing_milli,
            agrees=not reason,
            reason=reason,
        )

    async def evidence(self, params: EvidenceWindow, _ctx: Ctx) -> Evidence:
        """What was witnessed in a window of heights."""
        beats = self._book.heartbeats_between(params.from_height, params.to_height)
        claims = self._book.settled_between(params.from_height, params.to_height)
        nodes = (self._book.signed_node(did) for did, _ in beats)
        return Evidence(
            heartbeats=tuple(data for _, data in beats),
            receipts=tuple(word for claim in claims for word in claim.words),
            nodes=tuple(node for node in nodes if node is not None),
        )

    # for other nodes

    async def nodes_for_peer(self, ask: NodesAsk, _sender: Did) -> SyncAnswer:
        """Descriptions that changed here after a cursor."""
        return _page(self._book.nodes_after(ask.after, min(ask.limit, SYNC_ITEMS_MAX)), ask.after)

    async def receipts_for_peer(self, ask: ReceiptsAsk, _sender: Did) -> SyncAnswer:
        """Receipts that arrived here after a cursor."""
        found = self._book.words_after(ask.after, ask.from_height, min(ask.limit, SYNC_ITEMS_MAX))
        return _page(found, ask.after)

    async def reputation_for_peer(self, ask: ReputationAsk, _sender: Did) -> ReputationAnswer:
        """Our score of a node and the signed receipts behind it."""
        score = self._scores.score(ask.did)
        return ReputationAnswer(
            score_ppm=score.score_ppm,
            standing_milli=score.standing_milli,
            good_florins=int(score.good_florins),
            bad_florins=int(score.bad_florins),
            at_height=self._scores.tip(),
            settled=sum(one.seller == ask.did for one in self._book.settlements_of(ask.did)),
            receipts=tuple(self._book.words_about(ask.did, SHOWN_MAX)),
            notes=self._book.notes_about(ask.did, NOTES_SHOWN_MAX, NOTES_BYTES_MAX),
        )


def _page(found: list[tuple[int, bytes]], after: int) -> SyncAnswer:
    return SyncAnswer(items=tuple(data for _, data in found), next_after=found[-1][0] if found else after)


def _envelope(data: bytes) -> Attested:
    try:
        return attested(data)
    except BadParams as error:
        raise BadReceipt(detail=error.message) from error

"""The only file that calls others: flopd for coins and signatures, registryd for evidence, p2pd for custodians.

It looks up and hands over; it decides nothing. A neighbour that is down raises `Unavailable`, and whoever called tries
again at the next look.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.chain.fund import FundPayout
from common.chain.tx import parse
from common.codec import canonical, from_canonical
from common.contracts.airdrop import PROOF_BYTES_MAX, OtherRound
from common.contracts.p2p import Signature
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_airdrop import (
    EVIDENCE,
    PROOF,
    PROPOSAL,
    SIGNATURE,
    ProofAsk,
    ProposalCall,
    RoundName,
    SignatureCall,
)
from common.contracts.registry import EVIDENCE_WINDOW, EvidenceWindow
from common.contracts.wallet_chain import (
    CHAIN_BLOCK_HASH,
    CHAIN_COINS,
    CHAIN_TIP,
    CHAIN_TX,
    CHAIN_WATCH,
    CoinView,
    HeightAsked,
    ScriptAsked,
    Tip,
    TxAsked,
    WatchScripts,
)
from common.contracts.wallet_contract import FUND_SETTLE, FUND_SIGN, PayoutSignatures, SettlePayout, SignPayout
from common.errors import NotFound
from common.parts import Neighbours
from common.peers import Peers
from common.receipts import Heartbeat, SettledReceipt
from common.rpc.method import CP, CR, Empty, PeerMethod
from common.units import BlockHeight, Did
from dux_airdropd.evidence_rules import PURPOSES, item_fault, item_id, open_item, shape_fault
from dux_airdropd.model import BUNDLE_BYTES_MAX, Bundle, Facts, FundCoin, Item, Kind, Payment, Proof, Window

FAULTS_KEPT = 50_000  # verdicts on items; each is one small string
PEER_DEADLINE_S = 20.0


class Outside:
    """This node's neighbours and the other custodians."""

    def __init__(self, neighbours: Neighbours, peers: Peers, fund_script: bytes) -> None:
        self._flopd = neighbours("flopd")
        self._registryd = neighbours("registryd")
        self._peers = peers
        self._fund_script = fund_script
        self._faults: dict[tuple[bytes, str], str] = {}
        self._did: Did | None = None
        self._watched = False

    async def own_did(self) -> Did:
        """This node's name."""
        if self._did is None:
            self._did = (await self._peers.info()).did
        return self._did

    # the chain

    async def tip(self) -> Tip:
        """Where the chain stands."""
        return await self._flopd.call(CHAIN_TIP, Empty())

    async def block_hash(self, height: int) -> str:
        """The block at a height; empty when the chain is not that high."""
        try:
            return (await self._flopd.call(CHAIN_BLOCK_HASH, HeightAsked(height=BlockHeight(height)))).hash
        except NotFound:
            return ""

    async def coins(self) -> list[FundCoin]:
        """Every output ever seen on the fund's script, with its spend."""
        if not self._watched:
            watch = WatchScripts(request_id="airdrop-fund", scripts=[self._fund_script], from_height=BlockHeight(0))
            await self._flopd.call(CHAIN_WATCH, watch)
            self._watched = True
        found = await self._flopd.call(CHAIN_COINS, ScriptAsked(script=self._fund_script))
        return [_coin(view) for view in found.coins]

    async def _payment(self, receipt: SettledReceipt) -> Payment | None:
        try:
            asked = TxAsked(txid=receipt.txid, height=receipt.height)
            view = await self._flopd.call(CHAIN_TX, asked)
        except NotFound:
            return None
        return Payment(view.height, tuple(view.outputs))

    # evidence

    async def own_evidence(self, from_height: int, to_height: int) -> list[Item]:
        """What this node's registry has witnessed in a window."""
        found = await self._registryd.call(
            EVIDENCE_WINDOW, EvidenceWindow(from_height=from_height, to_height=to_height)
        )
        kinds = ((Kind.HEARTBEAT, found.heartbeats), (Kind.NODE, found.nodes), (Kind.RECEIPT, found.receipts))
        return [Item(kind, data) for kind, group in kinds for data in group]

    async def faults(self, items: Iterable[Item], window: Window, anchor: str) -> dict[bytes, str]:
        """Why items do not verify, by id; `anchor` is the cut-off block, with which what was looked up may change."""
        found: dict[bytes, str] = {}
        for item in items:
            name = item_id(item)
            key = (name, f"{anchor} {window.from_height} {window.to_height}")
            if key not in self._faults:
                if len(self._faults) >= FAULTS_KEPT:
                    self._faults.clear()
                self._faults[key] = await self._fault(item, window)
            if self._faults[key]:
                found[name] = self._faults[key]
        return found

    async def _fault(self, item: Item, window: Window) -> str:
        fault = shape_fault(item)
        if fault:
            return fault
        envelope, body = open_item(item)
        by = Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        signed = await self._peers.is_signed(PURPOSES[item.kind], envelope.body, by, body.at_ms)
        block_hash = await self.block_hash(body.height) if signed and isinstance(body, Heartbeat) else ""
        payment = await self._payment(body) if signed and isinstance(body, SettledReceipt) else None
        return item_fault(item, Facts(signed, block_hash, payment), window)

    # the fund

    async def sign(self, request_id: str, payout: FundPayout) -> tuple[bytes, ...]:
        """This custodian's signatures of a payout, one per input; flopd checks that it spends the fund's coins."""
        answer = await self._flopd.call(FUND_SIGN, SignPayout(request_id=request_id, payout=canonical(payout)))
        return tuple(answer.signatures)

    async def settle(self, request_id: str, payout: FundPayout, signatures: list[PayoutSignatures]) -> str:
        """Have a payout with enough signatures broadcast until it is mined; returns its txid."""
        call = SettlePayout(request_id=request_id, payout=canonical(payout), signatures=signatures)
        return (await self._flopd.call(FUND_SETTLE, call)).txid

    # other nodes

    async def put_blob(self, data: bytes) -> str:
        """Keep bytes where others can fetch them."""
        return await self._peers.put_blob(data)

    async def ask_evidence(self, did: Did, name: RoundName) -> Bundle:
        """What another custodian holds for this airdrop."""
        held = await self._call(did, EVIDENCE, name)
        data = await self._peers.fetch_blob(held.blob, [did], max_bytes=min(held.size_bytes, BUNDLE_BYTES_MAX))
        return from_canonical(data, Bundle, max_bytes=BUNDLE_BYTES_MAX)

    async def fetch_proposal(self, did: Did, call: ProposalCall) -> bytes:
        """The bytes of a proposal that a custodian announced."""
        return await self._peers.fetch_blob(call.blob, [did], max_bytes=min(call.size_bytes, PROOF_BYTES_MAX))

    async def send_proposal(self, did: Did, call: ProposalCall) -> None:
        """Hand a proposal to a custodian."""
        await self._call(did, PROPOSAL, call)

    async def send_signature(self, did: Did, call: SignatureCall) -> None:
        """Hand own signatures, or a refusal, to a custodian."""
        await self._call(did, SIGNATURE, call)

    async def ask_proof(self, did: Did, number: int) -> Proof | None:
        """Another node's proof of an airdrop; None when it has none."""
        held = await self._call(did, PROOF, ProofAsk(number=number))
        if not held.blob:
            return None
        data = await self._peers.fetch_blob(held.blob, [did], max_bytes=min(held.size_bytes, PROOF_BYTES_MAX))
        return from_canonical(data, Proof, max_bytes=PROOF_BYTES_MAX)

    async def _call(self, did: Did, method: PeerMethod[CP, CR], params: CP) -> CR:
        """A peer call; "I stand elsewhere" becomes a reason to repeat it."""
        try:
            return await self._peers.call(did, method, params, deadline_s=PEER_DEADLINE_S)
        except PeerAnswered as error:
            if error.fields.get("peer_code") == OtherRound.code:
                raise OtherRound(number=-1, cutoff_height=-1) from error
            raise


def _coin(view: CoinView) -> FundCoin:
    spend = view.spend
    spent_outputs = parse(spend.raw).outputs if spend is not None and spend.height is not None else ()
    return FundCoin(
        outpoint=view.outpoint,
        value_florins=int(view.value_florins),
        height=view.height,
        spent_height=spend.height if spend is not None else None,
        spent_txid=spend.txid if spend is not None and spend.height is not None else "",
        spent_outputs=spent_outputs,
    )

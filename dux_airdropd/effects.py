"""The only file that calls others: flopd for coins and signatures, registryd for evidence, p2pd for custodians.

It looks up and hands over; it decides nothing. A neighbour that is down raises `Unavailable`, and whoever called tries
again at the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from common.ceremony import WORD_BYTES_MAX, CeremonyPlan, FundWord
from common.chain.fund import FundPayout
from common.chain.tx import parse
from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.airdrop import PROOF_BYTES_MAX, OtherRound
from common.contracts.airdrop_parameters import SET_BYTES_MAX
from common.contracts.p2p import Signature
from common.contracts.p2p_errors import PeerAnswered, PeerUnknown, TooFewSources
from common.contracts.peer_airdrop import (
    BOND,
    CEREMONY,
    EVIDENCE,
    GOVERNANCE_NS,
    PROOF,
    PROPOSAL,
    SIGNATURE,
    SWEEP,
    BondCall,
    CeremonyAsk,
    CeremonyWords,
    GovernancePointer,
    ProofAsk,
    ProposalCall,
    RoundName,
    SignatureCall,
    SweepCall,
)
from common.contracts.registry import EVIDENCE_WINDOW, EvidenceWindow
from common.contracts.registry_seen import EVIDENCE_SEEN, SeenAsked, SeenNode
from common.contracts.wallet_bonds import WALLET_BONDS, BondCoin
from common.contracts.wallet_chain import (
    CHAIN_BEACON,
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
from common.contracts.wallet_chain_proof import (
    CHAIN_HEADERS,
    CHAIN_TX_PROOF,
    HeadersAsked,
    TxProof,
    TxProofAsked,
)
from common.contracts.wallet_contract import (
    FUND_PROVE,
    FUND_SETTLE,
    FUND_SIGN,
    PayoutSignatures,
    ProveKey,
    SettlePayout,
    SignPayout,
)
from common.contracts.wallet_errors import WalletLocked
from common.errors import NotFound
from common.identity.log import Log
from common.identity.purposes import Purpose
from common.parts import Neighbours
from common.peers import Peers, log_in
from common.receipt_keys import lots_in
from common.receipts import Attested, Heartbeat, SettledReceipt
from common.rpc.method import CP, CR, RECORD_TTL_S_MAX, Empty, PeerMethod
from common.units import BlockHeight, Did, UnixMs
from dux_airdropd.evidence_rules import PURPOSES, item_fault, item_id, open_bond, open_item, shape_fault
from dux_airdropd.model import (
    BUNDLE_BYTES_MAX,
    WITNESS_LINES_MAX,
    Bundle,
    Facts,
    Figures,
    FundCoin,
    Item,
    Kind,
    Payment,
    Proof,
    Round,
    Seen,
    Window,
    WitnessWord,
)

FAULTS_KEPT = 50_000  # verdicts on items; each is one small string
PEER_DEADLINE_S = 20.0
CONFIRMED = (Kind.NODE, Kind.WITNESS)  # a description says where a node is paid, a custodian's word who is eligible
CONFIRMED_AT_ONCE = 16  # of up to a thousand, before each proposal and each signature
LOG_AGE_MAX_S = 30 * 86_400  # a log only grows: an old one still holds the keys of then


class Outside:
    """This node's neighbours and the other custodians."""

    def __init__(self, neighbours: Neighbours, peers: Peers, fund_script: bytes, clock: Clock) -> None:
        self._flopd = neighbours("flopd")
        self._registryd = neighbours("registryd")
        self._peers = peers
        self._fund_script = fund_script
        self._clock = clock
        self._faults: dict[tuple[bytes, str], str] = {}
        self._did: Did | None = None
        self._watched = set[bytes]()

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

    async def coins(self, script: bytes = b"") -> list[FundCoin]:
        """Every output ever seen on the fund's script (or another of its scripts), with its spend."""
        script = script or self._fund_script
        if script not in self._watched:
            watch = WatchScripts(
                request_id=f"airdrop-fund-{script.hex()}", scripts=[script], from_height=BlockHeight(0)
            )
            await self._flopd.call(CHAIN_WATCH, watch)
            self._watched.add(script)
        found = await self._flopd.call(CHAIN_COINS, ScriptAsked(script=script))
        return [_coin(view) for view in found.coins]

    async def beacon(self, height: int) -> bytes:
        """The public draw of a height."""
        return (await self._flopd.call(CHAIN_BEACON, HeightAsked(height=BlockHeight(height)))).beacon

    async def _payment(self, txid: str, height: int) -> Payment | None:
        try:
            view = await self._flopd.call(CHAIN_TX, TxAsked(txid=txid, height=BlockHeight(height)))
        except NotFound:
            return None
        return Payment(view.height, tuple(view.outputs), lots_in(view.raw))

    async def tx_proof(self, txid: str, height: int) -> TxProof:
        """A transaction with its way to the header's root."""
        return await self._flopd.call(CHAIN_TX_PROOF, TxProofAsked(txid=txid, height=BlockHeight(height)))

    async def headers(self, low: int, count: int) -> bytes:
        """Headers in a row, 80 bytes each."""
        asked = HeadersAsked(from_height=BlockHeight(low), count=count)
        return (await self._flopd.call(CHAIN_HEADERS, asked, deadline_s=60.0)).headers

    async def log_of(self, did: Did) -> bytes:
        """A node's event log."""
        return (await self._peers.resolve(did, max_age_s=LOG_AGE_MAX_S)).log

    # evidence

    async def own_evidence(self, from_height: int, to_height: int) -> list[Item]:
        """What this node's registry has witnessed in a window."""
        found = await self._registryd.call(
            EVIDENCE_WINDOW, EvidenceWindow(from_height=from_height, to_height=to_height)
        )
        kinds = ((Kind.HEARTBEAT, found.heartbeats), (Kind.NODE, found.nodes), (Kind.RECEIPT, found.receipts))
        return [Item(kind, data) for kind, group in kinds for data in group]

    async def own_words(self, own: Did, round_: Round, figures: Figures) -> list[Item]:
        """This custodian's signed words about every node that its registry knows, for one cut-off."""
        rule = figures.bonded
        asked = SeenAsked(height=round_.cutoff_height, days=rule.presence_days, day_blocks=rule.day_blocks)
        found = await self._registryd.call(EVIDENCE_SEEN, asked, deadline_s=60.0)
        lines = [_seen(node) for node in found.nodes]
        words = []
        for at in range(0, len(lines), WITNESS_LINES_MAX):
            word = WitnessWord(
                network=figures.network, witness=own, cutoff_height=round_.cutoff_height,
                cutoff_hash=round_.cutoff_hash, lines=tuple(lines[at : at + WITNESS_LINES_MAX]),
                at_ms=UnixMs(self._clock.unix_ms()),
            )  # fmt: skip
            signed = await self._peers.sign(Purpose.AIRDROP_WITNESS, word)
            words.append(
                Item(Kind.WITNESS, canonical(Attested(canonical(word), own, signed.key_seq, signed.signature)))
            )
        return words

    async def confirm(self, items: Iterable[Item]) -> int:
        """Ask the network for the newest logs of those whose word decides who is paid, and where; how many it told.

        Their items are judged anew by these logs. Who cannot be confirmed now is judged by what is known: a node that
        is away must not hold up everybody's payout.
        """
        words = [item for item in items if item.kind in CONFIRMED and not shape_fault(item)]
        anew, deciding = {item_id(item) for item in words}, {open_item(item)[0].did for item in words}
        turns = asyncio.Semaphore(CONFIRMED_AT_ONCE)

        async def confirmed(did: Did) -> bool:
            async with turns:
                try:
                    await self._peers.confirm(did)
                except (PeerUnknown, TooFewSources):
                    return False
            return True

        told = await asyncio.gather(*(confirmed(did) for did in sorted(deciding)))
        self._faults = {key: fault for key, fault in self._faults.items() if key[0] not in anew}
        return sum(told)

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
        if item.kind is Kind.BOND:
            shown, proof = open_bond(item)
            payment = await self._payment(proof.bond.outpoint.txid, shown.height)
            return item_fault(item, Facts(signed=True, payment=payment), window)
        envelope, body = open_item(item)
        by = Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        signed = await self._peers.is_signed(PURPOSES[item.kind], envelope.body, by, body.at_ms)
        block_hash = await self.block_hash(body.height) if signed and isinstance(body, Heartbeat) else ""
        payment = None
        if signed and isinstance(body, SettledReceipt):
            payment = await self._payment(body.txid, body.height)
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

    async def prove(self, plan: CeremonyPlan, did: Did, script: bytes) -> FundWord:
        """This wallet's word in a key ceremony, signed with the new key."""
        call = ProveKey(plan=canonical(plan), did=did, script=script)
        return from_canonical((await self._flopd.call(FUND_PROVE, call)).word, FundWord, max_bytes=WORD_BYTES_MAX)

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

    async def send_sweep(self, did: Did, call: SweepCall) -> None:
        """Hand own signatures of a sweep to another keeper."""
        await self._call(did, SWEEP, call)

    # what the council has signed

    async def tell_set(self, version: int, data: bytes) -> tuple[str, int]:
        """Keep a signed set as a blob and name it in the DHT; its blob, and how many nodes keep the name by now."""
        blob = await self._peers.put_blob(data)
        pointer = GovernancePointer(blob=blob, size_bytes=len(data))
        return blob, await self._peers.put_record(GOVERNANCE_NS, _set_name(version), pointer, ttl_s=RECORD_TTL_S_MAX)

    async def sets_named(self, version: int) -> list[tuple[Did, GovernancePointer]]:
        """Who names a set of this version, and where it is; anybody may."""
        records = await self._peers.get_records(GOVERNANCE_NS, _set_name(version))
        size = GOVERNANCE_NS.payload_bytes_max
        return [(one.did, from_canonical(one.payload, GovernancePointer, max_bytes=size)) for one in records]

    async def fetch_set(self, did: Did, pointer: GovernancePointer) -> bytes:
        """The bytes of a set that somebody names."""
        return await self._peers.fetch_blob(pointer.blob, [did], max_bytes=min(pointer.size_bytes, SET_BYTES_MAX))

    async def log_known(self, did: Did) -> Log | None:
        """A name's log as the network has it now; None where it cannot be told."""
        try:
            return log_in(await self._peers.confirm(did))
        except (PeerUnknown, TooFewSources):
            return None

    async def ask_words(self, did: Did, ask: CeremonyAsk) -> CeremonyWords:
        """A member's words in a key ceremony."""
        return await self._call(did, CEREMONY, ask)

    async def own_bonds(self) -> list[BondCoin]:
        """The locked outputs of this node's wallet; none while the wallet is shut."""
        try:
            found = await self._flopd.call(WALLET_BONDS, Empty())
        except WalletLocked:
            return []
        return [coin for bond in found.bonds for coin in bond.coins]

    async def send_bond(self, did: Did, call: BondCall) -> None:
        """Show an own bond to a custodian."""
        await self._call(did, BOND, call)

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


def _set_name(version: int) -> str:
    return f"parameters/{version}"


def _seen(node: SeenNode) -> Seen:
    return Seen(
        did=node.did, since_height=BlockHeight(node.since_height), up_bps=node.up_bps, up_last=node.up_last,
        standing_milli=node.standing_milli, fault_height=node.fault_height, net=node.net,
    )  # fmt: skip


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

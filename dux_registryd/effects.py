"""What registryd asks of its neighbours: signatures, other nodes and the DHT of p2pd, the chain of flopd.

The only file that calls other daemons. Effects of the outbox are told here too; telling twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from common.attestor import Attestor
from common.chain.tx import TxOutput
from common.codec import canonical, from_canonical
from common.community_fund import tax_scripts_of
from common.contracts import p2p
from common.contracts.p2p_errors import NotStored
from common.contracts.peer_registry import (
    ATTESTATION_NS,
    CAPABILITY_NS,
    REGISTERED_NS,
    TOPIC_NODE,
    TOPIC_RECEIPT,
    TOPIC_STANDING,
    CapabilityPointer,
)
from common.contracts.registry_service import ServedName
from common.contracts.wallet_bonds import WALLET_BONDS
from common.contracts.wallet_chain import CHAIN_BEACON, CHAIN_BLOCK_HASH, CHAIN_TIP, CHAIN_TX, HeightAsked, TxAsked
from common.contracts.wallet_errors import WalletLocked
from common.errors import NotFound, NotNow, Unavailable
from common.identity.disclosure import ClaimRoot
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.network import NetworkProfile
from common.receipt_keys import lots_in
from common.receipts import ATTESTED_BYTES_MAX, Attested
from common.rpc.client import Client
from common.rpc.method import Empty
from common.standing import NOTE_BYTES_MAX, Note
from common.store import Effect
from common.units import BlockHeight, Did, Florins, UnixMs
from dux_registryd.payment_rules import SeenPayment

RECORD_TTL_S = 86_400
HASHES_KEPT = 2_000  # block hashes remembered, so that heartbeats of one minute cost one question
BEACONS_KEPT = 1_000

TELL_NODE, TELL_RECEIPT, TELL_NOTE = "tell-node", "tell-receipt", "tell-note"
PUT_NODE, PUT_CAPABILITY, PUT_ATTESTATION = "put-node", "put-capability", "put-attestation"
ROOT_BYTES_MAX = 256


class NobodyThere(NotNow):
    """This node is connected to no other yet; it is told again until somebody is there."""

    code = 5007
    key = "nobody-there"


class Told(msgspec.Struct, frozen=True):
    """The body of an effect: signed bytes to tell, a name to put them under; `at_ms` 0 withdraws a capability."""

    signed: bytes = b""
    name: str = ""
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class TipSeen:
    """Where the chain stands."""

    height: int
    hash: str


@dataclass(frozen=True, slots=True)
class OwnBond:
    """A locked output of this node's wallet that its owner has registered."""

    proof: bytes
    value_florins: Florins
    height: BlockHeight


class Outside(Attestor):
    """The neighbours, as registryd needs them."""

    def __init__(self, p2pd: Client, flopd: Client, network: NetworkProfile) -> None:
        super().__init__(p2pd)
        self._flopd = flopd
        self._tax_scripts = tax_scripts_of(network.fund)
        self._hashes: dict[int, str] = {}
        self._beacons: dict[int, bytes] = {}
        self.tip_seen: TipSeen | None = None

    async def endpoint(self) -> tuple[str, int]:
        """Where other nodes reach this one: host and port; empty and 0 when it is not told."""
        found = (await self.peers.info()).endpoints
        host, _, port = found[0].rpartition(":") if found else ("", "", "0")
        return host.strip("[]"), int(port)

    async def ends(self) -> dict[Did, str]:
        """The address at the other end of each session as our socket has it; no address where a relay is between."""
        found = (await self.p2pd.call(p2p.P2P_PEERS, Empty())).peers
        return {view.did: view.address.rpartition(":")[0].strip("[]") for view in found}

    async def look_key(self) -> bytes:
        """The key that checks this node's proofs of its looks at others."""
        return (await self.p2pd.call(p2p.IDENTITY_PROVE, p2p.Prove(purpose=Purpose.LOOK.value))).key

    async def proofs(self, purpose: Purpose, bodies: Sequence[bytes]) -> list[bytes]:
        """What this node's look key draws from each of these, a few at a time so that p2pd has other turns."""
        found: list[bytes] = []
        for at in range(0, len(bodies), p2p.PROVE_MAX):
            asked = p2p.Prove(purpose=purpose.value, bodies=tuple(bodies[at : at + p2p.PROVE_MAX]))
            found += (await self.p2pd.call(p2p.IDENTITY_PROVE, asked)).proofs
        return found

    async def looked_up(self, did: Did) -> bytes | None:
        """A node's signed description from the DHT."""
        records = await self.peers.get_records(REGISTERED_NS, did)
        return next((record.payload for record in records if record.did == did and record.payload), None)

    async def attested_of(self, did: Did) -> list[Attested]:
        """What stands in the DHT as others' attestations of a node, each signed by who put it; not verified."""
        records = await self.peers.get_records(ATTESTATION_NS, did)
        found = [
            (one, from_canonical(one.payload, Signed, max_bytes=ATTESTED_BYTES_MAX)) for one in records if one.payload
        ]
        return [
            Attested(body=root.body, did=one.did, key_seq=one.key_seq, signature=root.sigs[0])
            for one, root in found
            if root.sigs
        ]

    async def was_signed(self, purpose: Purpose, envelope: Attested, at_ms: int) -> bool:
        """Whether an envelope was signed with its DID's key of that time, whatever became of the name since."""
        by = p2p.Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        return await self.peers.is_signed(purpose, envelope.body, by, UnixMs(at_ms))

    async def stands(self, purpose: Purpose, envelope: Attested, at_ms: int) -> bool:
        """The same, and its signer has not recovered or closed its name since: a thief could have written any time.

        The log that tells it is at most ten minutes old and confirmed by two independent nodes.

        Raises:
            PeerUnknown, TooFewSources: it cannot be told now.
        """
        await self.peers.confirm(envelope.did)
        by = p2p.Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        verdict = await self.peers.verdict_on(purpose, envelope.body, by, UnixMs(at_ms))
        return verdict.valid and not verdict.stopped

    async def refuse(self, until_ms: Mapping[Did, int]) -> None:
        """Have p2pd refuse these nodes, each until a time (0: until told otherwise), and no others."""
        names = tuple(p2p.RefusedNode(did=did, until_ms=UnixMs(until_ms[did])) for did in sorted(until_ms))
        await self.p2pd.call(p2p.P2P_REFUSE, p2p.Refuse(nodes=names[: p2p.REFUSED_MAX]))

    async def take_duties(self, duties: Sequence[str]) -> None:
        """Have p2pd do the duties of this node's tier from now on."""
        await self.p2pd.call(p2p.P2P_TAKE_DUTIES, p2p.Duties(duties=list(duties)))

    async def served(self) -> dict[ServedName, dict[Did, int]]:
        """Who carried bytes and who kept records for this node since its p2pd started, and how many."""
        found = await self.p2pd.call(p2p.P2P_REACHABILITY, Empty())
        return {
            "dht": {one.keeper: one.records for one in found.kept},
            "relay": {one.relay: one.bytes for one in found.carried},
        }

    # the chain

    async def tip(self) -> TipSeen | None:
        """The chain's tip once it is read up to there; None when the wallet cannot tell."""
        try:
            found = await self._flopd.call(CHAIN_TIP, Empty())
        except Unavailable:
            return None
        if not found.synced:
            return None
        self.tip_seen = TipSeen(height=found.height, hash=found.hash)
        return self.tip_seen

    async def block_hash(self, height: int) -> str | None:
        """The hash at a height of the best chain; None when there is no such block yet or the wallet cannot tell."""
        if height in self._hashes:
            return self._hashes[height]
        try:
            found = await self._flopd.call(CHAIN_BLOCK_HASH, HeightAsked(height=BlockHeight(height)))
        except (NotFound, Unavailable):
            return None
        if len(self._hashes) >= HASHES_KEPT:
            self._hashes.clear()
        self._hashes[height] = found.hash
        return found.hash

    async def beacon(self, height: int) -> bytes | None:
        """The public draw of a height; None when there is no such block yet or the wallet cannot tell."""
        if height not in self._beacons:
            try:
                found = await self._flopd.call(CHAIN_BEACON, HeightAsked(height=BlockHeight(height)))
            except (NotFound, Unavailable):
                return None
            if len(self._beacons) >= BEACONS_KEPT:
                self._beacons.clear()
            self._beacons[height] = found.beacon
        return self._beacons[height]

    def forget_hashes(self) -> None:
        """The chain was reorganised: what was remembered may be another branch's."""
        self._hashes.clear()
        self._beacons.clear()

    async def payment(self, txid: str, height: int) -> SeenPayment | None:
        """A transaction as the chain shows it now: what it pays the community fund, and whose lots it spends.

        Raises:
            Unavailable: the wallet or its coin node does not answer.
        """
        try:
            found = await self._flopd.call(CHAIN_TX, TxAsked(txid=txid, height=BlockHeight(height)))
        except NotFound:
            return None
        paid = tuple(int(output.value_florins) for output in found.outputs if output.script in self._tax_scripts)
        return SeenPayment(height=found.height, fund_florins=paid, lots=lots_in(found.raw))

    async def outputs(self, txid: str, height: int) -> list[TxOutput]:
        """The outputs of a transaction that the chain has at a height; none when it has no such transaction there.

        Raises:
            Unavailable: the wallet or its coin node does not answer.
        """
        try:
            found = await self._flopd.call(CHAIN_TX, TxAsked(txid=txid, height=BlockHeight(height)))
        except NotFound:
            return []
        return found.outputs if found.height == height else []

    async def own_bonds(self) -> list[OwnBond]:
        """The mined outputs of bonds that the owner has registered; none while the wallet is shut or away."""
        try:
            found = await self._flopd.call(WALLET_BONDS, Empty())
        except (WalletLocked, Unavailable):
            return []
        coins = [coin for bond in found.bonds for coin in bond.coins if coin.proof]
        return [OwnBond(coin.proof, coin.value_florins, coin.height) for coin in coins if coin.height is not None]

    # effects of the outbox

    async def perform(self, effect: Effect) -> None:
        """Tell or put what a decision wanted; raises `Unavailable` or `NotNow` to be tried again."""
        told = msgspec.json.decode(effect.body, type=Told)
        if effect.kind == TELL_NOTE:
            if not await self.publish(TOPIC_STANDING, from_canonical(told.signed, Note, max_bytes=NOTE_BYTES_MAX)):
                raise NobodyThere
            return
        if effect.kind in (TELL_NODE, TELL_RECEIPT):
            if not await self.publish(TOPIC_NODE if effect.kind == TELL_NODE else TOPIC_RECEIPT, _envelope(told)):
                raise NobodyThere
            return
        try:
            await self._put(effect.kind, told)
        except NotStored:
            return  # p2pd keeps it and offers it again as soon as somebody is near enough

    async def _put(self, kind: str, told: Told) -> None:
        if kind == PUT_NODE:
            await self.peers.put_record(REGISTERED_NS, told.name, _envelope(told), ttl_s=RECORD_TTL_S)
            return
        if kind == PUT_ATTESTATION:
            root = from_canonical(told.signed, ClaimRoot, max_bytes=ROOT_BYTES_MAX)
            given = await self.signed(Purpose.CLAIM_ROOT, root)  # with the key that also signs the record
            record = Signed(body=given.body, sigs=(given.signature,))
            await self.peers.put_record(ATTESTATION_NS, told.name, record, ttl_s=RECORD_TTL_S)
            return
        payload = canonical(CapabilityPointer(at_ms=told.at_ms)) if told.at_ms else b""
        put = p2p.DhtPut(ns=CAPABILITY_NS.name, name=told.name, payload=payload, ttl_s=RECORD_TTL_S)
        await self.p2pd.call(p2p.DHT_PUT, put)


def _envelope(told: Told) -> Attested:
    return from_canonical(told.signed, Attested, max_bytes=ATTESTED_BYTES_MAX)

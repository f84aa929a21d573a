"""What nodes sign about each other: that one was seen, when, and how fast it answered.

A sighting is canonical, signed by its witness under a purpose of its own, and travels inside an `Attested` envelope.
A sighting also says in which network its witness saw the node, and proves that its witness had drawn itself to look.
This module knows the shapes; who may say such a thing of whom is judged by registryd.

Source: mechanisms.md §2.4 (presence); settled.md 31.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon, canonical
from common.identity.ecvrf import PROOF_BYTES
from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.receipts import Bytes32, DidText, Hex64
from common.units import BlockHeight, Did, UnixMs

SIGHTING_BYTES_MAX = 448
SIGHTINGS_MAX = 16  # in one bundle, 8 KB: ten are expected, more come once in forty slots
RTT_MS_MAX = 60_000

Height = Annotated[BlockHeight, Meta(ge=0, lt=2**31)]
Slot = Annotated[int, Meta(ge=0, lt=2**31)]


class Sighting(Canon, frozen=True):
    """«I challenged this node in this slot, and it answered»: signed by the challenger, kept by the challenged."""

    network: Hex64
    slot: Slot
    beacon: Bytes32  # of the slot
    target: DidText
    prober: DidText
    rtt_ms: Annotated[int, Meta(ge=0, le=RTT_MS_MAX)]
    at_ms: UnixMs
    net: Annotated[str, Meta(max_length=43)]  # the /24 or /48 that the connection came from or went to; empty: a relay
    proof: Annotated[bytes, Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]  # of what its look key drew


class Look(Canon, frozen=True):
    """What a look key draws from: nothing in it is the witness's to choose."""

    network: Hex64
    beacon: Bytes32
    slot: Slot
    target: DidText
    witness: DidText  # a proof counts in this name alone, whoever else has registered the same key


def look_body(network: str, beacon: bytes, slot: int, target: Did, witness: Did) -> bytes:
    """The body that is proved over, for p2pd."""
    return canonical(Look(network=network, beacon=beacon, slot=slot, target=target, witness=witness))


def look_input(network: str, beacon: bytes, slot: int, target: Did, witness: Did) -> bytes:
    """The same with its purpose in front: the alpha of RFC 9381."""
    return tagged(Purpose.LOOK, look_body(network, beacon, slot, target, witness))


class SlotEvidence(Canon, frozen=True):
    """The sightings of one node in one slot, as it spreads them itself (`Attested` bytes of `Sighting` each)."""

    target: DidText
    slot: Slot
    sightings: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=SIGHTINGS_MAX)]

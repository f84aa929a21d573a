"""Makers of market nouns for tests: a plain, sound one each, with changes."""

from __future__ import annotations

from typing import Any

import msgspec

from common.receipts import (
    Heartbeat,
    NodeInfo,
    Outcome,
    Rating,
    ServiceRecord,
    SettledReceipt,
    service_id_of,
)
from common.units import BlockHeight, Did, Florins, UnixMs
from common.work import Limits

NETWORK = "ab" * 32
NOW_MS = 1_790_000_000_000
TAX_BPS = 500


def did(letter: str) -> Did:
    """A DID of one letter (a-z, 2-7)."""
    return Did("did:dux:" + letter * 51 + "a")


BUYER, SELLER, STRANGER = did("b"), did("s"), did("x")
ARBITERS = (did("e"), did("f"), did("g"))


def changed(thing: Any, **changes: Any) -> Any:
    """A copy with other fields."""
    return msgspec.structs.replace(thing, **changes)


def receipt(**changes: Any) -> SettledReceipt:
    """A release of 10 FLOP, signed by the seller, with changes."""
    plain = SettledReceipt(
        network=NETWORK,
        cid=b"\x01" * 32,
        buyer=BUYER,
        seller=SELLER,
        service_id=service_id_of(SELLER, "upscale"),
        price_florins=Florins(1_000_000_000),
        gross_florins=Florins(1_000_000_000),
        tax_florins=Florins(50_000_000),
        txid="cd" * 32,
        height=BlockHeight(100),
        outcome=Outcome.RELEASED,
        output_hash=b"",
        signer=SELLER,
        at_ms=UnixMs(NOW_MS),
    )
    found: SettledReceipt = changed(plain, **changes)
    return found


def lost(**changes: Any) -> SettledReceipt:
    """A receipt of a contract whose price arbiters gave back to the buyer."""
    nothing = {"gross_florins": Florins(0), "tax_florins": Florins(0), "outcome": Outcome.AWARDED}
    return receipt(**nothing | changes)


def heartbeat(**changes: Any) -> Heartbeat:
    """A heartbeat of the seller, with changes."""
    plain = Heartbeat(
        network=NETWORK,
        did=SELLER,
        at_ms=UnixMs(NOW_MS),
        height=BlockHeight(100),
        block_hash="ef" * 32,
        uptime_s=60,
        load_milli=(500, 300, 200),
        memory_used_bps=6_550,
        disk_used_bps=4_520,
        memory_available_mb=4_096,
        cpu_available=4,
    )
    found: Heartbeat = changed(plain, **changes)
    return found


def node(**changes: Any) -> NodeInfo:
    """The seller's description of itself, with changes."""
    plain = NodeInfo(
        network=NETWORK,
        did=SELLER,
        at_ms=UnixMs(NOW_MS),
        withdrawn=False,
        wallet_address="mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef",
        ip_address="192.168.1.100",
        port=32_570,
        hostname="my-node",
        os_version="22.04",
        duxos_version="1.0.0",
        cpu_cores=8,
        memory_mb=16_384,
        storage_gb=500,
        gpu_model="NVIDIA RTX 3080",
        region="eu",
        capabilities=("api_hosting", "task_execution"),
    )
    found: NodeInfo = changed(plain, **changes)
    return found


def service(**changes: Any) -> ServiceRecord:
    """The seller's upscaling service, with changes (a changed slug or provider gets its own id)."""
    plain = ServiceRecord(
        network=NETWORK,
        service_id="",
        slug="upscale",
        provider=SELLER,
        name="Image Upscaler API",
        description="Enlarges a picture four times",
        version="1.0.0",
        price_florins=Florins(1_000_000_000),
        tags=("image-processing", "upscaling"),
        endpoint="dux://seller/upscale",
        rate_limit=100,
        kind="wasm",
        package=b"\x5a" * 32,
        entry="dux-wasm/1",
        limits=Limits(fuel=1_000_000, memory_bytes=1 << 26, wall_s=60, output_bytes=1 << 20),
        min_buyer_reputation_bps=0,
        developer="",
        royalty_bps=0,
        result_lock=True,
        created_ms=UnixMs(NOW_MS),
        updated_ms=UnixMs(NOW_MS),
        withdrawn=False,
    )
    found: ServiceRecord = changed(plain, **changes)
    if "service_id" in changes:
        return found
    named: ServiceRecord = changed(found, service_id=service_id_of(found.provider, found.slug))
    return named


def rating(**changes: Any) -> Rating:
    """The buyer's five stars for the seller's service, with changes."""
    plain = Rating(
        network=NETWORK,
        service_id=service_id_of(SELLER, "upscale"),
        cid=b"\x01" * 32,
        rater=BUYER,
        stars=5,
        review="sharp",
        at_ms=UnixMs(NOW_MS),
    )
    found: Rating = changed(plain, **changes)
    return found

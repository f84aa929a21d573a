"""Chains made in the test's own process: mined honestly on the embedded chain, then bent."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from common.chain import difficulty, messages
from common.chain.coin_network import Checkpoint, CoinNetwork, coin_network
from common.chain.messages import RawHeader
from common.chain.wire import encode_header, sha256d
from dux_flopd.spv_chain import HeaderChain, genesis_base
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile

EMBEDDED = coin_network("embedded")
LATER_S = 1 << 40  # a time of day at which no header is too new


def a_node(name: str = "spv", blocks: int = 0, *, auxpow_every: int = 2) -> Node:
    """The embedded chain."""
    node = Node(ChainProfile(name=name, auxpow_every=auxpow_every))
    node.mine(b"\x51", blocks)
    return node


def headers_of(node: Node, first: int = 1) -> list[RawHeader]:
    """The best chain's headers from a height on, as they go over the wire."""
    blocks = [entry.block for entry in node.chain.active[first:]]
    whole = [encode_header(block.header, block.auxpow) for block in blocks]
    return messages.decode_headers(messages.encode_headers(whole))


def chain_for(node: Node, network: CoinNetwork = EMBEDDED) -> HeaderChain:
    """An empty chain of headers on the node's genesis."""
    return HeaderChain(network, genesis_base(node.chain.active[0].block.header.raw))


def with_checkpoints(node: Node, *heights: int) -> CoinNetwork:
    """The embedded network, with these blocks of the node's as checkpoints."""
    marks = [Checkpoint(height=at, hash=node.chain.active[at].hash[::-1].hex()) for at in heights]
    fields = {name: getattr(EMBEDDED, name) for name in EMBEDDED.__struct_fields__}
    return CoinNetwork(**fields | {"checkpoints": tuple(marks)})


def workless(parent: bytes, count: int, bits: int = 0x207FFFFF) -> list[RawHeader]:
    """Headers that link and carry no work at all."""
    found: list[RawHeader] = []
    for at in range(count):
        raw = struct.pack("<i32s32sIII", 0xA30004, sha256d(parent), bytes(32), 1_790_000_000 + 60 * at, bits, 0)
        found.append(RawHeader(raw, b""))
        parent = raw
    return found


def remined(raw: bytes, bits: int, **changed: int) -> RawHeader:
    """The same header with other fields and honest work at `bits`."""
    version, prev, root, time_s, _, _ = struct.unpack("<i32s32sIII", raw)
    fields = {"version": version & ~0x100, "time_s": time_s, "bits": bits} | changed
    for nonce in range(100_000):
        made = struct.pack("<i32s32sIII", fields["version"], prev, root, fields["time_s"], fields["bits"], nonce)
        if difficulty.meets(made, bits, difficulty.target_of(EMBEDDED.pow_limit_bits)):
            return RawHeader(made, b"")
    raise AssertionError("no nonce found")


def add(chain: HeaderChain, headers: Sequence[RawHeader], now_s: int = LATER_S) -> int:
    """Add, at a time when nothing is too new."""
    return chain.add(headers, now_s)

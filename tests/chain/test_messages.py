"""The peer protocol as bytes: what is written is read, and what is too much is refused before it is read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain import messages
from common.chain.messages import Inv, Place, RawHeader, Reject, Version
from common.chain.wire import (
    BLOCK_BYTES_READ_MAX,
    DecodeError,
    Reader,
    compact,
    decode_block,
    encode_header,
    read_auxpow,
)
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile

MAGIC = b"\xfa\xbf\xb5\xda"
SAID = Version(protocol=70016, services=5, time_s=7, nonce=9, user_agent="/a:1/", height=3, relay=True)
DECODERS = [
    messages.decode_version,
    messages.decode_invs,
    messages.decode_getheaders,
    messages.decode_headers,
    messages.decode_reject,
    messages.decode_addresses,
]


def test_messages_survive_the_wire() -> None:
    """Each kind reads back what was written."""
    refused = Reject(message="tx", code=64, reason="dust", about=bytes(32))
    places = [Place("10.1.2.3", 7, 1, 5), Place("2001:db8::1", 8, 1, 6)]
    assert messages.decode_version(messages.encode_version(SAID)) == SAID
    assert messages.decode_reject(messages.encode_reject(refused)) == refused
    assert messages.decode_addresses(messages.encode_addresses(places)) == places
    assert messages.decode_invs(messages.encode_invs(Inv.TX, [bytes(32)])) == [(1, bytes(32))]
    assert messages.decode_getheaders(messages.encode_getheaders(1, [b"\1" * 32])) == ([b"\1" * 32], bytes(32))


def test_headers_with_and_without_proofs_are_told_apart() -> None:
    """A chain in which every second block is merged mined: each header with exactly its proof."""
    node = Node(ChainProfile(name="messages"))
    node.mine(b"\x51", 6)
    blocks = [entry.block for entry in node.chain.active[1:]]
    whole = [encode_header(block.header, block.auxpow) for block in blocks]
    found = messages.decode_headers(messages.encode_headers(whole))
    assert found == [RawHeader(item[:80], item[80:]) for item in whole]
    assert [bool(item.proof) for item in found] == [False, True] * 3
    assert messages.proof_bytes(whole[1], 80) == len(whole[1]) - 80


def test_a_frame_of_another_network_or_size_is_refused_by_its_head() -> None:
    """Before a byte of its payload is read."""
    sent = messages.frame(MAGIC, "ping", b"12345678")
    command, length, check = messages.read_frame_head(sent[:24], MAGIC)
    assert (command, length) == ("ping", 8)
    messages.check_payload(sent[24:], check)
    with pytest.raises(DecodeError, match="check sum"):
        messages.check_payload(b"12345679", check)
    with pytest.raises(DecodeError, match="magic"):
        messages.read_frame_head(sent[:24], b"\0\0\0\0")
    for name, size in [*messages.PAYLOAD_LIMITS.items(), ("whatever", messages.OTHER_BYTES_MAX)]:
        head = messages.FRAME.pack(MAGIC, name.encode(), size + 1, bytes(4))
        with pytest.raises(DecodeError, match="bytes"):
            messages.read_frame_head(head, MAGIC)


def test_counts_beyond_the_limits_are_refused() -> None:
    """Headers, addresses, locators, branches, agents."""
    with pytest.raises(DecodeError):
        messages.decode_headers(compact(2_001))
    with pytest.raises(DecodeError):
        messages.decode_addresses(compact(1_001) + bytes(30 * 1_001))
    with pytest.raises(DecodeError):
        messages.decode_getheaders(bytes(4) + compact(102) + bytes(32 * 103))
    long = messages.encode_version(SAID)[:80] + compact(257) + bytes(300)
    with pytest.raises(DecodeError, match="user agent"):
        messages.decode_version(long)
    assert len(messages.decode_invs(messages.encode_invs(Inv.TX, [bytes(32)] * 1_500))) == messages.INV_MAX
    branch = (0x104).to_bytes(4, "little") + bytes(76) + bytes(4) + b"\0\0" + bytes(4) + bytes(32) + compact(65)
    with pytest.raises(DecodeError, match="branch"):
        messages.decode_headers(compact(1) + branch + bytes(3_000))
    whole = (0x104).to_bytes(4, "little") + bytes(76) + bytes(4) + b"\0\0" + bytes(4) + bytes(32) + bytes(10)
    with pytest.raises(DecodeError, match="cut short"):
        messages.decode_headers(compact(1) + whole + bytes(50))
    many = (0x104).to_bytes(4, "little") + bytes(76) + bytes(4) + compact(10_000) + bytes(100)
    with pytest.raises(DecodeError, match="announced"):
        messages.decode_headers(compact(1) + many)


@given(st.sampled_from(DECODERS), st.binary(max_size=400))
def test_noise_is_read_or_refused(decode: object, noise: bytes) -> None:
    """No bytes bring a reader to anything but an answer or its own refusal."""
    with suppress(DecodeError):
        decode(noise)  # type: ignore[operator]


def test_a_block_or_branch_beyond_its_limit_is_refused() -> None:
    """A block larger than any, and a merkle branch longer than any tree."""
    with pytest.raises(DecodeError, match="at most"):
        decode_block(bytes(BLOCK_BYTES_READ_MAX + 1))
    coinbase = bytes(4) + b"\x01" + bytes(41) + b"\0" + bytes(4)
    with pytest.raises(DecodeError, match="branch of 65"):
        read_auxpow(Reader(coinbase + bytes(32) + compact(65) + bytes(32 * 70)))

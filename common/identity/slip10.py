"""SLIP-0010 for Ed25519: many signing keys from one seed; every step is hardened, so no child tells of its parent.

Source: SLIP-0010; transport_identity.md §2.3.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from common.identity.keys import SigningKey

HARDENED = 1 << 31
PURPOSE_INDEX = 4_478_296  # "DUX" in ASCII, read as a number: disjoint from the coin's BIP44 paths
ROLE_OPERATIONAL = 0
ROLE_RECOVERY = 1


@dataclass(frozen=True, slots=True, repr=False)
class KeyNode:
    """A private key of 32 bytes and the chain code from which its children come."""

    private: bytes
    chain_code: bytes

    def child(self, index: int) -> KeyNode:
        """The hardened child with this index (0 to 2^31 - 1)."""
        if not 0 <= index < HARDENED:
            raise ValueError(f"a child's index is 0 to {HARDENED - 1}, got {index}")
        data = b"\x00" + self.private + (index + HARDENED).to_bytes(4, "big")
        return _node(self.chain_code, data)

    def signing_key(self) -> SigningKey:
        """The Ed25519 key of this node."""
        return SigningKey(self.private)


def _node(key: bytes, data: bytes) -> KeyNode:
    digest = hmac.new(key, data, hashlib.sha512).digest()
    return KeyNode(digest[:32], digest[32:])


def master(seed: bytes) -> KeyNode:
    """The root of the Ed25519 tree of a seed (16 to 64 bytes)."""
    return _node(b"ed25519 seed", seed)


def identity_node(seed: bytes, net: int, account: int, role: int) -> KeyNode:
    """m/4478296'/net'/account'/role' of a phrase's seed; net is 0 on main and 1 elsewhere."""
    return master(seed).child(PURPOSE_INDEX).child(net).child(account).child(role)

"""The content key: what a result is encrypted under, from K and r.

K becomes public on the chain when the seller is paid; r was shown to the seller alone and, in a dispute, to
arbiters. So the key is HKDF over both: nobody reads the result from the chain. Source: settled.md 2.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def content_key(contract_id: str, preimage: bytes, salt: bytes) -> bytes:
    """HKDF(K ‖ r), bound to the contract (32 bytes). `preimage` is empty where the script has no result lock."""
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=bytes.fromhex(contract_id), info=b"duxnet/escrow-result/v1")
    return kdf.derive(preimage + salt)

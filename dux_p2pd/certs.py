"""The two certificates of the transport, as byte templates.

Promise: a leaf is a pure function of its key pair, and `key_of_leaf` gives a key only for bytes that are the template,
whole, with that key in it: no X.509 is ever interpreted. The CA's private key is public: it proves nothing, and exists
because `ssl` cannot ask an unknown client for a self-signed certificate. Knows no files and no connections.

Source: transport_identity.md §1.1, §1.2 (6) and (7).
"""

from __future__ import annotations

import base64
import hashlib

from nacl import bindings

from dux_p2pd.wire_errors import CertificateRefused

KEY_BYTES = 32
SIGNATURE_BYTES = 64
LEAF_BYTES = 321

_CA_SEED = hashlib.sha256(b"duxnet public network CA v1").digest()
_CA_TBS = bytes.fromhex(
    "3081dea003020102020101300506032b6570301b3119301706035504030c106475786e6574207075626c69632043413020170d32303031"
    "30313030303030305a180f39393939313233313233353935395a301b3119301706035504030c106475786e6574207075626c6963204341"
    "302a300506032b6570032100789d30ab59b68365c2ebd1af84239608b78e482acdd77c400f0ed42899db9b29a345304330120603551d13"
    "0101ff040830060101ff020100300e0603551d0f0101ff040403020204301d0603551d0e04160414a52347c96b38df5e9c0859ec6fcbd5"
    "da8c344696"
)
_PRE = bytes.fromhex(
    "3082013d3081f0a003020102020102300506032b6570301b3119301706035504030c106475786e6574207075626c69632043413020170d"
    "3230303130313030303030305a180f39393939313233313233353935395a30163114301206035504030c0b6475786e6574206c65616630"
    "2a300506032b6570032100"
)
_MID = bytes.fromhex(
    "a35c305a300c0603551d130101ff04023000300e0603551d0f0101ff040403020780301f0603551d23041830168014a52347c96b38df5e"
    "9c0859ec6fcbd5da8c34469630190603551d1104123010820e6475786e65742e696e76616c6964300506032b6570034100"
)
_ALGORITHM_AND_BIT_STRING = bytes.fromhex(
    "300506032b6570034100"
)  # what stands between the signed part and the signature
_LEAF_HEAD_BYTES = 4  # 30 82 01 3d: the outer sequence, not signed
_PKCS8_HEAD = bytes.fromhex("302e020100300506032b657004220420")


def _ca_signature(signed_part: bytes) -> bytes:
    _, secret = bindings.crypto_sign_seed_keypair(_CA_SEED)
    signed: bytes = bindings.crypto_sign(signed_part, secret)
    return signed[:SIGNATURE_BYTES]


def ca_certificate() -> bytes:
    """The public CA, DER, 303 bytes: the same on every machine."""
    content = _CA_TBS + _ALGORITHM_AND_BIT_STRING + _ca_signature(_CA_TBS)
    return b"\x30\x82" + len(content).to_bytes(2) + content


def leaf_certificate(key: bytes) -> bytes:
    """The one leaf that exists for a public key, DER, 321 bytes."""
    if len(key) != KEY_BYTES:
        raise CertificateRefused(reason=f"a transport key has {KEY_BYTES} bytes, not {len(key)}")
    signed_part = _PRE[_LEAF_HEAD_BYTES:] + key + _MID[: -len(_ALGORITHM_AND_BIT_STRING)]
    return _PRE + key + _MID + _ca_signature(signed_part)


def key_of_leaf(der: bytes | None) -> bytes:
    """The key in a leaf that is the template to the byte, and a point of the prime-order group.

    The CA's signature was checked by TLS; it needs no second look, as anybody can make one.

    Raises:
        CertificateRefused: absent, not the template, or a key that anybody could sign for.
    """
    if der is None or len(der) != LEAF_BYTES:
        raise CertificateRefused(reason="not the leaf template")
    key = der[len(_PRE) : len(_PRE) + KEY_BYTES]
    middle = der[len(_PRE) + KEY_BYTES : -SIGNATURE_BYTES]
    if der[: len(_PRE)] != _PRE or middle != _MID:
        raise CertificateRefused(reason="not the leaf template")
    if not bindings.crypto_core_ed25519_is_valid_point(key):
        raise CertificateRefused(reason="a key of small or mixed order")
    return key


def public_key(seed: bytes) -> bytes:
    """The public transport key of a 32-byte seed."""
    public, _ = bindings.crypto_sign_seed_keypair(seed)
    return bytes(public)


def pem_of_seed(seed: bytes) -> str:
    """The private key and its leaf as PEM, for the key file of one transport key (mode 0600)."""
    return _pem("PRIVATE KEY", _PKCS8_HEAD + seed) + _pem("CERTIFICATE", leaf_certificate(public_key(seed)))


def ca_pem() -> str:
    """The CA as PEM, for the trust store of a context."""
    return _pem("CERTIFICATE", ca_certificate())


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])

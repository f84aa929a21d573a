"""From the phrase to keys: BIP39 words, BIP32 coin keys, and sub-keys with a purpose.

Pure: randomness is handed in, nothing is stored. Ed25519 branches of the same phrase are in `common/identity/slip10`;
the master tags differ, so the trees never meet. A text form of anything here never shows a secret.

Source: BIP32, BIP39, money.md §3, settled.md 1.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from functools import cache

import coincurve
from mnemonic import Mnemonic

from common.chain.tx import HASH_TYPE_ALL
from common.errors import CallerMistake
from common.randomness import Randomness

PHRASE_ENTROPY_BYTES = 16  # twelve words
HARDENED = 0x80000000
PURPOSE_BIP44 = 44
_ORDER = coincurve.utils.GROUP_ORDER_INT


class BadPhrase(CallerMistake):
    """This is no recovery phrase: {reason}; check the words and their order."""

    code = 2030
    key = "bad-phrase"


class SubKey(StrEnum):
    """What flopd derives secrets for, beside coins."""

    ESCROW_RESULT = "escrow-result"
    ESCROW_BLOB = "escrow-blob"
    CHANNEL = "channel"
    BACKUP = "backup"


@cache
def _words() -> Mnemonic:
    return Mnemonic("english")


def new_phrase(randomness: Randomness) -> str:
    """Twelve new words (128 random bits and a check sum)."""
    return str(_words().to_mnemonic(randomness.bytes(PHRASE_ENTROPY_BYTES)))


def seed_of(phrase: str) -> bytes:
    """The 64-byte seed of a phrase, written with any spacing and case.

    Raises:
        BadPhrase: an unknown word, a wrong number of words, or a check sum that does not fit. The words are not
        repeated.
    """
    words = " ".join(phrase.lower().split())
    if not _words().check(words):
        raise BadPhrase(reason="a word is unknown, missing or misplaced")
    return bytes(_words().to_seed(words))


def sub_key(seed: bytes, purpose: SubKey) -> bytes:
    """The 32-byte secret of one purpose: from it neither the seed nor another purpose's secret can be had."""
    return hmac.new(seed, b"duxnet/" + purpose.value.encode() + b"/v1\x00", hashlib.sha256).digest()


class CoinNode:
    """One private node of the BIP32 tree."""

    __slots__ = ("_key", "_secret", "chain_code")

    def __init__(self, secret: bytes, chain_code: bytes) -> None:
        self._secret = secret
        self._key: coincurve.PrivateKey | None = None  # made once: a channel signs thousands of times
        self.chain_code = chain_code

    def __repr__(self) -> str:
        return f"CoinNode(public={self.public.hex()})"

    @classmethod
    def master(cls, seed: bytes) -> CoinNode:
        """The root of a seed."""
        digest = hmac.new(b"Bitcoin seed", seed, hashlib.sha512).digest()
        return cls(digest[:32], digest[32:])

    @property
    def public(self) -> bytes:
        """The compressed public key, 33 bytes."""
        return coincurve.PublicKey.from_secret(self._secret).format()

    def child(self, index: int) -> CoinNode:
        """The child of this index; from `HARDENED` on a hardened one.

        Raises:
            ValueError: for one index in 2^127, where BIP32 has no child.
        """
        head = b"\0" + self._secret if index >= HARDENED else self.public
        digest = hmac.new(self.chain_code, head + index.to_bytes(4, "big"), hashlib.sha512).digest()
        tweak = int.from_bytes(digest[:32], "big")
        secret = (tweak + int.from_bytes(self._secret, "big")) % _ORDER
        if tweak >= _ORDER or secret == 0:
            raise ValueError(f"BIP32 has no child {index}")
        return CoinNode(secret.to_bytes(32, "big"), digest[32:])

    def path(self, *indexes: int) -> CoinNode:
        """The descendant along these indexes."""
        node = self
        for index in indexes:
            node = node.child(index)
        return node

    def sign(self, digest: bytes) -> bytes:
        """DER signature of a 32-byte digest with SIGHASH_ALL: RFC 6979 and low S, so equal digests give equal bytes."""
        self._key = self._key or coincurve.PrivateKey(self._secret)
        return self._key.sign(digest, hasher=None) + HASH_TYPE_ALL

    def sign_recoverable(self, digest: bytes) -> bytes:
        """r, s and the number of the key among the four that they may stand for: 65 bytes."""
        return bytes(coincurve.PrivateKey(self._secret).sign_recoverable(digest, hasher=None))

    @property
    def watcher(self) -> CoinPublicNode:
        """Its public half."""
        return CoinPublicNode(self.public, self.chain_code)

    def export(self) -> tuple[bytes, bytes]:
        """Secret and chain code, for a sealed file and nowhere else."""
        return self._secret, self.chain_code


class CoinPublicNode:
    """One public node of the BIP32 tree: finds addresses, spends nothing."""

    __slots__ = ("chain_code", "public")

    def __init__(self, public: bytes, chain_code: bytes) -> None:
        """`public`: 33 bytes.

        Raises:
            ValueError: it is no point of the curve.
        """
        coincurve.PublicKey(public)
        self.public = public
        self.chain_code = chain_code

    def child(self, index: int) -> CoinPublicNode:
        """The child of this index; hardened ones cannot be had from a public node.

        Raises:
            ValueError: a hardened index, or the one in 2^127 where BIP32 has no child.
        """
        if not 0 <= index < HARDENED:
            raise ValueError(f"a public key has no child {index}")
        digest = hmac.new(self.chain_code, self.public + index.to_bytes(4, "big"), hashlib.sha512).digest()
        return CoinPublicNode(coincurve.PublicKey(self.public).add(digest[:32]).format(), digest[32:])

    def path(self, *indexes: int) -> CoinPublicNode:
        """The descendant along these indexes."""
        node = self
        for index in indexes:
            node = node.child(index)
        return node


def uncompressed(public: bytes) -> bytes:
    """The 65-byte form of a public key, which tokens want."""
    return coincurve.PublicKey(public).format(compressed=False)


def account_node(seed: bytes, coin_type: int, account: int = 0) -> CoinNode:
    """m/44'/coin'/account' of a seed."""
    return CoinNode.master(seed).path(PURPOSE_BIP44 + HARDENED, coin_type + HARDENED, account + HARDENED)

"""A TLS 1.3 client written from RFC 8446 for one suite, so that it can lie at every point of its second flight.

TLS_AES_128_GCM_SHA256, X25519, Ed25519. Only what the attacks need; it verifies nothing of the server.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl import bindings

from common.randomness import SystemRandomness
from dux_p2pd.certs import leaf_certificate, public_key

HANDSHAKE, APPLICATION = 22, 23
CERTIFICATE, VERIFY, FINISHED, KEY_UPDATE = 11, 15, 20, 24


def block(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width) + data


def expand(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    info = struct.pack(">H", length) + block(b"tls13 " + label.encode(), 1) + block(context, 1)
    return hmac.new(secret, info + b"\x01", "sha256").digest()[:length]


def derive(secret: bytes, label: str, transcript: bytes) -> bytes:
    return expand(secret, label, hashlib.sha256(transcript).digest(), 32)


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.new(salt, secret, "sha256").digest()


class Sealer:
    """One direction's record protection."""

    def __init__(self, secret: bytes) -> None:
        self.secret, self.count = secret, 0
        self.cipher, self.iv = AESGCM(expand(secret, "key", b"", 16)), expand(secret, "iv", b"", 12)

    def _nonce(self) -> bytes:
        nonce = bytes(a ^ b for a, b in zip(self.iv, self.count.to_bytes(12), strict=True))
        self.count += 1
        return nonce

    def seal(self, kind: int, data: bytes) -> bytes:
        head = struct.pack(">BHH", APPLICATION, 0x0303, len(data) + 17)
        return head + self.cipher.encrypt(self._nonce(), data + bytes([kind]), head)

    def open(self, record: bytes) -> tuple[int, bytes]:
        plain = self.cipher.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\x00")
        return plain[-1], plain[:-1]

    def updated(self) -> "Sealer":
        return Sealer(expand(self.secret, "traffic upd", b"", 32))


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + block(body, 3)


class LyingClient:
    """Call `hello`, give the server's bytes to `read_server`, then build the second flight as you like."""

    def __init__(self, alpn: str) -> None:
        self.private = X25519PrivateKey.generate()
        self.alpn = alpn.encode()
        self.transcript = b""

    def hello(self) -> bytes:
        share = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        extensions = b"".join(
            struct.pack(">H", number) + block(body, 2)
            for number, body in [
                (0x002B, block(b"\x03\x04", 1)),
                (0x000A, block(b"\x00\x1d", 2)),
                (0x000D, block(b"\x08\x07", 2)),
                (0x0033, block(b"\x00\x1d" + block(share, 2), 2)),
                (0x0010, block(block(self.alpn, 1), 2)),
            ]
        )
        body = (
            b"\x03\x03"
            + SystemRandomness().bytes(32)
            + b"\x00"
            + block(b"\x13\x01", 2)
            + b"\x01\x00"
            + block(extensions, 2)
        )
        hello = message(1, body)
        self.transcript += hello
        return struct.pack(">BHH", HANDSHAKE, 0x0301, len(hello)) + hello

    def read_server(self, data: bytes) -> None:
        """Take the server's whole first flight and derive the keys."""
        records = []
        while data:
            length = struct.unpack(">H", data[3:5])[0]
            records.append(data[: 5 + length])
            data = data[5 + length :]
        server_hello = records[0][5:]
        self.transcript += server_hello
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(self._server_share(server_hello)))
        early = extract(bytes(32), bytes(32))
        self.handshake_secret = extract(derive(early, "derived", b""), shared)
        self.client_secret = derive(self.handshake_secret, "c hs traffic", self.transcript)
        opener = Sealer(derive(self.handshake_secret, "s hs traffic", self.transcript))
        for record in records[1:]:
            if record[0] == APPLICATION:
                self.transcript += opener.open(record)[1]
        master = extract(derive(self.handshake_secret, "derived", b""), bytes(32))
        self.application_secret = derive(master, "c ap traffic", self.transcript)
        self.sealer = Sealer(self.client_secret)

    @staticmethod
    def _server_share(server_hello: bytes) -> bytes:
        at = server_hello.index(b"\x00\x33\x00\x24\x00\x1d\x00\x20")
        return server_hello[at + 8 : at + 40]

    def certificate(self, der: bytes | None) -> bytes:
        entries = b"" if der is None else block(der, 3) + block(b"", 2)
        return self._say(message(CERTIFICATE, block(b"", 1) + block(entries, 3)))

    def to_sign(self, side: str = "client") -> bytes:
        digest = hashlib.sha256(self.transcript).digest()
        return b" " * 64 + f"TLS 1.3, {side} CertificateVerify".encode() + b"\x00" + digest

    def verify(self, signature: bytes) -> bytes:
        return self._say(message(VERIFY, b"\x08\x07" + block(signature, 2)))

    def finished(self, *, wrong: bool = False) -> bytes:
        key = expand(self.client_secret, "finished", b"", 32)
        mac = hmac.new(key, hashlib.sha256(self.transcript).digest(), "sha256").digest()
        sealed = self._say(message(FINISHED, bytes(32) if wrong else mac))
        self.sealer = Sealer(self.application_secret)
        return sealed

    def application(self, data: bytes) -> bytes:
        return self.sealer.seal(APPLICATION, data)

    def key_update(self) -> bytes:
        sealed = self.sealer.seal(HANDSHAKE, message(KEY_UPDATE, b"\x00"))
        self.sealer = self.sealer.updated()
        return sealed

    def _say(self, handshake: bytes) -> bytes:
        self.transcript += handshake
        return self.sealer.seal(HANDSHAKE, handshake)


def sign(seed: bytes, data: bytes) -> bytes:
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(data, secret)[:64]


def leaf_of(seed: bytes) -> bytes:
    return leaf_certificate(public_key(seed))

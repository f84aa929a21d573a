"""Two bare TLS contexts meet in memory, once with an Ed25519 key and once with a P-256 key: what became of each.

A program of its own, because OpenSSL reads its settings (OPENSSL_CONF) once per process.
"""

from __future__ import annotations

import datetime as dt
import ssl
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def server_of(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """A context that shows a certificate of this key."""
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(BEGIN).not_valid_after(BEGIN + dt.timedelta(days=36_500))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.sign(key, digest).public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def met(server: ssl.SSLContext) -> str:
    """The version that both ends agree on, or that they do not."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return "refused"
    return str(ends[0].version())


for name, key in (("ed25519", ed25519.Ed25519PrivateKey.generate()), ("p256", ec.generate_private_key(ec.SECP256R1()))):
    sys.stdout.write(f"{name}:{met(server_of(key))}\n")

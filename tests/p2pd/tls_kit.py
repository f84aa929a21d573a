"""Hostile ends of TLS: certificates that the public CA would sign for anybody, and OpenSSL contexts that show them."""

import datetime as dt
import hashlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dux_p2pd.certs import ca_pem, pem_of_seed
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.tls_keys import contexts_of_seed
from tests.p2pd.wire_kit import ALPN

CA_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"duxnet public network CA v1").digest())
CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "duxnet public CA")])
START, END = dt.datetime(2020, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - as in certificates

KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}
USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


def usual_extensions():
    return [
        (x509.BasicConstraints(False, None), True),
        (USAGE, True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key()), False),
        (x509.SubjectAlternativeName([x509.DNSName("duxnet.invalid")]), False),
    ]


def hostile_pem(
    key_kind="ed25519",
    *,
    extensions=None,
    start=START,
    end=END,
    issuer_key=CA_KEY,
    self_signed=False,
    name="duxnet leaf",
):
    """A leaf like the template but for what is asked, with its private key."""
    key = KEYS[key_kind]()
    issuer = key if self_signed else issuer_key
    subject = CA_NAME if self_signed else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(CA_NAME)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in usual_extensions() if extensions is None else extensions:
        builder = builder.add_extension(extension, critical)
    digest = None if isinstance(issuer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    leaf = builder.sign(issuer, digest)
    return (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        + leaf.public_bytes(serialization.Encoding.PEM).decode()
    )


def with_basic(*, ca):
    return [(x509.BasicConstraints(ca, None), True), *usual_extensions()[1:]]


def with_san(name):
    return [*usual_extensions()[:3], (x509.SubjectAlternativeName([x509.DNSName(name)]), False)]


def with_eku():
    return [*usual_extensions(), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]


def with_padding(size):
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    return [*usual_extensions(), (x509.UnrecognizedExtension(oid, bytes(size)), False)]


PAST = {"start": dt.datetime(2020, 1, 1), "end": dt.datetime(2021, 1, 1)}  # noqa: DTZ001
FUTURE = {"start": dt.datetime(2999, 1, 1)}  # noqa: DTZ001
HOSTILE_LEAVES = {
    "RSA-2048": lambda: hostile_pem("rsa"),
    "P-256": lambda: hostile_pem("p256"),
    "Ed448": lambda: hostile_pem("ed448"),
    "CA:TRUE": lambda: hostile_pem(extensions=with_basic(ca=True)),
    "another SAN": lambda: hostile_pem(extensions=with_san("evil.example")),
    "another name": lambda: hostile_pem(name="duxnet leaf 2"),
    "no extensions": lambda: hostile_pem(extensions=[]),
    "EKU": lambda: hostile_pem(extensions=with_eku()),
    "900 bytes of padding": lambda: hostile_pem(extensions=with_padding(900)),
    "9 KB of padding": lambda: hostile_pem(extensions=with_padding(9000)),
    "expired": lambda: hostile_pem(**PAST),
    "not yet valid": lambda: hostile_pem(**FUTURE),
    "self-signed": lambda: hostile_pem(self_signed=True),
    "another CA of the same name": lambda: hostile_pem(issuer_key=ed25519.Ed25519PrivateKey.generate()),
}


def hostile_context(tmp_path, *, server, pem=None, alpn=(ALPN,), version=ssl.TLSVersion.TLSv1_3, ask=True, chain=""):
    """A plain OpenSSL context under an attacker's control."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED if server and ask else ssl.CERT_NONE
    context.load_verify_locations(cadata=ca_pem())
    if pem:
        file = tmp_path / "hostile.pem"
        file.write_text(pem + chain)
        context.load_cert_chain(file)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def node_contexts(name: str) -> tuple[TlsContexts, bytes]:
    """Honest contexts of a seed made of a name, and the seed."""
    seed = hashlib.sha256(name.encode()).digest()
    return contexts_of_seed(seed, ALPN), seed


def honest_pem(name: str) -> str:
    return pem_of_seed(hashlib.sha256(name.encode()).digest())


class RawEnd:
    """An OpenSSL end driven by hand."""

    def __init__(self, context, *, server):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server)
        self.done = False
        self.error: ssl.SSLError | None = None

    def step(self, data: bytes) -> bytes:
        self.incoming.write(data)
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error
        return self.outgoing.read()

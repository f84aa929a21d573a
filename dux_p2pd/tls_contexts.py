"""The two TLS contexts of one transport key, exactly as the profile says.

Promise: TLS 1.3 only, a certificate of our CA demanded, one ALPN, no tickets, no name checks, nothing taken from the
system's trust store or from the environment variable SSLKEYLOGFILE. Identity is not decided here: see engine.

Source: transport_identity.md §1.1.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from dux_p2pd.certs import ca_pem


class TlsContexts(msgspec.Struct, frozen=True):
    """Both roles of one transport key."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    key: bytes  # the public transport key, 32 bytes
    alpn: str


def make_contexts(key_file: Path, key: bytes, alpn: str) -> TlsContexts:
    """Contexts that show the leaf of this key file (PEM: private key and leaf)."""
    return TlsContexts(
        server=_context(ssl.PROTOCOL_TLS_SERVER, key_file, alpn),
        client=_context(ssl.PROTOCOL_TLS_CLIENT, key_file, alpn),
        key=key,
        alpn=alpn,
    )


def _context(protocol: ssl._SSLMethod, key_file: Path, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca_pem())
    context.load_cert_chain(key_file)
    context.set_alpn_protocols([alpn])
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context

"""Puts a transport key into TLS contexts without a key file on disk.

Source: transport_identity.md §1.1 (one context per transport key), §1.4.
"""

from __future__ import annotations

import os
from pathlib import Path

from dux_p2pd.certs import pem_of_seed, public_key
from dux_p2pd.tls_contexts import TlsContexts, make_contexts


def contexts_of_seed(seed: bytes, alpn: str) -> TlsContexts:
    """Contexts of the transport key with this seed.

    `ssl` takes private keys from files only: it gets one in anonymous memory, which never touches a disk.
    """
    handle = os.memfd_create("transport-key", os.MFD_CLOEXEC)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(pem_of_seed(seed))
        file.flush()
        return make_contexts(Path(f"/proc/self/fd/{handle}"), public_key(seed), alpn)

"""A signature, or a key, that was judged once in a history is not judged again.

A thousand nodes of one process are shown the same papers; each judges them by itself, and the answer follows from the
bytes alone. So the two calls of libsodium that cost most are remembered by their arguments; what is refused is judged
anew every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from common.identity import keys

JUDGED_MAX = 65_536


@contextmanager
def judged_once() -> Iterator[None]:
    """While it lasts, `common.identity.keys` remembers what it judged."""
    module: Any = keys
    real = module.bindings
    module.bindings = SimpleNamespace(
        crypto_sign=real.crypto_sign,
        crypto_sign_open=lru_cache(JUDGED_MAX)(real.crypto_sign_open),
        crypto_sign_seed_keypair=lru_cache(JUDGED_MAX)(real.crypto_sign_seed_keypair),
        crypto_core_ed25519_is_valid_point=lru_cache(JUDGED_MAX)(real.crypto_core_ed25519_is_valid_point),
    )
    try:
        yield
    finally:
        module.bindings = real

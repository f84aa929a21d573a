"""A signature, a key, or a paper that was judged once in a history is not judged again.

A thousand nodes of one process are shown the same papers; each judges them by itself, and the answer follows from the
bytes alone, and from the time. So the two calls of libsodium that cost most are remembered by their arguments, and the
logs and node records that were read are shared by all nodes; what is refused is judged anew every time, and so is what
was shown at a time at which it might count otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from common.identity import keys
from common.identity.log import FUTURE_MS, Log, decode_log, encode_log
from common.identity.node_record import NodeRecord, open_record
from common.identity.signed import Signed
from dux_p2pd import directory, records

JUDGED_MAX = 65_536
SPLIT_MAX = 16_384  # records read; a node remembers as many as one of a thousand needs


@contextmanager
def judged_once() -> Iterator[None]:
    """While it lasts, `common.identity.keys` and p2pd's `directory` and `records` remember what they judged."""
    module, reader, papers, offered = _module(keys), _module(directory), Papers(), _module(records)
    real = module.bindings
    module.bindings = SimpleNamespace(
        crypto_sign=real.crypto_sign,
        crypto_sign_open=lru_cache(JUDGED_MAX)(real.crypto_sign_open),
        crypto_sign_seed_keypair=lru_cache(JUDGED_MAX)(real.crypto_sign_seed_keypair),
        crypto_core_ed25519_is_valid_point=lru_cache(JUDGED_MAX)(real.crypto_core_ed25519_is_valid_point),
    )
    reader.decode_log, reader.open_record = papers.log, papers.record
    split = offered.split_record
    offered.split_record = lru_cache(SPLIT_MAX)(split.__wrapped__)
    try:
        yield
    finally:
        module.bindings, offered.split_record = real, split
        reader.decode_log, reader.open_record = decode_log, open_record


def _module(module: Any) -> Any:
    return module


class Papers:
    """Logs and node records by their bytes, as far as they were found valid."""

    def __init__(self) -> None:
        self._logs: dict[tuple[bytes, int], Log] = {}
        self._records: dict[tuple[Signed, str, bytes, int], NodeRecord] = {}

    def log(self, data: bytes, *, now_ms: int, inception_bits: int, known: Log | None = None) -> Log:
        """What `decode_log` says of a log that is whole."""
        found = self._logs.get((data, inception_bits))
        if found is not None and found.tip.at_ms <= now_ms + FUTURE_MS:
            return found
        read = decode_log(data, now_ms=now_ms, inception_bits=inception_bits, known=known)
        if len(self._logs) < JUDGED_MAX and encode_log(read) == data:  # an event from the future is held back
            self._logs[data, inception_bits] = read
        return read

    def record(self, signed: Signed, log: Log, *, now_ms: int) -> NodeRecord:
        """What `open_record` says of a record in its time."""
        place = signed, log.did, log.tip.key, log.tip.seq
        found = self._records.get(place)
        if found is not None and not log.ended and found.issued_ms <= now_ms < found.expires_ms:
            return found
        read = open_record(signed, log, now_ms=now_ms)
        if len(self._records) < JUDGED_MAX:
            self._records[place] = read
        return read

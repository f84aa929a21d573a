"""Bloom filters (BIP37): what a wallet asks its peers to look for, and how a peer looks.

A filter hides nothing well: whoever holds it can test any address against it. Its false positives are cover for some
and work for all. Scripts are found by what they push, spends by the outpoint; the filter's arithmetic is
python-bitcoinlib's.
"""

from __future__ import annotations

from collections.abc import Iterable

from bitcoin.bloom import CBloomFilter
from bitcoin.core.script import CScript, CScriptInvalidError
from bitcoin.core.serialize import SerializationError

from common.chain.wire import DecodeError, OutPoint, Tx

FILTER_BYTES_MAX = 36_000
HASH_FUNCTIONS_MAX = 50
UPDATE_ALL = 1
FALSE_POSITIVES = 0.0005  # of all transactions: one in 2,000 is sent needlessly
ELEMENTS_MAX = 18_000  # what 36,000 bytes hold at that rate


def outpoint_bytes(txid: bytes, vout: int) -> bytes:
    """An outpoint as an element of a filter."""
    return txid + vout.to_bytes(4, "little")


def pushed(script: bytes) -> list[bytes]:
    """What a script pushes; nothing for one that cannot be read."""
    try:
        return [item for item in CScript(script) if isinstance(item, bytes) and item]
    except (CScriptInvalidError, ValueError):
        return []


def filter_payload(elements: Iterable[bytes], tweak: int) -> bytes:
    """The payload of `filterload`. The order of the elements does not matter; the tweak decides what else matches."""
    items = sorted(set(elements))
    made = CBloomFilter(max(len(items), 1), FALSE_POSITIVES, tweak, UPDATE_ALL)
    for item in items:
        made.insert(item)
    payload: bytes = made.serialize()
    return payload


class PeerFilter:
    """A filter that a peer loaded, at the side that looks."""

    def __init__(self, payload: bytes) -> None:
        """Take over a `filterload`.

        Raises:
            DecodeError: not a filter, or larger than allowed.
        """
        try:
            self._filter = CBloomFilter.deserialize(payload)
        except (SerializationError, ValueError) as error:
            raise DecodeError(f"not a filter: {error}") from error
        if len(self._filter.vData) > FILTER_BYTES_MAX or self._filter.nHashFuncs > HASH_FUNCTIONS_MAX:
            raise DecodeError("a filter beyond BIP37's limits")

    def matches(self, tx: Tx) -> bool:
        """Whether the wallet wants to see this one; what it pays is looked for from now on, too."""
        found = self._filter.contains(tx.txid)
        for vout, output in enumerate(tx.outputs):
            if any(self._filter.contains(item) for item in pushed(output.script)):
                found = True
                self._filter.insert(outpoint_bytes(tx.txid, vout))
        return found or any(self._matches_input(item.prevout, item.script_sig) for item in tx.inputs)

    def _matches_input(self, prevout: OutPoint, script_sig: bytes) -> bool:
        point = outpoint_bytes(prevout.txid, prevout.vout)
        return bool(self._filter.contains(point)) or any(self._filter.contains(item) for item in pushed(script_sig))

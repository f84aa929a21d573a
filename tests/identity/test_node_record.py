"""Laws of node records, coin links and derived documents."""

from __future__ import annotations

import coincurve
import msgspec
import pytest

from common.identity.document import document
from common.identity.errors import BadKey, BadRecord, BadSignature
from common.identity.events import inception, sign_event
from common.identity.keys import SigningKey
from common.identity.log import read_log
from common.identity.node_record import CoinLink, NodeRecord, coin_link_hash, link_coin, open_coin_link, open_record
from common.identity.purposes import Purpose
from common.identity.signed import Signed, sign
from common.units import UnixMs

NOW_MS = 1_790_000_000_000
KEY = SigningKey(b"k" * 32)
TRANSPORT = SigningKey(b"t" * 32)
LOG = read_log(
    [sign_event(inception(KEY.public, SigningKey(b"n" * 32).public, SigningKey(b"r" * 32).public, NOW_MS), KEY)],
    now_ms=NOW_MS,
    inception_bits=0,
)
RECORD = NodeRecord(
    v=1, did=LOG.did, key_seq=0, seq_ms=UnixMs(NOW_MS), issued_ms=UnixMs(NOW_MS), expires_ms=UnixMs(NOW_MS + 3_600_000),
    transport_keys=(TRANSPORT.public,), endpoints=("127.0.0.1:32570",), relays=(), mailbox_keys=(), coin_link=None,
)  # fmt: skip


def signed(**changes: object) -> Signed:
    """The record with deliberate changes, signed by the node's key."""
    return sign(KEY, Purpose.NODE_RECORD, msgspec.structs.replace(RECORD, **changes))


def test_an_honest_record_opens() -> None:
    """What was signed is what is read."""
    assert open_record(signed(), LOG, now_ms=NOW_MS) == RECORD


@pytest.mark.parametrize(
    "changes",
    [
        {"did": "did:dux:" + "a" * 52}, {"key_seq": 1}, {"expires_ms": NOW_MS}, {"expires_ms": NOW_MS + 49 * 3_600_000},
        {"issued_ms": NOW_MS + 3_000_000}, {"transport_keys": ()}, {"transport_keys": (TRANSPORT.public,) * 3},
        {"endpoints": ("x:1",) * 9}, {"endpoints": ("x" * 65,)}, {"mailbox_keys": (b"m",) * 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_record_outside_its_limits_is_refused(changes: dict[str, object]) -> None:
    """Another name, another key, too old, too long, from the future, too many of anything."""
    with pytest.raises(BadRecord):
        open_record(signed(**changes), LOG, now_ms=NOW_MS)


def test_a_record_signed_by_another_key_is_refused() -> None:
    """Only the current key of the log speaks for the DID; a transport key must be a good point."""
    with pytest.raises(BadSignature):
        open_record(sign(TRANSPORT, Purpose.NODE_RECORD, RECORD), LOG, now_ms=NOW_MS)
    with pytest.raises(BadKey):
        open_record(signed(transport_keys=(bytes(32),)), LOG, now_ms=NOW_MS)


def test_a_coin_link_needs_both_hands() -> None:
    """The DID's key and the coin key must both have signed it."""
    coin, other = coincurve.PrivateKey(b"c" * 32), coincurve.PrivateKey(b"d" * 32)
    link = CoinLink(did=LOG.did, coin_pubkey=coin.public_key.format(), at_ms=UnixMs(NOW_MS))
    good = link_coin(KEY, coin.sign(coin_link_hash(link), hasher=None), link)
    assert open_coin_link(good, LOG, 0) == link
    for bad in (
        link_coin(KEY, other.sign(coin_link_hash(link), hasher=None), link),
        link_coin(TRANSPORT, coin.sign(coin_link_hash(link), hasher=None), link),
        link_coin(KEY, b"no signature", link),
    ):
        with pytest.raises(BadSignature):
            open_coin_link(bad, LOG, 0)


def test_the_document_is_a_function_of_log_and_record() -> None:
    """It names every key, uses the current one, and carries the endpoints and the coin address."""
    view = document(LOG, RECORD, "Fxyz")
    assert view == document(LOG, RECORD, "Fxyz")
    assert view["assertionMethod"] == [f"{LOG.did}#k0"]
    assert view["service"] == [{"id": f"{LOG.did}#e0", "type": "DuxTransport", "serviceEndpoint": "127.0.0.1:32570"}]
    assert view["alsoKnownAs"] == ["flopcoin:Fxyz"]
    assert "service" not in document(LOG, None)

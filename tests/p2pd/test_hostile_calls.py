"""Whatever a peer sends to p2pd's own methods: an answer or an error, and the daemon goes on."""

from __future__ import annotations

import pytest

from common.codec import canonical
from common.contracts import p2p
from common.contracts.p2p_errors import PeerAnswered, PeerBusy
from common.contracts.peer_p2p import (
    BLOB_KEEP,
    BLOB_MANIFEST,
    DHT_FIND,
    DHT_GET_AT,
    DHT_STORE,
    DID_LOG,
    AskLog,
    AskManifest,
    Contact,
    FindNode,
    FindValue,
    HoldBlob,
    Store,
    Values,
)
from common.errors import DuxError, Internal
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.units import BlockHeight, Did
from dux_p2pd.session import Session
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import network

pytestmark = pytest.mark.patient

OWN = (DHT_FIND, DHT_GET_AT, DHT_STORE, DID_LOG, BLOB_MANIFEST, BLOB_KEEP)
ODD: tuple[tuple[object, object], ...] = (
    (DHT_FIND, FindNode(key=b"")),
    (DHT_FIND, FindNode(key=bytes(40))),
    (DHT_GET_AT, FindValue(key=b"short")),
    (DHT_STORE, Store(record=b"", log=b"", salt=0, stamp=0)),
    (DHT_STORE, Store(record=bytes(60_000), log=b"", salt=0, stamp=0)),
    (DID_LOG, AskLog(did=Did("nobody"))),
    (BLOB_MANIFEST, AskManifest(blob=b"")),
    (BLOB_MANIFEST, AskManifest(blob=b"../../../../etc/passwd")),
    (BLOB_KEEP, HoldBlob(blob=bytes(32), size_bytes=-1, until_height=BlockHeight(-1), keep_s=1)),
    (BLOB_KEEP, HoldBlob(blob=b"x", size_bytes=10, until_height=BlockHeight(1), keep_s=10**12)),
)


async def outcome(session: Session, method: str, body: bytes) -> str:
    """`answer`, or the key of the error that the peer answered."""
    try:
        await session.request(method, body, deadline_s=10)
    except PeerAnswered as error:
        return str(error.fields["peer_key"])
    except PeerBusy as error:
        return error.key
    return "answer"


@attack(
    "decoding",
    tries="odd values and 400 random bodies to every method of p2pd",
    meets="an answer or a named error each time, never an internal one",
)
async def test_odd_and_random_bytes_never_reach_a_bug_of_ours() -> None:
    """400 random bodies and every odd value: each gets an answer or an error that is not `internal`."""
    async with network(2) as (hostile, target):
        session, random = await hostile.daemon.net.peers.session_to(target.did), SeededRandomness(11)
        outcomes = [await outcome(session, method.name, canonical(params)) for method, params in ODD]  # type: ignore[attr-defined,arg-type]
        for _ in range(400):
            method = OWN[random.below(len(OWN))]
            outcomes.append(await outcome(session, method.name, random.bytes(random.below(90))))
        assert Internal.key not in outcomes
        assert {"bad-params", "answer"} <= set(outcomes)
        assert (await target.info()).sessions == 1


@attack("call", tries="a body over its method's limit", meets="refused, with the limit")
async def test_a_body_over_the_method_s_limit_is_refused_with_the_limit() -> None:
    """The limit stands in the contract table, per method."""
    async with network(2) as (hostile, target):
        session = await hostile.daemon.net.peers.session_to(target.did)
        assert await outcome(session, DHT_FIND.name, bytes(DHT_FIND.params_bytes_max + 1)) == "too-large"


@attack(
    "overlay",
    tries="answers with false contacts and records, well and ill formed",
    meets="lookups end; nothing of it is believed",
)
@pytest.mark.parametrize("well_formed", [True, False])
async def test_answers_that_lie_do_no_harm(well_formed: bool) -> None:  # noqa: FBT001 - a case
    """A liar's contacts and records, within the form and outside it: lookups end, nothing of it is believed."""
    async with network(2) as (liar, reader):
        random = SeededRandomness(5)
        names = ("nobody", "did:dux:" + "a" * 52, str(liar.did), str(reader.did))
        hosts = ("127.0.0.1", "no.such.host.example", "", "::1", "127.0.0.1\0", "10.0.0.1:80")
        ports = (7, 1, 65_535) if well_formed else (0, 70_000, -5, 7, 8)  # five addresses are too many

        async def lie(_params: FindValue, _peer: object) -> Values:
            contacts = (
                Contact(
                    did=Did(names[n % 4]),
                    endpoints=tuple(f"{hosts[n % 6]}:{port}" for port in ports),
                )
                for n in range(20)
            )
            records = (b"", random.bytes(50), random.bytes(3600 if well_formed else 5000))
            return Values(records=records, contacts=tuple(contacts))

        liar.daemon.net.router.answer(DHT_GET_AT, lie)
        found = await reader.as_caller("cli").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"), deadline_s=30)
        assert found.records == []
        assert {node.did for node in reader.daemon.net.dht.table.contacts()} <= {liar.did}


@pytest.mark.parametrize("text", ["", "nohost", "host:0", "host:99999", "[::1"])
async def test_an_address_that_is_none_says_how_to_write_one(text: str) -> None:
    """p2p.connect explains the form."""
    async with network(1) as (node,):
        with pytest.raises(DuxError, match="host:port"):
            await node.as_caller("cli").call(p2p.P2P_CONNECT, p2p.Connect(address=text))
        assert (await node.as_caller("cli").call(p2p.P2P_PEERS, Empty())).peers == []

"""What a hostile node can say to an honest p2pd, and what it does not get by it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from common.contracts import p2p
from common.contracts.p2p_errors import PeerAnswered, PeerUnreachable
from common.contracts.peer_p2p import BLOB_KEEP, Contact, HoldBlob
from common.errors import TooLarge
from common.units import BlockHeight, Did
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, network, tagged, wait_until

pytestmark = pytest.mark.patient

NOWHERE = ("127.9.9.9", 9)


def lies(node: Node, *contacts: Contact) -> None:
    """From now on this node's answers name these contacts and no others."""
    node.daemon.net.dht._contacts = lambda _key, _asker: contacts  # type: ignore[method-assign]


@attack("overlay", tries="wrong addresses for a victim's DID", meets="its own record still leads to it")
async def test_a_wrong_address_for_a_did_does_not_keep_us_from_it():
    """A liar sends everybody who looks for the victim into the void; the victim's own record still leads to it.

    Planted bug noticed: with the pause kept per DID alone, the last call ends with PeerUnreachable.
    """
    async with network(3) as (liar, honest, victim):
        peers, met = honest.daemon.net.peers, 0
        async with asyncio.timeout(30):
            while met < 3:  # the victim may have come back by itself: then the address is not even tried
                await (await peers.session_to(victim.did)).close("for the test")
                with suppress(PeerUnreachable):
                    await peers.session_to(victim.did, (NOWHERE,))
                    continue
                met += 1
        assert peers.is_resting(victim.did, (NOWHERE,))
        assert not peers.is_resting(victim.did)
        assert (await peers.session_to(victim.did)).peer.did == victim.did
        assert liar.did != victim.did


@attack(
    "overlay", tries="host names and nonsense as contacts", meets="they are no contacts; nothing is looked up for them"
)
async def test_contacts_with_names_or_nonsense_break_no_lookup():
    """Host names, and what looks like an address and is none: such contacts are not contacts.

    Planted bug noticed: with any host taken, the lookup ends with a ValueError.
    """
    async with network(3) as (liar, honest, other):
        did = other.did
        table = honest.daemon.net.dht.table
        table.remove_contact(next(node for node in table.contacts() if node.did == did))
        lies(liar, *(Contact(did=did, endpoints=(f"{host}:80",)) for host in ("evil.example", "a..b", "1.2.3", "[::")))
        put = p2p.DhtPut(ns="tag", name="t/x", payload=tagged("1"), ttl_s=60)
        stored = await honest.as_caller("stored").call(p2p.DHT_PUT, put)
        assert stored.stored_at >= 1
        found = await other.as_caller("stored").call(p2p.DHT_GET, p2p.DhtGet(ns="tag", name="t/x"))
        assert [view.payload for view in found.records] == [tagged("1")]


@attack("call", tries="a megabyte to a method that takes 64 bytes", meets="refused at 64 bytes")
async def test_a_method_of_64_bytes_is_never_sent_a_megabyte():
    """The answer says that it is too large; what came before that is all that was held."""
    async with network(2) as (one, two):
        session = await one.daemon.net.peers.session_to(two.did)
        with pytest.raises(PeerAnswered) as caught:
            await session.request("dht.find", bytes(1_000_000), deadline_s=10)
        assert caught.value.fields["peer_code"] == TooLarge.code
        assert not session.closed.done()


@attack("overlay", tries="a stranger lends itself our disk", meets="refused")
async def test_strangers_cannot_have_blobs_kept():
    """Disk is lent to nodes of some standing only."""
    async with network(2, known_after_s=3600) as (one, two):
        ask = HoldBlob(blob=bytes(32), size_bytes=1, until_height=BlockHeight(1), keep_s=60)
        with pytest.raises(PeerAnswered, match="strangers"):
            await two.daemon.net.peers.call(one.did, BLOB_KEEP, ask, deadline_s=10)


async def test_gossip_rests_while_a_session_is_replaced():
    """A replaced session must not leave the sender spinning: it waits on the one that is kept.

    Planted bug noticed: waiting on the first session for ever asks for the session thousands of times here.
    """
    async with network(2) as (one, two):
        peers = one.daemon.net.peers
        asked = 0
        plain = peers.session_with

        def counted(did: Did) -> object:
            nonlocal asked
            asked += 1
            return plain(did)

        peers.session_with = counted  # type: ignore[method-assign, assignment]
        old = plain(two.did)
        assert old is not None
        transport = (one if old.peer.dialled else two).daemon.net.transport
        there = two if old.peer.dialled else one
        host, port = there.address.split(":")
        await transport._dial((host, int(port)), there.did, None)
        await wait_until(lambda: plain(two.did) is not old, "replaced")
        await wait_until(old.closed.done, "the old one drained")
        asked = 0
        await asyncio.sleep(0.2)
        assert asked < 50

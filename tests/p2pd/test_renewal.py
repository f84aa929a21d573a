"""Keys, records, connections and logs that change while nodes are connected: days of it, in virtual time."""

from __future__ import annotations

import pytest

from common.contracts.p2p_errors import RotationTooSoon
from common.identity.branch import operational_key, plain_branch, recovery_key
from common.identity.errors import IdentityUnsure
from common.identity.events import ending, recovery, rotation, sign_event
from common.identity.keys import Signer
from common.identity.log import Log, encode_log, read_log
from common.identity.news import news_of
from common.identity.purposes import Purpose
from dux_p2pd.key_source import BranchKeys
from tests.attacks.registry import attack
from tests.p2pd.virtual_net import DAY_S, HOUR_S, LoopClock, VirtualNode, seed_of, skip, until, virtual_net
from tests.p2pd.wire_kit import virtually

pytestmark = pytest.mark.patient


def recovered(node: VirtualNode, base: Log, *, at_ms: int | None = None, account: int = 1) -> Log:
    """The log that the owner of the node's phrase makes on top of `base`."""
    branch = plain_branch(seed_of(node.number), net=1, account=account, made_ms=0)
    seq, now_ms = base.tip.seq + 1, at_ms or LoopClock().unix_ms()
    key, after = operational_key(branch, seq), operational_key(branch, seq + 1)
    later = recovery_key(seed_of(node.number), net=1, number=account)
    event = recovery(base.envelopes[-1], base.tip, (key.public, after.public), later.public, now_ms)
    return grown(base, sign_event(event, key, recovery_key(seed_of(node.number), net=1, number=account - 1)))


def ended(node: VirtualNode, base: Log) -> Log:
    key = operational_key(plain_branch(seed_of(node.number), net=1, account=1, made_ms=0), base.tip.seq + 1)
    event = ending(base.envelopes[-1], base.tip, key.public, LoopClock().unix_ms())
    return grown(base, sign_event(event, key, recovery_key(seed_of(node.number), net=1, number=0)))


def grown(base: Log, envelope: object) -> Log:
    return read_log([*base.envelopes, envelope], now_ms=LoopClock().unix_ms(), inception_bits=0)  # type: ignore[list-item]


def thief_s(node: VirtualNode) -> Log:
    """A rotation by whoever copied the node's disk, with another next key."""
    base = node.keeper.log
    key: Signer = operational_key(node.branch, base.tip.seq + 1)
    other = operational_key(plain_branch(b"\xee" * 64, net=1, account=0, made_ms=0), 7)
    event = rotation(base.envelopes[-1], base.tip, key.public, other.public, LoopClock().unix_ms())
    return grown(base, sign_event(event, key))


@virtually
async def test_a_rotation_on_demand_is_known_to_all_and_breaks_no_connection() -> None:
    """Every connected node holds the new log and a record by the new key within a minute; sessions stay."""
    async with virtual_net(3) as nodes:
        one, others = nodes[0], nodes[1:]
        await skip(2 * HOUR_S)
        sessions = [other.overlay.peers.session_with(one.did) for other in others]
        await one.renewal.rotate()
        await until(lambda: all(other.knows(one).log == one.keeper.log for other in others))
        await until(lambda: all(other.knows(one).record is not None for other in others))
        assert one.keeper.key_seq == 1
        assert [other.overlay.peers.session_with(one.did) for other in others] == sessions
        with pytest.raises(RotationTooSoon):
            await one.renewal.rotate()


@virtually
async def test_keys_records_and_connections_renew_themselves() -> None:
    """In 100 days: one rotation after 90, transport keys weekly, records twice a day; never a node out of reach."""
    async with virtual_net(2, peers_max=16) as (one, two):
        keys, records, sessions = set(), set(), set()
        for _ in range(2 * 24):
            await skip(HOUR_S)
            await until(lambda: one.is_connected(two) and two.is_connected(one), within_s=30)
            records.add(two.knows(one).record_bytes)
            sessions.add(id(one.overlay.peers.session_with(two.did)))
        assert len(records) in (4, 5)
        assert len(sessions) >= 2  # none lasts longer than a day
        for day in range(100):
            await skip(DAY_S)
            await until(lambda: one.is_connected(two) and two.is_connected(one), within_s=30)
            keys.add(one.keeper.transport.public)
            assert one.keeper.transport.public in two.sees_keys(one), day
        assert len(keys) in (14, 15)
        assert (one.keeper.key_seq, two.keeper.key_seq) == (1, 1)
        assert two.knows(one).log == one.keeper.log


@virtually
async def test_a_node_that_slept_through_two_rotations_of_a_peer_catches_up() -> None:
    """It wakes with the old log and an expired record, connects, and believes the peer's third key."""
    async with virtual_net(3) as (one, two, three):
        await skip(2 * HOUR_S)
        await three.sleep()
        for _ in range(2):
            await one.renewal.rotate(transport=True)
            await skip(DAY_S)
        await three.wake()
        assert three.knows(one).log.tip.seq == 0
        await until(lambda: three.is_connected(one))
        known = await three.resolver.resolve(one.did, 0)
        assert known.log == one.keeper.log
        assert known.log.tip.seq == 2
        await two.sleep()


@virtually
async def test_an_unannounced_change_of_the_transport_key_is_found_by_asking() -> None:
    """A valid record names the old key, another is there: the newer record is asked for, and then it is dialled."""
    async with virtual_net(3) as (one, two, three):
        await skip(2 * HOUR_S)
        await three.sleep()
        await one.renewal.rotate(transport=True)
        await three.wake()
        before = three.sees_keys(one)
        await until(lambda: three.is_connected(two))
        assert one.keeper.transport.public not in before
        await three.overlay.peers.session_to(one.did)
        assert one.keeper.transport.public in three.sees_keys(one)
        assert two.is_connected(one)


@attack(
    "identity",
    tries="stays connected under a transport key that its record names no more",
    meets="borne for an hour, then GOAWAY and close",
)
@virtually
async def test_a_transport_key_that_was_replaced_is_borne_for_an_hour() -> None:
    """The old connection works on; then both ends let it go and meet again under the new key."""
    async with virtual_net(2) as (one, two):
        await skip(2 * HOUR_S)
        old = two.overlay.peers.session_with(one.did)
        assert old is not None
        await one.renewal.rotate(transport=True)
        await skip(HOUR_S / 2)
        assert not old.closed.done()
        await skip(HOUR_S)
        assert old.closed.done()
        await until(lambda: two.is_connected(one))
        new = two.overlay.peers.session_with(one.did)
        assert new is not None
        assert new.peer.transport_key == one.keeper.transport.public != old.peer.transport_key


@attack(
    "identity",
    tries="a thief of the machine goes on under the name after its owner has recovered it",
    meets="its connections are closed everywhere",
)
@virtually
async def test_a_recovery_closes_the_thief_s_connections_everywhere_and_the_owner_goes_on() -> None:
    """The machine that was left behind signs nothing more; the owner's new machine is the name, with all its peers."""
    async with virtual_net(3) as (left, two, three):
        await skip(2 * HOUR_S)
        await left.renewal.rotate()
        await skip(HOUR_S)
        log = recovered(left, two.knows(left).log)
        new_home = VirtualNode(left.net, left.number)
        new_home.chance = 99
        new_home.host, new_home.bootstrap = "127.1.99.1", (two.address, three.address)
        branch = plain_branch(seed_of(left.number), net=1, account=1, made_ms=0)
        new_home.branch = type(branch)(**{f: getattr(branch, f) for f in branch.__struct_fields__} | {
            "log": encode_log(log).hex()})  # fmt: skip
        await new_home.wake()
        await until(lambda: two.knows(left).log == log and three.knows(left).log == log)
        await until(lambda: left.keeper.standing == "recovered elsewhere")
        with pytest.raises(IdentityUnsure):
            left.keeper.sign(Purpose.RECORD, b"body")
        await until(lambda: new_home.is_connected(two) and new_home.is_connected(three))
        session = two.overlay.peers.session_with(new_home.did)
        assert session is not None
        assert session.peer.transport_key == new_home.keeper.transport.public
        await skip(HOUR_S)
        assert not left.overlay.peers.sessions()
        await new_home.sleep()


@attack("identity", tries="a name that was ended comes back", meets="closed and refused for good")
@virtually
async def test_an_end_closes_every_connection_for_good() -> None:
    """Told by the node itself; whoever heard it refuses the name from then on."""
    async with virtual_net(3) as (one, two, three):
        await skip(2 * HOUR_S)
        await one.renewal.take_log(encode_log(ended(one, one.keeper.log)), BranchKeys(one.branch))
        await until(lambda: two.knows(one).log.ended and three.knows(one).log.ended)
        await until(lambda: not two.is_connected(one) and not three.is_connected(one))
        await skip(HOUR_S)
        assert not one.overlay.peers.sessions()
        assert one.keeper.standing == "closed"


@attack(
    "identity",
    tries="two rotations of one key (equivocation)",
    meets="the proof is told to all; no new business until the owner recovers",
)
@virtually
async def test_two_rotations_of_one_key_are_told_to_all_with_their_proof_until_the_owner_recovers() -> None:
    """Owner and thief rotate apart: every node holds the proof, the owner's own too; a recovery clears it."""
    async with virtual_net(4) as (one, two, three, four):
        await skip(2 * HOUR_S)
        twin = thief_s(one)
        await one.renewal.rotate()
        await skip(HOUR_S)
        two.directory.learn(one.did, encode_log(twin))
        others = (two, three, four)
        await until(lambda: all(other.knows(one).log.disputed for other in others), within_s=1)  # as identity.md says
        assert all(other.directory.proof_of(one.did) is not None for other in others)
        await until(lambda: one.keeper.standing == "disputed")
        await skip(60)
        await three.sleep()
        await three.wake()
        await until(lambda: three.is_connected(two))
        assert three.knows(one).log.disputed
        assert three.directory.proof_of(one.did) is not None
        log = recovered(one, one.keeper.log)
        two.directory.learn(one.did, encode_log(log))
        await until(lambda: all(other.knows(one).log == log for other in others))
        assert all(other.knows(one).log.sound for other in others)
        assert all(other.directory.proof_of(one.did) is None for other in others)


@attack("identity", tries="two recoveries of one name", meets="frozen for everybody: no business, no connection")
@virtually
async def test_two_recoveries_freeze_the_name_for_everybody() -> None:
    """Whoever saw which first: no new business anywhere, and no connection."""
    async with virtual_net(3) as (one, two, three):
        await skip(2 * HOUR_S)
        base = one.keeper.log
        now_ms = LoopClock().unix_ms()
        first, second = recovered(one, base, at_ms=now_ms), recovered(one, base, at_ms=now_ms + 1)
        two.directory.learn(one.did, encode_log(first))
        three.directory.learn(one.did, encode_log(second))
        await until(lambda: two.knows(one).log.frozen and three.knows(one).log.frozen)
        await skip(HOUR_S)
        assert not two.is_connected(one)
        assert not three.is_connected(one)


@attack(
    "identity",
    tries="news of names without end, and events that do not continue a log",
    meets="no memory, no change",
)
@virtually
async def test_news_of_a_name_unknown_here_is_not_kept_and_bad_news_changes_nothing() -> None:
    """A flood of names costs no memory; events that do not continue the log are asked for and then refused."""
    async with virtual_net(2) as (one, two):
        stranger = VirtualNode(one.net, 77)
        stranger.host = "127.1.77.1"
        await stranger.wake()
        await skip(2 * HOUR_S)
        await stranger.renewal.rotate()
        news = news_of(stranger.keeper.log, 1)
        assert news is not None
        session = two.overlay.peers.session_with(one.did)
        assert session is not None
        assert not (await two.renewal.on_tell(news, session.peer)).new
        assert two.directory.get(stranger.did) is None
        await stranger.sleep()


@virtually
async def test_a_node_that_is_alone_puts_its_rotation_off() -> None:
    """Nobody would hear it; it is done within the hour after somebody is there."""
    async with virtual_net(2, rotate_keys_every_s=DAY_S) as (one, two):
        await two.sleep()
        await skip(3 * DAY_S)
        assert one.keeper.key_seq == 0
        await two.wake()
        await until(lambda: two.is_connected(one))
        await skip(2 * HOUR_S)
        assert one.keeper.key_seq == 1


@virtually
async def test_a_restored_backup_adopts_what_was_rotated_since() -> None:
    """It never rotates twice from one event: the network is asked first, and the newer log is taken over."""
    async with virtual_net(2) as (one, two):
        await skip(2 * HOUR_S)
        backup = VirtualNode(one.net, one.number)
        await one.renewal.rotate()
        await skip(2 * HOUR_S)
        await one.sleep()
        backup.bootstrap = (two.address,)
        await backup.wake()
        assert backup.keeper.key_seq == 0
        await until(lambda: len(backup.overlay.peers.sessions()) > 0 or backup.keeper.key_seq == 1)
        await backup.renewal.rotate()
        await until(lambda: two.knows(backup).log == backup.keeper.log)
        assert backup.keeper.key_seq == 2
        assert two.knows(backup).log.sound
        await backup.sleep()


@virtually
async def test_a_record_by_a_key_that_is_newer_than_the_known_log_is_no_forgery() -> None:
    """A node that slept through a rotation asks the giver for the log; it believes the record and blames nobody."""
    async with virtual_net(3) as (one, two, three):
        await skip(2 * HOUR_S)
        old = three.knows(one)
        await three.sleep()
        await one.renewal.rotate()
        await skip(HOUR_S)
        await one.sleep()
        await three.wake()
        await until(lambda: three.is_connected(two))
        await skip(60)
        three.directory._remember(old)  # whatever was handed over on meeting is forgotten
        assert three.knows(one).log.tip.seq == 0
        found = await three.overlay.dht.get("node", one.did)
        assert [body.key_seq for body in found] == [1]
        assert three.overlay.scores.of(two.did) == 0.0

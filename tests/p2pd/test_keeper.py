"""The node's own identity and what it believes of others'."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import coincurve
import msgspec
import pytest

from common.clock import ManualClock
from common.codec import canonical
from common.contracts.p2p import LinkCoin
from common.errors import BadParams, BadSettings, DuxError
from common.identity.branch import BRANCH_FILE, OperationalBranch, encode_branch, make_branch
from common.identity.errors import BadRecord, BadSignature, IdentityUnsure
from common.identity.events import Event, event_id, key_hash, sign_event
from common.identity.keys import SigningKey
from common.identity.log import encode_log, read_log
from common.identity.node_record import CoinLink, NodeRecord, coin_link_hash, open_coin_link, open_record
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed, sign
from common.identity.slip10 import ROLE_RECOVERY, identity_node
from common.randomness import SeededRandomness
from common.store import Store
from common.units import Did, UnixMs
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import RECORD_LIFE_MS, Keeper
from dux_p2pd.key_source import BranchKeys, load_branch
from dux_p2pd.store import MIGRATIONS, NodeTable, OwnTable
from dux_p2pd.transport_keys import TransportKeys
from tests.attacks.registry import attack

MADE_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
WEEK_S = 604_800


class World:
    """One node's keeper and directory on a store that survives restarts."""

    def __init__(self, number: int, clock: ManualClock) -> None:
        self.seed = bytes([number]) * 64
        self.folder = Path(tempfile.mkdtemp(prefix="duxtest-"))
        self.clock = clock
        self.store = Store.open(None, MIGRATIONS, clock)
        self.branch = make_branch(self.seed, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
        self.restart()

    def restart(self, branch: OperationalBranch | None = None) -> None:
        keys = BranchKeys(branch or self.branch)
        random, now_ms = SeededRandomness(self.seed[0]), self.clock.unix_ms()
        transport = TransportKeys(self.folder, random, now_ms=now_ms, period_s=WEEK_S)
        self.keeper = Keeper(keys, transport, OwnTable(self.store), clock=self.clock, inception_bits=0)
        self.keeper.announce(("127.1.1.1:1000",))
        self.directory = Directory(
            NodeTable(self.store),
            self.keeper,
            clock=self.clock,
            inception_bits=0,
            known_after_s=3600,
            keep_max=3,
            trusted=frozenset(),
        )

    @property
    def log(self) -> bytes:
        return encode_log(self.keeper.log)

    def recovery(self) -> bytes:
        """The log after the owner has used the recovery key."""
        icp = self.keeper.log.envelopes[0]
        new = SigningKey(b"n" * 32)
        old = msgspec.msgpack.decode(icp.body, type=Event)
        event = Event(
            v=1, kind="rec", seq=1, prev=event_id(icp), key=new.public, next=key_hash(b"1" * 32),
            recover=key_hash(b"2" * 32), at_ms=UnixMs(old.at_ms + 1), nonce=0, flags=0,
        )  # fmt: skip
        recovery_key = identity_node(self.seed, 1, 0, ROLE_RECOVERY).child(0).signing_key()
        signed = sign_event(event, new, recovery_key)
        return encode_log(read_log([icp, signed], now_ms=self.clock.unix_ms(), inception_bits=0))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MADE_MS + 1000)


def test_a_node_is_the_same_after_a_restart_and_never_another(clock: ManualClock) -> None:
    """The inception is kept; with another node's branch file over the same data it refuses to start."""
    one = World(1, clock)
    did = one.keeper.did
    clock.advance(1000)
    one.restart()
    assert one.keeper.did == did
    with pytest.raises(BadSettings):
        one.restart(World(2, clock).branch)


def test_the_record_shown_is_always_valid_and_made_anew_in_time(clock: ManualClock) -> None:
    """Every half life a new one with a higher number, also across a restart at the same millisecond."""
    one = World(1, clock)
    seen = []
    for hours in (0, 11, 1, 30):
        clock.advance(hours * 3600)
        seen.append(opened(one))
    assert seen[0] == seen[1]
    assert [record.seq_ms for record in seen[1:]] == sorted({record.seq_ms for record in seen[1:]})
    assert all(record.expires_ms - record.issued_ms == RECORD_LIFE_MS for record in seen)
    one.restart()
    assert opened(one).seq_ms > seen[-1].seq_ms


def test_a_clock_that_is_set_back_ends_nothing_and_is_told(clock: ManualClock) -> None:
    """Own papers and those learnt before stay readable; the owner is told, and all is well when the clock is right."""
    one, other = World(1, clock), World(2, clock)
    one.directory.learn(other.keeper.did, other.log, other.keeper.record())
    opened(one)
    assert one.keeper.clock_problem() == ""
    clock.advance(-2 * 3600)
    one.restart()
    known = one.directory.get(one.keeper.did)
    assert known is not None
    assert known.record is not None
    assert one.directory.get(other.keeper.did) is not None
    assert "7200 s behind" in one.keeper.clock_problem()
    clock.advance(2 * 3600)
    assert one.keeper.clock_problem() == ""


def test_of_too_many_nodes_those_learnt_longest_ago_are_forgotten(clock: ManualClock) -> None:
    """Three are kept here, counted anew at a start; learning one again makes it no second one."""
    one, others = World(1, clock), [World(number, clock) for number in range(2, 7)]
    for other in [*others, others[-1]]:
        clock.advance(1)
        one.directory.learn(other.keeper.did, other.log, other.keeper.record())
    one.restart()
    assert [one.directory.get(other.keeper.did) is not None for other in others] == [False, False, True, True, True]
    clock.advance(1)
    one.directory.learn(others[0].keeper.did, others[0].log, others[0].keeper.record())
    one.restart()
    assert [one.directory.get(other.keeper.did) is not None for other in others] == [True, False, False, True, True]


def opened(world: World) -> NodeRecord:
    signed = decode_signed(world.keeper.record(), max_bytes=1024)
    return open_record(signed, world.keeper.log, now_ms=world.clock.unix_ms())


def test_a_coin_link_stands_in_the_record_once_the_coin_key_has_signed(clock: ManualClock) -> None:
    """A link that the coin key did not sign is refused; a good one is in the next record and verifies."""
    one, coin = World(1, clock), coincurve.PrivateKey(b"c" * 32)
    link = CoinLink(did=one.keeper.did, coin_pubkey=coin.public_key.format(), at_ms=clock.unix_ms())
    good = coin.sign(coin_link_hash(link), hasher=None)
    with pytest.raises(BadSignature):
        one.keeper.link(LinkCoin(coin_pubkey=link.coin_pubkey, at_ms=link.at_ms, coin_signature=good[:-1] + b"\0"))
    one.keeper.link(LinkCoin(coin_pubkey=link.coin_pubkey, at_ms=link.at_ms, coin_signature=good))
    signed = opened(one).coin_link
    assert signed is not None
    assert open_coin_link(signed, one.keeper.log, 0) == link


def test_key_files_are_private_and_faults_in_them_are_told(tmp_path: Path) -> None:
    """The transport key is made once, mode 0600; a missing or damaged branch file says what to do."""
    with pytest.raises(BadSettings, match="duxnet init"):
        load_branch(tmp_path)
    (tmp_path / BRANCH_FILE).write_bytes(b"{}")
    with pytest.raises(BadSettings):
        load_branch(tmp_path)
    branch = make_branch(b"s" * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
    (tmp_path / BRANCH_FILE).write_bytes(encode_branch(branch))
    assert load_branch(tmp_path) == branch
    first = TransportKeys(tmp_path, SeededRandomness(1), now_ms=MADE_MS, period_s=WEEK_S)
    assert TransportKeys(tmp_path, SeededRandomness(2), now_ms=MADE_MS, period_s=WEEK_S).seed == first.seed
    assert (tmp_path / "transport.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "transport.json").write_bytes(b"{}")
    with pytest.raises(BadSettings, match="remove it"):
        TransportKeys(tmp_path, SeededRandomness(2), now_ms=MADE_MS, period_s=WEEK_S)


# the directory


def test_papers_prove_a_did_or_nothing(clock: ManualClock) -> None:
    """Own log and record prove the DID; another's log, another's record, an expired or missing record do not."""
    one, two, three = World(1, clock), World(2, clock), World(3, clock)
    vouched = one.directory.judge(two.keeper.did, two.log, two.keeper.record())
    assert (vouched.did, vouched.transport_keys) == (two.keeper.did, (two.keeper.transport.public,))
    assert one.directory.did_of_key(two.keeper.transport.public) == two.keeper.did
    old = three.keeper.record()
    for did, log, record in (
        (two.keeper.did, three.log, three.keeper.record()),
        (three.keeper.did, three.log, two.keeper.record()),
        (three.keeper.did, three.log, b""),
        (three.keeper.did, b"\x91\x90", old),
        (three.keeper.did, three.log, old[:-1]),
    ):
        with pytest.raises(DuxError):
            one.directory.judge(did, log, record)
    clock.advance(RECORD_LIFE_MS / 1000)
    for _ in range(2):
        with pytest.raises(BadRecord):
            one.directory.judge(three.keeper.did, three.log, old)
    with pytest.raises(BadRecord):
        one.directory.judge(two.keeper.did, two.log, b"")


@attack("identity", tries="a record in the victim's name, signed by the thief", meets="what is held does not change")
def test_a_record_by_a_key_of_another_is_refused(clock: ManualClock) -> None:
    """A record in the victim's name, signed by the thief, changes nothing of what is held."""
    one, victim = World(1, clock), World(2, clock)
    held = one.directory.learn(victim.keeper.did, victim.log, victim.keeper.record())
    forged = replace_record(opened(victim), transport_keys=(SigningKey(b"x" * 32).public,))
    with pytest.raises(BadSignature):
        one.directory.learn(victim.keeper.did, victim.log, forged)
    assert one.directory.get(victim.keeper.did) == held


def replace_record(record: NodeRecord, **changes: object) -> bytes:
    """The record with changes, a higher number, and a thief's signature."""
    changed = msgspec.structs.replace(record, seq_ms=record.seq_ms + 1, **changes)
    return canonical(sign(SigningKey(b"thief".ljust(32)), Purpose.NODE_RECORD, changed))


@attack(
    "identity",
    tries="replays yesterday's record with yesterday's transport key",
    meets="what is held does not change",
)
def test_an_older_record_never_replaces_a_newer_one(clock: ManualClock) -> None:
    """Replaying yesterday's record, with yesterday's transport key, changes nothing."""
    one, two = World(1, clock), World(2, clock)
    old = two.keeper.record()
    clock.advance(13 * 3600)
    new = two.keeper.record()
    one.directory.learn(two.keeper.did, two.log, new)
    assert one.directory.learn(two.keeper.did, two.log, old).record_bytes == new


def test_a_recovered_did_is_followed_and_its_old_key_is_no_longer_heard(clock: ManualClock) -> None:
    """After the recovery the thief's record is refused, the shorter log changes nothing; a conflict freezes."""
    one, two = World(1, clock), World(2, clock)
    one.directory.judge(two.keeper.did, two.log, two.keeper.record())
    recovered = one.directory.learn(two.keeper.did, two.recovery())
    assert recovered.log.tip.kind == "rec"
    with pytest.raises(DuxError):
        one.directory.judge(two.keeper.did, two.log, two.keeper.record())
    one.restart()
    held = one.directory.get(two.keeper.did)
    assert held is not None
    assert held.log == recovered.log
    assert held.record is None
    frozen = msgspec.structs.replace(held, log=replace(held.log, frozen=True))
    one.directory._remember(frozen)
    with pytest.raises(IdentityUnsure):
        one.directory.judge(two.keeper.did, two.recovery(), b"")


def test_strangers_become_known_with_time_or_by_our_choice(clock: ManualClock) -> None:
    """First seen an hour ago, or trusted by us; a DID never heard of is a stranger."""
    one, two = World(1, clock), World(2, clock)
    one.directory.learn(two.keeper.did, two.log)
    assert not one.directory.is_known(two.keeper.did)
    assert not one.directory.is_known(Did("did:dux:" + "a" * 52))
    clock.advance(3600)
    assert one.directory.is_known(two.keeper.did)
    three = World(3, clock)
    one.directory.trust(three.keeper.did)
    assert one.directory.is_known(three.keeper.did)


def test_the_directory_keeps_no_more_than_it_may(clock: ManualClock) -> None:
    """The DIDs learned longest ago make room on the disk."""
    one = World(1, clock)
    others = [World(number, clock) for number in range(2, 7)]
    for other in others:
        clock.advance(1)
        one.directory.learn(other.keeper.did, other.log)
    one.restart()
    kept = [one.directory.get(other.keeper.did) is not None for other in others]
    assert kept == [False, False, True, True, True]


def test_a_log_that_is_no_log_is_refused(clock: ManualClock) -> None:
    """Bytes of nothing."""
    with pytest.raises(BadParams):
        World(1, clock).directory.learn(Did("did:dux:" + "a" * 52), b"")

"""The keeper's log and the device's transport keys as time passes: pure clock, no network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import coincurve
import msgspec
import pytest

from common.clock import ManualClock
from common.contracts.p2p import LinkCoin, Verify
from common.contracts.p2p_errors import LogFull, RotationTooSoon
from common.errors import BadSettings
from common.identity.branch import BRANCH_FILE, encode_branch, make_branch
from common.identity.errors import IdentityUnsure
from common.identity.log import Log, decode_log, encode_log
from common.identity.node_record import CoinLink, NodeRecord, coin_link_hash, open_coin_link, open_record
from common.identity.purposes import Purpose
from common.identity.recovery import ended, recovered
from common.identity.signed import decode_signed
from common.peers import SEEN_NOW
from common.randomness import SeededRandomness
from common.store import Store
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import BranchKeys, load_keys
from dux_p2pd.methods import IdentityMethods
from dux_p2pd.rules import papers_fault
from dux_p2pd.store import MIGRATIONS, OwnTable
from dux_p2pd.transport_keys import OVERLAP_MS, RECORD_LIFE_MS, TransportKeys, TransportState, advanced
from dux_p2pd.wire_limits import LOG_TAIL_BYTES

MADE_MS, HOUR_S, DAY_S = 1_790_000_000_000, 3600, 86_400
SEED = b"one".ljust(64, b".")
BRANCH = make_branch(SEED, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
WEEK_MS = 7 * DAY_S * 1000


class One:
    """A keeper over a store that survives its restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(MADE_MS)
        self.own = OwnTable(Store.open(None, MIGRATIONS, self.clock))
        (folder / BRANCH_FILE).write_bytes(encode_branch(BRANCH))
        self.start()

    def start(self) -> None:
        random = SeededRandomness(1)
        transport = TransportKeys(self.folder, random, now_ms=self.clock.unix_ms(), period_s=7 * DAY_S)
        self.keeper = Keeper(load_keys(self.folder), transport, self.own, clock=self.clock, inception_bits=0)

    def fill(self) -> int:
        """Rotate until the log is full; how many events it has."""
        while True:
            try:
                self.keeper.rotate()
            except LogFull:
                return len(self.log.events)
            self.clock.advance(HOUR_S)

    @property
    def log(self) -> Log:
        return self.keeper.log

    def record(self) -> NodeRecord:
        signed = decode_signed(self.keeper.record(), max_bytes=1024)
        return open_record(signed, self.log, now_ms=self.clock.unix_ms())


@pytest.fixture
def one(tmp_path: Path) -> One:
    return One(tmp_path)


def test_a_rotation_is_on_disk_before_it_is_used_and_renews_what_the_key_signed(one: One) -> None:
    """Log, record and coin link are by the new key; a restart goes on with it; a second one waits for an hour."""
    coin = coincurve.PrivateKey(b"c" * 32)
    link = CoinLink(did=one.keeper.did, coin_pubkey=coin.public_key.format(), at_ms=one.clock.unix_ms())
    signature = coin.sign(coin_link_hash(link), hasher=None)
    one.keeper.link(LinkCoin(coin_pubkey=link.coin_pubkey, at_ms=link.at_ms, coin_signature=signature))
    with pytest.raises(RotationTooSoon):
        one.keeper.rotate()
    one.clock.advance(HOUR_S)
    before = one.record()
    one.keeper.rotate()
    after = one.record()
    assert (before.key_seq, after.key_seq) == (0, 1)
    assert after.coin_link is not None
    assert open_coin_link(after.coin_link, one.log, 1) == link
    one.start()
    assert one.keeper.key_seq == 1
    assert one.keeper.key_since_ms == one.clock.unix_ms()
    with pytest.raises(RotationTooSoon):
        one.keeper.rotate()


def test_a_log_never_outgrows_an_introduction(one: One) -> None:
    """Then the owner is told what cuts it; everything before still works."""
    for _ in range(48):
        one.clock.advance(HOUR_S)
        one.keeper.rotate()
    assert len(encode_log(one.log)) < LOG_TAIL_BYTES
    one.clock.advance(HOUR_S)
    full = one.fill()
    with pytest.raises(LogFull):
        one.keeper.rotate()
    assert 50 < full < 70
    closed = ended(SEED, net=1, log=one.log, now_ms=one.clock.unix_ms())
    assert len(encode_log(closed)) <= LOG_TAIL_BYTES  # the owner's last word always has room
    assert one.record().key_seq == one.keeper.key_seq


def test_a_recovery_elsewhere_ends_this_node_s_signing_also_after_a_restart(one: One) -> None:
    """Its log goes on without its keys: it signs nothing, and says what brings it back."""
    one.clock.advance(HOUR_S)
    branch = recovered(SEED, net=1, log=one.log, now_ms=one.clock.unix_ms())
    log = decode_log(bytes.fromhex(branch.log), now_ms=one.clock.unix_ms(), inception_bits=0)
    assert one.keeper.hear(log)
    assert not one.keeper.hear(log)
    assert (one.keeper.standing, one.keeper.may_sign) == ("recovered elsewhere", False)
    for act in (one.keeper.record, one.keeper.rotate, lambda: one.keeper.sign(Purpose.RECORD, b"x")):
        with pytest.raises(IdentityUnsure):
            act()
    with pytest.raises(BadSettings, match="identity recover"):
        one.start()
    (one.folder / BRANCH_FILE).write_bytes(encode_branch(branch))
    one.start()
    assert (one.keeper.standing, one.keeper.key_seq) == ("sound", 1)
    one.clock.advance(HOUR_S)
    one.keeper.rotate()
    with pytest.raises(BadSettings, match="does not hold the key"):
        one.keeper.adopt(BranchKeys(make_branch(b"z" * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0)))


def test_a_closed_name_never_starts_again(one: One) -> None:
    """After an end: closed, at once and for good."""
    assert one.keeper.hear(ended(SEED, net=1, log=one.log, now_ms=MADE_MS))
    assert one.keeper.standing == "closed"
    with pytest.raises(BadSettings, match="closed for good"):
        one.start()


def test_a_transport_key_is_named_before_and_after_its_use() -> None:
    """Over five weeks, looked at every hour: each key named a record's life before, an hour after, two at most."""
    state = TransportState(seed=b"0".ljust(32).hex(), since_ms=0)
    in_use: list[tuple[int, str]] = [(0, state.seed)]
    announced: dict[str, int] = {}
    for hour in range(5 * 7 * 24):
        now_ms = hour * HOUR_S * 1000
        state = advanced(state, now_ms, f"{hour}".encode().ljust(32), WEEK_MS)
        if state.next_seed:
            announced.setdefault(state.next_seed, now_ms)
            assert not state.before
        if state.seed != in_use[-1][1]:
            in_use.append((now_ms, state.seed))
            assert now_ms - announced[state.seed] >= RECORD_LIFE_MS
            assert state.before
        if state.before:
            assert now_ms - state.since_ms < OVERLAP_MS
    assert [since for since, _ in in_use] == [week * WEEK_MS for week in range(5)]


def test_a_node_that_slept_for_a_month_names_its_next_key_a_day_ahead_all_the_same() -> None:
    """Late is late: no record that is still valid names a key that is gone."""
    state = advanced(TransportState(seed=b"0".ljust(32).hex(), since_ms=0), 5 * WEEK_MS, b"1".ljust(32), WEEK_MS)
    assert state.next_from_ms == 5 * WEEK_MS + RECORD_LIFE_MS
    assert advanced(state, state.next_from_ms - 1, b"2".ljust(32), WEEK_MS).seed == state.seed


def test_transport_keys_live_without_a_disk_too() -> None:
    """The simulator's: begun with a seed, renewed in memory."""
    keys = TransportKeys(None, SeededRandomness(1), now_ms=0, period_s=1, seed=b"s" * 32)
    assert keys.seed == b"s" * 32
    assert keys.turn(RECORD_LIFE_MS)
    assert keys.turn(2 * RECORD_LIFE_MS)
    assert keys.seed != b"s" * 32
    assert len(keys.named) == 2


def test_an_old_signature_is_judged_by_the_log_of_its_time(one: One) -> None:
    """A rotated key counts in its time; a superseded one only for what was seen before, with the log of then."""
    verdict = IdentityMethods(one.keeper, None, None, one.folder, None, clock=one.clock)._verdict  # type: ignore[arg-type]
    one.clock.advance(HOUR_S)
    one.keeper.rotate()
    kept, signed_ms = encode_log(one.log), one.clock.unix_ms()
    signature = one.keeper.sign(Purpose.JOB, b"body")
    asked = Verify(did=one.keeper.did, key_seq=1, purpose="job", body=b"body", signature=signature, at_ms=signed_ms)
    assert verdict(asked, Purpose.JOB, one.log).valid
    one.clock.advance(HOUR_S)
    branch = recovered(SEED, net=1, log=one.log, now_ms=one.clock.unix_ms(), since=0)
    now = decode_log(bytes.fromhex(branch.log), now_ms=one.clock.unix_ms(), inception_bits=0)

    def judged(**more: object) -> tuple[bool, str]:
        plain = {name: getattr(asked, name) for name in asked.__struct_fields__}
        found = verdict(Verify(**(plain | more)), Purpose.JOB, now)  # type: ignore[arg-type]
        return found.valid, found.reason

    assert not judged()[0]  # event 1 is the recovery now
    assert judged(kept=kept, seen_ms=signed_ms) == (True, "")
    assert judged(kept=kept, seen_ms=one.clock.unix_ms() + 1)[0]  # what was seen is never later than now
    one.clock.advance(HOUR_S)
    assert not judged(kept=kept, seen_ms=one.clock.unix_ms())[0]
    assert judged(kept=kept, ever=True) == (True, "")  # a contract's file: the key came before the recovery
    assert not judged(ever=True)[0]
    assert judged(key_seq=9) == (False, "the event log has no key 9")


def test_a_verdict_tells_of_keys_that_are_stopped_and_seen_now_asks_for_one_in_use(one: One) -> None:
    """A key that a rotation replaced counts for its time, and a day for what is new; a recovery stops it, aloud."""
    verdict = IdentityMethods(one.keeper, None, None, one.folder, None, clock=one.clock)._verdict  # type: ignore[arg-type]
    signed_ms, signature = one.clock.unix_ms(), one.keeper.sign(Purpose.SERVICE, b"body")
    asked = Verify(did=one.keeper.did, key_seq=0, purpose="service", body=b"body", signature=signature, at_ms=signed_ms)
    new = msgspec.structs.replace(asked, seen_ms=SEEN_NOW)

    def told(wish: Verify, log: Log) -> tuple[bool, bool]:
        found = verdict(wish, Purpose.SERVICE, log)
        return found.valid, found.stopped

    one.clock.advance(HOUR_S)
    one.keeper.rotate()
    assert told(asked, one.log) == told(new, one.log) == (True, False)
    one.clock.advance(25 * HOUR_S)
    assert told(asked, one.log) == (True, False)
    assert told(new, one.log) == (False, False)
    ever = msgspec.structs.replace(new, at_ms=SEEN_NOW, ever=True)
    assert told(ever, one.log) == (True, False)  # of a contract: it binds as long as it is asked for
    assert told(msgspec.structs.replace(ever, body=b"other"), one.log)[0] is False
    assert told(msgspec.structs.replace(ever, key_seq=1), one.log)[0] is False
    branch = recovered(SEED, net=1, log=one.log, now_ms=one.clock.unix_ms())
    now = decode_log(bytes.fromhex(branch.log), now_ms=one.clock.unix_ms(), inception_bits=0)
    assert told(asked, now) == (True, True), "whoever asks for its time alone is told that the time may be made up"
    assert told(new, now) == (False, False)


def test_a_connection_loses_its_ground_exactly_when_its_papers_do(one: One) -> None:
    """Ended, frozen, newly disputed, recovered without this key, or unlisted for more than an hour; else it stays."""
    first, record, key = one.log, one.record(), one.keeper.transport.public
    one.clock.advance(HOUR_S)
    one.keeper.rotate()
    now_ms, hour_later = record.issued_ms, record.issued_ms + HOUR_S * 1000
    new = decode_log(
        bytes.fromhex(recovered(SEED, net=1, log=first, now_ms=one.clock.unix_ms()).log),
        now_ms=one.clock.unix_ms(),
        inception_bits=0,
    )
    disputed = replace(first, disputed=True)
    for log, held, papers, shown, at_ms, stays in (
        (first, None, record, key, now_ms, True),
        (first, first, None, key, now_ms, True),
        (one.log, first, None, key, now_ms, True),
        (first, first, record, b"other", hour_later, True),
        (first, first, record, b"other", hour_later + 1, False),
        (ended(SEED, net=1, log=first, now_ms=MADE_MS), first, record, key, now_ms, False),
        (replace(first, frozen=True), first, record, key, now_ms, False),
        (disputed, first, record, key, now_ms, False),
        (disputed, None, record, key, now_ms, False),
        (disputed, disputed, record, key, now_ms, True),
        (new, first, None, key, now_ms, False),
        (new, first, record, key, now_ms, True),
        (new, new, None, key, now_ms, True),
    ):
        assert (papers_fault(log, held, papers, shown, at_ms) is None) == stays

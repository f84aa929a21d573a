"""Tables that say no: the gate by address, bans, call budgets, meters, liveness. All pure, with times handed in."""

from hypothesis import given
from hypothesis import strategies as st

from common.nets import net_of
from common.units import Did
from dux_p2pd.gate import Bans, CallBudget, Gate
from dux_p2pd.liveness import Liveness, Pulse
from dux_p2pd.meters import TokenBucket
from dux_p2pd.wire_limits import BANS_REMEMBERED, NETS_REMEMBERED
from tests.attacks.registry import attack


def test_nets():
    """An IPv4 /24, an IPv6 /48, and IPv4 inside IPv6 counts as IPv4."""
    assert net_of("203.0.113.77") == "203.0.113.0/24"
    assert net_of("::ffff:203.0.113.77") == "203.0.113.0/24"
    assert net_of("2001:db8:1:2::5") == "2001:db8:1::/48"
    assert net_of("fe80::1%eth0") == "fe80::/48"


def test_a_net_has_a_burst_of_20_and_5_a_second():
    """The 21st connect at once is refused; a second later five more come in; another net is untouched."""
    gate = Gate()

    def tries(net, count, now):
        results = [gate.admit(net, now) for _ in range(count)]
        for result in results:
            if result is None:
                gate.leave(net)
        return results.count(None)

    passed = 0
    for _ in range(10):
        passed += tries("a", 5, 0.0)
    assert passed == 20
    assert tries("a", 8, 1.0) == 5
    assert tries("b", 8, 1.0) == 8


def test_half_open_handshakes_are_8_per_net_and_64_in_all():
    """A net that leaves handshakes hanging blocks itself, many nets block at 64, and leaving makes room."""
    gate = Gate()
    assert [gate.admit("a", 0.0) for _ in range(9)].count(None) == 8
    nets = [f"n{i}" for i in range(60)]
    assert [gate.admit(net, 0.0) for net in nets].count(None) == 56
    gate.leave("a")
    assert gate.admit("late", 0.0) is None
    assert gate.admit("later", 0.0) == "too many handshakes"


def test_a_banned_net_stays_out_until_its_time():
    """A ban ends by itself; a shorter one does not shorten a longer one."""
    gate = Gate()
    gate.bans.add("a", 10.0)
    gate.bans.add("a", 5.0)
    assert gate.admit("a", 9.0) == "banned"
    assert gate.admit("a", 10.0) is None


@attack(
    "TCP",
    tries="connections from more networks than the tables hold",
    meets="the tables keep their size; full buckets are forgotten first",
)
def test_tables_are_bounded():
    """However many nets and bans come by, the tables keep their size."""
    gate, bans = Gate(), Bans()
    for i in range(NETS_REMEMBERED + 500):
        if gate.admit(str(i), 0.0) is None:
            gate.leave(str(i))
        bans.add(str(i), float(i))
    assert len(gate._buckets._buckets) <= NETS_REMEMBERED
    assert len(bans._until) == BANS_REMEMBERED
    assert bans.has(str(NETS_REMEMBERED + 499), 0.0)


def test_strangers_get_a_tenth():
    """Call units: a stranger's bucket is a tenth of a known peer's, and a costly method takes more."""
    budget = CallBudget({"dht.find": 10}, burst_units=100, units_per_s=10)
    known, stranger = Did("did:dux:k"), Did("did:dux:s")
    assert sum(budget.admit(known, "n1", "x", 0.0, known=True) for _ in range(200)) == 100
    assert sum(budget.admit(stranger, "n2", "x", 0.0, known=False) for _ in range(200)) == 10
    assert sum(budget.admit(Did("did:dux:c"), "n3", "dht.find", 0.0, known=True) for _ in range(200)) == 10


@attack("call", tries="many DIDs from one network", meets="they share the network's budget")
def test_many_dids_of_one_net_share_its_bucket():
    """A thousand fresh names behind one address get what four of them would."""
    budget = CallBudget(burst_units=100, units_per_s=10)
    passed = sum(budget.admit(Did(f"did:{i}"), "n", "x", 0.0, known=False) for i in range(1000))
    assert passed == 40


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 30)), max_size=60))
def test_a_bucket_never_lets_more_through_than_burst_plus_rate(draws):
    """Over any history, what passed <= burst + rate x time."""
    bucket, now, passed = TokenBucket(20, 5, 0.0), 0.0, 0
    for wait_s, cost in draws:
        now += wait_s
        passed += cost if bucket.take(cost, now) else 0
        assert passed <= 20 + 5 * now + 1e-6


def test_silence_is_asked_after_5_s_and_dead_after_15():
    """PING at 5, 10 s of silence, DEAD at 15; any byte starts anew."""
    life = Liveness(0.0)
    assert life.check(4.9) is Pulse.FINE
    assert life.next_check_s(4.0) == 1.0
    assert [life.check(t) for t in (5.0, 6.0, 10.0, 11.0)] == [Pulse.ASK, Pulse.FINE, Pulse.ASK, Pulse.FINE]
    assert life.is_suspect(10.0)
    assert life.check(15.0) is Pulse.DEAD
    life.heard(15.1)
    assert life.check(20.0) is Pulse.FINE


def test_the_end_that_was_dialled_asks_only_when_the_other_does_not():
    """The dialler's ping comes first, so that one of the two asks; the other notices its silence as well."""
    first, second = Liveness(0.0), Liveness(0.0, asks_first=False)
    assert first.check(5.0) is Pulse.ASK
    second.heard(5.0)
    assert second.check(10.0) is Pulse.FINE
    assert second.check(12.0) is Pulse.ASK
    assert second.check(20.0) is Pulse.DEAD


def test_work_beyond_a_usual_handshake_is_paid_from_the_same_bucket():
    """A net that was charged for a long log has fewer connections left."""
    gate = Gate()
    assert gate.charge("a", 15, 0.0)
    assert not gate.charge("a", 15, 0.0)
    results = [gate.admit("a", 0.0) for _ in range(6)]
    assert results.count(None) == 5

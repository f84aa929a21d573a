"""The introduction, both orders, and each lie in it by name. No sockets: two exchanges joined by hand."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codec import canonical, from_canonical
from common.errors import DuxError
from common.units import UnixMs
from dux_p2pd.hello import Hello, HelloExchange
from dux_p2pd.wire_errors import HelloRefused
from dux_p2pd.wire_limits import HELLO_BYTES, KNOWN, LOG_TAIL_BYTES, STRANGER
from tests.attacks.registry import attack
from tests.p2pd.wire_kit import TestPapers, myself

pytestmark = pytest.mark.patient

ALICE, BOB, EVE = TestPapers("alice"), TestPapers("bob"), TestPapers("eve")
WISH = bytes(4)


def dialler(me=ALICE, *, to=BOB, key=None, did=True, known=True, **more):
    return HelloExchange(
        myself(me, **more),
        dialler=True,
        peer_key=key or to.transport_key,
        expected_did=to.did if did else None,
        record_known=known,
    )


def acceptor(me=BOB, *, peer=ALICE, key=None, **more):
    return HelloExchange(myself(me, **more), dialler=False, peer_key=key or peer.transport_key)


def run(a, b):
    """Pass messages until both are satisfied; the two outcomes."""
    to_b, outcomes = a.start(), []
    for _ in range(2):
        at_b = b.receive(to_b)
        at_a = a.receive(at_b.to_send)
        to_b = at_a.to_send
        outcomes += [step.introduced for step in (at_a, at_b) if step.introduced]
        if len(outcomes) == 2:
            return outcomes
    raise AssertionError("no introduction")


def message(exchange_bytes):
    return from_canonical(exchange_bytes[4:], Hello, max_bytes=HELLO_BYTES)


def framed(hello):
    data = canonical(hello)
    return len(data).to_bytes(4) + data


@pytest.mark.parametrize(("did", "known"), [(True, True), (True, False), (False, False)])
def test_both_ends_learn_both_names(did, known):
    """With the record, with the DID alone, with nothing: both ends end up with the other's proved DID."""
    a, b = run(dialler(did=did, known=known), acceptor())
    assert (a.vouched.did, b.vouched.did) == (BOB.did, ALICE.did)
    assert a.version == b.version == 1
    assert a.shown.streams == KNOWN.streams


def test_a_dialler_without_the_record_shows_nothing_before_it_knows_who_is_there():
    """Its first bytes are four zeros; its DID follows only after the other's HELLO was judged."""
    a = dialler(known=False, key=EVE.transport_key)
    assert a.start() == WISH
    with pytest.raises(HelloRefused, match="was dialled"):
        a.receive(acceptor(EVE).receive(WISH).to_send)


def test_every_dialler_names_whom_it_talks_to_and_nil_is_only_the_first_answer():
    """to_did of each HELLO, in all orders."""
    a, b = dialler(did=False, known=False), acceptor()
    first = b.receive(a.start()).to_send
    assert message(first).to_did is None
    second = a.receive(first).to_send
    assert message(second).to_did == BOB.did
    assert message(b.receive(second).to_send).to_did == ALICE.did
    assert message(dialler().start()).to_did == BOB.did


def test_features_are_the_intersection():
    """Nobody is told of a feature that one side lacks."""
    a, b = run(dialler(features=("x", "y")), acceptor(features=("y", "z")))
    assert a.features == b.features == {"y"}


def test_strangers_are_shown_and_given_a_strangers_limits():
    """Streams, execution and credit follow from standing."""
    picky = TestPapers("bob", known=False)
    a, b = run(dialler(), acceptor(picky))
    assert (a.shown.streams, a.shown.credit) == (STRANGER.streams, 0)
    assert b.limits == STRANGER
    assert a.limits == KNOWN


def lie(**changes):
    """Alice's HELLO to Bob with these fields changed."""
    hello = message(dialler().start())
    return framed(Hello(**({f: getattr(hello, f) for f in hello.__struct_fields__} | changes)))


@attack(
    "introduction",
    tries="each field of HELLO changed: network, DIDs, log, record, versions, limits",
    meets="refused, each with its own reason",
)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": "ff" * 32}, "another network"),
        ({"to_did": EVE.did}, "somebody else"),
        ({"to_did": None}, "somebody else"),
        ({"from_did": BOB.did}, "our own DID"),
        ({"from_did": EVE.did}, "another DID"),
        ({"log_tail": b""}, "LogBytes"),
        ({"node_record": EVE.record()}, "does not verify"),
        ({"node_record": b"\x90"}, "Signed"),
        ({"versions": (2, 3)}, "common version"),
    ],
)
def test_each_lie_in_a_hello_is_refused(changes, reason):
    """One wrong field, one refusal.

    Planted bug noticed: `_judge` without its to_did check lets two of these in.
    """
    with pytest.raises(DuxError, match=reason):
        acceptor().receive(lie(**changes))


def test_the_cheap_checks_come_first():
    """Another network or addressee costs no signature verification."""
    bob = TestPapers("bob")
    for changes in ({"network": "ff" * 32}, {"to_did": EVE.did}):
        with pytest.raises(HelloRefused):
            acceptor(bob).receive(lie(**changes))
    assert bob.judged == []


@attack(
    "identity",
    tries="a stolen node record, shown on a connection with another key",
    meets="refused: the record does not name this connection's key",
)
def test_a_record_that_does_not_name_this_connections_key_is_refused():
    """A stolen or copied HELLO is worthless on a connection of another key."""
    with pytest.raises(HelloRefused, match="does not name"):
        acceptor(key=EVE.transport_key).receive(dialler().start())


@attack("identity", tries="a record that names somebody else's transport key", meets="refused in both directions")
def test_identity_misbinding():
    """Eve's record claims Bob's transport key and she splices Alice's bytes to Bob: neither end is deceived.

    Bob refuses because Alice named Eve; if Alice waited for the acceptor's HELLO, she refuses because Bob is not Eve.
    """
    eve = TestPapers("eve")
    eve.claimed_keys = (BOB.transport_key,)
    to_eve = dialler(to=eve, key=BOB.transport_key)
    with pytest.raises(HelloRefused, match="somebody else"):
        acceptor().receive(to_eve.start())
    careful = dialler(to=eve, key=BOB.transport_key, known=False)
    with pytest.raises(HelloRefused, match="was dialled"):
        careful.receive(acceptor().receive(careful.start()).to_send)


@attack("identity", tries="an expired node record", meets="refused")
def test_an_expired_record_is_refused():
    """The record's life is judged by the receiver's clock."""
    late = TestPapers("bob")
    late.clock.advance(2 * 86_400)
    with pytest.raises(DuxError, match="expired"):
        acceptor(late).receive(dialler().start())


@attack("introduction", tries="a banned DID comes back", meets="refused before a signature is verified")
def test_a_banned_did_is_refused_before_its_papers_are_read():
    """A ban costs no verification."""
    bob = TestPapers("bob")
    me = msgspec.structs.replace(myself(bob), is_banned=lambda did: did == ALICE.did)
    with pytest.raises(HelloRefused, match="banned"):
        HelloExchange(me, dialler=False, peer_key=ALICE.transport_key).receive(dialler().start())
    assert bob.judged == []


def test_a_wrong_clock_is_told_and_never_refused():
    """Half an hour of skew: introduced, and noted."""
    a, _ = run(dialler(), acceptor(TestPapers("bob")))
    assert not a.skew_is_odd
    hello = lie(now=UnixMs(ALICE.clock.unix_ms() + 1_800_000))
    assert acceptor().receive(hello).introduced.skew_is_odd


@attack(
    "introduction",
    tries="event logs of 64 events from strangers, one after the other",
    meets="each costs its network four connections of the bucket",
)
def test_a_strangers_long_log_must_be_paid_for():
    """Logs beyond about 12 events cost extra before anything is verified."""
    bob = TestPapers("bob", known=False)
    long_log = lie(log_tail=bytes(4000))
    exchange = HelloExchange(myself(bob), dialler=False, peer_key=ALICE.transport_key, pay_long_log=lambda: False)
    with pytest.raises(HelloRefused, match="long logs"):
        exchange.receive(long_log)
    assert bob.judged == []


@attack("introduction", tries="lengths beyond the limits", meets="refused at the length")
def test_sizes_are_checked_before_anything_is_kept():
    """A length beyond 16 KiB is refused at its fourth byte; a log tail beyond its part by the decoder."""
    with pytest.raises(HelloRefused, match="allowed"):
        acceptor().receive((HELLO_BYTES + 1).to_bytes(4))
    with pytest.raises(DuxError):
        acceptor().receive(lie(log_tail=bytes(LOG_TAIL_BYTES + 1)))


@attack("introduction", tries="HELLO cut short or with bytes after it", meets="refused")
@pytest.mark.parametrize(
    "mend",
    [
        lambda data: data[:4] + data[4:] + b"",
        lambda data: (len(data) - 3).to_bytes(4) + data[4:] + b"\x00",
        lambda data: (len(data) - 5).to_bytes(4) + data[4:-1],
    ],
)
def test_truncated_and_padded_hellos(mend):
    """One byte less or more inside the length is refused; the untouched one passes."""
    data = dialler().start()
    changed = mend(data)
    if changed == data:
        assert acceptor().receive(changed).introduced
        return
    with pytest.raises(DuxError):
        acceptor().receive(changed)


def test_order_of_messages_is_fixed():
    """Two wishes to begin, a wish towards a dialler, or a last HELLO from somebody else are refused."""
    b = acceptor()
    b.receive(WISH)
    with pytest.raises(HelloRefused):
        b.receive(WISH)
    with pytest.raises(HelloRefused):
        dialler().receive(WISH)
    a = dialler(known=False)
    a.receive(acceptor().receive(WISH).to_send)
    with pytest.raises(HelloRefused, match="does not name"):
        a.receive(acceptor(EVE).receive(dialler(to=EVE).start()).to_send)


@given(st.lists(st.integers(1, 400), max_size=30))
def test_any_split_gives_the_same_introduction_and_leftover(cuts):
    """The bytes after HELLO belong to the next layer, however the network cut them."""
    data, b, at, got = dialler().start() + b"frames", acceptor(), 0, []
    for cut in [*cuts, len(data)]:
        if not got:
            step = b.receive(data[at : at + cut])
            at += cut
            got += [step] if step.introduced else []
    assert got[0].introduced.vouched.did == ALICE.did
    assert got[0].leftover + data[at:] == b"frames"


@settings(max_examples=300)
@given(st.binary(max_size=80), st.integers(0, 700), st.integers(1, 255))
def test_fuzz_changed_and_random_hellos_never_pass_and_never_crash(noise, place, change):
    """One changed byte anywhere, or noise: refused by a DuxError, or still waiting, or equal in what was proved."""
    data = bytearray(dialler().start())
    data[place % len(data)] ^= change
    for attempt in (bytes(data), noise, b"\x00\x00\x00\x10" + noise):
        try:
            step = acceptor().receive(attempt)
        except DuxError:
            continue
        assert step.introduced is None or step.introduced.vouched.did == ALICE.did

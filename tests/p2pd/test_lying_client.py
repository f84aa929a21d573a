"""What a client of our own making gets when it lies in its second flight: nothing."""

import pytest

from dux_p2pd.certs import leaf_certificate, public_key
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.wire_errors import CertificateRefused
from dux_p2pd.wire_limits import STARVED_BYTES
from tests.attacks.registry import attack
from tests.p2pd.lying_client import LyingClient, leaf_of, sign
from tests.p2pd.tls_kit import ALPN, node_contexts

SERVER, SERVER_SEED = node_contexts("server")
MINE, VICTIM = bytes(32), bytes([1]) * 32
NEUTRAL = b"\x01" + bytes(31)  # the neutral point as a key: S = 0, R = neutral signs everything


def begun():
    engine, client = TlsEngine(SERVER, server_side=True), LyingClient(ALPN)
    client.read_server(engine.receive(client.hello()).to_send)
    return engine, client


def honest(client, seed=MINE):
    return client.certificate(leaf_of(seed)) + client.verify(sign(seed, client.to_sign())) + client.finished()


def test_told_truthfully_the_client_gets_in():
    """The control: the same client without a lie is up, with its key, and its bytes arrive."""
    engine, client = begun()
    step = engine.receive(honest(client) + client.application(b"hello"))
    assert (step.phase, step.plaintext) == (Phase.OPEN, b"hello")
    assert engine.peer_key == public_key(MINE)


def no_certificate(client):
    return client.certificate(None) + client.finished()


def no_verify(client):
    return client.certificate(leaf_of(VICTIM)) + client.finished()


def victims_certificate(client):
    return client.certificate(leaf_of(VICTIM)) + client.verify(sign(MINE, client.to_sign())) + client.finished()


def servers_signature(client):
    return client.certificate(leaf_of(MINE)) + client.verify(sign(MINE, client.to_sign("server"))) + client.finished()


def replayed_signature(client):
    other_engine, other = begun()
    other.certificate(leaf_of(VICTIM))
    signature = sign(VICTIM, other.to_sign())
    assert other_engine.phase is Phase.HANDSHAKE
    return client.certificate(leaf_of(VICTIM)) + client.verify(signature) + client.finished()


def wrong_finished(client):
    return client.certificate(leaf_of(MINE)) + client.verify(sign(MINE, client.to_sign())) + client.finished(wrong=True)


def data_before_finished(client):
    certificate = client.certificate(leaf_of(MINE)) + client.verify(sign(MINE, client.to_sign()))
    return certificate + client.application(b"early") + client.finished()


@attack(
    "TLS",
    tries="stolen leaf, replayed or borrowed signature, no certificate, wrong Finished, data before it",
    meets="refused inside TLS; no key, no plaintext",
)
@pytest.mark.parametrize(
    "flight",
    [
        no_certificate,
        no_verify,
        victims_certificate,
        servers_signature,
        replayed_signature,
        wrong_finished,
        data_before_finished,
    ],
)
def test_a_lie_in_the_second_flight_fails(flight):
    """Whatever is left out, borrowed or bent: no plaintext, no key."""
    engine, client = begun()
    step = engine.receive(flight(client) + client.application(b"hello"))
    assert (step.phase, step.plaintext, step.to_send) == (Phase.FAILED, b"", b"")
    assert engine.peer_key == b""


@attack(
    "certificate",
    tries="a leaf whose key is of small order: anybody can sign for it",
    meets="TLS accepts it, our point check does not",
)
def test_a_key_for_which_anybody_can_sign_is_refused_by_us():
    """OpenSSL takes the neutral point and its trivial signature; the point check does not.

    Planted bug noticed: key_of_leaf without its point check gives an open channel here.
    """
    engine, client = begun()
    flight = client.certificate(leaf_certificate(NEUTRAL)) + client.verify(NEUTRAL + bytes(32)) + client.finished()
    step = engine.receive(flight + client.application(b"hello"))
    assert isinstance(step.error, CertificateRefused)
    assert "order" in step.error.message
    assert step.plaintext == b""


@attack("TLS", tries="key updates without end", meets="closed by the starvation meter after 32 KiB")
def test_a_flood_of_key_updates_is_cut():
    """Ciphertext that yields no plaintext ends after about 32 KiB; key updates among as much data go on.

    Planted bug noticed: `_decrypt` without its meter takes all 4000.
    """
    engine, client = begun()
    engine.receive(honest(client))
    taken = 0
    for _ in range(4000):
        if engine.receive(client.key_update()).phase is Phase.FAILED:
            break
        taken += 1
    assert 1000 < taken < 4000
    assert taken * 27 <= STARVED_BYTES + 64
    engine, client = begun()
    engine.receive(honest(client))
    for _ in range(300):
        step = engine.receive(b"".join(client.key_update() for _ in range(10)) + client.application(b"hello"))
        assert (step.phase, step.plaintext) == (Phase.OPEN, b"hello")


@attack(
    "TLS",
    tries="key updates with a byte of data now and then",
    meets="closed: each byte of plaintext pays for 64 of ciphertext only",
)
def test_a_byte_now_and_then_does_not_buy_more_key_updates():
    """Each byte of plaintext pays for 64 of ciphertext, not for another 32 KiB.

    Planted bug noticed: a meter that starts anew at any plaintext takes all 40 bursts.
    """
    engine, client = begun()
    engine.receive(honest(client))
    bursts = 0
    while bursts < 40 and engine.phase is Phase.OPEN:
        engine.receive(b"".join(client.key_update() for _ in range(400)) + client.application(b"x"))
        bursts += 1
    assert bursts <= 4

"""The TLS engine against hostile ends, without sockets: what is refused, when, and what had left by then."""

import ssl
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dux_p2pd.certs import ca_certificate, public_key
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.wire_errors import CertificateRefused
from dux_p2pd.wire_limits import SERVER_HANDSHAKE_BYTES
from tests.attacks.registry import attack
from tests.p2pd.tls_kit import HOSTILE_LEAVES, RawEnd, honest_pem, hostile_context, node_contexts

SERVER, SERVER_SEED = node_contexts("server")
CLIENT, CLIENT_SEED = node_contexts("client")


def against_server(raw: RawEnd, *, rounds=6, extra=b""):
    """An honest server engine against a hostile client; the last step."""
    engine, out = TlsEngine(SERVER, server_side=True), raw.step(b"")
    step = engine.receive(b"")
    for _ in range(rounds):
        step = engine.receive(out + extra)
        if step.phase is not Phase.HANDSHAKE:
            break
        out, extra = raw.step(step.to_send), b""
    return engine, step


def against_client(raw: RawEnd, *, keys=None):
    """An honest client engine against a hostile server: last step and all that the client sent."""
    engine = TlsEngine(CLIENT, server_side=False, expected_keys=keys)
    step, sent = engine.start(), []
    for _ in range(6):
        sent.append(step.to_send)
        if step.phase is not Phase.HANDSHAKE:
            break
        step = engine.receive(raw.step(step.to_send))
    return engine, step, sent


def joined(*, keys=None):
    """Two honest engines, connected."""
    server = TlsEngine(SERVER, server_side=True)
    client = TlsEngine(CLIENT, server_side=False, expected_keys=keys)
    to_server = client.start().to_send
    while to_server:
        to_server = client.receive(server.receive(to_server).to_send).to_send
    return client, server


def test_honest_ends_learn_each_others_keys_and_talk():
    """About 1.1 kB each way, and both hold the other's proved key."""
    client, server = joined(keys=(public_key(SERVER_SEED),))
    assert (client.phase, server.phase) == (Phase.OPEN, Phase.OPEN)
    assert client.peer_key == public_key(SERVER_SEED)
    assert server.peer_key == public_key(CLIENT_SEED)
    assert server.receive(client.send(b"there" * 10_000)).plaintext == b"there" * 10_000
    assert client.receive(server.send(b"back")).plaintext == b"back"


@attack(
    "TLS",
    tries="a server with another key than the node record names",
    meets="refused; not one byte of the client's certificate leaves",
)
def test_a_client_that_expects_another_key_never_shows_its_own():
    """On a wrong key the certificate flight stays unsent: the man in the middle has seen a ClientHello, no more.

    Planted bug noticed: `_check_peer` without the comparison of keys.
    """
    raw = RawEnd(hostile_context_of_mitm(), server=True)
    _, step, sent = against_client(raw, keys=(public_key(SERVER_SEED),))
    assert isinstance(step.error, CertificateRefused)
    assert step.to_send == b""
    assert len([part for part in sent if part]) == 1
    assert not raw.done
    assert public_key(CLIENT_SEED) not in b"".join(sent)


def hostile_context_of_mitm():
    contexts, _ = node_contexts("man in the middle")
    return contexts.server


def test_without_expected_keys_the_clients_key_goes_only_to_a_template_leaf(tmp_path):
    """Even a dialler that knows nothing refuses a foreign leaf before its own leaves."""
    context = hostile_context(tmp_path, server=True, pem=HOSTILE_LEAVES["P-256"]())
    raw = RawEnd(context, server=True)
    _, step, sent = against_client(raw)
    assert step.phase is Phase.FAILED
    assert len([part for part in sent if part]) == 1


@attack(
    "certificate",
    tries="the matrix of hostile leaves as a client",
    meets="refused in TLS or by the template",
)
@pytest.mark.parametrize("leaf", HOSTILE_LEAVES)
def test_hostile_client_certificates_are_refused(tmp_path, leaf):
    """Whatever leaf a client shows but the template, no plaintext passes."""
    context = hostile_context(tmp_path, server=False, pem=HOSTILE_LEAVES[leaf]())
    engine, step = against_server(RawEnd(context, server=False))
    assert (step.phase, step.plaintext, step.to_send) == (Phase.FAILED, b"", b"")
    assert engine.peer_key == b""


@attack(
    "certificate",
    tries="the matrix of hostile leaves as a server",
    meets="refused in TLS or by the template",
)
@pytest.mark.parametrize("leaf", HOSTILE_LEAVES)
def test_hostile_server_certificates_are_refused(tmp_path, leaf):
    """Whatever leaf a server shows but the template, the client's certificate stays here."""
    context = hostile_context(tmp_path, server=True, pem=HOSTILE_LEAVES[leaf]())
    _, step, sent = against_client(RawEnd(context, server=True))
    assert step.phase is Phase.FAILED
    assert len([part for part in sent if part]) == 1


def refused_clients(tmp_path):
    return {
        "no certificate": hostile_context(tmp_path, server=False),
        "TLS 1.2": hostile_context(tmp_path, server=False, pem=honest_pem("client"), version=ssl.TLSVersion.TLSv1_2),
        "no ALPN": hostile_context(tmp_path, server=False, pem=honest_pem("client"), alpn=()),
        "another ALPN": hostile_context(tmp_path, server=False, pem=honest_pem("client"), alpn=("h2",)),
        "our own key": hostile_context(tmp_path, server=False, pem=honest_pem("server")),
        "60 certificates": hostile_context(
            tmp_path, server=False, pem=honest_pem("client"), chain=ssl.DER_cert_to_PEM_cert(ca_certificate()) * 60
        ),
    }


CLIENT_CASES = ["no certificate", "TLS 1.2", "no ALPN", "another ALPN", "our own key", "60 certificates"]


@attack("TLS", tries="TLS 1.2, no or foreign ALPN, a chain, session tickets, as a client", meets="refused")
@pytest.mark.parametrize("case", CLIENT_CASES)
def test_clients_outside_the_profile_are_refused(tmp_path, case):
    """No certificate, an older TLS, no or another ALPN, our own key, a long chain: refused."""
    _, step = against_server(RawEnd(refused_clients(tmp_path)[case], server=False))
    assert (step.phase, step.plaintext) == (Phase.FAILED, b"")


@attack("TLS", tries="TLS 1.2, no or foreign ALPN, a chain, as a server", meets="refused")
@pytest.mark.parametrize("case", ["TLS 1.2", "no ALPN", "another ALPN"])
def test_servers_outside_the_profile_are_refused(tmp_path, case):
    """An older TLS, no or another ALPN: refused before our certificate leaves."""
    more = {
        "TLS 1.2": {"version": ssl.TLSVersion.TLSv1_2},
        "no ALPN": {"alpn": ()},
        "another ALPN": {"alpn": ("h2",)},
    }[case]
    raw = RawEnd(hostile_context(tmp_path, server=True, pem=honest_pem("evil"), **more), server=True)
    _, step, sent = against_client(raw)
    assert step.phase is Phase.FAILED
    assert public_key(CLIENT_SEED) not in b"".join(sent)


@attack("TLS", tries="resumes a session", meets="no ticket is issued, a resumed session is dropped")
def test_no_ticket_is_issued_and_no_session_resumes():
    """After a full handshake a client holds nothing that it could resume."""
    client, server = joined()
    client.receive(server.send(b"x"))
    session = client._tls.session
    assert session is None or not session.has_ticket


@attack(
    "TLS",
    tries="a handshake of more than 4 KiB, in any pieces (certificate chains, padding)",
    meets="aborted at the cap",
)
def test_handshake_bytes_are_capped_however_they_come():
    """A record that promises much is cut at 4096 bytes, in one piece or byte by byte."""
    flood = struct.pack(">BHH", 22, 0x0301, 16_000) + bytes(16_000)
    for part in (1, 100, 5000):
        engine, fed = TlsEngine(SERVER, server_side=True), 0
        while engine.phase is Phase.HANDSHAKE:
            engine.receive(flood[fed : fed + part])
            fed += part
            assert fed <= SERVER_HANDSHAKE_BYTES + part
        assert engine.phase is Phase.FAILED


def test_what_follows_the_handshake_in_one_piece_is_not_counted_as_handshake():
    """HELLO and more may come with the client's last flight: 60 kB behind the Finished are plaintext, not a breach."""
    server, client = TlsEngine(SERVER, server_side=True), TlsEngine(CLIENT, server_side=False)
    flight = client.receive(server.receive(client.start().to_send).to_send).to_send
    step = server.receive(flight + client.send(b"h" * 60_000))
    assert step.phase is Phase.OPEN
    assert step.plaintext == b"h" * 60_000


def test_a_bulk_transfer_does_not_trip_the_meter():
    """Three megabytes in odd pieces come out whole."""
    client, server = joined()
    data = bytes(range(256)) * 12_000
    wire, got = client.send(data), b""
    for at in range(0, len(wire), 9973):
        got += server.receive(wire[at : at + 9973]).plaintext
    assert got == data


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.lists(st.integers(1, 20_000), max_size=40))
@settings(max_examples=40, deadline=None)
def test_however_the_network_cuts_the_records_the_same_plaintext_comes(sizes, cuts):
    """A read is only left out where nothing can come: records cut anywhere, or many in one piece, and then the end.

    Planted bug noticed: `_drain` looks at the BIO alone, so that the rest of a record that was begun stays inside.
    """
    client, server = joined()
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    wire = b"".join(map(client.send, sent)) + ended(client)
    got, at = bytearray(), 0
    for cut in [*cuts, len(wire)]:
        step = server.receive(wire[at : at + cut])
        got += step.plaintext
        at += cut
    assert got == b"".join(sent)
    assert step.phase is Phase.ENDED


def ended(engine):
    """What the end says last: close_notify."""
    with suppress(ssl.SSLError):
        engine._tls.unwrap()
    return engine._outgoing.read()


def test_a_closed_channel_is_an_end_and_a_changed_byte_a_failure():
    """close_notify ends in order; a flipped bit fails, and nothing of the record comes out."""
    client, server = joined()
    broken = bytearray(client.send(b"secret"))
    broken[-1] ^= 1
    step = server.receive(bytes(broken))
    assert (step.phase, step.plaintext) == (Phase.FAILED, b"")
    client, server = joined()
    with suppress(ssl.SSLWantReadError):
        client._tls.unwrap()
    assert server.receive(client._outgoing.read()).phase is Phase.ENDED


def test_what_follows_the_end_is_not_read():
    """One piece with close_notify and much behind it: what came before is given, the rest is left, nothing fails."""
    client, server = joined()
    piece = client.send(b"last words") + ended(client)
    step = server.receive(piece + b"\x17\x03\x03\xff" * 16_384)
    assert (step.phase, step.plaintext, step.error) == (Phase.ENDED, b"last words", None)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_fuzz_noise_never_raises_and_never_opens(noise, server_side):
    """Any bytes instead of a handshake leave the engine waiting or failed."""
    engine = TlsEngine(SERVER, server_side=server_side)
    engine.start()
    step = engine.receive(noise)
    assert step.phase in (Phase.HANDSHAKE, Phase.FAILED)
    assert step.plaintext == b""


class Library:
    """A TLS library that is not what the profile asked for: its answers stand in for the real object's."""

    def __init__(self, tls, **answers):
        self._tls, self._answers = tls, answers

    def __getattr__(self, name):
        return self._answers.get(name) or getattr(self._tls, name)


@attack(
    "TLS",
    tries="a TLS library that reports less than was asked for: version, ALPN, resumption, certificate",
    meets="our own checks refuse it",
)
@pytest.mark.parametrize("answers", [{"version": lambda: "TLSv1.2"}, {"session_reused": True}], ids=["old", "resumed"])
def test_a_library_that_agreed_to_less_than_the_profile_is_not_believed(answers):
    """The context forbids old versions and resumption; the engine looks all the same, before its own bytes leave."""
    server, client = TlsEngine(SERVER, server_side=True), TlsEngine(CLIENT, server_side=False)
    client._tls = Library(client._tls, **answers)
    step = client.receive(server.receive(client.start().to_send).to_send)
    assert (step.phase, step.to_send) == (Phase.FAILED, b"")
    assert "not a fresh TLS 1.3 session" in str(step.error)


def test_what_a_library_takes_in_parts_leaves_whole():
    """`write` says how much it took, which need not be all.

    Planted bug noticed: what it left is forgotten.
    """
    client, server = joined()
    real = client._tls.write
    client._tls = Library(client._tls, write=lambda data: real(data[:5000]))
    data = bytes(range(256)) * 100
    assert server.receive(client.send(data)).plaintext == data


def test_an_end_that_is_told_by_an_error_is_an_end():
    """Some libraries end a channel by an error of its own and not by a read of nothing."""

    def ended(_count):
        raise ssl.SSLZeroReturnError

    client, server = joined()
    client._tls = Library(client._tls, read=ended)
    assert client.receive(server.send(b"last words")).phase is Phase.ENDED

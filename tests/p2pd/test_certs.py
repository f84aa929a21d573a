"""The certificate templates, against the bytes of the specification and against OpenSSL's own reading."""

import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from dux_p2pd.certs import LEAF_BYTES, ca_certificate, key_of_leaf, leaf_certificate, pem_of_seed, public_key
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.wire_errors import CertificateRefused
from tests.attacks.registry import attack

CA_KEY = "789d30ab59b68365c2ebd1af84239608b78e482acdd77c400f0ed42899db9b29"
CA_SHA256 = "522dbada0bd37666b5caa40f0c7447519ed720672162d376a9215cbed6d77ce5"
SEED = bytes(range(32))

# points of order 1, 2, 4 and 8, and one of mixed order is a sum of an honest one with these
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
]


def test_the_ca_is_the_one_of_the_specification():
    """Key, length and SHA-256 of the CA are those that every node compiled in."""
    assert public_key(hashlib.sha256(b"duxnet public network CA v1").digest()).hex() == CA_KEY
    assert len(ca_certificate()) == 303
    assert hashlib.sha256(ca_certificate()).hexdigest() == CA_SHA256


def test_a_leaf_reads_as_the_specification_says():
    """OpenSSL's reading of the template: version 3, serial 2, the names, dates and extensions of the profile."""
    leaf = x509.load_der_x509_certificate(leaf_certificate(public_key(SEED)))
    ca = x509.load_der_x509_certificate(ca_certificate())
    leaf.verify_directly_issued_by(ca)
    assert leaf.serial_number == 2
    assert leaf.subject.rfc4514_string() == "CN=duxnet leaf"
    assert leaf.not_valid_after_utc.year == 9999
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert len(leaf.extensions) == 4
    assert isinstance(leaf.public_key(), Ed25519PublicKey)


@given(st.binary(min_size=32, max_size=32))
def test_the_key_comes_back_from_its_leaf(seed):
    """A leaf is a pure function of its key, 321 bytes, and gives that key back."""
    key = public_key(seed)
    assert len(leaf_certificate(key)) == LEAF_BYTES
    assert leaf_certificate(key) == leaf_certificate(key)
    assert key_of_leaf(leaf_certificate(key)) == key


@attack("certificate", tries="any byte of a leaf changed", meets="refused, or another key that must be proved")
@given(st.integers(0, LEAF_BYTES - 65), st.integers(1, 255))
def test_any_other_byte_is_refused_or_another_key(place, change):
    """A changed byte outside the key is refused; one inside it never gives the same key; the signature is TLS's."""
    leaf = bytearray(leaf_certificate(public_key(SEED)))
    leaf[place] ^= change
    try:
        assert key_of_leaf(bytes(leaf)) != public_key(SEED)
    except CertificateRefused:
        return
    assert 121 <= place < 153


@pytest.mark.parametrize("der", [None, b"", b"\x30", bytes(LEAF_BYTES), leaf_certificate(public_key(SEED)) + b"\x00"])
def test_what_is_not_the_template_is_refused(der):
    """Absent, short, long or zero: no key comes out."""
    with pytest.raises(CertificateRefused):
        key_of_leaf(der)


@attack("certificate", tries="public keys of small and mixed order", meets="refused")
@pytest.mark.parametrize("key", SMALL_ORDER)
def test_keys_that_anybody_can_sign_for_are_refused(key):
    """A perfect template around a small-order key is no identity.

    Planted bug noticed: key_of_leaf without its point check.
    """
    with pytest.raises(CertificateRefused, match="small"):
        key_of_leaf(leaf_certificate(bytes.fromhex(key)))


@given(st.binary(max_size=400))
def test_fuzz_the_leaf_parser_gives_a_key_or_refuses(der):
    """Whatever the bytes, the outcome is a key or CertificateRefused."""
    with pytest.raises(CertificateRefused):
        key_of_leaf(der)


def test_the_context_is_the_profile():
    """TLS 1.3 only, a client certificate demanded, our CA alone, no tickets."""
    contexts = contexts_of_seed(SEED, "dux-test/1")
    for context in (contexts.server, contexts.client):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert [hashlib.sha256(der).hexdigest() for der in context.get_ca_certs(binary_form=True)] == [CA_SHA256]
        assert context.options & ssl.OP_NO_TICKET
        assert context.keylog_filename is None
    assert contexts.server.num_tickets == 0
    assert "PRIVATE KEY" in pem_of_seed(SEED)


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33])
def test_a_leaf_is_made_for_keys_of_32_bytes_only(key):
    """A key of another length has no leaf."""
    with pytest.raises(CertificateRefused, match="32 bytes"):
        leaf_certificate(key)

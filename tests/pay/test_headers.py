"""The three headers, the JWS, the prices and the table of statuses: what is taken, what is refused, and how."""

import base64
import json

import coincurve
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from common.channel_messages import Offer, Pricing
from common.errors import DuxError
from common.jws import (
    KEY_FRAGMENT,
    BadJws,
    OfferClaims,
    ReceiptClaims,
    digest_of,
    opened,
    sealed,
    signer_of,
    signing_input,
)
from common.units import Did, Florins
from dux_pay.buying import offer_problem, path_of
from dux_pay.headers import (
    HEADER_CHARS_MAX,
    IDENTIFIER,
    SCHEME,
    Malformed,
    answer_in,
    decode_payload,
    decode_required,
    decode_settlement,
    encode,
    network_name,
    oid_of,
    open_shown_answer,
    open_shown_voucher,
    show_answer,
)
from dux_pay.price import BadPrice, price_of, prices_of, says
from dux_pay.statuses import TABLE, Facts, Reason, body_of, status_of
from tests.attacks.registry import attack
from tests.pay.kit import GENESIS, PAYEE, PAYER_KEY
from tests.pay.payments import (
    OID,
    PRICE,
    REQUIRED,
    answer,
    payload_of,
    settlement_of,
    signed,
    voucher,
)

FLORINS = st.integers(0, 10**15).map(Florins)


def b64(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@given(j=st.integers(1, 1 << 53), cum=FLORINS, most=FLORINS, oid=st.from_regex(r"\A[A-Za-z0-9_-]{16,128}\Z"))
def test_a_voucher_survives_its_header(j: int, cum: Florins, most: Florins, oid: str) -> None:
    """What was signed comes out byte for byte; the header stays far below what servers take."""
    data = signed(voucher(oid, j=j, cum_florins=cum, price_max_florins=most))
    text = encode(payload_of(data, oid))
    back, said = open_shown_voucher(decode_payload(text))
    assert (back, said.j, said.oid, int(said.cum_florins)) == (data, j, oid, int(cum))
    assert len(text) < HEADER_CHARS_MAX * 3 // 4


@attack(
    "payment",
    tries="a header whose readable part says other than its signed envelope",
    meets="malformed, before any key or book is asked",
)
@given(field=st.sampled_from(["cum_florins", "j", "oid", "req", "chid", "session"]))
def test_what_is_shown_has_to_be_what_was_signed(field: str) -> None:
    """A readable part that says other than the envelope would mislead whoever reads it: refused."""
    payload = payload_of(signed(voucher()))
    shown = dict(payload.payload) | {field: "1"}
    with pytest.raises(Malformed, match="not what its envelope says"):
        open_shown_voucher(msgspec.structs.replace(payload, payload=shown))


def test_a_voucher_is_for_its_id_scheme_and_network() -> None:
    """Another payment-identifier, another network or another scheme than `accepted` is refused."""
    payload = payload_of(signed(voucher()))
    other_id = msgspec.structs.replace(payload, extensions={IDENTIFIER: {"info": {"id": "x" * 16}}})
    elsewhere = msgspec.structs.replace(REQUIRED.accepts[0], network="bip122:" + "0" * 32)
    otherwise = msgspec.structs.replace(REQUIRED.accepts[0], scheme="exact")
    cases = [other_id, *(msgspec.structs.replace(payload, accepted=entry) for entry in (elsewhere, otherwise))]
    for case in cases:
        with pytest.raises(Malformed):
            open_shown_voucher(case)
    assert open_shown_voucher(payload)[1].oid == OID


@pytest.mark.parametrize(
    "text",
    [
        "", "***", "e30=", b64([]), b64({"x402Version": 1}), b64("x"), base64.b64encode(b"[" * 5000).decode(),
        "A" * (HEADER_CHARS_MAX + 4), base64.b64encode(b'{"a":' + b"[" * 5000).decode(),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
)  # fmt: skip
def test_unreadable_headers_are_malformed(text: str) -> None:
    """Any text at all: a named error, never another."""
    for decode in (decode_payload, decode_required, decode_settlement):
        with pytest.raises(Malformed):
            decode(text)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_named_error(data: bytes) -> None:
    """In base64 or bare."""
    for text in (base64.b64encode(data).decode(), data.decode("latin-1")):
        for decode in (decode_payload, decode_required, decode_settlement):
            with pytest.raises(Malformed):
                decode(text)


@pytest.mark.parametrize(
    "info", [None, {}, {"id": 7}, {"id": "short"}, {"id": "x" * 129}, {"id": "with space in 16.."}]
)
def test_ids_have_their_form(info: object) -> None:
    """16 to 128 letters, digits, _ and -, as x402's extension wants."""
    payload = msgspec.structs.replace(payload_of(signed(voucher())), extensions={IDENTIFIER: {"info": info}})
    with pytest.raises(Malformed):
        oid_of(payload)
    with pytest.raises(Malformed):
        oid_of(msgspec.structs.replace(payload, extensions={}))


def test_other_schemes_are_left_out_of_a_402() -> None:
    """A seller may take several coins: ours is found among them; none of ours is a named error."""
    whole = json.loads(msgspec.json.encode(REQUIRED))
    other = {"scheme": "exact", "network": "eip155:8453", "amount": "10000", "asset": "0x1", "payTo": "0x2"}
    assert decode_required(b64(whole | {"accepts": [other, *whole["accepts"]]})).accepts == REQUIRED.accepts
    for accepts in ([other], [], 7, ["x"]):
        with pytest.raises(Malformed):
            decode_required(b64(whole | {"accepts": accepts}))


def test_an_answer_survives_its_header() -> None:
    """The envelope comes out; a header without one, or with another readable part, is refused."""
    data = answer()
    back, said = open_shown_answer(decode_settlement(encode(settlement_of(data))))
    assert (back, said) == (data, answer_in(data))
    for extensions in ({}, {SCHEME: {}}, {SCHEME: {"info": {}}}, {SCHEME: {"info": show_answer(data) | {"j": 2}}}):
        with pytest.raises(Malformed):
            open_shown_answer(msgspec.structs.replace(settlement_of(data), extensions=extensions))


def test_the_network_is_caip_2() -> None:
    """The first 32 digits of the genesis hash."""
    assert network_name(GENESIS) == "bip122:1f1037762db00882d3353b8d9dcfd52f"


# --- JWS --------------------------------------------------------------------------------------------------------------

KEY = coincurve.PrivateKey(b"\x07" * 32)
CLAIMS = OfferClaims(
    resource_url="https://api.example/x", scheme=SCHEME, network="bip122:1", asset="FLOP", pay_to="02", amount="5",
    valid_until=1_800_000_000, valid_to=9,
)  # fmt: skip


def jws(claims=CLAIMS, key: coincurve.PrivateKey = KEY) -> str:
    text = signing_input(PAYEE + KEY_FRAGMENT, claims)
    return sealed(text, key.sign(digest_of(text), hasher=None))


def test_another_library_verifies_our_jws() -> None:
    """ES256K as RFC 8812 has it: `cryptography` takes it apart and finds the same key's signature."""
    head, claims, signature = jws().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), KEY.public_key.format())
    public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "ES256K", "kid": PAYEE + "#coin"}
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["payTo"] == "02"


@attack(
    "payment",
    tries="offers and receipts as JWS: `alg: none`, more head fields, another key, another encoding of the same bytes",
    meets="refused; only ES256K under the coin key that the node record names",
)
def test_a_jws_opens_under_its_key_alone() -> None:
    """Another key, another algorithm, another form, other claims: refused."""
    good = jws()
    assert opened(good, OfferClaims, coin_key=KEY.public_key.format()) == CLAIMS
    assert signer_of(good) == PAYEE
    head, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"x#coin"}').rstrip(b"=").decode()
    more = base64.urlsafe_b64encode(b'{"alg":"ES256K","kid":"x#coin","crit":[]}').rstrip(b"=").decode()
    texts = [
        f"{none}.{claims}.{signature}", f"{more}.{claims}.{signature}", f"{head}.{claims}.", f"{head}.{claims}",
        f"{head}.{claims}.{signature}=", f"{head}.{claims}.!{signature}", "x" * 5_000, f"{head}.{claims}.{'A' * 86}",
        f"{head}.{claims[:-1]}B.{signature}",
    ]  # fmt: skip
    for text in texts:
        with pytest.raises(BadJws):
            opened(text, OfferClaims, coin_key=KEY.public_key.format())
    with pytest.raises(BadJws, match="another key"):
        opened(good, OfferClaims, coin_key=PAYER_KEY.public_key.format())
    with pytest.raises(BadJws, match="another key"):
        opened(good, OfferClaims, coin_key=b"no key")
    with pytest.raises(BadJws, match="another form"):
        opened(good, ReceiptClaims, coin_key=KEY.public_key.format())


def test_the_key_of_a_jws_is_a_coin_key() -> None:
    """Kid = did#coin (settled 8), nothing else."""
    text = signing_input(PAYEE, CLAIMS)
    with pytest.raises(BadJws, match="does not end"):
        signer_of(sealed(text, KEY.sign(digest_of(text), hasher=None)))


# --- offers, prices, statuses -----------------------------------------------------------------------------------------


def test_the_three_forms_of_an_offer_say_the_same() -> None:
    """Each difference has its own words."""
    entry, url = REQUIRED.accepts[0], "https://api.example/x?q=1"
    offer = Offer(
        v=1, network=GENESIS, payee=PAYEE, what="http /x", price_florins=PRICE.florins, pricing=Pricing.FIXED,
        valid_to=1_500,
    )  # fmt: skip
    claims = OfferClaims(
        resource_url="https://api.example/x", scheme=SCHEME, network=entry.network, asset="FLOP",
        pay_to=entry.pay_to, amount=entry.amount, valid_until=0, valid_to=1_500,
    )  # fmt: skip
    replace = msgspec.structs.replace
    assert offer_problem(offer, entry, claims, PAYEE, url) == ""
    assert "another node" in offer_problem(offer, entry, claims, Did("did:dux:" + "c" * 52), url)
    assert "network" in offer_problem(replace(offer, network="00" * 32), entry, claims, PAYEE, url)
    assert "prices" in offer_problem(replace(offer, price_florins=Florins(1)), entry, claims, PAYEE, url)
    assert "prices" in offer_problem(offer, entry, replace(claims, amount="1"), PAYEE, url)
    assert "kinds" in offer_problem(replace(offer, pricing=Pricing.UPTO), entry, claims, PAYEE, url)
    assert "heights" in offer_problem(replace(offer, valid_to=1), entry, claims, PAYEE, url)
    assert "another key" in offer_problem(offer, entry, replace(claims, pay_to="03"), PAYEE, url)
    assert "resource" in offer_problem(offer, entry, claims, PAYEE, "https://api.example/y")


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("http://h/a/b?q=1&r=%20", "/a/b", "q=1&r=%20"), ("http://h", "/", ""), ("https://h:1?x=1", "/", "x=1"),
        ("http://h/?", "/", ""), ("http://h/a#part", "/a", ""), ("http://h/a?b?c", "/a", "b?c"),
    ],
)  # fmt: skip
def test_path_and_query_are_as_sent(url: str, path: str, query: str) -> None:
    """What is hashed is what goes over the wire; a fragment never does."""
    assert path_of(url) == (path, query)


def test_prices_by_the_longest_prefix() -> None:
    """`/a` is not above `/ab`; free paths are free; what is no price says so."""
    prices = prices_of("0.5", "fixed", {"/a": "1", "/a/b": "2"}, ("/free",))
    found = {path: prices.of(path) for path in ("/", "/a", "/a/c", "/a/b/c", "/ab", "/free/x", "/freedom")}
    assert {path: price and str(price.florins / 10**8) for path, price in found.items()} == {
        "/": "0.5", "/a": "1.0", "/a/c": "1.0", "/a/b/c": "2.0", "/ab": "0.5", "/free/x": None, "/freedom": "0.5",
    }  # fmt: skip
    assert (prices.prefix_of("/a/b/c"), prices.prefix_of("/x")) == ("/a/b", "/")
    for text, pricing in (("0", "fixed"), ("-1", "fixed"), ("x", "fixed"), ("1", "auction")):
        with pytest.raises(BadPrice):
            price_of(text, pricing)
    with pytest.raises(BadPrice, match="begins with /"):
        prices_of("1", "fixed", {"a": "1"}, ())
    assert price_of(PRICE) is PRICE
    assert says(price_of("0.5", "upto")) == "at most 0.5 FLOP"


def test_every_reason_has_its_status() -> None:
    """The table of CP §7, row by row; those that help the payer name W, S and what is missing."""
    codes = {reason.value: status_of(reason).code for reason in Reason}
    assert codes == {
        "no_voucher": 402, "need_funds": 402, "offer_expired": 402, "resync": 402, "closing": 402, "depth": 402,
        "busy": 503, "running": 503, "node_down": 503, "conflict": 409, "gone": 410, "malformed": 400,
        "too_large": 413, "too_slow": 408,
    }  # fmt: skip
    for reason, status in TABLE.items():
        assert status.asks is (status.code == 402)
        assert status.later is (status.code == 503)
        told = body_of(reason, Facts(missing_florins=Florins(7)))
        assert told["errorReason"] == reason.value
        assert told.get("missing_florins", "") == ("7" if reason in ("need_funds", "depth", "resync") else "")
    assert body_of(Reason.MALFORMED, Facts(), "because")["error"] == "because"
    assert issubclass(Malformed, DuxError)

"""The verifiable random function: RFC 9381's own examples, and that nothing else verifies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.identity.ecvrf import PROOF_BYTES, _to_curve, drawn_by, prove, public_of, verified

# Examples 16 to 18 of RFC 9381, Appendix B.3: secret key, public key, alpha, the hashed point, pi, beta.
EXAMPLES = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "91bbed02a99461df1ad4c6564a5f5d829d0b90cfc7903e7a5797bd658abf3318",
        (
            "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97"
            "27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805"
        ),
        (
            "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
            "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "5b659fc3d4e9263fd9a4ed1d022d75eaacc20df5e09f9ea937502396598dc551",
        (
            "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465"
            "301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02"
        ),
        (
            "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
            "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "bf4339376f5542811de615e3313d2b36f6f53c0acfebb482159711201192576a",
        (
            "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0"
            "e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e"
        ),
        (
            "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
            "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f"
        ),
    ),
]
SEED, ALPHA = b"\x07" * 32, b"an input"
KEY, PROOF = public_of(SEED), prove(SEED, ALPHA)
ORDER = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize(("secret", "public", "alpha", "point", "proof", "beta"), EXAMPLES)
def test_the_rfcs_examples(secret: str, public: str, alpha: str, point: str, proof: str, beta: str) -> None:
    """Key, hashed point, proof and output, byte for byte."""
    seed, key, asked = bytes.fromhex(secret), bytes.fromhex(public), bytes.fromhex(alpha)
    assert public_of(seed) == key
    assert _to_curve(key, asked).hex() == point
    assert prove(seed, asked).hex() == proof
    assert drawn_by(bytes.fromhex(proof)).hex() == beta
    drawn = verified(key, asked, bytes.fromhex(proof))
    assert drawn is not None
    assert drawn.hex() == beta


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_what_is_proved_verifies_for_this_key_and_input_alone(seed: bytes, alpha: bytes) -> None:
    """And one seed draws one thing from an input, whoever asks how often."""
    proof = prove(seed, alpha)
    assert proof == prove(seed, alpha)
    assert verified(public_of(seed), alpha, proof) == drawn_by(proof)
    assert verified(public_of(seed), alpha + b"x", proof) is None
    assert verified(KEY, alpha, proof) is None or seed == SEED


@given(st.integers(0, PROOF_BYTES * 8 - 1))
def test_a_proof_with_another_bit_shows_nothing(bit: int) -> None:
    """Whichever of the 640."""
    number = int.from_bytes(PROOF, "little") ^ 1 << bit
    assert verified(KEY, ALPHA, number.to_bytes(PROOF_BYTES, "little")) is None


def test_there_is_one_proof_for_an_input() -> None:
    """The same answer written as a larger number is refused, and so is one of nothing; other lengths show nothing."""
    answer = int.from_bytes(PROOF[48:], "little") + ORDER
    assert verified(KEY, ALPHA, PROOF[:48] + answer.to_bytes(32, "little")) is None
    assert verified(KEY, ALPHA, PROOF[:48] + bytes(32)) is None
    assert verified(KEY, ALPHA, PROOF[:32] + bytes(16) + PROOF[48:]) is None
    assert verified(KEY, ALPHA, PROOF[:-1]) is None
    assert verified(KEY[:-1], ALPHA, PROOF) is None


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_no_keys_and_draw_nothing(point: bytes) -> None:
    """For such a key anybody could prove, and such a point draws the same from every input."""
    assert verified(point, ALPHA, PROOF) is None
    assert verified(KEY, ALPHA, point + PROOF[32:]) is None

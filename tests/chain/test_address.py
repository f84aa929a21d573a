"""Addresses: the published forms of every network, and no mistyped one ever passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain.address import BadAddress, address_to_script, p2pkh_script, p2sh_script, script_to_address
from common.chain.params import FAMILIES, FLOPCOIN_MAIN, FLOPCOIN_TEST, LITECOIN_REGTEST, UnknownFamily, family_named

DEV_FEE_HASH = bytes.fromhex("9dd48810bb9da1d986347367a8239e57ab4bac7f")


def test_the_published_address_of_the_coin() -> None:
    """Facts §1: the development fee's address and its hash belong together."""
    assert script_to_address(p2pkh_script(DEV_FEE_HASH), FLOPCOIN_MAIN) == "FLDe9sDaU63Y6GALoSAJfTJ8NtkR9goLok"


@pytest.mark.parametrize(
    ("name", "key_letter", "script_letter"),
    [
        ("flopcoin-main", "F", "A9"),
        ("flopcoin-test", "P", "X"),
        ("litecoin-regtest", "mn", "Q"),
        ("embedded", "mn", "2"),
    ],
)
def test_first_letters_are_the_networks(name: str, key_letter: str, script_letter: str) -> None:
    """Facts §1: every network's addresses start as its users know them."""
    family = family_named(name)
    for hash20 in (bytes(20), b"\xff" * 20, DEV_FEE_HASH):
        assert (script_to_address(p2pkh_script(hash20), family) or "")[0] in key_letter
        assert (script_to_address(p2sh_script(hash20), family) or "")[0] in script_letter


@given(hash20=st.binary(min_size=20, max_size=20), name=st.sampled_from(sorted(FAMILIES)))
def test_address_and_script_are_one(hash20: bytes, name: str) -> None:
    """There and back gives the same script, on every network and for both kinds."""
    family = family_named(name)
    for script in (p2pkh_script(hash20), p2sh_script(hash20)):
        assert address_to_script(script_to_address(script, family) or "", family) == script


@given(hash20=st.binary(min_size=20, max_size=20), at=st.integers(0, 33), letter=st.sampled_from("123abcXYZ0OIl"))
def test_one_wrong_letter_is_noticed(hash20: bytes, at: int, letter: str) -> None:
    """The check sum catches every single mistyped character."""
    address = script_to_address(p2pkh_script(hash20), FLOPCOIN_MAIN) or ""
    wrong = address[: at % len(address)] + letter + address[at % len(address) + 1 :]
    if wrong != address:
        with pytest.raises(BadAddress):
            address_to_script(wrong, FLOPCOIN_MAIN)


def test_other_networks_addresses_are_refused() -> None:
    """An address of another network or coin is told as such; litecoin's old script prefix is read."""
    address = script_to_address(p2pkh_script(DEV_FEE_HASH), FLOPCOIN_TEST) or ""
    with pytest.raises(BadAddress, match="another network"):
        address_to_script(address, FLOPCOIN_MAIN)
    with pytest.raises(BadAddress, match="0x"):
        address_to_script("0x52908400098527886E0F7030069857D2E4169EE7", FLOPCOIN_MAIN)
    old = script_to_address(p2sh_script(DEV_FEE_HASH), family_named("embedded")) or ""
    assert address_to_script(old, LITECOIN_REGTEST) == p2sh_script(DEV_FEE_HASH)
    assert script_to_address(b"\x6a", FLOPCOIN_MAIN) is None
    with pytest.raises(UnknownFamily):
        family_named("bitcoin")

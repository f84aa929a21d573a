"""Keys as people pass them on: the published forms, and every mistake told without showing a secret."""

from __future__ import annotations

import pytest

from common.chain.address import base58check
from common.chain.key_text import BadKeyText, account_text, read_account, read_wif
from common.chain.params import FLOPCOIN_MAIN, LITECOIN_REGTEST
from common.chain.verify import is_signature
from common.keys import HARDENED, CoinNode, CoinPublicNode

SECRET = bytes.fromhex("0c28fca386c7a227600b2fe50b7cae11ec86d3bf1fbe471be89827e19d72aa1d")
ROOT = CoinNode.master(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))


def wif(payload: bytes, prefix: int = 239) -> str:
    return base58check(bytes([prefix]) + payload)


def test_a_public_node_finds_the_children_that_the_private_one_has() -> None:
    """Chain m/0'/1 of BIP32's first vector by its published public key; hardened children are out of its reach."""
    parent = ROOT.child(HARDENED)
    assert parent.watcher.child(1).public.hex() == "03501e454bf00751f24b1b489aa925215d66af2234e3891c3b21a52bedb3cd711c"
    assert parent.watcher.path(1, 7).public == parent.path(1, 7).public
    for index in (HARDENED, -1):
        with pytest.raises(ValueError, match="no child"):
            parent.watcher.child(index)
    with pytest.raises(ValueError, match="public key"):
        CoinPublicNode(bytes(33), bytes(32))


def test_an_account_is_read_as_it_was_written_and_looks_as_the_coin_s_do() -> None:
    """`dgub` on the main network; another coin's, a private and a mistyped one are told apart."""
    text = account_text(ROOT.watcher, 3, FLOPCOIN_MAIN)
    assert text.startswith("dgub")
    found = read_account(text, FLOPCOIN_MAIN)
    assert (found.public, found.chain_code) == (ROOT.public, ROOT.chain_code)
    private = base58check(FLOPCOIN_MAIN.bip32_private + bytes(74))
    no_point = base58check(FLOPCOIN_MAIN.bip32_public + bytes(74))
    mistakes = ((private, "private"), (no_point, "no key"), (text[:-1], "mistyped"), ("d" * 200, "long"))
    for wrong, reason in mistakes:
        with pytest.raises(BadKeyText, match=reason):
            read_account(wrong, FLOPCOIN_MAIN)
    with pytest.raises(BadKeyText, match="another coin"):
        read_account(text, LITECOIN_REGTEST)


def test_a_private_key_is_read_and_signs_and_never_shows_itself() -> None:
    """Compressed or not, as its text says; the text of an error or of the key has nothing of it."""
    long, short = read_wif(wif(SECRET), LITECOIN_REGTEST), read_wif(wif(SECRET + b"\x01"), LITECOIN_REGTEST)
    assert (len(long.public), len(short.public)) == (65, 33)
    assert short.public.hex().endswith("d0de0aaeaefad02b8bdc8a01a1b8b11c696bd3d66a2c5f10780d95b7df42645c")
    assert is_signature(short.public, bytes(32), short.sign(bytes(32)) + b"\x01")
    assert repr(short) == "ForeignKey()"
    text = wif(SECRET + b"\x01", prefix=158)
    wrongs = (text, wif(SECRET + b"\x02"), wif(bytes(32)), wif(SECRET)[:-1])
    for wrong in wrongs:
        with pytest.raises(BadKeyText) as told:
            read_wif(wrong, LITECOIN_REGTEST)
        assert wrong not in str(told.value)

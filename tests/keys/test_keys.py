"""Keys come from the phrase as the standards say, and never show themselves."""

from __future__ import annotations

import pytest

from common.chain.verify import is_signature
from common.keys import HARDENED, BadPhrase, CoinNode, SubKey, account_node, new_phrase, seed_of, sub_key
from common.randomness import SeededRandomness

PHRASE = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


def test_the_phrase_gives_the_seed_of_bip39() -> None:
    """BIP39's first English test vector, without its passphrase (the published value for the empty one)."""
    wanted = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1"
    assert seed_of(PHRASE).hex().startswith(wanted)
    assert seed_of("  Abandon " * 11 + "\nABOUT") == seed_of(PHRASE)


def test_children_are_those_of_bip32_vector_1() -> None:
    """Chain m/0'/1/2'/2/1000000000 of BIP32's first vector ends in its published private key."""
    root = CoinNode.master(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
    assert root.export()[0].hex() == "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"
    node = root.path(HARDENED, 1, HARDENED + 2, 2, 1_000_000_000)
    assert node.export()[0].hex() == "471b76e389e528d6de6d816857e012c5455051cad6660850e58372a6c3e6e7c8"
    assert node.public.hex() == "022a471424da5e657499d1ff51cb43c47481a03b1e77f951fe64cec9f5a48f7011"


@pytest.mark.parametrize("phrase", ["", "abandon", PHRASE.replace("about", "abandon"), PHRASE.replace("about", "zzz")])
def test_a_wrong_phrase_is_refused_without_being_repeated(phrase: str) -> None:
    """Unknown words, missing words and wrong check sums are refused, and the error does not show the words."""
    with pytest.raises(BadPhrase) as caught:
        seed_of(phrase)
    assert "abandon" not in str(caught.value)


def test_new_phrases_have_twelve_words_and_differ() -> None:
    """Every new phrase is a valid one of its own."""
    random = SeededRandomness(1)
    first, second = new_phrase(random), new_phrase(random)
    assert len(first.split()) == 12
    assert first != second
    assert seed_of(first) != seed_of(second)


def test_sub_keys_differ_by_purpose_and_seed() -> None:
    """No two purposes share a secret, and no two seeds."""
    seeds = [seed_of(PHRASE), bytes(64)]
    assert len({sub_key(seed, purpose) for seed in seeds for purpose in SubKey}) == 2 * len(SubKey)


def test_signatures_are_repeatable_and_right() -> None:
    """The same digest gives the same low-S signature (RFC 6979), and another key's does not pass."""
    node, other = account_node(seed_of(PHRASE), 1), account_node(seed_of(PHRASE), 1, 1)
    digest = bytes(range(32))
    assert node.sign(digest) == node.sign(digest)
    assert is_signature(node.public, digest, node.sign(digest))
    assert not is_signature(other.public, digest, node.sign(digest))
    assert not is_signature(node.public, bytes(32), node.sign(digest))


def test_no_text_form_shows_the_secret() -> None:
    """Neither repr nor str of a node has the secret in it."""
    node = account_node(seed_of(PHRASE), 1)
    secret, chain_code = node.export()
    assert secret.hex() not in repr(node)
    assert chain_code.hex() not in f"{node} {node!r}"

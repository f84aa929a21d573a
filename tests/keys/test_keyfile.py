"""A sealed file opens with its passphrase and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.contracts.wallet_errors import DoesNotOpen
from common.identity.branch import decode_branch, did_of_branch
from common.keyfile import BadKeyFile, read_limited, seal, unseal, write_private
from common.keygen import (
    PHRASE_FILE,
    UNLOCK_FILE,
    WALLET_FILE,
    KeysExist,
    PhraseGone,
    erase_phrase,
    make_keys,
    open_wallet,
    read_phrase,
)
from common.network import KeyFileCosts, NetworkProfile
from common.randomness import SeededRandomness

CHEAP = KeyFileCosts(memory_kib=64, iterations=1, lanes=1)
NETWORK = NetworkProfile(name="test", chain="embedded", genesis="11" * 32, heights="demo", key_file_costs=CHEAP)
SECRET = b"a secret of some length"


def sealed(seed: int = 1) -> bytes:
    """The secret under the passphrase `right`."""
    return seal(SECRET, b"right", "wallet", CHEAP, SeededRandomness(seed))


def test_it_opens_with_its_passphrase_only() -> None:
    """Right opens; wrong, empty and prefixed passphrases do not, and the error names no secret."""
    assert unseal(sealed(), b"right", "wallet") == SECRET
    for wrong in (b"", b"wrong", b"right ", b"righ"):
        with pytest.raises(DoesNotOpen) as caught:
            unseal(sealed(), wrong, "wallet")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("field", ["salt", "nonce", "ciphertext", "iterations", "memory_kib"])
def test_any_change_is_noticed(field: str) -> None:
    """Header and ciphertext are authenticated: each changed field keeps the file shut."""
    fields = json.loads(sealed())
    value = fields[field]
    fields[field] = value + 1 if isinstance(value, int) else value[:-4] + ("AAAA" if value[-4:] != "AAAA" else "BBBB")
    with pytest.raises((DoesNotOpen, BadKeyFile)):
        unseal(json.dumps(fields).encode(), b"right", "wallet")


def test_costs_beyond_reason_are_refused_before_they_are_paid() -> None:
    """A hostile file cannot make the reader spend memory or time."""
    fields = json.loads(sealed())
    for change in ({"memory_kib": 2**31}, {"iterations": 10**6}, {"lanes": 0}, {"version": 2}, {"what": "phrase"}):
        with pytest.raises(BadKeyFile):
            unseal(json.dumps(fields | change).encode(), b"right", "wallet")


def test_the_same_secret_never_looks_the_same() -> None:
    """Salt and nonce are fresh in every sealing."""
    assert sealed(1) != sealed(2)


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    """Mode 0600, no left-over of an earlier attempt."""
    path = tmp_path / "inner" / "wallet.key"
    (tmp_path / "inner").mkdir()
    path.with_name("wallet.key.part").write_bytes(b"left over")
    write_private(path, sealed())
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_limited(path) == sealed()
    assert list(path.parent.iterdir()) == [path]


def test_each_daemon_gets_only_what_it_needs(tmp_path: Path) -> None:
    """p2pd's folder holds no phrase and no coin key, flopd's no identity key; DID and address fit the phrase."""
    made = make_keys(tmp_path, NETWORK, randomness=SeededRandomness(5), made_ms=1)
    branch = decode_branch((tmp_path / "p2pd/operational.json").read_bytes())
    assert did_of_branch(branch, 0) == made.did
    secrets = open_wallet(tmp_path / WALLET_FILE, (tmp_path / UNLOCK_FILE).read_bytes())
    p2pd_bytes = b"".join(path.read_bytes() for path in (tmp_path / "p2pd").iterdir())
    flopd_plain = b"".join(path.read_bytes() for path in (tmp_path / "flopd").iterdir())
    assert secrets.account_secret.encode() not in p2pd_bytes + flopd_plain
    assert branch.private not in repr(secrets)
    for word_set in (p2pd_bytes, flopd_plain):
        assert made.phrase.encode() not in word_set
    again = make_keys(tmp_path / "b", NETWORK, randomness=SeededRandomness(6), made_ms=1, phrase=made.phrase)
    assert (again.did, again.address, again.fund_pubkey) == (made.did, made.address, made.fund_pubkey)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    """A second run refuses and changes nothing: the first keys may hold coins."""
    make_keys(tmp_path, NETWORK, randomness=SeededRandomness(5), made_ms=1)
    before = (tmp_path / WALLET_FILE).read_bytes()
    with pytest.raises(KeysExist):
        make_keys(tmp_path, NETWORK, randomness=SeededRandomness(7), made_ms=2)
    assert (tmp_path / WALLET_FILE).read_bytes() == before


def test_the_phrase_is_kept_until_confirmed(tmp_path: Path) -> None:
    """It can be read again with the passphrase until it is erased; after that, nothing of it is left."""
    made = make_keys(tmp_path, NETWORK, randomness=SeededRandomness(5), made_ms=1, passphrase=b"mine")
    assert not (tmp_path / UNLOCK_FILE).exists()
    assert read_phrase(tmp_path, b"mine") == made.phrase
    with pytest.raises(DoesNotOpen):
        read_phrase(tmp_path, b"not mine")
    erase_phrase(tmp_path)
    assert not (tmp_path / PHRASE_FILE).exists()
    with pytest.raises(PhraseGone):
        read_phrase(tmp_path, b"mine")
    assert made.phrase not in repr(made)

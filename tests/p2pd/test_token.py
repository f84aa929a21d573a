"""The signing key in a PKCS#11 token (SoftHSM2): it signs, rotates, and cannot be read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from common.clock import ManualClock
from common.codec import json_bytes
from common.errors import BadSettings, NotFound
from common.identity.branch import BRANCH_FILE, inception_of, make_branch, operational_seed
from common.identity.keys import SigningKey, is_signed
from common.identity.log import encode_log, read_log
from common.identity.purposes import Purpose
from common.randomness import SeededRandomness
from common.store import Store
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import TOKEN_FILE, load_keys
from dux_p2pd.store import MIGRATIONS, OwnTable
from dux_p2pd.transport_keys import TransportKeys
from tests.p2pd.overlay_kit import network, wait_until
from tests.p2pd.test_council import knows, second_set, settle, takes, types
from tests.p2pd.test_identity_tls import network_of_one_more, typed

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
MADE_MS = 1_790_000_000_000
BRANCH = make_branch(b"t" * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0)

pkcs11 = pytest.importorskip("pkcs11", reason="no python-pkcs11 (pip install python-pkcs11)")
from common.token_session import TokenAway  # noqa: E402 - needs that library
from dux_p2pd.token_keys import Token, TokenSettings  # noqa: E402

pytestmark = [
    pytest.mark.patient,
    pytest.mark.skipif(
        shutil.which("softhsm2-util") is None or not MODULE.exists(), reason="no SoftHSM2 (apt-get install softhsm2)"
    ),
]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh token; p2pd's data directory beside it. One per process: the module reads its settings once."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    words = ["softhsm2-util", "--init-token", "--free", "--label", "dux", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(words, check=True, capture_output=True)
    (folder / "pin").write_text("1234\n")
    return folder


def test_a_node_signs_and_rotates_from_a_token_that_never_gives_its_keys(token: Path, tmp_path: Path) -> None:
    """Signatures verify outside; the rotation uses the next key there; without a further key it says so."""
    log = read_log([inception_of(BRANCH, 0)], now_ms=MADE_MS, inception_bits=0)
    settings = TokenSettings(module=str(MODULE), token="dux", pin_file=str(token / "pin"), log=encode_log(log).hex())
    opened = Token(settings)
    for seq in range(3):
        seed = operational_seed(BRANCH, seq)
        opened.put(seq, seed, SigningKey(seed).public)
        opened.put(seq, seed, SigningKey(seed).public)
    (tmp_path / TOKEN_FILE).write_bytes(json_bytes(settings))
    clock = ManualClock(MADE_MS)
    transport = TransportKeys(tmp_path, SeededRandomness(1), now_ms=MADE_MS, period_s=604_800)
    store = Store.open(None, MIGRATIONS, clock)
    keeper = Keeper(load_keys(tmp_path), transport, OwnTable(store), clock=clock, inception_bits=0)
    assert keeper.did == log.did
    assert is_signed(log.tip.key, Purpose.RECORD, b"body", keeper.sign(Purpose.RECORD, b"body"))
    clock.advance(3600)
    keeper.rotate()
    assert keeper.key_seq == 1
    assert is_signed(keeper.log.tip.key, Purpose.RECORD, b"body", keeper.sign(Purpose.RECORD, b"body"))
    again = Keeper(load_keys(tmp_path), transport, OwnTable(store), clock=clock, inception_bits=0)
    assert again.key_seq == 1
    clock.advance(3600)
    with pytest.raises(NotFound):
        keeper.rotate()  # it would have to commit to a key that is not there

    key = opened._session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="dux-0")
    with pytest.raises(pkcs11.PKCS11Error):
        key[pkcs11.Attribute.VALUE]
    other = TokenSettings(module=str(MODULE), token="unplugged", pin_file=str(token / "pin"), log="")
    with pytest.raises(TokenAway, match="plugged in"):
        Token(other)
    opened.close()
    (tmp_path / TOKEN_FILE).write_text("{}")
    with pytest.raises(BadSettings):
        load_keys(tmp_path)


async def test_a_running_node_s_keys_are_moved_into_a_token_by_a_command(token: Path) -> None:
    """Afterwards the branch is gone from the disk; p2pd rotates, and starts again, from the token alone."""
    async with network(1) as (one,), network_of_one_more(one) as node:
        words = ["token", "--module", str(MODULE), "--token", "dux", "--pin-file", str(token / "pin"), "--keys", "4"]
        folder, did = node.folder / "data" / "p2pd", node.did
        for seq in range(4):
            drop(token, seq)
        assert (await typed(node, *words))["standing"] == "sound"
        assert not (folder / BRANCH_FILE).exists()
        assert (await typed(node, "rotate"))["key_seq"] == 1
        await node.stop()
        await node.start()
        assert (await typed(node, "show"))["did"] == did
        assert node.daemon.net.keeper.key_seq == 1


async def test_a_founder_whose_key_is_in_a_token_signs_what_the_council_agrees_on(token: Path) -> None:
    """No key file is left to sign with: p2pd has the token sign, and another node takes the set for it."""
    async with network(1) as (taker,), network_of_one_more(taker) as founder:
        words = ["token", "--module", str(MODULE), "--token", "dux", "--pin-file", str(token / "pin"), "--keys", "3"]
        for seq in range(4):
            drop(token, seq)
        await typed(founder, *words)
        for node in (founder, taker):
            settle(node, (founder.did,))
        file = second_set((founder.did,), founder.folder)
        await wait_until(knows(taker, founder, 0), "the founder is known")
        assert (await types(founder, "parameters", "sign", str(file))) == (0, {"signatures": 1})
        assert not await takes(taker, file)


def drop(token: Path, seq: int) -> None:
    """Take another test's keys out of the token."""
    opened = Token(TokenSettings(module=str(MODULE), token="dux", pin_file=str(token / "pin"), log=""))
    for found in list(opened._session.get_objects({pkcs11.Attribute.LABEL: f"dux-{seq}"})):
        found.destroy()
    opened.close()

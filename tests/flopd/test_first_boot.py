"""Keys made with nobody present: once, whole, each for its daemon's user, whatever cuts the making off."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from common.chain.address import address_to_script
from common.chain.params import EMBEDDED
from common.contracts.wallet_errors import DoesNotOpen
from common.errors import DuxError, NotFound
from common.identity.branch import decode_branch, did_of_branch
from common.keygen import PAYOUT_FILE, UNLOCK_FILE, WALLET_FILE, open_wallet, read_phrase
from common.network import KeyFileCosts, NetworkProfile
from common.randomness import SystemRandomness
from dux_flopd import first_boot as module
from dux_flopd import keygen, machine_seal
from dux_flopd.first_boot import HalfAKeySet, Made, first_boot, opener_of

CHEAP = KeyFileCosts(memory_kib=64, iterations=1)
NETWORK = NetworkProfile(name="t", chain="embedded", genesis="00" * 32, heights="demo", key_file_costs=CHEAP)
HANDED = ("p2pd/operational.json", WALLET_FILE, PAYOUT_FILE, "keygen/phrase.sealed")


class CutOff(Exception):
    """The power goes."""


def owner(_daemon: str) -> tuple[int, int]:
    return os.getuid(), os.getgid()


def cannot_seal(_passphrase: bytes, _path: Path) -> bool:
    return False


def seals(passphrase: bytes, path: Path) -> bool:
    path.write_bytes(passphrase)
    return True


def boot(data: Path, seal: module.Seal = cannot_seal) -> Made:
    credential = data.parent / "credential"
    randomness = SystemRandomness()
    return first_boot(data, NETWORK, owner=owner, seal=seal, credential=credential, randomness=randomness, made_ms=1)


def test_everything_is_made_and_nothing_is_left_over(tmp_path: Path) -> None:
    """Keys, address and phrase are where the daemons look, for their owner alone; the workshop is gone."""
    data = tmp_path / "data"
    made = boot(data)
    for name in HANDED:
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((data / name).parent.stat().st_mode) == 0o700
    assert did_of_branch(decode_branch((data / HANDED[0]).read_bytes()), NETWORK.inception_bits) == made.did
    assert not (data / module.WORKSHOP).exists()
    assert open_wallet(data / WALLET_FILE, (data / UNLOCK_FILE).read_bytes())


@pytest.mark.parametrize("cut", ["replace", "chown", "fsync"])
@pytest.mark.parametrize("after", range(16))
def test_a_cut_off_at_any_point_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str, after: int
) -> None:
    """Whichever step was the last, the next start leaves one whole set: wallet, phrase, identity of the same words."""
    data, left = tmp_path / "data", [after]
    where = Path if cut == "replace" else os
    real = getattr(where, cut)

    def may_fail(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise CutOff
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(where, cut, may_fail)
        with contextlib.suppress(CutOff):
            boot(data, seals)
    made = boot(data, seals)
    passphrase = (tmp_path / "credential").read_bytes()
    phrase = read_phrase(data, passphrase)
    paid_at = (data / PAYOUT_FILE).read_text()
    shutil.rmtree(data)
    again = module.make_keys(data, NETWORK, randomness=SystemRandomness(), made_ms=1, phrase=phrase)
    assert again.did == made.did
    assert address_to_script(again.address, EMBEDDED).hex() == paid_at


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """Keys that are there are kept, byte for byte."""
    data = tmp_path / "data"
    made = boot(data)
    before = {name: (data / name).read_bytes() for name in HANDED}
    assert boot(data) == made
    assert {name: (data / name).read_bytes() for name in HANDED} == before
    (data / module.MADE_FILE).unlink()  # as when the owner had made the keys before
    assert boot(data).did == made.did
    assert {name: (data / name).read_bytes() for name in HANDED} == before


def test_half_a_key_set_is_not_completed_with_strangers(tmp_path: Path) -> None:
    """An identity whose wallet is gone gets no new wallet: the owner is told to restore."""
    data = tmp_path / "data"
    boot(data)
    (data / WALLET_FILE).unlink()
    (data / module.MADE_FILE).unlink()
    with pytest.raises(HalfAKeySet, match="restore"):
        boot(data)
    assert not (data / WALLET_FILE).exists()


def test_a_sealed_passphrase_lies_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine can seal, there is no unlock file, and the phrase opens through the seal alone."""
    data = tmp_path / "data"
    made = boot(data, seals)
    passphrase = (tmp_path / "credential").read_bytes()
    assert not (data / UNLOCK_FILE).exists()
    assert all(passphrase not in path.read_bytes() for path in data.rglob("*") if path.is_file())
    monkeypatch.setattr(module, "open_on_machine", lambda path: path.read_bytes())
    assert read_phrase(data, opener_of(data, lambda: "not asked")) == read_phrase(data, passphrase)
    (data / module.MADE_FILE).write_bytes(module.json_bytes(Made(did=made.did, credential="")))
    with pytest.raises(DoesNotOpen):
        read_phrase(data, opener_of(data, lambda: "typed by a person"))


def test_a_machine_that_cannot_seal_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No folder for the outcome, or a tool that fails: the answer is no, the reason is told, and no file is left."""
    assert not machine_seal.seal_to_machine(b"secret", tmp_path / "none" / "sealed")
    assert "not sealed" in capfd.readouterr().err


def test_a_failing_seal_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd-creds began to write is taken away when it failed, and its words are told."""
    tool = tmp_path / "systemd-creds"
    tool.write_text('#!/bin/sh\nfor last; do :; done\necho half >"$last"; echo "no key" >&2; exit 1\n')
    tool.chmod(0o755)
    monkeypatch.setattr(machine_seal, "TOOL", str(tool))
    monkeypatch.chdir(tmp_path)  # the tool's last word is «-» when it opens: a file here
    assert not machine_seal.seal_to_machine(b"secret", tmp_path / "sealed")
    assert not (tmp_path / "sealed").exists()
    with pytest.raises(OSError, match="no key"):
        machine_seal.open_on_machine(tmp_path / "sealed")


def test_a_missing_user_is_named() -> None:
    """On a machine where systemd-sysusers has not run, the message says what makes the users."""
    with pytest.raises(NotFound, match="systemd-sysusers"):
        keygen.user_of("no-such-daemon")


def test_the_command_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What goes to the journal at the first boot is the DID and the way to the phrase, not the phrase."""
    config, data = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    profile = "name: t\nchain: embedded\ngenesis: '" + "00" * 32 + "'\nheights: demo\n"
    (config / "network.yaml").write_text(profile + "key_file_costs: {memory_kib: 64, iterations: 1}\n")
    (config / "common.yaml").write_text(f"network_profile: network.yaml\ndata_dir: {data}\nrun_dir: {data}\n")
    monkeypatch.setattr(keygen, "user_of", owner)
    monkeypatch.setattr(keygen, "seal_to_machine", cannot_seal)
    assert keygen.main(["first-boot", "--config", str(config)]) == 0
    told = capsys.readouterr()
    words = read_phrase(data, (data / UNLOCK_FILE).read_bytes().strip()).split()
    assert "did:dux:" in told.out
    assert not set(words) & set((told.out + told.err).split())


def test_every_error_here_says_what_to_do() -> None:
    """The half key set's words are for its owner."""
    assert issubclass(HalfAKeySet, DuxError)
    assert "dux-keygen restore" in HalfAKeySet(path="x").message

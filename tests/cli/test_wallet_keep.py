"""Keeping a wallet: passphrase, backup in place, a coin node of one's own, is all well."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.contracts.wallet_errors import DoesNotOpen
from common.keygen import WALLET_FILE, change_passphrase, make_keys, open_wallet, read_phrase
from common.keys import SubKey
from common.network import KeyFileCosts, NetworkProfile
from common.passphrase import WeakPassphrase, check_strength
from common.randomness import SeededRandomness
from common.settings import load_settings
from common.store import Store
from dux_cli.chain_words import WORDS, in_words
from dux_cli.command import run_main
from dux_cli.main import duxnet
from dux_cli.node_dir import NodeDir
from dux_cli.node_files import ChainLogin, write_config
from dux_cli.supervisor import record_pid
from dux_flopd.backup import seal_books
from dux_flopd.owner_store import OwnerStore
from dux_flopd.recovery import ENDS
from dux_flopd.schema import MIGRATIONS
from dux_flopd.settings import FlopSettings
from dux_flopd.spv_signals import Signal
from dux_p2pd.settings import P2pdSettings

COSTS = KeyFileCosts(memory_kib=64, iterations=1, lanes=1)
PROFILE = NetworkProfile(name="toy", chain="flopcoin-regtest", genesis="00" * 32, heights="demo", key_file_costs=COSTS)
STRONG = "correct horse battery staple wombat"


@pytest.fixture
def node(tmp_path: Path) -> NodeDir:
    """A node that was made and is off."""
    folder = NodeDir(tmp_path / "node")
    make_keys(folder.data, PROFILE, randomness=SeededRandomness(1), made_ms=1)
    folder.config.mkdir(parents=True)
    folder.run.mkdir()
    write_config(folder, PROFILE, index=2, port_base=32760, chain=ChainLogin(peers=("127.0.0.1:18444",)))
    return folder


@pytest.fixture
def run(node: NodeDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    def command(*words: str) -> tuple[int, str]:
        try:
            code = run_main(duxnet, ["wallet", *words, "--node", str(node.path), "--json"])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capsys.readouterr().out

    return command


@pytest.mark.parametrize("weak", ["", "letmein", "Tr0ub4dor", "anna1987", "x" * 2000])
def test_a_passphrase_that_would_be_guessed_is_refused_with_the_reason(weak: str) -> None:
    """Words, names, years, keyboard walks; the passphrase is not repeated."""
    with pytest.raises(WeakPassphrase) as told:
        check_strength(weak)
    assert not weak or weak not in str(told.value)
    check_strength(STRONG)


def test_another_passphrase_opens_wallet_and_phrase_and_the_old_one_nothing(
    node: NodeDir, tmp_path: Path, run: Any
) -> None:
    """The unlock file goes; a wrong old one changes nothing; a weak new one neither; a running node is left alone."""
    old = (node.data / "flopd/unlock.key").read_bytes()
    before = (node.data / WALLET_FILE).read_bytes()
    new, weak = tmp_path / "new", tmp_path / "weak"
    new.write_text(STRONG + "\n")
    weak.write_text("password\n")
    assert run("passphrase", "--new-file", str(weak))[0] == 3
    with pytest.raises(DoesNotOpen):
        change_passphrase(node.data, b"wrong", b"other", COSTS, SeededRandomness(2))
    record_pid(node, "flopd", os.getpid())
    code, told = run("passphrase", "--new-file", str(new))
    assert (code, "duxnet down" in told) == (3, True)
    assert (node.data / WALLET_FILE).read_bytes() == before
    for path in node.path.rglob("*.pid"):
        path.unlink()
    assert run("passphrase", "--new-file", str(new))[0] == 0
    assert not (node.data / "flopd/unlock.key").exists()
    assert open_wallet(node.data / WALLET_FILE, STRONG.encode())
    assert len(read_phrase(node.data, STRONG.encode()).split()) == 12
    with pytest.raises(DoesNotOpen):
        open_wallet(node.data / WALLET_FILE, old)
    mode = (node.data / WALLET_FILE).stat().st_mode
    assert mode & 0o077 == 0


def test_a_change_that_was_cut_off_is_finished_by_repeating_it(node: NodeDir) -> None:
    """The wallet opens with the new one already, the phrase still with the old one."""
    old = (node.data / "flopd/unlock.key").read_bytes()
    phrase = node.data / "keygen/phrase.sealed"
    kept = phrase.read_bytes()
    assert len(change_passphrase(node.data, old, b"new", COSTS, SeededRandomness(2))) == 2
    phrase.write_bytes(kept)
    assert change_passphrase(node.data, old, b"new", COSTS, SeededRandomness(3)) == [phrase]
    assert change_passphrase(node.data, old, b"new", COSTS, SeededRandomness(4)) == []
    phrase.unlink()
    assert len(change_passphrase(node.data, b"new", b"third", COSTS, SeededRandomness(5))) == 1


def test_a_backup_is_put_in_place_of_the_books_that_were_there(node: NodeDir, tmp_path: Path, run: Any) -> None:
    """Its own keys open it; the old books stay beside it, and what is younger than the new ones will be looked for."""
    secrets = open_wallet(node.data / WALLET_FILE, (node.data / "flopd/unlock.key").read_bytes())
    made = Store.open(tmp_path / "made", MIGRATIONS, SystemClock())
    with made.transaction() as tx:
        OwnerStore(made).mark(tx, "from the backup", 7)
    made.close()
    books = (tmp_path / "made").read_bytes()
    file = tmp_path / "wallet.dux"
    file.write_bytes(seal_books(books, secrets.sub_key(SubKey.BACKUP), SeededRandomness(1)))
    store = node.data / "flopd/flopd.sqlite"
    store.write_bytes(b"older")
    assert run("restore", str(file))[0] == 0
    assert (node.data / "flopd/flopd.sqlite.before").read_bytes() == b"older"
    assert sorted(path.name for path in store.parent.glob("flopd.sqlite*")) == ["flopd.sqlite", "flopd.sqlite.before"]
    found = Store.open(store, MIGRATIONS, SystemClock())
    assert [OwnerStore(found).marked(name) for name in ("from the backup", ENDS)] == [7, 0]
    found.close()
    placed = store.read_bytes()
    file.write_bytes(seal_books(books, b"k" * 32, SeededRandomness(1)))
    code, told = run("restore", str(file))
    assert (code, "another wallet" in told, store.read_bytes()) == (3, True, placed)


def test_a_coin_node_of_one_s_own_is_set_up_on_both_sides(node: NodeDir, tmp_path: Path, run: Any) -> None:
    """Its file lets nobody else in; flopd asks it with a login that stands in no setting; p2pd lets flopd out to it."""
    code, _ = run("setup-core", "--datadir", str(tmp_path / "coin"))
    assert code == 0
    conf = (tmp_path / "coin/flopcoin.conf").read_text()
    lines = dict(line.split("=", 1) for line in conf.splitlines() if "=" in line)
    assert (lines["regtest"], lines["rpcbind"], lines["rpcallowip"]) == ("1", "127.0.0.1", "127.0.0.1")
    assert (tmp_path / "coin/flopcoin.conf").stat().st_mode & 0o077 == 0
    flopd = load_settings(node.config, "flopd", FlopSettings, {})
    assert (flopd.source, flopd.node_url) == ("core", f"http://127.0.0.1:{lines['rpcport']}")
    assert Path(flopd.node_password_file).read_text() == f"duxnet:{lines['rpcpassword']}\n"
    allowed = load_settings(node.config, "p2pd", P2pdSettings, {}).egress_allow
    assert allowed == {"flopd": (f"127.0.0.1:{lines['rpcport']}",)}
    assert all(lines["rpcpassword"] not in path.read_text() for path in node.config.iterdir())
    code, told = run("setup-core", "--datadir", str(tmp_path / "coin"))
    assert (code, "exists already" in told) == (3, True)


def test_every_warning_has_words() -> None:
    """What a light wallet can warn of, a person can read."""
    assert set(WORDS) == {signal.value for signal in Signal}
    assert "docs/protocol/spv.md" in in_words("new-one")

"""Keys stay where they are: sealed on disk, opened with the passphrase alone, shown nowhere."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import structs
from structlog.testing import LogCapture

from common.chain.address import BadAddress
from common.contracts import wallet as wallet_contract
from common.contracts.wallet import (
    CONTRACT_NEW_KEY,
    CONTRACT_RESULT_LOCK,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    NewAddress,
    Send,
)
from common.contracts.wallet_contract import NewContractKey, ResultLockAsked
from common.contracts.wallet_errors import DoesNotOpen, WalletLocked
from common.errors import BadSettings, DuxError
from common.keygen import UNLOCK_FILE, WALLET_FILE, open_wallet
from common.network import save_profile
from common.rpc.method import methods_in
from common.units import FLOP, Florins
from dux_flopd import keygen
from dux_flopd.unlock import open_keys, passphrase_from_files
from tests.flopd.coin_node import CoinBench
from tests.flopd.test_crashes import gate
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.wallets import WalletNode


def secret_texts(wallet: WalletNode) -> list[str]:
    """Everything that must appear nowhere."""
    data = wallet.folder / "data"
    secrets = open_wallet(data / WALLET_FILE, (data / UNLOCK_FILE).read_bytes())
    spending = secrets.account().path(0, 0).export()[0].hex()
    unlock = (data / UNLOCK_FILE).read_text()
    return [
        secrets.account_secret,
        secrets.account_chain_code,
        *secrets.sub_keys.values(),
        spending,
        unlock,
        wallet.made.phrase,
    ]


async def test_no_key_in_logs_errors_answers_or_books(wallet: WalletNode) -> None:
    """After payments, mistakes and contract keys, no secret stands in any log line, error, answer or in the store."""
    captured = LogCapture()
    structlog.configure(processors=[captured])
    wallet.log = structlog.get_logger()
    told: list[str] = []
    try:
        async with wallet.running():
            await funded(wallet, 3 * FLOP)
            told += await everything_told(wallet)
    finally:
        structlog.reset_defaults()
    books = "\n".join(sqlite3.connect(wallet.folder / "data/flopd/flopd.sqlite").iterdump())
    haystack = "\n".join([*told, repr(captured.entries), books]).lower()
    assert len(captured.entries) > 5
    for secret in secret_texts(wallet):
        assert secret.lower() not in haystack
        assert secret not in books


async def everything_told(wallet: WalletNode) -> list[str]:
    """Answers and errors of right and wrong calls."""
    lock = ResultLockAsked(nonce=bytes(32))
    right: list[tuple[Any, Any]] = [
        (WALLET_NEW_ADDRESS, NewAddress(request_id="n")),
        (CONTRACT_NEW_KEY, NewContractKey(request_id="k", purpose="seller", nonce=bytes(32))),
        (CONTRACT_RESULT_LOCK, lock),
        (WALLET_SEND, Send(request_id="s", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))),
    ]
    told = [repr(await wallet.call(method, params)) for method, params in right]
    for method in methods_in(wallet_contract):
        if "events" in method.name or "send" in method.name:
            continue
        try:
            told.append(repr(await wallet.call(method, method.example[0])))
        except DuxError as error:
            told.append(f"{error} {error.fields}")
    return told


async def test_a_wrong_passphrase_opens_nothing(wallet: WalletNode) -> None:
    """The daemon does not start with a wrong unlock file, says why without saying the passphrase, and harms no file."""
    data = wallet.folder / "data"
    sealed = (data / WALLET_FILE).read_bytes()
    (data / UNLOCK_FILE).write_text("surely-not-this-one")
    with pytest.raises(DoesNotOpen) as caught:
        async with wallet.running():
            pass
    assert "surely-not" not in str(caught.value)
    assert (data / WALLET_FILE).read_bytes() == sealed


async def test_without_a_passphrase_it_follows_but_does_not_pay(wallet: WalletNode) -> None:
    """With nobody to ask, the chain is followed and payments say how to unlock."""
    async with wallet.running():
        await funded(wallet, 3 * FLOP)
    (wallet.folder / "data" / UNLOCK_FILE).unlink()
    async with wallet.running():
        status = await wallet.status()
        assert not status.unlocked
        assert (await wallet.balance()).total_florins == 3 * FLOP
        wish = Send(request_id="s", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        with pytest.raises(WalletLocked):
            await wallet.call(WALLET_SEND, wish)
        assert (await wallet.balance()).spendable_florins == 3 * FLOP


def test_credential_file_and_prompt(tmp_path: Path, wallet: WalletNode) -> None:
    """Systemd's credential comes first, then the unlock file, then the person; a person may mistype twice."""
    data = wallet.folder / "data"
    right = (data / UNLOCK_FILE).read_text()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "passphrase").write_text(right + "\n")
    nothing = tmp_path / "nothing"
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert passphrase_from_files(nothing, environment) == right.encode()
    assert passphrase_from_files(nothing, {}) is None
    assert open_keys(data / WALLET_FILE, nothing, environment, None) is not None
    assert open_keys(data / WALLET_FILE, nothing, {}, None) is None
    answers = iter(["no", "neither", right])
    assert open_keys(data / WALLET_FILE, nothing, {}, lambda: next(answers)) is not None
    with pytest.raises(DoesNotOpen):
        open_keys(data / WALLET_FILE, nothing, {}, lambda: "no")
    with pytest.raises(BadSettings):
        open_keys(nothing, nothing, environment, None)


def test_keygen_from_the_command_line(
    tmp_path: Path, wallet: WalletNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make prints the phrase once, refuses a second time; show and confirm work; restore gives the same identity."""
    config = tmp_path / "config"
    config.mkdir()
    save_profile(wallet.network, config / "network.yaml")
    text = "network_profile: network.yaml\ndata_dir: {data}\nrun_dir: {data}\n"
    (config / "common.yaml").write_text(text.format(data=tmp_path / "new"))
    assert keygen.main(["make", "--config", str(config)]) == 0
    made = capsys.readouterr().out
    assert keygen.main(["make", "--config", str(config)]) == 1
    assert keygen.main(["show", "--config", str(config)]) == 0
    phrase = capsys.readouterr().out.strip()
    assert phrase in made
    assert len(phrase.split()) == 12
    assert keygen.main(["confirm", "--config", str(config)]) == 0
    assert keygen.main(["show", "--config", str(config)]) == 1
    capsys.readouterr()
    (config / "common.yaml").write_text(text.format(data=tmp_path / "restored"))
    monkeypatch.setattr("dux_flopd.keygen._ask", lambda _prompt: phrase)
    assert keygen.main(["restore", "--config", str(config)]) == 0
    restored = capsys.readouterr().out
    address = made.split("address")[1].split()[0]
    assert address in restored
    assert phrase not in restored


@pytest.mark.parametrize(
    "address", ["0x52908400098527886E0F7030069857D2E4169EE7", "F" * 34, "", "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY9"]
)
async def test_foreign_and_mistyped_addresses_are_refused(wallet: WalletNode, address: str) -> None:
    """Nothing is paid to an address of another coin or with a wrong check sum."""
    async with wallet.running():
        await funded(wallet, 3 * FLOP)
        with pytest.raises(BadAddress):
            await wallet.call(WALLET_SEND, Send(request_id="s", address=address, amount_florins=Florins(FLOP)))
        assert (await wallet.balance()).spendable_florins == 3 * FLOP


async def test_a_node_on_another_chain_is_not_read(wallet: WalletNode, bench: CoinBench) -> None:
    """The genesis hash decides: a node of another network ends the daemon before a block is read."""
    wallet.network = structs.replace(wallet.network, genesis="11" * 32)
    with pytest.raises(ExceptionGroup) as caught:
        async with wallet.running():
            pass
    assert bench.genesis in repr(caught.value.exceptions)


async def test_a_node_that_is_away_is_waited_for(wallet: WalletNode) -> None:
    """While the coin node is down the daemon says so and stays up; it goes on when the node answers again."""
    async with gate(wallet.bench) as passage:
        passage.is_shut = False
        wallet.changes = {"node_url": f"http://127.0.0.1:{passage.port}/"}
        async with wallet.running():
            passage.is_broken = True
            await wallet.until(lambda: _problem(wallet), "the problem is told")
            wallet.bench.mine()
            passage.is_broken = False
            await wallet.synced()
            assert (await wallet.status()).problems == []


async def _problem(wallet: WalletNode) -> bool:
    status = await wallet.status()
    return bool(status.problems) and not status.synced

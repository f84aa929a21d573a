"""One phrase brings everything back: accounts, bonds, contract keys; and a backup what only the books knew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.accounts import TOKEN_ACCOUNT
from common.chain.address import address_to_script, pay_to_key
from common.clock import SystemClock
from common.contracts.wallet import (
    CONTRACT_FIND_KEY,
    CONTRACT_NEW_KEY,
    WALLET_ACCOUNT,
    WALLET_ACCOUNTS,
    WALLET_BACKUP,
    WALLET_BOND_MAKE,
    WALLET_BONDS,
    WALLET_HISTORY,
    WALLET_LABEL,
    WALLET_NEW_ADDRESS,
    WALLET_RECOVER,
    WALLET_RECOVERY,
    WALLET_SEND,
    HistoryAsked,
    NewAddress,
)
from common.contracts.wallet_accounts import OpenAccount
from common.contracts.wallet_bonds import MakeBond
from common.contracts.wallet_contract import NewContractKey
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NoSuchAccount
from common.contracts.wallet_recovery import FindContractKey, Recover
from common.contracts.wallet_tools import Label
from common.errors import NewerSchema
from common.keygen import BRANCH_RECEIVE, open_wallet
from common.keys import SubKey, account_node, seed_of, sub_key
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_flopd import backup
from dux_flopd.backup import NEWEST, OLDER, BadBackup, NotBackedUp, open_books, restore_books, seal_books
from dux_flopd.recovery import Recoverer
from tests.flopd.coin_node import CoinBench, embedded
from tests.flopd.test_payments import funded
from tests.flopd.test_tools import to_bank
from tests.flopd.wallets import WalletNode

pytestmark = pytest.mark.patient


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinBench]:
    """The embedded chain alone: nothing here hangs on a chain's opinion."""
    with embedded(tmp_path_factory.mktemp("chain")) as bench:
        yield bench


async def with_everything(wallet: WalletNode) -> tuple[int, bytes]:
    """Coins in the node's account and in a second one, a bond, a contract key; what all of it is worth, and the key."""
    await funded(wallet, 9 * FLOP)
    await wallet.call(WALLET_ACCOUNT, OpenAccount(request_id="a", name="savings"))
    addresses = [
        (await wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id=f"n{at}", account=1))).address for at in range(31)
    ]
    for address in (addresses[12], addresses[30]):  # the second lies more than a gap behind the first key
        wallet.bench.pay((address_to_script(address, wallet.bench.family), 4 * FLOP))
    until = wallet.bench.height + 30
    made = await wallet.call(WALLET_BOND_MAKE, MakeBond(request_id="b", amount_florins=Florins(2 * FLOP), until=until))
    keys = [
        await wallet.call(
            CONTRACT_NEW_KEY, NewContractKey(request_id=f"k{at}", purpose="buyer", nonce=bytes([at]) * 32)
        )
        for at in range(3)
    ]
    await wallet.in_node(made.txid)
    wallet.bench.mine()
    await wallet.synced()
    return 9 * FLOP + 8 * FLOP - 2 * FLOP - int(made.fee_florins), keys[2].pubkey


async def recovered(wallet: WalletNode) -> None:
    async def done() -> bool:
        return (await wallet.call(WALLET_RECOVERY, Empty())).state == "done"

    await wallet.until(done, "recovered")


@pytest.mark.parametrize("source", ["core", "spv"])
async def test_a_phrase_brings_back_accounts_bonds_and_contract_keys(
    wallet: WalletNode, tmp_path: Path, source: str
) -> None:
    """A wallet of the same words, without any file of the first, holds the same coins, and asks nobody for more."""
    wallet.bench.source = source
    async with wallet.running():
        worth, key = await with_everything(wallet)
        assert (await wallet.call(WALLET_RECOVERY, Empty())).state == "never"
    again = WalletNode(
        tmp_path / "again", wallet.bench, phrase=wallet.made.phrase, birth_height=max(0, wallet.bench.height - 20)
    )
    async with again.running():
        await recovered(again)
        held = {one.number: one.confirmed_florins for one in (await again.call(WALLET_ACCOUNTS, Empty())).accounts}
        assert (sum(held.values()), held[1]) == (worth, 8 * FLOP)
        bonds = (await again.call(WALLET_BONDS, Empty())).bonds
        assert [bond.locked_florins for bond in bonds] == [2 * FLOP]
        fresh = await again.call(CONTRACT_NEW_KEY, NewContractKey(request_id="g", purpose="buyer", nonce=b"\x09" * 32))
        assert fresh.index > 2  # a key of a contract that may still be open is not given out again
        find = FindContractKey(request_id="f", purpose="buyer", nonce=b"\x02" * 32, public_key=key)
        found = await again.call(CONTRACT_FIND_KEY, find, "escrowd")
        assert (found.pubkey, found.index) == (key, 2)
        with pytest.raises(KeyUsed):
            await again.call(
                CONTRACT_FIND_KEY,
                FindContractKey(request_id="h", purpose="seller", nonce=b"\x03" * 32, public_key=key),
                "escrowd",
            )
        with pytest.raises(KeyNotOurs):
            await again.call(
                CONTRACT_FIND_KEY,
                FindContractKey(request_id="i", purpose="buyer", nonce=b"\x03" * 32, public_key=b"\x02" + bytes(32)),
                "escrowd",
            )
    async with again.running():
        assert (await again.call(WALLET_RECOVERY, Empty())).state == "done"
        looked = await again.call(WALLET_RECOVER, Recover(request_id="r", from_height=again.bench.height))
        assert looked.state == "looking"
        await recovered(again)


@pytest.mark.parametrize(
    ("is_open", "restored", "told"), [(True, True, "looking"), (True, False, "never"), (False, True, "never")]
)
def test_a_search_that_will_begin_counts_as_begun(is_open: bool, restored: bool, told: str) -> None:  # noqa: FBT001
    """Before the chain is read nothing was looked for yet; who asks then must wait for the coins all the same."""
    keyring = SimpleNamespace(is_open=is_open, is_restored=lambda: restored)
    wallet: Any = SimpleNamespace(keyring=keyring, owner_store=SimpleNamespace(marked=lambda _name: None))
    none: Any = None
    assert Recoverer(wallet, none, 1, 0, none)._told() == told


async def test_coins_of_a_lost_token_are_found_and_wait_for_another(wallet: WalletNode, tmp_path: Path) -> None:
    """The account for a token: seen with the phrase's words alone, and never spent without a token."""
    account = account_node(seed_of(wallet.made.phrase), wallet.bench.family.coin_type, TOKEN_ACCOUNT).watcher
    wallet.bench.pay((pay_to_key(account.path(BRANCH_RECEIVE, 11).public), 3 * FLOP))
    wallet.bench.mine()
    again = WalletNode(
        tmp_path / "again", wallet.bench, phrase=wallet.made.phrase, birth_height=max(0, wallet.bench.height - 20)
    )
    async with again.running():
        await recovered(again)
        shown = {one.number: one.confirmed_florins for one in (await again.call(WALLET_ACCOUNTS, Empty())).accounts}
        assert shown == {0: 0, TOKEN_ACCOUNT: 3 * FLOP}
        with pytest.raises(NoSuchAccount):
            await again.call(WALLET_SEND, to_bank(again, "t", FLOP, account=TOKEN_ACCOUNT))
    data = again.folder / "data/flopd"
    secrets = open_wallet(data / "wallet.key", (data / "unlock.key").read_bytes())
    assert secrets.token_account == (
        account.public.hex(),
        account.chain_code.hex(),
    )  # of that account, no more than this


async def test_a_backup_brings_back_what_only_the_books_knew(wallet: WalletNode, tmp_path: Path) -> None:
    """Taken on the timer, opened with the phrase alone; two generations; a label and a history come back."""
    wallet.changes = {"backup_interval": 1}
    folder = wallet.folder / "data/flopd/backup"
    async with wallet.running():
        await funded(wallet, 9 * FLOP)
        await wallet.call(WALLET_LABEL, Label(name=wallet.made.address, label="from Anna"))
        await wallet.until((folder / OLDER).exists, "two copies on the timer")
        made = await wallet.call(WALLET_BACKUP, Empty())
        history = await wallet.call(WALLET_HISTORY, HistoryAsked())
    newest = (folder / NEWEST).stat()
    assert (made.path, made.bytes, newest.st_mode & 0o077) == (str(folder / NEWEST), newest.st_size, 0)
    secret = sub_key(seed_of(wallet.made.phrase), SubKey.BACKUP)
    again = WalletNode(tmp_path / "again", wallet.bench, phrase=wallet.made.phrase)
    restore_books(folder / NEWEST, secret, again.folder / "data/flopd/flopd.sqlite", SystemClock())
    async with again.running():
        assert await again.call(WALLET_HISTORY, HistoryAsked()) == history
        assert "from Anna" in str(again.daemon.parts.table.store.rows("SELECT label FROM labels")[0]["label"])
    restore_books(folder / NEWEST, secret, again.folder / "data/flopd/flopd.sqlite", SystemClock())
    assert (again.folder / "data/flopd/flopd.sqlite.before").exists()


async def test_a_bond_that_is_younger_than_the_backup_is_found_by_itself(wallet: WalletNode) -> None:
    """Nobody says `recover`: restored books end at a height, and the wallet looks from there on, once."""
    async with wallet.running():
        await funded(wallet, 9 * FLOP)
        made = await wallet.call(WALLET_BACKUP, Empty())
        until = wallet.bench.height + 30
        bond = MakeBond(request_id="b", amount_florins=Florins(2 * FLOP), until=until)
        await wallet.in_node((await wallet.call(WALLET_BOND_MAKE, bond)).txid)
        wallet.bench.mine()
        await wallet.synced()
    secret = sub_key(seed_of(wallet.made.phrase), SubKey.BACKUP)
    store = wallet.folder / "data/flopd/flopd.sqlite"
    restore_books(Path(made.path), secret, store, SystemClock())
    for _ in range(2):
        async with wallet.running():
            await recovered(wallet)
            assert [one.locked_florins for one in (await wallet.call(WALLET_BONDS, Empty())).bonds] == [2 * FLOP]
            asked = wallet.daemon.parts.table.store.rows("SELECT kind FROM audit WHERE kind = 'recovered'")
            assert len(asked) == 1


@pytest.mark.one_source
async def test_a_restore_that_is_cut_off_changes_nothing(wallet: WalletNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it before the books are ready: those that stand stay; repeated, it goes on, and looks beyond."""
    async with wallet.running():
        made = await wallet.call(WALLET_BACKUP, Empty())
    secret = sub_key(seed_of(wallet.made.phrase), SubKey.BACKUP)
    store = wallet.folder / "data/flopd/flopd.sqlite"
    before = store.read_bytes()

    def cut_off(_books: Path, _clock: SystemClock) -> None:
        raise NewerSchema(path="it", found=9, known=8)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "look_beyond", cut_off)
        with pytest.raises(NewerSchema):
            restore_books(Path(made.path), secret, store, SystemClock())
    assert store.read_bytes() == before
    restore_books(Path(made.path), secret, store, SystemClock())
    assert sorted(one.name for one in store.parent.glob("flopd.sqlite*")) == ["flopd.sqlite", "flopd.sqlite.before"]
    assert store.stat().st_mode & 0o077 == 0
    async with wallet.running():
        await recovered(wallet)


async def test_a_backup_that_cannot_be_written_is_told_and_ends_nothing(wallet: WalletNode, tmp_path: Path) -> None:
    """A folder that is none: the owner is told by the call and by the daemon's state; the wallet goes on."""
    (tmp_path / "file").write_text("")
    wallet.changes = {"wallet_backup_dir": str(tmp_path / "file" / "below"), "backup_interval": 1}
    async with wallet.running():
        with pytest.raises(NotBackedUp, match="wallet_backup_dir"):
            await wallet.call(WALLET_BACKUP, Empty())
        await wallet.until(lambda: any("backed up" in one() for one in wallet.daemon.parts.problems), "it is told")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 1.2)  # the timer fails, too
        assert (await wallet.status()).unlocked


def test_a_backup_opens_for_its_own_phrase_and_unchanged() -> None:
    """Every changed byte is noticed; another wallet's key opens nothing; what is no backup says so."""
    books = b"SQLite format 3\x00" + b"x" * 500
    sealed = seal_books(books, b"k" * 32, SeededRandomness(1))
    assert open_books(sealed, b"k" * 32, "f") == books
    assert books[:20] not in sealed
    wrongs = [(sealed, b"j" * 32), (sealed[:-1], b"k" * 32), (b"other" + sealed, b"k" * 32), (sealed[:30], b"k" * 32)]
    wrongs += [(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"k" * 32) for at in (0, 24, 40, 60, -1)]
    wrongs += [(seal_books(b"no store", b"k" * 32, SeededRandomness(1)), b"k" * 32)]
    for data, key in wrongs:
        with pytest.raises(BadBackup):
            open_books(data, key, "f")

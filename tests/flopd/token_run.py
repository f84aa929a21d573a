"""What test_coin_token.py runs in a process whose token module has seen no other token."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest

from common.accounts import TOKEN_ACCOUNT
from common.chain.address import address_to_script
from common.chain.params import family_named
from common.codec import json_bytes
from common.contracts.wallet import (
    WALLET_ACCOUNTS,
    WALLET_LOCK,
    WALLET_NEW_ADDRESS,
    WALLET_SEND,
    NewAddress,
)
from common.contracts.wallet_errors import NoSuchAccount, WalletLocked
from common.errors import BadSettings
from common.keygen import BRANCH_CHANGE, BRANCH_RECEIVE, open_wallet
from common.keys import account_node, seed_of
from common.rpc.method import Empty
from common.token_session import TokenAway
from common.units import FLOP
from dux_flopd.coin_token import CoinToken, CoinTokenSettings, NotInToken, load_token, put_keys
from tests.flopd.coin_node import CoinBench, embedded
from tests.flopd.test_tools import to_bank
from tests.flopd.wallets import WalletNode

FOLDER = Path(os.environ.get("DUX_TOKEN_RUN", "/nowhere"))
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
KEYS = 3


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinBench]:
    """The embedded chain alone: nothing here hangs on a chain's opinion."""
    with embedded(tmp_path_factory.mktemp("chain")) as bench:
        yield bench


async def test_account_nine_is_the_token_s(wallet: WalletNode) -> None:
    """Its payments are taken by the node; its secrets are in no file of flopd; without the token nothing is signed."""
    family = family_named(wallet.network.chain)
    account = account_node(seed_of(wallet.made.phrase), family.coin_type, TOKEN_ACCOUNT)
    settings = CoinTokenSettings(
        module=MODULE,
        token="coins",
        pin_file=str(FOLDER / "pin"),
        public_key=account.public,
        chain_code=account.chain_code,
    )
    data = wallet.folder / "data/flopd"
    branches = (BRANCH_RECEIVE, BRANCH_CHANGE)
    assert put_keys(data, settings, account, branches, KEYS) == 2 * KEYS
    assert put_keys(data, settings, account, branches, KEYS) == 0
    secrets = open_wallet(data / "wallet.key", (data / "unlock.key").read_bytes())
    assert account.export()[0].hex() not in str(secrets.further)
    async with wallet.running():
        asked = NewAddress(request_id="a", account=TOKEN_ACCOUNT)
        address = (await wallet.call(WALLET_NEW_ADDRESS, asked)).address
        wallet.bench.pay((address_to_script(address, family), 5 * FLOP))
        wallet.bench.mine()
        await wallet.synced()
        held = {one.number: one.confirmed_florins for one in (await wallet.call(WALLET_ACCOUNTS, Empty())).accounts}
        assert held == {0: 0, TOKEN_ACCOUNT: 5 * FLOP}
        sent = await wallet.call(WALLET_SEND, to_bank(wallet, "b", FLOP, account=TOKEN_ACCOUNT))
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.synced()
        again = await wallet.call(WALLET_SEND, to_bank(wallet, "c", FLOP, account=TOKEN_ACCOUNT))
        await wallet.in_node(again.txid)
        wallet.bench.mine()
        await wallet.synced()
        await wallet.call(WALLET_LOCK, Empty())
        with pytest.raises(WalletLocked):
            await wallet.call(WALLET_SEND, to_bank(wallet, "d", FLOP, account=TOKEN_ACCOUNT))
    (data / "token.json").write_bytes(json_bytes(CoinTokenSettings(**{**_fields(settings), "token": "unplugged"})))
    async with wallet.running():
        assert any("plugged in" in one() for one in wallet.daemon.parts.problems)
        shown = {one.number: one.confirmed_florins for one in (await wallet.call(WALLET_ACCOUNTS, Empty())).accounts}
        assert shown.keys() == {0, TOKEN_ACCOUNT}  # what lies there is seen without it
        assert 0 < shown[TOKEN_ACCOUNT] < 3 * FLOP
        with pytest.raises(NoSuchAccount):
            await wallet.call(WALLET_SEND, to_bank(wallet, "e", FLOP, account=TOKEN_ACCOUNT))
    (data / "token.json").write_bytes(json_bytes(settings))
    token = load_token(data)
    with pytest.raises(NotInToken, match="coin-0-3"):
        token.sign(BRANCH_RECEIVE, KEYS, bytes(32))
    key = token._open.session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="coin-0-0")
    with pytest.raises(pkcs11.PKCS11Error):
        key[pkcs11.Attribute.VALUE]
    token.close()
    with pytest.raises(TokenAway, match="plugged in"):
        CoinToken(CoinTokenSettings(**{**_fields(settings), "token": "unplugged"}))
    (data / "token.json").write_bytes(json_bytes({"module": "x"}))
    with pytest.raises(BadSettings):
        load_token(data)


def _fields(settings: CoinTokenSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}

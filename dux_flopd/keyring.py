"""Holds the opened keys and signs with them. Nothing else in the project has a coin key in memory.

It signs digests of transactions that its callers in this daemon built, and hands out public keys, scripts and result
keys. It can be shut: then everything that needs a key is `WalletLocked`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from common.accounts import ACCOUNT_SHIFT, TOKEN_ACCOUNT
from common.ceremony import KEYS_MAX
from common.chain.address import pay_to_key
from common.chain.script import key_sig
from common.chain.tx import Tx, sighash
from common.contracts.wallet_errors import NoSuchAccount, WalletLocked
from common.keygen import BRANCH_CONTRACT, BRANCH_FUND, BRANCH_PAYOUT, BRANCH_RECEIVE, WalletSecrets
from common.keys import CoinNode, CoinPublicNode, SubKey
from dux_flopd.model import OwnCoin

TOKEN_FILE = "token.json"  # noqa: S105 - in flopd's folder, where a token holds keys


class TokenSigner(Protocol):
    """What signs for the account whose secrets are not here."""

    @property
    def account(self) -> CoinPublicNode:
        """Its public half."""
        ...

    def sign(self, branch: int, index: int, digest: bytes) -> bytes:
        """DER, low S, SIGHASH_ALL behind it."""
        ...


class Keyring:
    """The wallet's keys, open or shut."""

    def __init__(self, unlock_file: str) -> None:
        self._unlock_file = unlock_file
        self.token: TokenSigner | None = None
        self._secrets: WalletSecrets | None = None
        self._branches: dict[int, CoinNode] = {}
        self._channels: dict[int, CoinNode] = {}  # of channels: thousands of signatures with one key

    def __repr__(self) -> str:
        return f"Keyring({'open' if self.is_open else 'shut'})"

    @property
    def is_open(self) -> bool:
        """Whether it can sign."""
        return self._secrets is not None

    def open(self, secrets: WalletSecrets) -> None:
        """Hold these keys."""
        self._secrets = secrets
        self._branches, self._channels = {}, {}

    def shut(self) -> None:
        """Let go of the keys; Python forgets them when it collects them."""
        self._secrets = None
        self._branches, self._channels = {}, {}

    def birth_height(self) -> int:
        """No own coin lies below this height."""
        return self._held().birth_height

    def public(self, branch: int, index: int) -> bytes:
        """A public key."""
        account, number = divmod(branch, 1 << ACCOUNT_SHIFT)
        if account == TOKEN_ACCOUNT:
            return self.account_watcher(account).path(number, index).public
        return self._node(branch, index).public

    def script(self, branch: int, index: int) -> bytes:
        """The output script that pays an own key."""
        return pay_to_key(self.public(branch, index))

    def contract_public(self, index: int) -> bytes:
        """The public key of one lot."""
        return self.public(BRANCH_CONTRACT, index)

    def payout_script(self, index: int) -> bytes:
        """Where the owner is paid by the contract with the key of the same number."""
        return self.script(BRANCH_PAYOUT, index)

    def fund_public(self, number: int = 0) -> bytes:
        """A custodian key; number 0 is the one from the start, later ones are made in key ceremonies."""
        return self.public(BRANCH_FUND, number)

    def fund_number(self, pubkeys: tuple[bytes, ...]) -> int | None:
        """Which own custodian key is among these; None: none."""
        return next((number for number in range(KEYS_MAX) if self.fund_public(number) in pubkeys), None)

    def sign_contract(self, index: int, digest: bytes) -> bytes:
        """The lot key's signature."""
        return self._node(BRANCH_CONTRACT, index).sign(digest)

    def sign_fund(self, digest: bytes, number: int = 0) -> bytes:
        """A custodian key's signature."""
        return self._node(BRANCH_FUND, number).sign(digest)

    def sign_channel(self, index: int, digest: bytes) -> bytes:
        """The channel key's signature without a hash type: of a message, or of a state that adds its own."""
        if index not in self._channels:
            self._channels[index] = self._node(BRANCH_CONTRACT, index)
        return self._channels[index].sign(digest)[:-1]

    def account_watcher(self, account: int) -> CoinPublicNode:
        """The public half of an account; that for a token is known also while the token is away.

        Raises:
            WalletLocked, NoSuchAccount: it is shut, or knows of no account for a token.
        """
        if account != TOKEN_ACCOUNT:
            return self._held().account(account).watcher
        watcher = self._held().token_watcher() if self.token is None else self.token.account
        if watcher is None:
            raise NoSuchAccount(number=TOKEN_ACCOUNT)
        return watcher

    @property
    def sees_token_account(self) -> bool:
        """Whether the addresses of the account for a token can be told; an open wallet is asked."""
        return self.token is not None or self._held().token_watcher() is not None

    def sign_at(self, branch: int, index: int, digest: bytes) -> bytes:
        """An own key's signature of a spend that its caller built here."""
        account, number = divmod(branch, 1 << ACCOUNT_SHIFT)
        if account == TOKEN_ACCOUNT:
            return self._token().sign(number, index, digest)
        return self._node(branch, index).sign(digest)

    def _token(self) -> TokenSigner:
        """The token, for a wallet that is open: who has the PIN file alone signs nothing through flopd.

        Raises:
            WalletLocked, NoSuchAccount: it is shut, or has no token.
        """
        self._held()
        if self.token is None:
            raise NoSuchAccount(number=TOKEN_ACCOUNT)
        return self.token

    def backup_key(self) -> bytes:
        """What seals backups; the phrase brings it back, and it opens no coin."""
        return self._held().sub_key(SubKey.BACKUP)

    def is_restored(self) -> bool:
        """Whether these keys came from a phrase that was typed in."""
        return self._held().restored

    def made_ms(self) -> int:
        """When the keys were made."""
        return self._held().made_ms

    def sign_link(self, digest: bytes) -> bytes:
        """The first receiving key's signature of a coin link: plain DER, so that no transaction takes it."""
        return self._node(BRANCH_RECEIVE, 0).sign(digest)[:-1]

    def sign_message(self, branch: int, index: int, digest: bytes) -> bytes:
        """An own key's recoverable signature of a titled message: 65 bytes, r, s and the key's number."""
        return self._node(branch, index).sign_recoverable(digest)

    def sign_payment(self, tx: Tx, coins: tuple[OwnCoin, ...]) -> Tx:
        """The payment with every input signed; `coins` in the order of the inputs."""
        return tx.signed([self._input(tx, at, owned) for at, owned in enumerate(coins)])

    def result_key(self, seller_nonce: bytes, lot: int) -> bytes:
        """K of a lot: derived, so that phrase and nonce bring it back (escrow_protocol.md §3)."""
        message = b"result" + seller_nonce + lot.to_bytes(4, "big")
        return hmac.new(self._held().sub_key(SubKey.ESCROW_RESULT), message, hashlib.sha256).digest()

    def blob_key(self) -> bytes:
        """What copies of contracts are found and opened with (32 bytes): escrowd's, and of no use for coins."""
        message = b"duxnet/escrow-copy/v1"
        return hmac.new(self._held().sub_key(SubKey.ESCROW_BLOB), message, hashlib.sha256).digest()

    def _input(self, tx: Tx, at: int, owned: OwnCoin) -> bytes:
        digest = sighash(tx, at, owned.coin.script)
        return key_sig(self.sign_at(owned.branch, owned.index, digest), self.public(owned.branch, owned.index))

    def _node(self, branch: int, index: int) -> CoinNode:
        if branch not in self._branches:
            account, number = divmod(branch, 1 << ACCOUNT_SHIFT)
            self._branches[branch] = self._held().account(account).child(number)
        return self._branches[branch].child(index)

    def _held(self) -> WalletSecrets:
        if self._secrets is None:
            raise WalletLocked(unlock_file=self._unlock_file)
        return self._secrets

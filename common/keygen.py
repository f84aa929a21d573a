"""Makes a node's keys from one phrase and writes for each daemon only what it needs.

    DATA/p2pd/operational.json   the operational identity branch; p2pd never sees the phrase or a recovery key
    DATA/flopd/wallet.key        sealed: coin account key and sub-keys
    DATA/flopd/unlock.key        what opens it without a person, where the owner gave no passphrase
    DATA/keygen/phrase.sealed    the phrase, until the owner confirms having written it down

Every file is readable by its owner alone. The phrase is the sole holder of the recovery branch. Source: settled.md 1.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.accounts import ACCOUNTS_MAX, TOKEN_ACCOUNT
from common.chain.address import address_to_script, pay_to_key, script_to_address
from common.chain.params import family_named
from common.codec import Wire, from_json, json_bytes
from common.contracts.wallet_errors import DoesNotOpen
from common.errors import CallerMistake
from common.identity.branch import BRANCH_FILE, did_of_branch, encode_branch, make_branch
from common.keyfile import read_limited, seal, unseal, write_private
from common.keys import CoinNode, CoinPublicNode, SubKey, account_node, new_phrase, seed_of, sub_key
from common.network import KeyFileCosts, NetworkProfile
from common.randomness import Randomness
from common.units import Did

WALLET_FILE = "flopd/wallet.key"
UNLOCK_FILE = "flopd/unlock.key"
PHRASE_FILE = "keygen/phrase.sealed"
PAYOUT_FILE = "registryd/payout.script"  # left for an unattended node, see `leave_payout`
WALLET_SEAL = "wallet"
PHRASE_SEAL = "phrase"
UNLOCK_BYTES = 32

INCEPTION_MS = 1_577_836_800_000  # in every inception alike, so that the phrase alone tells the DID

BRANCH_RECEIVE, BRANCH_CHANGE, BRANCH_CONTRACT, BRANCH_PAYOUT, BRANCH_FUND, BRANCH_BOND, BRANCH_SHARED = range(7)


class KeysExist(CallerMistake):
    """{path} exists: this node has its keys. A second set would lose the coins of the first; use another folder."""

    code = 2033
    key = "keys-exist"


class PhraseGone(CallerMistake):
    """{path} is gone: the phrase was confirmed as written down and erased, and cannot be shown again."""

    code = 2034
    key = "phrase-gone"


class WalletSecrets(Wire, frozen=True):
    """What flopd's sealed file holds, in hex; `birth_height`: no coin of ours lies below."""

    account_secret: str
    account_chain_code: str
    sub_keys: dict[str, str]
    made_ms: int
    birth_height: int
    further: tuple[tuple[str, str], ...] = ()  # secret and chain code of accounts 1, 2, …
    restored: bool = False  # from a phrase: what it had before has to be looked for
    token_account: tuple[str, str] = ("", "")  # public key and chain code of account 9, whose secrets are no file's

    def __repr__(self) -> str:
        return f"WalletSecrets(made_ms={self.made_ms})"

    def account(self, number: int = 0) -> CoinNode:
        """A coin account node.

        Raises:
            IndexError: these keys have no such account.
        """
        texts = ((self.account_secret, self.account_chain_code), *self.further)[number]
        return CoinNode(*(bytes.fromhex(text) for text in texts))

    def token_watcher(self) -> CoinPublicNode | None:
        """The public half of the account for a token; None in files made before it stood there."""
        public, chain_code = (bytes.fromhex(text) for text in self.token_account)
        return CoinPublicNode(public, chain_code) if public else None

    def sub_key(self, purpose: SubKey) -> bytes:
        """The secret of one purpose."""
        return bytes.fromhex(self.sub_keys[purpose.value])


class KeysMade(Wire, frozen=True):
    """The node's DID, its first address, its custodian key (hex), and `phrase` for its owner's eyes alone."""

    did: Did
    address: str
    fund_pubkey: str
    phrase: str

    def __repr__(self) -> str:
        return f"KeysMade(did={self.did})"


def secrets_of(
    seed: bytes, coin_type: int, made_ms: int, birth_height: int, *, restored: bool = False
) -> WalletSecrets:
    """What flopd gets of a seed."""
    (secret, chain_code), *further = (
        account_node(seed, coin_type, number).export() for number in range(1 + ACCOUNTS_MAX)
    )
    token = account_node(seed, coin_type, TOKEN_ACCOUNT).watcher
    return WalletSecrets(
        account_secret=secret.hex(),
        account_chain_code=chain_code.hex(),
        sub_keys={purpose.value: sub_key(seed, purpose).hex() for purpose in SubKey},
        made_ms=made_ms,
        birth_height=birth_height,
        further=tuple((one.hex(), other.hex()) for one, other in further),
        restored=restored,
        token_account=(token.public.hex(), token.chain_code.hex()),
    )


def make_keys(
    data: Path,
    network: NetworkProfile,
    *,
    randomness: Randomness,
    made_ms: int,
    phrase: str = "",
    passphrase: bytes = b"",
    birth_height: int = 0,
) -> KeysMade:
    """Make (or, with `phrase`, restore) a node's keys below `data`. No `passphrase`: an unlock file is made.

    Raises:
        KeysExist: there are keys already; nothing is changed.
        BadPhrase: the given phrase is none.
    """
    for name in (WALLET_FILE, f"p2pd/{BRANCH_FILE}"):
        if (data / name).exists():
            raise KeysExist(path=str(data / name))
    words = phrase or new_phrase(randomness)
    seed, family = seed_of(words), family_named(network.chain)
    secrets = secrets_of(seed, family.coin_type, made_ms, birth_height, restored=bool(phrase))
    branch = make_branch(
        seed, net=int(family.is_test), account=0, made_ms=INCEPTION_MS, inception_bits=network.inception_bits
    )
    opener = passphrase or randomness.bytes(UNLOCK_BYTES).hex().encode()
    if not passphrase:
        write_private(data / UNLOCK_FILE, opener)
    costs = network.key_file_costs
    write_private(data / PHRASE_FILE, seal(words.encode(), opener, PHRASE_SEAL, costs, randomness))
    write_private(data / "p2pd" / BRANCH_FILE, encode_branch(branch))
    write_private(data / WALLET_FILE, seal(json_bytes(secrets), opener, WALLET_SEAL, costs, randomness))
    account = secrets.account()
    address = script_to_address(pay_to_key(account.path(BRANCH_RECEIVE, 0).public), family)
    return KeysMade(
        did=did_of_branch(branch, network.inception_bits),
        address=address or "",
        fund_pubkey=account.path(BRANCH_FUND, 0).public.hex(),
        phrase=words,
    )


def leave_payout(data: Path, made: KeysMade, network: NetworkProfile) -> None:
    """Tell registryd where the node is paid, for a node whose owner wrote no settings.

    As a script, in hex: its address has another text on each network, and the owner may choose the network later.
    """
    script = address_to_script(made.address, family_named(network.chain))
    write_private(data / PAYOUT_FILE, script.hex().encode())


def open_wallet(path: Path, passphrase: bytes) -> WalletSecrets:
    """The secrets in flopd's sealed file.

    Raises:
        NotFound, BadKeyFile, DoesNotOpen: there is none, it is none, or the passphrase is wrong.
    """
    return from_json(unseal(read_limited(path), passphrase, WALLET_SEAL, str(path)), WalletSecrets)


def change_passphrase(data: Path, old: bytes, new: bytes, costs: KeyFileCosts, randomness: Randomness) -> list[Path]:
    """Seal the wallet's keys, and the phrase while it is kept, with another passphrase; returns what was sealed anew.

    The unlock file goes, for it holds the old one; each file keeps its owner. Cut off between two files, a repetition
    finishes it: what opens with the new passphrase already is left alone.

    Raises:
        NotFound, DoesNotOpen: there is no wallet here, or the old passphrase is wrong; nothing is changed.
    """
    files = [(data / WALLET_FILE, WALLET_SEAL), (data / PHRASE_FILE, PHRASE_SEAL)]
    opened = [
        (path, what, unsealed)
        for path, what in files
        if path.exists() or what == WALLET_SEAL
        if (unsealed := _to_seal_anew(path, what, old, new)) is not None
    ]
    for path, what, secret in opened:
        owner = path.stat()
        write_private(path, seal(secret, new, what, costs, randomness))
        os.chown(path, owner.st_uid, owner.st_gid)
    (data / UNLOCK_FILE).unlink(missing_ok=True)
    return [path for path, _, _ in opened]


def _to_seal_anew(path: Path, what: str, old: bytes, new: bytes) -> bytes | None:
    """What is in the file; None when the new passphrase opens it already."""
    sealed = read_limited(path)
    try:
        return unseal(sealed, old, what, str(path))
    except DoesNotOpen:
        try:
            unseal(sealed, new, what, str(path))
        except DoesNotOpen:
            raise DoesNotOpen(path=str(path)) from None
        return None


def read_phrase(data: Path, passphrase: bytes) -> str:
    """The phrase, once more, for an owner who has not confirmed yet.

    Raises:
        PhraseGone: it was confirmed and erased.
        DoesNotOpen: the passphrase is wrong.
    """
    path = data / PHRASE_FILE
    if not path.exists():
        raise PhraseGone(path=str(path))
    return unseal(read_limited(path), passphrase, PHRASE_SEAL, str(path)).decode()


def erase_phrase(data: Path) -> None:
    """The owner has written the phrase down: overwrite and remove it.

    Raises:
        PhraseGone: it was erased before.
    """
    path = data / PHRASE_FILE
    if not path.exists():
        raise PhraseGone(path=str(path))
    path.write_bytes(b"\0" * path.stat().st_size)
    path.unlink()

"""What a phrase brings back: the wallet looks for it by itself once, and again when its owner asks.

Keys are numbered, so that whoever knows a key's public half (from a contract that peers kept) finds its number again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Wire
from common.contracts.wallet_contract import ContractKey
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NotSynced, WalletLocked
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Florins


class Recover(Wire, frozen=True):
    """Look again, from a height on, through every account and every bond that the phrase can have."""

    request_id: str
    from_height: Annotated[int, Meta(ge=0)] = 0


class Recovery(Wire, frozen=True):
    """How far that is; accounts, bonds and coins as far as they are found, the node's account among them."""

    state: Literal["never", "looking", "done"]
    from_height: BlockHeight
    accounts: list[int]
    bonds: int
    found_florins: Florins


class FindContractKey(Wire, frozen=True):
    """The key of a contract that came back from others, by its public half. Bound as a new key would be."""

    request_id: str
    purpose: Literal["buyer", "seller", "arbiter"]
    nonce: bytes
    public_key: bytes


WALLET_RECOVER: Method[Recover, Recovery] = Method(
    name="wallet.recover",
    params=Recover,
    result=Recovery,
    summary="Look again for everything that the phrase can have, from a height on.",
    callers=("cli",),
    once=True,
    raises=(WalletLocked, NotSynced),
    example=(
        Recover(request_id="recover-1", from_height=100),
        Recovery(
            state="looking", from_height=BlockHeight(100), accounts=[0], bonds=0, found_florins=Florins(9_000_000_000)
        ),
    ),
)

WALLET_RECOVERY: Method[Empty, Recovery] = Method(
    name="wallet.recovery",
    params=Empty,
    result=Recovery,
    summary="What the phrase has brought back, and whether the wallet is still looking.",
    callers=("cli", "module", "escrowd"),
    example=(
        Empty(),
        Recovery(
            state="done", from_height=BlockHeight(0), accounts=[0, 1], bonds=1, found_florins=Florins(9_000_000_000)
        ),
    ),
)

CONTRACT_FIND_KEY: Method[FindContractKey, ContractKey] = Method(
    name="contract.find_key",
    params=FindContractKey,
    result=ContractKey,
    summary="The number of a contract key by its public half, after the books were lost.",
    callers=("escrowd",),
    once=True,
    raises=(KeyNotOurs, KeyUsed, WalletLocked),
    example=(
        FindContractKey(request_id="find-1", purpose="buyer", nonce=bytes(32), public_key=b"\x02" + bytes(32)),
        ContractKey(index=7, pubkey=b"\x02" + bytes(32), payout_script=b"\x76\xa9"),
    ),
)

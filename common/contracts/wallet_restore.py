"""How open contracts and channels come back to a wallet that was made from its phrase again.

Source: escrow_protocol.md §10; channel_protocol.md §8; settled.md 1.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.contract_rules import BadContract
from common.codec import Wire
from common.contracts.wallet_chain import EXAMPLE_SCRIPT
from common.contracts.wallet_channel import EXAMPLE_CHID, AdoptedChannel, Side
from common.contracts.wallet_contract import EXAMPLE_CID, Adopted, Role
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NotAgreed
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Florins

NAMES_MAX = 256  # asked for at once
KEY_NUMBER_MAX = 1_000_000


class BlobKey(Wire, frozen=True):
    """32 bytes that the phrase gives again: copies of contracts are found and opened with it.

    `numbers`: so many contract and channel keys were in use, as far as the wallet and the chain know: no copy lies
    beyond them by more than the gap. `restored`: the keys came from a phrase, so that there may be copies.
    """

    key: bytes
    numbers: int
    restored: bool


class RestoreContract(Wire, frozen=True):
    """A contract that this wallet had adopted before: its bytes, this wallet's role, key number and nonce in it."""

    request_id: str
    contract: bytes
    role: Role
    key_index: int
    nonce: bytes


class RestoreChannel(Wire, frozen=True):
    """A channel that this wallet had adopted before: its terms in canonical bytes, this wallet's side and key number.

    `nonce`: what the key was made for; `from_height`: where its coin is looked for.
    """

    request_id: str
    terms: bytes
    side: Side
    key_index: Annotated[int, Meta(ge=0)]
    nonce: Annotated[bytes, Meta(min_length=32, max_length=32)]
    from_height: Annotated[int, Meta(ge=0)]


class Standing(Wire, frozen=True):
    """Ids of contracts and channels that escrowd follows, and the highest key number in use by any of them.

    `highest`: -1 for none beyond those that the wallet knows of; `from_height`: where payments to numbers up to it that
    the wallet does not know of are looked for.
    """

    names: Annotated[tuple[str, ...], Meta(max_length=NAMES_MAX)]
    highest: Annotated[int, Meta(ge=-1, le=KEY_NUMBER_MAX)]
    from_height: BlockHeight


class Missing(Wire, frozen=True):
    """Those that this wallet has not adopted."""

    names: tuple[str, ...]


CONTRACT_BLOB_KEY: Method[Empty, BlobKey] = Method(
    name="contract.blob_key",
    params=Empty,
    result=BlobKey,
    summary="What escrowd finds and opens copies of its contracts with, the same from the same phrase.",
    callers=("escrowd",),
    example=(Empty(), BlobKey(key=b"\x07" * 32, numbers=7, restored=False)),
)
CONTRACT_MISSING: Method[Standing, Missing] = Method(
    name="contract.missing",
    params=Standing,
    result=Missing,
    summary="Which of these the wallet has not adopted; key numbers up to the highest are never handed out again.",
    callers=("escrowd",),
    example=(
        Standing(names=(EXAMPLE_CID, EXAMPLE_CHID), highest=7, from_height=BlockHeight(140)),
        Missing(names=(EXAMPLE_CHID,)),
    ),
)
CONTRACT_RESTORE: Method[RestoreContract, Adopted] = Method(
    name="contract.restore",
    params=RestoreContract,
    result=Adopted,
    summary="Adopt a contract again in which this wallet's keys stand, after a restore from the phrase.",
    callers=("escrowd",),
    once=True,
    raises=(BadContract, KeyNotOurs, KeyUsed, NotAgreed),
    example=(
        RestoreContract(request_id="restore-1", contract=b"\x90", role="buyer", key_index=3, nonce=b"\x01" * 32),
        Adopted(
            cid=EXAMPLE_CID,
            redeem_script=b"\x76\x51",
            output_script=EXAMPLE_SCRIPT,
            address="2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he",
            value_florins=Florins(1_030_000_000),
        ),
    ),
)
PURSE_RESTORE: Method[RestoreChannel, AdoptedChannel] = Method(
    name="purse.restore",
    params=RestoreChannel,
    result=AdoptedChannel,
    summary="Adopt a channel again in which this wallet's key stands, after a restore from the phrase.",
    callers=("escrowd",),
    once=True,
    raises=(KeyNotOurs, KeyUsed, NotAgreed),
    example=(
        RestoreChannel(
            request_id="restore-2", terms=b"\x9f", side="payee", key_index=3, nonce=b"\x01" * 32, from_height=140
        ),
        AdoptedChannel(chid=EXAMPLE_CHID, output_script=EXAMPLE_SCRIPT, address="2N…", fee_florins=Florins(1_000_000)),
    ),
)

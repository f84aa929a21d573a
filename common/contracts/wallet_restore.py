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
from common.units import Florins


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


CONTRACT_BLOB_KEY: Method[Empty, BlobKey] = Method(
    name="contract.blob_key",
    params=Empty,
    result=BlobKey,
    summary="What escrowd finds and opens copies of its contracts with, the same from the same phrase.",
    callers=("escrowd",),
    example=(Empty(), BlobKey(key=b"\x07" * 32, numbers=7, restored=False)),
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

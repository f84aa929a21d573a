"""Addresses that several wallets share, and transactions that they sign one after the other (PSBT)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.address import BadAddress
from common.chain.psbt import PSBT_TEXT_MAX
from common.chain.script import SIGOPS_MAX, BadScript
from common.chain.settle import MissingSignature
from common.chain.verify import SpendRefused
from common.codec import Wire
from common.contracts.wallet_errors import (
    BadPartial,
    DustAmount,
    InsufficientFunds,
    KeyNotOurs,
    NotShared,
    NotSynced,
    WalletLocked,
)
from common.rpc.method import Empty, Method
from common.units import Florins

OWNERS = ("cli", "module")
OUTPUTS_MAX = 100
LABEL_CHARS_MAX = 200
_TXID = "5e" * 32
_ADDRESS = "2N2Pe2JqmdRvCBh4rtSAtvAfcEfMwPCXUSR"
_PAYEE = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"
_PSBT = "cHNidP8BAFUC…"
Psbt = Annotated[str, Meta(max_length=PSBT_TEXT_MAX)]


class NewSharedKey(Wire, frozen=True):
    """A fresh key to put into a shared address."""

    request_id: str
    label: Annotated[str, Meta(max_length=LABEL_CHARS_MAX)] = ""


class SharedKey(Wire, frozen=True):
    """The public key, 33 bytes; the phrase brings its secret back by `number`."""

    number: int
    public_key: bytes


class MakeShared(Wire, frozen=True):
    """An address that `needed` of these keys spend from; one of them must be this wallet's."""

    request_id: str
    needed: Annotated[int, Meta(ge=1, le=SIGOPS_MAX)]
    public_keys: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=SIGOPS_MAX)]
    label: Annotated[str, Meta(max_length=LABEL_CHARS_MAX)] = ""
    from_height: Annotated[int, Meta(ge=0)] = 0


class SharedView(Wire, frozen=True):
    """A shared address. All its holders see the same one, whatever order they gave the keys in."""

    address: str
    label: str
    needed: int
    public_keys: list[bytes]
    redeem_script: bytes
    confirmed_florins: Florins
    pending_florins: Florins


class SharedAddresses(Wire, frozen=True):
    """All shared addresses of this wallet."""

    shared: list[SharedView]


class Payee(Wire, frozen=True):
    """Who is paid how much."""

    address: str
    amount_florins: Florins


class MakePartial(Wire, frozen=True):
    """An unsigned payment from a shared or watched address, or a watched account; change goes back there."""

    source: str
    payees: Annotated[tuple[Payee, ...], Meta(min_length=1, max_length=OUTPUTS_MAX)]


class ShowPartial(Wire, frozen=True):
    """A partially signed transaction, in base64 as BIP174 has it."""

    psbt: Psbt


class PartialInput(Wire, frozen=True):
    """A coin that is spent. `ours`: this wallet has a key for it; `signed`: by how many of the keys `needed`."""

    address: str
    value_florins: Florins
    ours: bool
    needed: int
    signed: int
    signed_by_us: bool


class PartialOutput(Wire, frozen=True):
    """Who gets what. `ours`: this wallet, or a shared or watched address of its own."""

    address: str
    value_florins: Florins
    ours: bool


class PartialView(Wire, frozen=True):
    """What a signature would agree to. `txid` names exactly this; `warnings` say what is unusual, in words."""

    psbt: Psbt
    txid: str
    inputs: list[PartialInput]
    outputs: list[PartialOutput]
    fee_florins: Florins
    leaves_us_florins: Florins
    warnings: list[str]
    complete: bool


class SignPartial(Wire, frozen=True):
    """Sign what was reviewed: `txid` as the review named it."""

    request_id: str
    psbt: Psbt
    txid: str


class FinishPartial(Wire, frozen=True):
    """Put the signers' copies together and hand the transaction to the network."""

    request_id: str
    psbts: Annotated[tuple[Psbt, ...], Meta(min_length=1, max_length=SIGOPS_MAX)]


class PartialSent(Wire, frozen=True):
    """On its way."""

    txid: str
    fee_florins: Florins


_VIEW = PartialView(
    psbt=_PSBT,
    txid=_TXID,
    inputs=[
        PartialInput(
            address=_ADDRESS,
            value_florins=Florins(1_000_000_000),
            ours=True,
            needed=2,
            signed=1,
            signed_by_us=False,
        )
    ],
    outputs=[PartialOutput(address=_PAYEE, value_florins=Florins(999_000_000), ours=False)],
    fee_florins=Florins(1_000_000),
    leaves_us_florins=Florins(1_000_000_000),
    warnings=[],
    complete=False,
)
_SHARED = SharedView(
    address=_ADDRESS,
    label="the shop's till",
    needed=2,
    public_keys=[b"\x02" + bytes(32), b"\x03" + bytes(32)],
    redeem_script=b"\x52",
    confirmed_florins=Florins(1_000_000_000),
    pending_florins=Florins(0),
)

WALLET_SHARED_KEY: Method[NewSharedKey, SharedKey] = Method(
    name="wallet.shared_key",
    params=NewSharedKey,
    result=SharedKey,
    summary="A fresh key of this wallet's for a shared address.",
    callers=OWNERS,
    once=True,
    raises=(WalletLocked,),
    example=(NewSharedKey(request_id="key-1", label="till"), SharedKey(number=0, public_key=b"\x02" + bytes(32))),
)

WALLET_SHARED_MAKE: Method[MakeShared, SharedView] = Method(
    name="wallet.shared_make",
    params=MakeShared,
    result=SharedView,
    summary="An address that several wallets spend from together.",
    callers=OWNERS,
    once=True,
    deadline_max_s=60.0,
    raises=(BadScript, KeyNotOurs, NotSynced, WalletLocked),
    example=(
        MakeShared(request_id="shared-1", needed=2, public_keys=(b"\x02" + bytes(32), b"\x03" + bytes(32))),
        _SHARED,
    ),
)

WALLET_SHARED: Method[Empty, SharedAddresses] = Method(
    name="wallet.shared",
    params=Empty,
    result=SharedAddresses,
    summary="Shared addresses with their coins.",
    callers=OWNERS,
    example=(Empty(), SharedAddresses(shared=[_SHARED])),
)

WALLET_PARTIAL_MAKE: Method[MakePartial, PartialView] = Method(
    name="wallet.partial_make",
    params=MakePartial,
    result=PartialView,
    summary="An unsigned payment from a shared or watched address, for its holders to sign.",
    callers=OWNERS,
    raises=(NotShared, BadAddress, DustAmount, InsufficientFunds),
    example=(
        MakePartial(source=_ADDRESS, payees=(Payee(address=_PAYEE, amount_florins=Florins(999_000_000)),)),
        _VIEW,
    ),
)

WALLET_PARTIAL_SHOW: Method[ShowPartial, PartialView] = Method(
    name="wallet.partial_show",
    params=ShowPartial,
    result=PartialView,
    summary="What a partially signed transaction does, before one signs it.",
    callers=OWNERS,
    raises=(BadPartial,),
    example=(ShowPartial(psbt=_PSBT), _VIEW),
)

WALLET_PARTIAL_SIGN: Method[SignPartial, PartialView] = Method(
    name="wallet.partial_sign",
    params=SignPartial,
    result=PartialView,
    summary="Sign a partially signed transaction that was reviewed.",
    callers=("cli",),
    once=True,
    raises=(BadPartial, KeyNotOurs, WalletLocked),
    example=(SignPartial(request_id="sign-1", psbt=_PSBT, txid=_TXID), _VIEW),
)

WALLET_PARTIAL_FINISH: Method[FinishPartial, PartialSent] = Method(
    name="wallet.partial_finish",
    params=FinishPartial,
    result=PartialSent,
    summary="Put the signers' copies together and send the transaction.",
    callers=("cli",),
    once=True,
    raises=(BadPartial, MissingSignature, SpendRefused),
    example=(
        FinishPartial(request_id="finish-1", psbts=(_PSBT,)),
        PartialSent(txid=_TXID, fee_florins=Florins(1_000_000)),
    ),
)

"""What an owner does with the wallet beside paying: label, sign messages, lock and unlock."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.address import BadAddress
from common.chain.message import MESSAGE_BYTES_MAX
from common.codec import Wire
from common.contracts.wallet_errors import DoesNotOpen, NotOwnAddress, WalletLocked
from common.rpc.method import Done, Empty, Method
from common.units import UnixMs

OWNER = ("cli",)
TOOLS = ("cli", "module")
UNLOCK_S_MAX = 7 * 86_400
_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"
_SIGNATURE = "H" + 86 * "A" + "="


class Label(Wire, frozen=True):
    """A word of the owner's for an own address or a transaction; an empty one takes it away."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    label: Annotated[str, Meta(max_length=200)]


class SignMessage(Wire, frozen=True):
    """What to sign, and with the key of which own address."""

    address: str
    message: Annotated[str, Meta(max_length=MESSAGE_BYTES_MAX)]


class MessageSigned(Wire, frozen=True):
    """The signature in base64, as the coin's own nodes write it."""

    address: str
    signature: str


class VerifyMessage(Wire, frozen=True):
    """Did the holder of this address sign this message?"""

    address: str
    message: Annotated[str, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Annotated[str, Meta(max_length=128)]


class MessageVerdict(Wire, frozen=True):
    """Whether it did; `reason` is empty when it did."""

    valid: bool
    reason: str


class Unlock(Wire, frozen=True):
    """Open the sealed keys; an empty passphrase means what opens them unattended. `for_s` 0: until locked again."""

    passphrase: str = ""
    for_s: Annotated[int, Meta(ge=0, le=UNLOCK_S_MAX)] = 0

    def __repr__(self) -> str:
        return f"Unlock(for_s={self.for_s})"


class LockState(Wire, frozen=True):
    """Whether the wallet can sign, and until when; None: until it is locked by hand."""

    unlocked: bool
    until_ms: UnixMs | None


class BackupMade(Wire, frozen=True):
    """An encrypted copy of the wallet's books; the phrase opens it."""

    path: str
    bytes: int
    at_ms: UnixMs


WALLET_BACKUP: Method[Empty, BackupMade] = Method(
    name="wallet.backup",
    params=Empty,
    result=BackupMade,
    summary="Copy the wallet's books, encrypted, now.",
    callers=OWNER,
    raises=(WalletLocked,),
    deadline_max_s=60.0,
    example=(
        Empty(),
        BackupMade(path="backup/wallet.dux", bytes=12_345, at_ms=UnixMs(1_790_000_000_000)),
    ),
)
WALLET_LABEL: Method[Label, Done] = Method(
    name="wallet.label",
    params=Label,
    result=Done,
    summary="Name an own address or a transaction in the owner's books.",
    callers=TOOLS,
    raises=(BadAddress,),
    example=(Label(name=_ADDRESS, label="rent"), Done()),
)
WALLET_SIGN_MESSAGE: Method[SignMessage, MessageSigned] = Method(
    name="wallet.sign_message",
    params=SignMessage,
    result=MessageSigned,
    summary="Sign a message with the key of an own address, as the coin's nodes do.",
    callers=OWNER,
    raises=(NotOwnAddress, BadAddress, WalletLocked),
    example=(SignMessage(address=_ADDRESS, message="It is me."), MessageSigned(_ADDRESS, _SIGNATURE)),
)
WALLET_VERIFY_MESSAGE: Method[VerifyMessage, MessageVerdict] = Method(
    name="wallet.verify_message",
    params=VerifyMessage,
    result=MessageVerdict,
    summary="Whether the holder of an address signed a message.",
    callers=TOOLS,
    raises=(BadAddress,),
    example=(
        VerifyMessage(address=_ADDRESS, message="It is me.", signature=_SIGNATURE),
        MessageVerdict(valid=False, reason="the signature is of another key, or of another message"),
    ),
)
WALLET_UNLOCK: Method[Unlock, LockState] = Method(
    name="wallet.unlock",
    params=Unlock,
    result=LockState,
    summary="Open the sealed keys, for a time or until they are locked.",
    callers=OWNER,
    raises=(DoesNotOpen, WalletLocked),
    deadline_max_s=60.0,
    example=(Unlock(for_s=600), LockState(unlocked=True, until_ms=UnixMs(1_790_000_600_000))),
)
WALLET_LOCK: Method[Empty, LockState] = Method(
    name="wallet.lock",
    params=Empty,
    result=LockState,
    summary="Let go of the keys: nothing is signed until they are unlocked.",
    callers=OWNER,
    example=(Empty(), LockState(unlocked=False, until_ms=None)),
)

"""purse.*: what flopd does for channels: keys, funding, signatures on vouchers and states that it rebuilds itself.

The wallet stores the terms that both sides agreed; from then on a caller names amounts and an outpoint, never a
transaction. Vouchers are signed many at a time and without a write of the wallet's own: what they may ever add up to
was approved when the channel was funded, and escrowd has them on disk before they leave.
Source: settled.md 6; channel_protocol.md §2 to §5.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.chain.channel import BadState
from common.chain.tx import Outpoint
from common.chain.verify import SpendRefused
from common.codec import Wire
from common.contracts.wallet_chain import EXAMPLE_RAW, EXAMPLE_SCRIPT, EXAMPLE_TXID
from common.contracts.wallet_errors import (
    CoinsPending,
    ContractUnknown,
    InsufficientFunds,
    KeyNotOurs,
    KeyUsed,
    NotAgreed,
    OverLimit,
    TooEarly,
)
from common.rpc.method import Method
from common.units import Florins

Side = Literal["payer", "payee"]
Chid = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
ESCROW = ("escrowd",)
SIGNED_AT_ONCE = 128
EXAMPLE_CHID = "c4" * 32
EXAMPLE_KEY = bytes.fromhex("02" + "22" * 32)


class NewChannelKey(Wire, frozen=True):
    """A fresh key for one channel; the same nonce gives the same key."""

    request_id: str
    side: Side
    nonce: bytes


class ChannelKey(Wire, frozen=True):
    """The key, its number, and the output script where its owner is paid: the payer's change, the payee's pay."""

    index: int
    pubkey: bytes
    script: bytes


class LostKeys(Wire, frozen=True):
    """Channel keys of these numbers, for a wallet that has its phrase alone."""

    request_id: str
    side: Side
    first: Annotated[int, Meta(ge=0)]
    count: Annotated[int, Meta(ge=1, le=100)]


class KeysFound(Wire, frozen=True):
    """The keys by their numbers; each may be adopted with terms that name it."""

    keys: list[ChannelKey]


class AdoptChannel(Wire, frozen=True):
    """The agreed terms in canonical bytes. `from_height`: the script is followed from here on; None: not yet."""

    request_id: str
    terms: bytes
    side: Side
    key_index: int
    from_height: int | None = None
    lost: bool = False  # a channel of an earlier life of this phrase: it may be near its end


class AdoptedChannel(Wire, frozen=True):
    """What the wallet rebuilt."""

    chid: Chid
    output_script: bytes
    address: str
    fee_florins: Florins  # of a state


class FundChannel(Wire, frozen=True):
    """Pay the cap to the script of an adopted channel; the payer's wallet only, once."""

    request_id: str
    chid: Chid


class ChannelFunded(Wire, frozen=True):
    """The payment; its first output is the channel's coin."""

    txid: str
    fee_florins: Florins


class ChannelAsked(Wire, frozen=True):
    """An adopted channel of which this wallet is the payer."""

    chid: Chid


class FundingMade(Wire, frozen=True):
    """The payment that funds the channel or will; empty: there is none, or it can never be in a block."""

    txid: str


class SignVouchers(Wire, frozen=True):
    """Vouchers in canonical bytes, their coin part empty: the wallet fills it in and signs the whole."""

    vouchers: Annotated[list[bytes], Meta(max_length=SIGNED_AT_ONCE)]


class ToSign(Wire, frozen=True):
    """A message of a channel and its purpose."""

    chid: Chid
    purpose: str
    body: bytes


class SignMessages(Wire, frozen=True):
    """Messages to sign with the channels' keys."""

    messages: Annotated[list[ToSign], Meta(max_length=SIGNED_AT_ONCE)]


class Envelopes(Wire, frozen=True):
    """The signed envelopes, in the order asked."""

    envelopes: list[bytes]


class SignFinal(Wire, frozen=True):
    """Payer: the last state. `next_chid`: another channel of this wallet that the rest opens."""

    chid: Chid
    outpoint: Outpoint
    cum_florins: Florins
    next_chid: str = ""


class FinalSigned(Wire, frozen=True):
    """The signed last state, and the script that the rest goes to (empty: the change)."""

    envelope: bytes
    next_script: bytes


class CloseWish(Wire, frozen=True):
    """Payee: complete state(cum) with the payer's signature. `step`: so much more fee, from an own confirmed coin.

    With `publish` false the whole transaction is handed out and nothing is broadcast: a watcher's copy.
    """

    request_id: str
    chid: Chid
    outpoint: Outpoint
    cum_florins: Florins
    payer_sig: bytes
    next_script: bytes = b""
    step: int = 0
    publish: bool = True


class RefundWish(Wire, frozen=True):
    """Payer, from EXP on: take everything back, with this step of the fee."""

    request_id: str
    chid: Chid
    outpoint: Outpoint
    step: int = 0


class SpendMade(Wire, frozen=True):
    """The transaction that was judged; `how`: replaced, child (CPFP) or plain."""

    txid: str
    raw: bytes
    fee_florins: Florins
    how: str = "plain"


PURSE_KEY: Method[NewChannelKey, ChannelKey] = Method(
    name="purse.key",
    params=NewChannelKey,
    result=ChannelKey,
    summary="A key for a channel to be, and where this side is paid.",
    callers=ESCROW,
    once=True,
    example=(
        NewChannelKey(request_id="c1-key", side="payer", nonce=b"n" * 32),
        ChannelKey(index=4, pubkey=EXAMPLE_KEY, script=EXAMPLE_SCRIPT),
    ),
)
PURSE_LOST_KEYS: Method[LostKeys, KeysFound] = Method(
    name="purse.lost_keys",
    params=LostKeys,
    result=KeysFound,
    summary="Channel keys by number, so that a wallet restored from its phrase can find its channels again.",
    callers=ESCROW,
    once=True,
    example=(
        LostKeys(request_id="r1", side="payer", first=0, count=20),
        KeysFound(keys=[ChannelKey(index=0, pubkey=EXAMPLE_KEY, script=EXAMPLE_SCRIPT)]),
    ),
)
PURSE_ADOPT: Method[AdoptChannel, AdoptedChannel] = Method(
    name="purse.adopt",
    params=AdoptChannel,
    result=AdoptedChannel,
    summary="Take part in a channel: every law, our network, our key and script.",
    callers=ESCROW,
    once=True,
    example=(
        AdoptChannel(request_id="c1-adopt", terms=b"\x9f", side="payer", key_index=4, from_height=140),
        AdoptedChannel(chid=EXAMPLE_CHID, output_script=EXAMPLE_SCRIPT, address="2N…", fee_florins=Florins(1_000_000)),
    ),
    raises=(NotAgreed, KeyNotOurs, KeyUsed),
)
PURSE_FUND: Method[FundChannel, ChannelFunded] = Method(
    name="purse.fund",
    params=FundChannel,
    result=ChannelFunded,
    summary="Pay a channel's cap to its script, once, within the standing limits.",
    callers=ESCROW,
    once=True,
    example=(
        FundChannel(request_id="c1-fund", chid=EXAMPLE_CHID),
        ChannelFunded(txid=EXAMPLE_TXID, fee_florins=Florins(1_000_000)),
    ),
    raises=(ContractUnknown, NotAgreed, OverLimit, InsufficientFunds, CoinsPending),
)
PURSE_FUNDING: Method[ChannelAsked, FundingMade] = Method(
    name="purse.funding",
    params=ChannelAsked,
    result=FundingMade,
    summary="Whether a channel was paid for: only one that was not may be given up before its end.",
    callers=ESCROW,
    example=(ChannelAsked(chid=EXAMPLE_CHID), FundingMade(txid=EXAMPLE_TXID)),
    raises=(ContractUnknown, NotAgreed),
)
PURSE_VOUCHERS: Method[SignVouchers, Envelopes] = Method(
    name="purse.vouchers",
    params=SignVouchers,
    result=Envelopes,
    summary="Sign vouchers: the coin part over a state that is rebuilt here, and the whole.",
    callers=ESCROW,
    example=(SignVouchers(vouchers=[b"\x9d"]), Envelopes(envelopes=[b"\x92"])),
    raises=(ContractUnknown, NotAgreed, BadState),
)
PURSE_MESSAGES: Method[SignMessages, Envelopes] = Method(
    name="purse.messages",
    params=SignMessages,
    result=Envelopes,
    summary="Sign answers, hellos and terms with channels' keys; never anything that a chain could take.",
    callers=ESCROW,
    example=(
        SignMessages(messages=[ToSign(chid=EXAMPLE_CHID, purpose="channel-answer", body=b"\x9c")]),
        Envelopes(envelopes=[b"\x92"]),
    ),
    raises=(ContractUnknown, NotAgreed),
)
PURSE_FINAL: Method[SignFinal, FinalSigned] = Method(
    name="purse.final",
    params=SignFinal,
    result=FinalSigned,
    summary="Payer: sign the last state of a channel.",
    callers=ESCROW,
    example=(
        SignFinal(chid=EXAMPLE_CHID, outpoint=Outpoint(EXAMPLE_TXID, 0), cum_florins=Florins(32_000_000)),
        FinalSigned(envelope=b"\x92", next_script=b""),
    ),
    raises=(ContractUnknown, NotAgreed, BadState),
)
PURSE_CLOSE: Method[CloseWish, SpendMade] = Method(
    name="purse.close",
    params=CloseWish,
    result=SpendMade,
    summary="Payee: complete, judge and broadcast a state, or hand it out for a watcher.",
    callers=ESCROW,
    once=True,
    example=(
        CloseWish(
            request_id="c1-close-0",
            chid=EXAMPLE_CHID,
            outpoint=Outpoint(EXAMPLE_TXID, 0),
            cum_florins=Florins(32_000_000),
            payer_sig=b"\x30\x45",
        ),
        SpendMade(txid=EXAMPLE_TXID, raw=EXAMPLE_RAW, fee_florins=Florins(1_000_000)),
    ),
    raises=(ContractUnknown, NotAgreed, BadState, SpendRefused),
)
PURSE_REFUND: Method[RefundWish, SpendMade] = Method(
    name="purse.refund",
    params=RefundWish,
    result=SpendMade,
    summary="Payer: take everything back, from EXP on.",
    callers=ESCROW,
    once=True,
    example=(
        RefundWish(request_id="c1-refund-0", chid=EXAMPLE_CHID, outpoint=Outpoint(EXAMPLE_TXID, 0)),
        SpendMade(txid=EXAMPLE_TXID, raw=EXAMPLE_RAW, fee_florins=Florins(1_000_000)),
    ),
    raises=(ContractUnknown, NotAgreed, TooEarly, SpendRefused),
)

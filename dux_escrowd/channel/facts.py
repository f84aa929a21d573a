"""What can happen to a channel, in the past tense, each with the tip at which this node learnt it (`at`).

Facts carry checked values: whoever makes one has verified every signature in it against the channel's keys and coin.
No logic, no secret. Nonces for sessions come in with the fact. Source: channel_protocol.md §6.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from common.channel_messages import Outcome
from dux_escrowd.channel.model import Call, Coin, Payee, Receipt, Spend


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact", tag=True):
    """Base of all facts. `words`: what it is called where a person is told that it does not fit."""

    words: ClassVar[str] = ""
    at: int


# --- on both sides ----------------------------------------------------------------------------------------------------


class Clock(Fact, frozen=True, kw_only=True):
    """The tip moved."""


class CoinSeen(Fact, frozen=True, kw_only=True):
    """An output on the script appeared, or its height changed."""

    coin: Coin


class CoinGone(Fact, frozen=True, kw_only=True):
    """An output on the script is neither in a block nor waiting for one any more."""

    outpoint: str


class SpendSeen(Fact, frozen=True, kw_only=True):
    """A spend of the coin was seen, or its height changed."""

    spend: Spend


class SpendDeep(Fact, frozen=True, kw_only=True):
    """The spend lies d deep."""

    spend: Spend


class SpendGone(Fact, frozen=True, kw_only=True):
    """The spend that was seen is gone."""

    txid: str


class CloseWanted(Fact, frozen=True, kw_only=True):
    """The owner of this side wants the end; the payer's rest may open the next channel.

    `nonce`: for the payer's hello that finds out which of its waiting calls the payee has.
    """

    words: ClassVar[str] = "a close"
    next_script: bytes = b""
    nonce: bytes = b""


# --- the payer's ------------------------------------------------------------------------------------------------------


class OpenOk(Fact, frozen=True, kw_only=True):
    """The payee signed the terms; `same`: its script is the one rebuilt here."""

    same: bool


class Started(Fact, frozen=True, kw_only=True):
    """This side started, was reconnected, or was restored from a copy: nobody has to know which."""

    nonce: bytes


class NotFunded(Fact, frozen=True, kw_only=True):
    """Nothing that could pay the script is on its way, and from now on nothing will be: `orders.Withdraw` asked."""


class CallWanted(Fact, frozen=True, kw_only=True):
    """A call is to be paid."""

    words: ClassVar[str] = "a call"
    oid: str
    req: bytes
    price_max_florins: int
    offer_valid_to: int


class FuelWanted(Fact, frozen=True, kw_only=True):
    """A metered call needs more: the same j, up to this price."""

    words: ClassVar[str] = "a higher price"
    j: int
    price_max_florins: int


class AnswerCame(Fact, frozen=True, kw_only=True):
    """The payee's signed answer to a call."""

    j: int
    req: bytes
    resp: bytes
    outcome: Outcome
    charged_florins: int


class CallDropped(Fact, frozen=True, kw_only=True):
    """The caller gives a call up; `nonce`: for the hello that finds out whether it was run."""

    j: int
    nonce: bytes


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the payee shows it, by the payer's own signature; `outcome` None: not answered."""

    j: int
    oid: str
    req: bytes
    cum_florins: int
    price_max_florins: int
    outcome: Outcome | None = None
    resp: bytes = b""
    charged_florins: int = 0


class HelloBackCame(Fact, frozen=True, kw_only=True):
    """The payee began a session. `head_florins`, `head_j`: its best voucher, in this payer's own signature."""

    nonce: bytes
    session: bytes
    head_florins: int
    head_j: int
    calls: tuple[Shown, ...]
    more: bool
    next_nonce: bytes  # for the next hello, if there is more


# --- the payee's ------------------------------------------------------------------------------------------------------


class OpenAsked(Fact, frozen=True, kw_only=True):
    """A payer wants a channel; `problem`: why not, or empty (terms, limits, work stamp)."""

    problem: str


class HelloCame(Fact, frozen=True, kw_only=True):
    """The payer asks for a session. `head_florins`: its best voucher for `outpoint`."""

    payer_nonce: bytes
    session: bytes  # made of both nonces
    outpoint: str
    head_florins: int
    receipt: Receipt


class VoucherCame(Fact, frozen=True, kw_only=True):
    """A voucher with a call. `fresh`: the tip is young; `archived`: an acknowledged call with this j or this oid."""

    outpoint: str
    session: bytes
    j: int
    oid: str
    req: bytes
    cum_florins: int
    price_max_florins: int
    price_florins: int  # what this payee asks for the call
    offer_valid: bool
    receipt: Receipt
    fresh: bool = True
    archived: Call | None = None


class RunStarted(Fact, frozen=True, kw_only=True):
    """The call is handed to its handler now."""

    j: int


class ChunkWanted(Fact, frozen=True, kw_only=True):
    """The meter of a running call stands here; the next chunk leaves only if that is covered."""

    j: int
    price_florins: int


class HandlerDone(Fact, frozen=True, kw_only=True):
    """The handler ended: what it answered, and what it costs."""

    j: int
    outcome: Outcome
    resp: bytes
    charged_florins: int


class Mirrored(Fact, frozen=True, kw_only=True):
    """A copy of the best voucher lies elsewhere, and with it what calls had cost by then (S)."""

    cum_florins: int
    owed_florins: int = 0


class CopyCame(Fact, frozen=True, kw_only=True):
    """A copy that was made after everything that stands here: this disk is an old one. `copy`: its coin not seen."""

    copy: Payee


class FinalCame(Fact, frozen=True, kw_only=True):
    """The payer signed the last state."""

    outpoint: str
    cum_florins: int
    next_script: bytes

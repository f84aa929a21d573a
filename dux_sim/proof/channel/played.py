"""A history's channel with real script, keys, vouchers and transactions: its ways out, and what its script forbids.

Refused must be: a refund before EXP, a stranger with a voucher, a state that the payer has not signed, a voucher for
another coin (what a reorganisation took), and whatever comes after the spend: an older voucher, the refund.
"""

from __future__ import annotations

from collections.abc import Iterator

from common.chain.address import pay_to_key
from common.chain.channel import (
    CHANNEL_VERSION,
    FIRST_MIN_FLORINS,
    HASH_TYPE_STATE,
    ChannelTerms,
    channel_output_script,
    close_sig,
    refund_fee,
    refund_sig,
    refund_tx,
    script_of,
    state_digest,
    state_tx,
    whole_digest,
)
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.chain.fund import fund_output_script
from common.chain.tx import Outpoint, Tx, txid
from common.units import FLOP, Florins
from dux_sim.proof.channel.chain import Spend
from dux_sim.proof.coins import Chain
from dux_sim.proof.keys import private_key, public_key, signed
from dux_sim.proof.player import History

VALUE_FLORINS = 4 * FLOP
COIN_FLORINS = VALUE_FLORINS + FLOP  # what the purse holds for each history
NOWHERE = Outpoint("00" * 32, 0)


def terms_for(history: History, shift: int) -> ChannelTerms:
    """The history's terms with real keys, EXP moved to where the chain is."""
    key, payee = public_key(f"{history.name}/payer"), public_key(f"{history.name}/payee")
    return ChannelTerms(
        version=CHANNEL_VERSION, network="00" * 32, payer="did:dux:payer", payee="did:dux:payee", payer_key=key,
        payee_key=payee, change_script=pay_to_key(public_key(f"{history.name}/change")),
        payout_script=pay_to_key(public_key(f"{history.name}/payout")),
        fund_script=fund_output_script(2, tuple(public_key(f"custodian-{at}") for at in range(3))), tax_bps=500,
        developer_script=b"", royalty_bps=0, fee_rate_florins_per_kb=FEE_RATE_FLORINS_PER_KB,
        cap_florins=Florins(VALUE_FLORINS), exp=history.timeout + shift, profile="proof", window=2,
        mirror_florins=Florins(FLOP), limit_florins=Florins(VALUE_FLORINS),
    )  # fmt: skip


class Paid:
    """One history's channel on the chain."""

    def __init__(self, history: History, chain: Chain, shift: int) -> None:
        self.history = history
        self.terms = terms_for(history, shift)
        self._purse = chain.purse
        self._paid_from: Outpoint | None = None
        self._outpoint = NOWHERE
        self._gone: list[Outpoint] = []

    def funding(self) -> Tx:
        """The payment to the script; after a reorganisation the same payment under another id."""
        twin = self._paid_from is not None
        self._paid_from = self._paid_from or self._purse.take()
        tx = self._purse.payment(self._paid_from, channel_output_script(self.terms), VALUE_FLORINS, twin=twin)
        if twin:
            self._gone.append(self._outpoint)
        self._outpoint = Outpoint(txid(tx), 0)
        return tx

    def way_out(self, spend: Spend) -> Tx:
        """The spend of the model, complete."""
        return self.too_early() if spend.kind == "refund" else self._state(spend.paid_florins, self._outpoint)

    def too_early(self) -> Tx:
        """The payer's way out from EXP on."""
        tx = refund_tx(self.terms, self._outpoint, VALUE_FLORINS, int(refund_fee(self.terms)))
        return tx.signed([refund_sig(script_of(self.terms), self._whole(tx, "payer"))])

    def rivals(self, spend: Spend) -> Iterator[tuple[str, Tx]]:
        """What came too late."""
        older = FIRST_MIN_FLORINS if spend.paid_florins != FIRST_MIN_FLORINS else 2 * FIRST_MIN_FLORINS
        yield "another voucher after the close", self._state(older, self._outpoint)
        if spend.kind != "refund":
            yield "a refund after the close", self.too_early()

    def forbidden(self) -> Iterator[tuple[str, Tx]]:
        """What must be refused of a coin that has just come."""
        cum = 2 * FIRST_MIN_FLORINS
        yield "a stranger with a voucher", self._state(cum, self._outpoint, payee="stranger")
        yield "a state that the payer has not signed", self._state(cum, self._outpoint, signed_for=FIRST_MIN_FLORINS)
        for outpoint in self._gone:
            yield "a voucher for a coin that is gone", self._state(cum, outpoint)
        if self._gone:
            yield "a voucher for another coin", self._state(cum, self._outpoint, signed_on=self._gone[-1])

    def _state(
        self, cum: int, outpoint: Outpoint, *, payee: str = "payee", signed_for: int = 0,
        signed_on: Outpoint | None = None,
    ) -> Tx:  # fmt: skip
        tx = state_tx(self.terms, outpoint, VALUE_FLORINS, cum)
        digest = state_digest(self.terms, signed_on or outpoint, VALUE_FLORINS, signed_for or cum)
        voucher = bytes(private_key(f"{self.history.name}/payer").sign(digest, hasher=None)) + HASH_TYPE_STATE
        return tx.signed([close_sig(script_of(self.terms), voucher, self._whole(tx, payee))])

    def _whole(self, tx: Tx, who: str) -> bytes:
        return signed(f"{self.history.name}/{who}", whole_digest(self.terms, tx))

"""A payer that signs without end: what its payee's daemon keeps of it has a bound."""

from __future__ import annotations

import pytest
from msgspec import structs

from common.channel_messages import VOUCHER_BYTES_MAX, Voucher
from common.codec import canonical, from_canonical
from common.contracts import channel as c
from common.contracts import wallet_channel as purse
from common.identity.signed import decode_signed
from common.units import FLOP, Florins
from dux_escrowd.channel import payee_steps
from dux_escrowd.channel.shelf import FAULTS_MAX
from tests.attacks.registry import attack
from tests.escrow.channel_kit import PRICE, WHAT, admit, new_oid, offer, open_channel, pay, req_of
from tests.escrow.kit import Net, Node, market

pytestmark = pytest.mark.patient
KEPT = 5


def rows(node: Node, table: str) -> int:
    assert node.daemon is not None
    row = node.daemon.desk.book.store.row(f"SELECT count(*) AS n FROM {table}")
    assert row is not None
    return int(row["n"])


@attack(
    "payment",
    tries="signs vouchers without end: rising amounts of an old session, and many requests under one number",
    meets="so many amounts are kept as a close can need, and of proofs of one fault a few",
)
async def test_a_payer_s_signatures_fill_no_disk(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs its payer two signatures, and its payee a row, until there are enough."""
    monkeypatch.setattr(payee_steps, "CUMS_MAX", KEPT)
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        made, oid = await offer(seller), new_oid()
        paid = await pay(buyer, seller, made, oid, b"x")
        assert (await admit(seller, paid, oid, b"x")).verdict == "admitted"
        body = decode_signed(paid.voucher, max_bytes=VOUCHER_BYTES_MAX).body
        voucher = from_canonical(body, Voucher, max_bytes=VOUCHER_BYTES_MAX)

        async def said(**changes: object) -> str:
            body = structs.replace(voucher, **changes)
            sent = await buyer.wallet.call(
                purse.PURSE_VOUCHERS, purse.SignVouchers(vouchers=[canonical(body)]), "escrowd"
            )
            asked = c.Admit(voucher=sent.envelopes[0], req=body.req, what=WHAT)
            return (await seller.call(c.ADMIT, asked)).reason

        for number in range(3 * KEPT):
            other = new_oid()
            changes = {"oid": other, "j": 2, "session": b"o" * 32, "req": req_of(other, b"b")}
            cum = Florins(int(voucher.cum_florins) + number * PRICE)
            assert await said(**changes, cum_florins=cum) == "resync"
        assert rows(seller, "channel_vouchers") == KEPT
        state = await seller.call(c.SHOW, c.ChannelRef(chid=chid))
        assert state.channel.held_florins == int(voucher.cum_florins) + (3 * KEPT - 1) * PRICE
        assert await said(session=b"o" * 32, req=req_of(oid, b"b")) == "resync"
        assert rows(seller, "channel_faults") == 0, "an old session proves nothing"
        for number in range(2 * FAULTS_MAX):
            assert await said(req=req_of(oid, b"b"), cum_florins=Florins(FLOP + number)) == "conflict"
        assert rows(seller, "channel_faults") == FAULTS_MAX

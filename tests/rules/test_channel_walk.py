"""Both tables of a channel against a network that loses, repeats, delays and reorders, with crashes and old copies.

A walk is a function of its seed. After every step the laws of channel_protocol.md §1 hold; at its end both sides say
hello, everything is delivered, and the channel can be closed by what the payer signed.
"""

from __future__ import annotations

from random import Random  # noqa: TID251 - a walk is a function of its seed

import pytest

from common.channel_messages import Outcome, session_of
from common.contracts.escrow import Refused, WrongPhase
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.model import Call, CallState, Payee, Payer, call_of
from tests.rules.channel_kit import COIN, PRICE, TIP, hello_back, oid, open_pair, req

WALKS, STEPS = 150, 160


class World:
    """One channel, its messages on the way, and what was really run."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311 - a walk, not a secret
        self.buyer, self.seller = open_pair()
        self.wire: list[object] = []
        self.vouchers: dict[int, f.VoucherCame] = {}
        self.archive: dict[int, Call] = {}
        self.runs: dict[tuple[str, bytes], int] = {}
        self.asked = self.nonces = 0
        self.old: tuple[Payer, Payee] = (self.buyer, self.seller)
        self.copied = False

    # --- decisions ----------------------------------------------------------------------------------------------------

    def buyer_takes(self, fact: f.Fact) -> None:
        try:
            self.buyer, effects = payer.decide(self.buyer, fact)
        except (WrongPhase, Refused):
            return
        for order in effects:
            if isinstance(order, o.SendVoucher):
                self.wire.append(self.voucher(order))
            if isinstance(order, o.SendHello):
                self.wire.append(("hello", order.nonce, order.cum_florins, self.buyer.receipt))

    def voucher(self, order: o.SendVoucher) -> f.VoucherCame:
        call = call_of(self.buyer.calls, order.j)
        return f.VoucherCame(
            at=TIP, outpoint=COIN.outpoint, session=order.session, j=order.j, oid=call.oid, req=call.req,
            cum_florins=order.cum_florins, price_max_florins=order.price_max_florins, price_florins=PRICE,
            offer_valid=True, receipt=self.buyer.receipt,
        )  # fmt: skip

    def seller_takes(self, fact: f.Fact) -> None:
        before = self.seller
        try:
            self.seller, effects = payee.decide(self.seller, fact)
        except (WrongPhase, Refused):
            return
        for call in before.calls:
            if call_of(self.seller.calls, call.j) is None:
                self.archive[call.j] = call
        for order in effects:
            self.seller_does(order)

    def seller_does(self, order: o.Order) -> None:
        if isinstance(order, o.Execute):
            self.seller_takes(f.RunStarted(at=TIP, j=order.j))
            call = call_of(self.seller.calls, order.j)
            self.runs[call.oid, call.req] = self.runs.get((call.oid, call.req), 0) + 1
        if isinstance(order, o.SendAnswer):
            call = call_of(self.seller.calls, order.j) or self.archive.get(order.j)
            if call is not None:
                self.wire.append(answer_of(call))
        if isinstance(order, o.SendHelloBack):
            self.wire.append(self.back(order))

    def back(self, order: o.SendHelloBack) -> f.HelloBackCame:
        known = {**self.archive, **{call.j: call for call in self.seller.calls}}
        shown = tuple(shown_of(known[j], self.vouchers) for j in sorted(known) if j >= order.low and j in self.vouchers)
        top = max((j for j in self.vouchers if self.vouchers[j].cum_florins <= self.seller.held_florins), default=0)
        return hello_back(
            order.session, nonce=order.nonce, head_florins=self.seller.held_florins, head_j=top, calls=shown
        )

    # --- steps --------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        ways = [
            self.ask,
            self.deliver,
            self.deliver,
            self.deliver,
            self.end_call,
            self.lose,
            self.restart,
            self.give_up,
        ]
        self.chance.choice(ways)()

    def ask(self) -> None:
        self.asked += 1
        wanted = f.CallWanted(
            at=TIP, oid=oid(self.asked), req=req(self.asked), price_max_florins=PRICE, offer_valid_to=500
        )
        self.buyer_takes(wanted)

    def deliver(self) -> None:
        if not self.wire:
            return
        message = self.chance.choice(self.wire)
        if self.chance.random() < 0.8:
            self.wire.remove(message)
        self.take(message)

    def take(self, message: object) -> None:
        if isinstance(message, f.VoucherCame):
            known = call_of(self.seller.calls, message.j)
            held = next((c for c in self.archive.values() if c.j == message.j or c.oid == message.oid), None)
            self.vouchers.setdefault(message.j, message)
            self.seller_takes(f.VoucherCame(**{**as_dict(message), "archived": None if known else held}))
        elif isinstance(message, f.AnswerCame | f.HelloBackCame):
            self.buyer_takes(message)
        else:
            _, nonce, cum, receipt = message
            self.nonces += 1
            session = session_of(nonce, self.nonces.to_bytes(32, "big"))
            self.seller_takes(
                f.HelloCame(
                    at=TIP,
                    payer_nonce=nonce,
                    session=session,
                    outpoint=COIN.outpoint,
                    head_florins=cum,
                    receipt=receipt,
                )
            )

    def end_call(self) -> None:
        running = [call for call in self.seller.calls if call.state is CallState.RUNNING]
        if running:
            outcome = self.chance.choice([Outcome.OK, Outcome.OK, Outcome.FAILED])
            self.finish(self.chance.choice(running), outcome)

    def finish(self, call: Call, outcome: Outcome) -> None:
        charged = PRICE if outcome is Outcome.OK else 0
        self.seller_takes(f.HandlerDone(at=TIP, j=call.j, outcome=outcome, resp=b"r" * 32, charged_florins=charged))

    def lose(self) -> None:
        if self.wire and self.chance.random() < 0.3:
            self.wire.remove(self.chance.choice(self.wire))

    def restart(self) -> None:
        if self.chance.random() < 0.3:
            self.nonces += 1
            started = f.Started(at=TIP, nonce=b"n" + self.nonces.to_bytes(31, "big"))
            self.chance.choice([self.buyer_takes, self.seller_takes])(started)
            self.buyer_takes(f.Started(at=TIP, nonce=b"m" + self.nonces.to_bytes(31, "big")))

    def give_up(self) -> None:
        waiting = [call for call in self.buyer.calls if call.state is CallState.SENT_MAYBE]
        if waiting and self.chance.random() < 0.2:
            self.nonces += 1
            self.buyer_takes(f.CallDropped(at=TIP, j=waiting[0].j, nonce=b"d" + self.nonces.to_bytes(31, "big")))

    def settle(self) -> None:
        """A kind network: hello, everything delivered in order, every handler ends, until nothing waits."""
        self.wire.clear()
        for _ in range(6):
            self.nonces += 1
            self.buyer_takes(f.Started(at=TIP, nonce=b"e" + self.nonces.to_bytes(31, "big")))
            for _ in range(300):
                if self.wire:
                    self.take(self.wire.pop(0))
                running = [call for call in self.seller.calls if call.state is CallState.RUNNING]
                if running:
                    self.finish(running[0], Outcome.OK)
                elif not self.wire:
                    break

    # --- laws ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        buyer, seller = self.buyer, self.seller
        assert seller.owed_florins <= seller.held_florins
        assert seller.held_florins <= buyer.cum_florins <= buyer.usable_florins
        assert all(count == 1 for count in self.runs.values()), "a request ran twice"
        assert buyer.spent_florins <= self.asked * PRICE
        assert len(buyer.in_flight) <= buyer.rules.window
        assert hash((buyer, seller)) is not None


def answer_of(call: Call) -> f.AnswerCame:
    outcome = Outcome.OK if call.state is CallState.OK else Outcome.FAILED
    return f.AnswerCame(
        at=TIP, j=call.j, req=call.req, resp=call.resp, outcome=outcome, charged_florins=call.price_florins
    )


def shown_of(call: Call, vouchers: dict[int, f.VoucherCame]) -> f.Shown:
    plain = {"j": call.j, "oid": call.oid, "req": call.req, "cum_florins": vouchers[call.j].cum_florins}
    plain["price_max_florins"] = call.price_max_florins
    if call.state not in (CallState.OK, CallState.FAILED):
        return f.Shown(**plain)
    said = answer_of(call)
    return f.Shown(**plain, outcome=said.outcome, resp=said.resp, charged_florins=said.charged_florins)


def as_dict(fact: f.VoucherCame) -> dict[str, object]:
    return {name: getattr(fact, name) for name in fact.__struct_fields__}


@pytest.mark.parametrize("block", range(3))
def test_no_walk_breaks_a_law_and_every_walk_ends_agreed(block: int) -> None:
    """W covers S, nothing runs twice, the payer signs no more than the coin; at the end both sides agree on S."""
    ended = 0
    for seed in range(block * WALKS // 3, (block + 1) * WALKS // 3):
        world = World(seed)
        for _ in range(STEPS):
            world.step()
            world.check()
        world.settle()
        world.check()
        assert not world.buyer.in_flight, seed
        assert world.buyer.spent_florins == world.seller.owed_florins, seed
        ended += len(world.runs)
    assert ended > WALKS

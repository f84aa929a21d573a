"""Killed at every write of a paid call, on both sides: nothing runs twice, nothing is lost, both books agree."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from msgspec import structs

from common.channel_messages import Outcome
from common.contracts import channel as c
from common.contracts.wallet_chain import Tip
from common.errors import DuxError, Ending
from common.units import FLOP, Florins
from dux_escrowd.channel import counter
from dux_escrowd.channel.hands import WalletHands
from dux_escrowd.channel.ledger import Ledger
from dux_escrowd.desk import Desk
from tests.escrow.channel_kit import PRICE, admit, finish, live, new_oid, offer, open_channel, pay, resp_of, view
from tests.escrow.kit import Net, Node, market, until
from tests.escrow.test_paid_calls import parts
from tests.escrow.test_paid_long_calls import SOON_S, Gate, bought, closes, settled

WRITES = 3  # of one call, on either side: the payer's two and a hello's, the payee's two and a hello's


class Death:
    """One node dies at its n-th write from now: before it is on disk, or right after."""

    def __init__(self, node: Node, at: int, moment: str) -> None:
        self.node, self.left, self.moment, self.happened = node, at, moment, False

    def flush(self, ledger: Ledger, plain: object) -> None:
        mine = self.node.daemon is not None and ledger.store is self.node.daemon.parts.table.store
        self.left -= mine and not self.happened
        if not mine or self.left or self.happened:
            plain(ledger)
            return
        self.happened = True
        waiters = [item.waiter for item in ledger._asked]
        if self.moment == "after":
            for item in ledger._asked:
                item.waiter = asyncio.get_running_loop().create_future()  # the answer is never heard
                item.waiter.add_done_callback(lambda future: future.exception())
            plain(ledger)
        ledger._asked = []
        for waiter in waiters:
            waiter.set_exception(Ending())
        self.node.death.set()


async def stubborn(buyer: Node, seller: Node, made: c.OfferMade, runs: Counter[str]) -> c.SettledCall:
    """One call as a caller makes it that never gives up: every step again until it has been answered."""
    oid, body = new_oid(), b"x"
    while True:
        try:
            paid = await pay(buyer, seller, made, oid, body)
            verdict = await admit(seller, paid, oid, body)
            if verdict.verdict == "refused":
                await buyer.call(c.REFUSED, c.ReportRefusal(call=paid.call, reason=verdict.reason))
                continue
            answer = verdict.answer
            if verdict.verdict == "admitted":
                runs[oid] += 1
                answer = await finish(seller, paid, b"X")
            return await buyer.call(c.SETTLED, c.Settle(call=paid.call, answer=answer, resp=resp_of(b"X")))
        except DuxError:
            await asyncio.sleep(0.05)


async def test_a_death_at_every_write_of_either_side_conserves_everything(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call per write, moment and side: each ends answered, runs at most once, and S is the same in both books."""
    deaths: list[Death] = []
    plain = Ledger._flush
    monkeypatch.setattr(Ledger, "_flush", lambda ledger: deaths[-1].flush(ledger, plain) if deaths else plain(ledger))
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        made, runs, outcomes = await offer(seller), Counter[str](), Counter[Outcome]()
        for side in (buyer, seller):
            for at in range(1, WRITES + 1):
                for moment in ("before", "after"):
                    deaths.append(Death(side, at, moment))
                    outcomes[(await stubborn(buyer, seller, made, runs)).outcome] += 1
                    await until(lambda: buyer.daemon is not None and seller.daemon is not None, "both are up")
        deaths.clear()
        assert (await stubborn(buyer, seller, made, runs)).outcome is Outcome.OK
        assert max(runs.values()) == 1, "a request ran twice"
        mine, theirs = await view(buyer, chid), await view(seller, chid)
        assert mine.owed_florins == theirs.owed_florins == (outcomes[Outcome.OK] + 1) * PRICE
        assert theirs.held_florins <= mine.held_florins == FLOP // 5
        assert outcomes[Outcome.FAILED] >= 1, "no death fell between start and end of a call"


async def test_a_channel_that_was_asked_for_is_opened_once(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when it is in the books, before its funding: asked again, the same one is funded, and no other."""
    plain, copied = WalletHands.copied, list[str]()

    async def dies(hands: WalletHands, chid: str) -> None:
        copied.append(chid)
        if len(copied) == 1:
            raise RuntimeError
        await plain(hands, chid)

    monkeypatch.setattr(WalletHands, "copied", dies)
    async with market(net, "buyer", "seller") as (buyer, seller):
        wish = c.OpenChannel(request_id="once", payee=seller.did, cap_florins=Florins(3 * FLOP))
        with pytest.raises(DuxError):
            await buyer.call(c.OPEN, wish)
        before = buyer.daemon
        buyer.death.set()
        await until(lambda: buyer.daemon not in (None, before), "the buyer is up again")
        assert (await buyer.call(c.OPEN, wish)).chid == copied[0]
        await until(lambda: len(net.bench.rpc("getrawmempool")) == 1, "it is funded")
        await net.mine(2)
        await live(buyer, copied[0])
        assert [one.chid for one in (await buyer.call(c.LIST, c.ListChannels())).channels] == [copied[0]]


async def test_a_start_waits_for_a_wallet_that_reads_long(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """After days without it a wallet reads for minutes: the daemon lives on meanwhile, and then begins its sessions."""
    monkeypatch.setattr(counter, "TIP_WITHIN_S", 0.1)
    plain, reading = Desk.tip, [True]

    async def tip(desk: Desk) -> Tip:
        found = await plain(desk)
        return structs.replace(found, synced=False) if reading and desk.me == seller.did else found

    async with market(net, "buyer", "seller") as (buyer, seller):
        await open_channel(net, buyer, seller)
        before = seller.daemon
        monkeypatch.setattr(Desk, "tip", tip)
        seller.death.set()
        await until(lambda: seller.daemon not in (None, before), "the seller is up again")
        daemon = seller.daemon
        await asyncio.sleep(0.5)
        assert seller.daemon is daemon
        reading.clear()
        monkeypatch.setattr(counter, "TIP_WITHIN_S", 20.0)
        await net.mine(1)  # the wallet tells of its tip when it has caught up
        assert (await stubborn(buyer, seller, await offer(seller), Counter())).outcome is Outcome.OK


async def test_a_killed_taskd_leaves_no_call_running(net: Net) -> None:
    """Killed between admission and finish, with escrowd alive: its next life fails the call; nothing runs again."""
    async with market(net, "buyer", "seller") as (buyer, seller):
        chid = await open_channel(net, buyer, seller)
        _, dies, _, there = parts(buyer, seller, wait_s=SOON_S)
        Gate(there)
        paid, asked = await bought(buyer, seller, dies)
        assert (await dies.call(asked, buyer.did)).reason == "running"
        _, lives, _, anew = parts(buyer, seller)
        done = await settled(buyer, paid, await lives.call(asked, buyer.did))
        assert (done.outcome, done.charged_florins, anew.runs) == (Outcome.FAILED, 0, [])
        mine, theirs = await view(buyer, chid), await view(seller, chid)
        assert mine.owed_florins == theirs.owed_florins == 0
        await closes(net, buyer, seller, chid)
        await dies.stop()  # only that its task does not outlive the test: the call is answered

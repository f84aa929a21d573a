"""An old disk of a payee: what it takes from a copy, whom it asks, and that it decides nothing before."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from common.channel_messages import NO_ROOT, Outcome
from common.clock import ManualClock
from common.codec import canonical
from common.contracts import channel as c
from common.contracts.channel_errors import ChannelBusy
from common.contracts.escrow import WrongPhase
from common.contracts.peer_copies import CopiesAsked, CopiesFound, KeptCopy
from common.errors import NotNow
from common.store import Store
from common.units import FLOP, Did, Florins
from dux_escrowd.channel import copies, newest, payee, payee_orders
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.ledger import Ledger
from dux_escrowd.channel.model import Payee, PayeeState, Receipt
from dux_escrowd.channel.newest import Newest
from dux_escrowd.channel.restoring import Restoring
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.selling import Selling
from dux_escrowd.channel.shelf import Book
from dux_escrowd.schema import MIGRATIONS
from tests.chain.test_channel import terms
from tests.rules.channel_kit import COIN, OTHER_COIN, PRICE, TIP, done, oid, open_pair, req, voucher, wanted, went

ANNA, BERT, CARL = Did("did:dux:anna"), Did("did:dux:bert"), Did("did:dux:carl")
TERMS, KEY = terms(), b"k" * 32
CHID = "c4" * 32
TAG = copies.channel_tag(KEY, 7)


def worked(calls: int) -> Payee:
    """A seller after so many answered calls, the last one still at work."""
    buyer, seller = open_pair()
    for j in range(1, calls + 1):
        buyer = went(buyer, wanted(j))
        seller = went(seller, voucher(buyer, j), f.RunStarted(at=TIP, j=j))
        seller = seller if j == calls else went(seller, done(j))
    return seller


def copy_of(state: Payee, version: int) -> copies.ChannelCopy:
    part, calls = copies.payee_part(state, [copies.CallCopy(one.j, b"voucher") for one in state.calls])
    return copies.ChannelCopy(
        version=version, terms=canonical(TERMS), key_index=7, created_height=9, payee=part, head=b"head", calls=calls
    )


def came(state: Payee) -> f.CopyCame:
    return f.CopyCame(at=TIP, copy=copies.payee_again(state, TERMS, rerun=False))


# --- the table --------------------------------------------------------------------------------------------------------


def test_an_old_payee_takes_the_books_of_a_copy() -> None:
    """W and S are the copy's, at once where its coin is seen here, after the coin is seen where it is not."""
    old, new = worked(1), worked(3)
    took = went(old, came(new))
    assert (took.state, took.coin, took.session) == (PayeeState.OPEN_SEEN, COIN, b"")
    assert (took.held_florins, took.owed_florins, len(took.calls)) == (new.held_florins, 3 * PRICE, 3)
    assert went(took, f.Started(at=TIP, nonce=b"n" * 32)).owed_florins == 2 * PRICE  # what was at work is credited
    moved = went(structs.replace(old, coin=OTHER_COIN, outpoint=OTHER_COIN.outpoint), came(new))
    assert (moved.state, moved.coin) == (PayeeState.SUSPENDED, None)
    assert went(moved, f.CoinSeen(at=TIP, coin=COIN)).held_florins == new.held_florins
    offered = went(Payee(chid=CHID, rules=old.rules), f.OpenAsked(at=100, problem=""))
    assert went(offered, came(new), f.CoinSeen(at=TIP, coin=COIN)).state is PayeeState.OPEN_SEEN
    with pytest.raises(WrongPhase):
        payee.decide(structs.replace(old, state=PayeeState.CLOSE_SENT), came(new))


def test_work_that_was_paid_ahead_is_copied_at_each_step_too() -> None:
    """W stays where it is; S alone crosses x. The copy says what S was, and so far nothing more is due."""
    ahead = structs.replace(open_pair()[1], cums=(5 * FLOP,), mirrored_florins=5 * FLOP)
    at = voucher(went(open_pair()[0], wanted(1)), 1)
    for owed, due in ((FLOP - 1, False), (FLOP, True), (2 * FLOP, True)):
        state = structs.replace(ahead, settled_florins=owed)
        orders = payee_orders.execute(state, state, at)
        assert [type(one).__name__ for one in orders] == (["Mirror", "Execute"] if due else ["Execute"]), owed
        placed = went(state, f.Mirrored(at=TIP, cum_florins=5 * FLOP, owed_florins=owed))
        assert len(payee_orders.execute(placed, placed, at)) == 1


# --- asking -----------------------------------------------------------------------------------------------------------


def node(monkeypatch: pytest.MonkeyPatch, *answers: dict[Did, list[bytes] | None], watchers: tuple[Did, ...]) -> Any:
    """A payee that has started from an old disk; one dict of answers for each round, None: silent."""
    store = Store.open(None, list(MIGRATIONS), ManualClock())
    ledger, rounds = Ledger(store), list(answers)
    book = Book(
        chid=CHID, side="payee", other=ANNA, terms=TERMS, key_index=7, output_script=b"s", address="a", created_ms=1,
        created_height=9, follow=True, reason="", opening=b"", final=b"",
    )  # fmt: skip
    with store.transaction() as tx:
        ledger.open(tx, book, worked(1))
        ledger.note(tx, CHID, copied=5)
    monkeypatch.setattr(newest, "PAUSES_S", (0.0,) * len(answers))
    log = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None)
    desk = SimpleNamespace(
        me=CARL, log=log, settings=SimpleNamespace(copies=True, channel_watchers=watchers, channel_on_crash="credit")
    )

    async def value(found: Any) -> Any:
        return found

    async def key() -> bytes:
        if rounds and rounds[0] == {}:
            rounds.pop(0)
            raise NotNow
        return KEY

    async def keepers(*_: Any) -> list[Did]:
        return sorted({ANNA, BERT, *watchers} - {CARL})

    async def peer(did: Did, _method: Any, _asked: CopiesAsked, **_more: Any) -> CopiesFound:
        said = rounds[0].get(did)
        if did == max({ANNA, BERT, *watchers} - {CARL}):
            rounds.pop(0)
        if said is None:
            raise NotNow
        return CopiesFound(copies=tuple(KeptCopy(tag=TAG, sealed=sealed) for sealed in said), more=False)

    desk.peers = SimpleNamespace(call=peer)
    counter: Any = SimpleNamespace(ledger=ledger, desk=desk, height=lambda: value(TIP), watch=lambda _book: value(None))
    safe: Any = SimpleNamespace(key=key, keepers=keepers, newer_than=lambda _version: None)
    made = Newest(counter, safe, Restoring(counter, safe))
    made.doubt()
    return SimpleNamespace(newest=made, ledger=ledger, rounds=rounds)


def sealed(state: Payee, version: int) -> bytes:
    return copies.sealed_channel(copy_of(state, version), KEY, TAG, b"n" * 12)


async def test_the_newest_copy_of_all_watchers_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The payer hands out an old one, one watcher is silent at first and the wallet locked: all are heard."""
    late, soon = sealed(worked(3), 9), sealed(worked(2), 8)
    here = node(
        monkeypatch, {}, {ANNA: [sealed(worked(1), 4)], BERT: [soon, b"rubbish"]}, {BERT: [late], ANNA: []},
        watchers=(ANNA, BERT, CARL),
    )  # fmt: skip
    with pytest.raises(ChannelBusy):
        await here.ledger.take(CHID, f.Clock(at=TIP))
    await here.newest.settle([CHID])
    assert here.ledger.payee(CHID).owed_florins == 2 * PRICE  # both answered in the second round: no third
    assert len(here.rounds) == 1
    assert here.ledger.book(CHID).copied == 8
    assert here.ledger.shelf.call(CHID, 2).voucher == b"voucher"
    await here.ledger.take(CHID, f.Clock(at=TIP))


async def test_a_watcher_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy is the only new one; whoever never answers holds the channel up for a minute and no longer."""
    late = sealed(worked(3), 9)
    here = node(monkeypatch, {ANNA: [], BERT: None}, {ANNA: [], BERT: [late]}, watchers=(BERT,))
    await here.newest.settle([CHID])
    assert here.ledger.payee(CHID).owed_florins == 3 * PRICE
    dead = node(monkeypatch, {ANNA: [late], BERT: None}, {ANNA: [late], BERT: None}, watchers=(BERT,))
    await dead.newest.settle([CHID])
    assert (dead.rounds, dead.ledger.unsure) == ([], set())
    assert dead.ledger.payee(CHID).owed_florins == 3 * PRICE


async def test_no_copy_takes_the_place_of_what_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that this disk's own books say was placed, an earlier one, a payer's, another channel's."""
    other = structs.replace(copy_of(worked(2), 9), payee=structs.replace(worked(2), chid="aa" * 32))
    payers = structs.replace(copy_of(worked(2), 9), payee=None, payer=open_pair()[0])
    said = [sealed(worked(3), 5), sealed(worked(3), 1)]
    said += [copies.sealed_channel(one, KEY, TAG, b"n" * 12) for one in (other, payers)]
    here = node(monkeypatch, {ANNA: said, BERT: said}, watchers=())
    before = here.ledger.payee(CHID)
    await here.newest.settle([CHID])
    assert here.ledger.payee(CHID) == before


async def test_what_ends_meanwhile_or_is_not_copied_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that was sent takes no books; a node that has no copies made doubts nothing."""
    here = node(monkeypatch, {ANNA: [sealed(worked(3), 9)], BERT: []}, watchers=())
    closing = structs.replace(here.ledger.payee(CHID), state=PayeeState.CLOSE_SENT)
    here.ledger._states[CHID] = closing
    await here.newest.settle([CHID])
    assert here.ledger.payee(CHID) == closing
    here.newest.doubt()
    assert here.ledger.unsure == set()
    here.ledger._states[CHID] = worked(1)
    here.newest._desk.settings.copies = False
    here.newest.doubt()
    assert here.ledger.unsure == set()


async def test_a_copy_s_version_stands_in_the_books_before_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else this node would take its own last copy for newer books after a start; a clock set back changes nothing."""
    here = node(monkeypatch, watchers=())
    shelf = SimpleNamespace(keys_beyond=lambda _numbers: (11, 9))
    desk = SimpleNamespace(clock=SimpleNamespace(unix_ms=lambda: 3), book=SimpleNamespace(shelf=shelf))
    safe = Safekeeping(cast("Any", SimpleNamespace(ledger=here.ledger, desk=desk)))
    made = safe._copy(here.ledger.book(CHID))
    assert (made.version, made.highest) == (6, 11)
    assert here.ledger.book(CHID).copied == 6


# --- the end of a call that the payer says it has --------------------------------------------------------------------


async def test_a_result_that_the_payer_says_it_has_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hello's receipt settles a call while it is at work here: it ends as failed, free of charge, with an error."""
    here = node(monkeypatch, watchers=())
    here.ledger.unsure.clear()
    running = here.ledger.payee(CHID)
    receipt = Receipt(low=2, root=b"r" * 32, paid_florins=0)
    hello = f.HelloCame(
        at=TIP, payer_nonce=b"p" * 32, session=b"t" * 32, outpoint="", head_florins=0, receipt=receipt
    )  # fmt: skip
    assert running.counts(running.calls[0])
    await here.ledger.take(CHID, hello)
    signed: list[Any] = []

    async def message(_chid: str, _purpose: Any, said: Any) -> bytes:
        signed.append(said)
        return b"answer"

    async def at() -> tuple[int, bool]:
        return TIP, True

    desk = SimpleNamespace(clock=ManualClock(), settings=SimpleNamespace(channel_silent_s=120))
    counter: Any = SimpleNamespace(ledger=here.ledger, signer=SimpleNamespace(message=message), at=at, desk=desk)
    with here.ledger.store.transaction() as tx:
        here.ledger.shelf.put_call(tx, CHID, running.calls[0], b"voucher")
    finish = c.Finish(
        call=c.CallRef(chid=CHID, j=1), outcome=Outcome.OK, resp=hashlib.sha256(b"result").digest(), response=b"result",
        charged_florins=Florins(PRICE),
    )  # fmt: skip
    selling = Selling(counter, cast("Any", None))
    with pytest.raises(ChannelBusy, match="hand nothing out"):
        await selling.finish(finish)
    row = here.ledger.shelf.call(CHID, 1)
    assert (row.answer, row.response, row.oid, row.call.req) == (b"answer", None, oid(1), req(1))
    assert (signed[0].outcome, signed[0].charged_florins, signed[0].resp) == (Outcome.FAILED, 0, NO_ROOT)
    assert here.ledger.payee(CHID).owed_florins == 0
    assert (await selling.finish(finish)).answer == b"answer"  # said again: the same answer

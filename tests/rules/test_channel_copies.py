"""Copies of channels: what they hold, whom they open for, what a restored side makes of them, how many are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from common.clock import ManualClock
from common.codec import canonical
from common.contracts.peer_copies import COPIES_BYTES_MAX, CopiesAsked, CopiesFound, KeepCopy, KeptCopy
from common.contracts.wallet_restore import CONTRACT_MISSING, BlobKey, Missing
from common.errors import BadParams
from common.store import Store
from common.units import Did
from dux_escrowd.channel import copies, payee, safekeeping
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import Call, CallState, Payee, PayeeState, Receipt
from dux_escrowd.channel.restoring import Restoring
from dux_escrowd.channel.safekeeping import PER_OWNER_MAX, Safekeeping
from dux_escrowd.copies import GAP
from dux_escrowd.schema import MIGRATIONS
from tests.chain.test_channel import terms
from tests.rules.channel_kit import COIN, OTHER_COIN, PRICE, TIP, oid, open_pair, req, voucher, wanted, went

pytestmark = pytest.mark.patient

ANNA, BERT = Did("did:dux:anna"), Did("did:dux:bert")
TERMS = terms()
KEY, NONCE = b"k" * 32, b"n" * 12
TAG = copies.channel_tag(KEY, 7)


def call(j: int, state: CallState, price: int) -> Call:
    return Call(j=j, oid=oid(j), req=req(j), state=state, price_max_florins=price, price_florins=price)


@given(
    ended=st.lists(
        st.tuples(st.sampled_from([CallState.OK, CallState.FAILED, CallState.RUNNING]), st.integers(1, 10**9)),
        max_size=128,
    ),
    size=st.integers(1, 2_000),
)
def test_a_copy_owes_what_its_channel_owed(ended: list[tuple[CallState, int]], size: int) -> None:
    """Calls whose vouchers have no room count as settled: no restored payee takes paid work for unspent credit."""
    calls = tuple(call(j, state, price) for j, (state, price) in enumerate(ended, 1))
    state = Payee(chid="c4" * 32, rules=open_pair()[1].rules, settled_florins=5, calls=calls)
    part, kept = copies.payee_part(state, [copies.CallCopy(one.j, bytes(size)) for one in calls])
    assert part.owed_florins == state.owed_florins
    assert tuple(item.j for item in kept) == tuple(one.j for one in part.calls)
    assert part.calls == calls[len(calls) - len(kept) :]
    full = copies.ChannelCopy(
        version=1, terms=canonical(TERMS), key_index=7, created_height=9, payee=part, head=bytes(1_100), calls=kept
    )
    sealed = copies.sealed_channel(full, KEY, TAG, NONCE)
    assert copies.opened_channel(sealed, KEY, TAG) == full


def test_a_copy_opens_for_its_owner_alone() -> None:
    """Another key, another tag, a changed byte, rubbish: no copy. One too large is not made."""
    state = open_pair()[0]
    copy = copies.ChannelCopy(
        version=3, terms=canonical(TERMS), key_index=7, created_height=9, payer=copies.payer_part(state)
    )
    sealed = copies.sealed_channel(copy, KEY, TAG, NONCE)
    assert copies.opened_channel(sealed, KEY, TAG) == copy
    assert copy.agreed == TERMS
    wrong = [(sealed, b"j" * 32, TAG), (sealed, KEY, copies.channel_tag(KEY, 8)), (b"", KEY, TAG), (NONCE, KEY, TAG)]
    wrong += [(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], KEY, TAG) for at in (0, 12, 60, -1)]
    wrong += [(copies.locked(b"\x90", KEY, TAG, NONCE), KEY, TAG)]
    for body, key, tag in wrong:
        with pytest.raises(BadParams, match="no copy"):
            copies.opened_channel(body, key, tag)
    with pytest.raises(BadParams, match="bytes"):
        copies.sealed_channel(structs.replace(copy, head=bytes(40_000)), KEY, TAG, NONCE)
    tags = {copies.channel_tag(key, number) for key in (KEY, b"x" * 32) for number in range(30)}
    assert len(tags) == 60


def test_a_payer_from_a_copy_signs_no_less_than_it_had() -> None:
    """Amount and number are those of the copy; the coin is looked for, nothing is funded."""
    buyer, _ = open_pair()
    paid = went(buyer, wanted(1), wanted(2))
    again = copies.payer_again(copies.payer_part(paid), TERMS)
    assert (again.cum_florins, again.j, again.calls, again.coin) == (paid.cum_florins, 2, (), None)


def test_a_payee_from_a_copy_holds_its_voucher_for_that_coin_alone() -> None:
    """W and S are those of the copy on the same coin; on another one W is nothing until the payer's hello."""
    buyer, seller = open_pair()
    buyer = went(buyer, wanted(1))
    seller = went(seller, voucher(buyer, 1), f.RunStarted(at=TIP, j=1))
    part, _ = copies.payee_part(seller, [copies.CallCopy(1, b"v")])
    again = copies.payee_again(part, TERMS, rerun=False)
    assert (again.state, again.coin, again.session) == (PayeeState.SUSPENDED, None, b"")
    there = went(again, f.CoinSeen(at=TIP, coin=COIN))
    assert (there.state, there.held_florins, there.owed_florins) == (PayeeState.OPEN_SEEN, seller.held_florins, PRICE)
    started = went(there, f.Started(at=TIP, nonce=b"n" * 32))
    assert (started.owed_florins, started.calls[0].state) == (0, CallState.FAILED)
    moved = went(again, f.CoinSeen(at=TIP, coin=OTHER_COIN))
    assert (moved.state, moved.held_florins) == (PayeeState.SUSPENDED, 0)


def test_a_payee_that_holds_less_than_it_is_owed_asks_for_a_hello() -> None:
    """The coin of a copy is seen, W does not cover S: the payer, who has the best voucher, is asked at once."""
    short = Payee(
        chid="c4" * 32, rules=open_pair()[1].rules, state=PayeeState.SUSPENDED, outpoint=COIN.outpoint,
        settled_florins=PRICE, receipt=Receipt(low=2),
    )  # fmt: skip
    decided = payee.decide(short, f.CoinSeen(at=TIP, coin=COIN))
    assert [type(order).__name__ for order in decided.effects] == ["AskHello"]
    covered = structs.replace(short, cums=(PRICE,))
    assert payee.decide(covered, f.CoinSeen(at=TIP, coin=COIN)).effects == ()


# --- finding own copies -----------------------------------------------------------------------------------------------


def rubbish(number: int) -> KeptCopy:
    return KeptCopy(tag=copies.channel_tag(KEY, number), sealed=b"rubbish" * 9)


def looking(numbers: int, *kept: tuple[int, int], page: int = 1, highest: int = -1) -> Restoring:
    """A node whose wallet knows of so many keys; another node keeps copies of these (number, version), 0 for junk.

    It gives them in this order, so many at a time.
    """
    state, seen, standing = open_pair()[0], list[int](), list[int]()

    def sealed(number: int, version: int) -> KeptCopy:
        copy = copies.ChannelCopy(
            version=version, terms=canonical(TERMS), key_index=number, created_height=9, payer=copies.payer_part(state),
            highest=highest,
        )  # fmt: skip
        tag = copies.channel_tag(KEY, number)
        return KeptCopy(tag=tag, sealed=copies.sealed_channel(copy, KEY, tag, NONCE))

    everything = [sealed(*one) if one[1] else rubbish(one[0]) for one in (*kept, (1, 0))]

    async def flopd(method: Any, params: Any) -> BlobKey | Missing:
        if method is CONTRACT_MISSING:
            standing.append(params.highest)
            return Missing(names=())
        return BlobKey(key=KEY, numbers=numbers, restored=True)

    async def records(*_asked: Any) -> list[Any]:
        return []

    async def peer(_did: Did, _method: Any, asked: CopiesAsked, **_more: Any) -> CopiesFound:
        found = [copy for copy in everything if copy.tag in asked.tags]
        return CopiesFound(copies=tuple(found[:page]), more=len(found) > page)

    async def active() -> list[Did]:
        return [ANNA]

    def newer(version: int) -> None:
        seen.append(version)

    peers = SimpleNamespace(get_records=records, call=peer)
    desk = SimpleNamespace(
        flopd=SimpleNamespace(call=flopd), peers=peers, me=BERT, log=SimpleNamespace(warning=lambda *_, **__: None)
    )
    counter: Any = SimpleNamespace(ledger=None, desk=desk)
    safe = SimpleNamespace(active=active, newer_than=newer, seen=seen, standing=standing)
    return Restoring(counter, cast("Any", safe))


async def test_numbers_are_looked_through_as_far_as_anybody_knows_and_a_gap_beyond() -> None:
    """Ended channels leave no copies: forty numbers without one end no search that the wallet knows to be too short."""
    node = looking(60, (59, 4), (78, 9))
    assert [copy.key_index for copy in await node._found()] == [59, 78]
    assert max(node._safe.seen) == 9  # later copies of this node have later versions
    assert await looking(0)._found() == []
    assert [copy.key_index for copy in await looking(0, (3, 1), (23, 1), (24 + GAP, 1))._found()] == [3, 23]


async def test_a_tag_is_asked_for_until_a_copy_under_it_opens() -> None:
    """Junk that came beside a copy hides nothing behind it, and an answer that is all junk ends no search."""
    node = looking(0, (1, 0), (1, 0), (2, 1), (3, 0), (3, 1), page=2)
    tags = tuple(copies.channel_tag(KEY, number) for number in (1, 2, 3))
    found = await node.ask(ANNA, tags, KEY)
    assert found is not None
    assert [(tag, copy.key_index) for tag, copy in found] == [(tags[1], 2), (tags[2], 3)]
    assert await node.ask(ANNA, tags, b"another key".ljust(32)) == []
    assert [copy.key_index for copy in await node._found()] == [2, 3]


async def test_copies_tell_how_far_numbers_were_in_use() -> None:
    """Two hundred wishes that came to nothing lie between two channels: the first one's copy says that there are more.

    A copy of an earlier release says nothing of it, and opens; the wallet is told the highest number.
    """
    node = looking(0, (3, 1), (24 + GAP, 1), highest=24 + GAP)
    assert [copy.key_index for copy in await node._found()] == [3, 24 + GAP]
    assert node._safe.standing == [24 + GAP]  # type: ignore[attr-defined]
    copy = copies.ChannelCopy(version=1, terms=canonical(TERMS), key_index=7, created_height=9)
    old = msgspec.msgpack.encode({k: v for k, v in structs.asdict(copy).items() if k != "highest"})
    assert copies.opened_channel(copies.locked(old, KEY, TAG, NONCE), KEY, TAG).highest == -1


async def test_the_chain_is_looked_at_once_more_when_channels_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wallet tells of a coin once, maybe before the channel stands in the book: no block need come first."""
    node, told = looking(0, (3, 1), (7, 1)), list[str]()
    books = dict[str, Any]()
    node._ledger = cast("Any", SimpleNamespace(shelf=SimpleNamespace(book=books.get)))

    async def back(name: str, _copy: copies.ChannelCopy) -> None:
        books[name] = name
        told.append("back")

    async def look() -> None:
        told.append("looked")

    monkeypatch.setattr(node, "_bring_back", back)
    node.when_back.append(look)
    assert len((await node.look()).restored) == 1  # both copies are of one channel
    assert told == ["back", "looked"]
    assert (await node.look()).restored == ()
    assert told == ["back", "looked"]


# --- keeping for others -----------------------------------------------------------------------------------------------


@pytest.fixture
def keeper() -> Safekeeping:
    store = Store.open(None, MIGRATIONS, ManualClock())
    desk = SimpleNamespace(settings=SimpleNamespace(copies_for_others=PER_OWNER_MAX + 2))
    desk.profile = SimpleNamespace(heights="main")

    async def active() -> list[Did]:
        return []

    desk.active = active
    ledger = SimpleNamespace(store=store, shelf=SimpleNamespace(followed=list))
    counter: Any = SimpleNamespace(ledger=ledger, desk=desk, tip=50)
    return Safekeeping(counter)


def put(number: int = 7, version: int = 1, sealed: bytes = b"sealed", until: int = 100) -> KeepCopy:
    return KeepCopy(tag=copies.channel_tag(KEY, number), version=version, until=until, sealed=sealed)


async def held(keeper: Safekeeping, *numbers: int) -> list[bytes]:
    asked = CopiesAsked(tags=tuple(copies.channel_tag(KEY, number) for number in numbers))
    return [copy.sealed for copy in (await keeper.give(asked, BERT)).copies]


async def test_a_later_copy_takes_the_place_of_an_earlier_one_of_the_same_owner(keeper: Safekeeping) -> None:
    """Not an earlier one, not another owner's; an empty one withdraws it; over at its height."""
    assert (await keeper.keep(put(version=2, sealed=b"second"), ANNA)).kept
    assert not (await keeper.keep(put(version=1, sealed=b"first"), ANNA)).kept
    assert (await keeper.keep(put(version=2, sealed=b"second"), ANNA)).kept  # said again
    assert (await keeper.keep(put(version=9, sealed=b"foreign"), BERT)).kept
    assert sorted(await held(keeper, 6, 7)) == [b"foreign", b"second"]
    assert (await keeper.keep(put(version=3, sealed=b""), ANNA)).kept
    assert await held(keeper, 7) == [b"foreign"]
    await keeper.look(100)
    assert await held(keeper, 7) == [b"foreign"]
    await keeper.look(101)
    assert await held(keeper, 7) == []


async def test_so_many_copies_are_kept_and_no_more(keeper: Safekeeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one owner, in all, and by their bytes; an owner's present copies can always be renewed."""
    for number in range(PER_OWNER_MAX):
        assert (await keeper.keep(put(number), ANNA)).kept
    assert not (await keeper.keep(put(PER_OWNER_MAX), ANNA)).kept
    assert (await keeper.keep(put(0, version=2), ANNA)).kept
    assert (await keeper.keep(put(0), BERT)).kept
    monkeypatch.setattr(safekeeping, "SEALED_BYTES_MAX", 100)
    assert not (await keeper.keep(put(1), BERT)).kept
    monkeypatch.undo()
    assert (await keeper.keep(put(1), BERT)).kept
    assert (await keeper.keep(put(2), BERT)).kept  # who takes most gives way
    assert sum([len(await held(keeper, number)) for number in range(PER_OWNER_MAX)]) == PER_OWNER_MAX + 2


async def test_a_larger_copy_needs_its_bytes_as_a_new_one_does(
    keeper: Safekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte that has a place brings none for 32 KiB; without room the earlier copy stays, and a smaller one fits."""
    monkeypatch.setattr(safekeeping, "SEALED_BYTES_MAX", 10)
    assert (await keeper.keep(put(1, sealed=b"x"), ANNA)).kept
    assert (await keeper.keep(put(2, sealed=b"eight by"), ANNA)).kept
    assert not (await keeper.keep(put(1, version=2, sealed=b"xyz"), ANNA)).kept
    assert await held(keeper, 1) == [b"x"]
    assert (await keeper.keep(put(1, version=3, sealed=b"xy"), ANNA)).kept
    monkeypatch.setattr(safekeeping, "SEALED_BYTES_MAX", 5)
    assert (await keeper.keep(put(2, version=2, sealed=b"eight 2y"), ANNA)).kept
    assert (await keeper.keep(put(1, version=4, sealed=b""), ANNA)).kept


async def test_the_askers_own_copies_come_before_junk_and_what_came_first_before_what_came_later(
    keeper: Safekeeping,
) -> None:
    """A pointer tells everybody the tag: names that sort first, with large copies of high versions, hide nothing."""
    victim = Did("did:dux:victim")
    assert (await keeper.keep(put(7, sealed=b"real"), victim)).kept
    for number in range(40):
        for tag in (7, 8):
            assert (await keeper.keep(put(tag, version=9, sealed=bytes(32_000)), Did(f"did:dux:a{number:02}"))).kept
    assert (await keeper.keep(put(8, sealed=b"late, and its own"), victim)).kept
    assert (await keeper.keep(put(7, version=2, sealed=b"newer"), victim)).kept  # it keeps its place in time
    asked = CopiesAsked(tags=(copies.channel_tag(KEY, 7), copies.channel_tag(KEY, 8)))
    mine, foreign = await keeper.give(asked, victim), await keeper.give(asked, BERT)
    assert [copy.sealed for copy in mine.copies[:2]] == [b"newer", b"late, and its own"]
    assert foreign.copies[0].sealed == b"newer"  # whatever name the owner has after a restore
    assert len(mine.copies) <= 2 * safekeeping.COPIES_OF_A_TAG


async def test_no_copy_is_kept_for_ever(keeper: Safekeeping) -> None:
    """However long its owner wants it: the longest channel and its aftermath are the bound."""
    assert (await keeper.keep(put(until=2**31 - 1), ANNA)).kept
    await keeper.look(50 + 43_200 + 1_440)
    assert await held(keeper, 7) == [b"sealed"]
    await keeper.look(50 + 43_200 + 1_441)
    assert await held(keeper, 7) == []
    keeper._counter.tip = None  # a daemon that has just started
    assert (await keeper.keep(put(until=2**31 - 1), ANNA)).kept
    await keeper.look(50)
    await keeper.look(50 + 43_200 + 1_441)
    assert await held(keeper, 7) == []


async def test_answers_fit_a_message(keeper: Safekeeping) -> None:
    """What does not fit is left for the next question."""
    for number in range(20):
        assert (await keeper.keep(put(number, sealed=bytes(32_000)), ANNA)).kept
    tags = tuple(copies.channel_tag(KEY, number) for number in range(20))
    first = await keeper.give(CopiesAsked(tags=tags), BERT)
    assert first.more
    assert sum(len(copy.sealed) for copy in first.copies) <= COPIES_BYTES_MAX
    got = {copy.tag for copy in first.copies}
    rest = await keeper.give(CopiesAsked(tags=tuple(tag for tag in tags if tag not in got)), BERT)
    assert (len(first.copies) + len(rest.copies), rest.more) == (20, False)

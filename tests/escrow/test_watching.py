"""What a watcher keeps for others: real closes alone, in a room that nobody takes whole."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from common.chain.channel import ChannelTerms, chid
from common.chain.channel_heights import MAIN
from common.chain.tx import Outpoint
from common.chain.verify import SpendRefused
from common.clock import ManualClock
from common.contracts import peer_channel as peer
from common.contracts.wallet_errors import NotSynced
from common.errors import DuxError
from common.store import Store
from common.units import Did
from dux_escrowd.channel.watch import PER_PAYEE_MAX, Watch
from dux_escrowd.schema import MIGRATIONS
from tests.attacks.registry import attack
from tests.chain.test_channel import close_of, terms

VICTIM, PAYER = Did("did:dux:m" + "m" * 51), Did("did:dux:p" + "p" * 51)
TIP = terms().exp - 1_000


class _Log:
    def info(self, *_words: Any, **_more: Any) -> None:
        """Nobody reads it here."""


class _Flopd:
    """Takes what is published."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refusal: DuxError | None = None

    async def call(self, _method: Any, wish: Any) -> Any:
        self.sent.append(wish.raw)
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(txid="00" * 32)


def watcher(room: int = 256, tip: int | None = TIP, known: Sequence[Did] = ()) -> tuple[Watch, _Flopd]:
    store, flopd = Store.open(None, MIGRATIONS, ManualClock()), _Flopd()
    desk = SimpleNamespace(
        settings=SimpleNamespace(watch_for_others=room), profile=SimpleNamespace(heights="main"), log=_Log(),
        flopd=flopd,
    )  # fmt: skip
    counter: Any = SimpleNamespace(
        ledger=SimpleNamespace(store=store), desk=desk, tip=tip, genesis=terms().network
    )  # fmt: skip

    async def active() -> list[Did]:
        return list(known)

    return Watch(counter, active), flopd


def wish(made: ChannelTerms, **changes: Any) -> peer.KeepClose:
    told = {"chid": chid(made), "raw": close_of(made), "publish_at": made.exp - 216} | changes
    return peer.KeepClose(**told)


def at_exp(exp: int) -> ChannelTerms:
    return terms(exp=exp)


@attack(
    "payment",
    tries="junk under a channel id from its payer, at the watchers, before the payee has a close to hand in",
    meets="a watcher keeps closes alone that both parties signed, one for each node that hands one in",
)
async def test_junk_under_a_channels_id_is_not_kept_and_does_not_stand_in_its_way() -> None:
    """The payer knows the id before the payee has a close: what it hands in first keeps nobody out."""
    watch, _ = watcher()
    for raw in (b"", b"\0" * 100, close_of(terms(), ("payer", "payer"))):
        assert not (await watch.keep(wish(terms(), raw=raw), PAYER)).kept
    assert (await watch.keep(wish(terms(), raw=close_of(terms())), PAYER)).kept, "an old close from the chain, say"
    assert (await watch.keep(wish(terms()), VICTIM)).kept
    assert not (await watch.keep(wish(terms(), chid=b"c" * 32), VICTIM)).kept


async def test_a_close_is_published_before_exp_and_goes_some_time_after() -> None:
    """Whatever height was asked for: no place is taken for ever."""
    watch, flopd = watcher()
    exp = terms().exp
    assert (await watch.keep(wish(terms(), publish_at=2**60), VICTIM)).kept
    await watch.look(exp - 2)
    assert flopd.sent == []
    await watch.look(exp - 1)
    assert flopd.sent == [close_of(terms())]
    await watch.look(exp + 10)
    assert len(flopd.sent) == 1
    rows = watch._store.rows
    assert len(rows("SELECT 1 FROM watched_closes")) == 1
    await watch.look(exp + 145)
    assert rows("SELECT 1 FROM watched_closes") == []


@attack(
    "payment",
    tries="closes of made-up channels, to be published at once, and others in their place as soon as they are",
    meets="a place publishes once, in its channel's closing zone, and what the wallet refuses is not tried again",
)
@pytest.mark.parametrize("refusal", [None, SpendRefused(reason="input 0"), NotSynced(height=TIP)])
async def test_a_place_publishes_once_and_near_the_end(refusal: DuxError | None) -> None:
    """Whoever hands in closes of no coin at all makes this node say little, and its wallet keep little."""
    watch, flopd = watcher()
    flopd.refusal = refusal
    assert (await watch.keep(wish(terms(), publish_at=0), PAYER)).kept
    await watch.look(terms().exp - MAIN.zone_blocks - 1)
    assert flopd.sent == []
    for height in range(3):
        await watch.look(terms().exp - MAIN.zone_blocks + height)
    waits = isinstance(refusal, NotSynced)
    assert len(flopd.sent) == (3 if waits else 1)
    other = close_of(terms(), point=Outpoint("77" * 32, 0))
    assert (await watch.keep(wish(terms(), raw=other), PAYER)).kept == waits


async def test_without_a_tip_nothing_is_kept() -> None:
    """A close far in the future would lie here for ever."""
    watch, _ = watcher(tip=None)
    assert not (await watch.keep(wish(terms()), VICTIM)).kept


async def test_strangers_give_way_to_nodes_that_live() -> None:
    """Names cost nothing: however many there are with one close each, who is known to live finds a place."""
    watch, _ = watcher(3, known=[VICTIM])
    for at in range(3):
        assert (await watch.keep(wish(at_exp(TIP + 100 + at)), Did("did:dux:" + "xyz"[at] * 52))).kept
    assert not (await watch.keep(wish(terms()), VICTIM)).kept
    await watch.look(TIP)
    assert not (await watch.keep(wish(terms()), PAYER)).kept
    assert (await watch.keep(wish(terms()), VICTIM)).kept


async def test_a_channel_longer_than_any_is_not_watched() -> None:
    """Its close would lie here for years."""
    watch, _ = watcher()
    assert (await watch.keep(wish(at_exp(TIP + MAIN.exp_max_blocks)), VICTIM)).kept
    assert not (await watch.keep(wish(at_exp(TIP + MAIN.exp_max_blocks + 1)), VICTIM)).kept


@pytest.mark.parametrize("room", [2 * PER_PAYEE_MAX])
async def test_who_takes_most_of_a_full_room_gives_way(room: int) -> None:
    """A newcomer finds a place, one with as many does not, and nobody has more than its share."""
    watch, _ = watcher(room)
    hogs = [Did(f"did:dux:{name * 52}") for name in "ab"]
    for at, hog in enumerate(hogs):
        for number in range(PER_PAYEE_MAX):
            assert (await watch.keep(wish(at_exp(TIP + 100 + 50 * at + number)), hog)).kept
        assert not (await watch.keep(wish(at_exp(TIP + 500)), hog)).kept
    assert (await watch.keep(wish(terms()), VICTIM)).kept
    assert (await watch.keep(wish(terms()), VICTIM)).kept, "its own is replaced, and costs nobody a place"
    counts = watch._store.rows("SELECT payee, count(*) AS held FROM watched_closes GROUP BY payee ORDER BY payee")
    assert [int(row["held"]) for row in counts] == [PER_PAYEE_MAX - 1, PER_PAYEE_MAX, 1]


async def test_in_a_room_of_equals_nobody_gives_way() -> None:
    """One each: the last one finds none."""
    watch, _ = watcher(2)
    for at, did in enumerate((VICTIM, PAYER)):
        assert (await watch.keep(wish(at_exp(TIP + 100 + at)), did)).kept
    assert not (await watch.keep(wish(terms()), Did("did:dux:" + "z" * 52))).kept
    assert not (await watcher(0)[0].keep(wish(terms()), VICTIM)).kept

"""A seller's disk is put back to an earlier day, its payer says nothing: what its watcher keeps is what counts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from common.units import Florins
from dux_escrowd.daemon import EscrowDaemon
from tests.escrow.channel_kit import PRICE, call, is_in, offer, open_channel, view
from tests.escrow.kit import Net, Node, market, until


def database(node: Node) -> Path:
    """Where its escrowd keeps its books."""
    (found,) = (node.net.folder / node.name / "data").rglob("escrowd.sqlite")
    return found


def kept(node: Node, to: Path) -> None:
    """A copy of its books, as a backup makes it."""
    copied(database(node), to)


def copied(books: Path, to: Path) -> None:
    """By SQLite itself: a killed daemon's connection, still open in this process, has a hand in the file."""
    with closing(sqlite3.connect(books)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def newest_kept(node: Node) -> int:
    """The version of the copy that it keeps for another."""
    with closing(sqlite3.connect(database(node))) as books:
        return int(books.execute("SELECT coalesce(max(version), 0) FROM kept_copies").fetchone()[0])


def starts_from(node: Node, disk: Path) -> None:
    """Its next life is from this disk."""
    plain = node._made

    def made() -> EscrowDaemon:
        copied(disk, database(node))
        node._made = plain  # type: ignore[method-assign]
        return plain()

    node._made = made  # type: ignore[method-assign]


async def lives_again(node: Node) -> None:
    before = node.daemon
    node.death.set()
    await until(lambda: node.daemon not in (None, before), f"{node.name} is up again")


async def test_a_seller_with_an_old_disk_asks_its_watcher_before_it_counts(net: Net, tmp_path: Path) -> None:
    """Work that was paid ahead is in the copy of each step; without that copy the seller would close at less."""
    async with market(net, "buyer", "seller", "carl") as (buyer, seller, carl):
        seller.settings = {"channel_watchers": (carl.did,), "channel_mirror_florins": Florins(1)}
        await lives_again(seller)
        chid, made = await open_channel(net, buyer, seller), await offer(seller)
        await call(buyer, seller, made)
        kept(seller, tmp_path / "old")
        for _ in range(3):
            await call(buyer, seller, made)
        held = (await view(seller, chid)).held_florins
        last = newest_kept(carl)
        buyer.off = True  # it would say that nothing was worked since
        starts_from(seller, tmp_path / "old")
        await lives_again(seller)
        await until(lambda: is_in(seller, chid, "OPEN_SEEN", "OPEN"), "the newer books are taken")

        async def newer() -> bool:
            return (await view(seller, chid)).owed_florins == 3 * PRICE  # the fourth was at work at its own copy

        await until(newer, "all that the last copy knew counts")
        assert (await view(seller, chid)).held_florins == held
        await until(lambda: newest_kept(carl) > last, "a copy of this life is kept: not one of the old disk's books")
        await lives_again(seller)  # its own disk is the newest now
        await until(newer, "and still counts")

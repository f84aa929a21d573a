"""What a wallet with older books was handed is not forgotten before the wallet has read its blocks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.contracts.wallet_errors import NotSynced
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY, CONTRACT_MISSING
from dux_escrowd import adopting
from dux_escrowd.adopting import Adopting

CHID = "aa" * 32


class OldWallet:
    """It takes a channel in at once, and has read its blocks after so many questions."""

    def __init__(self, reads_after: int) -> None:
        self.reads_after = reads_after
        self.known = set[str]()
        self.read, self.told = list[str](), list[str]()

    async def call(self, method: Any, params: Any) -> Any:
        if method is CONTRACT_BLOB_KEY:
            return SimpleNamespace(numbers=0)
        assert method is CONTRACT_MISSING
        return SimpleNamespace(names=tuple(name for name in params.names if name not in self.known))

    async def adopted_again(self, book: Any) -> None:
        self.known.add(book.chid)

    async def read_again(self, name: str, *_where: Any) -> None:
        self.read.append(name)
        if len(self.read) <= self.reads_after:
            raise NotSynced(height=1)

    async def hook(self, chid: str) -> None:
        assert len(self.read) > self.reads_after
        self.told.append(chid)

    def adopting(self) -> Adopting:
        log = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None)
        shelf = SimpleNamespace(followed=list, keys_beyond=lambda _numbers: (-1, 0))
        book = SimpleNamespace(shelf=shelf)
        desk = SimpleNamespace(book=book, flopd=self, log=log, read_again=self.read_again)
        books = {CHID: SimpleNamespace(chid=CHID, output_script=b"s", created_height=1)}
        channels = SimpleNamespace(listed=lambda *_, **__: [CHID], followed=list, book=books.get)
        made = Adopting(cast("Any", desk), cast("Any", channels), cast("Any", self), asyncio.Lock())
        made.when_back.append(self.hook)
        return made


@pytest.mark.parametrize("reads_after", [0, 1, 5])
async def test_it_is_done_when_the_wallet_has_read_all_in_however_many_rounds(
    monkeypatch: pytest.MonkeyPatch, reads_after: int
) -> None:
    """Two waits a round: in the later ones the wallet knows the name already, and its blocks are still waited for."""
    monkeypatch.setattr(adopting, "READS_MAX", 2)
    monkeypatch.setattr(adopting, "PAUSE_S", 0.0)
    wallet = OldWallet(reads_after)
    made = wallet.adopting()
    await made.run()
    assert (made.done, wallet.read, wallet.told) == (True, [CHID] * (reads_after + 1), [CHID])
    await made.look()
    assert wallet.told == [CHID]


async def test_a_hook_that_fails_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the channel's state wants is not left undone because the wallet was busy once."""
    monkeypatch.setattr(adopting, "PAUSE_S", 0.0)
    wallet = OldWallet(0)
    made, failed = wallet.adopting(), list[str]()

    async def busy_once(chid: str) -> None:
        if not failed:
            failed.append(chid)
            raise NotSynced(height=1)

    made.when_back.append(busy_once)
    await made.run()
    assert (made.done, failed, wallet.told) == (True, [CHID], [CHID, CHID])

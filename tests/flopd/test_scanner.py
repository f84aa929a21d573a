"""No block is missed for a script followed while others are read again, or while a block is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import structlog

from common.chain.tx import Outpoint, Tx, TxInput, TxOutput
from common.clock import ManualClock
from common.contracts.wallet_chain import ScriptAsked
from common.contracts.wallet_errors import NotSynced
from common.errors import NotFound
from common.store import Store
from common.units import Florins
from dux_flopd.blocks import Block, BlockTx
from dux_flopd.chain_methods import ChainMethods
from dux_flopd.chain_store import ChainStore
from dux_flopd.model import FollowedScript, ScriptKind
from dux_flopd.scanner import Scanner
from dux_flopd.schema import MIGRATIONS
from dux_flopd.source import ChainTip
from dux_flopd.view import ChainView

FIRST, SECOND = b"first", b"second"


async def nothing() -> None:
    """Nothing happens."""


class LightNode:
    """Six blocks; block 2 pays both scripts. It shows only what the view follows when it is asked."""

    name = endpoint = "light"

    def __init__(self, view: ChainView) -> None:
        self.view = view
        self.height = 5
        self.on_read: dict[int, Callable[[], Awaitable[None]]] = {}  # while this block is on its way, once

    async def genesis(self) -> str:
        return "0"

    async def tip(self) -> ChainTip:
        return ChainTip(self.height, str(self.height))

    async def block_hash(self, height: int) -> str | None:
        return str(height) if height <= self.height else None

    async def waiting(self) -> list[str]:
        return []

    async def read(self, block_hash: str) -> Block:
        asked = set(self.view.followed())
        await self.on_read.pop(int(block_hash), nothing)()
        paid = [script for script in (FIRST, SECOND) if script in asked and block_hash == "2"]
        txs = tuple(self.payment(script, at + 1) for at, script in enumerate(paid))
        return Block(hash=block_hash, previous=str(int(block_hash) - 1), time_s=int(block_hash), txs=txs)

    def payment(self, script: bytes, position: int) -> BlockTx:
        tx = Tx(inputs=(TxInput(Outpoint("aa" * 32, 0)),), outputs=(TxOutput(Florins(7), script),))
        return BlockTx(txid=script.hex(), tx=tx, raw=b"", position=position)


class Wallet:
    """A view at its beginning, and what follows the node for it."""

    def __init__(self) -> None:
        self.store = Store.open(None, MIGRATIONS, ManualClock())
        self.view = ChainView(ChainStore(self.store))
        self.node = LightNode(self.view)
        self.scanner = Scanner(
            cast("Any", self.node), self.view, genesis="0", from_height=0, poll_ms=1, log=structlog.get_logger()
        )

    async def follow(self, script: bytes, from_height: int) -> None:
        with self.store.transaction() as tx:
            self.view.follow(tx, FollowedScript(script, ScriptKind.WATCH, 0, 0, ""), from_height)
        await asyncio.sleep(0)

    def coins(self, script: bytes) -> int:
        return len(self.view.store.coins_on(script))


async def test_a_script_followed_while_others_are_read_again_has_its_own_blocks_read() -> None:
    """The reading stands beyond its coin already: it is not taken for read with those that the reading was for."""
    wallet = Wallet()
    await wallet.scanner.catch_up()
    await wallet.follow(FIRST, 1)
    wallet.node.on_read[4] = lambda: wallet.follow(SECOND, 2)
    await wallet.scanner.catch_up()
    assert (wallet.coins(FIRST), wallet.coins(SECOND)) == (1, 0)
    assert (wallet.view.store.is_read([FIRST]), wallet.view.store.is_read([SECOND])) == (True, False)
    await wallet.scanner.catch_up()
    assert (wallet.coins(SECOND), wallet.view.store.is_read([SECOND])) == (1, True)


async def test_a_wish_to_be_read_from_further_back_outlives_a_reading_under_way() -> None:
    """The same script, from height 3 and then, while that is read, from 1."""
    wallet = Wallet()
    await wallet.scanner.catch_up()
    await wallet.follow(FIRST, 3)
    wallet.node.on_read[4] = lambda: wallet.follow(FIRST, 1)
    await wallet.scanner.catch_up()
    assert not wallet.view.store.is_read([FIRST])
    await wallet.scanner.catch_up()
    assert (wallet.coins(FIRST), wallet.view.store.is_read([FIRST])) == (1, True)


async def test_a_block_on_its_way_is_read_again_for_a_script_followed_meanwhile() -> None:
    """The node was asked by the scripts of then: what it shows is not all that this block holds of the wallet's."""
    wallet = Wallet()
    wallet.node.height = 1
    await wallet.scanner.catch_up()
    wallet.node.height = 5
    wallet.node.on_read[2] = lambda: wallet.follow(FIRST, 2)  # from the next block on: read, as far as the view goes
    await wallet.scanner.catch_up()
    assert (wallet.coins(FIRST), wallet.view.height) == (1, 5)


async def test_no_coins_are_told_of_a_script_before_all_its_blocks_are_read() -> None:
    """What was found until then would look like all there is: a funded contract like one without a coin."""
    wallet = Wallet()
    await wallet.scanner.catch_up()
    unused: Any = None
    methods = ChainMethods(wallet.view, wallet.scanner, unused, unused)
    asked = ScriptAsked(script=FIRST)
    with pytest.raises(NotFound):
        await methods.coins(asked, unused)
    await wallet.follow(FIRST, 1)
    assert wallet.scanner.is_synced
    with pytest.raises(NotSynced, match="repeat"):
        await methods.coins(asked, unused)
    await wallet.scanner.catch_up()
    assert [int(coin.value_florins) for coin in (await methods.coins(asked, unused)).coins] == [7]

"""The community fund's books: its balance and every movement, from the chain alone.

Promise: what is shown follows from the fund's script, which follows from this node's own network profile.
Source: money.md §6.
"""

from __future__ import annotations

from common.chain.address import script_to_address
from common.chain.params import family_named
from common.community_fund import vault_script_of
from common.contracts import wallet_chain as chain
from common.contracts.escrow import FundStatus, FundStatusParams
from common.contracts.escrow_views import FundMovement
from common.errors import NotFound
from common.units import BlockHeight, Florins
from dux_escrowd.desk import Desk


async def fund_status(desk: Desk, params: FundStatusParams) -> FundStatus:
    """The fund as the chain shows it, newest movements first."""
    script = vault_script_of(desk.profile.fund)
    coins = await _coins(desk, script)
    received = sum(int(coin.value_florins) for coin in coins.coins if coin.height is not None)
    spent = [coin for coin in coins.coins if coin.spend is not None and coin.spend.height is not None]
    paid = sum(int(coin.value_florins) for coin in spent)
    moves = [_movement(coin) for coin in reversed(coins.coins)]
    return FundStatus(
        address=script_to_address(script, family_named(desk.profile.chain)) or "",
        threshold=desk.profile.fund.threshold,
        custodians=tuple(custodian.did for custodian in desk.profile.fund.custodians),
        balance_florins=Florins(received - paid),
        received_florins=Florins(received),
        paid_florins=Florins(paid),
        movements=tuple(moves[: params.movements]),
        height=int(coins.tip),
    )


async def _coins(desk: Desk, script: bytes) -> chain.Coins:
    asked = chain.ScriptAsked(script=script)
    try:
        return await desk.flopd.call(chain.CHAIN_COINS, asked)
    except NotFound:
        watch = chain.WatchScripts(request_id="fund/watch", scripts=[script], from_height=BlockHeight(0))
        await desk.flopd.call(chain.CHAIN_WATCH, watch)
        return await desk.flopd.call(chain.CHAIN_COINS, asked)


def _movement(coin: chain.CoinView) -> FundMovement:
    return FundMovement(
        outpoint=str(coin.outpoint),
        value_florins=coin.value_florins,
        height=None if coin.height is None else int(coin.height),
        spent_by=coin.spend.txid if coin.spend else None,
        spent_height=int(coin.spend.height) if coin.spend and coin.spend.height is not None else None,
    )

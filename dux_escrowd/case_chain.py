"""A contract's file against the chain of whoever audits it: what it says of coins and spends, and what it leaves out.

Promise: every coin and spend that the file ends with stands on the auditor's chain just so, and nothing that ends the
contract stands there which the file does not tell. Pure. Source: escrow_protocol.md §7; money.md §1 law 6.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.chain.contract import Contract
from common.chain.spends import classify
from common.contracts.wallet_chain import Coins, CoinView
from dux_escrowd.model import Coin, Lot, Spend
from dux_escrowd.observe import OnChain, exit_of


def outputs_of(contract: Contract, coins: Coins) -> tuple[OnChain, ...]:
    """Every output on the contract's script, each spend read as the contract says."""
    return tuple(_output(contract, coin) for coin in coins.coins)


def _output(contract: Contract, coin: CoinView) -> OnChain:
    found = Coin(str(coin.outpoint), int(coin.value_florins), coin.height)
    if coin.spend is None:
        return OnChain(found, None)
    spent = classify(contract, coin.spend.raw, coin.outpoint, int(coin.value_florins))
    gross = spent.gross_florins
    return OnChain(found, Spend(exit_of(spent.kind, gross), coin.spend.txid, int(gross), coin.spend.height))


def chain_problems(lots: Sequence[Lot], outputs: Sequence[OnChain]) -> list[str]:
    """Where lots as a file ends with them are not what the chain shows."""
    by_outpoint = {output.coin.outpoint: output for output in outputs}
    problems = [problem for lot in lots if lot.coin for problem in _of_coin(lot, lot.coin, by_outpoint)]
    held = {lot.outpoint for lot in lots}
    problems += [
        f"{output.coin.outpoint} pays the contract on the chain, and the file does not tell of it"
        for output in outputs
        if output.coin.outpoint not in held and any(output.coin.value_florins >= lot.deal.lot_florins for lot in lots)
    ]
    return problems


def _of_coin(lot: Lot, coin: Coin, by_outpoint: dict[str, OnChain]) -> list[str]:
    found = by_outpoint.get(coin.outpoint)
    if found is None:
        return [f"the coin {coin.outpoint} of lot {lot.number} is not on this chain"]
    problems: list[str] = []
    if coin.value_florins != found.coin.value_florins or not _same_height(coin.height, found.coin.height):
        problems.append(f"the coin {coin.outpoint} has another amount or height on the chain")
    if lot.spend is not None and not _same_spend(lot.spend, found.spend):
        problems.append(f"the chain does not show the spend {lot.spend.txid} ({lot.spend.exit}) as the file has it")
    if lot.spend is None and found.spend is not None:
        problems.append(f"{coin.outpoint} was spent by {found.spend.txid} ({found.spend.exit}): the file ends before")
    return problems


def _same_spend(told: Spend, found: Spend | None) -> bool:
    if found is None or not _same_height(told.height, found.height):
        return False
    return (told.exit, told.txid, told.gross_florins) == (found.exit, found.txid, found.gross_florins)


def _same_height(told: int | None, found: int | None) -> bool:
    """What was not in a block when the file was made may be in one now."""
    return told is None or told == found

"""When and how collectors, and the scripts of earlier custodians, are emptied into the fund.

Pure: coins and heights come in. At every multiple of the period, once it lies deep enough, the keepers of a script
compute the same transaction from the coins that the chain shows there at that height: the most valuable ones that fit,
one output, the fee that the size asks for. Nobody proposes: a keeper signs what it computed itself, or nothing.

Laws: spent = swept + fee; the only output is the fund's; a coin that costs more to spend than it holds stays; the same
coins give the same bytes. Source: money.md §6, facts §4(e).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.chain.address import pay_to_script
from common.chain.fees import DUST_FLORINS
from common.chain.fund import FundPayout, fund_redeem_script, payout_fee
from common.chain.tx import TxOutput
from common.codec import canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Florins
from dux_airdropd.model import Accounts, FundCoin, SweepProof, SweepSource
from dux_airdropd.payout_rules import chosen, held_at

WORTH = 2  # a sweep spends at least so many times its fee
FEW, MANY = 20, 40  # inputs of two sweeps, both above the fee's floor, whose difference is the cost of inputs


def sweep_height(tip: int, depth: int, every: int) -> int | None:
    """The latest multiple of the period that lies deep enough; None before the first."""
    height = (tip - depth + 1) // every * every
    return height if height > 0 else None


def sweep_name(height: int, block_hash: str) -> str:
    """What a sweep is for: its height and the block there."""
    return f"sweep {height} {block_hash}"


def source_script(source: SweepSource) -> bytes:
    """The output script that is emptied."""
    return pay_to_script(fund_redeem_script(source.needed, source.pubkeys))


def plan_sweep(
    source: SweepSource, coins: Sequence[FundCoin], height: int, block_hash: str, *, network: str, target: bytes
) -> FundPayout | None:
    """The one sweep of a script at this height; None when there is nothing that is worth it."""
    output = TxOutput(Florins(DUST_FLORINS), target)
    cost = _cost_of_one(source, output)
    worth = [coin for coin in held_at(coins, height) if coin.value_florins > cost]
    inputs = chosen(worth, source.needed, source.pubkeys, (output,))
    total = sum(int(item.value_florins) for item in inputs)
    if not inputs or total < source.least_florins:
        return None
    fee = int(payout_fee(source.needed, source.pubkeys, len(inputs), (output,)))
    if total < WORTH * fee or total - fee < DUST_FLORINS:
        return None
    swept = TxOutput(Florins(total - fee), target)
    name = sweep_name(height, block_hash)
    return FundPayout(network, name, source.needed, source.pubkeys, inputs, (swept,))


def _cost_of_one(source: SweepSource, output: TxOutput) -> int:
    """What one more input costs in fees, in florins, rounded up."""
    few, many = (int(payout_fee(source.needed, source.pubkeys, count, (output,))) for count in (FEW, MANY))
    return (many - few) // (MANY - FEW) + 1


def sweep_id(payout: FundPayout) -> bytes:
    """The name of a sweep: 32 bytes over all that it says."""
    return tagged_hash(Purpose.SWEEP, canonical(payout))


def sweep_problems(proof: SweepProof, *, network: str, sources: Iterable[SweepSource], target: bytes) -> list[str]:
    """What is wrong with a sweep's proof, the chain apart: whether it is the one sweep that its coins give."""
    told = SweepSource(proof.needed, proof.pubkeys, 0)
    known = [one for one in sources if (one.needed, one.pubkeys) == (told.needed, told.pubkeys)]
    if proof.network != network:
        return ["it belongs to another network"]
    if not known:
        return ["its script is no collector, and of no earlier custodians of this network"]
    coins = [FundCoin(coin.outpoint, int(coin.value_florins), coin.height) for coin in proof.coins]
    own = plan_sweep(known[0], coins, proof.height, proof.block_hash, network=network, target=target)
    if own is None:
        return ["its coins are not worth a sweep"]
    return [] if own == proof.payout else ["its transaction is not what its coins give"]


def accounts_of(vault: Iterable[FundCoin], swept: Iterable[Iterable[FundCoin]], vault_script: bytes) -> Accounts:
    """The fund's books to the florin, from the chain alone: all that came in is paid, swept, a fee, or still there.

    `swept`: the coins of each script that is emptied into the fund.
    """
    kept, moved = (
        [coin for coin in vault if coin.height is not None],
        [coin for coins in swept for coin in coins if coin.height is not None],
    )
    into_fund = _outputs_to(vault_script, moved)
    back = _outputs_to(vault_script, kept)
    out_of_fund, out_of_collectors = _spent(kept), _spent(moved)
    paid = _paid_to_others(vault_script, kept)
    taxes = sum(coin.value_florins for coin in (*kept, *moved)) - into_fund - back
    return Accounts(
        received_florins=Florins(taxes),
        swept_florins=Florins(into_fund),
        sweep_fees_florins=Florins(out_of_collectors - into_fund),
        paid_florins=Florins(paid),
        payout_fees_florins=Florins(out_of_fund - paid - back),
        fund_florins=Florins(sum(coin.value_florins for coin in kept) - out_of_fund),
        collectors_florins=Florins(sum(coin.value_florins for coin in moved) - out_of_collectors),
    )


def _spent(coins: Iterable[FundCoin]) -> int:
    return sum(coin.value_florins for coin in coins if coin.spent_height is not None)


def _spenders(coins: Iterable[FundCoin]) -> list[tuple[TxOutput, ...]]:
    """The outputs of each transaction that spent some of these coins, once each."""
    return list({coin.spent_txid: coin.spent_outputs for coin in coins if coin.spent_height is not None}.values())


def _outputs_to(script: bytes, coins: Iterable[FundCoin]) -> int:
    return sum(int(out.value_florins) for outs in _spenders(coins) for out in outs if out.script == script)


def _paid_to_others(script: bytes, coins: Iterable[FundCoin]) -> int:
    return sum(int(out.value_florins) for outs in _spenders(coins) for out in outs if out.script != script)

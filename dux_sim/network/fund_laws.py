"""The laws of the fund: it is handed back once per round, by a payment that every node counts alike."""

from __future__ import annotations

from collections.abc import Iterator

from common.chain.fund import fund_output_script
from common.chain.wire import shown, unshown
from common.community_fund import script_of
from common.contracts.airdrop import Phase
from dux_sim.money.laws import Violation
from dux_sim.world.world import World


def fund_script(world: World) -> bytes:
    """The fund's output script."""
    fund = world.profile.fund
    return fund_output_script(fund.threshold, tuple(sorted(bytes.fromhex(one.pubkey) for one in fund.custodians)))


def spends_of_fund(world: World) -> list[str]:
    """The transactions of the active chain that spent a coin of the fund, in order."""
    script, chain = fund_script(world), world.coin.node.chain
    held: dict[tuple[bytes, int], None] = {}
    found: dict[str, None] = {}
    for entry in chain.active:
        for tx in entry.block.txs:
            if any((txin.prevout.txid, txin.prevout.vout) in held for txin in tx.inputs):
                found[shown(tx.txid)] = None
            for vout, out in enumerate(tx.outputs):
                if out.script == script:
                    held[tx.txid, vout] = None
    return list(found)


def balance(world: World) -> int:
    """What lies on the fund's script, in florins."""
    script = fund_script(world)
    return sum(coin.out.value_florins for coin in world.coin.node.chain.coins.values() if coin.out.script == script)


def collected(world: World) -> int:
    """What lies on the collector's script, in florins."""
    scripts = {script_of(one) for one in world.profile.fund.collectors}
    return sum(coin.out.value_florins for coin in world.coin.node.chain.coins.values() if coin.out.script in scripts)


def waits_for_a_sweep(world: World) -> bool:
    """The collector holds more than may wait there."""
    return collected(world) >= int(world.profile.airdrop.sweep.least_florins)


def sweeps(world: World) -> int:
    """How many sweeps the active chain holds: each pays the fund, and nothing else."""
    scripts = {script_of(one) for one in world.profile.fund.collectors}
    held: set[tuple[bytes, int]] = set()
    found = 0
    for entry in world.coin.node.chain.active:
        for tx in entry.block.txs:
            found += any((txin.prevout.txid, txin.prevout.vout) in held for txin in tx.inputs)
            held |= {(tx.txid, vout) for vout, out in enumerate(tx.outputs) if out.script in scripts}
    return found


def nobody_traded(world: World) -> bool:
    """No custodian holds a receipt for the open round: by the fund's rule there is nobody to pay."""
    return all(
        not node.disk("airdropd").rows(
            "SELECT 1 FROM items JOIN rounds USING (number) "
            "WHERE items.kind = 'receipt' AND rounds.phase NOT IN ('paid', 'abandoned')"
        )
        for node in world.nodes
    )


def is_settled(world: World) -> bool:
    """The fund is below its threshold, and every node has booked every payout as paid."""
    if balance(world) >= int(world.profile.airdrop.threshold_florins) or waits_for_a_sweep(world):
        return False
    spends = set(spends_of_fund(world))
    for node in world.nodes:
        if "airdropd" in node.houses:
            rows = node.disk("airdropd").rows("SELECT txid FROM rounds WHERE phase = ?", Phase.PAID.value)
            if {row["txid"] for row in rows} != spends:
                return False
    return True


def fund_violations(world: World) -> Iterator[Violation]:
    """What is wrong with the fund's books at the end; payouts are counted as exits on the way."""
    spends = spends_of_fund(world)
    world.history.exits["airdrop"] += len(spends)
    if world.profile.fund.collectors:
        world.history.exits["sweep"] += sweeps(world)
    if waits_for_a_sweep(world):
        yield Violation("2 no dead state", f"{collected(world)} florins lie on the collector, and nobody sweeps them")
    paid = dict[int, str]()
    yield from _rounds(world, paid)
    over = balance(world) >= int(world.profile.airdrop.threshold_florins)
    if over and nobody_traded(world):
        world.history.exits["airdrop-nobody"] += 1
    elif not is_settled(world):
        yield Violation(
            "2 no dead state", f"the fund holds {balance(world)} florins, or not all have booked its payouts"
        )
    for txid in spends:
        if txid not in paid.values():
            yield Violation("fund", f"{txid[:12]} spent the fund and is no round's payment")
    if len(set(paid.values())) != len(paid):
        yield Violation("3 a payment happens once", "one payment stands for two rounds")


def _rounds(world: World, paid: dict[int, str]) -> Iterator[Violation]:
    """Every node counts the same payments; `paid` is filled with them."""
    for node in world.nodes:
        if "airdropd" not in node.houses:
            continue
        for row in node.disk("airdropd").rows(
            "SELECT number, txid FROM rounds WHERE phase = ? ORDER BY number", Phase.PAID.value
        ):
            if paid.setdefault(row["number"], row["txid"]) != row["txid"]:
                yield Violation("fund", f"{node.name} counts round {row['number']} as paid by another transaction")
            if unshown(row["txid"]) not in world.coin.node.chain.tx_places:
                yield Violation("5 books follow the chain", f"{node.name}: round {row['number']} is paid by nothing")

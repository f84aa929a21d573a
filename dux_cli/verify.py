"""`duxnet verify …`: check public proof files of the fund, on any machine, without a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.units import Florins
from dux_cli.command import EXIT_FAILED, DuxGroup, Session, pass_session
from dux_cli.output import flop
from dux_cli.url_param import HttpUrl

if TYPE_CHECKING:
    from common.network import NetworkProfile
    from dux_airdropd.file_rules import Verdict

FILE = click.Path(exists=True, path_type=Path, dir_okay=False)


@click.group(cls=DuxGroup)
def verify() -> None:
    """Recompute what the community fund did from a public file: no node, no keys, nobody's word.

    \b
    duxnet verify airdrop airdrop-7.proof --profile network.yaml --before airdrop-6.proof
    duxnet verify sweep sweep.proof --coin-node http://127.0.0.1:19443/ --login rpc.auth
    """


PROFILE = click.option("--profile", type=FILE, help="Your own copy of the network's profile, to compare.")
NODE = click.option(
    "--coin-node", type=HttpUrl(), default="", help="A coin node's RPC: is it the best chain, is it whole?"
)
LOGIN = click.option("--login", type=FILE, help="File with user:password of that node.")


@verify.command()
@click.argument("file", type=FILE)
@click.option("--before", type=FILE, multiple=True, help="Files of the airdrops before, the oldest first.")
@click.option("--asn-map", type=FILE, help="The map of networks whose hash the parameter set names.")
@PROFILE
@NODE
@LOGIN
@pass_session
def airdrop(
    session: Session, *, file: Path, before: tuple[Path, ...], asn_map: Path | None, profile: Path | None,
    coin_node: str, login: Path | None,
) -> None:  # fmt: skip
    """Check an airdrop: evidence, seats, shares, ledger, signatures, and its place on the chain. Exit code 1: a lie."""
    from dux_airdropd.figures import read_asns
    from dux_airdropd.file_rules import check_file

    trusted = _trusted(profile)
    asns = read_asns(trusted, str(asn_map or "")) if trusted else {}
    outcome = None
    for earlier in before:
        step = check_file(earlier.read_bytes(), kind="airdrop", trusted=trusted, before=outcome, asns=asns)
        if not step.holds or step.outcome is None:
            _tell(session, earlier, step)
        outcome = step.outcome
    told = check_file(file.read_bytes(), kind="airdrop", trusted=trusted, before=outcome, asns=asns)
    _ask_node(told, coin_node, login)
    _tell(session, file, told)


@verify.command()
@click.argument("file", type=FILE)
@PROFILE
@NODE
@LOGIN
@pass_session
def sweep(session: Session, *, file: Path, profile: Path | None, coin_node: str, login: Path | None) -> None:
    """Check a sweep: its coins, its one output, its fee, its signatures, its place. Exit code 1: a lie."""
    from dux_airdropd.file_rules import check_file

    told = check_file(file.read_bytes(), kind="sweep", trusted=_trusted(profile))
    _ask_node(told, coin_node, login)
    _tell(session, file, told)


def _trusted(profile: Path | None) -> NetworkProfile | None:
    from common.clock import SystemClock
    from common.parameter_file import load_network

    return load_network(profile, now_ms=SystemClock().unix_ms()) if profile else None


def _ask_node(told: Verdict, url: str, login: Path | None) -> None:
    """What a coin node's own blocks say: the same chain, and no coin of the fund left out."""
    import asyncio

    if not url:
        told.notes += [*told.chain_notes, "that no coin was left out is taken on trust (--coin-node checks)"]
        return
    user, _, password = (login.read_text().strip() if login else "").partition(":")
    told.problems += asyncio.run(_scanned(told, url, (user, password)))


async def _scanned(told: Verdict, url: str, login: tuple[str, str]) -> list[str]:
    """Every block up to the file's last header, read from a coin node."""
    from common.chain.params import EMBEDDED
    from dux_airdropd.file_chain import Scan, node_problems
    from dux_flopd.blocks import parse_block
    from dux_flopd.node_rpc import CoinNode

    if told.chain is None:
        return []
    coin_node, scan, hashes = CoinNode(url, login, EMBEDDED), Scan(told.script), dict[int, str]()
    try:
        for height in range(told.chain.top + 1):
            name = await coin_node.block_hash(height)
            if name is None:
                return [f"the coin node has no block {height}"]
            hashes[height] = name
            scan.take(height, [(one.txid, one.tx) for one in parse_block(await coin_node.block(name)).txs])
    finally:
        await coin_node.close()
    return node_problems(told.chain, hashes, scan.coins(), told.chain.coins(told.script), told.cutoff)


def _tell(session: Session, file: Path, told: Verdict) -> None:
    """Print it; never returns when it does not hold."""
    verdict = "holds" if told.holds else "does not hold"
    fields = {
        "file": str(file), "holds": told.holds, "problems": told.problems, "notes": told.notes, "txid": told.txid,
        "height": told.height, "nodes": told.nodes, "spent_florins": str(told.spent_florins),
        "paid_florins": str(told.paid_florins), "fee_florins": str(told.fee_florins), "network": told.network,
    }  # fmt: skip
    lines = [("proof", f"{verdict}: {file}")]
    lines += [("problem", problem) for problem in told.problems]
    lines += [("on trust", note) for note in told.notes]
    if told.holds:
        spent, paid, fee = (flop(Florins(n)) for n in (told.spent_florins, told.paid_florins, told.fee_florins))
        lines += [("transaction", f"{told.txid} at height {told.height}")]
        lines += [("coins", f"{spent} spent, {paid} paid, {fee} chain fee")]
        lines += [("nodes", str(told.nodes))] if told.kind == "airdrop" else []
    session.out.record(fields, lines, name=verdict)
    if not told.holds:
        raise SystemExit(EXIT_FAILED)

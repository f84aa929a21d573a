"""`duxnet status` and `duxnet logs`: how the daemons of a node fare."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.errors import DuxError
from common.rpc.method import DAEMONS
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.log_lines import readable
from dux_cli.node_dir import INSTALLED
from dux_cli.output import counted, printable

if TYPE_CHECKING:
    from common.contracts.base import DaemonInfo

ASK_WITHIN_S = 3.0
FOLLOW_EVERY_S = 0.25


@click.command(cls=DuxCommand)
@pass_session
def status(session: Session) -> None:
    """How each daemon fares, where chain and network are, and what waits for you. Exit code 1 when one does not answer.

    \b
    duxnet status
    duxnet status --json | jq .daemons
    """
    session.node.must_exist()
    found, around = session.run(look(session))
    rows = [row_of(daemon, info) for daemon, info in found.items()]
    told = {
        "node": str(session.node.path),
        "network": session.node.profile().name,
        "daemons": {daemon: info for daemon, info in found.items() if info is not None},
        "silent": [daemon for daemon, info in found.items() if info is None],
        **around,
    }
    session.out.table(told, ("daemon", "state", "up", "process", "what is wrong"), rows)
    for label, text in facts_of(told):
        session.out.step(f"{label:<7}  {text}")
    if told["silent"]:
        raise SystemExit(EXIT_FAILED)


def facts_of(told: dict[str, Any]) -> list[tuple[str, str]]:
    """What a person reads below the daemons; of a daemon that is silent the table has told already."""
    if len(told["silent"]) == len(DAEMONS):
        start = "systemctl start duxnet.target" if Path(told["node"]) == INSTALLED else "duxnet up --detach"
        return [("node", f"{told['node']} is not running: `{start}` starts it")]
    facts = [("node", told["did"])] if "did" in told else []
    if "peers" in told:
        facts.append(("network", f"{told['network']}, {counted(told['peers'], 'peer')}"))
    if "height" in told:
        reading = "" if told["synced"] else ", which the wallet is still reading"
        seen = f"height {told['height']}{reading}" if told["height"] >= 0 else "no block is read yet"
        facts.append(("chain", f"{told['chain']}, {seen}"))
    if "cases" in told:
        wait = "waits for you," if told["cases"] == 1 else "wait for you, the first"
        facts.append(
            ("cases", f"{counted(told['cases'], 'contract')} {wait} until block {told['case_due']}: `duxnet cases`")
        )
    asked = {"network": ("peers_error", "p2pd"), "chain": ("chain_error", "flopd"), "cases": ("cases_error", "escrowd")}
    failed = [(label, key) for label, (key, daemon) in asked.items() if key in told and daemon not in told["silent"]]
    return facts + [(label, told[key]) for label, key in failed]


async def look(session: Session) -> tuple[dict[str, DaemonInfo | None], dict[str, Any]]:
    """What each daemon says of itself, and what wallet and network see around them."""
    infos = await asyncio.gather(*(info_of(session, daemon) for daemon in DAEMONS))
    return dict(zip(DAEMONS, infos, strict=True)), await surroundings(session)


async def info_of(session: Session, daemon: str) -> DaemonInfo | None:
    """What a daemon says of itself, or None when it does not answer."""
    from common.contracts.base import INFO
    from common.rpc.method import Empty

    try:
        return await session.client(daemon).call(INFO, Empty(), deadline_s=ASK_WITHIN_S)
    except DuxError:
        return None


async def surroundings(session: Session) -> dict[str, Any]:
    """The node's name, its peers and its chain, as far as the daemons that know them answer."""
    from common.contracts.p2p import P2P_INFO
    from common.contracts.wallet import WALLET_STATUS
    from common.rpc.method import Empty

    around: dict[str, Any] = {}
    try:
        info = await session.call(P2P_INFO, Empty(), deadline_s=ASK_WITHIN_S)
        around |= {"did": info.did, "peers": info.sessions}
    except DuxError as error:
        around["peers_error"] = error.message
    try:
        chain = await session.call(WALLET_STATUS, Empty(), deadline_s=ASK_WITHIN_S)
        around |= {"chain": chain.family, "height": chain.height, "synced": chain.synced}
    except DuxError as error:
        around["chain_error"] = error.message
    return around | await _waiting(session)


async def _waiting(session: Session) -> dict[str, Any]:
    """What waits for this node's person: how much, and until which block the first of it; nothing when nothing does."""
    from common.contracts.escrow_cases import CASES
    from common.rpc.method import Empty

    try:
        found = await session.call(CASES, Empty(), deadline_s=ASK_WITHIN_S)
    except DuxError as error:
        return {"cases_error": error.message}
    return {"cases": len(found.cases), "case_due": found.cases[0].due} if found.cases else {}


def row_of(daemon: str, info: DaemonInfo | None) -> tuple[str, ...]:
    """A daemon's line in the table."""
    if info is None:
        return (daemon, "does not answer", "", "", f"see `duxnet logs {daemon}`")
    return (daemon, "well" if info.healthy else "ill", lasted(info.uptime_s), str(info.pid), "; ".join(info.problems))


def lasted(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


@click.command(cls=DuxCommand)
@click.argument("daemon", type=click.Choice((*DAEMONS, "host", "up")), metavar="DAEMON")
@click.option("--lines", "-n", default=40, show_default=True, help="How many of the last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@pass_session
def logs(session: Session, daemon: str, lines: int, *, follow: bool) -> None:
    """What a daemon has told: the last lines of its log. `up` is what keeps them running, `host` all of them in one.

    \b
    duxnet logs escrowd -n 100
    duxnet logs taskd -f
    """
    from dux_cli.supervisor import tail

    path = session.node.must_exist().log(daemon)
    last = tail(path, lines)
    if session.out.as_json:
        session.out.json({"daemon": daemon, "log": str(path), "lines": last})
        return
    shown = readable if session.out.for_person else printable
    session.out.text("\n".join(shown(line) for line in last))
    if not last:
        session.out.step(f"nothing so far in {path}")
    if follow:
        session.run(follow_file(path, session))


async def follow_file(path: Path, session: Session) -> None:
    """Print what is added to a file, until cancelled."""
    place = path.stat().st_size if path.exists() else 0
    while True:
        await asyncio.sleep(FOLLOW_EVERY_S)
        size = path.stat().st_size if path.exists() else 0
        place = min(place, size)  # a new file of that name starts at its beginning
        if size > place:
            with path.open("rb") as file:
                file.seek(place)
                added = file.read(size - place)
            place = size
            shown = readable if session.out.for_person else printable
            session.out.text("\n".join(shown(line) for line in added.decode("utf-8", "replace").splitlines()))

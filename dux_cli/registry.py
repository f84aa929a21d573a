"""`duxos-node-registry`: the registry's command line, with the verbs and flags of the specification.

It registers, describes and removes the node of this machine, and lists and shows everybody's. Sizes are given in GB,
load and usage as the specification's examples give them. All work is done by registryd; this file only asks and prints.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dux_cli.command import DuxGroup, Session, new_request_id, pass_session, run_main
from dux_cli.did_param import NodeDid
from dux_cli.output import done_well, each, flop, gpu_told, printable, running_for, seen_up, short
from dux_cli.registry_audits import audit, services
from dux_cli.registry_machines import machine
from dux_cli.registry_sanctions import add_to
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.contracts.registry import NodeList, NodeView, Reputation
    from common.units import Florins

PROGRAM = "duxos-node-registry"
MB_PER_GB = 1024


class WalletAddress(click.ParamType[str]):
    """A Flopcoin address; an Ethereum-style one is refused with what to write instead."""

    name = "ADDRESS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address as written."""
        from common.receipts import wallet_fault

        fault = wallet_fault(str(value))
        if fault:
            self.fail(fault, param, ctx)
        return str(value)


@click.group(cls=DuxGroup)
def registry() -> None:
    """Nodes of the network: register yours, list them, tell how yours fares.

    \b
    duxos-node-registry register --wallet-address "$(duxnet wallet address --quiet)"
    duxos-node-registry list --min-cpu 4 --min-memory 8 --min-reputation 0.7
    """


@registry.command()
@click.option(
    "--wallet-address",
    type=WalletAddress(),
    help="Where this node is paid; left out: as before, as its settings say, or a new one.",
)
@click.option("--ip-address", default="", help="Where it is reached; left out: what p2pd tells others.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Its outside port; left out: p2pd's.")
@click.option("--hostname", default="", help="Its name; left out: the machine's.")
@click.option("--os-version", default="", help="Version of the operating system; left out: read here.")
@click.option("--duxos-version", default="", help="Version of Dux OS; left out: the installed one.")
@click.option("--cpu-cores", type=click.IntRange(1, 65_536), help="Cores offered; left out: all.")
@click.option("--memory-gb", type=click.FloatRange(0.001, 1e6), help="Memory offered, GB; left out: all.")
@click.option("--storage-gb", type=click.FloatRange(1, 1e9), help="Storage offered, GB; left out: all.")
@click.option(
    "--gpu-enabled/--no-gpu",
    default=None,
    help="It offers a GPU, or none. Where the machine shows none, name the model.",
)
@click.option("--gpu-model", default="", help="Which GPU; where the machine shows none, it is told as gpu_declared.")
@click.option("--region", default="", help="Where it stands, for buyers that want a near one.")
@click.option("--capability", "capabilities", multiple=True, help="What it offers, such as task_execution; repeatable.")
@click.option("--measure", is_flag=True, help="Host name, place, versions and hardware anew, whatever was told before.")
@pass_session
def register(
    session: Session,
    /,
    wallet_address: str | None,
    memory_gb: float | None,
    storage_gb: float | None,
    capabilities: tuple[str, ...],
    **fields: str | int | bool | None,
) -> None:
    """Register this node, or change what it tells. What is left out stays; the first time it is measured.

    \b
    duxos-node-registry register --cpu-cores 8 --memory-gb 16 --storage-gb 500
    duxos-node-registry register --region eu
    duxos-node-registry register --measure
    """
    from common.codec import from_plain
    from common.contracts.registry import NODE_REGISTER, NotPaidAnywhere, RegisterNode

    wish: dict[str, object] = {
        "request_id": new_request_id("register"),
        "wallet_address": wallet_address or "",
        "memory_mb": round((memory_gb or 0) * MB_PER_GB),
        "storage_gb": round(storage_gb or 0),
        **{name: value for name, value in fields.items() if value is not None},
    }
    if capabilities:
        wish["capabilities"] = list(capabilities)
    try:
        view = session.ask(NODE_REGISTER, from_plain(wish, RegisterNode))
    except NotPaidAnywhere:
        again = {"request_id": new_request_id("register"), "wallet_address": _new_address(session)}
        view = session.ask(NODE_REGISTER, from_plain(wish | again, RegisterNode))
    _print_node(session, view)


def _new_address(session: Session) -> str:
    from common.contracts.wallet import WALLET_NEW_ADDRESS, NewAddress

    wish = NewAddress(request_id=new_request_id("address"), label="node registration")
    return session.ask(WALLET_NEW_ADDRESS, wish).address


@registry.command(name="list")
@click.option("--min-cpu", type=click.IntRange(0), default=0, help="At least so many cores.")
@click.option("--min-memory", type=click.FloatRange(0), default=0.0, help="At least so much memory, GB.")
@click.option("--min-storage", type=click.FloatRange(0), default=0.0, help="At least so much storage, GB.")
@click.option("--min-reputation", type=click.FloatRange(0, 1), default=0.0, help="At least this Q, 0 to 1.")
@click.option("--min-tier", type=click.IntRange(0, 3), default=0, help="At least this tier.")
@click.option("--capability", "capabilities", multiple=True, help="Offers this; repeatable: all of them.")
@click.option("--region", default="", help="Stands there.")
@click.option("--gpu", is_flag=True, help="Offers a GPU. Nobody measures them; --capability gpu: its node sees one.")
@click.option("--gpu-model", default="", help="Offers a GPU with this in its name.")
@click.option("--hostname", default="", help="Has this in its host name.")
@click.option("--wallet-address", default="", help="Is paid at this address.")
@click.option("--os-version", default="", help="Runs this version of the operating system.")
@click.option("--duxos-version", default="", help="Runs this version of Dux OS.")
@click.option("--cpu-arch", default="", help="Has this processor, such as x86_64.")
@click.option("--min-free-cpu", type=click.IntRange(0), default=0, help="At least so many cores idle.")
@click.option("--min-free-memory", type=click.FloatRange(0), default=0.0, help="At least so much memory free, GB.")
@click.option("--min-uptime", type=click.FloatRange(0), default=0.0, help="Says it has run for so many hours.")
@click.option("--min-witnessed-uptime", type=click.FloatRange(0, 1), default=0.0, help="Was seen so often, 0 to 1.")
@click.option("--min-bond", type=FLOP_AMOUNT, help="Has locked at least so much in fidelity bonds.")
@click.option("--max-load", type=click.FloatRange(0), help="At most this load over one minute.")
@click.option("--min-tasks", type=click.IntRange(0), default=0, help="Was paid for so many jobs.")
@click.option("--min-success-rate", type=click.FloatRange(0, 1), default=0.0, help="Did this part well, 0 to 1.")
@click.option("--status", type=click.Choice(["active", "stale", "offline"]), help="Was heard of that lately.")
@click.option(
    "--verified",
    multiple=True,
    type=click.Choice(["cpu", "memory", "storage", "bandwidth", "tpm"]),
    help="Was measured by others to have this; repeatable.",
)
@click.option("--banned", "sanctioned", flag_value="only", help="Only nodes from which something is kept.")
@click.option("--all", "sanctioned", flag_value="shown", help="Banned and suspended ones too.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="At most so many.")
@pass_session
def list_nodes(
    session: Session,
    /,
    min_memory: float,
    min_storage: float,
    min_free_memory: float,
    min_uptime: float,
    min_bond: Florins | None,
    sanctioned: str | None,
    verified: tuple[str, ...],
    **filters: str | float | bool | tuple[str, ...] | None,
) -> None:
    """Known nodes that meet every filter, best reputation first.

    \b
    duxos-node-registry list --min-cpu 4 --min-memory 8 --min-storage 250 --min-reputation 0.7
    """
    from common.codec import from_plain
    from common.contracts.registry import NODE_LIST, ListNodes

    wish = filters | {
        "sanctioned": sanctioned or "hidden",
        "verified": list(verified),
        "min_memory_mb": round(min_memory * MB_PER_GB),
        "min_storage_gb": round(min_storage),
        "min_free_memory_mb": round(min_free_memory * MB_PER_GB),
        "min_bond_florins": None if min_bond is None else str(min_bond),
        "min_uptime_s": round(min_uptime * 3_600),
    }
    found = session.ask(NODE_LIST, from_plain(wish, ListNodes))
    _print_list(session, found, empty="no node fits")
    if found.total > len(found.nodes):
        session.out.step(f"{len(found.nodes)} of {found.total} shown; --limit shows more")


HEADINGS = ("node", "status", "reputation", "tier", "cores", "memory", "storage", "gpu", "host", "verified")


SHORT_HEADINGS = ("node", "status", "score", "tier", "cores", "RAM GB", "disk GB", "gpu", "host", "verified")


def _print_list(session: Session, found: NodeList, *, empty: str) -> None:
    rows, headings = each(found.nodes, lambda view: _row(session, view)), list(HEADINGS)
    if session.out.for_person:  # a terminal has 80 columns: what nobody of these has is left out
        told = [at for at, _ in enumerate(headings) if any(row[at] != "-" for row in rows)]
        headings = [SHORT_HEADINGS[at] for at in told]
        rows = [tuple(row[at] for at in told) for row in rows]
    session.out.table(found, headings, rows, empty=empty)
    if session.out.for_person and found.nodes:
        session.out.step("?: declared, not measured by others")
        if any(view.gpu_model and not view.gpu_seen for view in found.nodes):
            session.out.step("??: a GPU that its own node does not see, either")


def _row(session: Session, view: NodeView) -> tuple[str, ...]:
    return (
        short(view.node_id) if session.out.for_person else view.node_id,
        view.sanction or view.status.value,
        f"{view.reputation_score:.2f}",
        str(view.tier),
        str(view.cpu_cores) + _doubt(session, view, "cpu"),
        (f"{view.memory_gb:.3g}" if session.out.for_person else f"{view.memory_gb:g} GB")
        + _doubt(session, view, "memory"),
        f"{view.storage_gb}{'' if session.out.for_person else ' GB'}" + _doubt(session, view, "storage"),
        _gpu(session, view),
        printable(view.hostname),
        " ".join(view.verified) or "-",
    )


def _gpu(session: Session, view: NodeView) -> str:
    if not view.gpu_model:
        return "-"
    if not session.out.for_person:
        return printable(view.gpu_model) + ("" if view.gpu_seen else " (declared)")
    return printable(view.gpu_model) + ("?" if view.gpu_seen else "??")


def _doubt(session: Session, view: NodeView, part: str) -> str:
    """A person sees at the figure itself that nobody measured it; programs read the last column."""
    return "?" if session.out.for_person and part not in view.verified else ""


@registry.command()
@click.argument("capabilities", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 50), default=20, show_default=True, help="At most so many.")
@pass_session
def find(session: Session, capabilities: tuple[str, ...], limit: int) -> None:
    """Who offers all of these capabilities: nodes known here, and those that the network's index names.

    All of it is what nodes say of themselves. `gpu`: the node sees one on its machine; `gpu_declared`: it does not, and
    its operator says so.

    \b
    duxos-node-registry find task_execution
    duxos-node-registry find task_execution gpu
    """
    from common.contracts.registry import NODE_FIND, FindNodes

    found = session.ask(NODE_FIND, FindNodes(capabilities=capabilities, limit=limit))
    _print_list(session, found, empty="nobody offers that")


@registry.command(name="update-health")
@click.argument("node_id", type=NodeDid(), required=False, default="")
@click.option("--load-average", type=click.FloatRange(0), help="Load over one minute; left out: measured.")
@click.option("--memory-usage", type=click.FloatRange(0, 100), help="Percent of memory used; left out: measured.")
@click.option("--disk-usage", type=click.FloatRange(0, 100), help="Percent of storage used; left out: measured.")
@pass_session
def update_health(session: Session, /, node_id: str, **health: float | None) -> None:
    """Tell the network how this node fares, now. NODE_ID, when given, is this node's own.

    What you tell holds until the next heartbeat, a minute at most, which measures anew.

    \b
    duxos-node-registry update-health --load-average 0.5 --memory-usage 65.5 --disk-usage 45.2
    """
    from common.contracts.registry import NODE_UPDATE_HEALTH, UpdateHealth

    wish = UpdateHealth(request_id=new_request_id("health"), node_id=node_id, **health)
    _print_node(session, session.ask(NODE_UPDATE_HEALTH, wish))


@registry.command()
@click.argument("node_id", type=NodeDid(), required=False, default="")
@pass_session
def deregister(session: Session, node_id: str) -> None:
    """Take this node off the list; what it earned in reputation stays. NODE_ID, when given, is this node's own."""
    from common.contracts.registry import NODE_DEREGISTER, Deregister

    done = session.ask(NODE_DEREGISTER, Deregister(request_id=new_request_id("deregister"), node_id=node_id))
    session.out.record(done, [("deregistered", node_id or "this node")], name=node_id)


@registry.command()
@click.argument("node_id", type=NodeDid(), required=False, default="")
@click.option("--why", is_flag=True, help="Also the receipts behind its reputation.")
@pass_session
def show(session: Session, node_id: str, *, why: bool) -> None:
    """One node: what it offers, how it fares, what it has earned. Without NODE_ID this node.

    \b
    duxos-node-registry show --why
    """
    from common.contracts.registry import NODE_SELF, NODE_SHOW, REPUTATION_GET, NodeName
    from common.rpc.method import Empty

    async def ask() -> tuple[NodeView, Reputation | None]:
        name = NodeName(node_id=node_id)
        view = await (session.call(NODE_SHOW, name) if node_id else session.call(NODE_SELF, Empty()))
        return view, await session.call(REPUTATION_GET, NodeName(node_id=view.node_id)) if why else None

    view, reputation = session.run(ask())
    if reputation is None:
        _print_node(session, view)
    else:
        _print_reputation(session, view, reputation)


@registry.command()
@pass_session
def capabilities(session: Session) -> None:
    """What active nodes offer, and how many of them."""
    from common.contracts.registry import NODE_CAPABILITIES
    from common.rpc.method import Empty

    found = session.ask(NODE_CAPABILITIES, Empty())
    rows = [(name, str(len(nodes))) for name, nodes in found.capabilities.items()]
    session.out.table(found, ("capability", "nodes"), rows, empty="no active node offers anything")


def _print_node(session: Session, view: NodeView) -> None:
    session.out.record(view, _lines(view), name=view.node_id)


def _lines(view: NodeView) -> list[tuple[str, str]]:
    usage = f"load {view.load_average[0]:g}, memory {view.memory_usage:g} %, disk {view.disk_usage:g} %"
    return [
        ("node", view.node_id),
        ("status", f"{view.status.value}, {view.sanction}" if view.sanction else view.status.value),
        ("last heartbeat", view.last_heartbeat or "never"),
        ("host", printable(f"{view.hostname} {view.ip_address}:{view.port}")),
        ("paid at", printable(view.wallet_address)),
        ("versions", printable(f"os {view.os_version}, dux {view.duxos_version}")),
        ("offers", f"{view.cpu_cores} cores, {view.memory_gb:g} GB memory, {view.storage_gb} GB storage"),
        ("verified", ", ".join(view.verified) or "nothing: all of this it only declares"),
        ("processor", printable(f"{view.cpu_model or 'unknown'}, {view.cpu_arch}, {view.cpu_mhz} MHz")),
        ("gpu", printable(gpu_told(view.gpu_model, seen=view.gpu_seen))),
        ("capabilities", printable(", ".join(view.capabilities))),
        ("region", printable(view.region)),
        ("health", usage if view.last_heartbeat else ""),
        ("reputation", f"{view.reputation_score:.2f}, tier {view.tier}"),
        ("bonded", flop(view.bonded_florins) if view.bonded_florins else ""),
        ("jobs paid", done_well(view.total_tasks_completed, view.success_rate)),
        ("seen up", seen_up(view.witnessed_uptime)),
        ("running", running_for(view.uptime)),
    ]


def _print_reputation(session: Session, view: NodeView, reputation: Reputation) -> None:
    lines = [
        *_lines(view),
        ("standing", f"{reputation.standing_milli / 1000:.2f} at height {reputation.at_height}"),
        ("tax paid for it", flop(reputation.good_florins)),
        ("against it", flop(reputation.bad_florins) if reputation.bad_florins else ""),
    ]
    for line in reputation.evidence:
        weight = f"+{flop(line.good_florins)}" if line.good_florins else f"-{flop(line.bad_florins)}"
        lines.append(("receipt", f"{line.cid.hex()[:16]}… {line.outcome} at {line.height}, {weight}"))
    session.out.record({"node": view, "reputation": reputation}, lines, name=view.node_id)


add_to(registry)
registry.add_command(machine)
registry.add_command(audit)
registry.add_command(services)


def main(arguments: list[str] | None = None) -> None:
    """The installed command."""
    sys.exit(run_main(registry, arguments, name=PROGRAM))


if __name__ == "__main__":
    main()

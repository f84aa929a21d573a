"""`duxnet nodes …`: the nodes of the network, their standing, and this node among them."""

from __future__ import annotations

import click

from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import ago, done_well, each, gpu_told, running_for, seen_up, short


@click.group(cls=DuxGroup, alone="list")
def nodes() -> None:
    """The nodes of the network as this node knows them; without a verb: the list.

    \b
    duxnet nodes
    duxnet nodes --active
    """


@nodes.command("list")
@click.option(
    "--capability", "capabilities", multiple=True, help="Only nodes that offer this; repeatable: all of them."
)
@click.option("--min-reputation", type=click.FloatRange(0, 1), default=0.0, help="At least this Q, 0 to 1.")
@click.option("--region", default="", help="Stands there.")
@click.option("--active", is_flag=True, help="Only nodes heard of lately.")
@click.option("--all", "everyone", is_flag=True, help="Banned and suspended ones too.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="At most so many.")
@pass_session
def list_nodes(
    session: Session,
    *,
    capabilities: tuple[str, ...],
    min_reputation: float,
    region: str,
    active: bool,
    everyone: bool,
    limit: int,
) -> None:
    """Nodes, best reputation first.

    \b
    duxnet nodes list --active --min-reputation 0.6
    duxnet nodes list --capability task_execution --capability gpu
    """
    from common.clock import SystemClock
    from common.contracts.registry import NODE_LIST, ListNodes, NodeStatus

    wanted = ListNodes(
        capabilities=capabilities,
        min_reputation=min_reputation,
        region=region,
        status=NodeStatus.ACTIVE if active else None,
        sanctioned="shown" if everyone else "hidden",
        limit=limit,
    )
    found, now_ms = session.ask(NODE_LIST, wanted), SystemClock().unix_ms()
    rows = each(
        found.nodes,
        lambda n: (
            n.node_id,
            f"{n.hostname} (you)" if n.own and session.out.for_person else n.hostname,
            n.sanction or str(n.status),
            f"{n.reputation_score:.2f}",
            str(n.tier),
            ago(n.last_heartbeat, now_ms) if session.out.for_person else n.last_heartbeat,
            " ".join(n.verified) or "-",
        ),
    )
    headings = ("node", "name", "status", "score", "tier", "heard of", "verified")
    session.out.table(found, headings, rows, empty="no node is known that fits")


@nodes.command()
@click.argument("node_id", type=NodeDid())
@pass_session
def show(session: Session, node_id: str) -> None:
    """One node: what it offers and how it stands."""
    from common.clock import SystemClock
    from common.contracts.registry import NODE_SHOW, NodeName

    node = session.ask(NODE_SHOW, NodeName(node_id=node_id))
    lines = [
        ("node", node.node_id),
        ("name", node.hostname),
        ("status", f"{node.status}, heard of {ago(node.last_heartbeat, SystemClock().unix_ms())}"),
        ("sanction", node.sanction),
        ("reputation", f"{node.reputation_score:.3f} (0.5 = nothing known), tier {node.tier}"),
        ("jobs paid", done_well(node.total_tasks_completed, node.success_rate)),
        ("seen up", seen_up(node.witnessed_uptime)),
        ("running", running_for(node.uptime)),
        ("offers", ", ".join(node.capabilities)),
        ("machine", f"{node.cpu_cores} cores, {node.memory_gb:g} GB, {node.storage_gb} GB disk"),
        ("gpu", gpu_told(node.gpu_model, seen=node.gpu_seen)),
        ("verified", ", ".join(node.verified) or "nothing: the machine is only declared"),
        ("region", node.region),
        ("paid at", node.wallet_address),
    ]
    session.out.record(node, lines, name=node.node_id)


@nodes.command()
@pass_session
def peers(session: Session) -> None:
    """Nodes that this node is connected to now."""
    from common.contracts.p2p import P2P_PEERS
    from common.rpc.method import Empty

    found = session.ask(P2P_PEERS, Empty())
    rows = each(found.peers, lambda p: (p.did, p.address, "this node" if p.dialled else "the other"))
    session.out.table(found, ("node", "address", "opened by"), rows, empty="no connections")


@nodes.command()
@pass_session
def me(session: Session) -> None:
    """This node: its DID, where it listens, how many peers it has."""
    from common.contracts.p2p import P2P_INFO, P2P_REACHABILITY
    from common.rpc.method import Empty

    info, reach = session.ask(P2P_INFO, Empty()), session.ask(P2P_REACHABILITY, Empty())
    lines = [
        ("node", info.did),
        ("network", short(info.network)),
        ("listens at", ", ".join(info.endpoints)),
        ("reached", reach.how),
        ("peers", f"{info.sessions} connected, {info.contacts} known"),
        ("holds", f"{info.records} records, {info.blobs} blobs of {info.blob_bytes} bytes"),
    ]
    session.out.record(info, lines, name=info.did)


@nodes.command()
@pass_session
def reach(session: Session) -> None:
    """How others reach this node: directly, by a gateway's port or through relays, and who has verified it.

    \b
    duxnet nodes reach
    duxnet nodes reach --json | jq .duty
    """
    from common.contracts.p2p import P2P_REACHABILITY
    from common.rpc.method import Empty

    found = session.ask(P2P_REACHABILITY, Empty())
    rows = each(
        found.endpoints,
        lambda e: (e.endpoint, e.verdict, ", ".join(short(did) for did in e.verified_by), "yes" if e.told else "no"),
    )
    session.out.table(found, ("endpoint", "found", "verified by", "told to others"), rows, empty="no endpoint yet")
    session.out.step(f"reached: {found.how}")
    for relay in found.relays:
        session.out.step(f"through the relay {relay}")
    if found.gateway:
        session.out.step(f"gateway: {found.gateway}")
    duty = found.duty
    if duty.on_duty:
        session.out.step(f"carried for others: {duty.circuits} circuits, {duty.bytes} bytes, {duty.seconds} s")

"""`duxnet topology`: the nodes of the network, how far they are from each other, and a picture of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from common.errors import NotFound
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.out_files import OutFile, write_out


@click.command(cls=DuxCommand)
@click.option("--region", default="", help="Only this region's nodes.")
@click.option("--links", is_flag=True, help="Every measured way between two nodes, instead of the regions.")
@click.option("--svg", type=OutFile(), help="Write a picture of it to this file.")
@pass_session
def topology(session: Session, *, region: str, links: bool, svg: Path | None) -> None:
    """The network's regions and the latencies that nodes have measured between them.

    \b
    duxnet topology
    duxnet topology --links --region eu
    duxnet topology --svg network.svg
    """
    from common.contracts.registry import TOPOLOGY_SHOW
    from common.contracts.registry_witness import TopologyAsked

    found = session.ask(TOPOLOGY_SHOW, TopologyAsked(region=region))
    if region and not found.nodes:
        there = {node.region for node in session.ask(TOPOLOGY_SHOW, TopologyAsked()).nodes}
        session.out.step(f"regions with nodes: {', '.join(sorted(there)) or 'none yet'}")
        raise NotFound(what="region", name=region)
    if svg is not None:
        from dux_cli.topology_picture import picture

        write_out(svg, picture(found).encode())
        session.out.step(f"picture of {len(found.nodes)} nodes written to {svg}")
    if links:
        rows = [
            (str(w.prober), str(w.target), f"{w.rtt_ms} ms", f"{w.least_ms} ms", str(w.samples)) for w in found.links
        ]
        session.out.table(found, ("from", "to", "latency", "least", "samples"), rows, empty="nothing measured yet")
        return
    counts = Counter(node.region for node in found.nodes)
    spans = [
        (span.one, span.other, f"{span.rtt_ms} ms", str(span.links), f"{counts[span.one]} and {counts[span.other]}")
        for span in found.regions
    ]
    silent = [(name, "-", "-", "0", str(count)) for name, count in sorted(counts.items()) if not _measured(spans, name)]
    headings = ("region", "to region", "median latency", "ways", "nodes")
    session.out.table(found, headings, spans + silent, empty="no nodes heard of yet")


def _measured(spans: list[tuple[str, str, str, str, str]], name: str) -> bool:
    return any(name in span[:2] for span in spans)

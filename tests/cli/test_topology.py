"""The picture of the network: well-formed, complete, the same every time, and harmless whatever names nodes give."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from common.contracts.registry_witness import LinkView, PlacedNode, RegionLink, Topology
from common.units import Did
from dux_cli.topology_picture import HEIGHT, WIDTH, picture

SVG = "{http://www.w3.org/2000/svg}"


def placed(number: int, region: str, **changes: Any) -> PlacedNode:
    fields: dict[str, Any] = {
        "node_id": Did("did:dux:" + chr(97 + number % 26) * 40 + f"{number:012d}"),
        "hostname": f"{region}-{number}",
        "region": region,
        "tier": number % 3,
        "status": "stale" if number % 5 == 4 else "active",
        "uptime": 0.97,
        "own": number == 0,
        "sanction": "banned" if number == 3 else "",
        "verified": ("cpu",) if number % 2 else (),
    }
    return PlacedNode(**fields | changes)


def network(*sizes: int) -> Topology:
    """Regions of so many nodes each, everybody measured by the next, and the regions between each other."""
    names = [f"r{number}" for number in range(len(sizes))]
    nodes = [placed(len(sizes) * at + n, names[n]) for n, size in enumerate(sizes) for at in range(size)]
    links = [
        LinkView(prober=one.node_id, target=other.node_id, rtt_ms=10 + 17 * at % 160, least_ms=9, samples=3)
        for at, (one, other) in enumerate(itertools.pairwise(nodes))
    ]
    spans = [RegionLink(one=a, other=b, rtt_ms=80, links=1) for a in names for b in names if a <= b]
    return Topology(nodes=tuple(nodes), links=tuple(links), regions=tuple(spans), connected=(nodes[-1].node_id,))


@pytest.mark.parametrize("sizes", [(1,), (4,), (2, 3), (5, 5, 5), (1, 2, 3, 4, 5, 6, 7, 8), (120, 80)])
def test_every_node_is_in_the_picture_and_within_it(sizes: tuple[int, ...]) -> None:
    """One dot with a title per node, inside the frame, no two at one place; one line per measured pair."""
    found = network(*sizes)
    root = ET.fromstring(picture(found))  # noqa: S314 - our own text
    dots = [circle for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]
    places = {(dot.attrib["cx"], dot.attrib["cy"]) for dot in dots}
    assert len(dots) == len(places) == len(found.nodes)
    assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y in places)
    measured = [line for line in root.iter(f"{SVG}line") if line.attrib["stroke-width"] == "1.2"]
    assert len(measured) == len(found.links)
    assert picture(found) == picture(found)


def test_names_of_strangers_are_text_only() -> None:
    """A host name that looks like markup is shown as it is written; a link to nobody shown is left out."""
    evil = placed(0, "<script>", hostname='"><script>alert(1)</script>')
    lost = LinkView(prober=evil.node_id, target=Did("did:dux:gone"), rtt_ms=1, least_ms=1, samples=1)
    text = picture(Topology(nodes=(evil,), links=(lost,), regions=(), connected=()))
    assert "<script" not in text
    assert ET.fromstring(text).find(f"{SVG}script") is None  # noqa: S314
    ET.fromstring(picture(Topology(nodes=(), links=(), regions=(), connected=())))  # noqa: S314


def test_nodes_whose_hosts_are_called_alike_are_told_apart() -> None:
    """A name that several bear says nothing: their own letters stand there; a name of one alone stays."""
    nodes = (placed(1, "eu", hostname="vm"), placed(2, "eu", hostname="vm"), placed(3, "eu", hostname="attic"))
    drawn = picture(Topology(nodes=nodes, links=(), regions=(), connected=()))
    assert (">vm<" in drawn, ">attic<" in drawn) == (False, True)
    assert [f">{node.node_id[8:16]}…<" in drawn for node in nodes] == [True, True, False]


def test_sanctioned_nodes_are_struck_out_and_measured_ones_pierced() -> None:
    """What is kept from a node and what others measured of it is seen, and told when one points at it."""
    node = placed(1, "eu", sanction="banned", verified=("cpu", "memory"))
    plain = placed(2, "eu", sanction="", verified=())
    drawn = picture(Topology(nodes=(node, plain), links=(), regions=(), connected=()))
    bare = picture(
        Topology(nodes=(placed(1, "eu", sanction="", verified=()), plain), links=(), regions=(), connected=())
    )
    assert (drawn.count("<circle") - bare.count("<circle"), drawn.count("<line") - bare.count("<line")) == (1, 1)
    assert "banned" in drawn
    assert "measured: cpu, memory" in drawn
    assert "machine only declared" in drawn

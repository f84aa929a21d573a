"""The network as a picture: regions as islands, nodes on them, measured latencies as lines between. SVG, no script.

Pure: the same topology gives the same picture. Places are not geography; nodes of a region stand together, regions in a
ring. Lines are the pairs that have measured each other, the slowest drawn first so that near ones stay visible.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from dux_cli.output import counted

if TYPE_CHECKING:
    from common.contracts.registry_witness import LinkView, PlacedNode, Topology

WIDTH, HEIGHT = 1_200, 820
TOP, SIDE = 110, 60  # room for the heading, and at the edges
NODE_GAP_MOST = 62.0  # between neighbours on an island
ISLAND_ALONE, ISLAND_MOST, ISLAND_LEAST = 270.0, 170.0, 70.0  # how far an island's nodes may reach from its middle
TAG_AT = 0.42  # where on the way between two regions its figure stands: not half way, where ways cross
LABELS_MAX = 60  # nodes; above it names would only cover each other
GOLDEN = math.pi * (3 - math.sqrt(5))
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
SPEEDS = ((30, "#16a34a", "up to 30 ms"), (100, "#ca8a04", "up to 100 ms"), (1 << 60, "#dc2626", "slower"))
INK, PALE, PAPER = "#1e293b", "#64748b", "#f8fafc"

Point = tuple[float, float]


LEGEND = "larger: higher tier · pierced: measured · hollow: silent · struck out: sanctioned"


def picture(topology: Topology) -> str:
    """The SVG text."""
    islands = _islands(topology.nodes)
    places = _places(islands)
    shapes = [
        *_ground(islands, places),
        *_lines(topology.links, places),
        *_spans(topology, islands, places),
        *_dots(topology.nodes, places, list(islands)),
        *_heading(topology),
        *_legend(),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, DejaVu Sans, sans-serif" role="img" aria-label="the network and its latencies">'
    )
    return "\n".join([head, f'<rect width="100%" height="100%" fill="{PAPER}"/>', *shapes, "</svg>", ""])


def _islands(nodes: Iterable[PlacedNode]) -> dict[str, list[PlacedNode]]:
    """Nodes by region, regions and nodes in the order of their names."""
    found: dict[str, list[PlacedNode]] = {}
    for node in sorted(nodes, key=lambda node: (node.region, node.node_id)):
        found.setdefault(node.region, []).append(node)
    return found


def _places(islands: dict[str, list[PlacedNode]]) -> dict[str, Point]:
    """Where each node stands: a sunflower on its island; islands on an ellipse, one alone in the middle."""
    middle: Point = (WIDTH / 2, (HEIGHT + TOP) / 2)
    most = max((len(nodes) for nodes in islands.values()), default=1)
    coast = ISLAND_ALONE if len(islands) == 1 else max(ISLAND_LEAST, ISLAND_MOST - 14 * len(islands))
    gap = min(NODE_GAP_MOST, coast / math.sqrt(most))
    across = (0.0, 0.0) if len(islands) == 1 else (WIDTH / 2 - SIDE - coast, (HEIGHT - TOP) / 2 - SIDE - coast)
    places: dict[str, Point] = {}
    for number, nodes in enumerate(islands.values()):
        angle = -math.pi / 2 + 2 * math.pi * number / len(islands)
        centre = (middle[0] + across[0] * math.cos(angle), middle[1] + across[1] * math.sin(angle))
        for at, node in enumerate(nodes):
            far = gap * math.sqrt(at + (0.5 if len(nodes) > 1 else 0))
            places[node.node_id] = (centre[0] + far * math.cos(at * GOLDEN), centre[1] + far * math.sin(at * GOLDEN))
    return places


def _centre(nodes: Sequence[PlacedNode], places: dict[str, Point]) -> tuple[Point, float]:
    """The middle of an island and how far its coast is."""
    points = [places[node.node_id] for node in nodes]
    middle = (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
    return middle, max(math.dist(middle, point) for point in points) + 30


def _ground(islands: dict[str, list[PlacedNode]], places: dict[str, Point]) -> list[str]:
    shapes = []
    for number, (region, nodes) in enumerate(islands.items()):
        (x, y), coast = _centre(nodes, places)
        colour = COLOURS[number % len(COLOURS)]
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{coast:.1f}" fill="{colour}" fill-opacity="0.08"/>')
        told = f"{escape(region)} · {len(nodes)}"
        shapes.append(_text(x, y - coast - 8, told, size=17, colour=colour, weight=600))
    return shapes


def _speed(rtt_ms: int) -> str:
    return next(colour for limit, colour, _ in SPEEDS if rtt_ms <= limit)


def _lines(links: Sequence[LinkView], places: dict[str, Point]) -> list[str]:
    """Each pair once, with the quicker of its two directions."""
    pairs: dict[tuple[str, str], int] = {}
    for link in links:
        one, other = sorted((str(link.prober), str(link.target)))
        if one in places and other in places:
            pairs[one, other] = min(link.rtt_ms, pairs.get((one, other), link.rtt_ms))
    faint = 0.55 if len(pairs) <= LABELS_MAX else 0.22
    return [
        f'<line x1="{places[one][0]:.1f}" y1="{places[one][1]:.1f}" x2="{places[other][0]:.1f}" '
        f'y2="{places[other][1]:.1f}" stroke="{_speed(rtt_ms)}" stroke-opacity="{faint}" stroke-width="1.2"/>'
        for (one, other), rtt_ms in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _spans(topology: Topology, islands: dict[str, list[PlacedNode]], places: dict[str, Point]) -> list[str]:
    """The median latency between two regions, on a tag half way."""
    shapes = []
    for span in topology.regions:
        if span.one != span.other and span.one in islands and span.other in islands:
            (x1, y1), _ = _centre(islands[span.one], places)
            (x2, y2), _ = _centre(islands[span.other], places)
            x, y, told = x1 + (x2 - x1) * TAG_AT, y1 + (y2 - y1) * TAG_AT, f"{span.rtt_ms} ms"
            half = 5 * len(told)
            shapes.append(
                f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="{PALE}" stroke-opacity="0.35" '
                'stroke-dasharray="2 6" fill="none"/>'
            )
            shapes.append(
                f'<rect x="{x - half:.1f}" y="{y - 13:.1f}" width="{2 * half}" height="24" rx="12" fill="white" '
                f'stroke="{_speed(span.rtt_ms)}"/>'
            )
            shapes.append(_text(x, y + 4.5, told, size=13, colour=INK, weight=600))
    return shapes


def _dots(nodes: Sequence[PlacedNode], places: dict[str, Point], regions: list[str]) -> list[str]:
    shapes = []
    named = Counter(node.hostname for node in nodes)
    for node in nodes:
        x, y = places[node.node_id]
        colour = COLOURS[regions.index(node.region) % len(COLOURS)]
        size = 6 + 2.5 * node.tier
        fill = colour if node.status == "active" else "white"
        uptime = "never judged" if node.uptime is None else f"up {node.uptime:.1%}"
        measured = f"measured: {', '.join(node.verified)}" if node.verified else "machine only declared"
        facts = (node.hostname, node.node_id, f"tier {node.tier}", node.sanction or node.status, uptime, measured)
        title = escape(" · ".join(facts))
        if node.own:
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size + 5}" fill="none" stroke="{INK}"/>')
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="2">'
            f"<title>{title}</title></circle>"
        )
        if node.verified:
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size / 3:.1f}" fill="{PAPER}"/>')
        if node.sanction:
            far = size + 4
            ends = f'x1="{x - far:.1f}" y1="{y - far:.1f}" x2="{x + far:.1f}" y2="{y + far:.1f}"'
            shapes.append(f'<line {ends} stroke="{INK}" stroke-width="3"/>')
        if len(nodes) <= LABELS_MAX:
            own_name = node.hostname if named[node.hostname] == 1 else ""  # hosts called alike tell nobody apart
            name = own_name or f"{node.node_id[8:16]}…"
            shapes.append(_text(x, y + size + 13, escape(name[:18]), size=11, colour=INK))
    return shapes


def _heading(topology: Topology) -> list[str]:
    regions = counted(len({node.region for node in topology.nodes}), "region")
    measured = f"{counted(len(topology.nodes), 'node')}, {regions}, {counted(len(topology.links), 'measured way')}"
    told = f"{measured}; this node is connected to {len(topology.connected)}"
    return [
        _text(SIDE, 48, "The network as this node knows it", size=24, colour=INK, weight=700, anchor="start"),
        _text(SIDE, 74, told, size=14, colour=PALE, anchor="start"),
    ]


def _legend() -> list[str]:
    shapes, x, y = [], WIDTH - SIDE - 500, 48.0
    for _, colour, told in SPEEDS:
        shapes.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 24}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        shapes.append(_text(x + 30, y, told, size=13, colour=PALE, anchor="start"))
        x += 128
    shapes.append(f'<circle cx="{x + 9}" cy="{y - 4}" r="9" fill="none" stroke="{INK}"/>')
    shapes.append(_text(x + 24, y, "this node", size=13, colour=PALE, anchor="start"))
    shapes.append(_text(WIDTH - SIDE, 74, LEGEND, size=13, colour=PALE, anchor="end"))
    return shapes


def _text(x: float, y: float, told: str, *, size: int, colour: str, weight: int = 400, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}" stroke="{PAPER}" stroke-width="3" paint-order="stroke">{told}</text>'
    )

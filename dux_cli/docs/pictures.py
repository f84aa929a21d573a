"""Pictures made from the program's own tables: the constellation of daemons, the escrow's states.

Pure: tables in, Mermaid or SVG text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

BOX_WIDTH, BOX_HEIGHT = 168, 52
STEP_X, STEP_Y = 204, 112
MARGIN = 16


def layers_of(graph: Mapping[str, tuple[str, ...]]) -> list[list[str]]:
    """Callers above those they call: each daemon one row above the highest that it calls."""
    height: dict[str, int] = {}

    def height_of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((height_of(callee) for callee in graph[name]), default=-1)
        return height[name]

    rows: dict[int, list[str]] = {}
    for name in graph:
        rows.setdefault(height_of(name), []).append(name)
    return [rows[level] for level in sorted(rows, reverse=True)]


def constellation_mermaid(graph: Mapping[str, tuple[str, ...]]) -> str:
    """Who calls whom."""
    lines = ["flowchart TD"]
    lines += [f"  {caller} --> {callee}" for caller, callees in graph.items() for callee in callees]
    lines += ["  people([people: duxnet]) --> taskd", "  p2pd <--> world((other nodes))"]
    return "\n".join(lines)


def constellation_svg(graph: Mapping[str, tuple[str, ...]], guards: Mapping[str, str]) -> str:
    """Who calls whom, with what each daemon alone guards, in colours that do in light and in dark."""
    rows = layers_of(graph)
    width = MARGIN * 2 + STEP_X * max(len(row) for row in rows) - (STEP_X - BOX_WIDTH)
    place = {
        name: (MARGIN + (width - 2 * MARGIN - row_width(row)) / 2 + STEP_X * column, MARGIN + STEP_Y * level)
        for level, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    height = MARGIN * 2 + STEP_Y * (len(rows) - 1) + BOX_HEIGHT
    arrows = [
        arrow(place[caller], place[callee], far=place[callee][1] - place[caller][1] > STEP_Y)
        for caller, callees in graph.items()
        for callee in callees
    ]
    boxes = [box(name, guards.get(name, ""), place[name]) for name in graph]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">\n'
        "<title>The constellation: who may call whom</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#808080"/></marker></defs>\n' + "\n".join([*arrows, *boxes]) + "\n</svg>\n"
    )


def row_width(row: list[str]) -> float:
    """The width of a row of boxes."""
    return STEP_X * len(row) - (STEP_X - BOX_WIDTH)


def arrow(start: tuple[float, float], end: tuple[float, float], *, far: bool) -> str:
    """From the bottom of one box to the top of another; one that passes a row is thinner."""
    x1, y1 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX_WIDTH / 2 + (x1 - end[0] - BOX_WIDTH / 2) / 8, end[1]
    stroke = 0.8 if far else 1.4
    return (
        f'<path d="M{x1:g} {y1:g} C{x1:g} {y1 + 40:g} {x2:g} {y2 - 40:g} {x2:g} {y2:g}" fill="none" stroke="#808080" '
        f'stroke-width="{stroke}" marker-end="url(#tip)"/>'
    )


def box(name: str, guarded: str, corner: tuple[float, float]) -> str:
    """A daemon with what it guards."""
    x, y = corner
    middle = f'x="{x + BOX_WIDTH / 2:g}" text-anchor="middle" fill="#14304a"'
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="#dbe9f6" stroke="#2b5d8a"/>'
        f'<text {middle} y="{y + 22:g}" font-size="15" font-weight="bold">{name}</text>'
        f'<text {middle} y="{y + 40:g}" font-size="11">{guarded}</text>'
    )


def states_mermaid(moves: Iterable[tuple[str, str, str]]) -> str:
    """A state diagram of (from, fact, to), each move once; several facts between the same states share an arrow."""
    labels: dict[tuple[str, str], list[str]] = {}
    for start, fact, end in moves:
        facts = labels.setdefault((start, end), [])
        if fact not in facts:
            facts.append(fact)
    lines = [f"  {start} --> {end}: {', '.join(facts)}" for (start, end), facts in sorted(labels.items())]
    return "\n".join(["stateDiagram-v2", *lines])

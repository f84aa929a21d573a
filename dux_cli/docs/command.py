"""`duxnet docs`: write every generated page anew, or say which differ from the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import click

import common
from common.errors import DuxError, all_errors
from common.openrpc import openrpc_document
from common.rpc.method import CALL_GRAPH, DAEMONS
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.docs import attacks, network, pictures, tables
from dux_cli.node_dir import contract_module, methods_of

CHECKOUT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- made by `duxnet docs`; do not edit -->", "<!-- end of what is made -->"
GUARDS = {
    "p2pd": "identity key, outside sockets",
    "flopd": "coin keys, chain view",
    "escrowd": "contracts, the 95/5 rule",
    "airdropd": "eligibility, airdrops",
    "registryd": "nodes, receipts, trust",
    "stored": "services, ratings",
    "taskd": "the sandbox",
}


def pages() -> dict[str, str]:
    """Every generated file: path in the checkout -> text. A README holds more than its generated part."""
    found = dict(api_pages())
    found["docs/api/network.md"] = network.network_page()
    found["docs/api/errors.md"] = tables.errors_page(documented_errors())
    found["docs/constellation.svg"] = pictures.constellation_svg(CALL_GRAPH, GUARDS)
    found["docs/attacks.md"] = attacks.attacks_page(
        attacks.attacks_in(CHECKOUT / "tests", CHECKOUT), attacks.layers_in(CHECKOUT / "tests")
    )
    found["docs/escrow-states.md"] = escrow_page()
    found["docs/cli.md"] = cli_page()
    for daemon in DAEMONS:
        path = f"dux_{daemon}/README.md"
        found[path] = with_made_part(read(path) or new_readme(daemon), made_part(daemon))
    found["docs/architecture.md"] = with_made_part(read("docs/architecture.md"), graph_part())
    return found


def read(path: str) -> str:
    """A file of the checkout; empty when it is missing."""
    file = CHECKOUT / path
    return file.read_text() if file.exists() else ""


def api_pages() -> Iterator[tuple[str, str]]:
    """A page and an OpenRPC document per daemon."""
    for daemon in DAEMONS:
        methods = sorted(methods_of(daemon).values(), key=lambda method: method.name)
        document = openrpc_document(daemon, methods)
        promise = (contract_module(daemon).__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        yield f"docs/api/{daemon}.md", tables.api_page(daemon, promise, methods, document["components"]["schemas"])
        yield f"docs/api/{daemon}.openrpc.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def documented_errors() -> list[type[DuxError]]:
    """Every error of `common`, whatever else is loaded; a program's own errors say in their text what to do."""
    for module in walk_packages(common.__path__, "common."):
        import_module(module.name)
    return [kind for kind in all_errors() if kind.__module__.startswith("common.")]


def escrow_page() -> str:
    """The escrow's states, from the table that decides: the ordinary ways as a picture, every row as a table."""
    rules = import_module("dux_escrowd.rules")
    moves = [
        (start.name, row.fact.__name__, end.name)
        for row in rules.ROWS
        for start in row.frm
        for end in ends_of(row, start)
    ]
    rows = [
        (
            ", ".join(state.name for state in row.frm),
            row.fact.__name__,
            ", ".join(role.name.lower() for role in row.who or ()) or "all",
            row.to.name if row.to else "stays",
            row.source,
        )
        for row in rules.ROWS
    ]
    return (
        "# States of an escrow contract\n\n"
        "Made by `duxnet docs` from the table in `dux_escrowd/rules.py`; do not edit. The picture leaves out what only "
        "a reorganised chain does (an output or a spend that is gone again) and draws the four SEEN states as one; the "
        "table below it is complete: a pair that it does not name is refused and changes nothing.\n\n"
        f"```mermaid\n{pictures.states_mermaid(ordinary(moves))}\n```\n\n"
        + tables.markdown_table(("from", "fact", "seen by", "to", "source"), rows)
        + "\n"
    )


def ends_of(row: Any, start: Any) -> tuple[Any, ...]:
    """The states a row may lead to."""
    return tuple(row.to.options) if hasattr(row.to, "options") else (row.to or start,)


def ordinary(moves: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The moves of a chain that only grows, the ways out drawn as one state."""
    seen = {"RELEASE_SEEN", "AWARD_SEEN", "CANCEL_SEEN", "REFUND_SEEN"}
    merged = [("SPENT" if a in seen else a, fact, "SPENT" if b in seen else b) for a, fact, b in moves]
    return [(a, fact, b) for a, fact, b in merged if a != b and fact not in ("SpendGone", "OutputGone")]


def cli_page() -> str:
    """Every command's help, as it prints it."""
    from dux_cli.main import SECTIONS, duxnet
    from dux_cli.registry import PROGRAM, registry

    context = click.Context(duxnet, info_name="duxnet", terminal_width=100)
    parts = ["# The command line\n\nMade by `duxnet docs` from the commands; do not edit.", help_of(duxnet, context)]
    for section in SECTIONS.values():
        for name in section:
            command = duxnet.get_command(context, name)
            if command is not None:
                parts += helps(command, click.Context(command, parent=context, info_name=name, terminal_width=100))
    parts += helps(registry, click.Context(registry, info_name=PROGRAM, terminal_width=100))
    return "\n\n".join(parts) + "\n"


def helps(command: click.Command, context: click.Context) -> list[str]:
    """The help of a command and of those below it."""
    found = [f"## {context.command_path}\n\n{help_of(command, context)}"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                found += helps(child, click.Context(child, parent=context, info_name=name, terminal_width=100))
    return found


def help_of(command: click.Command, context: click.Context) -> str:
    """A help text in a fence."""
    return f"```text\n{command.get_help(context).rstrip()}\n```"


def made_part(daemon: str) -> str:
    """A README's generated part: who calls, whom it calls, its methods."""
    callers = [name for name in DAEMONS if daemon in CALL_GRAPH[name]]
    arrows = [f"  {name} --> {daemon}" for name in callers] + [f"  {daemon} --> {name}" for name in CALL_GRAPH[daemon]]
    own = [method for name, method in sorted(methods_of(daemon).items()) if name not in ("daemon.info", "rpc.discover")]
    diagram = "\n".join(["```mermaid", "flowchart LR", f"  people([people]) --> {daemon}", *arrows, "```"])
    return f"{diagram}\n\n{tables.rpc_table(own)}\n\nAll fields, errors and examples: `docs/api/{daemon}.md`."


def new_readme(daemon: str) -> str:
    """What a daemon's README starts with: its promise, as the package says it."""
    return f"# dux_{daemon}\n\n{(import_module(f'dux_{daemon}').__doc__ or '').strip()}\n\n{BEGIN}\n{END}\n"


def graph_part() -> str:
    """The call graph for docs/architecture.md."""
    return f"![the constellation](constellation.svg)\n\n```mermaid\n{pictures.constellation_mermaid(CALL_GRAPH)}\n```"


def with_made_part(text: str, made: str) -> str:
    """The text with what stands between the marks replaced; marks are put at the end where there are none."""
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}"


def differing(found: dict[str, str]) -> list[str]:
    """The generated files that are not as they should be."""
    return [path for path, text in found.items() if read(path) != text]


@click.command(cls=DuxCommand)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a page differs from the program.")
@pass_session
def docs(session: Session, *, check: bool) -> None:
    """Write the generated pages of the documentation anew: API, errors, diagrams, READMEs' tables, this help."""
    found = pages()
    stale = differing(found)
    if not check:
        for path in stale:
            (CHECKOUT / path).parent.mkdir(parents=True, exist_ok=True)
            (CHECKOUT / path).write_text(found[path])
    rows = [(path, "differs" if check else "written") for path in stale]
    session.out.table(
        {"stale": stale, "written": not check}, ("page", ""), rows, empty=f"{len(found)} pages are up to date"
    )
    if check and stale:
        raise SystemExit(EXIT_FAILED)

"""Pages about methods, peer calls and errors, as Markdown, made from the contract values.

Pure: contracts in, text out. The same input gives the same text, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from common.codec import to_plain
from common.errors import DuxError
from common.rpc.method import Method

Row = Sequence[str]


def markdown_table(headings: Row, rows: Iterable[Row]) -> str:
    """A table; a bar within a cell is written so that it does not end the cell."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def rpc_table(methods: Iterable[Method[Any, Any]]) -> str:
    """A daemon's methods on one line each."""
    rows = [
        (f"`{m.name}`", ", ".join(m.callers), "once per `request_id`" if m.once else "", m.summary) for m in methods
    ]
    return markdown_table(("method", "callers", "repeated", "what it does"), rows)


def api_page(daemon: str, promise: str, methods: Sequence[Method[Any, Any]], schemas: dict[str, Any]) -> str:
    """Everything about a daemon's methods."""
    parts = [
        f"# {daemon}: methods",
        "Made by `duxnet docs` from `common/contracts`; do not edit.",
        promise,
        "Amounts (`…_florins`) are decimal strings of florins, 10^-8 FLOP; bytes are base64.",
        rpc_table(methods),
    ]
    return "\n\n".join([*parts, *(method_section(method, schemas) for method in methods)]) + "\n"


def method_section(method: Method[Any, Any], schemas: dict[str, Any]) -> str:
    """One method: parameters, result, errors, an example."""
    asked, answered = (to_plain(value) for value in method.example)
    errors = [(str(kind.code), f"`{kind.key}`", doc_line(kind)) for kind in method.raises]
    parts = [
        f"## {method.name}",
        method.summary,
        f"Callers: {', '.join(method.callers)}. Longest wait: {method.deadline_max_s:g} s.",
        struct_table("Parameters", method.params, schemas),
        struct_table("Result", method.result, schemas),
        "Errors beside those of every call:\n\n" + markdown_table(("code", "key", "says"), errors) if errors else "",
        "Example:\n\n```json\n" + pretty(asked) + "\n```\n\n```json\n" + pretty(answered) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def struct_table(title: str, kind: type, schemas: dict[str, Any]) -> str:
    """The fields of a struct with their types."""
    schema = schemas.get(kind.__name__, {})
    needed = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", type_text(field), "yes" if name in needed else "")
        for name, field in schema.get("properties", {}).items()
    ]
    head = f"{title}, `{kind.__name__}`: {doc_line(kind)}"
    return f"{head}\n\n{markdown_table(('field', 'type', 'required'), rows)}" if rows else f"{head}"


def type_text(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in schema:
        return " or ".join(type_text(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return "list of " + type_text(schema["items"]) if schema.get("items") else "list"
    if "florins" in schema.get("description", ""):
        return "florins"
    return str(schema.get("contentEncoding") or schema.get("type", "anything"))


def doc_line(kind: type) -> str:
    """The first line of a docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def pretty(value: object) -> str:
    """JSON as a person reads it."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def errors_page(kinds: Iterable[type[DuxError]]) -> str:
    """Every error that a caller may meet, by code."""
    rows = [
        (str(kind.code), f"`{kind.key}`", kind.__mro__[1].__name__, doc_line(kind))
        for kind in sorted(kinds, key=lambda kind: (kind.code, kind.__name__))
    ]
    return (
        "# Errors\n\nMade by `duxnet docs`; do not edit. A number for programs, a key for logs, a sentence for people. "
        "Blocks: 1000 common, 2000 wallet, 3000 escrow, 4000 airdrop, 5000 registry, 6000 store, 7000 tasks, 8000 p2p. "
        "The family tells what to do: CallerMistake: mend the call. NotNow: wait, repeat. Unavailable: repeat later "
        "with the same `request_id`. PeerMisbehaved: the other node broke the protocol.\n\n"
        + markdown_table(("code", "key", "family", "says"), rows)
        + "\n"
    )

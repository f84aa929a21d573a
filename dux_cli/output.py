"""How a command answers: a table for a person, tab-separated lines for a pipe, one JSON object for a program.

Promises: stdout carries the answer and nothing else; progress goes to stderr; an amount is FLOP for a person and a
decimal string of florins in JSON; with --quiet only ids are printed, one per line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.errors import DuxError

Row = Sequence[str]

ID_SHOWN_WHOLE = 34  # characters: an address or a service id; a transaction or a DID is longer
ID_HEAD, ID_TAIL = 16, 6
ID_BRIEF_FROM = 20  # characters: below it nothing is won
COLUMN_GAP = 2  # spaces between the columns of a table
WORD_CHARS_MAX = 12  # a longer one may be cut where a column is too narrow


@dataclass(frozen=True)
class Output:
    """The form that the person asked for."""

    as_json: bool = False
    quiet: bool = False

    @property
    def for_person(self) -> bool:
        """True when somebody reads stdout on a terminal."""
        return not self.as_json and not self.quiet and sys.stdout.isatty()

    def json(self, value: object) -> None:
        """One JSON object on one line."""
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")

    def record(self, value: object, lines: Iterable[tuple[str, str]], *, name: str = "") -> None:
        """One thing: its JSON, its id, or a line per fact."""
        facts = [(label, printable(text)) for label, text in lines if text]
        if self.as_json:
            self.json(value)
        elif self.quiet:
            self.text(name)
        elif self.for_person:
            width = max((len(label) for label, _ in facts), default=0)
            self.text("\n".join(f"{label:<{width}}  {text}" for label, text in facts))
        else:
            self.text("\n".join(f"{label}\t{text}" for label, text in facts))

    def table(self, value: object, headings: Row, rows: Iterable[Row], *, empty: str = "") -> None:
        """Several things; the first column of each row is its id. `empty` is said (on stderr) when there are none."""
        lines = [[printable(str(cell)) for cell in row] for row in rows]
        if self.as_json:
            self.json(value)
        elif self.quiet:
            self.text("\n".join(line[0] for line in lines))
        elif not lines:
            note(empty or "nothing to show")
        elif self.for_person:
            draw_table(headings, lines)
        else:
            self.text("\n".join("\t".join(line) for line in lines))

    def text(self, text: str) -> None:
        """Plain text on stdout; nothing for an empty one."""
        if text:
            sys.stdout.write(text + "\n")

    def step(self, text: str) -> None:
        """A line of progress, for people only."""
        if not self.quiet and not self.as_json:
            note(text)

    def error(self, error: DuxError) -> None:
        """What went wrong, and what to do: text on stderr, and with --json an object on stdout."""
        if self.as_json:
            self.json(error_object(error.code, error.key, error.message, error.fields))
        else:
            note(f"error: {error.message} [{error.code}]")


def error_object(code: int, key: str, message: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of every error of every command."""
    return {"error": {"code": code, "key": key, "message": message, "fields": fields}}


def note(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def plain(value: object) -> Any:
    """Contract structs as JSON data; anything else as it is."""
    from common.codec import to_plain

    return to_plain(value)


def shortened(cell: str) -> str:
    """A long id as a person tells it apart; --quiet and --json give it whole."""
    is_long = len(cell) > ID_SHOWN_WHOLE and " " not in cell
    return f"{cell[:ID_HEAD]}…{cell[-ID_TAIL:]}" if is_long else cell


def briefly(cell: str) -> str:
    """An id where the line has no room for more: what commands still take as a part of a name."""
    if len(cell) <= ID_BRIEF_FROM or " " in cell:
        return cell
    return f"{cell[8:12]}…{cell[-4:]}" if cell.startswith("did:dux:") else f"{cell[:6]}…"


def fitted(headings: Row, lines: Sequence[Row], width: int) -> list[list[str]]:
    """Cells for a terminal so wide: ids beside the first column get briefer where the lines are too long for it."""
    cells = [[shortened(cell) for cell in line] for line in lines]
    widest = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    if sum(widest) + COLUMN_GAP * (len(widest) - 1) <= width:
        return cells
    return [[shortened(line[0]), *(briefly(cell) for cell in line[1:])] for line in lines]


def widths_for(headings: Row, cells: Sequence[Row], width: int) -> list[int] | None:
    """How wide each column is on a terminal so wide; None where nothing sensible fits.

    The first column is whole. No other is narrower than its short words, but the last, which has the sentences and
    takes what is left; what there is more of goes to whom it makes whole, the least need first.
    """
    columns = list(zip(headings, *cells, strict=True))
    whole = [max(map(len, column)) for column in columns]
    words = [[word for cell in column for word in cell.split()] for column in columns]
    least = [max((len(word) for word in column if len(word) <= WORD_CHARS_MAX), default=1) for column in words]
    given = [whole[0], *least[1:-1], *([1] if len(whole) > 1 else [])]
    spare = width - sum(given) - COLUMN_GAP * (len(whole) - 1)
    if spare < 0:
        return None
    for at in sorted(range(1, len(whole)), key=lambda at: whole[at] - given[at]):
        more = min(whole[at] - given[at], spare)
        given[at], spare = given[at] + more, spare - more
    return given


def draw_table(headings: Row, lines: Sequence[Row]) -> None:
    """A table on the terminal; colours only where they are wanted (NO_COLOR)."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="" if "NO_COLOR" in os.environ else "bold")
    console = Console(no_color="NO_COLOR" in os.environ)
    cells = fitted(headings, lines, console.width)
    for heading, wide in zip(headings, widths_for(headings, cells, console.width) or repeat(None), strict=False):
        table.add_column(heading, no_wrap=not table.columns, overflow="fold", width=wide)
    for line in cells:
        table.add_row(*map(escape, line))
    console.print(table)


def escape(text: str) -> str:
    """Text shown as it is, whatever looks like markup in it."""
    from rich.markup import escape as no_markup

    return no_markup(text)


def printable(text: str) -> str:
    """Text from strangers without characters that steer a terminal or end a cell."""
    return "".join(character if character.isprintable() else "�" for character in text)


def short(name: str, *, keep: int = 12) -> str:
    """A long id cut in the middle, for a table that a person reads."""
    return name if len(name) <= keep * 2 + 1 else f"{name[:keep]}…{name[-6:]}"


def counted(number: int, thing: str) -> str:
    """`1 buyer`, `2 buyers`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def flop(florins: int) -> str:
    """An amount for people."""
    from common.units import format_flop

    return f"{format_flop(florins)} FLOP"


def seen_up(part: float | None) -> str:
    """How much of a node's time others saw it."""
    return "never judged" if part is None else f"{part:.1%} of what was judged of the last 7 days, as others saw it"


def gpu_told(model: str, *, seen: bool) -> str:
    """A GPU that a node offers, and by whose word."""
    whose = "as its node sees it" if seen else "declared by its operator: its node sees none"
    return f"{model}, {whose}; nobody measures GPUs" if model else ""


def running_for(seconds: int) -> str:
    """How long a node says that it runs."""
    return f"for {span(seconds)}, it says" if seconds else ""


def span(seconds: int) -> str:
    """A time by its two largest units: `1 d 3 h`, `5 min 20 s`."""
    parts, rest = [], max(0, seconds)
    for unit_s, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, unit_s)
        parts.append((count, name))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    told = [f"{count} {name}" for count, name in parts[first : first + 2] if count]
    return " ".join(told) or "0 s"


def ago(moment: str, now_ms: int) -> str:
    """How long a time of the contracts (ISO 8601; empty: never) is past, for a person."""
    if not moment:
        return "never"
    then = datetime.fromisoformat(moment).timestamp()
    return f"{span(now_ms // 1_000 - round(then))} ago"


def done_well(done: int, rate: float) -> str:
    """Jobs done, and how many of all that ended were."""
    return f"{done} ({rate:.0%} of all)" if done or rate else "none yet"


def each(values: Iterable[Any], show: Callable[[Any], Row]) -> list[Row]:
    """The rows of a table."""
    return [show(value) for value in values]

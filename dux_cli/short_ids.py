"""A contract or a channel by the start of its id: what a person copies from a line that had no room for all of it.

Promises: a whole id costs no question; a start is taken only where exactly one fits, and where several do they are
named. Tables cut long ids in the middle (`ee73…06f1`): that form is taken as it is, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.errors import BadParams, CallerMistake, NotFound

if TYPE_CHECKING:
    from dux_cli.command import Session

WHOLE = re.compile(r"[0-9a-f]{64}")
START = re.compile(r"([0-9a-f]{4,63})(?:…([0-9a-f]*))?")
NAMED_MAX = 5


class SeveralFit(CallerMistake):
    """{start!r} is the start of {count} {what}s: {named}; write more of it."""

    code = 1161
    key = "several-fit"


async def contract_named(session: Session, text: str) -> str:
    """The id of the contract that a person means.

    Raises:
        BadParams, NotFound, SeveralFit: it is no id, none's, or that of several.
    """
    from common.contracts.escrow import LIST, ListContracts

    start, end = _read(text, "contract", "duxnet escrow list")
    if end is None:
        return start
    found = await session.call(LIST, ListContracts(start=start, limit=200))
    return only([one.contract_id for one in found.contracts], start, end, "contract")


async def channel_named(session: Session, text: str) -> str:
    """The id of the channel that a person means.

    Raises:
        BadParams, NotFound, SeveralFit: it is no id, none's, or that of several.
    """
    from common.contracts.channel import LIST, ListChannels

    start, end = _read(text, "channel", "duxnet channel list --all")
    if end is None:
        return start
    found = await session.call(LIST, ListChannels(open_only=False, start=start, limit=200))
    return only([one.chid for one in found.channels], start, end, "channel")


def the_contract(session: Session, text: str) -> str:
    """As `contract_named`, from a command that is not asynchronous."""
    return session.run(contract_named(session, text))


def the_channel(session: Session, text: str) -> str:
    """As `channel_named`, from a command that is not asynchronous."""
    return session.run(channel_named(session, text))


def _read(text: str, what: str, where: str) -> tuple[str, str | None]:
    """Start and end of an id; None for the end of a whole one."""
    given = text.strip().lower()
    if WHOLE.fullmatch(given):
        return given, None
    read = START.fullmatch(given)
    if read is None:
        asked = f"write the {what}'s id, or how it begins: 4 or more of 0-9, a-f, as `{where}` shows it"
        raise BadParams(detail=f"{text!r} names no {what}: {asked}")
    return read[1], read[2] or ""


def only(names: Sequence[str], start: str, end: str, what: str) -> str:
    """The one of these names that begins and ends so.

    Raises:
        NotFound, SeveralFit: none does, or several.
    """
    fitting = [name for name in names if name.startswith(start) and name.endswith(end)]
    if not fitting:
        raise NotFound(what=what, name=start)
    if len(fitting) > 1:
        more = ", …" if len(fitting) > NAMED_MAX else ""
        named = ", ".join(name[: len(start) + 8] for name in fitting[:NAMED_MAX]) + more
        raise SeveralFit(start=start, count=len(fitting), what=what, named=named)
    return fitting[0]

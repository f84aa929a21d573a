"""A node's name on the command line: a DID in full, or so much of it that it is one known node's.

Promises: what is none is refused at once, where it is typed; a whole DID costs no question. The part is taken as tables
cut it (`did:dux:3baq…224jna`) or as its first letters; eight letters at least, so that nobody makes a name to be taken
for another by the few that are shown.
"""

from __future__ import annotations

import re

import click

from common.codec import from_plain
from common.errors import BadParams
from common.receipts import DidText
from common.units import Did
from dux_cli.command import InPart, Session
from dux_cli.short_ids import only

METHOD = "did:dux:"
PART = re.compile(r"(?:did:dux:)?([a-z2-7]{4,52})(?:…([a-z2-7]*))?")
LETTERS_MIN = 8


class NodeDid(InPart):
    """A DID, or a part of one; an empty one stands for what the command says it does."""

    name = "DID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as written."""
        text = str(value)
        if not text:
            return text
        try:
            return Did(from_plain(text, DidText))
        except BadParams:
            part = PART.fullmatch(text)
        if part is None or len(part[1] + (part[2] or "")) < LETTERS_MIN:
            self.fail(
                f"{text!r} is no node's name: did:dux: and 52 letters, or at least {LETTERS_MIN} of them as "
                "`duxnet nodes` shows it",
                param,
                ctx,
            )
        return text

    async def whole(self, session: Session, text: str) -> str:
        """The DID of the node that a person means.

        Raises:
            NotFound, SeveralFit: it is no known node's, or that of several.
        """
        from common.contracts.registry import LIST_MAX, NODE_LIST, ListNodes

        try:
            return Did(from_plain(text, DidText))
        except BadParams:
            part = PART.fullmatch(text)
        start, end = (METHOD + part[1], part[2] or "") if part else (text, "")
        found = await session.call(NODE_LIST, ListNodes(start=start, sanctioned="shown", limit=LIST_MAX))
        return only([node.node_id for node in found.nodes], start, end, "node")

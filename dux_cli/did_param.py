"""A node's name on the command line: a DID in full, refused at once where it is none."""

from __future__ import annotations

import click

from common.codec import from_plain
from common.errors import BadParams
from common.receipts import DidText
from common.units import Did


class NodeDid(click.ParamType[str]):
    """A DID; an empty one stands for what the command says it does."""

    name = "DID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as written."""
        text = str(value)
        if not text:
            return text
        try:
            return Did(from_plain(text, DidText))
        except BadParams:
            self.fail(
                f"{text!r} is no node's name: did:dux: and 52 letters, as `duxnet nodes list` shows it", param, ctx
            )

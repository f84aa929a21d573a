"""An address of a server on the command line: refused where it is typed, when it is none."""

from __future__ import annotations

from urllib.parse import urlsplit

import click


class HttpUrl(click.ParamType[str]):
    """http or https and a host; an empty one stands for what the command says it does."""

    name = "URL"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address as written."""
        text = str(value)
        if text and not is_http(text):
            self.fail(f"{text!r} is no address of a server: write http://HOST:PORT/ or https://HOST/", param, ctx)
        return text


def is_http(text: str) -> bool:
    """Whether a text is an address that a request can go to."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False

"""The `duxnet` command."""

import click


@click.group()
def main() -> None:
    """DuxNet."""

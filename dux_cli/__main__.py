"""`python -m dux_cli` is the `duxnet` command."""

from dux_cli.main import main

main()

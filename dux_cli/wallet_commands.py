"""All of `duxnet wallet …` put together."""

from __future__ import annotations

from dux_cli import wallet_coins, wallet_keep
from dux_cli.wallet import wallet
from dux_cli.wallet_bonds import bond
from dux_cli.wallet_shared import partial, shared

for _command in (*wallet_coins.COMMANDS, *wallet_keep.COMMANDS, bond, partial, shared):
    wallet.add_command(_command)

__all__ = ["wallet"]

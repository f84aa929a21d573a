"""`duxnet rpc`: any method of any daemon, as JSON in and JSON out."""

from __future__ import annotations

import click

from common.errors import NotFound
from common.rpc.method import DAEMONS
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.node_dir import methods_of
from dux_cli.output import each


@click.command(cls=DuxCommand)
@click.argument("daemon", type=click.Choice(DAEMONS))
@click.argument("method", required=False)
@click.argument("params", default="{}")
@pass_session
def rpc(session: Session, daemon: str, method: str | None, params: str) -> None:
    """Call METHOD of DAEMON with PARAMS, a JSON object. Without METHOD, list what there is.

    \b
    duxnet rpc flopd
    duxnet rpc flopd wallet.balance
    duxnet rpc stored service.search '{"text": "upscale", "limit": 3}'
    """
    from common.codec import from_json

    known = methods_of(daemon)
    if method is None:
        rows = each(known.values(), lambda m: (m.name, ", ".join(m.callers), m.summary))
        session.out.table([m.name for m in known.values()], ("method", "callers", "what it does"), rows)
        return
    if method not in known:
        raise NotFound(what=f"method of {daemon}", name=method)
    wanted = known[method]
    answer = session.run(session.client(daemon).call(wanted, from_json(params, wanted.params)))
    session.out.json(answer)

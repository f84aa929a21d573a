"""`duxnet rpc`: any method of any daemon, as JSON in and JSON out."""

from __future__ import annotations

import click

from common.errors import BadParams, NotFound
from common.rpc.method import DAEMONS
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.node_dir import methods_of
from dux_cli.output import each


@click.command(cls=DuxCommand)
@click.argument("daemon", type=click.Choice(DAEMONS), metavar="DAEMON")
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
        told = {"daemon": daemon, "methods": [m.name for m in known.values()]}
        session.out.table(told, ("method", "callers", "what it does"), rows)
        return
    if method not in known:
        raise NotFound(what=f"method of {daemon}", name=method)
    wanted = known[method]
    try:
        asked = from_json(params, wanted.params)
    except BadParams as error:
        raise BadParams(detail=f"PARAMS: {error.fields['detail']}") from error
    session.out.json(session.run(session.client(daemon).call(wanted, asked)))

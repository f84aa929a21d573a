"""The p2pd that asks: a whole one, in a process of its own, with a session to the far end.

`python -m bench.near_end CONFIG DID HOST PORT`; see `asked` for what it is asked.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TextIO

from bench.asked import answers_only, run, serve_figures
from bench.far_end import BODY, BULK, DEADLINE_S, ECHO, ECHO_IN_TASK, SLICE_BYTES, EchoP2pd
from common.log import start_logging
from common.network import load_profile
from common.settings import load_settings
from common.units import Did
from dux_p2pd.session import Address, Session


async def ask(out: TextIO, config: Path, did: Did, address: Address) -> None:
    """Until standard input ends."""
    settings = load_settings(config, "p2pd", EchoP2pd.settings_type_of(), {})
    profile = load_profile(config / settings.network_profile)
    daemon = EchoP2pd(settings, profile, log=start_logging("p2pd", "ERROR"))
    async with daemon.running():
        session = await daemon.net.peers.session_to(did, (address,))
        call, in_task = (partial(session.request, name, BODY, deadline_s=DEADLINE_S) for name in (ECHO, ECHO_IN_TASK))
        await serve_figures(out, call, partial(bulk, session), in_task)


async def bulk(session: Session, size: int) -> None:
    """Receive so many bytes on one stream of the session."""
    stream = await session.open_stream(BULK, deadline_s=DEADLINE_S)
    await stream.write(size.to_bytes(8))
    await stream.close()
    while size > 0:
        size -= len(await stream.read(SLICE_BYTES))


if __name__ == "__main__":
    folder, far, host, port = sys.argv[1:]
    run(ask(answers_only(), Path(folder), Did(far), (host, int(port))))

"""`duxnet restore`: after `duxnet init --phrase-file`: coins, contracts and channels that the phrase brings back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from common.codec import Wire
from common.contracts.channel import ChannelDetail
from common.contracts.escrow_views import ContractView
from common.contracts.wallet_recovery import Recovery
from dux_cli.command import DuxCommand, Session, pass_session
from dux_cli.output import flop

if TYPE_CHECKING:
    from dux_cli.output import Row

LOOK_DEADLINE_S = 300.0
PAUSE_S = 1.0
EXIT_WAITS = 1  # something could not be taken back yet, or the wallet still looks


class Back(Wire, frozen=True):
    """What came back, and what waits."""

    wallet: Recovery
    contracts: tuple[ContractView, ...]
    channels: tuple[ChannelDetail, ...]
    next_of: dict[str, str]  # what comes next, by contract
    problems: tuple[str, ...]


@click.command(cls=DuxCommand)
@click.option("--wait", default=120, show_default=True, help="Seconds to wait while the wallet reads the chain.")
@pass_session
def restore(session: Session, wait: int) -> None:
    """Everything that the phrase brings back: coins, open contracts, open channels; and what each waits for.

    A node made from its phrase looks by itself as soon as it runs; this looks once more and shows how it stands. The
    exit code is 1 while something is missing: those who keep copies may be away, so repeat it later.

    A name's keys change every 90 days, and others take the newest alone: `identity recover` comes before `up`. Leave it
    out where nobody has known this name yet.

    \b
    duxnet init --phrase-file words.txt
    duxnet identity recover --phrase-file words.txt
    duxnet up --detach && duxnet restore
    """
    found = session.run(_found(session, wait))
    head = ("what", "which", "state", "next")
    session.out.table(found, head, rows(found))
    if found.problems or found.wallet.state == "looking":
        raise SystemExit(EXIT_WAITS)


async def _found(session: Session, wait_s: int) -> Back:
    """The wallet first: its coins tell how many contract keys there were."""
    from common.contracts.channel import SHOW as CHANNEL_SHOW
    from common.contracts.channel import ChannelRef
    from common.contracts.channel_restore import CHANNEL_RESTORE
    from common.contracts.escrow import EXPLAIN, SHOW, ContractRef
    from common.contracts.escrow_restore import RESTORE
    from common.rpc.method import Empty

    wallet = await _wallet(session, wait_s)
    contracts = await session.call(RESTORE, Empty(), deadline_s=LOOK_DEADLINE_S)
    channels = await session.call(CHANNEL_RESTORE, Empty(), deadline_s=LOOK_DEADLINE_S)
    names = (*contracts.restored, *contracts.known)
    said = {name: await session.call(EXPLAIN, ContractRef(contract_id=name)) for name in names}
    return Back(
        wallet=wallet,
        contracts=tuple([await session.call(SHOW, ContractRef(contract_id=name)) for name in names]),
        channels=tuple(
            [await session.call(CHANNEL_SHOW, ChannelRef(chid=name)) for name in (*channels.restored, *channels.known)]
        ),
        next_of={name: told.lines[-1] for name, told in said.items()},
        problems=(*contracts.problems, *channels.problems),
    )


async def _wallet(session: Session, wait_s: int) -> Recovery:
    """How far the wallet is, after at most so many seconds."""
    from common.contracts.wallet import WALLET_RECOVERY
    from common.rpc.method import Empty

    found = await session.call(WALLET_RECOVERY, Empty())
    for _ in range(int(wait_s / PAUSE_S)):
        if found.state != "looking":
            break
        await asyncio.sleep(PAUSE_S)
        found = await session.call(WALLET_RECOVERY, Empty())
    return found


def rows(found: Back) -> list[Row]:
    """One line for the coins, one for each contract and channel, one for each that could not be taken."""
    words = {"never": "its keys were made here", "looking": "still looking", "done": "found"}
    accounts = f"accounts {', '.join(map(str, found.wallet.accounts))}; bonds: {found.wallet.bonds}"
    return [
        ("coins", flop(found.wallet.found_florins), words[found.wallet.state], accounts),
        *(
            ("contract", one.contract_id, one.state, found.next_of[one.contract_id].removeprefix("Next: "))
            for one in found.contracts
        ),
        *(("channel", one.channel.chid, one.channel.state, one.lines[0]) for one in found.channels),
        *(("not taken back", text, "", "repeat `duxnet restore` later") for text in found.problems),
    ]

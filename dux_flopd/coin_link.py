"""The wallet's half of the link between the node's name and its first coin key: signed once, named in the node record.

Promise: nothing but the link of this very DID is signed here, with a purpose that no transaction shares. It proves that
one hand holds both keys; it gives neither authority over the other.

Source: transport_identity.md §2.4.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.contracts.p2p import IDENTITY_LINK_COIN, LinkCoin
from common.errors import DuxError
from common.identity.node_record import CoinLink, coin_link_hash
from common.keygen import BRANCH_RECEIVE
from common.parts import OWN_DID_PAUSE_S
from common.peers import Peers
from common.rpc.client import Client
from common.units import UnixMs
from dux_flopd.keyring import Keyring

PAUSE_MAX_S = 600.0


class CoinLinker:
    """Tells p2pd the link, until it has it."""

    def __init__(self, keyring: Keyring, p2pd: Client, log: FilteringBoundLogger) -> None:
        self._keyring = keyring
        self._p2pd = p2pd
        self._log = log

    async def run(self) -> None:
        """Until it is done; then nothing more, for ever: a daemon's loop does not end."""
        pause_s = OWN_DID_PAUSE_S
        while not await self._is_linked():
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
        await asyncio.Event().wait()

    async def _is_linked(self) -> bool:
        if not self._keyring.is_open:
            return False
        try:
            await self.link()
        except DuxError as error:
            self._log.debug("coin key not linked yet", reason=error.message)
            return False
        return True

    async def link(self) -> None:
        """The same link each time: its moment is the key's own.

        Raises:
            NeighbourDown: p2pd does not answer. WalletLocked: the keys are sealed.
        """
        did = (await Peers(self._p2pd).info()).did
        at_ms = UnixMs(self._keyring.made_ms())
        link = CoinLink(did=did, coin_pubkey=self._keyring.public(BRANCH_RECEIVE, 0), at_ms=at_ms)
        signature = self._keyring.sign_link(coin_link_hash(link))
        wanted = LinkCoin(coin_pubkey=link.coin_pubkey, at_ms=at_ms, coin_signature=signature)
        await self._p2pd.call(IDENTITY_LINK_COIN, wanted)

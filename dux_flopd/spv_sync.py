"""Brings the headers of all peers together in one chain, and onto the disk.

Promises: every connected peer is asked for its branch, so that one honest peer is enough to hear of the one with most
work; a peer whose headers break a rule is not listened to again; judging a long way of headers leaves the daemon
answering in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from common.chain import messages
from common.chain.coin_network import CoinNetwork
from common.chain.invalid import Invalid
from common.chain.messages import HEADERS_MAX, Inv, RawHeader
from common.chain.wire import HEADER_BYTES, DecodeError, sha256d, unshown
from common.clock import Clock
from dux_flopd.spv_chain import Base, HeaderChain, Unconnected, genesis_base
from dux_flopd.spv_peer import Peer, PeerFault, PeerLost
from dux_flopd.spv_store import HeaderFile

SLICE = 50  # headers judged at once: about ten milliseconds of scrypt
TRUE_LATER = ("time-too-new",)  # a header that may be right in a while: its peer is no liar


class HeaderSync:
    """The chain of headers and its way to the disk."""

    def __init__(
        self,
        network: CoinNetwork,
        genesis: str,
        base: Base | None,
        folder: Path,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        """`base`: where the chain starts; None: its genesis block has to be asked for (the embedded chain's)."""
        self._network = network
        self._genesis = genesis
        self._folder = folder
        self._clock = clock
        self._changed = changed
        self._lock = asyncio.Lock()
        self._file: HeaderFile | None = None
        self.chain: HeaderChain | None = None
        if base is not None:
            self._open(base)

    def _open(self, base: Base) -> None:
        name = sha256d(base.headers[-1])[::-1].hex()
        self.chain = HeaderChain(self._network, base)
        self._file = HeaderFile(self._folder, base, name)
        self._file.load(self.chain)

    @property
    def now_s(self) -> int:
        """The time of day."""
        return self._clock.unix_ms() // 1000

    async def start(self, peer: Peer) -> None:
        """Have a chain: ask this peer for the genesis block where the network's file does not hold it.

        Raises:
            PeerFault: it has another one.
        """
        if self.chain is not None:
            return
        wanted = messages.encode_invs(Inv.BLOCK, [unshown(self._genesis)])
        for payload in (await peer.ask("getdata", wanted, "block"))["block"]:
            if sha256d(payload[:HEADER_BYTES])[::-1].hex() == self._genesis and self.chain is None:
                self._open(genesis_base(payload[:HEADER_BYTES]))
        if self.chain is None:
            raise PeerFault("it does not have the genesis block of this network")

    async def catch_up(self, peer: Peer) -> None:
        """Ask a peer for what it has beyond our chain, until there is no more.

        Raises:
            PeerLost: it went. PeerFault: its headers are wrong.
        """
        restarts = 0
        while self.chain is not None:
            locator = messages.encode_getheaders(self._network.protocol, self.chain.locator())
            answers = (await peer.ask("getheaders", locator, "headers"))["headers"]
            try:
                headers = [header for payload in answers for header in messages.decode_headers(payload)]
                await self.take(peer, headers)
            except DecodeError as error:
                raise PeerFault(str(error)) from error
            except Unconnected as error:
                restarts += 1
                if restarts > 1 or self.chain.is_proven:
                    raise PeerFault("its headers do not link to ours") from error
                self.chain.forget_unproven()
                continue
            if len(headers) < HEADERS_MAX:
                return

    async def take(self, peer: Peer, headers: Sequence[RawHeader]) -> None:
        """Judge what a peer sent.

        Raises:
            PeerFault: a header breaks a rule. Unconnected: the first one follows nothing known.
        """
        chain = self.chain
        if chain is None or not headers:
            return
        async with self._lock:
            before = chain.tip.hash
            try:
                for start in range(0, len(headers), SLICE):
                    chain.add(headers[start : start + SLICE], self.now_s)
                    await asyncio.sleep(0)
                self._note(peer, chain, headers[-1])
            except Invalid as error:
                fault = PeerLost if error.reason in TRUE_LATER else PeerFault
                raise fault(f"a wrong header: {error}") from error
            finally:
                self._save(chain)
                if chain.tip.hash != before:
                    self._changed()

    def _save(self, chain: HeaderChain) -> None:
        if self._file is not None:
            self._file.save(chain)

    def _note(self, peer: Peer, chain: HeaderChain, last: RawHeader) -> None:
        name = sha256d(last.raw)
        height = chain.height_of(name)
        if height is not None:
            peer.height, peer.tip_shown = max(peer.height, height), name

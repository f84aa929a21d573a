"""Which coin key a DID's node record names: asked of the node's p2pd, kept for a while."""

from __future__ import annotations

import asyncio
from typing import Protocol

from common.clock import Clock
from common.contracts.p2p import DID_RESOLVE, Resolve
from common.identity.log import decode_log
from common.identity.node_record import open_coin_link, open_record
from common.identity.signed import decode_signed
from common.network import NetworkProfile
from common.rpc.client import Client
from common.units import Did
from dux_pay.buying import BadOffer

RESOLVE_AGE_S = 600
ASKED_ANEW, ANEW_PAUSE_S = 6, 2.0
KEYS_KEPT = 256
KEY_KEPT_S = 600.0


class CoinKeySource(Protocol):
    """Whoever knows the coin key of a DID."""

    async def of(self, did: Did) -> bytes:
        """The key, 33 bytes."""
        ...


class CoinKeys:
    """Coin keys by DID."""

    def __init__(self, p2pd: Client, network: NetworkProfile, clock: Clock, pause_s: float = ANEW_PAUSE_S) -> None:
        self._p2pd = p2pd
        self._network = network
        self._clock = clock
        self._pause_s = pause_s
        self._keys: dict[Did, tuple[float, bytes]] = {}

    async def of(self, did: Did) -> bytes:
        """The coin key that a DID's node record names, both hands having signed the link.

        A record that names none is asked for anew: a node that has just started adds its key a moment later.

        Raises:
            BadOffer: it names none. Unavailable: the network does not know it now.
        """
        now = self._clock.monotonic()
        kept = self._keys.get(did)
        if kept is not None and now - kept[0] < KEY_KEPT_S:
            return kept[1]
        key = await self._named(did, RESOLVE_AGE_S)
        for _ in range(ASKED_ANEW):
            if key is not None:
                break
            key = await self._named(did, 0)
            await asyncio.sleep(0 if key else self._pause_s)
        if key is None:
            raise BadOffer(url=did, reason="its node record names no coin key")
        while len(self._keys) >= KEYS_KEPT:
            self._keys.pop(next(iter(self._keys)))
        self._keys[did] = (now, key)
        return key

    async def _named(self, did: Did, max_age_s: int) -> bytes | None:
        found = await self._p2pd.call(DID_RESOLVE, Resolve(did=did, max_age_s=max_age_s))
        if found.node_record is None:
            return None
        now_ms = self._clock.unix_ms()
        log = decode_log(found.log, now_ms=now_ms, inception_bits=self._network.inception_bits)
        record = open_record(decode_signed(found.node_record, max_bytes=len(found.node_record)), log, now_ms=now_ms)
        if record.coin_link is None:
            return None
        return open_coin_link(record.coin_link, log, record.key_seq).coin_pubkey

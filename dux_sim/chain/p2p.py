"""The embedded chain's peer port: what a light wallet asks of a coin node, spoken as Flopcoin's own nodes speak it.

Promises: the same handshake rules (version, user agent), headers with their merged-mining proofs, blocks whole or by
filter, waiting transactions announced to whoever's filter matches, refusals by `reject`. It serves; it connects to
nobody and takes no blocks from peers. Limits on messages, peers and filters are the protocol's.

Source: facts §1 (user agent rule), §4 (a), (f).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from common.chain import messages, partial_merkle
from common.chain.bloom import PeerFilter
from common.chain.invalid import REJECT_MALFORMED, Invalid
from common.chain.messages import Inv, Reject, Version
from common.chain.wire import Block, DecodeError, Tx, decode_tx, encode_header
from common.randomness import Randomness
from dux_sim.chain import consensus
from dux_sim.chain.node import Node
from dux_sim.chain.rpc_queries import USER_AGENT

PEERS_MAX = 64
IDLE_S = 600.0
AGENT = re.compile(r"^/Floptoshi:(\d+)\.(\d+)\.(\d+)(\.\d+)?/")
AGENT_MIN = (1, 3, 0)
MAGIC = bytes.fromhex(consensus.NETWORK.magic)


class Refused(Exception):
    """The peer is hung up on."""


class P2pServer:
    """Serves one node's chain to light wallets."""

    remote: type[Remote]  # what serves one peer

    def __init__(self, node: Node, random: Randomness) -> None:
        """Serve this node."""
        self._node = node
        self._random = random
        self._peers: set[Remote] = set()
        self._server: asyncio.Server | None = None
        node.listen(self._moved)
        node.listen_tx(self._came)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._client, host, port, limit=messages.PAYLOAD_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.hang_up()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = self.remote(self._node, reader, writer, self._random)
        if len(self._peers) >= PEERS_MAX:
            peer.hang_up()
            return
        self._peers.add(peer)
        try:
            await peer.serve()
        except (Refused, DecodeError, OSError, EOFError, TimeoutError):
            pass  # the protocol has no farewell
        finally:
            self._peers.discard(peer)
            peer.hang_up()

    def _moved(self) -> None:
        for peer in self._peers:
            peer.tell_tip()

    def _came(self, tx: Tx) -> None:
        for peer in self._peers:
            peer.tell_tx(tx)


class Remote:
    """One peer."""

    def __init__(
        self, node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, random: Randomness
    ) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._random = random
        self._filter: PeerFilter | None = None
        self._relays = False
        self._greeted = False
        self._pushes_headers = False
        self._told = b""
        self._known: set[bytes] = set()  # transactions that it sent or was told of

    def hang_up(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self._writer.close()

    def send(self, command: str, payload: bytes) -> None:
        """Queue one message."""
        self._writer.write(messages.frame(MAGIC, command, payload))

    async def serve(self) -> None:
        """Answer until it goes."""
        while True:
            async with asyncio.timeout(IDLE_S):
                head = await self._reader.readexactly(messages.FRAME_BYTES)
                command, length, check = messages.read_frame_head(head, MAGIC)
                payload = await self._reader.readexactly(length)
            messages.check_payload(payload, check)
            self._take(command, payload)
            await self._writer.drain()

    def _take(self, command: str, payload: bytes) -> None:
        if command == "version":
            self._greet(messages.decode_version(payload))
            return
        if not self._greeted:
            raise Refused
        handlers: dict[str, Callable[[], None]] = {
            "ping": lambda: self.send("pong", payload),
            "getheaders": lambda: self._headers(payload),
            "getdata": lambda: self._data(payload),
            "sendheaders": self._push_headers,
            "filterload": lambda: self._load(payload),
            "filterclear": self._clear,
            "mempool": self._mempool,
            "inv": lambda: self._inv(payload),
            "tx": lambda: self._tx(payload),
            "getaddr": lambda: self.send("addr", messages.encode_addresses([])),
        }
        if command in handlers:
            handlers[command]()

    def _greet(self, version: Version) -> None:
        found = AGENT.match(version.user_agent)
        if version.protocol < consensus.NETWORK.peer_protocol_min or not found:
            raise Refused
        if tuple(int(part) for part in found.groups()[:3]) < AGENT_MIN:
            raise Refused
        mine = Version(
            protocol=consensus.NETWORK.protocol,
            services=messages.NODE_NETWORK | messages.NODE_BLOOM,
            time_s=self._node.now_s(),
            nonce=int.from_bytes(self._random.bytes(8), "little"),
            user_agent=USER_AGENT,
            height=self._node.chain.tip.height,
            relay=True,
        )
        self.send("version", messages.encode_version(mine))
        self.send("verack", b"")
        self._greeted, self._relays, self._told = True, version.relay, self._node.chain.tip.hash

    def _push_headers(self) -> None:
        self._pushes_headers = True

    def _clear(self) -> None:
        self._filter, self._relays = None, True

    def _load(self, payload: bytes) -> None:
        self._filter, self._relays = PeerFilter(payload), True

    # the chain

    def tell_tip(self) -> None:
        """The best chain has a new end: pushed as headers where they are wanted."""
        chain = self._node.chain
        if not self._greeted or chain.tip.hash == self._told:
            return
        told = chain.entries.get(self._told)
        self._told = chain.tip.hash
        while told is not None and not chain.is_active(told):
            told = told.parent
        start = told.height + 1 if told is not None else chain.tip.height
        fresh = chain.active[start:]
        if self._pushes_headers and 0 < len(fresh) <= messages.HEADERS_MAX:
            self._send_headers([entry.block for entry in fresh])
        elif fresh:
            self.send("inv", messages.encode_invs(Inv.BLOCK, [chain.tip.hash]))

    def _headers(self, payload: bytes) -> None:
        locator, stop = messages.decode_getheaders(payload)
        chain = self._node.chain
        known = (chain.entries.get(name) for name in locator)
        start = next((entry.height for entry in known if entry is not None and chain.is_active(entry)), 0)
        blocks = [entry.block for entry in chain.active[start + 1 : start + 1 + messages.HEADERS_MAX]]
        names = [block.hash for block in blocks]
        self._send_headers(blocks[: names.index(stop) + 1] if stop in names else blocks)

    def _send_headers(self, blocks: list[Block]) -> None:
        self.send("headers", messages.encode_headers([encode_header(block.header, block.auxpow) for block in blocks]))

    def _data(self, payload: bytes) -> None:
        missing = []
        for kind, name in messages.decode_invs(payload):
            if kind == Inv.TX:
                waiting = self._node.pool.waiting.get(name)
                if waiting is None:
                    missing.append(name)
                else:
                    self.send("tx", waiting.tx.raw)
            else:
                self._block(kind, name)
        if missing:
            self.send("notfound", messages.encode_invs(Inv.TX, missing))

    def _block(self, kind: int, name: bytes) -> None:
        """A block of the best chain; for any other there is silence, as Core's."""
        entry = self._node.chain.entries.get(name)
        if entry is None or not self._node.chain.is_active(entry):
            return
        if kind == Inv.BLOCK:
            self.send("block", entry.block.raw)
        elif kind == Inv.FILTERED_BLOCK and self._filter is not None:
            self._filtered(entry.block, self._filter)

    def _filtered(self, block: Block, wanted: PeerFilter) -> None:
        matched = [wanted.matches(tx) for tx in block.txs]
        part = partial_merkle.prove([tx.txid for tx in block.txs], matched, block.header.raw)
        head = encode_header(block.header, block.auxpow)
        self.send("merkleblock", partial_merkle.encode_merkle_block(head, part))
        for tx, is_wanted in zip(block.txs, matched, strict=True):
            if is_wanted:
                self.send("tx", tx.raw)

    # waiting transactions

    def tell_tx(self, tx: Tx) -> None:
        """A transaction came: announced where the filter matches, or no filter is loaded."""
        if not self._relays or tx.txid in self._known or (self._filter is not None and not self._filter.matches(tx)):
            return
        self._known.add(tx.txid)
        self.send("inv", messages.encode_invs(Inv.TX, [tx.txid]))

    def _mempool(self) -> None:
        waiting = [entry.tx for entry in self._node.pool.waiting.values()]
        names = [tx.txid for tx in waiting if self._filter is None or self._filter.matches(tx)]
        self._known.update(names)
        if names:
            self.send("inv", messages.encode_invs(Inv.TX, names[: messages.INV_MAX]))

    def _inv(self, payload: bytes) -> None:
        waiting = self._node.pool.waiting
        wanted = [n for kind, n in messages.decode_invs(payload) if kind == Inv.TX and n not in waiting]
        if wanted:
            self.send("getdata", messages.encode_invs(Inv.TX, wanted))

    def _tx(self, payload: bytes) -> None:
        try:
            tx = decode_tx(payload)
        except DecodeError as error:
            self._refuse(REJECT_MALFORMED, str(error), b"")
            return
        self._known.add(tx.txid)
        try:
            self._node.submit_tx(tx)
        except Invalid as invalid:
            self._refuse(invalid.code, invalid.reason, tx.txid)

    def _refuse(self, code: int, reason: str, about: bytes) -> None:
        self.send("reject", messages.encode_reject(Reject(message="tx", code=code & 0xFF, reason=reason, about=about)))


P2pServer.remote = Remote

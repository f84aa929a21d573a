"""What other nodes may ask of this one, and who answers: p2pd itself, or the daemon that owns the method.

A name is looked up in the table of peer methods (and the third parties of p2pd.yaml) and nowhere else, so a relayed
call can never reach a local method. The owner gets the parameters with the DID that the session has proved.

Source: architecture.md §2, settled.md 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from common.codec import Canon, canonical, from_canonical
from common.contracts.base import (
    GOSSIP_HANDLE,
    GOSSIP_HANDLE_ALL,
    PEER_HANDLE,
    GossipBatch,
    GossipIn,
    PeerCallIn,
)
from common.contracts.p2p_errors import AnswerTooLong, NoPeerMethod, NotForStrangers, OwnerAway
from common.errors import DeadlinePassed, NeighbourDown, NotPermitted, TooLarge
from common.rpc.client import Client
from common.rpc.method import CP, CR, PeerMethod
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.session import Incoming, Peer, Prompt, Session

FOREIGN_BYTES_MAX = 65_536  # parameters of a third party's method
GOSSIP_WAIT_S = 5.0

Answer = Callable[[CP, Peer], Awaitable[CR]]
AnswerAtOnce = Callable[[CP, Peer], CR]
StreamAnswer = Callable[[Session, Incoming], Awaitable[None]]
Clients = Callable[[str], Client]


class Router:
    """Answers every stream that a peer opens."""

    def __init__(
        self,
        methods: Mapping[str, PeerMethod[Canon, Canon]],
        foreign: Mapping[str, Client],
        clients: Clients,
        directory: Directory,
    ) -> None:
        self._methods = methods
        self._foreign = foreign
        self._clients = clients
        self._directory = directory
        self._own: dict[str, Callable[[bytes, Peer], Awaitable[bytes]]] = {}
        self._prompt: dict[str, Prompt] = {}
        self._streams: dict[str, StreamAnswer] = {}

    def answer(self, method: PeerMethod[CP, CR], handler: Answer[CP, CR]) -> None:
        """p2pd itself answers this method."""

        async def run(data: bytes, peer: Peer) -> bytes:
            return canonical(
                await handler(from_canonical(data, method.params, max_bytes=method.params_bytes_max), peer)
            )

        self._own[method.name] = run
        self._prompt.pop(method.name, None)

    def answer_at_once(self, method: PeerMethod[CP, CR], handler: AnswerAtOnce[CP, CR]) -> None:
        """p2pd itself answers this method, and waits for nothing in doing so: no task need be made for a call."""

        def run(session: Session, data: bytes) -> bytes:
            limit = self._limit_for(method.name, session.peer.did)
            if len(data) > limit:
                raise TooLarge(limit_bytes=limit)
            return canonical(handler(from_canonical(data, method.params, max_bytes=limit), session.peer))

        self._prompt[method.name] = run
        self._own.pop(method.name, None)

    def at_once(self, name: str) -> Prompt | None:
        """What answers a whole call of this method without waiting, if anything does."""
        return self._prompt.get(name)

    def answer_stream(self, name: str, handler: StreamAnswer) -> None:
        """p2pd itself serves this stream."""
        self._streams[name] = handler

    async def handle(self, session: Session, incoming: Incoming) -> bytes | None:
        """The transport's handler: one stream in, its answer out.

        Raises:
            DuxError: the answer is this error.
        """
        name, peer = incoming.method, session.peer
        if name in self._streams:
            await self._streams[name](session, incoming)
            return None
        limit = self._limit_for(name, peer.did)
        try:
            data = await incoming.body(limit)
        except AnswerTooLong as error:
            raise TooLarge(limit_bytes=limit) from error
        if name in self._prompt:  # it did not come in one piece
            return self._prompt[name](session, data)
        if name in self._own:
            return await self._own[name](data, peer)
        return await self.relay(name, data, peer.did, incoming.deadline_s)

    def _limit_for(self, name: str, sender: Did) -> int:
        method = self._methods.get(name)
        if method is None:
            if name.partition(".")[0] in self._foreign:
                return FOREIGN_BYTES_MAX
            raise NoPeerMethod(method=name[:100])
        if not method.strangers and not self._directory.is_known(sender):
            raise NotForStrangers(method=name)
        return method.params_bytes_max

    def check_caller(self, name: str, caller: str) -> float:
        """Whether a local daemon may make this call to others; the method's longest deadline in seconds.

        Raises:
            NoPeerMethod, NotPermitted.
        """
        method = self._methods.get(name)
        permitted = method.callers if method else ("module",)
        if method is None and name.partition(".")[0] not in self._foreign:
            raise NoPeerMethod(method=name[:100])
        if caller not in permitted:
            raise NotPermitted(caller=caller, method=name, permitted=", ".join(permitted))
        return method.deadline_max_s if method else GOSSIP_WAIT_S

    async def relay(self, name: str, data: bytes, sender: Did, deadline_s: float) -> bytes:
        """The owner's answer to a call that came from `sender`.

        Raises:
            NoPeerMethod: nobody owns it, or p2pd alone. OwnerAway: its daemon is down. DuxError: as it answered.
        """
        method, family = self._methods.get(name), name.partition(".")[0]
        if method is not None and method.owner != "p2pd":
            client, owner = self._clients(method.owner), method.owner
        elif method is None and family in self._foreign:
            client, owner = self._foreign[family], family
        else:
            raise NoPeerMethod(method=name[:100])
        call = PeerCallIn(method=name, params=data, sender=sender)
        try:
            return (await client.call(PEER_HANDLE, call, deadline_s=deadline_s)).result
        except (NeighbourDown, DeadlinePassed) as error:
            raise OwnerAway(owner=owner, method=name) from error

    async def judge(self, owner: str, messages: list[GossipIn]) -> list[str]:
        """The owner's verdict on each gossip message, in one call; none when it cannot say now.

        Raises:
            DuxError: it cannot judge them at all.
        """
        client = self._clients(owner)
        try:
            if len(messages) == 1:
                return [(await client.call(GOSSIP_HANDLE, messages[0], deadline_s=GOSSIP_WAIT_S)).verdict]
            batch = GossipBatch(messages=messages)
            return list((await client.call(GOSSIP_HANDLE_ALL, batch, deadline_s=GOSSIP_WAIT_S)).verdicts)
        except (NeighbourDown, DeadlinePassed):
            return []

"""RPC of nodes: register, list, show, health, deregister. Acts for this node's own name only (settled.md 25)."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from common import __version__
from common.chain.address import BadAddress, address_to_script
from common.chain.params import family_named
from common.clock import Clock
from common.codec import canonical
from common.contracts.registry import (
    BadNode,
    Capabilities,
    Deregister,
    ListNodes,
    NodeList,
    NodeName,
    NodeStatus,
    NodeView,
    NotOwnNode,
    NotPaidAnywhere,
    NotRegistered,
    RegisterNode,
    RegistryStatus,
    UpdateHealth,
)
from common.errors import NotFound
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import NODE_BYTES_MAX, Attested, NodeInfo, NodeInfo3, attested, described, form_fault, wallet_fault
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx
from common.store import Tx
from common.units import BPS, BlockHeight, Did, UnixMs
from dux_registryd.effects import PUT_CAPABILITY, PUT_NODE, TELL_NODE, Outside, Told
from dux_registryd.intake import Intake
from dux_registryd.machine import Machine
from dux_registryd.model import KnownNode, Load, RatedNode
from dux_registryd.pulse import Pulse
from dux_registryd.rules import (
    GPU,
    GPU_DECLARED,
    by_reputation,
    capabilities_of,
    capability_index,
    gpu_of,
    is_asked_for,
    meets,
    node_fault,
    status_of,
    with_gpu,
)
from dux_registryd.scores import Scores
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book
from dux_registryd.views import node_view


class NodeMethods:
    """What callers may do with nodes."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        intake: Intake,
        scores: Scores,
        pulse: Pulse,
        *,
        network: NetworkProfile,
        clock: Clock,
        settings: RegistrydSettings,
        machine: Machine,
    ) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._scores = scores
        self._pulse = pulse
        self._network = network
        self._clock = clock
        self._settings = settings
        self._machine = machine

    async def register(self, params: RegisterNode, ctx: Ctx) -> NodeView:
        """Describe this node, sign it, keep it, and have it told to the network."""
        own = await self._own(params.node_id)
        told = await self._described(own, params)
        fault = node_fault(told.info, self._network.genesis) or form_fault(told, NODE_BYTES_MAX)
        if fault:
            raise BadNode(detail=fault)
        envelope = await self._outside.signed(Purpose.REGISTRATION, told)
        with self._book.store.transaction() as tx:
            self._keep(tx, told, envelope)
            view = self._view_of(own, own)
            ctx.remember(tx, view)
        self._pulse.beat_soon()
        return view

    async def _described(self, own: Did, params: RegisterNode) -> NodeInfo3:
        held, here = self._held(own), self._machine.hardware()
        told = None if params.measure else held  # of machine and place
        wallet = params.wallet_address or (held.wallet_address if held else self._settings.wallet_address)
        self._check_wallet(wallet)
        host, port = (told.ip_address, told.port) if told else await self._outside.endpoint()
        gpu = _gpu(params, told.gpu_model if told else "", here.gpu_model)
        offered = params.capabilities or (held.capabilities if held else self._settings.capabilities)
        info = NodeInfo(
            network=self._network.genesis,
            did=own,
            at_ms=self._later_than_held(own),
            withdrawn=False,
            wallet_address=wallet,
            ip_address=params.ip_address or host,
            port=params.port or port,
            hostname=params.hostname or (told or here).hostname,
            os_version=params.os_version or (told or here).os_version,
            duxos_version=params.duxos_version or (told.duxos_version if told else __version__),
            cpu_cores=params.cpu_cores or (told or here).cpu_cores,
            memory_mb=params.memory_mb or (told or here).memory_mb,
            storage_gb=params.storage_gb or (told or here).storage_gb,
            gpu_model=gpu[:128],
            region=params.region or (held.region if held else self._settings.region),
            capabilities=with_gpu(offered, gpu, here.gpu_model),
        )
        return NodeInfo3(version=3, info=info, hardware=here.closer, look_key=await self._outside.look_key())

    def _held(self, own: Did) -> NodeInfo | None:
        """What this node told of itself in this network, unless it took that back."""
        held = self._book.node(own)
        counts = held is not None and not held.info.withdrawn and held.info.network == self._network.genesis
        return held.info if held and counts else None

    def _check_wallet(self, address: str) -> None:
        if not address:
            raise NotPaidAnywhere
        fault = wallet_fault(address)
        if fault:
            raise BadNode(detail=fault)
        try:
            address_to_script(address, family_named(self._network.chain))
        except BadAddress as error:
            raise BadNode(detail=error.message) from error

    def _later_than_held(self, own: Did) -> UnixMs:
        held = self._book.node(own)
        return UnixMs(max(self._clock.unix_ms(), held.info.at_ms + 1 if held else 0))

    def _keep(self, tx: Tx, told: NodeInfo3, envelope: Attested) -> None:
        info, tip = told.info, self._outside.tip_seen
        held = self._book.node(info.did)
        dropped = set(held.info.capabilities) - set(info.capabilities) if held else set()
        self._book.put_node(tx, info, envelope, told.look_key, self._book.height_by(tip.height if tip else None))
        self.announce(tx, info, envelope, dropped)

    def announce(self, tx: Tx, info: NodeInfo, envelope: Attested, dropped: set[str]) -> None:
        """Have our description told by gossip and put into the DHT, with one record per capability."""
        stamp, signed = f"{info.did}/{info.at_ms}/{tx.now_ms()}", canonical(envelope)
        tx.outbox(f"{TELL_NODE}/{stamp}", TELL_NODE, Told(signed=signed))
        tx.outbox(f"{PUT_NODE}/{stamp}", PUT_NODE, Told(signed=signed, name=info.did))
        offered = () if info.withdrawn else info.capabilities
        for name in sorted({*offered, *dropped}):
            at_ms = info.at_ms if name in offered else 0
            tx.outbox(f"{PUT_CAPABILITY}/{stamp}/{name}", PUT_CAPABILITY, Told(name=name, at_ms=at_ms))

    async def announce_again(self, own: Did) -> None:
        """Offer what is held of ourselves once more: records live a day, and new nodes have come.

        What an earlier key signed is signed anew: who has not seen it yet takes it from a key in use alone. So is what
        names another look key than this node's.
        """
        signed, key_seq = self._book.signed_node(own), await self._outside.own_key_seq()
        if signed is None:
            return
        envelope = attested(signed)
        told = described(envelope)
        look_key = b"" if told.info.withdrawn else await self._outside.look_key()
        if envelope.key_seq == key_seq and told.look_key == look_key:
            with self._book.store.transaction() as tx:
                self.announce(tx, told.info, envelope, set())
            return
        info = msgspec.structs.replace(told.info, at_ms=self._later_than_held(own))
        told = msgspec.structs.replace(told, info=info, look_key=look_key)
        envelope = await self._outside.signed(Purpose.REGISTRATION, told)
        with self._book.store.transaction() as tx:
            self._keep(tx, told, envelope)

    async def own_view(self, _params: Empty, _ctx: Ctx) -> NodeView:
        """This node as others see it."""
        own = await self._outside.own_did()
        self._registered(own)
        return self._view_of(own, own)

    async def show(self, params: NodeName, _ctx: Ctx) -> NodeView:
        """One node, asked for in the DHT when it is not known here."""
        own = await self._outside.own_did()
        held = self._book.node(params.node_id)
        if held is None:
            found = await self._outside.looked_up(Did(params.node_id))
            if found is not None:
                await self._intake.node(attested(found))
        held = self._book.node(params.node_id)
        if held is None or held.info.withdrawn:
            raise NotFound(what="node", name=params.node_id)
        return self._view_of(Did(params.node_id), own)

    async def list_nodes(self, params: ListNodes, _ctx: Ctx) -> NodeList:
        """Known nodes that meet every filter, best reputation first."""
        own, now_ms = await self._outside.own_did(), self._clock.unix_ms()
        wanted = [node for node in self._scores.rate_all(self._book.nodes()) if is_asked_for(node, params)]
        rated = [(node, self._status(node.node, now_ms)) for node in wanted]
        found = sorted((node for node, status in rated if meets(node, status, params)), key=by_reputation)
        views = [self._view(node, own, now_ms) for node in found[: params.limit]]
        return NodeList(nodes=tuple(views), total=len(found))

    async def update_health(self, params: UpdateHealth, _ctx: Ctx) -> NodeView:
        """A heartbeat now, with the load that the operator measured."""
        own = await self._own(params.node_id)
        self._registered(own)
        await self._pulse.beat(_with_health(self._pulse.measured(), params))
        return self._view_of(own, own)

    async def deregister(self, params: Deregister, ctx: Ctx) -> Done:
        """Take this node off the list; its receipts and reputation stay."""
        own = await self._own(params.node_id)
        held = self._registered(own)
        info = msgspec.structs.replace(held.info, withdrawn=True, at_ms=self._later_than_held(own))
        envelope = await self._outside.signed(Purpose.REGISTRATION, info)
        with self._book.store.transaction() as tx:
            self._book.put_node(tx, info, envelope)
            self.announce(tx, info, envelope, set(held.info.capabilities))
            ctx.remember(tx, Done())
        return Done()

    async def capabilities(self, _params: Empty, _ctx: Ctx) -> Capabilities:
        """Which active nodes offer what."""
        now_ms = self._clock.unix_ms()
        active = [node for node in self._book.nodes() if self._status(node, now_ms) is NodeStatus.ACTIVE]
        return Capabilities(capabilities=capability_index(active))

    async def status(self, _params: Empty, _ctx: Ctx) -> RegistryStatus:
        """What this registry holds."""
        own, tip, now_ms = await self._outside.own_did(), await self._outside.tip(), self._clock.unix_ms()
        counts = dict.fromkeys((status.value for status in NodeStatus), 0)
        for node in self._book.nodes():
            counts[self._status(node, now_ms).value] += 1
        held = self._book.node(own)
        return RegistryStatus(
            own_node_id=own,
            registered=held is not None and not held.info.withdrawn,
            tip_height=BlockHeight(tip.height) if tip else None,
            nodes=counts,
            receipts=self._book.count_claims(),
        )

    async def _own(self, node_id: str) -> Did:
        own = await self._outside.own_did()
        if node_id not in ("", own):
            raise NotOwnNode(node_id=node_id, own=own)
        return own

    def _registered(self, own: Did) -> KnownNode:
        held = self._book.node(own)
        if held is None or held.info.withdrawn:
            raise NotRegistered
        return held

    def _status(self, node: KnownNode, now_ms: int) -> NodeStatus:
        return status_of(node.heard_ms, now_ms, self._settings.heartbeat_s)

    def _view(self, rated: RatedNode, own: Did, now_ms: int) -> NodeView:
        return node_view(rated, self._status(rated.node, now_ms), own=rated.node.info.did == own)

    def _view_of(self, did: Did, own: Did) -> NodeView:
        held = self._book.node(did)
        if held is None:
            raise NotFound(what="node", name=did)
        return self._view(self._scores.rate(held), own, self._clock.unix_ms())


def _gpu(params: RegisterNode, told: str, seen: str) -> str:
    """The GPU that is offered, by its model; empty for none.

    Raises:
        BadNode: one is offered that this machine does not show and nobody names.
    """
    asked = params.gpu_enabled
    if asked is None and GPU in capabilities_of(params.capabilities):
        asked = True
    gpu = gpu_of(asked, params.gpu_model, told, seen)
    if asked and not gpu:
        raise BadNode(
            detail="it offers a GPU, and this machine shows none. Name the model (`--gpu-model`), and it is told as "
            f"{GPU_DECLARED}; or leave it out"
        )
    return gpu


def _with_health(measured: Load, params: UpdateHealth) -> Load:
    """The measured load with what the operator says instead."""
    load = measured
    if params.load_average is not None:
        one = round(params.load_average * 1000)
        load = replace(load, load_milli=(one, *load.load_milli[1:]))
    if params.memory_usage is not None:
        load = replace(load, memory_used_bps=round(params.memory_usage * BPS / 100))
    if params.disk_usage is not None:
        load = replace(load, disk_used_bps=round(params.disk_usage * BPS / 100))
    return load

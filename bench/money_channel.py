"""Pay per call: vouchers made and verified in process, and paid `wasm` calls over an open channel between two nodes.

Vouchers: both signatures made and both checked, one core; the peer does the same with python-bitcoinlib's keys and
signature hashes, in turns. Calls: two whole nodes of seven processes each, over their real transport, every decision
synced by SQLite; the seconds of the parts are those that the daemons count themselves, added up over both nodes.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import coincurve
from bitcoin.core.key import CECKey
from bitcoin.core.script import CScript, SignatureHash
from msgspec import structs

from bench.measure import Run, per_second
from bench.rows import Finding, Goal, Samples, one
from bench.scene import READY_WITHIN_S, Scene, running, scene
from common.chain.address import pay_to_key, pay_to_script
from common.chain.channel import (
    HASH_TYPE_STATE,
    ChannelTerms,
    chid,
    script_of,
    state_digest,
    state_tx,
)
from common.chain.tx import Outpoint, _library_form
from common.channel_messages import (
    NO_ROOT,
    VOUCHER_BYTES_MAX,
    Ack,
    Voucher,
    has_coin_part,
    open_message,
    signed_digest,
)
from common.codec import canonical
from common.contracts.channel import CLOSE, LIST, CloseChannel, ListChannels
from common.contracts.p2p import P2P_INFO
from common.contracts.store import SERVICE_PUBLISH, SERVICE_SEARCH, PublishService, SearchServices
from common.contracts.task import CALL, PROBE, SERVE, CalledPaid, CallPaid, Serve
from common.contracts.wallet import CHAIN_TIP
from common.errors import DuxError, Unavailable
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.rpc.method import DAEMONS, Empty
from common.units import FLOP, Florins
from dux_cli.demo.network import ARBITERS
from dux_cli.supervisor import Node
from dux_taskd.sandbox.wasm_probe import BYTES, ECHO

VOUCHERS, VOUCHERS_QUICK = 2_000, 200
PEER_VOUCHERS = 300
ROUNDS = 3
ALONE, ALONE_QUICK = 100, 5
AT_ONCE = 32
COUNTED, COUNTED_QUICK = 10_000, 100
SECONDS, SECONDS_QUICK = 10.0, 2.0
PRICE = FLOP // 1000
OPEN_WITH = 20 * FLOP
MADE_GOAL, RATIO_GOAL, P50_GOAL_MS, CALLS_GOAL, TRANSACTIONS_GOAL = 3_000, 6, 25, 150, 2
PEER = "python-bitcoinlib's keys and signature hashes, same vouchers"
PARTS = {
    "sandbox": (),
    "sqlite": (),
    "signing": ("purse.vouchers", "purse.messages"),
    "buyer's books": ("channel.pay", "channel.settled"),
    "seller's books": ("channel.admit", "channel.finish"),
}
LINE = re.compile(r'dux_[a-z0-9]+?_(\w+?)(?:\{method="([^"]+)"\})? ([0-9.e+-]+)')


class CallNotPaid(Unavailable):
    """A paid call of the benchmark did not go through: {detail}."""

    code = 1347
    key = "bench-call-not-paid"


async def measure_channel(run: Run) -> list[Finding]:
    """Vouchers, then calls."""
    return [*_vouchers(run), *await _calls(run)]


# --- vouchers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """Terms and keys that vouchers are made and judged with."""

    terms: ChannelTerms
    payer: coincurve.PrivateKey
    point: Outpoint
    value: int


def _desk() -> Desk:
    payer, payee = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
    keys = [key.public_key.format() for key in (payer, payee)]
    terms = ChannelTerms(
        version=1, network="1f" * 32, payer="did:dux:a", payee="did:dux:b", payer_key=keys[0], payee_key=keys[1],
        change_script=pay_to_key(keys[0]), payout_script=pay_to_key(keys[1]), fund_script=pay_to_script(b"fund"),
        tax_bps=500, developer_script=b"", royalty_bps=0, fee_rate_florins_per_kb=1_200_000,
        cap_florins=Florins(10 * FLOP), exp=10_080, profile="main", window=32, mirror_florins=Florins(FLOP),
        limit_florins=Florins(100 * FLOP),
    )  # fmt: skip
    return Desk(terms, payer, Outpoint("ab" * 32, 0), 10 * FLOP)


def _voucher(desk: Desk, number: int) -> Voucher:
    return Voucher(
        v=1, network=desk.terms.network, chid=chid(desk.terms), outpoint=desk.point, session=b"s" * 32, j=number + 1,
        oid=f"order-{number:012d}", cum_florins=Florins(FLOP // 5 + number), price_max_florins=Florins(PRICE),
        offer=b"o" * 32, req=b"r" * 32,
        ack=Ack(low=number + 1, root=NO_ROOT, bits=0, paid_florins=Florins(number)), coin_sig=bytes(8),
    )  # fmt: skip


def _made_and_judged(desk: Desk, number: int) -> bool:
    bare = _voucher(desk, number)
    digest = state_digest(desk.terms, desk.point, desk.value, int(bare.cum_florins))
    body = canonical(structs.replace(bare, coin_sig=desk.payer.sign(digest, hasher=None) + HASH_TYPE_STATE))
    signature = desk.payer.sign(signed_digest(Purpose.CHANNEL_VOUCHER, body), hasher=None)
    sent = canonical(Signed(body=body, sigs=(signature,)))
    came, _ = open_message(
        sent, Voucher, pubkey=desk.terms.payer_key, purpose=Purpose.CHANNEL_VOUCHER, max_bytes=VOUCHER_BYTES_MAX
    )
    digest = state_digest(desk.terms, came.outpoint, desk.value, int(came.cum_florins))
    return has_coin_part(came, desk.terms.payer_key, digest)


def _peer_made_and_judged(desk: Desk, key: CECKey, number: int) -> bool:
    """The same voucher, hashed and signed by python-bitcoinlib, and judged by it."""
    bare = _voucher(desk, number)
    tx = state_tx(desk.terms, desk.point, desk.value, int(bare.cum_florins))
    digest = SignatureHash(CScript(script_of(desk.terms)), _library_form(tx), 0, HASH_TYPE_STATE[0])
    coin_sig = key.sign(digest)
    body = canonical(structs.replace(bare, coin_sig=coin_sig + HASH_TYPE_STATE))
    whole = signed_digest(Purpose.CHANNEL_VOUCHER, body)
    signature = key.sign(whole)
    again = SignatureHash(CScript(script_of(desk.terms)), _library_form(tx), 0, HASH_TYPE_STATE[0])
    return bool(key.verify(again, coin_sig)) and bool(key.verify(whole, signature))


def _vouchers(run: Run) -> list[Finding]:
    count = VOUCHERS_QUICK if run.quick else VOUCHERS
    run.tell(f"{count} vouchers made and verified, in turns with python-bitcoinlib's keys")
    desk, key = _desk(), CECKey()
    key.set_secretbytes(b"\1" * 32)
    key.set_compressed(compressed=True)
    ours, theirs, fewer = [], [], min(count, PEER_VOUCHERS)
    for _ in range(run.rounds(ROUNDS)):
        ours.append(count / _spent_s(lambda: all(_made_and_judged(desk, number) for number in range(count))))
        theirs.append(fewer / _spent_s(lambda: all(_peer_made_and_judged(desk, key, at) for at in range(fewer))))
    made, note = Samples(tuple(ours)), "one core, both signatures made and both checked"
    return [
        Finding(name="vouchers made and verified", unit="vouchers/s", ours=made, goal=Goal("value", ">=", MADE_GOAL),
                note=note),
        Finding(name="vouchers beside another library", unit="vouchers/s", ours=made,
                goal=Goal("ratio", ">=", RATIO_GOAL), peer=PEER, theirs=Samples(tuple(theirs)), note=note),
    ]  # fmt: skip


def _spent_s(work: object) -> float:
    start = time.process_time()
    if not (callable(work) and work()):
        raise CallNotPaid(detail="a voucher did not verify")
    return time.process_time() - start


# --- calls --------------------------------------------------------------------------------------------------------


@dataclass
class Market:
    """Buyer and seller with an open channel."""

    stage: Scene
    service: str
    numbers: itertools.count[int]
    done: int = 0

    async def call(self) -> CalledPaid:
        """One paid call."""
        asked = CallPaid(
            call_id=f"bench-{next(self.numbers)}",
            service_id=self.service,
            data=b"duck",
            price_limit_florins=Florins(PRICE),
            open_florins=Florins(OPEN_WITH),
        )
        done = await self.stage.nodes["buyer"].call(CALL, asked, deadline_s=60.0)
        if done.output != b"duck":
            raise CallNotPaid(detail=done.detail or "another output")
        self.done += 1
        return done


async def _calls(run: Run) -> list[Finding]:
    folder = run.folder / "channel"
    folder.mkdir()
    run.tell("two nodes, a published service, an open channel")
    async with scene(folder) as stage, _market(stage) as (market, before):
        for _ in range(3):
            await market.call()
        counted = await _counted(stage)
        taken = []
        for _ in range(ALONE_QUICK if run.quick else ALONE):
            began = time.perf_counter()
            await market.call()
            taken.append(time.perf_counter() - began)
        shares = _shares(await _counted(stage), counted, sum(taken))
        seconds = SECONDS_QUICK if run.quick else SECONDS
        rates = [await per_second(market.call, at_once=AT_ONCE, seconds=seconds) for _ in range(run.rounds(ROUNDS))]
        wanted = COUNTED_QUICK if run.quick else COUNTED
        run.tell(f"{wanted} calls in all, then the close, then every transaction of the chain is counted")
        await _reach(market, wanted)
        calls, channels, transactions = await _settled(stage, before)
        run.tell(f"{calls} calls over {channels} channels, {transactions} transactions since height {before}")
    return _call_findings(taken, rates, shares, calls, f"{calls} calls over {channels} channel", transactions)


async def _reach(market: Market, wanted: int) -> None:
    """Calls until there were so many, as many at once as the channel takes."""

    async def work() -> None:
        while market.done < wanted:
            await market.call()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _settled(stage: Scene, since: int) -> tuple[int, int, int]:
    """The channels are closed: calls over them, channels, and how many transactions blocks above `since` hold."""
    buyer = stage.nodes["buyer"]
    found = (await buyer.call(LIST, ListChannels(role="payer"))).channels
    for channel in found:
        await buyer.call(CLOSE, CloseChannel(request_id=f"bench-{channel.chid}", chid=channel.chid), deadline_s=60.0)

    async def are_closed() -> bool:
        await stage.chain.mine(1)
        left = (await buyer.call(LIST, ListChannels(role="payer", open_only=False))).channels
        return all(channel.state == "CLOSED" for channel in left)

    await _until(are_closed, "a close in the chain")
    transactions = 0
    for height in range(since + 1, await stage.chain.height() + 1):
        block = await stage.chain.call("getblock", await stage.chain.call("getblockhash", height))
        transactions += len(block["tx"]) - 1  # without its coinbase
    return sum(channel.calls for channel in found), len(found), transactions


def _call_findings(
    taken: list[float], rates: list[float], shares: Mapping[str, float], calls: int, over: str, transactions: int
) -> list[Finding]:
    few = Goal("value", "<=", TRANSACTIONS_GOAL) if calls >= COUNTED else None  # fewer calls show nothing
    whole = "two nodes of seven processes on one machine: TLS, both vouchers' signatures, every decision synced"
    return [
        Finding(name="paid call p50", unit="ms", ours=one(sorted(taken)[len(taken) // 2] * 1000),
                goal=Goal("value", "<=", P50_GOAL_MS), note=whole),
        Finding(name="paid calls, 32 in flight", unit="calls/s", ours=Samples(tuple(rates)),
                goal=Goal("value", ">=", CALLS_GOAL), note=whole),
        Finding(name="chain transactions for these calls", unit="transactions", ours=one(float(transactions)),
                goal=few, note=f"{over}: all in blocks from before its opening to its close"),
        *(Finding(name=f"paid call: {part}", unit="% of its time", ours=one(share * 100))
          for part, share in shares.items()),
    ]  # fmt: skip


@asynccontextmanager
async def _market(stage: Scene) -> AsyncIterator[tuple[Market, int]]:
    """Both nodes up, the service published and served, the channel open; and the height before that."""
    async with (
        running(stage.nodes[ARBITERS[0]]),
        running(stage.nodes["buyer"]) as buyer,
        running(stage.nodes["seller"]) as seller,
    ):
        await _until(lambda: _is_ready(stage), "nodes that know each other")
        package = (await seller.client("p2pd").transfer("PUT", "/blob", BYTES[ECHO])).decode()
        published = await seller.call(
            SERVICE_PUBLISH,
            PublishService(
                request_id="bench", slug="echo", name="echo", price_florins=Florins(PRICE), package=package,
                entry="dux-wasm/1",
            ),
        )  # fmt: skip
        service = published.id
        await seller.call(SERVE, Serve(request_id="bench-serve", service_id=service))
        await _until(lambda: _finds(buyer, service), "the service found")
        market, before = Market(stage, service, itertools.count()), await stage.chain.height()
        await _until(lambda: _opened(stage, market), "a first paid call")
        await stage.chain.mine(6)
        await _until(lambda: _in_step(stage, seller), "a coin that lies deep")
        yield market, before


async def _opened(stage: Scene, market: Market) -> bool:
    """The first call opens the channel; a block is found for its coin each time it does not go through yet."""
    try:
        await market.call()
    except DuxError:
        await stage.chain.mine(1)
        return False
    return True


async def _finds(buyer: Node, service: str) -> bool:
    found = (await buyer.call(SERVICE_SEARCH, SearchServices(text="echo"))).services
    return any(one.id == service for one in found)


async def _is_ready(stage: Scene) -> bool:
    buyer, seller = stage.nodes["buyer"], stage.nodes["seller"]
    try:
        sessions = (await buyer.call(P2P_INFO, Empty())).sessions
        kinds = (await seller.call(PROBE, Empty())).kinds
    except DuxError:
        return False
    wasm = any(kind.kind == "wasm" and kind.offered for kind in kinds)
    return sessions >= 2 and wasm and await _in_step(stage, buyer) and await _in_step(stage, seller)  # noqa: PLR2004


async def _in_step(stage: Scene, node: Node) -> bool:
    tip = await node.call(CHAIN_TIP, Empty())
    return tip.synced and tip.height >= await stage.chain.height()


async def _until(holds: object, what: str) -> None:
    if not callable(holds):
        raise TypeError(what)
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not await holds():
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise CallNotPaid(detail=f"no {what} within {READY_WITHIN_S:g} s") from error


async def _counted(stage: Scene) -> dict[tuple[str, str], float]:
    """(figure, method) -> sum over the daemons of both nodes."""
    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    for node in (stage.nodes["buyer"], stage.nodes["seller"]):
        for daemon in DAEMONS:
            text = (await node.client(daemon).transfer("GET", "/metrics", None)).decode()
            for what, method, value in LINE.findall(text):
                total[what, method] += float(value)
    return dict(total)


def _shares(
    after: Mapping[tuple[str, str], float], before: Mapping[tuple[str, str], float], wall_s: float
) -> dict[str, float]:
    """What the time of the lone calls was for; "books" hold the signing and writing that they wait for."""
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    shares = {
        part: sum(spent.get(("calls_seconds_total", method), 0.0) for method in methods) / wall_s
        for part, methods in PARTS.items()
        if methods
    }
    shares["sqlite"] = spent.get(("decisions_seconds_total", ""), 0.0) / wall_s
    shares["sandbox"] = spent.get(("sandbox_seconds_total", ""), 0.0) / wall_s
    between = spent.get(("calls_seconds_total", "p2p.peer_call"), 0.0)
    shares["between the nodes"] = (between - spent.get(("calls_seconds_total", "peer.handle"), 0.0)) / wall_s
    return shares

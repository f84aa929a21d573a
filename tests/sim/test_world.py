"""The simulated world's own laws: order, virtual time, lives that end, disks that stay, a machine out of reach."""

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from common.chain.address import address_to_script
from common.chain.params import EMBEDDED
from common.chain.script import key_sig
from common.chain.tx import Outpoint, TxInput, TxOutput, serialize, sighash
from common.chain.tx import Tx as CoinTx
from common.chain.wire import OutPoint, Tx, TxIn, decode_tx, shown
from common.clock import ManualClock
from common.contracts import wallet_chain as chain
from common.contracts.wallet import CHAIN_TIP
from common.errors import NeighbourDown, NotPermitted
from common.keygen import BRANCH_RECEIVE
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Florins
from dux_sim.chain.profile import chain_of
from dux_sim.shrink import shrink
from dux_sim.world.coin import Coin, cheap_work, twin_of
from dux_sim.world.disk import Disk
from dux_sim.world.door import Door, die
from dux_sim.world.faults import KINDS, UnknownFault, parse_faults
from dux_sim.world.guard import FORBIDDEN, RealWorld, guarded
from dux_sim.world.history import History
from dux_sim.world.keys import keys_of
from dux_sim.world.log import QuietLog
from dux_sim.world.loop import LIFE, Life, SimFuture, Stuck, VirtualLoop
from dux_sim.world.node import SimHouse
from dux_sim.world.weather import Storm
from dux_sim.world.world import profile_for

ROWS = ("CREATE TABLE rows (n INTEGER);",)


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()  # type: ignore[abstract]


def run(loop: VirtualLoop, work: Any, context: Context | None = None) -> Any:
    task = loop.create_task(work, context=context)
    loop.run_until(task.done)
    return task.result()


# --- time and order ---------------------------------------------------------------------------------------------------


def test_hours_pass_in_no_time_and_equal_times_keep_their_order(loop: VirtualLoop) -> None:
    told: list[str] = []

    async def story() -> float:
        for name in ("a", "b", "c"):
            loop.call_later(3600, told.append, name)
        await asyncio.sleep(7200)
        return loop.time()

    started = time.perf_counter()
    assert run(loop, story()) == pytest.approx(7200)
    assert told == ["a", "b", "c"]
    assert time.perf_counter() - started < 5


def test_sets_of_tasks_have_an_order_that_addresses_do_not_decide(loop: VirtualLoop) -> None:
    async def story() -> list[int]:
        futures = {loop.create_future() for _ in range(50)}
        return [future.number for future in futures if isinstance(future, SimFuture)]

    numbers = run(loop, story())
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 50))
    assert hash(loop.create_future()) > max(numbers)


def test_a_history_in_which_nothing_can_happen_is_told(loop: VirtualLoop) -> None:
    async def story() -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(loop, story())


def test_threads_and_sockets_are_no_part_of_the_loop(loop: VirtualLoop) -> None:
    async def story() -> None:
        await asyncio.to_thread(time.perf_counter)

    with pytest.raises(NotImplementedError):
        run(loop, story())


REACHES: list[Callable[[], object]] = [
    lambda: time.time(),  # noqa: PLW0108, TID251 - looked up when it is called
    lambda: time.monotonic(),  # noqa: PLW0108
    lambda: os.urandom(1),  # noqa: TID251
    lambda: socket.socket().connect(("127.0.0.1", 9)),
    lambda: subprocess.Popen(["true"]),
    lambda: threading.Thread(target=print).start(),
]


@pytest.mark.parametrize("reach", REACHES)
def test_the_machine_is_out_of_reach_while_a_history_runs(reach: Callable[[], object]) -> None:
    before = [getattr(owner, name) for owner, name in FORBIDDEN]
    with guarded(), pytest.raises(RealWorld):
        reach()
    assert [getattr(owner, name) for owner, name in FORBIDDEN] == before


# --- lives and disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [2, 3, 5, 8])
def test_a_life_ends_at_any_await_and_nothing_of_it_runs_again(loop: VirtualLoop, turns: int) -> None:
    life, done = Life("n0/flopd"), list[int]()
    life.on_doom = lambda: setattr(life, "alive", False)
    life.dies_after = turns

    async def work() -> None:
        try:
            for number in range(100):
                done.append(number)
                await asyncio.sleep(0)
        finally:
            done.append(-1)

    async def story() -> asyncio.Task[None]:
        task = loop.create_task(work(), context=life.context())
        await asyncio.sleep(60)
        return task

    task = run(loop, story())
    assert done == list(range(turns - 1))  # no finally, no except: it stopped
    assert not task.done()
    task.get_coro().close()


def test_a_crash_keeps_what_was_committed_and_the_dead_write_no_more() -> None:
    history = History(lambda: 0.0)
    disk = Disk("n0/x", history)
    store = disk.open(None, ROWS, ManualClock())
    with store.transaction() as tx:
        tx.execute("INSERT INTO rows VALUES (1)")
    disk.crash()
    with pytest.raises(Exception, match="ending"), store.transaction():
        pass
    again = disk.open(None, ROWS, ManualClock())
    assert [row["n"] for row in again.rows("SELECT n FROM rows")] == [1]
    assert history.counts["commit"] >= 1


def test_every_committed_row_is_part_of_the_hash() -> None:
    def hash_with(value: int) -> str:
        history = History(lambda: 0.0)
        store = Disk("n0/x", history).open(None, ROWS, ManualClock())
        with store.transaction() as tx:
            tx.execute("INSERT INTO rows VALUES (?)", value)
        return history.hash()

    assert hash_with(1) == hash_with(1) != hash_with(2)


# --- doors ------------------------------------------------------------------------------------------------------------


def house_with_tip(pause_s: float = 0.0) -> SimHouse:
    house, table = (
        SimHouse("n0/flopd"),
        MethodTable(log=QuietLog(), clock=ManualClock(), randomness=SeededRandomness(1)),
    )  # type: ignore[arg-type]

    async def tip(_params: Empty, _ctx: Ctx) -> chain.Tip:
        assert LIFE.get() is house.life
        await asyncio.sleep(pause_s)
        return chain.Tip(height=BlockHeight(7), hash="", time_s=0, synced=True, source="core")

    table.serve(CHAIN_TIP, tip)
    house.table, house.life = table, Life(house.name)
    return house


def door(loop: VirtualLoop, house: SimHouse, caller: str) -> Door:
    history = History(loop.time)
    return Door(f"n0/{caller}", house, loop, history, Storm(SeededRandomness(1), history))


def test_a_call_runs_in_the_life_of_its_callee_and_only_for_permitted_callers(loop: VirtualLoop) -> None:
    house = house_with_tip()
    assert run(loop, door(loop, house, "escrowd").call(CHAIN_TIP, Empty())).height == 7
    with pytest.raises(NotPermitted):
        run(loop, door(loop, house, "nobody").call(CHAIN_TIP, Empty()))


def test_a_caller_learns_that_its_callee_died(loop: VirtualLoop) -> None:
    house = house_with_tip(pause_s=5)
    loop.call_later(1, lambda: die(house.life, house.name))
    with pytest.raises(NeighbourDown):
        run(loop, door(loop, house, "escrowd").call(CHAIN_TIP, Empty()))
    with pytest.raises(NeighbourDown):
        run(loop, door(loop, house, "escrowd").call(CHAIN_TIP, Empty()))


# --- the chain --------------------------------------------------------------------------------------------------------


def test_a_fork_brings_a_payment_back_under_another_id() -> None:
    profile, keys = profile_for(5), keys_of(0)
    with cheap_work():
        coin = Coin(chain_of(profile), History(lambda: 0.0))
        first = coin.node.chain.active[0].block.txs[1]
        key = keys.secrets.account().path(BRANCH_RECEIVE, 0)
        script = address_to_script(keys.address, EMBEDDED)
        paid = TxOutput(Florins(first.outputs[0].value_florins - 2_000_000), script)
        plain = CoinTx(inputs=(TxInput(outpoint=Outpoint(shown(first.txid), 0), sequence=0xFFFFFFFF),), outputs=(paid,))
        signed = plain.signed([key_sig(key.sign(sighash(plain, 0, script)), key.public)])
        tx = decode_tx(serialize(signed))
        coin.node.submit_tx(tx)
        coin.mine(2)
        assert tx.txid in coin.node.chain.tx_places
        coin.fork(2, malleate=True)
    twin = twin_of(tx)
    assert twin.txid != tx.txid
    assert tx.txid not in coin.node.chain.tx_places
    assert twin.txid in coin.node.chain.tx_places
    assert twin_of(twin).raw == tx.raw
    assert coin.malleated == 1


def test_what_is_no_signature_is_left_as_it_is() -> None:
    odd = Tx(1, (TxIn(OutPoint(bytes(32), 0), b"\x00\x4c\x02ab\x4d\x01\x00c\x51", 0),), (), 0)
    assert twin_of(odd).inputs[0].script_sig == odd.inputs[0].script_sig


# --- faults -----------------------------------------------------------------------------------------------------------


def test_faults_are_named() -> None:
    assert parse_faults("all") == KINDS
    assert parse_faults("none") == parse_faults("") == ()
    assert parse_faults("reorg, crash") == ("crash", "reorg")
    with pytest.raises(UnknownFault, match="partition"):
        parse_faults("crash,rain")


@pytest.mark.parametrize("culprits", [{3}, {0, 19}, {2, 7, 11}, set(range(20))])
def test_shrinking_leaves_the_culprits_alone(culprits: set[int]) -> None:
    tried: list[tuple[int, ...]] = []

    def fails(items: tuple[int, ...]) -> bool:
        tried.append(items)
        return culprits <= set(items)

    assert set(shrink(range(20), fails)) == culprits
    assert len(tried) <= 400

"""The example service through real taskds with the real sandbox: a picture is enlarged, checked, disputed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from common.contracts import task as contract
from common.contracts.store import CallLimits
from common.contracts.task import TaskState
from common.parts import Parts
from common.units import FLOP
from dux_cli.pictures import make_test_picture, picture_from_raw, raw_from_picture
from dux_taskd.daemon import TaskDaemon
from dux_taskd.executor import Executor
from dux_taskd.settings import TaskSettings
from tests.tasks.fake_market import ARBITERS, Market
from tests.tasks.task_daemons import playing, submit

MODULE = Path(__file__).parents[2] / "examples" / "image_upscaler" / "upscaler.wasm"
LIMITS = CallLimits(fuel=10**9, memory_bytes=32 << 20, wall_s=20, output_bytes=1 << 20)


class RealTaskDaemon(TaskDaemon):
    """The real daemon, without a port."""

    async def _listen(self, parts: Parts[TaskSettings]) -> None:
        """No port: tests call the table."""


class WrongTaskDaemon(RealTaskDaemon):
    """One that changes the last byte of what it sells."""

    def make_executor(self, parts: Parts[TaskSettings]) -> Executor:
        executor = super().make_executor(parts)
        honest = executor.execute

        async def altered(*given: object) -> object:
            from msgspec.structs import replace  # noqa: PLC0415

            outcome = await honest(*given)  # type: ignore[arg-type]
            return replace(outcome, output=outcome.output[:-1] + b"?")

        executor.execute = altered  # type: ignore[method-assign,assignment]
        return executor


async def play(market: Market, seller_kind: type[TaskDaemon]) -> tuple[contract.TaskView, bytes]:
    """A picture bought, checked by a second worker; the view at the end, and the output."""
    async with (
        playing(market, 1, kind=RealTaskDaemon) as buyer,
        playing(market, 2, kind=seller_kind) as seller,
        playing(market, 3, kind=RealTaskDaemon) as checker,
        playing(market, 7, kind=RealTaskDaemon),
        playing(market, 8, kind=RealTaskDaemon),
    ):
        market.node(ARBITERS[2])
        package = seller.node.put(MODULE.read_bytes())
        service = market.publish(2, "wasm", 10 * FLOP, package, limits=LIMITS)
        check = market.publish(3, "check", FLOP, limits=LIMITS)
        for player, one in ((seller, service), (checker, check)):
            await player.ask(contract.SERVE, contract.Serve(request_id="serve", service_id=one))
        picture = raw_from_picture(make_test_picture(48, 32))
        task_id = await submit(buyer, service, picture, args=("scale=2",), check=check)
        view = await buyer.until(task_id)
        return view, buyer.node.blobs.get(view.output_blob or "", b"")


async def test_a_picture_is_bought_checked_and_right(tmp_path: Path) -> None:
    """Two sandboxes give one hash; the delivered picture is Lanczos' to the last bit; both workers are paid."""
    view, output = await play(Market(tmp_path), RealTaskDaemon)
    assert (view.state, view.check_state) == (TaskState.PAID, "agreed"), view.reason
    expected = make_test_picture(48, 32).resize((96, 64), Image.Resampling.LANCZOS)
    assert picture_from_raw(output).tobytes() == expected.tobytes()


async def test_one_wrong_byte_is_found_and_not_paid(tmp_path: Path) -> None:
    """The buyer's own sandbox and two arbiters' sandboxes find it; the coins go back, the checker is paid."""
    view, _ = await play(Market(tmp_path), WrongTaskDaemon)
    assert (view.state, view.check_state, view.good) == (TaskState.REFUNDED, "differs", False)
    assert view.check_settlement is not None
    assert view.check_settlement.gross_florins == FLOP


async def test_a_publisher_can_try_its_package(tmp_path: Path) -> None:
    """task.run runs without a contract and shows what it used; a refusal of the package is shown as one."""
    async with playing(Market(tmp_path), 1, kind=RealTaskDaemon) as player:
        package, picture = (
            player.node.put(MODULE.read_bytes()),
            player.node.put(raw_from_picture(make_test_picture(8, 8))),
        )
        wish = contract.TryRun(kind="wasm", package=package, entry="dux-wasm/1", input_blob=picture, limits=LIMITS)
        done = await player.ask(contract.TRY_RUN, wish)
        assert (done.ended, done.fuel_used > 0, len(player.node.blobs[done.output_blob])) == ("done", True, 16 + 768)
        refused = await player.ask(
            contract.TRY_RUN,
            contract.TryRun(
                kind="wasm", package=package, entry="dux-wasm/1", input_blob=picture, args=("scale=1",), limits=LIMITS
            ),
        )
        assert (refused.ended, refused.output_blob) == ("refused", None)
        shown = await player.ask(contract.PROBE, contract.Empty())
        assert {kind.kind: kind.offered for kind in shown.kinds}["wasm"]
        assert not {kind.kind: kind.offered for kind in shown.kinds}["native"]

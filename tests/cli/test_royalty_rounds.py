"""`pay-royalties --every`: rounds on a timer, each within its limit, whatever breaks in one of them."""

import msgspec
import pytest

from common.contracts import escrow
from common.contracts.wallet_errors import InsufficientFunds
from common.units import Florins
from dux_cli import escrow_acts
from dux_cli.royalties import left_out, within
from tests.cli.fake_node import FakeNode
from tests.cli.test_commands import Any, fresh, node, run

assert fresh
assert node
assert run
PAYMENT = escrow.ROYALTY_PAY.example[1]
WORDS = ("escrow", "pay-royalties", "--yes", "--every", "24")


def payment(name: str, florins: int):
    return msgspec.structs.replace(PAYMENT, payment_id=name, amount_florins=Florins(florins))


def test_a_round_pays_the_smallest_first_and_no_more_than_its_limit() -> None:
    """Who is owed much does not keep the others waiting; what does not fit waits."""
    owed = [payment("c", 9), payment("a", 2), payment("b", 3)]
    assert [one.payment_id for one in within(owed, 5)] == ["a", "b"]
    assert [one.payment_id for one in within(owed, 13)] == ["a", "b"]
    assert len(within(owed, 14)) == 3
    assert within(owed, 1) == []


def test_who_can_never_fit_is_named() -> None:
    """More than a round's limit is no matter of waiting; the others are counted."""
    owed = [payment("a", 2), payment("b", 4), payment("c", 9)]
    told = left_out(owed, within(owed, 5), 5)
    assert told[0] == "1 wait: a round pays 0.00000005 FLOP at most"
    assert told[1].startswith(f"{PAYMENT.address} is owed 0.00000009 FLOP")
    assert "no round will pay it" in told[1]
    assert len(told) == 2
    assert left_out(owed, within(owed, 15), 15) == []
    assert len(left_out(owed[2:], [], 5)) == 1


def test_rounds_go_on_whatever_breaks(run: Any, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wallet without coins, then a payment, then one above the round's limit: each is told, the fourth is ended."""
    rounds: list[list[str]] = []
    steps = [
        {"wallet.send": InsufficientFunds(need_florins=2, have_florins=1)},
        {"escrow.royalty_pay": payment("royalty/big/0", 90_000_000)},
        {"escrow.royalties": InsufficientFunds(need_florins=2, have_florins=1)},
    ]

    def slept(seconds: float) -> None:
        assert seconds == 24 * 3600
        rounds.append([name for name, _ in node.seen])
        node.seen.clear()
        node.answers = {"escrow.royalty_pay": payment(f"royalty/told/{len(rounds)}", 1_900_000)}
        if not steps:
            raise SystemExit(0)
        node.answers |= steps.pop(0)

    monkeypatch.setattr(escrow_acts.time, "sleep", slept)
    node.answers = {"escrow.royalty_pay": payment("royalty/told/0", 1_900_000)}
    told = run(*WORDS, "--max-amount", "0.02")
    assert told.code == 0
    assert [("wallet.send" in one, "escrow.royalty_paid" in one) for one in rounds] == [
        (True, True), (True, False), (False, False), (False, False),
    ]  # fmt: skip
    for word in ("is not paid now", "a round pays 0.02 FLOP at most", "this round ended early"):
        assert word in told.err


def test_a_timer_asks_nobody(run: Any, node: FakeNode) -> None:
    """Without a limit, or without --yes, nothing begins."""
    for words in (("--every", "24"), ("--every", "24", "--yes"), ("--every", "24", "--max-amount", "1")):
        told = run("escrow", "pay-royalties", *words)
        assert told.code != 0
        assert "--every asks nobody" in told.err or "--max-amount" in told.err
    assert node.seen == []

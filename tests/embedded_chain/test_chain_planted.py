"""The differential table notices bugs: each planted one changes the verdict of a row that names it."""

from __future__ import annotations

import pytest
from btclib.script.engine import ScriptFlag

from dux_sim.chain import consensus, policy, scripts, tx_rules
from tests.embedded_chain.coin_bench import EmbeddedBench
from tests.embedded_chain.spend_cases import CASES

ROWS = {case.name: case for case in CASES}
PLANTED = [
    (scripts, "CONSENSUS", scripts.CONSENSUS & ~ScriptFlag.CHECKLOCKTIMEVERIFY, "escrow_refund_with_final_sequence"),
    (scripts, "CONSENSUS", scripts.CONSENSUS | ScriptFlag.CHECKSEQUENCEVERIFY, "relative_lock_in_script_not_reached"),
    (scripts, "CONSENSUS", scripts.CONSENSUS | ScriptFlag.LOW_S, "high_s_signature"),
    (scripts, "CONSENSUS", scripts.CONSENSUS & ~ScriptFlag.DERSIG, "signature_not_in_der"),
    (scripts, "RELAY", scripts.CONSENSUS, "extra_item_left_on_the_stack"),
    (scripts, "script_error", lambda *_: None, "outputs_changed_after_signing"),
    (consensus, "COINBASE_MATURITY_BLOCKS", 100, "coinbase_spent_at_depth_150"),
    (policy, "HARD_DUST_FLORINS", 5_460, "dust_below_0_001"),
    (policy, "SOFT_DUST_FLORINS", 0, "soft_dust_without_its_fee"),
    (policy, "RELAY_FEE_FLORINS_PER_KB", 1_000, "fee_below_flopcoins_relay_floor"),
    (policy, "STANDARD_TX_BYTES_MAX", 200_000, "transaction_of_100_kilobytes"),
    (policy, "P2SH_SIGOPS_MAX", 16, "redeem_script_with_sixteen_sigops"),
    (tx_rules, "is_final", lambda *_: True, "lock_time_at_the_next_height"),
]


@pytest.fixture(scope="module")
def bench() -> EmbeddedBench:
    return EmbeddedBench()


@pytest.mark.parametrize(
    ("module", "name", "bug", "row"), PLANTED, ids=lambda item: item if isinstance(item, str) else ""
)
def test_planted_bug_is_noticed(
    module: object, name: str, bug: object, row: str, bench: EmbeddedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bug the row's verdicts are wrong."""
    case = ROWS[row]
    made = case.make(bench)
    monkeypatch.setattr(module, name, bug)
    assert (bench.send(made), bench.in_block([made])) != (case.relay, case.block)

"""Bugs that are planted in the product are found by the simulator: a law that cannot break would be no law."""

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from common.rpc.table import MethodTable
from common.store import Tx
from dux_escrowd import hearing, replies
from dux_escrowd.facts import SpendSeen
from dux_escrowd.model import Lot
from dux_escrowd.replay import LoggedFact
from dux_flopd.chain_store import ChainStore
from dux_flopd.contract_methods import ContractMethods
from dux_flopd.store import WalletStore
from dux_sim.orders import Order, faults_of, perform, read
from dux_sim.shrink import shrink
from dux_sim.world.faults import FaultKind
from dux_sim.world.world import quiet_memory

pytestmark = [pytest.mark.patient, pytest.mark.histories, pytest.mark.timeout(2400)]

SEEDS = 60  # tried one after another until the bug is found


def breaks(order: Order, law: str) -> bool:
    """Whether a law with these words breaks in a history."""
    return any(law in violation["law"] for violation in perform(order).violations)


def first_found(kinds: tuple[FaultKind, ...], law: str) -> Order:
    """The first history in which a law with these words breaks."""
    with quiet_memory():
        for seed in range(SEEDS):
            order = Order(kind="money", seed=seed, faults=kinds)
            if breaks(order, law):
                return order
    pytest.fail(f"{SEEDS} histories passed with the bug in them")


def test_a_double_payment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wallet forgets what it has paid for a contract, what the chain says of it, and which requests it answered."""
    monkeypatch.setattr(WalletStore, "live_payment", lambda *_: None)
    monkeypatch.setattr(ChainStore, "paid_on", lambda *_: None)
    monkeypatch.setattr(MethodTable, "_earlier", lambda *_: None)
    law = "3 a payment happens once"
    order = first_found(("crash",), law)
    with quiet_memory():
        shorter = shrink(faults_of(order), lambda few: breaks(msgspec.structs.replace(order, schedule=few), law))
    assert [fault.kind for fault in shorter] == ["crash"]  # one crash is all it takes
    lines = read(msgspec.structs.replace(order, schedule=shorter), law)
    assert law in lines[-1]
    assert " commit " in lines[-2] or " block " in lines[-2]


def test_a_lost_outbox_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth effect is decided and never written down."""
    real = Tx.outbox

    def outbox(tx: Tx, effect_id: str, kind: str, body: object, **more: Any) -> None:
        if zlib.crc32(effect_id.encode()) % 5:
            real(tx, effect_id, kind, body, **more)

    monkeypatch.setattr(Tx, "outbox", outbox)
    first_found(("loss", "crash"), "bounds")


def test_a_missing_signature_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever carries signatures is taken as signed."""
    monkeypatch.setattr(hearing, "fits", lambda *_: True)
    first_found(("liar",), "4 signatures are checked")


def test_a_skipped_audit_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spends are decided on and not logged."""
    real = Tx.audit

    def audit(tx: Tx, kind: str, body: object) -> bytes:
        skipped = isinstance(body, LoggedFact) and isinstance(body.fact, SpendSeen)
        return b"" if skipped else real(tx, kind, body)

    monkeypatch.setattr(Tx, "audit", audit)
    first_found((), "6 the log replays")


def test_a_stale_release_after_a_reorganisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buyer signs once per contract: for a coin that came back under another name its old release stands."""
    real: Callable[[Lot], replies.Orders] = replies._sign_release
    signed: set[tuple[str, str]] = set()

    def once(lot: Lot) -> replies.Orders:
        if (lot.contract_id, lot.me) in signed:
            return ()
        signed.add((lot.contract_id, lot.me))
        return real(lot)

    monkeypatch.setattr(replies, "_sign_release", once)
    first_found(("malleation",), "bounds")


def test_a_signature_for_something_that_was_not_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wallet signs the digest of one florin less than the template says."""
    real = ContractMethods.sign

    async def sign(methods: ContractMethods, params: Any, ctx: Any) -> Any:
        answer = await real(methods, params, ctx)
        row, _contract = methods._contract(params.cid)
        methods._keys.sign_contract(row.key_index, b"\x07" * 32)
        return answer

    monkeypatch.setattr(ContractMethods, "sign", sign)
    first_found((), "4 the wallet rebuilds")

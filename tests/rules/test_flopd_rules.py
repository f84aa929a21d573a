"""flopd's decisions: coins chosen, limits kept, states told; every case written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from common.chain.address import p2pkh_script
from common.chain.fees import DUST_FLORINS, FEE_RATE_FLORINS_PER_KB
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, p2pkh_input_bytes, size_with
from common.community_fund import NoFund, fund_script_of
from common.contracts.wallet_errors import (
    CoinsPending,
    InsufficientFunds,
    KeyNotOurs,
    KeyUsed,
    OverLimit,
    TooEarly,
    TooLate,
    TooShallow,
)
from common.errors import BadParams
from common.network import NetworkProfile
from common.units import FLOP, Florins
from dux_flopd.contract_rules import (
    check_depth,
    check_own_part,
    check_time,
    may_show_key,
    signs,
)
from dux_flopd.effects import verdict
from dux_flopd.model import Coin, ContractKeyRow, OwnCoin, Selection, Spent
from dux_flopd.rules import check_limits, check_nonce, coin_state, confirmations, payment_state, select
from dux_flopd.settings import FlopSettings, Payer
from tests.chain.contract_kit import Kit, make_contract

TIP, MATURITY = 1000, 240
SCRIPT = p2pkh_script(bytes(20))


def coin(value: int, at: int = 0, *, height: int | None = 900, locked: bool = False, mined: bool = False) -> OwnCoin:
    """An own coin."""
    return OwnCoin(Coin(Outpoint(f"{at:064x}", 0), SCRIPT, value, height, 0, mined), 0, at, locked)


def chosen(coins: list[OwnCoin], amount: int) -> Selection:
    """The selection for one output."""
    return select(coins, (TxOutput(Florins(amount), SCRIPT),), FEE_RATE_FLORINS_PER_KB, TIP, MATURITY)


@pytest.mark.parametrize(
    ("owned", "state"),
    [
        (coin(1, height=None), "pending"),
        (coin(1, height=None, locked=True), "pending"),
        (coin(1, locked=True), "locked"),
        (coin(1, height=TIP), "spendable"),
        (coin(1, mined=True, height=TIP - MATURITY + 2), "immature"),
        (coin(1, mined=True, height=TIP - MATURITY + 1), "spendable"),
    ],
)
def test_coin_state(owned: OwnCoin, state: str) -> None:
    """A coin is spent only in a block, ripe and unbound."""
    assert coin_state(owned, TIP, MATURITY) == state


@given(
    values=st.lists(st.integers(1000, 50 * FLOP), min_size=1, max_size=40), amount=st.integers(DUST_FLORINS, 60 * FLOP)
)
def test_a_selection_conserves_and_pays_its_size(values: list[int], amount: int) -> None:
    """Coins = amount + fee + change; no dust change; the fee covers the size at the rate; no coin twice."""
    coins = [coin(value, at) for at, value in enumerate(values)]
    try:
        found = chosen(coins, amount)
    except InsufficientFunds:
        assert sum(values) < amount + FLOP // 100 + 40 * 150 * FEE_RATE_FLORINS_PER_KB // 1000
        return
    assert sum(owned.coin.value for owned in found.coins) == amount + found.fee + found.change
    assert found.change == 0 or found.change >= DUST_FLORINS
    assert len({owned.coin.outpoint for owned in found.coins}) == len(found.coins)
    outputs = [TxOutput(Florins(amount), SCRIPT)] + [TxOutput(Florins(found.change), SCRIPT)] * bool(found.change)
    tx = Tx(tuple(TxInput(owned.coin.outpoint) for owned in found.coins), tuple(outputs))
    size = size_with(tx, [p2pkh_input_bytes()] * len(found.coins))
    assert found.fee >= max(FLOP // 100, size * FEE_RATE_FLORINS_PER_KB // 1000)


def test_the_smallest_single_coin_pays() -> None:
    """One coin that suffices is taken before several, and the smallest such one."""
    found = chosen([coin(9 * FLOP, 1), coin(5 * FLOP, 2), coin(2 * FLOP, 3)], 4 * FLOP)
    assert [owned.index for owned in found.coins] == [2]
    several = chosen([coin(3 * FLOP, 1), coin(2 * FLOP, 2), coin(2 * FLOP, 3)], 4 * FLOP)
    assert [owned.index for owned in several.coins] == [1, 3]


def test_shortage_says_whether_waiting_helps() -> None:
    """Coins that wait for a block or ripen: repeat later; none at all: receive some first."""
    with pytest.raises(CoinsPending):
        chosen([coin(FLOP, 1), coin(9 * FLOP, 2, height=None)], 4 * FLOP)
    with pytest.raises(CoinsPending):
        chosen([coin(9 * FLOP, 2, mined=True, height=TIP)], 4 * FLOP)
    with pytest.raises(InsufficientFunds):
        chosen([coin(FLOP, 1)], 4 * FLOP)
    with pytest.raises(InsufficientFunds):
        chosen([], FLOP)


SETTINGS = FlopSettings(
    network_profile="",
    data_dir="",
    run_dir="",
    limit_per_payment_florins=Florins(10),
    limit_per_day_florins=Florins(100),
    limit_per_caller_florins=Florins(50),
    limit_per_counterparty_florins=Florins(20),
)


@pytest.mark.parametrize(
    ("amount", "spent", "broken"),
    [
        (10, (90, 40, 10), ""),
        (11, (0, 0, 0), "per payment"),
        (10, (91, 0, 0), "per day"),
        (10, (41, 41, 0), "per caller and day"),
        (10, (11, 11, 11), "per counterparty and day"),
    ],
)
def test_check_limits(amount: int, spent: tuple[int, int, int], broken: str) -> None:
    """Each limit holds to the florin and is named when it is broken."""
    so_far = Spent(*(Florins(value) for value in spent))
    if not broken:
        check_limits(SETTINGS, amount, so_far, "module")
        return
    with pytest.raises(OverLimit) as caught:
        check_limits(SETTINGS, amount, so_far, "module")
    assert caught.value.fields["limit"] == broken


@pytest.mark.parametrize(
    ("caller", "day", "by_caller", "broken"),
    [
        ("module", 0, 0, ""),
        ("module", 30, 3, ""),
        ("module", 30, 4, "of module and day"),
        ("escrowd", 90, 90, ""),
        ("escrowd", 94, 94, "per day"),
        ("registryd", 45, 45, "per caller and day"),
        ("airdropd", 0, 0, "of airdropd and day"),
    ],
)
def test_a_caller_has_its_own_limit_and_the_day_is_of_all(caller: str, day: int, by_caller: int, broken: str) -> None:
    """Named callers may spend less or more than the others, or nothing; the day's limit holds over all of them."""
    own: dict[Payer, Florins] = {"module": Florins(10), "escrowd": Florins(1_000), "airdropd": Florins(0)}
    settings = structs.replace(SETTINGS, limits_of_callers=own)
    so_far = Spent(Florins(day), Florins(by_caller), Florins(0))
    if not broken:
        check_limits(settings, 7, so_far, caller)
        return
    with pytest.raises(OverLimit) as caught:
        check_limits(settings, 7, so_far, caller)
    assert caught.value.fields["limit"] == broken


@pytest.mark.parametrize(
    ("refused", "height", "waits", "conflicted", "state"),
    [
        ("", 5, False, False, "confirmed"),
        ("why", 5, True, True, "confirmed"),
        ("why", None, True, True, "seen"),
        ("why", None, False, True, "conflicted"),
        ("why", None, False, False, "refused"),
        ("", None, False, False, "waiting"),
    ],
)
def test_payment_state(refused: str, height: int | None, waits: bool, conflicted: bool, state: str) -> None:  # noqa: FBT001
    """The chain decides before anything else."""
    assert payment_state(refused=refused, height=height, waits=waits, conflicted=conflicted) == state


@pytest.mark.parametrize(("height", "count"), [(None, 0), (1000, 1), (999, 2), (1001, 0)])
def test_confirmations(height: int | None, count: int) -> None:
    """A block at the tip is one confirmation; above the tip there is none."""
    assert confirmations(height, TIP) == count


@pytest.mark.parametrize(
    ("code", "message", "wanted"),
    [
        (-27, "transaction already in block chain", "taken"),
        (-26, "txn-already-known", "taken"),
        (-27, "Transaction already in mempool", "taken"),
        (-25, "Missing inputs", "later"),
        (-25, "bad-txns-inputs-missingorspent", "later"),
        (-26, "txn-mempool-conflict", "later"),
        (-26, "64: non-final", "later"),
        (-26, "insufficient fee, rejecting replacement", "later"),
        (-26, "64: dust", "refused"),
        (-26, "16: mandatory-script-verify-flag-failed", "refused"),
        (-22, "TX decode failed", "refused"),
        (-28, "Verifying blocks...", "later"),
        (-32603, "internal error", "later"),
    ],
)
def test_verdict(code: int, message: str, wanted: str) -> None:
    """What a block or a reorganisation may mend is tried again; what it cannot is refused."""
    assert verdict(code, message) == wanted


def test_a_network_without_custodians_has_no_fund() -> None:
    """Nothing is signed where the profile names nobody who keeps the fund."""
    network = NetworkProfile(name="tests", chain="embedded", genesis="00" * 32, heights="demo")
    with pytest.raises(NoFund):
        fund_script_of(network.fund)


def part_of(kit: Kit, role: str, **changes: object) -> None:
    """The check of our own part, with everything right but the changes."""
    person = {"buyer": kit.contract.buyer, "seller": kit.contract.seller}[role]
    given: dict[str, object] = {
        "key": ContractKeyRow(3, role, person.nonce, ""),
        "pubkey": person.key,
        "payout": person.payout_script,
        "result_hash": kit.contract.result_hash,
    }
    check_own_part(kit.contract, role, "cid", **(given | changes))  # type: ignore[arg-type]


def test_own_part() -> None:
    """The key was made for this role and nonce, serves no other contract, and stands there with our payout."""
    kit = make_contract()
    nonce = kit.contract.seller.nonce
    part_of(kit, "buyer")
    part_of(kit, "seller")
    part_of(make_contract(locked=False), "seller", result_hash=bytes(32))
    part_of(kit, "seller", key=ContractKeyRow(3, "seller", nonce, "cid"))
    wrong: list[tuple[dict[str, object], type[Exception]]] = [
        ({"key": None}, KeyNotOurs),
        ({"key": ContractKeyRow(3, "buyer", nonce, "")}, KeyNotOurs),
        ({"key": ContractKeyRow(3, "seller", nonce, "another")}, KeyUsed),
        ({"key": ContractKeyRow(3, "seller", bytes(32), "")}, KeyNotOurs),
        ({"pubkey": kit.contract.buyer.key}, KeyNotOurs),
        ({"payout": kit.contract.buyer.payout_script}, KeyNotOurs),
        ({"result_hash": bytes(32)}, KeyNotOurs),
    ]
    for changes, error in wrong:
        with pytest.raises(error):
            part_of(kit, "seller", **changes)


def test_an_arbiters_part_is_its_seat() -> None:
    """An arbiter is who sits in the panel with our key and payout script; its nonce is nobody's business."""
    contract = make_contract().contract
    seat, key = contract.arbiters[1], ContractKeyRow(0, "arbiter", bytes(32), "")
    right = {"key": key, "payout": seat.payout_script, "result_hash": b""}
    check_own_part(contract, "arbiter", "cid", pubkey=seat.key, **right)  # type: ignore[arg-type]
    with pytest.raises(KeyNotOurs):
        check_own_part(contract, "arbiter", "cid", pubkey=contract.buyer.key, **right)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "roles"),
    [
        (Release(Florins(FLOP)), {"buyer", "seller"}),
        (Cancel(), {"buyer", "seller"}),
        (Award(Florins(0), Side.BUYER, ()), {"arbiter", "buyer"}),
        (Award(Florins(FLOP), Side.SELLER, ()), {"arbiter", "seller"}),
        (Refund(), {"buyer"}),
    ],
)
def test_who_signs_what(template: Template, roles: set[str]) -> None:
    """Every pair of role and way out, the refused ones too."""
    assert {role for role in ("buyer", "seller", "arbiter") if signs(template, role)} == roles


def test_times_and_depths() -> None:
    """A refund waits for T, a seller's K for nothing after vote_by; every other way out has no clock here."""
    contract = make_contract().contract
    heights = contract.heights
    release = Release(Florins(FLOP))
    check_time(contract, release, "seller", heights.vote_by)
    check_time(contract, release, "buyer", heights.timeout)
    check_time(make_contract(locked=False).contract, release, "seller", heights.timeout)
    check_time(contract, Award(Florins(0), Side.BUYER, ()), "buyer", heights.timeout)
    check_time(contract, Refund(), "buyer", heights.timeout)
    with pytest.raises(TooLate):
        check_time(contract, release, "seller", heights.vote_by + 1)
    with pytest.raises(TooEarly):
        check_time(contract, Refund(), "buyer", heights.timeout - 1)
    check_depth(contract, release, "x", 95, 100)
    check_depth(contract, Refund(), "x", 100, 100)
    for template, height in ((release, 96), (Refund(), None)):
        with pytest.raises(TooShallow):
            check_depth(contract, template, "x", height, 100)
    assert [may_show_key(template, "seller") for template in (release, Cancel(), Refund())] == [True, True, False]
    assert not may_show_key(release, "buyer")


def test_a_key_is_bound_to_a_nonce_of_32_bytes() -> None:
    """Shorter ones would be repeated, longer ones are no nonces of ours."""
    check_nonce(b"n" * 32)
    for nonce in (b"", b"n" * 31, b"n" * 33):
        with pytest.raises(BadParams, match="32 bytes"):
            check_nonce(nonce)

"""What the wallet demands of a channel before it takes part, and which fee each step of a close has."""

from __future__ import annotations

import msgspec
import pytest

from common.accounts import ACCOUNT_SHIFT, TOKEN_ACCOUNT
from common.chain.address import pay_to_key
from common.chain.tx import Outpoint
from common.community_fund import fund_script_of
from common.contracts.wallet_errors import KeyNotOurs, KeyUsed, NotAgreed
from common.identity.purposes import Purpose
from common.network import Custodian, FundParameters, NetworkProfile
from common.parameters import next_set
from common.units import FLOP, Did
from dux_flopd.channel_rules import check_channel, check_own_side, extra_fee, fee_coin, may_sign
from dux_flopd.contract_rules import check_network
from dux_flopd.model import Coin, ContractKeyRow, OwnCoin
from tests.chain.contract_kit import make_contract, public_key
from tests.chain.test_channel import TIP, terms

FUND = FundParameters(threshold=1, custodians=(Custodian(did=Did("did:c"), pubkey=public_key("custodian").hex()),))
NETWORK = NetworkProfile(name="tests", chain="embedded", genesis="1f" * 32, heights="main", fund=FUND)
TERMS = terms(fund_script=fund_script_of(FUND))


def test_only_our_network_and_sound_terms() -> None:
    """Another chain, fund, tax or profile, or a broken law: the wallet takes no part."""
    check_channel(TERMS, NETWORK, TIP)
    for change in ({"network": "2f" * 32}, {"fund_script": b"x"}, {"tax_bps": 400}, {"window": 99}):
        with pytest.raises(NotAgreed):
            check_channel(msgspec.structs.replace(TERMS, **change), NETWORK, TIP)


def test_terms_of_an_earlier_parameter_set_stay_ours() -> None:
    """What was agreed before the later set began is adopted and restored; a tax of no set is refused."""
    later = next_set(NETWORK.first_parameters, from_height=9, tax_bps=450)
    network = msgspec.structs.replace(NETWORK, tax_bps=450, parameter_sets=(NETWORK.first_parameters, later))
    check_channel(TERMS, network, TIP)
    check_channel(msgspec.structs.replace(TERMS, tax_bps=450), network, TIP)
    with pytest.raises(NotAgreed, match="its tax"):
        check_channel(msgspec.structs.replace(TERMS, tax_bps=400), network, TIP)
    fund = msgspec.structs.replace(make_contract().contract, fund_script=fund_script_of(FUND), network=network.genesis)
    check_network(msgspec.structs.replace(fund, heights_profile="main", tax_bps=500), network)
    with pytest.raises(NotAgreed, match="its tax"):
        check_network(msgspec.structs.replace(fund, heights_profile="main", tax_bps=400), network)


def test_only_our_key_made_for_this() -> None:
    """The key's number, side and script fit, and it is bound to no other channel."""
    key = ContractKeyRow(4, "payer", bytes(32), "")
    fits = {"pubkey": TERMS.payer_key, "script": TERMS.change_script, "index": 4}
    check_own_side(TERMS, "payer", key, **fits)
    check_own_side(TERMS, "payee", ContractKeyRow(5, "payee", bytes(32), ""), pubkey=TERMS.payee_key,
                   script=TERMS.payout_script, index=5)  # fmt: skip
    with pytest.raises(KeyNotOurs):
        check_own_side(TERMS, "payer", None, **fits)
    with pytest.raises(KeyUsed):
        check_own_side(TERMS, "payer", msgspec_free(key, "9f" * 32), **fits)
    with pytest.raises(KeyNotOurs):
        check_own_side(TERMS, "payer", key, **{**fits, "script": pay_to_key(public_key("stranger"))})


def msgspec_free(key: ContractKeyRow, cid: str) -> ContractKeyRow:
    return ContractKeyRow(key.index, key.purpose, key.nonce, cid)


def test_each_side_signs_its_own_messages() -> None:
    """A payer's key never signs an answer, a payee's never a hello, and neither anything else."""
    assert may_sign("payer", Purpose.CHANNEL_HELLO)
    assert may_sign("payee", Purpose.CHANNEL_ANSWER)
    assert not may_sign("payer", Purpose.CHANNEL_ANSWER)
    assert not may_sign("payee", Purpose.CHANNEL_VOUCHER)
    assert not may_sign("stranger", Purpose.CHANNEL_HELLO)


def test_fees_of_steps() -> None:
    """The ladder's rungs, the last one over and over; the smallest confirmed coin that pays it, never a large one."""
    assert [extra_fee(1_000_000, step) for step in (0, 1, 2, 9)] == [0, 3_000_000, 15_000_000, 15_000_000]
    assert fee_coin([], 3_000_000, 100, 1, earned_florins=FLOP) is None
    coins = [own(1, 2_000_000), own(2, 50 * FLOP), own(3, 9_000_000), own(4, 4_000_000, height=None), own(5, 8_000_000)]
    found = fee_coin(coins, 3_000_000, 100, 1, earned_florins=FLOP)
    assert found is not None
    assert found.coin.value == 8_000_000


def test_a_fee_never_takes_the_owner_s_coins_nor_more_than_the_close_earns() -> None:
    """Coins of accounts 1 and 9 stay where they are; none is burnt that is worth the payee's whole part."""
    private = [own(1, 4_000_000, account=1), own(2, 4_000_000, account=TOKEN_ACCOUNT)]
    assert fee_coin(private, 3_000_000, 100, 1, earned_florins=FLOP) is None
    found = fee_coin([*private, own(3, 5_000_000)], 3_000_000, 100, 1, earned_florins=FLOP)
    assert found is not None
    assert found.account == 0
    assert fee_coin([own(3, 5_000_000)], 3_000_000, 100, 1, earned_florins=5_000_000) is None
    assert fee_coin([own(3, 5_000_000)], 3_000_000, 100, 1, earned_florins=5_000_001) is not None


def own(number: int, value: int, height: int | None = 9, account: int = 0) -> OwnCoin:
    point = Outpoint(f"{number:064x}", 0)
    return OwnCoin(
        Coin(point, b"s", value, height, 0, is_coinbase=False), account << ACCOUNT_SHIFT, number, is_locked=False
    )

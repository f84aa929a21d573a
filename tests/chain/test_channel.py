"""A channel's transactions: bytes as a library makes them, scripts as the judge wants them, laws of its terms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from bitcoin.core.script import CScript, SignatureHash

from common.chain.address import pay_to_key, pay_to_script
from common.chain.channel import (
    HASH_TYPE_STATE,
    BadState,
    ChannelTerms,
    channel_output_script,
    channel_script,
    chid,
    close_sig,
    is_state_signature,
    refund_fee,
    refund_sig,
    refund_tx,
    script_of,
    shares_of,
    state_digest,
    state_fee,
    state_tx,
    usable,
    whole_digest,
)
from common.chain.channel_close import Close, read_close
from common.chain.channel_heights import (
    DEMO,
    MAIN,
    Cap,
    channel_profile,
    profile_problems,
    terms_problems,
)
from common.chain.heights import UnknownHeights
from common.chain.script import BadScript
from common.chain.tx import Outpoint, TxOutput, _library_form, serialize
from common.chain.verify import SpendRefused, verify_spend
from common.contracts.peer_channel import OpenReq
from common.units import FLOP, Florins
from dux_escrowd.channel.agree import offered_problem, rules_of, terms_for
from tests.chain.contract_kit import private_key, public_key

POINT = Outpoint("ab" * 32, 1)
VALUE = 10 * FLOP
TIP = 1_000


def terms(**changes: Any) -> ChannelTerms:
    made = ChannelTerms(
        version=1, network="1f" * 32, payer="did:a", payee="did:b", payer_key=public_key("payer"),
        payee_key=public_key("payee"), change_script=pay_to_key(public_key("change")),
        payout_script=pay_to_key(public_key("payout")), fund_script=pay_to_script(b"fund"), tax_bps=500,
        developer_script=b"", royalty_bps=0, fee_rate_florins_per_kb=1_200_000, cap_florins=Florins(VALUE),
        exp=TIP + 10_080, profile="main", window=32, mirror_florins=Florins(FLOP), limit_florins=Florins(100 * FLOP),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


WITH_ROYALTY = terms(developer_script=pay_to_key(public_key("developer")), royalty_bps=1_000)


def signed(name: str, digest: bytes) -> bytes:
    return private_key(name).sign(digest, hasher=None)


@pytest.mark.parametrize("made", [terms(), WITH_ROYALTY])
@pytest.mark.parametrize("cum", [0, FLOP // 5, 5 * FLOP, VALUE - 1_000_000, VALUE - 1_500_000])
def test_the_digest_is_the_librarys(made: ChannelTerms, cum: int) -> None:
    """The bytes put together by hand hash like python-bitcoinlib's, for every shape of a state."""
    tx = state_tx(made, POINT, VALUE, cum)
    assert state_digest(made, POINT, VALUE, cum) == SignatureHash(CScript(script_of(made)), _library_form(tx), 0, 0x81)


@pytest.mark.parametrize("made", [terms(), WITH_ROYALTY])
def test_shares_add_up(made: ChannelTerms) -> None:
    """Five per cent of what was paid to the fund, the royalty out of the provider's part, nothing made or lost."""
    payee, fund, developer, payer = shares_of(made, VALUE, 4 * FLOP)
    assert payee + fund + developer == 4 * FLOP
    assert fund == FLOP // 5
    assert developer == (int(3.8 * FLOP) // 10 if made.developer_script else 0)
    assert payer == VALUE - 4 * FLOP - int(state_fee(made))


def test_a_royalty_that_would_be_dust_stays_with_the_provider() -> None:
    """Under 0.01 FLOP no output is made; the node's books carry it."""
    assert shares_of(msgspec.structs.replace(WITH_ROYALTY, royalty_bps=100), VALUE, FLOP // 5)[2] == 0


@pytest.mark.parametrize("cum", [-1, 1, FLOP // 5 - 1, VALUE])
def test_impossible_states(cum: int) -> None:
    """Below the first voucher, or more than the coin carries."""
    with pytest.raises(BadState):
        state_tx(terms(), POINT, VALUE, cum)


def test_nothing_left_is_no_transaction() -> None:
    """A coin as small as its fee has no way out of value."""
    with pytest.raises(BadState):
        state_tx(terms(), POINT, 1_000_000, 0)
    with pytest.raises(BadState):
        refund_tx(terms(), POINT, 1_500_000, 1_000_000)


def test_the_judge_takes_close_and_refund_and_no_forgery() -> None:
    """Both signatures close, the payer's alone refunds; a stranger, another state or one signature do not."""
    made, spent = terms(), [TxOutput(Florins(VALUE), channel_output_script(terms()))]
    bare = state_tx(made, POINT, VALUE, 5 * FLOP)
    payer = signed("payer", state_digest(made, POINT, VALUE, 5 * FLOP)) + HASH_TYPE_STATE
    payee = signed("payee", whole_digest(made, bare)) + b"\x01"
    verify_spend(bare.signed([close_sig(script_of(made), payer, payee)]), spent)
    other = state_tx(made, POINT, VALUE, 6 * FLOP)
    for sigs in ((payer, payer), (payee, payer)):
        with pytest.raises(SpendRefused):
            verify_spend(bare.signed([close_sig(script_of(made), *sigs)]), spent)
    with pytest.raises(SpendRefused):
        verify_spend(other.signed([close_sig(script_of(made), payer, payee)]), spent)
    back = refund_tx(made, POINT, VALUE, int(refund_fee(made)))
    own = signed("payer", whole_digest(made, back)) + b"\x01"
    verify_spend(back.signed([refund_sig(script_of(made), own)]), spent)


def close_of(made: ChannelTerms, by: tuple[str, str] = ("payer", "payee"), point: Outpoint = POINT) -> bytes:
    """A close at 5 FLOP of the coin that is said to be there, signed by these."""
    bare = state_tx(made, point, VALUE, 5 * FLOP)
    payer = signed(by[0], state_digest(made, point, VALUE, 5 * FLOP)) + HASH_TYPE_STATE
    payee = signed(by[1], whole_digest(made, bare)) + b"\x01"
    return serialize(bare.signed([close_sig(script_of(made), payer, payee)]))


def test_a_close_names_its_channel() -> None:
    """Whoever is neither party reads channel, coin and EXP out of the bytes, on this network alone."""
    found = read_close(close_of(terms()), terms().network)
    assert found == Close(chid(terms()), channel_output_script(terms()), terms().exp)
    assert read_close(close_of(terms()), "2e" * 32).chid != chid(terms())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 60,
        close_of(terms(), ("payee", "payee")),
        close_of(terms(), ("payer", "payer")),
        close_of(terms())[:-9],
        serialize(state_tx(terms(), POINT, VALUE, 5 * FLOP)),
        serialize(state_tx(terms(), POINT, VALUE, 0).signed([refund_sig(script_of(terms()), b"s" * 71)])),
        serialize(state_tx(terms(), POINT, VALUE, 0).signed([close_sig(b"\x51" * 10, b"s" * 71, b"s" * 71)])),
        serialize(state_tx(terms(), POINT, VALUE, 0).signed([close_sig(script_of(terms()) + b"\x61", b"s", b"s")])),
        serialize(
            state_tx(terms(), POINT, VALUE, 0).signed([bytes(CScript([b"s" * 71, b"s" * 71, 2, script_of(terms())]))])
        ),
    ],
)
def test_what_is_no_close_is_named_so(raw: bytes) -> None:
    """Neither junk, nor a refund, nor one party's signature twice, nor another script."""
    with pytest.raises(BadState):
        read_close(raw, terms().network)


def test_state_signatures() -> None:
    """The key's, with its hash type, of exactly this digest."""
    digest = state_digest(terms(), POINT, VALUE, FLOP)
    good = signed("payer", digest) + HASH_TYPE_STATE
    assert is_state_signature(public_key("payer"), digest, good)
    assert not is_state_signature(public_key("payee"), digest, good)
    assert not is_state_signature(public_key("payer"), digest, good[:-1] + b"\x01")
    assert not is_state_signature(b"\x02" * 33, digest, b"\x30" + HASH_TYPE_STATE)


def test_ids_and_scripts() -> None:
    """78 bytes at ordinary heights; the id binds network and script; bad keys and heights make none."""
    assert len(script_of(terms())) == 78
    assert chid(terms()) != chid(terms(network="2f" * 32))
    assert chid(terms()) != chid(terms(exp=TIP + 10_081))
    assert usable(terms(), 1) == 0
    for bad in ((b"x", public_key("payee"), 9), (public_key("payer"), public_key("payee"), 0)):
        with pytest.raises(BadScript):
            channel_script(*bad)


@pytest.mark.parametrize("profile", [MAIN, DEMO])
def test_profiles_are_sound(profile: Any) -> None:
    """Every inequality holds, and a broken one is named."""
    assert profile_problems(profile) == []
    assert profile_problems(msgspec.structs.replace(profile, margin_blocks=1, caps=(Cap(6, 1), Cap(1, 2))))
    assert channel_profile(profile.name) is profile
    with pytest.raises(UnknownHeights):
        channel_profile("none")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"payee": "did:a"}, {"payer_key": b"\x05" * 33}, {"payee_key": public_key("payer")},
        {"change_script": b"x"}, {"cap_florins": Florins(FLOP)}, {"cap_florins": Florins(20_000 * FLOP)},
        {"exp": TIP + 5}, {"window": 0}, {"window": 33}, {"royalty_bps": 5}, {"tax_bps": 0},
        {"developer_script": b"x"}, {"mirror_florins": Florins(0)},
    ],
)  # fmt: skip
def test_terms_that_nobody_enters(change: dict[str, Any]) -> None:
    """Each law of the terms is named when it is broken."""
    assert terms_problems(terms(), TIP) == terms_problems(WITH_ROYALTY, TIP) == []
    assert len(terms_problems(terms(**change), TIP)) >= 1


def test_the_payee_cannot_change_the_wish() -> None:
    """What is offered is what was asked for, but for the payee's own key, script and limits."""
    made = terms()
    wish = OpenReq(
        nonce=bytes(32), network=made.network, payer_key=made.payer_key, change_script=made.change_script,
        fund_script=made.fund_script, tax_bps=made.tax_bps, developer_script=b"", royalty_bps=0,
        fee_rate_florins_per_kb=made.fee_rate_florins_per_kb, cap_florins=made.cap_florins, exp=made.exp,
        profile=made.profile,
    )  # fmt: skip
    same = terms_for(
        wish, payer="did:a", payee="did:b", payee_key=made.payee_key, payout_script=made.payout_script, window=32,
        mirror_florins=FLOP, limit_florins=100 * FLOP,
    )  # fmt: skip
    assert same == made
    assert offered_problem(wish, made, payer="did:a", payee="did:b", tip=TIP) == ""
    assert "changed" in offered_problem(wish, terms(tax_bps=400), payer="did:a", payee="did:b", tip=TIP)
    assert "not so" in offered_problem(wish, terms(window=0), payer="did:a", payee="did:b", tip=TIP)
    rules = rules_of(made, rerun=True)
    assert (rules.zone, rules.margin, rules.fee_florins, rules.rerun) == (288, 300, 1_000_000, True)

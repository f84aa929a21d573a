"""The fund's keepers among real daemons on a real chain: sweeps, rotation, dead custodians, liars, key ceremonies."""

from __future__ import annotations

import msgspec
import pytest
from coincurve import PrivateKey

from common.ceremony import (
    CeremonyPlan,
    FundClaim,
    FundWord,
    Roster,
    claim_digest,
    plan_id,
    plan_problem,
    roster_problem,
    script_of_words,
    word_problem,
)
from common.chain.fund import payout_problems
from common.chain.tx import TxOutput
from common.codec import canonical, from_canonical
from common.community_fund import fund_scripts_of, script_of
from common.contracts import airdrop_fund as af
from common.contracts.airdrop import Phase
from common.contracts.p2p import PeerCall
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_airdrop import CEREMONY, SWEEP, CeremonyAsk, SweepCall
from common.errors import BadParams
from common.parameters import SweepParameters
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_airdropd.model import FundCoin, SweepCoin, SweepProof, SweepSource
from dux_airdropd.sweep_rules import accounts_of, plan_sweep, sweep_height, sweep_problems
from dux_sim.chain import audit
from tests.airdrop.conftest import Made
from tests.airdrop.test_airdrop_rules import FUND, KEYS, LARGE_FUND, NETWORK, coin, did
from tests.airdrop.world import World

SWEEP_SOON = SweepParameters(every_blocks=4, least_florins=Florins(FLOP))


async def accounts(world: World, node: int = 0) -> af.FundAccounts:
    """The fund's books as one node has them; they close."""
    told = await world.nodes[node].ask(af.FUND_ACCOUNTS, Empty())
    assert told.difference_florins == 0
    return told


async def test_taxes_go_to_a_collector_are_swept_and_handed_back_by_eight_of_fifteen(make: Made) -> None:
    """2 of 3 collect, 8 of 15 keep: with seven custodians dead the sweep comes in and the airdrop goes out."""
    world = await make(nodes=15, custodians=15, needed=8, collector=(2, 3), fund=98 * FLOP, sweep=SWEEP_SOON)
    assert world.collector is not None
    for node in world.nodes[8:]:
        await node.stop()
    world.announce(*range(8))
    world.trade(0, 1, 30 * FLOP)
    world.trade(2, 3, 30 * FLOP)
    assert world.balance(script_of(world.collector)) == 3 * FLOP
    await world.run(8)
    assert world.balance(script_of(world.collector)) == 0, "swept"
    told = await accounts(world)
    assert told.swept_florins + told.sweep_fees_florins == 3 * FLOP
    await world.run(14)
    assert {world.paid(n) > 24 * FLOP for n in range(4)} == {True}
    told = await accounts(world)
    assert told.fund_florins == told.collectors_florins == 0
    assert told.paid_florins == sum(world.paid(n) for n in range(4))
    assert audit.supply_of(world.chain.chain).conserved
    (sweep,) = (await world.nodes[0].ask(af.FUND_SWEEPS, af.SweepsAsked())).sweeps
    assert (sweep.inputs, sweep.fee_florins, sweep.txid != "") == (2, told.sweep_fees_florins, True)
    assert (await world.nodes[0].status()).phase is Phase.WATCHING


async def test_custodians_are_rotated_by_sweeping_the_old_script(make: Made) -> None:
    """What lies with the custodians before, and what late payers still send there, goes to the new script."""
    world = await make(nodes=4, custodians=3, before=(2, 3), fund=FLOP, sweep=SWEEP_SOON)
    assert world.before is not None
    old = script_of(world.before)
    assert old in fund_scripts_of(world.network.fund)
    world.pay_fund(40 * FLOP, old)
    await world.run(9)
    assert world.balance(old) == 0
    world.pay_fund(FLOP // 2, old)
    await world.run(9)
    assert world.balance(old) == 0, "a late payment follows, below a collector's least sum"
    told = await accounts(world)
    assert told.fund_florins + told.sweep_fees_florins == FLOP + 40 * FLOP + FLOP // 2


async def test_a_keeper_takes_signatures_for_its_own_sweep_only(make: Made) -> None:
    """A lying keeper's signatures are refused, a stranger's too; with one honest pair the sweep comes all the same."""
    world = await make(nodes=4, custodians=3, collector=(2, 3), fund=FLOP, sweep=SWEEP_SOON)
    assert world.collector is not None
    script = script_of(world.collector)
    refused: list[str] = []

    def tampered(sender: str, call: PeerCall) -> PeerCall:
        if call.method != SWEEP.name or sender != world.nodes[2].did:
            return call
        told = from_canonical(call.params, SweepCall, max_bytes=10**5)
        wrong = tuple(b"\x30" + one[1:-2] + b"\x00\x01" for one in told.signatures)
        forged = msgspec.structs.replace(told, signatures=wrong)
        refused.append(sender)
        return msgspec.structs.replace(call, params=canonical(forged))

    world.tamper = tampered  # type: ignore[assignment]
    world.pay_fund(3 * FLOP, script)
    await world.run(7)
    assert refused
    assert world.balance(script) == 0
    for node in world.nodes[:2]:
        (view,) = (await node.ask(af.FUND_SWEEPS, af.SweepsAsked())).sweeps
        assert view.signatures == 2, "the forged ones are not among them"
    stranger = PeerCall(did=world.nodes[0].did, method=SWEEP.name, deadline_ms=1000,
                        params=canonical(SweepCall(script, 4, "0c" * 32, (b"x",))))  # fmt: skip
    with pytest.raises(PeerAnswered, match="custodian"):
        await world.carry(world.nodes[3].did, stranger)


async def test_a_key_ceremony_ends_with_one_script_that_everybody_can_check(make: Made) -> None:
    """Each makes a key, shows that it holds it, and agrees to the same script; until all have, nobody has a roster."""
    world = await make(nodes=4, custodians=3)
    members = [node.did for node in world.nodes]
    wish = af.CeremonyJoin(request_id="join", name="2027", needed=3, members=members, key_number=1)
    for node in world.nodes[:3]:
        await node.ask(af.CEREMONY_JOIN, wish)
    await world.run(2)
    (state,) = (await world.nodes[0].ask(af.CEREMONY_SHOW, Empty())).ceremonies
    assert (state.keys_missing, state.address, state.roster) == ([members[3]], "", b"")
    await world.nodes[3].ask(af.CEREMONY_JOIN, wish)
    await world.run(3)
    states = [(await node.ask(af.CEREMONY_SHOW, Empty())).ceremonies[0] for node in world.nodes]
    assert len({one.address for one in states}) == 1
    assert states[0].address
    assert len({one.roster for one in states}) == 1
    roster = from_canonical(states[0].roster, Roster, max_bytes=10**5)
    assert roster_problem(roster, world.network.genesis) == ""
    ask = PeerCall(did=members[0], method=CEREMONY.name, deadline_ms=1000, params=canonical(CeremonyAsk(b"\x01" * 32)))
    with pytest.raises(PeerAnswered, match="ceremony"):
        await world.carry(members[1], ask)
    with pytest.raises(BadParams, match="no member"):
        await world.nodes[0].ask(af.CEREMONY_JOIN, msgspec.structs.replace(wish, members=members[1:], request_id="x"))


# pure

COLLECTOR = SweepSource(2, KEYS, FLOP)


def swept(coins: list[FundCoin], source: SweepSource = COLLECTOR, height: int = 100) -> object:
    return plan_sweep(source, coins, height, "0c" * 32, network=NETWORK, target=FUND)


def test_a_sweep_is_worth_it_or_waits() -> None:
    """Too little waits; what costs more to spend than it holds stays; the rest is one output and the stated fee."""
    assert swept([coin(1, FLOP - 1)]) is None
    assert swept([]) is None
    assert swept([coin(1, 5 * FLOP, height=101)]) is None, "younger than the period"
    made = plan_sweep(COLLECTOR, [coin(1, 5 * FLOP), coin(2, 300_000)], 100, "0c" * 32, network=NETWORK, target=FUND)
    assert made is not None
    assert len(made.inputs) == 1
    assert payout_problems(made) == []
    old = SweepSource(2, KEYS, 0)
    assert swept([coin(1, FLOP // 51)], old) is None, "an output below the smallest one is never made"
    assert swept([coin(1, FLOP // 10)], old) is not None


def test_the_largest_sweep_is_a_standard_transaction() -> None:
    """Of 120 coins with 15 keepers 86 go at once (signatures at their largest), the most valuable ones."""
    vault = SweepSource(8, LARGE_FUND.pubkeys, 0)
    made = plan_sweep(vault, [coin(n, FLOP + n) for n in range(120)], 100, "0c" * 32, network=NETWORK, target=FUND)
    assert made is not None
    assert len(made.inputs) == 86
    assert payout_problems(made) == []
    assert min(int(item.value_florins) for item in made.inputs) == FLOP + 34


def test_periods_begin_when_they_lie_deep() -> None:
    """The latest multiple that lies so deep; none before the first."""
    assert [sweep_height(tip, 2, 10) for tip in (9, 10, 11, 20, 21)] == [None, None, 10, 10, 20]


def proof_of(**changes: object) -> SweepProof:
    coins = [coin(1, 5 * FLOP), coin(2, 3 * FLOP)]
    payout = plan_sweep(COLLECTOR, coins, 100, "0c" * 32, network=NETWORK, target=FUND)
    assert payout is not None
    lay = tuple(sweep_coin(one) for one in coins)
    made = SweepProof(NETWORK, 2, KEYS, 100, "0c" * 32, lay, payout, "ab" * 32, 105)
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def sweep_coin(one: FundCoin) -> SweepCoin:
    return SweepCoin(one.outpoint, Florins(one.value_florins), one.height or 0)


def test_a_sweeps_proof_is_recomputed() -> None:
    """Another network, another script, coins left out, worthless coins: each has its word."""

    def problems(proof: SweepProof) -> list[str]:
        return sweep_problems(proof, network=NETWORK, sources=[COLLECTOR], target=FUND)

    assert problems(proof_of()) == []
    assert "another network" in problems(proof_of(network="00" * 32))[0]
    assert "no collector" in problems(proof_of(needed=1))[0]
    assert "not what its coins give" in problems(proof_of(coins=proof_of().coins[:1]))[0]
    assert "not worth" in problems(proof_of(coins=()))[0]
    assert "not what" in problems(proof_of(block_hash="11" * 32))[0]


def test_the_books_close_to_the_florin() -> None:
    """Nothing, a coin that waits, a sweep, a payout with change: received = paid + fees + what lies there."""
    pay, other = TxOutput(Florins(6 * FLOP), b"node"), TxOutput(Florins(3 * FLOP), FUND)
    into = TxOutput(Florins(9 * FLOP), FUND)
    collector = [coin(1, 10 * FLOP, spent_height=9, spent_txid="s", spent_outputs=(into,)), coin(2, FLOP)]
    vault = [
        coin(3, 9 * FLOP, spent_height=12, spent_txid="p", spent_outputs=(pay, other)), coin(4, 3 * FLOP),
        coin(5, 7 * FLOP, height=None),
    ]  # fmt: skip
    books = accounts_of(vault, [collector], FUND)
    assert (books.received_florins, books.swept_florins, books.paid_florins) == (11 * FLOP, 9 * FLOP, 6 * FLOP)
    assert (books.sweep_fees_florins, books.payout_fees_florins) == (FLOP, 0)
    assert (books.fund_florins, books.collectors_florins) == (3 * FLOP, FLOP)


SECRETS = [PrivateKey(bytes([n]) * 32) for n in (1, 2)]


def roster_of() -> Roster:
    """A sound ceremony of two."""
    members = tuple(sorted((did(1), did(2))))
    plan = CeremonyPlan(NETWORK, "x", 2, members, 0)
    keys = dict(zip(members, (one.public_key.format() for one in SECRETS), strict=True))
    script = script_of_words(plan, keys)

    def words(told: bytes) -> tuple[FundWord, ...]:
        claims = [FundClaim(plan_id(plan), name, keys[name], told) for name in members]
        pairs = zip(claims, SECRETS, strict=True)
        return tuple(FundWord(one, key.sign(claim_digest(one), hasher=None) + b"\x01") for one, key in pairs)

    return Roster(plan, words(b""), words(script))


def test_a_roster_with_one_thing_wrong_makes_no_fund() -> None:
    """A missing word, a foreign signature, one key twice, another script, disordered members: each is told."""
    good = roster_of()
    change = msgspec.structs.replace
    assert roster_problem(good, NETWORK) == ""
    assert "another network" in roster_problem(good, "00" * 32)
    assert "missing" in roster_problem(change(good, keys=good.keys[:1]), NETWORK)
    assert "signature" in roster_problem(
        change(good, keys=(change(good.keys[0], signature=b"x"), good.keys[1])), NETWORK
    )
    assert "another member" in roster_problem(change(good, keys=good.keys[::-1]), NETWORK)
    assert "another script" in roster_problem(change(good, agreements=good.keys), NETWORK)
    assert "no word about a key" in roster_problem(change(good, keys=good.agreements), NETWORK)
    twin = change(good.keys[1], claim=change(good.keys[1].claim, pubkey=good.keys[0].claim.pubkey))
    twin = change(twin, signature=SECRETS[0].sign(claim_digest(twin.claim), hasher=None) + b"\x01")
    assert "one key" in roster_problem(change(good, keys=(good.keys[0], twin)), NETWORK)
    other = change(good.agreements[1], claim=change(good.agreements[1].claim, pubkey=good.keys[0].claim.pubkey))
    other = change(other, signature=SECRETS[0].sign(claim_digest(other.claim), hasher=None) + b"\x01")
    assert "another key" in roster_problem(change(good, agreements=(good.agreements[0], other)), NETWORK)
    assert "another network" in roster_problem(change(good, plan=change(good.plan, network="00" * 32)), NETWORK)
    assert "order" in plan_problem(change(good.plan, members=good.plan.members[::-1]), NETWORK)
    assert "more signatures" in plan_problem(change(good.plan, needed=3), NETWORK)
    bad = change(good.keys[0], claim=change(good.keys[0].claim, pubkey=b"\x05" * 33))
    assert "key is none" in word_problem(bad, good.plan, good.plan.members[0], b"")

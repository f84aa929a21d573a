"""Checking a public proof file: everything is computed again from what it shows, and every lie has its words.

Pure: bytes in, a verdict out. Nothing in the file is believed but what its headers, signatures and hashes bind; what is
still taken on trust is told in `notes` and `chain_notes`. Source: money.md §6 ("the proof file lets anyone recompute
it").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from common.chain.fund import FundPayout, payout_tx
from common.chain.tx import Outpoint, Tx, TxOutput
from common.chain.verify import SpendRefused, verify_spend
from common.codec import from_canonical, from_json
from common.community_fund import swept_quorums, tax_scripts_of, vault_script_of
from common.contracts.airdrop import PROOF_BYTES_MAX, Phase
from common.errors import BadParams, DuxError
from common.identity.keys import is_signed
from common.identity.log import Log, decode_log, was_valid
from common.network import NetworkProfile, first_problem
from common.parameters import ParameterSet, chain_problem, in_force
from common.receipts import Heartbeat, SettledReceipt
from common.units import BlockHeight, Did, Florins
from dux_airdropd import rules
from dux_airdropd.evidence_rules import PURPOSES, in_order, item_fault, item_id, open_bond, open_item, shape_fault
from dux_airdropd.evidence_rules import witness_of as witness
from dux_airdropd.figures import figures_of
from dux_airdropd.file_chain import FileChain
from dux_airdropd.file_model import FILE_BYTES_MAX, FILE_FORM, FundFile
from dux_airdropd.model import (
    NOTHING_CARRIED,
    Carried,
    Facts,
    Figures,
    FundCoin,
    Item,
    Kind,
    Plan,
    Proof,
    Round,
    SweepProof,
    SweepSource,
    Window,
)
from dux_airdropd.payout_rules import NothingToPay, available
from dux_airdropd.sweep_rules import source_script, sweep_problems

NOW_MS = 2**53  # whoever checks a file has no clock to distrust its logs by


class Outcome(msgspec.Struct, frozen=True):
    """What an airdrop leaves to the next: who checks a chain of files hands it on."""

    proof_hash: bytes
    number: int
    cutoff_height: int
    paid_height: int
    ledger: dict[Did, int]
    carried: Carried


class Verdict(msgspec.Struct):
    """What came of checking a file; without problems it holds."""

    kind: str = ""
    network: str = ""
    number: int = -1
    txid: str = ""
    height: int = -1
    nodes: int = 0
    spent_florins: int = 0
    paid_florins: int = 0
    fee_florins: int = 0
    problems: list[str] = []
    notes: list[str] = []
    chain_notes: list[str] = []  # what stays on trust until a coin node's own blocks were read
    outcome: Outcome | None = None
    chain: FileChain | None = None
    cutoff: int = 0
    script: bytes = b""

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems


def check_file(
    data: bytes, *, kind: str, trusted: NetworkProfile | None = None, before: Outcome | None = None,
    asns: Mapping[str, int] | None = None,
) -> Verdict:  # fmt: skip
    """Check a file. `trusted`: the checker's own copy of the profile; `before`: the outcome of the file before."""
    verdict = Verdict(problems=[], notes=[], chain_notes=[])
    try:
        file = from_canonical(data, FundFile, max_bytes=FILE_BYTES_MAX)
        profile = _profile(file, trusted, verdict)
        verdict.kind, verdict.network = file.kind, profile.genesis
        if file.form != FILE_FORM or file.kind != kind:
            verdict.problems.append(f"it is a file of form {file.form} about a {file.kind}, not of 1 about {kind}")
            return verdict
        verdict.chain = chain = FileChain(file, profile.genesis)
        verdict.problems += chain.problems
        if chain.low:
            low = f"its headers begin at height {chain.low}: a coin node knows the first (--coin-node)"
            verdict.chain_notes.append(low)
        if chain.merge_mined:
            work = f"the work of {chain.merge_mined} headers stands in another chain (--coin-node)"
            verdict.chain_notes.append(work)
        if kind == "airdrop":
            proof = from_canonical(file.proof, Proof, max_bytes=PROOF_BYTES_MAX)
            _Airdrop(file, proof, profile, chain, verdict, asns or {}).check(before)
        else:
            _check_sweep(from_canonical(file.proof, SweepProof, max_bytes=PROOF_BYTES_MAX), profile, chain, verdict)
    except (DuxError, ValueError) as error:
        verdict.problems.append(f"it is no proof file that this version reads: {error}")
    return verdict


def _profile(file: FundFile, trusted: NetworkProfile | None, verdict: Verdict) -> NetworkProfile:
    """The network's profile, under the parameter sets that the file has."""
    profile = from_json(file.profile, NetworkProfile)
    sets = from_json(file.sets, tuple[ParameterSet, ...])
    problem = first_problem(profile)
    if problem:
        raise BadParams(detail=problem)
    if sets:
        version, problem = chain_problem(sets, profile.genesis, is_main=profile.is_main)
        if problem or sets[0] != profile.first_parameters:
            raise BadParams(detail=f"parameter set {version or 1}: {problem or 'it is not what the profile says'}")
        profile = msgspec.structs.replace(profile, parameter_sets=sets)
    if trusted is None:
        verdict.notes.append("profile and parameters are the file's own: compare them with yours (--profile)")
    elif profile.as_signed != trusted.as_signed:
        verdict.problems.append("its network profile is not the one you trust")
    elif sets != trusted.parameter_sets[: len(sets)]:
        verdict.problems.append("its parameter sets are not those you trust")
    return profile


class _Airdrop:
    """One airdrop's file."""

    def __init__(
        self, file: FundFile, proof: Proof, profile: NetworkProfile, chain: FileChain, verdict: Verdict,
        asns: Mapping[str, int],
    ) -> None:  # fmt: skip
        self.file, self.proof, self.profile, self.chain, self.verdict = file, proof, profile, chain, verdict
        self.proposal = proof.proposal
        sets = profile.parameter_sets or (profile.first_parameters,)
        self.figures: Figures = figures_of(profile, in_force(sets, self.proposal.cutoff_height))
        self.vault = vault_script_of(profile.fund)
        self.asns = asns

    def check(self, before: Outcome | None) -> None:
        """All of it."""
        told, verdict = self.proposal, self.verdict
        verdict.number, verdict.txid, verdict.height = told.number, self.proof.txid, self.proof.paid_height
        verdict.cutoff, verdict.script = told.cutoff_height, self.vault
        self._check_place()
        self._check_before(before)
        coins = self.chain.coins(self.vault)
        plan = self._recomputed(coins)
        self._check_payment(coins)
        if plan is not None:
            verdict.nodes = len(plan.lines)
            verdict.spent_florins, verdict.paid_florins = plan.spent_florins, plan.paid_florins
            verdict.fee_florins = plan.fee_florins
            ledger = {line.did: int(line.florins) for line in plan.ledger_after}
            name = hashlib.sha256(self.file.proof).digest()
            verdict.outcome = Outcome(
                name, told.number, told.cutoff_height, self.proof.paid_height, ledger, plan.carried_after
            )

    def _wrong(self, problem: str) -> None:
        self.verdict.problems.append(problem)

    def _check_place(self) -> None:
        told, proof = self.proposal, self.proof
        if told.network != self.profile.genesis:
            self._wrong("it belongs to another network")
        if self.chain.block_hash(told.cutoff_height) != told.cutoff_hash:
            self._wrong("its cut-off block is not in the headers")
        if proof.paid_height + self.figures.depth_blocks - 1 > self.chain.top:
            self._wrong("its payment does not lie deep enough in the headers")
        lapse = rules.lapse_height(told.cutoff_height, self.figures)
        if not told.cutoff_height < proof.paid_height <= lapse:
            self._wrong(f"it was not paid between its cut-off and height {lapse}")
        if told.cutoff_height < rules.earliest_cutoff(told.from_height, self.figures):
            self._wrong("its cut-off follows the one before too soon")
        if told.parameters != self.figures.parameters:
            self._wrong(f"parameter set {self.figures.parameters} held at its cut-off, not {told.parameters}")

    def _check_before(self, before: Outcome | None) -> None:
        """What it starts from is what the file before left; nothing, for the first."""
        told = self.proposal
        starts = (told.ledger, told.carried) == ((), NOTHING_CARRIED)
        if not self.file.before:
            if not starts or told.from_height != 0:
                self._wrong("it starts from a ledger, seats or a height, and names no airdrop before it")
        elif before is None:
            self.verdict.notes.append("ledger and seats from before are the file's own: check them with --before FILE")
        elif before.proof_hash != self.file.before:
            self._wrong("the file before is not the one that it names")
        elif {one.did: int(one.florins) for one in told.ledger} != before.ledger or told.carried != before.carried:
            self._wrong("its ledger or its seats are not what the airdrop before left")
        elif told.from_height != before.cutoff_height + 1 or told.number <= before.number:
            self._wrong("it does not count from the cut-off of the airdrop before")

    # evidence

    def _recomputed(self, coins: list[FundCoin]) -> Plan | None:
        """The payout that its evidence gives; None when it gives none."""
        told = self.proposal
        window = Window(
            told.network, self.figures.tax_bps, frozenset(self.profile.arbiters), tax_scripts_of(self.profile.fund),
            told.from_height, told.cutoff_height, told.cutoff_hash, self.profile.taxes_bps,
        )  # fmt: skip
        logs = self._logs()
        for item in told.items:
            fault = self._fault(item, logs, window)
            if fault:
                self._wrong(f"item {item_id(item).hex()[:16]} does not verify: {fault}")
        if told.items != in_order(told.items):
            self._wrong("its evidence is out of order")
        self._check_beacon()
        self._check_cutoff(coins)
        if self.verdict.problems:
            return None
        return self._planned(coins, window)

    def _planned(self, coins: list[FundCoin], window: Window) -> Plan | None:
        told = self.proposal
        mine = Round(
            told.number, BlockHeight(told.from_height), BlockHeight(told.cutoff_height), told.cutoff_hash,
            Phase.PAID,
        )  # fmt: skip
        evidence = {item_id(item): (item, witness(item)) for item in told.items}
        ledger = {one.did: int(one.florins) for one in told.ledger}
        try:
            own, plan = rules.recompute(
                mine, evidence, window, coins, ledger, self.figures, carried=told.carried, beacon=told.beacon,
                asns=self.asns,
            )  # fmt: skip
        except NothingToPay as error:
            self._wrong(error.message)
            return None
        fault = rules.signing_fault(told, own, (), {})
        if fault:
            self._wrong(fault)
        return plan

    def _check_beacon(self) -> None:
        told = self.proposal
        if self.figures.rule != "bonded":
            if told.beacon:
                self._wrong("its rule draws nothing")
            return
        own = self.chain.beacon(told.cutoff_height)
        if own is None:
            self.verdict.notes.append("its draw rests on work that stands in another chain: taken on trust")
        elif own != told.beacon:
            self._wrong("its draw is not the beacon of its cut-off")

    def _check_cutoff(self, coins: list[FundCoin]) -> None:
        told = self.proposal
        owed = sum(int(one.florins) for one in told.ledger)
        if available(coins, told.cutoff_height, owed) < self.figures.threshold_florins:
            self._wrong("the fund had not reached the threshold at its cut-off")

    def _logs(self) -> dict[Did, Log]:
        found: dict[Did, Log] = {}
        for data in self.file.logs:
            try:
                log = decode_log(data, now_ms=NOW_MS, inception_bits=self.profile.inception_bits)
            except DuxError as error:
                self._wrong(f"an event log does not verify: {error.message}")
                continue
            found[log.did] = log
        self.verdict.notes.append("event logs are the file's own: a node knows newer (duxnet identity show DID)")
        return found

    def _fault(self, item: Item, logs: dict[Did, Log], window: Window) -> str:
        fault = shape_fault(item)
        if fault:
            return fault
        if item.kind is Kind.BOND:
            shown, proof = open_bond(item)
            payment = self.chain.payment(proof.bond.outpoint.txid, shown.height)
            return item_fault(item, Facts(signed=True, payment=payment), window)
        envelope, body = open_item(item)
        log = logs.get(envelope.did)
        if log is None:
            return "its signer's event log is missing"
        key = log.key_of(envelope.key_seq)
        signed = key is not None and was_valid(log, envelope.key_seq, body.at_ms)
        signed = signed and key is not None and is_signed(key, PURPOSES[item.kind], envelope.body, envelope.signature)
        block = self.chain.block_hash(body.height) if isinstance(body, Heartbeat) else ""
        payment = self.chain.payment(body.txid, body.height) if isinstance(body, SettledReceipt) else None
        return item_fault(item, Facts(signed, block, payment), window)

    def _check_payment(self, coins: list[FundCoin]) -> None:
        """The transaction on the chain is this payout, and m custodians have signed it."""
        found = self.chain.txs.get(self.proof.txid)
        if found is None or found[0].height != self.proof.paid_height:
            self._wrong("its payment is not in the block that it names")
            return
        check_spend(found[1], self.proposal.payout, {coin.outpoint: coin for coin in coins}, self.vault, self.verdict)


def check_spend(
    tx: Tx, payout: FundPayout, coins: Mapping[Outpoint, FundCoin], script: bytes, verdict: Verdict
) -> None:
    """A transaction is this payout of these coins, signed by enough custodians."""
    wanted = payout_tx(payout)
    if [one.outpoint for one in tx.inputs] != [one.outpoint for one in wanted.inputs] or tx.outputs != wanted.outputs:
        verdict.problems.append("the transaction on the chain is not this payout")
        return
    if not all(one.outpoint in coins for one in tx.inputs):
        verdict.problems.append("it spends a coin that the file does not show")
        return
    spent = [TxOutput(Florins(coins[one.outpoint].value_florins), script) for one in tx.inputs]
    try:
        verify_spend(tx, spent)
    except SpendRefused as error:
        verdict.problems.append(f"too few custodians have signed its payment: {error.message}")


def _check_sweep(proof: SweepProof, profile: NetworkProfile, chain: FileChain, verdict: Verdict) -> None:
    """A sweep: its coins, its one transaction, its place."""
    fund, least = profile.fund, int(profile.parameters.airdrop.sweep.least_florins)
    sources = [
        SweepSource(one.threshold, one.pubkeys, least if one in fund.collectors else 0) for one in swept_quorums(fund)
    ]
    target = vault_script_of(fund)
    verdict.txid, verdict.height, verdict.cutoff = proof.txid, proof.mined_height, proof.height
    verdict.problems += sweep_problems(proof, network=profile.genesis, sources=sources, target=target)
    script = source_script(SweepSource(proof.needed, proof.pubkeys, 0))
    verdict.script = script
    if chain.block_hash(proof.height) != proof.block_hash:
        verdict.problems.append("its period's block is not in the headers")
    shown = {coin.outpoint: coin for coin in chain.coins(script)}
    told = {coin.outpoint: (int(coin.value_florins), coin.height) for coin in proof.coins}
    if told != {point: (coin.value_florins, coin.height) for point, coin in shown.items() if point in told}:
        verdict.problems.append("a coin of it is not on the chain as it says")
    found = chain.txs.get(proof.txid)
    if found is None or found[0].height != proof.mined_height:
        verdict.problems.append("its transaction is not in the block that it names")
        return
    check_spend(found[1], proof.payout, shown, script, verdict)
    verdict.spent_florins = sum(int(item.value_florins) for item in proof.payout.inputs)
    verdict.paid_florins = sum(int(out.value_florins) for out in proof.payout.outputs)
    verdict.fee_florins = verdict.spent_florins - verdict.paid_florins

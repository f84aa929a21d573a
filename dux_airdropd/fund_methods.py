"""RPC handlers of the fund's books, sweeps and key ceremonies: contract in, books and rules, contract out."""

from __future__ import annotations

from common.ceremony import CeremonyPlan, plan_id, script_of_words
from common.chain.address import script_to_address
from common.chain.params import family_named
from common.codec import canonical
from common.contracts import airdrop_fund as fund
from common.contracts.airdrop import NoSuchAirdrop, ProofNotReady
from common.network import NetworkProfile
from common.rpc.method import Done, Empty
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Did, Florins
from dux_airdropd.ceremonies import Ceremonies
from dux_airdropd.effects import Outside
from dux_airdropd.file_maker import FileMaker
from dux_airdropd.model import Figures
from dux_airdropd.store import Books
from dux_airdropd.store_fund import Sweep
from dux_airdropd.sweep_rules import accounts_of, sweep_height
from dux_airdropd.sweeper import Sweeper


class FundMethods:
    """Handlers of airdrop.accounts, airdrop.sweeps, airdrop.ceremon*."""

    def __init__(
        self,
        books: Books,
        outside: Outside,
        sweeper: Sweeper,
        ceremonies: Ceremonies,
        *,
        figures: Figures,
        network: NetworkProfile,
    ) -> None:
        self._books = books
        self._outside = outside
        self._sweeper = sweeper
        self._ceremonies = ceremonies
        self._figures = figures
        self._network = network
        self._maker = FileMaker(outside, network, figures.depth_blocks)

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(fund.FUND_ACCOUNTS, self.accounts)
        table.serve(fund.FUND_SWEEPS, self.sweeps)
        table.serve(fund.SWEEP_FILE, self.sweep_file)
        table.serve(fund.AIRDROP_FILE, self.airdrop_file)
        table.serve(fund.CEREMONY_JOIN, self.join)
        table.serve(fund.CEREMONY_SHOW, self.ceremonies)

    async def accounts(self, _params: Empty, _ctx: Ctx) -> fund.FundAccounts:
        """The fund's books from the chain."""
        scripts = sorted(self._sweeper.keepings)
        vault = await self._outside.coins()
        swept = [await self._outside.coins(script) for script in scripts]
        books = accounts_of(vault, swept, self._figures.fund_script)
        out = (books.paid_florins, books.sweep_fees_florins, books.payout_fees_florins)
        left = sum(map(int, (*out, books.fund_florins, books.collectors_florins)))
        return fund.FundAccounts(
            received_florins=books.received_florins,
            swept_florins=books.swept_florins,
            sweep_fees_florins=books.sweep_fees_florins,
            paid_florins=books.paid_florins,
            payout_fees_florins=books.payout_fees_florins,
            fund_florins=books.fund_florins,
            collectors_florins=books.collectors_florins,
            difference_florins=Florins(int(books.received_florins) - left),
            parameters=self._network.parameters.version,
            addresses=self._addresses(),
        )

    def _addresses(self) -> dict[str, str]:
        fund_ = self._network.fund
        told = {self._figures.fund_script: f"fund, {fund_.threshold} of {len(fund_.custodians)}"}
        for script, keeping in sorted(self._sweeper.keepings.items()):
            told[script] = f"swept into the fund, {keeping.source.needed} of {len(keeping.keys)}"
        return {self._address(script): words for script, words in told.items()}

    def _address(self, script: bytes) -> str:
        return script_to_address(script, family_named(self._network.chain)) or ""

    async def sweeps(self, params: fund.SweepsAsked, _ctx: Ctx) -> fund.Sweeps:
        """Sweeps, newest first."""
        tip, every = (await self._outside.tip()).height, self._network.airdrop.sweep.every_blocks
        last = sweep_height(tip, self._figures.depth_blocks, every) or 0
        found = self._books.sweeps(params.limit)
        return fund.Sweeps(sweeps=[self._view(sweep) for sweep in found], next_height=BlockHeight(last + every))

    def _view(self, sweep: Sweep) -> fund.SweepView:
        swept = sum(int(out.value_florins) for out in sweep.payout.outputs)
        spent = sum(int(item.value_florins) for item in sweep.payout.inputs)
        return fund.SweepView(
            sweep_id=sweep.sweep_id.hex(),
            height=BlockHeight(sweep.height),
            inputs=len(sweep.payout.inputs),
            swept_florins=Florins(swept),
            fee_florins=Florins(spent - swept),
            signatures=len(self._books.sweep_signatures(sweep.sweep_id)),
            needed=sweep.payout.needed,
            txid=sweep.txid,
            mined_height=BlockHeight(sweep.mined_height) if sweep.mined_height is not None else None,
        )

    async def sweep_file(self, params: fund.SweepAsked, _ctx: Ctx) -> fund.SweepProofFile:
        """The public proof file of a sweep."""
        proof = self._books.sweep_proof(bytes.fromhex(params.sweep_id))
        if proof is None:
            raise fund.NoSuchSweep(name=params.sweep_id)
        return fund.SweepProofFile(file=await self._maker.sweep(proof))

    async def airdrop_file(self, params: fund.AirdropFileAsked, _ctx: Ctx) -> fund.AirdropFile:
        """The public proof file of an airdrop."""
        found, round_ = self._books.proof(params.number), self._books.round(params.number)
        if round_ is None:
            raise NoSuchAirdrop(number=params.number)
        if found is None:
            raise ProofNotReady(number=params.number, phase=round_.phase.value)
        before = self._books.proof_before(params.number)
        return fund.AirdropFile(file=await self._maker.airdrop(found[0], before))

    # ceremonies

    async def join(self, params: fund.CeremonyJoin, _ctx: Ctx) -> Done:
        """Take part in a key ceremony."""
        members = tuple(sorted(params.members))
        plan = CeremonyPlan(self._network.genesis, params.name, params.needed, members, params.key_number)
        await self._ceremonies.join(plan)
        return Done()

    async def ceremonies(self, _params: Empty, _ctx: Ctx) -> fund.CeremonyStates:
        """All of them."""
        return fund.CeremonyStates(ceremonies=[self._state(plan) for plan in self._books.ceremonies()])

    def _state(self, plan: CeremonyPlan) -> fund.CeremonyState:
        no_key, no_agreement = self._ceremonies.missing(plan)
        roster = self._ceremonies.roster(plan)
        keys: dict[Did, bytes] = {}
        if roster is not None:
            keys = {word.claim.did: word.claim.pubkey for word in roster.keys}
        return fund.CeremonyState(
            ceremony_id=plan_id(plan).hex(),
            name=plan.name,
            needed=plan.needed,
            members=list(plan.members),
            keys_missing=no_key,
            agreements_missing=no_agreement,
            address=self._address(script_of_words(plan, keys)) if keys else "",
            pubkeys={did: key.hex() for did, key in keys.items()},
            roster=canonical(roster) if roster is not None else b"",
        )

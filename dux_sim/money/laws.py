"""The laws of money.md §1, judged from outside: from the chain, and from the disks that the daemons left.

Nothing here asks a daemon how it is. Each violation names its law; the laws are those of money.md by number, and the
bounds of escrow_protocol.md §2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from common.chain.contract import Contract, lot_output_script, lot_value
from common.chain.spends import Spend, SpendKind, classify
from common.chain.tx import Outpoint
from common.chain.wire import OutPoint, shown, unshown
from common.codec import from_canonical
from common.store import first_broken_line
from dux_escrowd.model import Lot, State
from dux_escrowd.replay import replay
from dux_escrowd.statements import opened_statement
from dux_sim.chain.audit import supply_of
from dux_sim.chain.rpc_actions import NOBODY
from dux_sim.money.signatures import Rebuilder, Seen, is_junk
from dux_sim.world.node import SimNode
from dux_sim.world.world import World

CONTRACT_BYTES_MAX = 65_536
DEPTH_BLOCKS = 2  # the demo profile's d
RELEASE_STATES = (State.RELEASE_SENT, State.RELEASE_SIGNED)
ENDED = (State.CLOSED, State.VOID)


INSTANT_LAWS = (  # hold at every moment, so that a history can be stopped in front of their breaking
    "1 coins are conserved",
    "3 a payment happens once",
    "4 the wallet rebuilds",
    "4 signatures are checked",
    "6 the log replays",
    "daemons live",
)


class Violation(msgspec.Struct, frozen=True):
    """A law that was broken, and how."""

    law: str
    detail: str


class Cast(Protocol):
    """Who in this history follows the protocol to the end."""

    def honest(self, node: int) -> bool:
        """Whether this node does."""
        ...


class OnChainLot(msgspec.Struct, frozen=True):
    """One output on a contract's script, as the chain has it at the end."""

    contract_id: str
    contract: Contract
    outpoint: Outpoint
    value_florins: int
    height: int
    spend: Spend | None
    spend_height: int | None


class Books:
    """What stands on the disks of all nodes, and the chain."""

    def __init__(self, world: World, cast: Cast) -> None:
        self.world = world
        self.cast = cast

    # --- reading ------------------------------------------------------------------------------------------------------

    def lots(self, node: SimNode) -> list[Lot]:
        """All lots of a node's escrowd."""
        rows = node.disk("escrowd").rows("SELECT lot FROM lots ORDER BY contract_id, number")
        return [msgspec.msgpack.decode(row["lot"], type=Lot) for row in rows]

    def contracts(self) -> dict[str, Contract]:
        """Every full contract that anybody holds, by its id."""
        found: dict[str, Contract] = {}
        for node in self.world.nodes:
            rows = node.disk("escrowd").rows(
                "SELECT contract_id, body FROM documents WHERE kind = 'contract' ORDER BY contract_id"
            )
            for row in rows:
                found[row["contract_id"]] = from_canonical(row["body"], Contract, max_bytes=CONTRACT_BYTES_MAX)
        return found

    def is_funded(self, node: int) -> bool:
        """Whether this node sees a funded lot."""
        return any(lot.coin is not None and lot.state is not State.FUNDED_SEEN for lot in self.lots(self._node(node)))

    def all_out(self) -> bool:
        """Whether every contract has ended in the books of everybody who follows it to the end."""
        begun = False
        for node in self.world.nodes:
            if not self.cast.honest(node.number):
                continue
            if self._open_drafts(node) or any(lot.state not in ENDED for lot in self.lots(node)):
                return False
            begun = begun or bool(self._rows(node))
        return begun

    def last_height(self) -> int:
        """The last T of any contract; far away while there is none."""
        ends = [int(contract.heights.timeout) for contract in self.contracts().values()]
        return max(ends, default=self.world.coin.height + 1)

    def _rows(self, node: SimNode) -> list[str]:
        return [row["contract_id"] for row in node.disk("escrowd").rows("SELECT contract_id FROM contracts")]

    def _open_drafts(self, node: SimNode) -> list[str]:
        rows = node.disk("escrowd").rows("SELECT contract_id FROM contracts WHERE stage NOT IN ('lot', 'refused')")
        return [row["contract_id"] for row in rows]

    def _node(self, number: int) -> SimNode:
        return self.world.nodes[number]

    def on_chain(self) -> list[OnChainLot]:
        """Every output on a contract's script in the active chain."""
        chain = self.world.coin.node.chain
        scripts = {lot_output_script(contract): (name, contract) for name, contract in self.contracts().items()}
        found: list[OnChainLot] = []
        spends = {txin.prevout: (tx, entry) for entry in chain.active for tx in entry.block.txs for txin in tx.inputs}
        for entry in chain.active:
            for tx in entry.block.txs:
                for vout, out in enumerate(tx.outputs):
                    if out.script not in scripts:
                        continue
                    name, contract = scripts[out.script]
                    point = Outpoint(shown(tx.txid), vout)
                    spent = spends.get(OutPoint(tx.txid, vout))
                    read = classify(contract, spent[0].raw, point, out.value_florins) if spent else None
                    height = spent[1].height if spent else None
                    found.append(OnChainLot(name, contract, point, out.value_florins, entry.height, read, height))
        return found

    # --- judging ------------------------------------------------------------------------------------------------------

    def judge(self) -> list[Violation]:
        """Every law, at the end of a healed history; exits are counted on the way."""
        outputs = self.on_chain()
        self._count_exits(outputs)
        found = [
            *self._conserved(outputs),
            *self._once(outputs),
            *self._ways_out(outputs),
            *self._nobody_left(outputs),
            *self._not_ahead(),
            *self._logs(),
            *self._signed(outputs),
            *self._heard(),
            *self.bounds(outputs),
        ]
        found += [Violation("daemons live", error) for error in self.world.errors]
        return found

    def breaks_now(self, law: str) -> bool:
        """Whether one of the laws that hold always, with these words in its name, is broken at this moment."""
        outputs = self.on_chain()
        found: list[Iterator[Violation]] = [
            self._conserved(outputs),
            self._once(outputs),
            self._ways_out(outputs),
            self._logs(),
            self._signed(outputs),
            self._heard(),
        ]
        errors = (Violation("daemons live", error) for error in self.world.errors)
        return any(law in one.law for violations in (*found, errors) for one in violations)

    def _count_exits(self, outputs: list[OnChainLot]) -> None:
        exits = self.world.history.exits
        for lot in outputs:
            if lot.spend is None:
                exits["unspent"] += 1
            elif lot.spend.kind is SpendKind.AWARD:
                exits["awarded" if lot.spend.gross_florins > 0 else "awarded-back"] += 1
            else:
                name = {"release": "released", "cancel": "cancelled", "refund": "refunded"}
                exits[name.get(lot.spend.kind.value, "unknown")] += 1
        funded = {lot.contract_id for lot in outputs}
        for node in self.world.nodes:
            rows = node.disk("escrowd").rows("SELECT contract_id, stage FROM contracts WHERE role = 'buyer'")
            for row in rows:
                if row["contract_id"] not in funded:
                    exits["refused" if row["stage"] == "refused" else "void"] += 1

    def _conserved(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Law 1: the chain adds up, and no coin lies where nobody can fetch it."""
        chain = self.world.coin.node.chain
        if not supply_of(chain).conserved:
            yield Violation("1 coins are conserved", "the chain's supply does not add up")
        known = {lot_output_script(lot.contract) for lot in outputs} | {NOBODY}
        for node in self.world.nodes:
            known |= {bytes(row["script"]) for row in node.disk("flopd").rows("SELECT script FROM scripts")}
        for point, coin in chain.coins.items():
            if coin.out.script not in known:
                yield Violation("1 coins are conserved", f"{coin.out.value_florins} at {shown(point.txid)}: nobody's")

    def _once(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Law 3: a contract is funded once, with exactly what was agreed."""
        for contract_id in {lot.contract_id: None for lot in outputs}:
            mine = [lot for lot in outputs if lot.contract_id == contract_id]
            if len(mine) > 1:
                yield Violation("3 a payment happens once", f"contract {contract_id[:12]} was funded {len(mine)} times")
            if any(lot.value_florins != int(lot_value(lot.contract)) for lot in mine):
                yield Violation("3 a payment happens once", f"contract {contract_id[:12]} holds another amount")

    def _ways_out(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Law 4 as the chain shows it: every spend is a template, to the last florin."""
        for lot in outputs:
            if lot.spend is not None and lot.spend.template is None:
                yield Violation("4 the wallet rebuilds", f"contract {lot.contract_id[:12]} left by no known way")

    def _nobody_left(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Law 2: everybody honest is out; who has no coin inside is out once the coin is."""
        unspent = {f"{lot.outpoint.txid}:{lot.outpoint.vout}" for lot in outputs if lot.spend is None}
        for node in self.world.nodes:
            if not self.cast.honest(node.number):
                continue
            for draft in self._open_drafts(node):
                yield Violation("2 no dead state", f"{node.name}: contract {draft[:12]} is still being agreed")
            for lot in self.lots(node):
                waits_for_another = lot.outpoint in unspent and not self._buyer_honest(lot.deal.buyer)
                if lot.state not in ENDED and not waits_for_another:
                    yield Violation(
                        "2 no dead state", f"{node.name}: lot {lot.contract_id[:12]}/{lot.number} is {lot.state}"
                    )
        for lot_ in outputs:
            if lot_.spend is None and self._buyer_honest(lot_.contract.buyer.did):
                yield Violation(
                    "2 no dead state", f"contract {lot_.contract_id[:12]}: {lot_.value_florins} are left in"
                )

    def _buyer_honest(self, did: str) -> bool:
        return any(node.did == did and self.cast.honest(node.number) for node in self.world.nodes)

    def _not_ahead(self) -> Iterator[Violation]:
        """Law 5: what the books say is closed lies d deep in the chain; a release stands only for the coin there is."""
        chain = self.world.coin.node.chain
        for node in self.world.nodes:
            if not self.cast.honest(node.number):
                continue
            for lot in self.lots(node):
                where = f"{node.name}: lot {lot.contract_id[:12]}/{lot.number}"
                if lot.state in RELEASE_STATES and lot.release_outpoint != lot.outpoint:
                    yield Violation("5 books follow the chain", f"{where} rests on a release for another coin")
                if lot.state is not State.CLOSED or lot.spend is None:
                    continue
                place = chain.tx_places.get(unshown(lot.spend.txid))
                if place is None or chain.tip.height - place[0].height + 1 < DEPTH_BLOCKS:
                    yield Violation(
                        "5 books follow the chain", f"{where} is closed by {lot.spend.txid[:12]}: not there"
                    )

    def _logs(self) -> Iterator[Violation]:
        """Law 6: every log is whole, and gives the books again."""
        for node in self.world.nodes:
            for daemon in node.houses:
                lines = node.disk(daemon).rows("SELECT * FROM audit ORDER BY number")
                broken = first_broken_line(lines)
                if broken is not None:
                    yield Violation("6 the log replays", f"{node.name}/{daemon}: line {broken} breaks the chain")
                if daemon == "escrowd":
                    yield from self._replayed(node, [(r["number"], r["kind"], bytes(r["body"])) for r in lines])

    def _replayed(self, node: SimNode, lines: list[tuple[int, str, bytes]]) -> Iterator[Violation]:
        again = replay(lines)
        if again.broken is not None:
            yield Violation("6 the log replays", f"{node.name}/escrowd: line {again.broken} does not follow")
        stored = {(lot.contract_id, lot.number): lot for lot in self.lots(node)}
        if again.broken is None and again.lots != stored:
            yield Violation("6 the log replays", f"{node.name}/escrowd: the log gives other lots than the books")

    def _signed(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """Law 4: every signature that left a wallet is of something that can be rebuilt from an agreed contract."""
        del outputs
        rebuilder = Rebuilder(self._coins_ever())
        for node in self.world.nodes:
            for index, digest in dict.fromkeys(node.signed):
                if not rebuilder.is_legitimate(node, index, digest):
                    yield Violation("4 the wallet rebuilds", f"{node.name} signed something with key {index}")

    def _coins_ever(self) -> list[Seen]:
        """Every output that was on a contract's script in any block, also in blocks that were replaced."""
        scripts = {lot_output_script(contract) for contract in self.contracts().values()}
        return [
            (shown(tx.txid), vout, out.script, out.value_florins)
            for entry in self.world.coin.node.chain.entries.values()
            for tx in entry.block.txs
            for vout, out in enumerate(tx.outputs)
            if out.script in scripts
        ]

    def _heard(self) -> Iterator[Violation]:
        """What an honest book took as a coin signature is one: checked here, not by the daemon's own ears."""
        contracts = self.contracts()
        for node in self.world.nodes:
            if not self.cast.honest(node.number):
                continue
            for lot in self.lots(node):
                contract = contracts.get(lot.contract_id)
                if contract is None or lot.number != 0 or lot.coin is None:
                    continue
                rows = node.disk("escrowd").rows(
                    "SELECT attested FROM statements WHERE contract_id = ? AND taken = 1", lot.contract_id
                )
                for row in rows:
                    heard = opened_statement(bytes(row["attested"]))
                    if is_junk(contract, lot.coin.outpoint, lot.coin.value_florins, heard):
                        yield Violation("4 signatures are checked", f"{node.name} took junk: {heard.statement.kind}")

    def bounds(self, outputs: list[OnChainLot]) -> Iterator[Violation]:
        """What nobody honest may lose; a story that knows who is entitled to what says more."""
        del outputs
        yield from ()

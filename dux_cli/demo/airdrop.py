"""The fund's hand-back in the demo.

Every node registers, the first job lifts the fund over its threshold, and the custodians' payout is read back from the
chain and recomputed by a node that is no custodian.
"""

from __future__ import annotations

import asyncio

from common.contracts.airdrop import (
    AIRDROP_HISTORY,
    AIRDROP_PROOF,
    AIRDROP_SHOW,
    AIRDROP_VERIFY,
    AirdropDetail,
    HistoryAsked,
    NumberAsked,
    Phase,
    VerifyProof,
)
from common.contracts.registry import NODE_LIST, NODE_REGISTER, ListNodes, NodeStatus, RegisterNode
from common.units import format_flop
from dux_cli.demo.network import NAMES
from dux_cli.demo.stage import Stage
from dux_cli.demo.teller import Teller

PAID_WITHIN_S = 120.0
FIRST = 0


async def register_all(stage: Stage) -> None:
    """Every node says what it is and where it is paid, and has heard the others' heartbeats."""
    await asyncio.gather(*(_register(stage, name) for name in NAMES))

    async def heard() -> bool:
        seen = await asyncio.gather(*(_active(stage, name) for name in NAMES))
        return min(seen) >= len(NAMES)

    await stage.pace.until("every node to have heard every other's heartbeat", heard)


async def _register(stage: Stage, name: str) -> None:
    wish = RegisterNode(
        request_id="demo-register",
        wallet_address=stage.keys[name].address,
        hostname=name,
    )
    await stage.node(name).call(NODE_REGISTER, wish)


async def _active(stage: Stage, name: str) -> int:
    found = await stage.node(name).call(NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))
    return len(found.nodes)


async def wait_paid(stage: Stage, teller: Teller) -> AirdropDetail:
    """The first airdrop, once its payment lies deep enough; any node may then recompute it."""
    custodian = stage.node("arbiter-1")

    async def paid() -> bool:
        found = (await custodian.call(AIRDROP_HISTORY, HistoryAsked())).airdrops
        return any(airdrop.phase is Phase.PAID for airdrop in found)

    async with stage.pace.faster(0.3):
        await stage.pace.until("the airdrop to arrive", paid, within_s=PAID_WITHIN_S)
    detail = await custodian.call(AIRDROP_SHOW, NumberAsked(number=FIRST))
    drop = detail.airdrop
    teller.say(
        f"at height {drop.cutoff_height} the fund held 100 FLOP: two of three custodians paid "
        f"{format_flop(drop.paid_florins)} FLOP to {drop.eligible} nodes, {format_flop(drop.share_florins)} each"
    )
    return detail


async def verified_by(stage: Stage, name: str) -> bool:
    """Does a node that is no custodian come to the same payout from the proof file and its own chain?"""
    proof = await stage.node("arbiter-1").call(AIRDROP_PROOF, NumberAsked(number=FIRST))
    verdict = await stage.node(name).call(AIRDROP_VERIFY, VerifyProof(proof=proof.proof), deadline_s=60)
    return verdict.valid

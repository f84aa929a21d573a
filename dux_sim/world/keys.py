"""The keys of simulated nodes: as key making gives them, but from the node's number and without a sealed file.

The named part that stands in for Argon2 and key files. A node of the same number has the same keys in every history, so
that they are derived once per process. Never for coins that anybody wants to keep.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from common.chain.address import pay_to_key, script_to_address
from common.chain.params import EMBEDDED
from common.identity.branch import OperationalBranch, did_of_branch, make_branch
from common.keygen import BRANCH_FUND, BRANCH_RECEIVE, WalletSecrets, secrets_of
from common.units import Did

MADE_MS = 1_790_000_000_000
NODES_MAX = 4096


@dataclass(frozen=True)
class NodeKeys:
    """What key making would have written for one node."""

    branch: OperationalBranch
    transport_seed: bytes
    look_seed: bytes
    secrets: WalletSecrets
    did: Did
    address: str
    fund_pubkey: str
    collector_pubkey: str  # its key in a collector's script


@lru_cache(maxsize=NODES_MAX)
def keys_of(number: int) -> NodeKeys:
    """The keys of node `number`."""
    seed = hashlib.sha512(b"duxnet simulated node " + str(number).encode()).digest()
    secrets = secrets_of(seed, EMBEDDED.coin_type, MADE_MS, 0)
    branch = make_branch(seed, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
    account = secrets.account()
    address = script_to_address(pay_to_key(account.path(BRANCH_RECEIVE, 0).public), EMBEDDED)
    return NodeKeys(
        branch=branch,
        transport_seed=hashlib.sha256(seed).digest(),
        look_seed=hashlib.sha256(b"look" + seed).digest(),
        secrets=secrets,
        did=did_of_branch(branch, 0),
        address=address or "",
        fund_pubkey=account.path(BRANCH_FUND, 0).public.hex(),
        collector_pubkey=account.path(BRANCH_FUND, 1).public.hex(),
    )

"""flopd's settings: `flopd.yaml` over `common.yaml`. Secrets are named by the paths of their files."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.settings import DaemonSettings
from common.units import FLOP, Florins

Payer = Literal["escrowd", "airdropd", "module"]  # who may have the wallet pay without the owner


class FlopSettings(DaemonSettings, frozen=True, kw_only=True):
    """What the owner may set."""

    source: Literal["spv", "core"] = "spv"  # headers and proofs from the coin's own network, or a coin node's RPC
    peers: tuple[str, ...] = ()  # spv: coin nodes as `host:port`; empty: the network's seeds. p2pd must allow each
    checkpoint_bundle: str = ""  # spv: a file to start from instead of the one that came with the release
    whole_blocks: bool = False  # spv: read whole blocks: costs traffic, shows peers nothing and lets them hide nothing
    node_url: str = "http://127.0.0.1:32551"  # core: JSON-RPC of the coin node
    node_user: str = ""  # login of the coin node, with `node_password_file`
    node_password_file: str = ""  # holds the password alone, or `user:password`
    egress: bool = True  # reach the node through p2pd's SOCKS5 egress; false only where no p2pd runs, in tests
    poll_ms: int = 250  # between looks at the node's tip and waiting transactions, where it cannot tell of a new block
    waiting_ms: int = 1000  # between looks at waiting transactions, where it can; a block is read at once all the same
    unlock_file: str = ""  # opens the sealed keys without a person; empty: `unlock.key` in flopd's data folder
    wallet_backup_dir: str = ""  # where encrypted copies of the books go, such as another disk; empty: data folder
    scan_from_height: int = 0  # blocks below are never read; raise it on a main chain to the wallet's first block
    fee_rate_florins_per_kb: int = FEE_RATE_FLORINS_PER_KB
    # Standing approval for payments that daemons decide (the owner's own `wallet.send` by cli is not limited); per
    # day holds for all callers together, the others for each by itself:
    limit_per_payment_florins: Florins = Florins(1_000 * FLOP)
    limit_per_day_florins: Florins = Florins(5_000 * FLOP)
    limit_per_caller_florins: Florins = Florins(5_000 * FLOP)
    limits_of_callers: dict[Payer, Florins] = field(default_factory=dict)  # a day of one caller's own, by its token
    limit_per_counterparty_florins: Florins = Florins(2_000 * FLOP)

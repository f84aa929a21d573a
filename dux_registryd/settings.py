"""Settings of registryd, units in names, each with its reason."""

from __future__ import annotations

from common.settings import DaemonSettings


class RegistrydSettings(DaemonSettings, frozen=True):
    """`registryd.yaml`."""

    wallet_address: str = ""  # where this node is paid, told to others at its first start; empty: what dux-keygen left
    region: str = ""  # told to others, so that buyers can choose near nodes
    capabilities: tuple[str, ...] = ("api_hosting", "task_execution")  # told to others at that first registration
    heartbeat_s: float = 60.0  # seconds between heartbeats; after three missed ones others call us stale
    probe_s: float = 5.0  # seconds between looks at whom this node was drawn to challenge
    probe_spread_s: float = 240.0  # seconds over which challenges are spread at random: nobody can foretell them
    benchmark: bool = True  # measure other machines when drawn for it, and let this one be measured
    tpm: str = ""  # how tpm2-tools reach this machine's TPM 2.0, such as device:/dev/tpmrm0; empty: no quotes
    benchmark_s: float = 600.0  # seconds between measurements, half to one and a half of it at random
    check_s: float = 5.0  # seconds between looks at the chain for receipts that wait for it
    sync_s: float = 300.0  # seconds between asking a peer for what we may have missed
    announce_s: float = 21_600.0  # seconds between offering our description again (records live a day)
    forget_after_s: float = (
        5_184_000.0  # a node silent for 60 days is forgotten, its receipts are not; from 30 it is frozen
    )
    nodes_max: int = 20_000  # descriptions kept, about 2 KB each; above it only known nodes are updated
    receipts_pending_max: int = 10_000  # receipts that wait for the chain, about 1 KB each

"""Settings of p2pd, units in names, each with its reason."""

from __future__ import annotations

import msgspec

from common.codec import Wire
from common.node_ports import OUTSIDE_OFFSET
from common.settings import DaemonSettings

MIB = 1 << 20
ANY_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class RelayTo(Wire, frozen=True):
    """A third party's program that answers the peer methods `<name>.*`: where it listens and the token we show it."""

    url: str
    token_file: str


class P2pdSettings(DaemonSettings, frozen=True):
    """`p2pd.yaml`."""

    # several with commas; 0.0.0.0 is every address of this machine, those of IPv6 too
    listen_host: str = "0.0.0.0"  # noqa: S104 - the one daemon whose task it is to be reached from outside
    listen_port: int = 0  # 0: port_base + 10
    endpoints: tuple[
        str, ...
    ] = ()  # `host:port` told to others; empty: where we listen, else what our connections show
    bootstrap: tuple[str, ...] = ()  # `host:port [did:dux:…] [region]`, asked beside the network profile's
    region: str = ""  # where this node is, in the words of the bootstrap list: those of its own region are asked first
    reachability: bool = True  # ask other nodes to dial this one back, and tell others only what was reached
    use_relays: bool = True  # where nobody reaches this node, be reached through up to three public ones
    hole_punching: bool = False  # direct paths between nodes behind NAT, by the extra `punch`; UDP at the same port
    relay_duty: bool | None = None  # carry others' end-to-end encrypted bytes; null: unless this node is unreachable
    relay_circuits_max: int = 64  # at once
    relay_did_bytes_per_hour: int = 64 * MIB  # of one caller, and to one node
    relay_bytes_per_hour: int = 2048 * MIB  # in all: 0.6 MB/s
    announce_duty: bool | None = None  # tell neighbours of new nodes; null: test networks do, main no
    lan_mdns: bool | None = None  # tell and ask the LAN by mDNS; null: on test networks that listen on every address
    lan_beacon: bool | None = None  # the same by a small UDP broadcast
    port_mapping: bool | None = (
        None  # ask routers for a port (PCP, NAT-PMP, UPnP; IPv6 too); null: on main, from 0.0.0.0
    )
    peers_target: int = 16  # connections that are kept up; gossip reaches a thousand nodes in three hops
    peers_max: int = 256  # above this, connections not used for long are closed (30 KiB each)
    known_after_s: int | None = None  # a DID first seen longer ago is no stranger; null: 3600, test networks 0
    stamp_bits: int | None = None  # proof of work on gossip; null: 20 (about a second to make), test networks 0
    dht_bytes_max: int = 256 * MIB  # records kept for others
    directory_max: int = 20_000  # event logs of others kept, about 1 KB each
    rotate_keys_every_s: int = 7_776_000  # 90 days: the signing key changes by itself
    rotate_transport_every_s: int = 604_800  # 7 days: the key of connections changes by itself; at least 2
    republish_s: int = 3600  # records are offered again this often
    blob_quota_bytes: int = 4096 * MIB
    blob_bytes_max: int = 1024 * MIB  # one blob
    blob_put_keep_s: int = 604_800  # what a local daemon put is kept at least a week
    hold_bytes_max: int = 64 * MIB  # one blob kept for somebody else
    hold_s_max: int = 5_184_000  # 60 days: a dispute's duty of 43,200 blocks of a minute, twice
    egress_allow: dict[str, tuple[str, ...]] = msgspec.field(
        default_factory=dict
    )  # daemon -> `host:port`; `*:port`: any public address
    egress_upstream: str = ""  # `host:port` of a SOCKS5 proxy (Tor: 127.0.0.1:9050) that connections go through
    egress_straight: tuple[str, ...] = ()  # `host:port` reached without the upstream: a coin node on this machine
    egress_connections_max: int = 64
    egress_idle_s: int = 900  # a connection without a byte for so long is closed
    relay: dict[str, RelayTo] = msgspec.field(default_factory=dict)  # first part of foreign peer methods -> its program


def listen_hosts(text: str) -> list[str]:
    """The hosts of `listen_host`; every address of this machine means both families."""
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    return ["0.0.0.0", "::"] if hosts in ([], ["0.0.0.0"]) else hosts  # noqa: S104 - as the settings say


def outside_port(settings: P2pdSettings) -> int:
    """The port that other nodes dial."""
    return settings.listen_port or settings.port_base + OUTSIDE_OFFSET


def is_everywhere(settings: P2pdSettings) -> bool:
    """Whether this node listens on every address of its machine, as one at home or in an office does."""
    return listen_hosts(settings.listen_host)[0] in ANY_HOSTS

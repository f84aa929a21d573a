"""airdropd's own settings; what all nodes must agree on stands in the network profile."""

from __future__ import annotations

from common.settings import DaemonSettings


class AirdropdSettings(DaemonSettings, frozen=True, kw_only=True):
    """How often this node looks."""

    look_s: float = 1.0  # seconds between looks at the chain's tip
    asn_map: str = ""  # path of the map from networks to ASNs whose hash the parameter set names; one `net asn` a line

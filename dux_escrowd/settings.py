"""What `escrowd.yaml` may hold besides the keys that every daemon has."""

from __future__ import annotations

from common.settings import DaemonSettings


class EscrowSettings(DaemonSettings, frozen=True, kw_only=True):
    """escrowd's own settings."""

    open_offers_max: int = 3  # unfunded contracts that one buyer may have open with this node as seller
    open_seats_max: int = 16  # unfunded contracts of one buyer in which this node has a seat or a part
    open_total_max: int = 256  # unfunded contracts of all buyers together: identities cost little, attention does not
    copies: bool = True  # have encrypted copies of own contracts kept by those named in them
    arbitrate: bool = True  # take seats as an arbiter when asked

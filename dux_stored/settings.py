"""Settings of stored, units in names, each with its reason."""

from __future__ import annotations

from common.settings import DaemonSettings


class StoredSettings(DaemonSettings, frozen=True):
    """`stored.yaml`."""

    announce_s: float = 21_600.0  # seconds between offering our services again (DHT records live a day)
    follow_s: float = 2.0  # seconds between looks at the registry for newly settled receipts
    sync_s: float = 300.0  # seconds between asking a peer for what we may have missed
    network_search_s: float = 3.0  # longest a search waits for the DHT, seconds
    services_max: int = 50_000  # services kept, about 3 KB each; above it only known ones are updated
    services_per_provider_max: int = 200  # so that one provider cannot fill everybody's index
    ratings_pending_max: int = 10_000  # ratings that wait for their payment, about 2 KB each

"""What `escrowd.yaml` may hold besides the keys that every daemon has."""

from __future__ import annotations

from typing import Literal

from common.settings import DaemonSettings
from common.units import FLOP, Did, Florins


class EscrowSettings(DaemonSettings, frozen=True, kw_only=True):
    """escrowd's own settings."""

    open_offers_max: int = 3  # unfunded contracts that one buyer may have open with this node as seller
    open_seats_max: int = 16  # unfunded contracts of one buyer in which this node has a seat or a part
    open_total_max: int = 256  # unfunded contracts of all buyers together: identities cost little, attention does not
    channel_window: int = 32  # calls of one channel at work here at once
    channel_mirror_florins: Florins = Florins(FLOP)  # so much may be paid before watchers get a newer close
    channel_limit_florins: Florins = Florins(1_000 * FLOP)  # a channel that holds so much is closed
    channel_on_crash: Literal["credit", "rerun"] = "credit"  # rerun only if every handler bears to run twice
    channel_silent_s: int = 120  # a call at work of which no program says anything for so long has failed
    channel_watchers: tuple[Did, ...] = ()  # nodes that publish this node's closes when it is away
    channel_watchers_auto: int = 2  # so many are found by this node itself where none is named; 0: none
    watch_for_others: int = 256  # closes of other nodes kept here
    copies: bool = True  # have encrypted copies of own contracts and channels kept by others
    copies_for_others: int = 4_096  # encrypted copies of others' channels kept here
    arbitrate: bool = True  # take seats as an arbiter when asked

"""What two daemons or more need, and nothing else.

Daemons import `common` and themselves; `common` imports no daemon. Inside, from top to bottom: daemon, rpc and peers,
settings and log and store, contracts and codec, clock and randomness and errors and units.
"""

__version__ = "0.1.0"

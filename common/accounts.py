"""How accounts of one phrase are numbered: 0 is the node's own, of the rest no daemon spends."""

from __future__ import annotations

ACCOUNTS_MAX = 8  # beside the node's own
ACCOUNT_SHIFT = 8  # a branch of account n is named n << 8 | branch

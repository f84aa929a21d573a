"""How accounts of one phrase are numbered: 0 is the node's own, of the rest no daemon spends."""

from __future__ import annotations

ACCOUNTS_MAX = 8  # beside the node's own
TOKEN_ACCOUNT = ACCOUNTS_MAX + 1  # its secrets lie in a PKCS#11 token
ACCOUNT_SHIFT = 8  # a branch of account n is named n << 8 | branch

"""What a light wallet's warnings mean and what to do, for people (docs/protocol/spv.md, section 6, says more)."""

from __future__ import annotations

WORDS = {
    "few-peers": "fewer coin nodes than wanted: name more `peers` in flopd.yaml, and allow them in p2pd.yaml",
    "one-net": "all coin nodes are in one address block: one hand could be all of them; name others",
    "stale-tip": "no block for far too long: compare the tip elsewhere before you trust a payment",
    "behind-peers": "a coin node claims more blocks than anybody shows: one lies, or the others hide",
    "tips-disagree": "coin nodes show different tips: wait for more blocks",
    "difficulty-fell": "mining became much easier within a day: these may not be the miners' nodes",
    "deep-fork": "many blocks left the best chain at once: wait for more confirmations",
    "withheld-transactions": "a coin node left out a payment of ours, and is banned: name others",
    "own-transactions-unheard": "nobody announced a payment of ours: name other coin nodes",
    "not-cross-checked": "most blocks were shown by one coin node alone: connect more that serve filters",
}


def in_words(warning: str) -> str:
    """The warning's name and what it means."""
    return f"{warning}: {WORDS.get(warning, 'see docs/protocol/spv.md')}"

"""Merkle roots and branches of transaction ids.

Pure. `root_of` also says whether the list could be a mutation of another with the same root (CVE-2012-2459): two equal
neighbours in a full pair, which an attacker appends to make a valid block look invalid.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.chain.wire import NULL_HASH, sha256d


def root_of(hashes: Sequence[bytes]) -> tuple[bytes, bool]:
    """The root of these leaves, and whether two equal hashes were paired at any level."""
    level, mutated = list(hashes), False
    while len(level) > 1:
        mutated = mutated or any(level[i] == level[i + 1] for i in range(0, len(level) - 1, 2))
        if len(level) % 2:
            level.append(level[-1])
        level = [sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return (level[0] if level else NULL_HASH), mutated


def branch_of(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes that lead from leaf `index` to the root."""
    level, branch = list(hashes), []
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        branch.append(level[index ^ 1])
        level = [sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        index //= 2
    return tuple(branch)


def root_by_branch(leaf: bytes, branch: Sequence[bytes], index: int) -> bytes:
    """The root that a leaf reaches through a branch; bit i of `index` says on which side step i stands."""
    for sibling in branch:
        leaf = sha256d(sibling + leaf) if index & 1 else sha256d(leaf + sibling)
        index >>= 1
    return leaf

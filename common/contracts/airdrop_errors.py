"""Errors that airdrops and their public files share."""

from __future__ import annotations

from common.errors import NotFound, NotNow


class NoSuchAirdrop(NotFound):
    """There is no airdrop number {number} here; `duxnet airdrop history` lists those there are."""

    code = 4001
    key = "no-such-airdrop"


class ProofNotReady(NotNow):
    """Airdrop {number} is {phase}: its proof exists once its payment is deep enough; repeat then."""

    code = 4002
    key = "proof-not-ready"

"""Attested properties of nodes: issued for others from what is known of them here, kept and shown for this one.

An issuer attests predicates ("tier>=2"), never figures, of the node that asks over its own session. What can be shown,
to whom, and what is not hidden: `common/identity/disclosure.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.peer_registry import CLAIMS_ISSUE, ClaimsAsk, ClaimsIssued
from common.contracts.registry_claims import (
    AttestMe,
    ClaimList,
    ClaimsHeld,
    ClaimVerdict,
    Disclose,
    NoClaim,
    Presentation,
    VerifyClaim,
)
from common.errors import BadParams, DuxError, PeerMisbehaved
from common.identity.disclosure import (
    Claim,
    ClaimRoot,
    ShownTo,
    at_least,
    check_shown,
    claims_of,
    disclose,
    root_of,
)
from common.identity.purposes import Purpose
from common.quality import PPM
from common.randomness import Randomness
from common.receipts import attested, body_of
from common.rpc.method import Empty
from common.rpc.table import Ctx
from common.units import BPS, Did, Hash32, UnixMs
from dux_registryd.bonds import Bonds
from dux_registryd.effects import ROOT_BYTES_MAX, Outside
from dux_registryd.fault_rules import DAY_MS
from dux_registryd.sanction_rules import may_serve
from dux_registryd.scores import Scores
from dux_registryd.store import Book
from dux_registryd.views import iso_time

LIFE_DAYS = 30
SHOWN_BYTES_MAX = 1_024
CLAIM_BYTES_MAX = 256
PERCENT_STEPS = (50, 70, 80, 90, 95)
TIER_STEPS, STANDING_STEPS = (1, 2, 3), (1, 2, 4, 6, 9)


class WrongAttestation(PeerMisbehaved):
    """The attestation of {did} is not what it signed: {detail}. Ask another node."""

    code = 5031
    key = "wrong-attestation"


class ClaimDesk:
    """Issues, keeps, shows and checks attested properties."""

    def __init__(
        self, book: Book, outside: Outside, scores: Scores, bonds: Bonds, *, clock: Clock, random: Randomness
    ) -> None:
        self._book = book
        self._outside = outside
        self._scores = scores
        self._bonds = bonds
        self._clock = clock
        self._random = random
        self.on_issued: Callable[[ClaimRoot], None] = lambda _root: None  # set at assembly

    def properties(self, did: Did) -> list[tuple[str, str]]:
        """What is known here of a node, as predicates: at most sixteen, so of every figure the highest step or two."""
        score, presence = self._scores.score(did), self._scores.presence(did)
        held = self._book.node(did)
        found = at_least("tier", score.tier, TIER_STEPS)
        found += at_least("reputation%", score.score_ppm * 100 // PPM, PERCENT_STEPS[:4])[-2:]
        found += at_least("standing", score.standing_milli // 1_000, STANDING_STEPS)[-2:]
        if presence.uptime_days:  # less than a day of slots says nothing that should hold for a month
            found += at_least("uptime%", (presence.uptime_bps or 0) * 100 // BPS, PERCENT_STEPS)[-1:]
        found += self._bonds.properties(did, self._scores.tip())
        found += [("unsanctioned", "true")] if may_serve(self._scores.sanctions(did)) else []
        parts = self._scores.rate(held).verified if held else ()
        return found + [(f"verified-{part}", "true") for part in parts]

    # for other nodes

    async def issue(self, _ask: ClaimsAsk, sender: Did) -> ClaimsIssued:
        """Attest what is known of the node that asks."""
        claims = claims_of(self.properties(sender), self._random)
        now_ms = self._clock.unix_ms()
        root = ClaimRoot(
            v=1,
            subject=sender,
            root=root_of(claims),
            issued_ms=UnixMs(now_ms),
            expires_ms=UnixMs(now_ms + LIFE_DAYS * DAY_MS),
        )
        envelope = await self._outside.signed(Purpose.CLAIM_ROOT, root)
        self.on_issued(root)
        return ClaimsIssued(root=canonical(envelope), claims=tuple(canonical(claim) for claim in claims))

    # for callers

    async def attest(self, params: AttestMe, ctx: Ctx) -> ClaimsHeld:
        """Have another node attest this one, check what it gave, keep it."""
        own, peer = await self._outside.own_did(), Did(params.peer)
        if peer == own:
            raise BadParams(detail="a node cannot vouch for itself: name another one")
        given = await self._outside.ask(peer, CLAIMS_ISSUE, ClaimsAsk())
        envelope = attested(given.root)
        root = body_of(envelope, ClaimRoot, ROOT_BYTES_MAX)
        claims = _claims(given.claims)
        if envelope.did != peer or root.subject != own or root_of(claims) != root.root:
            raise WrongAttestation(did=peer, detail="another signer, another node, or other leaves")
        if not await self._outside.was_signed(Purpose.CLAIM_ROOT, envelope, root.issued_ms):
            raise WrongAttestation(did=peer, detail="its signature does not verify")
        view = _held(peer, root, claims)
        with self._book.store.transaction() as tx:
            self._book.put_attestation(tx, root.root, peer, given.root, given.claims, root.expires_ms)
            ctx.remember(tx, view)
        return view

    async def listed(self, _params: Empty, _ctx: Ctx) -> ClaimList:
        """What can be shown."""
        return ClaimList(attestations=tuple(_held(issuer, root, claims) for issuer, _, root, claims in self._kept()))

    def _kept(self) -> Iterable[tuple[Did, bytes, ClaimRoot, tuple[Claim, ...]]]:
        for issuer, envelope, claims in self._book.attestations(self._clock.unix_ms()):
            yield issuer, envelope, body_of(attested(envelope), ClaimRoot, ROOT_BYTES_MAX), _claims(claims)

    async def disclose(self, params: Disclose, _ctx: Ctx) -> Presentation:
        """Show one property, signed over the verifier's nonce."""
        for issuer, envelope, root, claims in self._kept():
            leaf = disclose(claims, params.name)
            if leaf is None or params.issuer not in ("", issuer):
                continue
            shown = ShownTo(root=root.root, disclosure=leaf, nonce=bytes.fromhex(params.nonce))
            signed = await self._outside.signed(Purpose.CLAIM_SHOWN, shown)
            return Presentation(subject=root.subject, root=envelope, shown=canonical(signed))
        raise NoClaim(name=params.name[:64])

    async def verify(self, params: VerifyClaim, _ctx: Ctx) -> ClaimVerdict:
        """What a presentation proves."""
        told, now_ms = params.presentation, self._clock.unix_ms()
        root_envelope, shown_envelope = attested(told.root), attested(told.shown)
        root = body_of(root_envelope, ClaimRoot, ROOT_BYTES_MAX)
        shown = body_of(shown_envelope, ShownTo, SHOWN_BYTES_MAX)
        leaf, reason = shown.disclosure.claim, ""
        try:
            nonce = bytes.fromhex(params.nonce)
            check_shown(shown, root, subject=told.subject, nonce=nonce, now_ms=now_ms)
            if shown_envelope.did != told.subject:
                raise BadParams(detail="it is shown by another node than it speaks of")
            if not await self._outside.stands(Purpose.CLAIM_ROOT, root_envelope, root.issued_ms):
                raise BadParams(detail="its issuer has not signed it, or has recovered or closed its name since")
            if not await self._outside.was_signed(Purpose.CLAIM_SHOWN, shown_envelope, now_ms):
                raise BadParams(detail="the node that it speaks of has not signed it")
        except DuxError as error:
            reason = error.message
        return ClaimVerdict(
            valid=not reason,
            reason=reason,
            subject=told.subject,
            issuer=root_envelope.did,
            name=leaf.name,
            value=leaf.value,
            issued=iso_time(root.issued_ms),
            expires=iso_time(root.expires_ms),
        )


def _claims(data: Iterable[bytes]) -> tuple[Claim, ...]:
    return tuple(from_canonical(one, Claim, max_bytes=CLAIM_BYTES_MAX) for one in data)


def _held(issuer: Did, root: ClaimRoot, claims: Iterable[Claim]) -> ClaimsHeld:
    return ClaimsHeld(
        root=Hash32(root.root),
        issuer=issuer,
        issued=iso_time(root.issued_ms),
        expires=iso_time(root.expires_ms),
        names=tuple(sorted(claim.name for claim in claims if claim.name)),
    )

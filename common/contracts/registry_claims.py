"""What registryd promises about attested properties: having them attested, showing one, checking one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake
from common.rpc.method import Empty, Method, callers_of
from common.units import Did, Hash32

_DID = Did("did:dux:" + "a" * 52)
_OTHER = Did("did:dux:" + "b" * 52)
_Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class NoClaim(CallerMistake):
    """No attestation held here has {name}: `duxnet identity attest PEER` asks for one."""

    code = 5030
    key = "no-claim"


class AttestMe(Wire, frozen=True):
    """Ask a node to attest what it knows of this one."""

    request_id: str
    peer: str


class ClaimsHeld(Wire, frozen=True):
    """One attestation: what can be shown of it."""

    root: Hash32
    issuer: Did
    issued: str
    expires: str
    names: tuple[str, ...]


class ClaimList(Wire, frozen=True):
    """Attestations of this node that have not expired."""

    attestations: tuple[ClaimsHeld, ...]


class Disclose(Wire, frozen=True):
    """Show one property to who gave this nonce (hex). `issuer`: only that one's word; empty: the newest."""

    name: str
    nonce: _Nonce
    issuer: str = ""


class Presentation(Wire, frozen=True):
    """One property with what proves it; nothing of the other fifteen leaves is in it but hashes."""

    subject: Did
    root: bytes  # `Attested` bytes of the issuer's `ClaimRoot`
    shown: bytes  # `Attested` bytes of the subject's `ShownTo`


class VerifyClaim(Wire, frozen=True):
    """A presentation, and the nonce that was given for it."""

    presentation: Presentation
    nonce: _Nonce


class ClaimVerdict(Wire, frozen=True):
    """What a presentation proves, by whose word. Whether that word is worth something is for the reader to say."""

    valid: bool
    reason: str
    subject: Did
    issuer: Did
    name: str
    value: str
    issued: str
    expires: str


class IssuersOf(Wire, frozen=True):
    """Whom to look up: a DID."""

    node_id: str


class IssuerSeen(Wire, frozen=True):
    """A node that vouches for another one: by which root, since when, until when. For what, the subject shows."""

    issuer: Did
    root: Hash32
    issued: str
    expires: str


class IssuerList(Wire, frozen=True):
    """Each issuer's newest attestation of a node."""

    issuers: tuple[IssuerSeen, ...]


_HELD = ClaimsHeld(
    root=Hash32(b"\x01" * 32),
    issuer=_OTHER,
    issued="2026-11-20T12:30:00Z",
    expires="2026-12-20T12:30:00Z",
    names=("tier>=1", "tier>=2"),
)
_SHOWN = Presentation(subject=_DID, root=b"\x94", shown=b"\x94")

CLAIMS_ATTEST = Method(
    name="claims.attest",
    params=AttestMe,
    result=ClaimsHeld,
    summary="Have another node attest what it knows of this one: tier, reputation, uptime, bond, verified parts.",
    callers=("cli", "module"),
    example=(AttestMe(request_id="attest-1", peer=_OTHER), _HELD),
    once=True,
)
CLAIMS_LIST = Method(
    name="claims.list",
    params=Empty,
    result=ClaimList,
    summary="Attestations of this node, and which properties it can show.",
    callers=callers_of("registryd"),
    example=(Empty(), ClaimList(attestations=(_HELD,))),
)
CLAIMS_DISCLOSE = Method(
    name="claims.disclose",
    params=Disclose,
    result=Presentation,
    summary="Show one attested property to one verifier, without the others.",
    callers=callers_of("registryd"),
    example=(Disclose(name="tier>=2", nonce="ab" * 32), _SHOWN),
    raises=(NoClaim,),
)
CLAIMS_VERIFY = Method(
    name="claims.verify",
    params=VerifyClaim,
    result=ClaimVerdict,
    summary="Check a shown property: issuer's and subject's signatures, its place under the root, nonce and dates.",
    callers=callers_of("registryd"),
    example=(
        VerifyClaim(presentation=_SHOWN, nonce="ab" * 32),
        ClaimVerdict(
            valid=True,
            reason="",
            subject=_DID,
            issuer=_OTHER,
            name="tier>=2",
            value="true",
            issued=_HELD.issued,
            expires=_HELD.expires,
        ),
    ),
)
CLAIMS_ISSUERS = Method(
    name="claims.issuers",
    params=IssuersOf,
    result=IssuerList,
    summary="Who vouches for a node, as the DHT has it: each issuer's newest attestation, its signature verified.",
    callers=callers_of("registryd"),
    example=(
        IssuersOf(node_id=_DID),
        IssuerList(issuers=(IssuerSeen(issuer=_OTHER, root=_HELD.root, issued=_HELD.issued, expires=_HELD.expires),)),
    ),
)

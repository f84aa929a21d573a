"""What airdropd promises about the fund's coins: books to the florin, sweeps with their proofs, key ceremonies."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.airdrop_errors import NoSuchAirdrop, ProofNotReady
from common.errors import CallerMistake, NotFound
from common.rpc.method import Done, Empty, Method, callers_of
from common.units import BlockHeight, Did, Florins

HISTORY_MAX = 500
READERS = callers_of("airdropd")

_DID = Did("did:dux:" + "a" * 52)


class ProofTooLong(CallerMistake):
    """The proof file would have {count} {what}, {most} are the most: make it earlier after the payment."""

    code = 4051
    key = "proof-too-long"


class NoSuchSweep(NotFound):
    """There is no proven sweep {name} here; `airdrop.sweeps` lists those there are."""

    code = 4050
    key = "no-such-sweep"


class FundAccounts(Wire, frozen=True):
    """received = paid + sweep fees + payout fees + what lies on the fund and on collectors, to the florin."""

    received_florins: Florins  # taxes and gifts, on whichever of the fund's scripts
    swept_florins: Florins  # into the fund
    sweep_fees_florins: Florins
    paid_florins: Florins  # out of the fund, to nodes
    payout_fees_florins: Florins
    fund_florins: Florins
    collectors_florins: Florins
    difference_florins: Florins  # 0: the books close
    parameters: int  # version of the parameter set in force
    addresses: dict[str, str]  # what each script is, by address


class SweepView(Wire, frozen=True):
    """One sweep as this keeper computed it."""

    sweep_id: str
    height: BlockHeight
    inputs: int
    swept_florins: Florins
    fee_florins: Florins
    signatures: int
    needed: int
    txid: str  # empty until it lies deep enough
    mined_height: BlockHeight | None


class SweepsAsked(Wire, frozen=True):
    """Newest first."""

    limit: Annotated[int, Meta(ge=1, le=HISTORY_MAX)] = 50


class Sweeps(Wire, frozen=True):
    """Sweeps, newest first, and the height of the next."""

    sweeps: list[SweepView]
    next_height: BlockHeight


class SweepAsked(Wire, frozen=True):
    """Which sweep."""

    sweep_id: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class SweepProofFile(Wire, frozen=True):
    """The proof of a sweep with all of the chain that it needs: `duxnet verify sweep` reads it, on any machine."""

    file: bytes


class AirdropFileAsked(Wire, frozen=True):
    """Which airdrop."""

    number: Annotated[int, Meta(ge=0)]


class AirdropFile(Wire, frozen=True):
    """The proof of an airdrop with all of the chain that it needs: `duxnet verify airdrop` reads it, on any machine."""

    file: bytes


class CeremonyJoin(Wire, frozen=True):
    """A key ceremony that this node's operator takes part in: every member is given the same words."""

    request_id: str
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    needed: Annotated[int, Meta(ge=1, le=15)]
    members: Annotated[list[Did], Meta(min_length=1, max_length=15)]
    key_number: Annotated[int, Meta(ge=0, lt=16)] = 0


class CeremonyState(Wire, frozen=True):
    """One ceremony: who is waited for, and its outcome once all have agreed."""

    ceremony_id: str
    name: str
    needed: int
    members: list[Did]
    keys_missing: list[Did]
    agreements_missing: list[Did]
    address: str  # of the script that all agreed to; empty until then
    pubkeys: dict[Did, str]  # of the members, once all agreed
    roster: bytes  # both words of everybody: whoever has them checks them without asking


class CeremonyStates(Wire, frozen=True):
    """All ceremonies of this node."""

    ceremonies: list[CeremonyState]


class FundSwept(Wire, frozen=True):
    """A sweep lies deep enough in the chain."""

    txid: str
    height: BlockHeight
    swept_florins: Florins
    fee_florins: Florins


_ID = "5e" * 32
FUND_ACCOUNTS: Method[Empty, FundAccounts] = Method(
    name="airdrop.accounts",
    params=Empty,
    result=FundAccounts,
    summary="The fund's books from the chain alone: all that came in is paid, a fee, or still there.",
    callers=READERS,
    example=(
        Empty(),
        FundAccounts(
            received_florins=Florins(10_100_000_000), swept_florins=Florins(10_000_000_000),
            sweep_fees_florins=Florins(1_000_000), paid_florins=Florins(9_000_000_000),
            payout_fees_florins=Florins(2_000_000), fund_florins=Florins(998_000_000),
            collectors_florins=Florins(99_000_000), difference_florins=Florins(0), parameters=1,
            addresses={"2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he": "fund, 8 of 15"},
        ),
    ),
)  # fmt: skip
FUND_SWEEPS: Method[SweepsAsked, Sweeps] = Method(
    name="airdrop.sweeps",
    params=SweepsAsked,
    result=Sweeps,
    summary="What keepers of collectors, and earlier custodians, have swept into the fund.",
    callers=READERS,
    example=(
        SweepsAsked(limit=1),
        Sweeps(
            sweeps=[
                SweepView(
                    sweep_id=_ID, height=BlockHeight(1_440), inputs=12, swept_florins=Florins(500_000_000),
                    fee_florins=Florins(4_500_000), signatures=2, needed=2, txid="ab" * 32,
                    mined_height=BlockHeight(1_452),
                )
            ],
            next_height=BlockHeight(2_880),
        ),
    ),
)  # fmt: skip
SWEEP_FILE: Method[SweepAsked, SweepProofFile] = Method(
    name="airdrop.sweep_file",
    params=SweepAsked,
    result=SweepProofFile,
    summary="The public proof file of a sweep, for `duxnet verify sweep`.",
    callers=READERS,
    raises=(NoSuchSweep, ProofTooLong),
    deadline_max_s=120.0,
    example=(SweepAsked(sweep_id=_ID), SweepProofFile(file=b"\x97")),
)
AIRDROP_FILE: Method[AirdropFileAsked, AirdropFile] = Method(
    name="airdrop.file",
    params=AirdropFileAsked,
    result=AirdropFile,
    summary="The public proof file of a paid airdrop, for `duxnet verify airdrop`.",
    callers=READERS,
    raises=(NoSuchAirdrop, ProofNotReady, ProofTooLong),
    deadline_max_s=120.0,
    example=(AirdropFileAsked(number=0), AirdropFile(file=b"\x97")),
)
CEREMONY_JOIN: Method[CeremonyJoin, Done] = Method(
    name="airdrop.ceremony_join",
    params=CeremonyJoin,
    result=Done,
    summary="Take part in a key ceremony of the fund: make this node's key and show it to the other members.",
    callers=("cli", "module"),
    once=True,
    example=(CeremonyJoin(request_id="ceremony-1", name="2027", needed=1, members=[_DID]), Done()),
)
CEREMONY_SHOW: Method[Empty, CeremonyStates] = Method(
    name="airdrop.ceremonies",
    params=Empty,
    result=CeremonyStates,
    summary="The key ceremonies of this node: whom they wait for, and what came of them.",
    callers=READERS,
    example=(
        Empty(),
        CeremonyStates(
            ceremonies=[
                CeremonyState(
                    ceremony_id=_ID, name="2027", needed=1, members=[_DID], keys_missing=[], agreements_missing=[_DID],
                    address="", pubkeys={}, roster=b"",
                )
            ]
        ),
    ),
)  # fmt: skip

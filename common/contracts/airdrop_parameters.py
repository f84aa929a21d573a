"""What airdropd promises about parameter sets that the council has signed: telling the network, finding them in it."""

from __future__ import annotations

from common.codec import Wire
from common.errors import NotFound
from common.parameters import ParametersRefused
from common.rpc.method import Empty, Method, callers_of
from common.units import BlockHeight

SET_BYTES_MAX = 512 * 1024  # with the logs of half of a council of sixty


class NoNewerSet(NotFound):
    """Nobody has told the network of a signed parameter set after version {version}: repeat later, or ask a founder."""

    code = 4052
    key = "no-newer-set"


class PublishSet(Wire, frozen=True):
    """The JSON of a `common.parameter_file.SignedSet`: the version after this node's, or one that it has taken."""

    request_id: str
    signed: bytes


class SetPublished(Wire, frozen=True):
    """Which version is told, as which blob, and how many nodes keep its pointer by now; it is renewed from here on."""

    version: int
    blob: str
    kept_at: int


class SetFound(Wire, frozen=True):
    """The version after this node's, signed by enough of the council, as far as the network knows their names now."""

    version: int
    from_height: BlockHeight
    signed: bytes


_SIGNED = b'{"parameters":{},"signatures":[]}'

PARAMETERS_PUBLISH: Method[PublishSet, SetPublished] = Method(
    name="airdrop.publish_parameters",
    params=PublishSet,
    result=SetPublished,
    summary="Tell the network of a parameter set that enough of the council have signed, and go on telling it.",
    callers=("cli", "module"),
    once=True,
    raises=(ParametersRefused,),
    deadline_max_s=60.0,
    example=(PublishSet(request_id="set-2", signed=_SIGNED), SetPublished(version=2, blob="ab" * 32, kept_at=12)),
)
PARAMETERS_FIND: Method[Empty, SetFound] = Method(
    name="airdrop.find_parameters",
    params=Empty,
    result=SetFound,
    summary="The signed parameter set after this node's, from the network.",
    callers=callers_of("airdropd"),
    raises=(NoNewerSet,),
    deadline_max_s=60.0,
    example=(Empty(), SetFound(version=2, from_height=BlockHeight(50_000), signed=_SIGNED)),
)

"""Errors that tell the caller what to do next.

Every error a daemon answers with is a `DuxError`: a number for programs, a key for logs, fields with the figures, and
a docstring that is the message a person reads. What is not a `DuxError` is our own bug and leaves the daemon as
"internal". Codes stand in blocks: 1000 common, 2000 wallet, 3000 escrow, 4000 airdrop, 5000 registry, 6000 store,
7000 tasks, 8000 p2p.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from common.units import format_flop

FieldValue = str | int | float | bool | None

CODE_MAX, KEY_CHARS_MAX = 65_535, 64  # of any error, ours or a third party's: what the answer to a peer has room for


class DuxError(Exception):
    """Something went wrong."""

    code: ClassVar[int] = 1000
    key: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, **fields: FieldValue) -> None:
        """Keep the figures; the text is the class's docstring with them filled in."""
        self.fields: dict[str, FieldValue] = fields
        super().__init__(_text(self.__doc__ or "error", fields))

    @property
    def message(self) -> str:
        """The docstring's first line with the fields filled in; missing fields are left out rather than raising.

        Who reads it is a person: a field named `…_florins` stands there as FLOP (settled.md 10), and a sentence inside
        the sentence leaves its full stop out.
        """
        return str(self.args[0])


def _text(doc: str, fields: Mapping[str, FieldValue]) -> str:
    template = doc.strip().partition("\n")[0]
    try:
        return template.format(**{name: _for_people(name, value) for name, value in fields.items()})
    except (KeyError, IndexError, ValueError):
        return f"{template} {fields}" if fields else template


def _for_people(name: str, value: FieldValue) -> FieldValue:
    """A field as it stands in a message."""
    if name.endswith("florins") and isinstance(value, int):
        return f"{format_flop(value)} FLOP"
    is_sentence = isinstance(value, str) and " " in value and value.endswith(".") and not value.endswith("..")
    return value[:-1] if isinstance(value, str) and is_sentence else value


class CallerMistake(DuxError):
    """The call is wrong: mend it and call again."""

    code = 1100
    key = "caller-mistake"
    http_status = 400


class NotNow(DuxError):
    """The call is right but not now: wait, then repeat it with the same request_id."""

    code = 1200
    key = "not-now"
    http_status = 409


class Unavailable(DuxError):
    """A neighbour or the chain is down: repeat the call later with the same request_id."""

    code = 1300
    key = "unavailable"
    http_status = 503


class PeerMisbehaved(DuxError):
    """The other node broke the protocol: {reason}."""

    code = 1400
    key = "peer-misbehaved"
    http_status = 502


class BadParams(CallerMistake):
    """{detail}."""

    code = 1101
    key = "bad-params"


class UnknownMethod(CallerMistake):
    """No method {method!r} here; rpc.discover lists those there are."""

    code = 1102
    key = "unknown-method"
    http_status = 404


class BadRequest(CallerMistake):
    """{detail}."""

    code = 1103
    key = "bad-request"


class NotPermitted(CallerMistake):
    """{caller} may not call {method}; its contract permits {permitted}."""

    code = 1104
    key = "not-permitted"
    http_status = 403


class NoToken(CallerMistake):
    """No or unknown token: send `Authorization: Bearer` with the text of the token file {token_file}."""

    code = 1105
    key = "no-token"
    http_status = 401


class BrowserCall(CallerMistake):
    """A browser's page may not call a daemon ({header}: {value}); use the dashboard or a program of your own."""

    code = 1106
    key = "browser-call"
    http_status = 403


class TooLarge(CallerMistake):
    """The body has more than {limit_bytes} bytes; move bulk data as blobs."""

    code = 1107
    key = "too-large"
    http_status = 413


class RequestIdReused(CallerMistake):
    """request_id {request_id!r} was used for another call of {method}; make a new one for a new wish."""

    code = 1108
    key = "request-id-reused"
    http_status = 409


class NotFound(CallerMistake):
    """There is no {what} {name!r} here: look at the list of those there are, or check the spelling."""

    code = 1109
    key = "not-found"
    http_status = 404


class TooBusy(NotNow):
    """{limit} calls are in progress already; repeat in a moment."""

    code = 1201
    key = "too-busy"
    http_status = 429


class DeadlinePassed(Unavailable):
    """{method} did not answer within {deadline_s} s; repeat it with the same request_id to learn what became of it."""

    code = 1301
    key = "deadline-passed"
    http_status = 504


class NeighbourDown(Unavailable):
    """{daemon} does not answer at {address}: {detail}. Is it running? `duxnet status` tells."""

    code = 1302
    key = "neighbour-down"


class Ending(Unavailable):
    """The daemon is ending; repeat the call with the same request_id once it is up again."""

    code = 1303
    key = "ending"


class Internal(DuxError):
    """Internal error; the daemon's log has the trace under call_id={call_id}."""

    code = 1001
    key = "internal"


class BadSettings(CallerMistake):
    """{path}: {detail}."""

    code = 1110
    key = "bad-settings"


class NewerSchema(CallerMistake):
    """{path} was written by a newer version (schema {found}, this version knows {known}): update it."""

    code = 1111
    key = "newer-schema"


class CorruptStore(DuxError):
    """{path} is damaged: {detail}. Restore the newest backup beside it; nothing was written."""

    code = 1002
    key = "corrupt-store"


class RemoteFailure(DuxError):
    """{text} (an error that this program does not know: {remote_code} {remote_key})."""

    code = 1003
    key = "remote-failure"


class RemoteNotNow(NotNow):
    """{text} (repeat it later with the same request_id; an error that this program does not know: {remote_code})."""

    code = 1202
    key = "remote-not-now"


def may_repeat(error: DuxError) -> bool:
    """Whether the same call, repeated with the same request_id, may go well later: not now, or a fault not of the call.

    An internal error is such a fault: giving up for it would lose what was to be done.
    """
    return isinstance(error, NotNow | Unavailable | Internal)


def all_errors(base: type[DuxError] = DuxError) -> list[type[DuxError]]:
    """Every error class known to the running program, parents first, for tables and the client's map."""
    found = [base]
    for child in base.__subclasses__():
        found.extend(all_errors(child))
    return list(dict.fromkeys(found))

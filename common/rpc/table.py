"""The methods a daemon serves, without any socket.

Bytes of one JSON-RPC request go in, bytes of one answer come out. Parameters are decoded into the contract's struct
before a handler sees them; every exception becomes an error answer, and only a `DuxError`'s own text ever leaves
(anything else is "internal" with a call id, its trace in the log). Batches and notifications are refused: each call is
one decision.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from jsonrpcserver import Error, Success
from jsonrpcserver.async_dispatcher import call as call_method
from jsonrpcserver.dispatcher import to_response
from jsonrpcserver.request import Request as Asked
from jsonrpcserver.response import to_serializable
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import Wire, from_plain, json_bytes
from common.errors import (
    BadParams,
    BadRequest,
    CallerMistake,
    DeadlinePassed,
    DuxError,
    Internal,
    NotPermitted,
    RequestIdReused,
    UnknownMethod,
    may_repeat,
)
from common.randomness import Randomness, new_id
from common.rpc.method import Method, P, R
from common.store import Store, Tx

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
REQUEST_ID_CHARS_MAX = 128


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One JSON-RPC 2.0 request object."""

    jsonrpc: str
    method: str
    id: str | int
    params: dict[str, Any] = {}


@dataclass(kw_only=True)
class Ctx:
    """Who calls, under which id, until when."""

    caller: str
    call_id: str
    deadline: float  # on the event loop's clock
    method: str = ""
    request_id: str = ""
    params_hash: bytes = b""
    remembered: bool = False

    def seconds_left(self) -> float:
        """How long the caller still waits; pass it along to whom you call."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def remember(self, tx: Tx, result: Wire) -> None:
        """Keep the answer of a `once` method in the same transaction as its decision."""
        tx.remember(self.caller, self.method, self.request_id, self.params_hash, json_bytes(result))
        self.remembered = True


@dataclass
class Taken:
    """How often a method was called, and the seconds that its calls took, waiting included."""

    calls: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One more call."""
        self.calls += 1
        self.seconds += seconds


Handler = Callable[[P, Ctx], Awaitable[R]]
_Bound = Callable[[dict[str, Any], Ctx], Awaitable[Wire]]


class MethodTable:
    """What one daemon serves."""

    def __init__(self, *, log: FilteringBoundLogger, clock: Clock, randomness: Randomness) -> None:
        self._log = log
        self._clock = clock
        self._randomness = randomness
        self._bound: dict[str, _Bound] = {}
        self._in_progress: dict[tuple[str, str, str], asyncio.Future[Wire]] = {}
        self.methods: dict[str, Method[Any, Any]] = {}
        self.taken: dict[str, Taken] = {}  # by method
        self.store: Store | None = None

    def serve(self, method: Method[P, R], handler: Handler[P, R]) -> None:
        """Answer `method` with `handler`; its types are the contract's."""
        if method.name in self.methods:
            raise ValueError(f"{method.name} is served already")

        async def run(params: dict[str, Any], ctx: Ctx) -> Wire:
            decoded = from_plain(params, method.params)
            if method.once:
                return await self._once(method, decoded, ctx, lambda: handler(decoded, ctx))
            return await handler(decoded, ctx)

        self.methods[method.name], self.taken[method.name] = method, Taken()
        self._bound[method.name] = run

    def callers(self) -> list[str]:
        """Everybody who may call at least one method here."""
        return sorted({caller for method in self.methods.values() for caller in method.callers})

    async def dispatch(self, body: bytes, *, caller: str, deadline_s: float, call_id: str = "") -> bytes:
        """One request in, one answer out; never raises but for cancellation."""
        call_id = call_id or new_id(self._randomness, "call")
        try:
            request = _parse(body)
        except DuxError as error:
            self._log.info("call refused", caller=caller, call_id=call_id, reason=error.message)
            return json_bytes(error_answer(error, None))
        ctx = Ctx(caller=caller, call_id=call_id, deadline=asyncio.get_running_loop().time() + deadline_s)
        # jsonrpcserver's own steps for one request; its way in for texts also makes a task, looks for batches and binds
        # the parameters to a signature, of which nothing is left to do here
        asked = Asked(request.method, request.params, request.id)
        result = await call_method(asked, ctx, self._runner(asked.method))
        return json_bytes(to_serializable(to_response(asked, result)))

    def _runner(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def run(ctx: Ctx, /, **params: Any) -> Any:
            started = self._clock.monotonic()
            structlog.contextvars.bind_contextvars(call_id=ctx.call_id)
            try:
                result = await self._call(name, params, ctx)
            except DuxError as error:
                outcome, answer = error.key, _error(error)
            except Exception:  # noqa: BLE001 - our own bug: the caller learns only the call id, the log has the trace
                self._log.exception("call failed", method=name, caller=ctx.caller)
                outcome, answer = "internal", _error(Internal(call_id=ctx.call_id))
            else:
                outcome, answer = "ok", Success(msgspec.Raw(json_bytes(result)))
            finally:
                structlog.contextvars.unbind_contextvars("call_id")
            taken_s = self._clock.monotonic() - started
            self.taken.get(name, Taken()).add(taken_s)
            self._log.debug(
                "call answered",
                method=name,
                caller=ctx.caller,
                outcome=outcome,
                ms=round(taken_s * 1000, 1),
                call_id=ctx.call_id,
            )
            return answer

        return run

    async def _call(self, name: str, params: dict[str, Any], ctx: Ctx) -> Wire:
        method = self.methods.get(name)
        if method is None:
            raise UnknownMethod(method=name[:100])
        if ctx.caller not in method.callers:
            raise NotPermitted(caller=ctx.caller, method=name, permitted=", ".join(method.callers))
        ctx.method = name
        ctx.deadline = min(ctx.deadline, asyncio.get_running_loop().time() + method.deadline_max_s)
        try:
            async with asyncio.timeout_at(ctx.deadline):
                return await self._bound[name](params, ctx)
        except TimeoutError as error:
            raise DeadlinePassed(method=name, deadline_s=method.deadline_max_s) from error

    async def _once(
        self, method: Method[Any, Any], params: Wire, ctx: Ctx, handle: Callable[[], Awaitable[Wire]]
    ) -> Wire:
        ctx.request_id = _request_id(params)
        ctx.params_hash = hashlib.sha256(json_bytes(params)).digest()
        key = (ctx.caller, method.name, ctx.request_id)
        earlier = self._earlier(method, ctx)
        if earlier is not None:
            return earlier
        if key in self._in_progress:
            await asyncio.wait([self._in_progress[key]])
            return await self._once(method, params, ctx, handle)
        future: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self._in_progress[key] = future
        try:
            result = await handle()
            self._keep(ctx, result)
            return result
        finally:
            del self._in_progress[key]
            future.cancel()

    def _earlier(self, method: Method[Any, Any], ctx: Ctx) -> Wire | None:
        if self.store is None:
            raise RuntimeError(f"{method.name} must happen once, but this daemon keeps no store")
        row = self.store.row(
            "SELECT params_hash, answer FROM answers WHERE caller = ? AND method = ? AND request_id = ?",
            ctx.caller,
            ctx.method,
            ctx.request_id,
        )
        if row is None:
            return None
        if row["params_hash"] != ctx.params_hash:
            raise RequestIdReused(request_id=ctx.request_id, method=method.name)
        answer: Wire = from_plain(msgspec.json.decode(row["answer"]), method.result)
        return answer

    def _keep(self, ctx: Ctx, result: Wire) -> None:
        if not ctx.remembered and self.store is not None:
            with self.store.transaction() as tx:
                ctx.remember(tx, result)


def _request_id(params: Wire) -> str:
    request_id = str(getattr(params, "request_id", ""))
    if not 1 <= len(request_id) <= REQUEST_ID_CHARS_MAX or not request_id.isprintable():
        raise BadParams(detail=f"request_id must have 1 to {REQUEST_ID_CHARS_MAX} printable characters")
    return request_id


def _parse(body: bytes) -> Request:
    try:
        if body.lstrip()[:1] == b"[":
            raise BadRequest(detail="batches are refused: send one call per request")
        request = msgspec.json.decode(body, type=Request)
    except msgspec.ValidationError as error:
        raise BadRequest(detail=f"not a JSON-RPC 2.0 request: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ParseFailed(detail=str(error)) from error
    except RecursionError as error:
        raise BadRequest(detail="nested too deeply") from error
    if request.jsonrpc != "2.0":
        raise BadRequest(detail=f"jsonrpc must be '2.0', not {request.jsonrpc[:20]!r}")
    return request


class ParseFailed(CallerMistake):
    """The body is not JSON: {detail}."""

    code = 1112
    key = "parse-failed"


def error_code(error: DuxError) -> int:
    """JSON-RPC's own code where it has one for this, ours elsewhere."""
    standard: tuple[tuple[type[DuxError], int], ...] = (
        (ParseFailed, PARSE_ERROR),
        (BadRequest, INVALID_REQUEST),
        (UnknownMethod, METHOD_NOT_FOUND),
        (BadParams, INVALID_PARAMS),
        (Internal, INTERNAL_ERROR),
    )
    return next((code for kind, code in standard if type(error) is kind), error.code)


def error_data(error: DuxError) -> dict[str, Any]:
    """What a program needs: our code, key, the figures, and whether repeating the same call can help."""
    return {
        "code": error.code,
        "key": error.key,
        "fields": error.fields,
        "retry": may_repeat(error),
    }


def _error(error: DuxError) -> Any:
    return Error(error_code(error), error.message, error_data(error))


def error_answer(error: DuxError, request_id: str | int | None) -> dict[str, Any]:
    """An error answer outside any dispatch (wrong token, body too large, not JSON)."""
    body = {"code": error_code(error), "message": error.message, "data": error_data(error)}
    return {"jsonrpc": "2.0", "error": body, "id": request_id}

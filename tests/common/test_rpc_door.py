"""The door of a daemon: what is refused, how clearly, and that the daemon stays up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.codec import Wire
from common.contracts.base import INFO
from common.daemon import DuxOSDaemon
from common.errors import BadRequest, DuxError, RemoteFailure, RemoteNotNow, RequestIdReused, Unavailable, may_repeat
from common.network import NetworkProfile
from common.parts import Parts
from common.rpc.client import HttpClient, raise_error, request_body
from common.rpc.method import Empty, Method
from common.rpc.server import BODY_BYTES_MAX, CALLS_PER_CALLER_MAX
from common.rpc.table import Ctx
from common.settings import DaemonSettings

pytestmark = pytest.mark.patient

PLANTED_SECRET = "correct horse battery staple"


class Settings(DaemonSettings, frozen=True, kw_only=True):
    port: int = 0


class Number(Wire, frozen=True):
    n: int


class Once(Wire, frozen=True):
    request_id: str
    n: int


def method(name: str, params: type = Number, callers: tuple[str, ...] = ("cli",), *, once: bool = False) -> Any:
    example = (Once(request_id="r", n=1) if once else Number(n=1), Number(n=2))
    return Method(
        name=name,
        params=params,
        result=Number,
        summary="s",
        callers=callers,
        example=example,
        once=once,
        deadline_max_s=5,
    )


class Text(Wire, frozen=True):
    text: str


LONG = Method(
    name="test.long",
    params=Number,
    result=Text,
    summary="s",
    callers=("cli",),
    example=(Number(n=1), Text(text="x")),
)
DOUBLE, CRASH, SLOW = method("test.double"), method("test.crash"), method("test.slow")
ESCROW_ONLY = method("test.escrow_only", callers=("escrowd",))
PAY = method("test.pay", Once, once=True)


class DoorDaemon(DuxOSDaemon[Settings]):
    name = "testd"
    settings_type = Settings

    async def assemble(self, parts: Parts[Settings]) -> None:
        store = parts.store(["CREATE TABLE paid (n INTEGER);"])
        self.crash_after_commit = False

        async def double(params: Number, _ctx: Ctx) -> Number:
            return Number(n=params.n * 2)

        async def crash(_params: Number, _ctx: Ctx) -> Number:
            raise RuntimeError(PLANTED_SECRET)

        async def long(params: Number, _ctx: Ctx) -> Text:
            return Text(text="x" * params.n)

        parts.table.serve(LONG, long)

        async def slow(params: Number, _ctx: Ctx) -> Number:
            await asyncio.sleep(params.n)
            return params

        async def pay(params: Once, ctx: Ctx) -> Number:
            with store.transaction() as tx:
                tx.execute("INSERT INTO paid VALUES (?)", params.n)
                total = tx.row("SELECT sum(n) AS s FROM paid")["s"]
                ctx.remember(tx, Number(n=total))
            if self.crash_after_commit:
                raise asyncio.CancelledError
            return Number(n=total)

        for contract, handler in ((DOUBLE, double), (CRASH, crash), (SLOW, slow), (ESCROW_ONLY, double), (PAY, pay)):
            parts.table.serve(contract, handler)


@asynccontextmanager
async def door(tmp_path: Path, profile: NetworkProfile) -> AsyncIterator[tuple[DoorDaemon, HttpClient]]:
    options = Settings(network_profile="", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "run"))
    daemon = DoorDaemon(options, profile)
    async with daemon.running():
        client = HttpClient("testd", f"http://127.0.0.1:{daemon.port}/", tmp_path / "run" / "testd" / "cli.token")
        try:
            yield daemon, client
        finally:
            await client.close()


async def post(client: HttpClient, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    usual = {"Authorization": f"Bearer {client.token()}", "Content-Type": "application/json"}
    usual |= headers or {}
    async with client.session().post(client.url, data=body, headers={k: v for k, v in usual.items() if v}) as response:
        return response.status, json.loads(await response.read())


def call(name: str = "test.double", **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": params}).encode()


REFUSALS: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("empty body", b"", {}, -32700, "not JSON"),
    ("not JSON", b"{", {}, -32700, "not JSON"),
    ("not text", b"\xff\xfe\x00", {}, -32700, "not JSON"),
    ("a number", b"1", {}, -32600, "not a JSON-RPC"),
    ("a batch", b"[" + call(n=1) + b"]", {}, -32600, "batches are refused"),
    ("an empty batch", b"[]", {}, -32600, "batches are refused"),
    ("no id (a notification)", b'{"jsonrpc":"2.0","method":"test.double","params":{"n":1}}', {}, -32600, "id"),
    ("id is an object", b'{"jsonrpc":"2.0","id":{},"method":"test.double"}', {}, -32600, "id"),
    ("version 1.0", b'{"jsonrpc":"1.0","id":1,"method":"test.double"}', {}, -32600, "2.0"),
    ("positional parameters", b'{"jsonrpc":"2.0","id":1,"method":"test.double","params":[1]}', {}, -32600, "params"),
    ("an unknown member", b'{"jsonrpc":"2.0","id":1,"method":"test.double","auth":"x"}', {}, -32600, "auth"),
    (
        "nested 100,000 deep",
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":' + b"[" * 100_000,
        {},
        -32600,
        "deep",
    ),
    ("unknown method", call("test.nothing"), {}, -32601, "rpc.discover"),
    ("a dunder as method", call("__class__"), {}, -32601, "No method"),
    ("missing parameter", call(), {}, -32602, "missing required field `n`"),
    ("wrong type", call(n="1"), {}, -32602, "$.n"),
    ("float for an integer", call(n=1.5), {}, -32602, "$.n"),
    (
        "a huge float for an integer",
        b'{"jsonrpc":"2.0","id":1,"method":"test.double","params":{"n":1e99}}',
        {},
        -32602,
        "$.n",
    ),
    ("bool for an integer", call(n=True), {}, -32602, "$.n"),
    ("unknown parameter", call(n=1, m=2), {}, -32602, "m"),
    ("a parameter named like ours", call(n=1, ctx=2), {}, -32602, "ctx"),
    ("body too large", b" " * (BODY_BYTES_MAX + 1), {}, 1107, "as blobs"),
    ("no token", call(n=1), {"Authorization": ""}, 1105, "token file"),
    ("wrong token", call(n=1), {"Authorization": "Bearer " + "0" * 64}, 1105, "token file"),
    ("token not as Bearer text", call(n=1), {"Authorization": "Basic dXNlcjpwYXNz"}, 1105, "token file"),
    ("a page of another site", call(n=1), {"Origin": "https://evil.example"}, 1106, "browser"),
    ("a page of this machine", call(n=1), {"Origin": "http://localhost:32560"}, 1106, "browser"),
    ("DNS rebinding", call(n=1), {"Host": "evil.example:32560"}, 1106, "browser"),
    ("fetch metadata", call(n=1), {"Sec-Fetch-Site": "cross-site"}, 1106, "browser"),
    ("a form post", call(n=1), {"Content-Type": "text/plain"}, -32600, "application/json"),
    ("not permitted", call("test.escrow_only", n=1), {}, 1104, "escrowd"),
    ("deadline not a number", call(n=1), {"Dux-Deadline-Ms": "soon"}, -32600, "milliseconds"),
    ("request_id empty", call("test.pay", request_id="", n=1), {}, -32602, "1 to 128"),
    ("request_id too long", call("test.pay", request_id="x" * 129, n=1), {}, -32602, "1 to 128"),
]


@pytest.mark.parametrize(("body", "headers", "code", "says"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
async def test_bad_calls_get_a_clear_error(
    tmp_path: Path, profile: NetworkProfile, body: bytes, headers: dict[str, str], code: int, says: str
) -> None:
    """Each kind of bad call: its own code, a text that says what to do, and the next good call is answered."""
    async with door(tmp_path, profile) as (_daemon, client):
        status, answer = await post(client, body, headers)
        assert answer["error"]["code"] == code, answer
        assert says in answer["error"]["message"]
        assert (status == 200) == (code < 0 or code == 1104) or status == 400
        assert await client.call(DOUBLE, Number(n=4)) == Number(n=8)


async def test_long_answers_arrive_whole(tmp_path: Path, profile: NetworkProfile) -> None:
    """An answer of many network reads is not cut at the first."""
    async with door(tmp_path, profile) as (_daemon, client):
        answer = await client.call(LONG, Number(n=3_000_000))
        assert len(answer.text) == 3_000_000


async def test_our_own_bug_tells_nothing_but_its_number(tmp_path: Path, profile: NetworkProfile) -> None:
    """An exception's text never reaches the caller (it may hold anything); a call id finds it in the log."""
    async with door(tmp_path, profile) as (_daemon, client):
        _, answer = await post(client, call("test.crash", n=1))
        assert answer["error"]["code"] == -32603
        assert "call-" in answer["error"]["message"]
        assert PLANTED_SECRET not in json.dumps(answer)


async def test_a_deadline_is_kept(tmp_path: Path, profile: NetworkProfile) -> None:
    """A caller who waits 0.1 s is answered after about that, with the advice to repeat."""
    async with door(tmp_path, profile) as (_daemon, client):
        _, answer = await post(client, call("test.slow", n=30), {"Dux-Deadline-Ms": "100"})
        assert answer["error"]["code"] == 1301
        assert answer["error"]["data"]["retry"] is True


async def test_calls_in_progress_are_limited_per_caller(tmp_path: Path, profile: NetworkProfile) -> None:
    """One caller cannot take all places; the refused call says to repeat."""
    async with door(tmp_path, profile) as (_daemon, client):
        slow = [asyncio.ensure_future(post(client, call("test.slow", n=3))) for _ in range(CALLS_PER_CALLER_MAX + 8)]
        done = await asyncio.gather(*slow)
        refused = [answer for status, answer in done if status == 429]
        assert refused
        assert all(answer["error"]["data"]["retry"] for answer in refused)


async def test_a_repetition_gets_the_first_answer_also_after_a_restart(tmp_path: Path, profile: NetworkProfile) -> None:
    """Money moves once per request_id: repeated, in parallel, and after the daemon was started again."""
    async with door(tmp_path, profile) as (_daemon, client):
        answers = await asyncio.gather(*(client.call(PAY, Once(request_id="a", n=5)) for _ in range(8)))
        assert {answer.n for answer in answers} == {5}
    async with door(tmp_path, profile) as (_daemon, client):
        assert (await client.call(PAY, Once(request_id="a", n=5))).n == 5
        assert (await client.call(PAY, Once(request_id="b", n=5))).n == 10
        with pytest.raises(RequestIdReused):
            await client.call(PAY, Once(request_id="a", n=6))


async def test_an_answer_lost_after_the_decision_is_given_again(tmp_path: Path, profile: NetworkProfile) -> None:
    """The daemon dies between commit and answer: the repetition finds the decision made, and is not a second one."""
    async with door(tmp_path, profile) as (daemon, client):
        daemon.crash_after_commit = True
        with pytest.raises(Unavailable):
            await client.call(PAY, Once(request_id="a", n=5), deadline_s=1)
    async with door(tmp_path, profile) as (_daemon, client):
        assert (await client.call(PAY, Once(request_id="a", n=5))).n == 5


async def test_a_token_of_bytes_that_are_no_text_is_refused_like_any_other(
    tmp_path: Path, profile: NetworkProfile
) -> None:
    """Whatever stands in the header, the answer is 401 and says where the right token is."""
    async with door(tmp_path, profile) as (daemon, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        assert b"token file" in await reader.readuntil(b"}")
        writer.close()


async def test_tokens_are_per_caller_and_not_for_everybody(tmp_path: Path, profile: NetworkProfile) -> None:
    """Each caller has a file of its own that no other user may read."""
    async with door(tmp_path, profile):
        files = sorted((tmp_path / "run" / "testd").glob("*.token"))
        assert {"cli.token", "escrowd.token"} <= {file.name for file in files}
        assert len({file.read_text() for file in files}) == len(files)
        assert all(file.stat().st_mode & 0o777 == 0o640 for file in files)


async def test_errors_come_back_as_their_classes(tmp_path: Path, profile: NetworkProfile) -> None:
    """A caller in Python catches the class that the daemon raised."""
    async with door(tmp_path, profile) as (_daemon, client):
        with pytest.raises(BadRequest, match="nowhere"):
            await client.transfer("GET", "/nowhere", None)


@pytest.mark.parametrize(
    ("answered", "kind", "code"),
    [
        (
            {"code": 9901, "message": "wait", "data": {"code": 9901, "key": "wait", "retry": True}},
            RemoteNotNow,
            9901,
        ),
        ({"code": 9902, "message": "no", "data": {"code": 9902, "key": "no", "retry": False}}, RemoteFailure, 9902),
        ({"code": -32603, "message": "a third party's", "data": None}, RemoteFailure, RemoteFailure.code),
        ({"code": 10**9, "message": "x", "data": {"code": 10**9, "key": "k" * 999}}, RemoteFailure, RemoteFailure.code),
    ],
)
def test_an_error_that_is_not_known_here_still_tells_whether_to_repeat(
    answered: dict[str, Any], kind: type[DuxError], code: int
) -> None:
    """A newer daemon's "not now" is no refusal: its number, text and whether a repetition helps are kept."""
    with pytest.raises(kind, match=answered["message"]) as caught:
        raise_error(answered)
    assert caught.value.fields["remote_code"] == code
    assert may_repeat(caught.value) == (kind is RemoteNotNow)
    assert len(str(caught.value.fields["remote_key"])) <= 64


FUZZ_CASES = 150


async def test_fuzzed_bodies_never_take_the_daemon_down(tmp_path: Path, profile: NetworkProfile) -> None:
    """150 mutations of a good call: each gets a JSON object with result or error, and the daemon answers afterwards."""
    async with door(tmp_path, profile) as (_daemon, client):
        good = call(n=21)
        cases: list[bytes] = []

        @given(st.integers(0, len(good) - 1), st.binary(max_size=6), st.integers(0, 6))
        @settings(max_examples=FUZZ_CASES, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def collect(at: int, insert: bytes, cut: int) -> None:
            cases.append(good[:at] + insert + good[at + cut :])

        collect()
        assert len(cases) >= FUZZ_CASES
        for body in cases:
            _, answer = await post(client, body)
            assert ("result" in answer) != ("error" in answer), (body, answer)
        assert await client.call(DOUBLE, Number(n=4)) == Number(n=8)


def test_calls_are_formed_in_several_threads_at_once() -> None:
    """The command line and a daemon in one process form calls side by side: no state is shared between them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            bodies = list(pool.map(lambda _: request_body(INFO, Empty()), range(4000)))
    finally:
        sys.setswitchinterval(interval)
    assert set(bodies) == {b'{"jsonrpc":"2.0","method":"daemon.info","id":1}'}

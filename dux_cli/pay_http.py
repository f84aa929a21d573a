"""`duxnet sell-http`, `duxnet pay-http` and `duxnet gateway`: HTTP endpoints sold and bought per call, from a shell.

Promises: nothing is paid above the limits that stand on the command line; what was done is told on stderr, the answer
is on stdout; everything listens on this machine alone. Source: channel_protocol.md §7, settled.md 24.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from common.errors import BadParams
from common.units import Florins
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.out_files import OutFile, write_out
from dux_cli.output import flop
from dux_cli.url_param import HttpUrl
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from dux_pay.fetching import Fetched
    from dux_pay.node import Node
    from dux_pay.purse import Purse

LISTEN_SELL, LISTEN_GATEWAY = "127.0.0.1:8402", "127.0.0.1:8403"
KIB = 1024
REFUSED_FROM = 400


def limit_options(command: Any) -> Any:
    """The owner's limits, on every command that pays."""
    for option in (
        click.option("--open", "open_with", type=FLOP_AMOUNT, default="5", show_default=True,
                     help="Size of a channel that has to be opened."),
        click.option("--max-per-day", type=FLOP_AMOUNT, default="10", show_default=True,
                     help="No more than this in one day of UTC, all HTTP calls of this node together."),
        click.option("--max-per-call", type=FLOP_AMOUNT, default="1", show_default=True,
                     help="No call may cost more."),
    ):  # fmt: skip
        command = option(command)
    return command


def pairs_of(texts: tuple[str, ...], option: str, separator: str = "=") -> dict[str, str]:
    """`NAME=VALUE` words.

    Raises:
        BadParams: one has another form.
    """
    found = {}
    for text in texts:
        name, there, value = text.partition(separator)
        if not there or not name.strip():
            raise BadParams(detail=f"{option} {text}: write NAME{separator}VALUE")
        found[name.strip()] = value.strip()
    return found


def place_of(text: str) -> tuple[str, int]:
    """`HOST:PORT`.

    Raises:
        BadParams: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise BadParams(detail=f"{text}: write HOST:PORT, such as {LISTEN_SELL}")
    return host.strip("[]"), int(port)


def tell_calls() -> None:
    """Each call is told on standard error, unless --log-level or --log-file said otherwise."""
    import structlog

    from common.log import start_logging

    if not structlog.is_configured():
        start_logging("cli", "INFO")


async def until_stopped() -> None:
    """Until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


@click.command("sell-http", cls=DuxCommand)
@click.option("--upstream", required=True, help="The endpoint to sell, such as http://127.0.0.1:9000.")
@click.option("--price", required=True, help="FLOP for one call; of a metered one what it begins with.")
@click.option("--metered", metavar="RATE", help="By a meter: FLOP/part, FLOP/KiB or FLOP/s, such as 0.0001/KiB.")
@click.option("--price-of", multiple=True, metavar="/PATH=FLOP", help="Another price below a path.")
@click.option("--free", multiple=True, metavar="/PATH", help="Nothing is paid below this path.")
@click.option("--listen", default=LISTEN_SELL, show_default=True, help="HOST:PORT of this machine; 0: any free port.")
@click.option("--body-kib", type=click.IntRange(1, 1024), default=1024, show_default=True,
              help="Largest body of a request.")  # fmt: skip
@click.option("--timeout", "upstream_s", type=click.FloatRange(0.1, 600), default=60.0, show_default=True,
              help="How long the endpoint may take, or be silent within an answer in parts; seconds.")  # fmt: skip
@pass_session
def sell_http(
    session: Session, *, upstream: str, price: str, metered: str | None, price_of: tuple[str, ...],
    free: tuple[str, ...], listen: str, body_kib: int, upstream_s: float,
) -> None:  # fmt: skip
    """Sell an HTTP endpoint per call: a paying reverse proxy in front of it.

    \b
    duxnet sell-http --upstream http://127.0.0.1:9000 --price 0.05
    duxnet sell-http --upstream http://127.0.0.1:9000 --price 0.05 --price-of /v1/large=0.4 --free /health
    duxnet sell-http --upstream http://127.0.0.1:9000 --price 0.01 --metered 0.0005/part

    It listens on this machine; put your own TLS server before it. docs/selling-http.md has the rest.
    """
    from dux_pay.price import prices_of, rate_of
    from dux_pay.proxy import Proxy, upstream_of
    from dux_pay.reaper import Reaper
    from dux_pay.seller import BODY_S_MAX

    tell_calls()
    host, port = place_of(listen)
    rate = rate_of(metered) if metered else None
    prices = prices_of(price, "metered" if rate else "fixed", pairs_of(price_of, "--price-of"), free)
    url = upstream_of(upstream)

    async def work() -> None:
        async with node_of(session) as node:
            seller = node.seller(body_bytes_max=body_kib * KIB, body_s_max=BODY_S_MAX)
            proxy = Proxy(seller, url, prices, reaper=Reaper(), rate=rate, upstream_s=upstream_s)
            async with proxy.listening(host, port) as found:
                told = {"url": f"http://{host}:{found}", "upstream": upstream}
                facts = [("selling", upstream), ("at", told["url"]), ("end it with", "Ctrl-C")]
                session.out.record(told, facts, name=told["url"])
                sys.stdout.flush()
                await until_stopped()

    session.run(work())


@asynccontextmanager
async def node_of(session: Session) -> AsyncIterator[Node]:
    """This node, as a program of its owner sees it."""
    from dux_pay.node import Node

    node = Node(session.node.must_exist().path)
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def purse_of(session: Session, *, call: Florins, day: Florins, opening: Florins) -> AsyncIterator[Purse]:
    """This node's purse, with these limits; meanwhile the node's messages to sellers are carried."""
    from common.clock import SystemClock
    from common.randomness import SystemRandomness
    from dux_pay.coin_keys import CoinKeys
    from dux_pay.ledger import Ledger, Limits
    from dux_pay.messages import Courier
    from dux_pay.purse import Purse

    limits = Limits(per_call_florins=call, per_day_florins=day, open_florins=opening)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(node_of(session))
        ledger = Ledger(node.folder / "paid.sqlite", clock, limits)
        stack.callback(ledger.close)
        keys = CoinKeys(node.client("p2pd"), node.network, clock)
        escrowd, random = node.client("escrowd"), SystemRandomness()
        await stack.enter_async_context(Courier(escrowd).running())
        yield Purse(escrowd=escrowd, coin_keys=keys, network=node.network, ledger=ledger, random=random)


@click.command(cls=DuxCommand)
@click.option(
    "--listen", default=LISTEN_GATEWAY, show_default=True, help="HOST:PORT of this machine; 0: any free port."
)
@limit_options
@pass_session
def gateway(
    session: Session, *, listen: str, max_per_call: Florins, max_per_day: Florins, open_with: Florins
) -> None:  # fmt: skip
    """Let programs of this machine pay for HTTP calls: the hooks of requests, httpx, curl and JavaScript ask it.

    \b
    duxnet gateway --max-per-call 0.5 --max-per-day 5

    Its address and its token are in the node's folder, run/gateway/url and run/gateway/module.token.
    """
    from common.randomness import SystemRandomness
    from common.rpc.server import Tokens
    from dux_pay.fetching import Fetcher
    from dux_pay.gateway import Gateway
    from dux_pay.gateway_client import RUN_NAME, TOKEN_FILE, URL_FILE

    tell_calls()
    host, port = place_of(listen)
    folder = session.node.must_exist().run / RUN_NAME

    async def work() -> None:
        tokens = Tokens(folder, ["module"], SystemRandomness())
        async with AsyncExitStack() as stack:
            limits = purse_of(session, call=max_per_call, day=max_per_day, opening=open_with)
            purse = await stack.enter_async_context(limits)
            served = Gateway(purse, Fetcher(purse), tokens).listening(host, port)
            url = f"http://{host}:{await stack.enter_async_context(served)}"
            (folder / URL_FILE).write_text(url + "\n")
            stack.callback((folder / URL_FILE).unlink, missing_ok=True)
            told = {"url": url, "token_file": str(folder / TOKEN_FILE)}
            facts = [("gateway", url), ("token", told["token_file"]), ("a call at most", flop(max_per_call)),
                     ("a day at most", flop(max_per_day))]  # fmt: skip
            session.out.record(told, facts, name=url)
            sys.stdout.flush()
            await until_stopped()

    session.run(work())


@click.command("pay-http", cls=DuxCommand)
@click.argument("url", type=HttpUrl())
@click.option("--request", "-X", "method", default="", help="GET, or POST when there is a body.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the request.")
@click.option("--data", "-d", help="The body; @FILE reads it from a file.")
@click.option("--output", "-o", type=OutFile(), help="Where the answer goes.")
@click.option("--stream", is_flag=True, help="Read and pay part by part, at most one step ahead.")
@click.option("--oid", help="Repeat an earlier call's id: the same answer, paid once.")
@limit_options
@pass_session
def pay_http(
    session: Session, *, url: str, method: str, headers: tuple[str, ...], data: str | None, output: Path | None,
    stream: bool, oid: str | None, max_per_call: Florins, max_per_day: Florins, open_with: Florins,
) -> None:  # fmt: skip
    """Make one HTTP request and pay for it when it is sold; a channel is opened when none is open.

    \b
    duxnet pay-http https://api.example/v1/upscale -d @small.png -o large.png --max-per-call 0.5
    duxnet pay-http https://api.example/v1/chat -d @question.json --stream --max-per-call 0.2
    """
    from dux_pay.fetching import Fetcher, Fetching

    body = body_of(data)
    asked = Fetching(
        method=method or ("POST" if body else "GET"),
        url=url,
        headers=tuple(pairs_of(headers, "--header", ":").items()),
        body=body,
        oid=oid,
    )

    in_parts = stream and (output is not None or not session.out.as_json)  # JSON holds the whole answer

    async def work() -> Fetched:
        limits = purse_of(session, call=max_per_call, day=max_per_day, opening=open_with)
        async with limits as purse, Fetcher(purse) as fetcher:
            if not in_parts:
                return await fetcher.fetch(asked)
            with output.open("wb") if output else nullcontext(sys.stdout.buffer) as file:
                return await fetcher.stream(asked, partial(written, file))

    tell(session, session.run(work()), output, streamed=in_parts)


def written(file: BinaryIO, part: bytes) -> None:
    """A part, seen at once."""
    file.write(part)
    file.flush()


def body_of(data: str | None) -> bytes:
    """The body that `--data` names.

    Raises:
        BadParams: the file cannot be read.
    """
    if data is None or not data.startswith("@"):
        return (data or "").encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise BadParams(detail=f"--data {data}: {error.strerror}") from error


def tell(session: Session, got: Fetched, output: Path | None, *, streamed: bool) -> None:
    """The answer where it is wanted, what was paid on stderr; exit code 1 for an answer that is an error."""
    charged = int(got.ended.charged_florins) if got.ended else 0
    for line in got.said:
        session.out.step(line)
    if output and not streamed:
        write_out(output, got.body)
    if session.out.as_json:
        session.out.json({
            "status": got.status, "oid": got.oid, "charged_florins": str(charged),
            "outcome": got.ended.outcome if got.ended else "", "receipt": got.ended.receipt if got.ended else "",
            "body": "" if output else got.body.decode(errors="replace"), "said": list(got.said),
        })  # fmt: skip
    elif not output and not streamed:
        sys.stdout.buffer.write(got.body)
        sys.stdout.flush()
    if got.status >= REFUSED_FROM:
        raise SystemExit(EXIT_FAILED)

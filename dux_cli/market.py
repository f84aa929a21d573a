"""`duxnet search`, `publish`, `services`, `rate`: the market's shop window, from both sides of the counter.

A service to publish is described in a YAML file (`examples/image_upscaler/service.yaml`); options override what it
says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from common.codec import Wire, from_plain
from common.errors import BadParams, CallerMistake
from common.units import Florins, parse_flop
from dux_cli.command import DuxCommand, DuxGroup, Session, new_request_id, pass_session
from dux_cli.output import counted, each, flop
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.contracts.store import ServiceView
    from common.units import Hash32

HASH_FORM = re.compile("[0-9a-f]{64}")
SORTS = ("relevance", "price", "rating", "newest", "calls")


class BadServiceFile(CallerMistake):
    """{path}: {detail}. `examples/image_upscaler/service.yaml` shows a whole one."""

    code = 1128
    key = "bad-service-file"


class ServiceFile(Wire, frozen=True):
    """What a service's YAML file says; `price` in FLOP, `package` a path beside the file."""

    slug: str
    name: str
    price: str
    package: str = ""
    description: str = ""
    version: str = "1.0.0"
    tags: tuple[str, ...] = ()
    endpoint: str = ""
    rate_limit: int = 0
    kind: str = "wasm"
    entry: str = ""
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    min_buyer_reputation: float = 0.0
    developer: str = ""
    royalty_bps: int = 0
    result_lock: bool = True


def read_service(path: Path) -> ServiceFile:
    """The service in a YAML file, or in the `service.yaml` of a folder.

    Raises:
        BadServiceFile: unreadable, unknown keys, wrong types.
    """
    from common.errors import BadSettings
    from common.yaml_file import read_yaml

    file = path / "service.yaml" if path.is_dir() else path
    try:
        plain: Mapping[str, Any] = read_yaml(file)
        if isinstance(plain, dict) and isinstance(plain.get("price"), int | float):
            plain = {**plain, "price": str(plain["price"])}
        return from_plain(plain, ServiceFile)
    except BadSettings as error:
        raise BadServiceFile(path=str(file), detail=str(error.fields["detail"])) from error
    except BadParams as error:
        raise BadServiceFile(path=str(file), detail=str(error.fields["detail"])) from error


@click.command(cls=DuxCommand)
@click.argument("words", nargs=-1)
@click.option("--tag", "tags", multiple=True, help="Only services with this tag; may be given several times.")
@click.option("--max-price", type=FLOP_AMOUNT, help="Only services that cost at most this.")
@click.option("--min-rating", type=click.FloatRange(0, 5), default=0.0, help="Only services rated at least so.")
@click.option("--sort", type=click.Choice(SORTS), default="relevance", show_default=True)
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--local", is_flag=True, help="Look only at what this node knows already.")
@pass_session
def search(
    session: Session, *, words: tuple[str, ...], tags: tuple[str, ...], max_price: Florins | None, min_rating: float,
    sort: str, limit: int, local: bool,
) -> None:  # fmt: skip
    """Find services by words, tags, price and rating.

    \b
    duxnet search upscale
    duxnet search --tag image-processing --max-price 12 --sort rating
    duxnet search upscale --quiet | head -1      the best one's id
    """
    from common.contracts.store import SERVICE_SEARCH, SearchServices, SortBy

    wanted = SearchServices(
        text=" ".join(words),
        tags=tags,
        max_price_florins=max_price,
        min_rating=min_rating,
        sort=SortBy(sort),
        limit=limit,
        ask_network=not local,
    )
    found = session.ask(SERVICE_SEARCH, wanted)
    show_services(
        session, found, found.services, "nothing found; fewer words, or `duxnet nodes peers` to see who is there"
    )


def show_services(session: Session, value: object, found: tuple[ServiceView, ...], empty: str) -> None:
    """A table of services."""
    rows = each(
        found,
        lambda s: (
            s.id,
            s.name,
            flop(s.price_florins),
            f"{s.reputation:.1f} ({s.ratings})" if s.ratings else "-",
            str(s.total_calls),
            str(s.provider_status or "unknown"),
        ),
    )
    session.out.table(value, ("service", "name", "price", "stars", "calls", "provider"), rows, empty=empty)


@click.command(cls=DuxCommand)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--price", type=FLOP_AMOUNT, help="What one call costs, in FLOP; else as the file says.")
@click.option("--name", default="", help="Else as the file says.")
@pass_session
def publish(session: Session, source: Path, price: Florins | None, name: str) -> None:
    """Offer a service on this node: SOURCE is its YAML file, or the folder with `service.yaml`.

    \b
    duxnet publish examples/image_upscaler --price 10
    """
    described = read_service(source)
    folder = source if source.is_dir() else source.parent
    view = session.run(publish_service(session, described, folder, price=price, name=name))
    session.out.record(
        view,
        [
            ("service", view.id),
            ("name", view.name),
            ("price", flop(view.price_florins)),
            ("package", view.package),
            ("next", f"others find it with `duxnet search {view.slug}`"),
        ],
        name=view.id,
    )


async def publish_service(
    session: Session, described: ServiceFile, folder: Path, *, price: Florins | None, name: str
) -> ServiceView:
    """Put the package into the node, publish the service, let taskd serve it.

    Raises:
        BadServiceFile: the price or the package does not fit. DuxError: as the daemons raised it.
    """
    from common.contracts.store import SERVICE_PUBLISH, CallLimits, PublishService
    from common.contracts.task import SERVE, Serve

    package = await put_package(session, described, folder) if described.package else ""
    wish = PublishService(
        request_id=new_request_id("publish"),
        slug=described.slug,
        name=name or described.name,
        price_florins=price if price is not None else price_of(described, folder),
        description=described.description,
        version=described.version,
        tags=described.tags,
        endpoint=described.endpoint,
        rate_limit=described.rate_limit,
        kind=described.kind,
        package=package,
        entry=described.entry,
        limits=from_plain(described.limits, CallLimits),
        min_buyer_reputation=described.min_buyer_reputation,
        developer=described.developer,
        royalty_bps=described.royalty_bps,
        result_lock=described.result_lock,
    )
    view = await session.call(SERVICE_PUBLISH, wish)
    await session.call(SERVE, Serve(request_id=new_request_id("serve"), service_id=view.id))
    return view


def price_of(described: ServiceFile, folder: Path) -> Florins:
    """The file's price.

    Raises:
        BadServiceFile: it is no amount.
    """
    try:
        return parse_flop(described.price)
    except ValueError as error:
        raise BadServiceFile(path=str(folder), detail=f"price: {error}") from error


async def put_package(session: Session, described: ServiceFile, folder: Path) -> str:
    """The package's blob id, once this node holds it.

    Raises:
        BadServiceFile: there is no such file.
    """
    path = folder / described.package
    if not path.is_file():
        raise BadServiceFile(path=str(path), detail="no such package")
    return (await session.client("p2pd").transfer("PUT", "/blob", path.read_bytes())).decode()


@click.group(cls=DuxGroup)
def services() -> None:
    """The services of this node, and what others say of any service."""


@services.command("list")
@pass_session
def list_services(session: Session) -> None:
    """This node's own services."""
    from common.contracts.store import SERVICE_LIST_MINE
    from common.rpc.method import Empty

    mine = session.ask(SERVICE_LIST_MINE, Empty())
    show_services(session, mine, mine.services, "none yet; `duxnet publish examples/image_upscaler` offers one")


@services.command()
@click.argument("service_id")
@pass_session
def show(session: Session, service_id: str) -> None:
    """One service with its newest reviews."""
    from common.contracts.store import SERVICE_SHOW, ServiceName

    detail = session.ask(SERVICE_SHOW, ServiceName(service_id=service_id))
    s = detail.service
    lines = [
        ("service", s.id),
        ("name", f"{s.name} {s.version}"),
        ("what it does", s.description),
        ("price", flop(s.price_florins)),
        ("provider", s.provider),
        ("stars", f"{s.reputation:.1f} of 5 by {counted(s.ratings, 'buyer')}" if s.ratings else "not rated yet"),
        ("paid calls", str(s.total_calls)),
        ("tags", ", ".join(s.tags)),
        ("kind", s.kind),
        ("result", "sold by its key" if s.result_lock else "open to the buyer before it is paid"),
        ("limits", f"{s.limits.memory_bytes >> 20} MiB, {s.limits.wall_s} s, {s.limits.output_bytes >> 20} MiB out"),
    ]
    lines += [(f"{review.stars} stars", f"{review.review} ({review.at})") for review in detail.reviews]
    session.out.record(detail, lines, name=s.id)


@services.command()
@click.argument("service_id")
@pass_session
def withdraw(session: Session, service_id: str) -> None:
    """Take a service of this node out of the market."""
    from common.contracts.store import SERVICE_WITHDRAW, WithdrawService

    wish = WithdrawService(request_id=new_request_id("withdraw"), service_id=service_id)
    view = session.ask(SERVICE_WITHDRAW, wish)
    session.out.record(view, [("withdrawn", view.id)], name=view.id)


@click.command(cls=DuxCommand)
@click.argument("contract")
@click.argument("stars", type=click.IntRange(1, 5))
@click.option("--review", default="", help="A few words for others.")
@pass_session
def rate(session: Session, contract: str, stars: int, review: str) -> None:
    """Rate the call that CONTRACT paid for (its id, or the task's): once, 1 to 5 stars.

    \b
    duxnet rate CONTRACT 5 --review "sharp and quick"
    """
    view = session.run(rate_contract(session, contract, stars, review))
    stars_now = f"{view.reputation:.1f} of 5 by {counted(view.ratings, 'buyer')}"
    session.out.record(view, [("service", view.id), ("stars now", stars_now)], name=view.id)


async def rate_contract(session: Session, name: str, stars: int, review: str) -> ServiceView:
    """Rate by whatever id the person has at hand.

    Raises:
        DuxError: as the daemons raised it.
    """
    from common.contracts.store import SERVICE_RATE, RateService

    wish = RateService(
        request_id=new_request_id("rate"), cid=await full_hash(session, name), stars=stars, review=review
    )
    return await session.call(SERVICE_RATE, wish)


async def full_hash(session: Session, name: str) -> Hash32:
    """The full hash of the contract with this id (or its start), or of the contract of the task with this id.

    Raises:
        NotFound: there is none, or it was never agreed.
    """
    from common.contracts.escrow import SHOW, ContractRef
    from common.contracts.task import STATUS, TaskRef
    from common.errors import NotFound
    from common.units import Hash32
    from dux_cli.short_ids import START, contract_named

    if START.fullmatch(name.lower()):
        name = await contract_named(session, name)
    elif not HASH_FORM.fullmatch(name):
        name = (await session.call(STATUS, TaskRef(task_id=name))).contract_id or name
    cid = (await session.call(SHOW, ContractRef(contract_id=name))).cid
    if cid is None:
        raise NotFound(what="agreed contract", name=name)
    return Hash32(bytes.fromhex(cid))

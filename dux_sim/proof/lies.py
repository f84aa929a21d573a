"""What the keys of liars allow: statements to each audience that matters, signatures, K, and spends of the chain."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from msgspec.structs import replace

from dux_escrowd import facts as f
from dux_escrowd.model import AwardKey, Exit, Spend, State
from dux_sim.proof.cast import PRICE, B, Funding, S
from dux_sim.proof.ids import at_step, award_spend
from dux_sim.proof.kinds import FREE, LIE, Move
from dux_sim.proof.ladder import last_step
from dux_sim.proof.world import World


def lies(world: World) -> Iterator[Move]:
    """What the keys of those who lie allow, to each audience that matters."""
    liars = world.setting.liars
    if B in liars:
        yield from _of_buyer(world)
    if S in liars:
        yield from _of_seller(world)
    bought = tuple(name for name in world.setting.panel if name in liars)
    if bought:
        yield from _of_arbiters(world, bought)


def _said(who: str, what: str, fact: f.Fact, audience: str, to: tuple[str, ...]) -> Move:
    return Move(f"the lying {who} says {what} to {audience}", LIE, lambda world: world.send(who, fact, *to), once=True)


def _audiences(world: World, who: str) -> dict[str, tuple[str, ...]]:
    other, panel = S if who == B else B, world.setting.panel
    found = {"all": (other, *panel), "the panel": panel}
    return found | {f"the {other}": (other,)} if world.honest(other) else {"the panel": panel}


def _argues(world: World, who: str) -> Iterator[Move]:
    for audience, to in _audiences(world, who).items():
        yield _said(who, "DISPUTE", f.DisputeSaid(at=0, by=who), audience, to)
    yield Move(
        f"the lying {who} says DISPUTE to the panel and something else to the other",
        LIE,
        partial(_fork, who=who),
        once=True,
    )
    if any(world.nodes[name].lot.disputed_by for name in world.nodes if world.honest(name)):
        yield _said(
            who,
            "ANSWER",
            f.AnswerSaid(at=0, by=who),
            "all",
            _audiences(world, who).get("all", world.setting.panel),
        )
        yield _said(
            who,
            "evidence without K",
            f.EvidenceArrived(at=0, key=not world.deal.lock),
            "the panel",
            world.setting.panel,
        )


def _fork(world: World, who: str) -> None:
    world.forked |= {who}
    world.send(who, f.DisputeSaid(at=0, by=who), *world.setting.panel)


def _late_words(world: World, who: str) -> Iterator[Move]:
    """LATE_OK, to each audience that matters; and the buyer's wish to cancel beside it."""
    if world.coin is None or not world.is_late():
        return
    for audience, to in _audiences(world, who).items():
        fact = f.LateOkSaid(at=0, by=who, outpoint=world.coin.outpoint)
        yield _said(who, "LATE_OK", fact, audience, to)
    if who == B:
        yield _said(B, "CANCEL-ASK", f.CancelAsked(at=0, by=B), "the seller", (S,))


def _stray_words(world: World) -> Iterator[Move]:
    """The buyer asks to have a stray back, or the lot's own coin as if it were one."""
    coins = {"the stray": world.beside.coin} if world.beside is not None else {}
    if coins or world.setting.funding is not Funding.IN_TIME:
        coins |= {"the lot's coin as a stray": world.coin} if world.coin is not None else {}
    audiences = _audiences(world, B) if world.beside is not None else {"the panel": world.setting.panel}
    for what, coin in coins.items():
        for audience, to in audiences.items():
            yield _said(B, f"CANCEL-ASK of {what}", f.CancelAsked(at=0, by=B, outpoint=coin.outpoint), audience, to)


def _of_buyer(world: World) -> Iterator[Move]:
    yield from _argues(world, B)
    yield from _stray_words(world)
    yield from _late_words(world, B)
    coin = world.coin
    if coin is None:
        return
    for gross in (PRICE, PRICE // 2):
        act = partial(_release, gross=gross)
        yield Move(
            f"the lying buyer releases {'all' if gross == PRICE else 'half'} of {coin.outpoint[60:64]}",
            LIE,
            act,
            once=True,
        )
    for told in (None, PRICE):
        fact = f.Equivocation(at=world.height, by=B, gross_florins=told, outpoint=coin.outpoint if told else None)
        yield Move(
            f"the buyer's contradiction is proven, release {told is not None}",
            LIE,
            partial(_prove, fact=fact),
            once=True,
        )


def _of_seller(world: World) -> Iterator[Move]:
    yield from _argues(world, S)
    yield from _late_words(world, S)
    yield _said(S, "START", f.StartSaid(at=0, by=S), "the buyer", (B,))
    limit = world.deal.heights.deliver_by
    for audience, to in _audiences(world, S).items():
        yield _said(S, "DELIVERED", f.DeliverySaid(at=0, by=S, claimed_at=limit), audience, to)
    yield _said(
        S, "DELIVERED, late", f.DeliverySaid(at=0, by=S, claimed_at=limit + 1), "all", (B, *world.setting.panel)
    )
    yield _said(S, "evidence", f.EvidenceArrived(at=0, key=True), "the panel", world.setting.panel)
    if world.deal.lock:
        yield Move("the lying seller shows K", LIE, _show_key, once=True)
    for coin in (world.coin, world.beside.coin if world.beside is not None else None):
        if coin is not None:
            which = "" if coin is world.coin else " the stray"
            yield Move(f"the lying seller cancels{which}", LIE, partial(_cancel, outpoint=coin.outpoint), once=True)
    yield Move(
        "the seller's contradiction is proven",
        LIE,
        partial(_prove, fact=f.Equivocation(at=world.height, by=S)),
        once=True,
    )


def _release(world: World, gross: int) -> None:
    if world.coin is not None:
        world.sign_release(world.coin.outpoint, gross)


def _prove(world: World, fact: f.Fact) -> None:
    for name in world.nodes:
        if name != world.asleep:
            world.learn(name, fact)


def _show_key(world: World) -> None:
    world.keys_shown = True
    world.send(S, f.KeyShown(at=0, by=S), B)


def _cancel(world: World, outpoint: str) -> None:
    world.cancels |= {outpoint}
    world.send(S, f.CancelSaid(at=0, by=S, outpoint=outpoint, valid=True), B)


def takes(world: World, who: str) -> Iterator[Move]:
    """What a lying party takes from the chain with the signatures that exist; a miner may hold it back."""
    coin = world.coin
    if coin is None or coin.height is None or (world.spend is not None and world.spend.height is not None):
        return
    known = {spend.txid for spend in (world.spend, *world.rivals) if spend is not None}
    for spend in (_at_its_best(world, one) for one in _takeable(world, who, coin.outpoint)):
        if spend.txid not in known:
            yield Move(f"the lying {who} takes {spend.txid}", FREE, partial(_take, spend=spend))


def _at_its_best(world: World, spend: Spend) -> Spend:
    """A liar pays what it takes: the highest step that was signed."""
    return replace(spend, txid=at_step(spend.txid, last_step(world, spend))) if world.setting.ladder else spend


def _takeable(world: World, who: str, outpoint: str) -> Iterator[Spend]:
    for key, names in world.awards.items():
        if (
            key.outpoint == outpoint
            and len(names) >= world.deal.arbiters_needed
            and (key.gross_florins > 0) == (who == S)
        ):
            yield award_spend(key)
    if who == B:
        if outpoint in world.cancels:
            yield Spend(Exit.CANCEL, "cancel", 0, None)
        if world.height >= world.deal.heights.timeout:
            yield Spend(Exit.REFUND, "refund", 0, None)
    if who == S:
        for point, gross in sorted(world.releases):
            if point == outpoint:
                yield Spend(Exit.RELEASE, f"release-{gross}", gross, None)


def _take(world: World, spend: Spend) -> None:
    world.keys_shown |= spend.exit is Exit.RELEASE
    world.offer(spend)


def _of_arbiters(world: World, bought: tuple[str, ...]) -> Iterator[Move]:
    others = tuple(name for name in world.nodes if world.honest(name))
    if world.coin is not None:
        for gross in _verdicts(world):
            for revealed in {bought, world.setting.panel}:
                key = AwardKey(world.coin.outpoint, gross, tuple(sorted(revealed)))
                yield Move(
                    f"the bought sign an award of {gross} for {len(revealed)}",
                    LIE,
                    partial(_sign, names=bought, key=key),
                    once=True,
                )
    if world.beside is not None:
        key = AwardKey(world.beside.coin.outpoint, 0, ())
        yield Move("the bought give the stray back", LIE, partial(_sign, names=bought, key=key), once=True)
    if not any(world.nodes[name].lot.state is State.ANSWERED for name in others):
        return
    yield Move("the bought commit", LIE, partial(_commit, names=bought, to=others), once=True)
    honest = [name for name in world.setting.panel if world.honest(name)]
    audiences = {"all": others, "the parties": tuple(n for n in (B, S) if world.honest(n))}
    audiences |= {name: (name,) for name in honest}
    for gross in _verdicts(world):
        for audience, to in audiences.items():
            yield Move(
                f"the bought reveal {gross} to {audience}",
                LIE,
                partial(_reveal, names=bought, gross=gross, to=to),
                once=True,
            )


def _verdicts(world: World) -> tuple[int, ...]:
    return tuple(sorted({0, world.setting.worth_florins, PRICE}))


def _sign(world: World, names: tuple[str, ...], key: AwardKey) -> None:
    for name in names:
        world.sign_award(name, key)


def _commit(world: World, names: tuple[str, ...], to: tuple[str, ...]) -> None:
    for name in names:
        world.send(name, f.VoteCommitted(at=0, by=name, commitment=b"c"), *to)


def _reveal(world: World, names: tuple[str, ...], gross: int, to: tuple[str, ...]) -> None:
    for name in names:
        world.send(name, f.VoteRevealed(at=0, by=name, gross_florins=gross, fits=True), *to)

"""The payee's table: every state, every fact that may meet it, the guards, what follows, what is ordered.

The first row that holds is taken; a pair that stands nowhere raises WrongPhase and changes nothing. Pure.
Source: channel_protocol.md §6.
"""

from __future__ import annotations

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import onchain as c
from dux_escrowd.channel import payee_orders as r
from dux_escrowd.channel import payee_steps as p
from dux_escrowd.channel.model import Payee, PayeeState
from dux_escrowd.channel.orders import News, Reason
from dux_escrowd.channel.table import Decision, Index, Row, indexed, row, step

S = PayeeState
OPENED = (S.OPEN_SEEN, S.OPEN)
LIVE = (*OPENED, S.SUSPENDED)
PAST = (S.CLOSE_SENT, S.CLOSE_SEEN, S.CLOSED, S.LOST, S.ABANDONED)
SEEN = (S.CLOSE_SEEN, S.LOST)
EVERY = tuple(S)

ROWS: tuple[Row, ...] = (
    # --- opening ---
    row(S.NEW, f.OpenAsked, p.may_open, to=S.OFFERED, change=p.offer, orders=r.open_ok, source="§6 NEW OpenReq"),
    row(
        S.ABANDONED, f.CoinSeen, p.same_outpoint, p.holds_for_it, c.confirmed, p.past_zone,
        to=S.CLOSE_SENT, change=p.close_returned, orders=r.close, source="§6 Clock tip >= EXP - 288, W > 0: it is back",
    ),
    row(
        (S.OFFERED, S.ABANDONED), f.CoinSeen, c.no_coin, c.enough, c.confirmed, p.before_zone,
        to=p.open_by_depth, options=OPENED, change=p.rest_on, orders=r.tell(News.OPENED),
        source="§6 OFFERED OutputSeen",
    ),
    row((*OPENED, S.CLOSE_SENT), f.CoinSeen, c.this_coin, change=c.take_coin, source="§6 height moved"),
    row(
        S.SUSPENDED, f.CoinSeen, p.same_outpoint, c.confirmed,
        to=p.covered_again, options=(S.OPEN_SEEN, S.SUSPENDED), change=p.rest_on, orders=r.ask_if_short,
        source="the same coin came back; §8 a payee from a copy may hold less than it is owed",
    ),
    row(
        S.SUSPENDED, f.CoinSeen, c.no_coin, c.enough, c.confirmed,
        change=p.rest_on, orders=r.ask_hello, source="§6 OutputMoved: W = 0 on the new outpoint",
    ),
    row(S.SUSPENDED, f.CoinSeen, c.this_coin, change=c.take_coin, source="height moved"),
    row(EVERY, f.CoinSeen, source="§6 further outputs are ignored"),
    row(
        OPENED, f.CoinGone, c.that_outpoint,
        to=S.SUSPENDED, change=c.lose_coin, orders=r.tell(News.SUSPENDED), source="§6 OutputMoved",
    ),
    row(S.SUSPENDED, f.CoinGone, c.that_outpoint, change=c.lose_coin, source="§6 OutputMoved"),
    row(
        S.CLOSE_SENT, f.CoinGone, c.that_outpoint,
        to=S.SUSPENDED, change=c.lose_coin, orders=r.tell(News.SUSPENDED), source="§6 OutputMoved, while closing",
    ),
    row(EVERY, f.CoinGone, source="another output's"),
    row(S.OPEN_SEEN, f.Clock, p.before_zone, p.deep_enough, to=S.OPEN, source="§6 OPEN_SEEN Depth >= 6"),
    row(
        S.OFFERED, f.Clock, p.offer_over,
        to=S.ABANDONED, orders=r.tell(News.CLOSED), source="§10.14 nobody funded it",
    ),
    # --- sessions ---
    row(LIVE, f.Started, change=p.restart, orders=r.answers_and_hello, source="§5, §8 heads at every start"),
    row(EVERY, f.Started, change=p.restart, orders=r.answers, source="§5 after a crash"),
    row(
        LIVE, f.HelloCame,
        to=p.greeted, options=LIVE, change=p.begin_session, orders=r.hello_back, source="§6 Hello",
    ),
    row(
        (S.OFFERED, *PAST), f.HelloCame, orders=r.hello_back,
        source="a payer learns what it is owed also after the end",
    ),
    row(
        (S.OFFERED, *LIVE), f.CopyCame,
        to=p.covered_again, options=(S.OPEN_SEEN, S.SUSPENDED), change=p.take_copy,
        source="§8 each x FLOP the head voucher goes to the blobs and the watcher: after a start it is asked for",
    ),
    # --- calls: repeats first, for a late one must find its answer even after the end ---
    row(
        OPENED, f.VoucherCame, p.known_call, p.is_running, p.raises_limit,
        change=p.add_fuel, orders=r.fuel, source="§6 metered: same j, higher cum",
    ),
    row(
        OPENED, f.VoucherCame, p.known_call, p.is_admitted, p.in_session,
        change=p.raise_held, orders=r.execute, source="§5 admitted, never started",
    ),
    row(
        OPENED, f.VoucherCame, p.known_call, p.is_running, p.wants_more,
        change=p.raise_held, orders=r.refuse_as(Reason.RESYNC), source="§6 old session: W only, no fuel",
    ),
    row(
        EVERY, f.VoucherCame, p.known_call, p.is_running,
        change=p.raise_held, orders=r.refuse_as(Reason.RUNNING), source="§5 repeat of (j, req): 503",
    ),
    row(
        EVERY, f.VoucherCame, p.known_call, p.is_admitted,
        change=p.raise_held, orders=r.refuse_as(Reason.RESYNC), source="§6 old session: W only, never a call",
    ),
    row(
        EVERY, f.VoucherCame, p.known_call, p.is_stored,
        change=p.raise_held, orders=r.answer, source="§5 repeat of (j, req): stored answer",
    ),
    row(
        EVERY, f.VoucherCame, p.known_call,
        change=p.raise_held, orders=r.answer, source="§7 acknowledged: receipt, the body perhaps gone (410)",
    ),
    row(
        EVERY, f.VoucherCame, p.conflicting,
        change=p.raise_held, orders=r.conflict, source="§5 same j or oid, other req: 409",
    ),
    row(
        EVERY, f.VoucherCame, p.taken_otherwise,
        change=p.raise_held, orders=r.refuse_as(Reason.RESYNC), source="§6 old session: W only; no proof of anything",
    ),
    row(
        OPENED, f.VoucherCame, p.for_this_coin, p.within_coin, p.admissible,
        change=p.admit, orders=r.execute, source="§6 Voucher (call part); §5 (2)",
    ),
    row(
        OPENED, f.VoucherCame, p.for_this_coin, p.within_coin, p.before_zone,
        change=p.raise_held, orders=r.refuse, source="§6 Voucher: W counts, the call does not",
    ),
    row(
        OPENED, f.VoucherCame, p.for_this_coin, p.within_coin,
        change=p.raise_held, orders=r.refuse_as(Reason.CLOSING), source="§6 closing zone",
    ),
    row(OPENED, f.VoucherCame, p.for_this_coin, orders=r.refuse_as(Reason.NEED_FUNDS), source="§6 beyond the coin"),
    row(OPENED, f.VoucherCame, orders=r.refuse_as(Reason.RESYNC), source="§6 for another outpoint"),
    row(
        S.SUSPENDED, f.VoucherCame, p.for_this_coin, p.within_coin,
        to=p.covered_again, options=(S.OPEN_SEEN, S.SUSPENDED), change=p.raise_held,
        orders=r.refuse_as(Reason.RESYNC), source="§6 SUSPENDED: nothing runs until W >= S again",
    ),
    row(S.SUSPENDED, f.VoucherCame, orders=r.refuse_as(Reason.RESYNC), source="§6 SUSPENDED"),
    row((S.NEW, S.OFFERED), f.VoucherCame, orders=r.refuse_as(Reason.DEPTH), source="§3 depth 0: nothing"),
    row(PAST, f.VoucherCame, orders=r.refuse_as(Reason.CLOSING), source="§7 closing"),
    row(OPENED, f.RunStarted, p.starts, change=p.run, source="§5 (3)"),
    row(
        EVERY, f.HandlerDone, p.ends, p.charge_is_held, change=p.finish, orders=r.answer, source="§5 (5), (6)",
    ),
    row(OPENED, f.ChunkWanted, p.chunk_covered, change=p.meter, orders=r.chunk, source="§6 metered"),
    row(OPENED, f.ChunkWanted, p.chunk_of_running, orders=r.starve, source="§6 metered: the chunk stays here"),
    row(EVERY, f.Mirrored, p.placed, change=p.mirror, source="§8 each x FLOP"),
    row(EVERY, f.Mirrored, source="a copy of less, or of another coin's"),
    # --- the end ---
    row(
        LIVE, f.FinalCame, p.for_this_coin, p.last_state_fits,
        to=S.CLOSE_SENT, change=p.close_finally, orders=r.close, source="§3 cooperative close, roll-over, refund",
    ),
    row(
        LIVE, f.CloseWanted, p.something_held,
        to=S.CLOSE_SENT, change=p.close_now, orders=r.close, source="§6 asked",
    ),
    row(LIVE, f.Clock, p.something_held, p.due_to_close,
        to=S.CLOSE_SENT, change=p.close_now, orders=r.close, source="§6 Clock, idle, limit"),
    row(
        LIVE, f.Clock, p.past_zone,
        to=S.ABANDONED, orders=r.tell(News.CLOSED), source="§6 Clock tip >= EXP - 288, W = 0",
    ),
    row(
        S.CLOSE_SENT, f.Clock, p.was_decided, p.more_fee_due, change=p.more_fee, orders=r.close_again,
        source="§6 fee input every 12 blocks",
    ),
    row(
        S.CLOSE_SEEN, f.Clock, p.was_decided, c.rebroadcast_due,
        change=p.acted, orders=r.close_again, source="§6 rebroadcast every 60",
    ),
    row(
        (*LIVE, S.CLOSE_SENT, S.ABANDONED), f.SpendSeen,
        to=p.seen_as, options=SEEN, change=c.see_spend, orders=r.lost, source="§6 CloseSeen, RefundSeen",
    ),
    row(
        (*SEEN, S.CLOSED), f.SpendSeen,
        to=p.seen_as, options=SEEN, change=c.see_spend, orders=r.lost,
        source="§6 another spend, or another height",
    ),
    row(
        S.CLOSE_SEEN, f.SpendDeep, c.same_spend,
        to=S.CLOSED, orders=r.tell(News.CLOSED), source="§6 CLOSE_SEEN Depth",
    ),
    row(
        (*SEEN, S.CLOSED), f.SpendGone, c.that_spend,
        to=c.state_before, options=(*LIVE, S.CLOSE_SENT, S.ABANDONED), change=c.lose_spend, source="§6 SpendGone",
    ),
    row(EVERY, f.Clock, source="nothing is due"),
)  # fmt: skip

TABLE: Index = indexed(ROWS)


def decide(payee: Payee, fact: f.Fact, table: Index = TABLE) -> Decision[Payee]:
    """The channel after the fact, and what is ordered.

    Raises:
        WrongPhase, Refused: this does not fit; nothing changed.
    """
    return step(table, payee, fact)

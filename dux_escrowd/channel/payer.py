"""The payer's table: every state, every fact that may meet it, the guards, what follows, what is ordered.

The first row that holds is taken; a pair that stands nowhere raises WrongPhase and changes nothing. Pure.
Source: channel_protocol.md §6.
"""

from __future__ import annotations

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import onchain as c
from dux_escrowd.channel import payer_steps as p
from dux_escrowd.channel.model import Payer, PayerState
from dux_escrowd.channel.orders import News
from dux_escrowd.channel.table import Decision, Index, Row, indexed, row, step

S = PayerState
LIVE = (S.OPEN_SEEN, S.OPEN, S.RESYNC, S.DRAINING)
FUNDED = (S.FUND_SENT, *LIVE, S.REFUND_SENT)
SEEN = (S.CLOSE_SEEN, S.REFUND_SEEN)
EVERY = tuple(S)

ROWS: tuple[Row, ...] = (
    # --- opening ---
    row(S.NEW, f.OpenOk, p.script_equal, to=S.FUND_SENT, orders=p.fund, source="§6 NEW OpenOk"),
    row(
        S.FUND_SENT, f.CoinSeen, c.enough, c.confirmed,
        to=S.OPEN_SEEN, change=c.take_coin, source="§6 FUND_SENT Depth >= 1; the hello comes with Started",
    ),
    row(S.FUND_SENT, f.CoinSeen, source="§6 not in a block, or not what was funded"),
    row((*LIVE, S.REFUND_SENT), f.CoinSeen, c.this_coin, change=c.take_coin, source="height moved"),
    row(
        LIVE, f.CoinSeen, c.no_coin, c.enough, c.confirmed,
        to=S.RESYNC, change=c.take_coin, source="§6 OutputMoved: W is signed again with the next hello",
    ),
    row((*LIVE, S.REFUND_SENT, *SEEN, S.CLOSED), f.CoinSeen, source="the follower takes further outputs back at EXP"),
    row(FUNDED, f.CoinGone, c.that_outpoint, to=S.RESYNC, change=c.lose_coin, source="§6 OutputMoved"),
    row(EVERY, f.CoinGone, source="another output's"),
    # --- sessions ---
    row(
        (S.OPEN_SEEN, S.OPEN, S.RESYNC), f.Started,
        to=S.RESYNC, change=p.hello, orders=p.say_hello, source="§6 Started, Reconnected, BackupRestored",
    ),
    row(S.DRAINING, f.Started, change=p.hello, orders=p.say_hello, source="§6 Started while DRAINING"),
    row(EVERY, f.Started, source="no session is needed"),
    row(
        (S.OPEN_SEEN, S.RESYNC, S.DRAINING), f.HelloBackCame, p.this_nonce, p.has_more,
        change=p.learn_page, orders=p.say_hello, source="§6 HelloBack, a page of it",
    ),
    row(
        (S.OPEN_SEEN, S.RESYNC, S.DRAINING), f.HelloBackCame, p.this_nonce,
        to=p.resumed, options=(S.OPEN, S.DRAINING), change=p.resume, orders=p.send_waiting,
        source="§6 RESYNC HelloBack",
    ),
    # --- calls ---
    row(
        S.OPEN, f.CallWanted,
        p.session_live, p.before_margin, p.window_free, p.offer_valid, p.new_oid, p.affordable,
        change=p.allocate, orders=p.send_new, source="§6 CallWanted; §5 (1), (2)",
    ),
    row(
        S.OPEN, f.FuelWanted, p.session_live, p.before_margin, p.fuel_fits,
        change=p.fuel, orders=p.send_fuel, source="§6 metered: same j, higher cum",
    ),
    row(
        (*LIVE, S.REFUND_SENT, *SEEN), f.AnswerCame, p.answers_in_flight,
        change=p.receive, orders=p.hand_over, source="§5 (3), (4)",
    ),
    row(EVERY, f.AnswerCame, p.answered_before, source="§5 the same answer once more"),
    row(
        (S.OPEN, S.RESYNC), f.CallDropped, p.drops_in_flight,
        to=S.RESYNC, change=p.drop, orders=p.say_hello, source="§10.5 only a new session ends a voucher",
    ),
    row(
        S.DRAINING, f.CallDropped, p.drops_in_flight,
        change=p.drop, orders=p.say_hello, source="§10.5 the same while DRAINING",
    ),
    # --- the end ---
    row(
        S.FUND_SENT, f.CloseWanted,
        change=p.begin_close, orders=p.withdraw, source="§6 FUND_SENT: what was paid already is closed once it is seen",
    ),
    row(
        S.FUND_SENT, f.NotFunded, p.end_wanted,
        to=S.CLOSED, orders=p.tell(News.CLOSED), source="§6 FUND_SENT, nothing paid: withdrawn",
    ),
    row(EVERY, f.NotFunded, source="the coin came first"),
    row(
        LIVE, f.CloseWanted, p.something_waits,
        to=S.DRAINING, change=p.ask_what_waits, orders=p.say_hello,
        source="§3, §10.5 a voucher that the payee never saw keeps no close waiting",
    ),
    row(
        LIVE, f.CloseWanted,
        to=S.DRAINING, change=p.begin_close, orders=p.ask_close, source="§3 cooperative close, roll-over, refund",
    ),
    row(
        (S.FUND_SENT, *LIVE), f.Clock, p.refundable,
        to=S.REFUND_SENT, change=p.order_refund, orders=p.refund, source="§6 Clock tip >= EXP",
    ),
    row(
        (S.OPEN_SEEN, S.OPEN, S.RESYNC), f.Clock, p.past_margin,
        to=S.DRAINING, change=p.drain, orders=p.ask_close, source="§6 Clock tip >= EXP - 300",
    ),
    row(S.DRAINING, f.Clock, p.step_due, change=p.drain, orders=p.ask_close, source="§6 DRAINING asks again"),
    row(S.REFUND_SENT, f.Clock, p.refundable, p.step_due, change=p.climb, orders=p.refund, source="§6 ladder"),
    row(
        FUNDED, f.SpendSeen,
        to=p.seen_as, options=SEEN, change=c.see_spend, orders=p.tell(News.CLOSING), source="§6 CloseSeen, RefundSeen",
    ),
    row(
        (*SEEN, S.CLOSED), f.SpendSeen,
        to=p.seen_as, options=SEEN, change=c.see_spend, source="§6 another spend, or another height",
    ),
    row(
        SEEN, f.SpendDeep, c.same_spend,
        to=S.CLOSED, change=p.abandon, orders=p.tell(News.CLOSED), source="§6 …_SEEN Depth",
    ),
    row(
        (*SEEN, S.CLOSED), f.SpendGone, c.that_spend,
        to=c.state_before, options=FUNDED, change=c.lose_spend, source="§6 SpendGone",
    ),
    row(EVERY, f.Clock, source="nothing is due"),
)  # fmt: skip

TABLE: Index = indexed(ROWS)


def decide(payer: Payer, fact: f.Fact, table: Index = TABLE) -> Decision[Payer]:
    """The channel after the fact, and what is ordered.

    Raises:
        WrongPhase, Refused: this does not fit; nothing changed.
    """
    return step(table, payer, fact)

"""What must hold where both are honest and nothing is lost any more: no call is left waiting, nobody is left outside.

From a moment everything that ever left arrives, handlers end, the payer says hello where it has to; nothing else
happens and no time passes. Then no call may be in flight, S must be what the payer's own receipts say, and where the
payer wants the end, the payee has closed.
"""

from __future__ import annotations

from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import PayeeState, PayerState
from dux_sim.proof.channel import hands
from dux_sim.proof.channel.cast import EXP, MARGIN, PAYEE, Setting
from dux_sim.proof.channel.moment import Moment
from dux_sim.proof.channel.moves import FREE, handlers, in_flight
from dux_sim.proof.channel.nodes import Nodes
from dux_sim.proof.channel.world import World
from dux_sim.proof.search import require

ROUNDS_MAX = 40
LIVE = (PayerState.OPEN, PayerState.RESYNC, PayerState.OPEN_SEEN, PayerState.DRAINING)
SERVING = (PayeeState.OPEN, PayeeState.OPEN_SEEN, PayeeState.SUSPENDED)


class Healer:
    """Heals moments; what was healed once is known."""

    def __init__(self, setting: Setting, known: Nodes) -> None:
        self._setting, self._known = setting, known
        self._healed: set[tuple[object, ...]] = set()

    def judge(self, moment: Moment) -> None:
        """Heal and look.

        Raises:
            LawBroken: a call waits for ever.
        """
        key = (moment.edge, moment.nodes, moment.chain, moment.sent, moment.running, moment.ghost.heard)
        world = World(self._setting, self._known, moment)
        if self._setting.liars or key in self._healed or not self._concerns(world):
            return
        self._healed.add(key)
        self._heal(world)
        self._ask(world)

    @staticmethod
    def _concerns(world: World) -> bool:
        lively = world.payer.state in LIVE and world.payee.state in SERVING
        there = world.payer.coin is not None and world.payee.coin is not None
        deep = world.payee.cap_florins(world.height) >= world.setting.calls * world.setting.price
        return lively and there and deep and world.height < EXP - MARGIN and world.awake(PAYEE)

    def _heal(self, world: World) -> None:
        shown = False
        for _ in range(ROUNDS_MAX):
            before = world.freeze()
            self._round(world)
            if world.freeze() == before:
                if shown or not self._told(world) or world.payee.owed_florins >= world.payer.spent_florins:
                    return
                world.hello()  # the payer's next word carries its receipt: what a copy has lost comes back
                shown = True
        require(holds=False, text="the talk never ends")

    def _round(self, world: World) -> None:
        apart = world.payer.session != world.payee.session or world.payee.state is PayeeState.SUSPENDED
        lost = apart and self._told(world)  # it is told so, again and again
        ends = world.payer.state is PayerState.DRAINING
        waits = (
            world.payer.nonce != b"" if ends else world.payer.state is not PayerState.OPEN or not world.payer.session
        )
        if not self._asked(world) and (lost or waits):
            world.hello()
        for number in list(world.numbers_sent()):
            fact = self._known.facts[number]
            if fact is hands.NUDGE:
                continue
            if not isinstance(fact, f.HelloCame):
                world.learn_number(self._known.sides[number], number)
            elif fact.payer_nonce == world.payer.nonce and not world.ghost.heard[int(fact.payer_nonce[1:])]:
                world.hear_hello(number)
        for _name, cost, act in list(handlers(world)):
            if cost == FREE:
                act(world)
                break

    def _told(self, world: World) -> bool:
        """The payee has asked for a hello."""
        return any(self._known.facts[number] is hands.NUDGE for number in world.numbers_sent())

    def _asked(self, world: World) -> bool:
        """The last hello can still be answered: it was not heard, or its answer is on the way."""
        nonce = world.payer.nonce
        if not nonce:
            return False
        sent = (self._known.facts[number] for number in world.numbers_sent())
        answered = any(isinstance(fact, f.HelloBackCame) and fact.nonce == nonce for fact in sent)
        return answered or not world.ghost.heard[int(nonce[1:])]

    @staticmethod
    def _ask(world: World) -> None:
        if world.payer.state is PayerState.DRAINING:
            require(world.payee.state not in SERVING, "stuck: a close that is asked for waits for ever")
            return
        require(world.payer.session != b"", "stuck: no session comes about")
        require(not in_flight(world), "stuck: a call waits for ever")
        require(world.payee.state is not PayeeState.SUSPENDED, "stuck: suspended for ever")
        known = 0 if all(world.ghost.restored) else world.payer.spent_florins  # two old disks: §1 bounds what is lost
        require(world.payee.owed_florins >= known, "the payee has forgotten work that the payer would pay")

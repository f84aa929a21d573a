"""Assembly only: the parts of escrowd meet here and nowhere else."""

from __future__ import annotations

from common.contracts import escrow, peer_escrow
from common.contracts.escrow_restore import RECOVER, RESTORE
from common.contracts.escrow_royalties import ROYALTIES, ROYALTY_PAID, ROYALTY_PAY
from common.daemon import DuxOSDaemon
from common.parts import Parts
from dux_escrowd import orders
from dux_escrowd.adopting import Adopting
from dux_escrowd.book import Book
from dux_escrowd.case_methods import CaseMethods
from dux_escrowd.catching_up import CatchingUp
from dux_escrowd.channel.assembly import Channels
from dux_escrowd.counterpart import ASK_OFFER, ASK_QUOTE, Counterpart
from dux_escrowd.desk import Desk
from dux_escrowd.effects import Effects, WalletHand
from dux_escrowd.follower import Follower
from dux_escrowd.inbox import Inbox
from dux_escrowd.keeping import KEEP, Keep, Keeping
from dux_escrowd.late import LateMethods
from dux_escrowd.methods import Methods
from dux_escrowd.mouth import PeerHand
from dux_escrowd.parley import ASK_SEAL, ASK_SEATS, ASK_TERMS, Parley
from dux_escrowd.pen import Step
from dux_escrowd.restorer import Restorer
from dux_escrowd.royalties import RoyaltyMethods
from dux_escrowd.schema import MIGRATIONS
from dux_escrowd.settings import EscrowSettings
from dux_escrowd.voice import LETTER, Letter, Voice


class EscrowDaemon(DuxOSDaemon[EscrowSettings]):
    """Guards contracts, channels' agreements, disputes, the 95/5 rule and the community fund's books; holds no key."""

    name = "escrowd"
    settings_type = EscrowSettings
    desk: Desk

    async def assemble(self, parts: Parts[EscrowSettings]) -> None:
        """Store first, then who this node is, then hands, ears and loops."""
        store = parts.store(MIGRATIONS)
        book = Book(store)
        book.check(str(parts.data_dir))
        self.desk = desk = Desk(
            book=book,
            flopd=parts.neighbour("flopd"),
            registryd=parts.neighbour("registryd"),
            peers=parts.peers,
            me=await parts.own_did(),
            profile=parts.network,
            settings=parts.settings,
            clock=parts.clock,
            random=parts.random,
            log=parts.log,
        )
        parley, counterpart, inbox = Parley(desk), Counterpart(desk), Inbox(desk)
        Methods(desk).serve(parts.table)
        CaseMethods(desk).serve(parts.table)
        LateMethods(desk).serve(parts.table)
        parts.serve_events(escrow.EVENTS, store)
        _listen(parts, parley, counterpart, inbox)
        effects = _effects(parts, desk, Voice(desk, inbox), parley, counterpart)
        keeping = Keeping(desk)
        effects.sends(KEEP, Keep, keeping.send)
        parts.table.serve(RESTORE, keeping.restore)
        parts.table.serve(RECOVER, keeping.recover)
        parts.serve_peer(peer_escrow.COPY_PUT, keeping.take)
        parts.serve_peer(peer_escrow.COPY_GET, keeping.give)
        parts.serve_peer(peer_escrow.COPIES_HELD, keeping.held)
        parts.outbox(store, effects.perform, effects.refused)
        follower = Follower(desk, parley, keeping)
        keeping.when_back += [CatchingUp(desk, inbox).look, follower.look_now]
        parts.background("follower", follower.run)
        channels = Channels(desk)
        channels.serve(parts)
        royalties = RoyaltyMethods(desk, channels.ledger)
        parts.table.serve(ROYALTIES, royalties.royalties)
        parts.table.serve(ROYALTY_PAY, royalties.pay)
        parts.table.serve(ROYALTY_PAID, royalties.paid)
        adopting = Adopting(
            desk, channels.ledger.shelf, channels.restoring, follower.looking, channels.follower.looking
        )
        adopting.when_back.append(channels.hands.again)
        adopting.then += [follower.look_now, channels.follower.look_now]
        effects.knows_all = lambda: adopting.done
        parts.background("adopting", adopting.run)
        parts.background("restorer", Restorer(desk, keeping.take_back, channels.restoring.look).run)


def _listen(parts: Parts[EscrowSettings], parley: Parley, counterpart: Counterpart, inbox: Inbox) -> None:
    """What other nodes may ask."""
    parts.serve_peer(peer_escrow.OFFER, counterpart.take_offer)
    parts.serve_peer(peer_escrow.QUOTE, parley.take_quote)
    parts.serve_peer(peer_escrow.TERMS, counterpart.take_terms)
    parts.serve_peer(peer_escrow.ROLE, counterpart.take_role)
    parts.serve_peer(peer_escrow.NONCE, counterpart.take_nonce)
    parts.serve_peer(peer_escrow.SEAL, counterpart.take_seal)
    parts.serve_peer(peer_escrow.STATEMENTS, inbox.statements)
    parts.serve_peer(peer_escrow.STATEMENTS_GET, inbox.statements_get)
    parts.serve_peer(peer_escrow.KEY, inbox.key)
    parts.serve_peer(peer_escrow.CASE, inbox.case)
    parts.serve_peer(peer_escrow.STANDBY, inbox.standby)
    parts.serve_peer(peer_escrow.CONTRACT_GET, inbox.contract_get)
    parts.serve_topic(peer_escrow.FAULT, inbox.fault)


def _effects(
    parts: Parts[EscrowSettings], desk: Desk, voice: Voice, parley: Parley, counterpart: Counterpart
) -> Effects:
    """Who carries which order."""
    effects, wallet = Effects(desk), WalletHand(desk, voice)
    peers = PeerHand(desk, voice, wallet)
    parts.serve_peer(peer_escrow.CASE_GET, peers.case_get)
    effects.carries(orders.Adopt, wallet.adopt)
    effects.carries(orders.Fund, wallet.fund)
    effects.carries(orders.SignRelease, wallet.sign_release)
    effects.carries(orders.SignCancel, wallet.sign_cancel)
    effects.carries(orders.SignAward, wallet.sign_award)
    effects.carries(orders.Settle, wallet.settle)
    effects.carries(orders.Say, peers.say)
    effects.carries(orders.ShowKey, peers.show_key)
    effects.carries(orders.ShowCase, peers.show_case)
    effects.carries(orders.PingArbiters, peers.ping)
    effects.carries(orders.PassOn, peers.pass_on)
    effects.carries(orders.PublishFault, peers.publish)
    effects.sends(LETTER, Letter, voice.deliver)
    effects.sends(ASK_OFFER, Step, parley.offer)
    effects.sends(ASK_TERMS, Step, parley.terms)
    effects.sends(ASK_SEATS, Step, parley.seats)
    effects.sends(ASK_SEAL, Step, parley.seal)
    effects.sends(ASK_QUOTE, Step, counterpart.quote)
    return effects

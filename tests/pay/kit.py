"""A payer's and a payee's escrowd in one table, in memory: real keys, real envelopes, CP's W - S rule and its indices.

The seam is the RPC contract: what passes here speaks to the real daemon in `test_real_nodes`. For trouble a test
sets `refuse`, `down` or `crash_after`.
"""

import asyncio
import hashlib
from pathlib import Path

import coincurve
import msgspec
import structlog

from common.chain.tx import Outpoint
from common.channel_messages import (
    NO_ROOT,
    Ack,
    Answer,
    Offer,
    Outcome,
    Voucher,
    is_channel_signature,
    offer_hash,
    signed_digest,
)
from common.clock import ManualClock
from common.codec import Canon, canonical, from_canonical
from common.contracts import channel as port
from common.errors import BadParams, NotNow, Unavailable
from common.identity.purposes import Purpose
from common.identity.signed import Signed, decode_signed
from common.network import NetworkProfile
from common.randomness import SeededRandomness
from common.receipts import Attested, attested
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import Did, Florins
from dux_flopd.jws_methods import JwsMethods
from dux_pay.answers import Shelf
from dux_pay.ledger import Ledger, Limits
from dux_pay.purse import Purse
from dux_pay.seller import Seller

PAYER_KEY, PAYEE_KEY = (coincurve.PrivateKey(bytes([seed]) * 32) for seed in (1, 2))
PAYEE, PAYER = Did("did:dux:" + "b" * 52), Did("did:dux:" + "a" * 52)
GENESIS = "1f1037762db00882d3353b8d9dcfd52f" + "00" * 16
NETWORK = NetworkProfile(name="test", chain="embedded", genesis=GENESIS, heights="demo")
CHID = hashlib.sha256(b"channel").digest()
SESSION = hashlib.sha256(b"session").digest()
FIRST = 20_000_000


def envelope(key: coincurve.PrivateKey, purpose: Purpose, value: Canon) -> bytes:
    body = canonical(value)
    return canonical(Signed(body=body, sigs=(key.sign(signed_digest(purpose, body), hasher=None),)))


RULES = msgspec.structs.replace(port.RULES.example[1], did=PAYEE, network=GENESIS)


class ToyKeyring:
    """The part of a wallet's keys that signs claims."""

    def public(self, _branch: int, _index: int) -> bytes:
        return PAYEE_KEY.public_key.format()

    def sign_link(self, digest: bytes) -> bytes:
        return PAYEE_KEY.sign(digest, hasher=None)


class ToyKeys:
    """Coin keys of the two."""

    async def of(self, did: Did) -> bytes:
        return {PAYEE: PAYEE_KEY, PAYER: PAYER_KEY}[did].public_key.format()


class ToyEscrow:
    """Both sides of one channel."""

    def __init__(self) -> None:
        self.offers: dict[bytes, Offer] = {}
        self.offer_bytes: dict[bytes, bytes] = {}
        self.cum = self.spent = self.j = 0  # payer
        self.in_flight: dict[int, int] = {}
        self.paid: dict[str, tuple[bytes, bytes, int]] = {}  # oid -> (req, voucher, j)
        self.refused: list[str] = []
        self.held = 0  # payee: W
        self.calls: dict[int, dict] = {}
        self.by_oid: dict[str, int] = {}
        self.refuse: list[str] = []
        self.down = 0
        self.openings = 0
        self.valid_to = 1_500

    def serve(self, table: MethodTable) -> None:
        table.serve(port.RULES, self.rules)
        table.serve(port.MAKE_OFFER, self.offer)
        table.serve(port.ADMIT, self.admit)
        table.serve(port.FINISH, self.finish)
        table.serve(port.CHUNK, self.chunk)
        table.serve(port.PAY, self.pay)
        table.serve(port.FUEL, self.fuel)
        table.serve(port.SETTLED, self.settled)
        table.serve(port.REFUSED, self.refused_by)

    @property
    def owed(self) -> int:
        return sum(call["price"] for call in self.calls.values() if call["state"] != "failed")

    # payee

    async def rules(self, _asked: Empty, _ctx: Ctx) -> port.ChannelRules:
        return RULES

    async def offer(self, wish: port.MakeOffer, _ctx: Ctx) -> port.OfferMade:
        offer = Offer(
            v=1, network=GENESIS, payee=PAYEE, what=wish.what, price_florins=wish.price_florins, pricing=wish.pricing,
            valid_to=self.valid_to,
        )  # fmt: skip
        name = offer_hash(offer)
        self.offers[name] = offer
        return port.OfferMade(
            offer=canonical(Attested(did=PAYEE, key_seq=0, body=canonical(offer), signature=bytes(64))),
            hash=name,
            valid_to=offer.valid_to,
        )

    async def admit(self, asked: port.Admit, _ctx: Ctx) -> port.Admission:
        if self.down:
            self.down -= 1
            raise Unavailable
        signed = decode_signed(asked.voucher, max_bytes=1_024)
        if not is_channel_signature(
            PAYER_KEY.public_key.format(), Purpose.CHANNEL_VOUCHER, signed.body, signed.sigs[0]
        ):
            raise BadParams(detail="not the payer's signature")
        voucher = from_canonical(signed.body, Voucher, max_bytes=1_024)
        known = self.calls.get(self.by_oid.get(voucher.oid, voucher.j))
        if known is not None:
            return self._known(known, voucher, asked)
        if voucher.req != asked.req:
            raise BadParams(detail="the voucher is for another request")
        self.held = max(self.held, int(voucher.cum_florins))
        offer = self.offers.get(voucher.offer)
        reason = self.refuse.pop(0) if self.refuse else ""
        if not reason and (offer is None or offer.what != asked.what):
            reason = "offer_expired"
        price = int(offer.price_florins) if offer else 0
        missing = max(0, price - (self.held - self.owed))
        if not reason and missing:
            reason = "need_funds"
        if reason:
            return self._said("refused", voucher, reason=reason, missing=missing)
        self.calls[voucher.j] = {"state": "running", "req": voucher.req, "price": price, "oid": voucher.oid, "runs": 1}
        self.by_oid[voucher.oid] = voucher.j
        return self._said("admitted", voucher, price=price)

    def _known(self, known: dict, voucher: Voucher, asked: port.Admit) -> port.Admission:
        if known["req"] != asked.req or known["oid"] != voucher.oid:
            return self._said("refused", voucher, reason="conflict")
        self.held = max(self.held, int(voucher.cum_florins))
        if known["state"] == "running":
            return self._said("refused", voucher, reason="running")
        return self._said("stored", voucher, answer=known["answer"], response=known["response"])

    def _said(self, verdict, voucher, *, reason="", price=0, missing=0, answer=b"", response=None) -> port.Admission:
        return port.Admission(
            verdict=verdict,
            call=port.CallRef(chid=CHID.hex(), j=voucher.j),
            oid=voucher.oid,
            payer=PAYER,
            price_florins=Florins(price),
            price_max_florins=voucher.price_max_florins,
            reason=reason,
            held_florins=Florins(self.held),
            owed_florins=Florins(self.owed),
            missing_florins=Florins(missing),
            answer=answer,
            response=response,
        )

    async def finish(self, done: port.Finish, _ctx: Ctx) -> port.Finished:
        if self.down:
            self.down -= 1
            raise Unavailable
        call = self.calls[done.call.j]
        if "answer" not in call:
            charged = call["price"] if done.charged_florins is None else int(done.charged_florins)
            ok = done.outcome is Outcome.OK
            call |= {"state": done.outcome.value, "price": charged if ok else 0, "response": done.response}
            answer = Answer(
                v=1, chid=CHID, session=SESSION, j=done.call.j, oid=call["oid"], req=call["req"], resp=done.resp,
                outcome=done.outcome, charged_florins=Florins(call["price"]), held_florins=Florins(self.held),
                owed_florins=Florins(self.owed), height=120,
            )  # fmt: skip
            call["answer"] = envelope(PAYEE_KEY, Purpose.CHANNEL_ANSWER, answer)
        return port.Finished(answer=call["answer"])

    async def chunk(self, asked: port.Chunk, _ctx: Ctx) -> port.ChunkVerdict:
        call, left = self.calls[asked.call.j], asked.wait_s
        while True:
            missing = max(0, int(asked.price_florins) - call["price"] - (self.held - self.owed))
            if missing == 0:
                call["price"] = int(asked.price_florins)
            if missing == 0 or left <= 0:
                return port.ChunkVerdict(go=missing == 0, missing_florins=Florins(missing))
            await asyncio.sleep(0.02)
            left -= 0.02

    # payer

    async def pay(self, asked: port.Pay, _ctx: Ctx) -> port.Paid:
        if self.openings:
            self.openings -= 1
            raise NotNow
        if asked.oid in self.paid:
            req, voucher, j = self.paid[asked.oid]
            if req != asked.req:
                raise BadParams(detail="this oid was used for another request")
            return port.Paid(voucher=voucher, call=port.CallRef(chid=CHID.hex(), j=j))
        offer = from_canonical(attested(asked.offer).body, Offer, max_bytes=512)
        self.j += 1
        j = self.j
        self.in_flight[j] = int(asked.price_max_florins)
        voucher = self._voucher(j, asked.oid, asked.req, offer_hash(offer), int(asked.price_max_florins))
        self.paid[asked.oid] = (asked.req, voucher, j)
        return port.Paid(voucher=voucher, call=port.CallRef(chid=CHID.hex(), j=j), said=("over channel c4",))

    def _voucher(self, j: int, oid: str, req: bytes, offer: bytes, most: int) -> bytes:
        self.cum = max(self.cum, FIRST, self.spent + sum(self.in_flight.values()))
        voucher = Voucher(
            v=1, network=GENESIS, chid=CHID, outpoint=Outpoint("ab" * 32, 0), session=SESSION, j=j, oid=oid,
            cum_florins=Florins(self.cum), price_max_florins=Florins(most), offer=offer, req=req,
            ack=Ack(low=1, root=NO_ROOT, bits=0, paid_florins=Florins(0)), coin_sig=b"s" * 71,
        )  # fmt: skip
        return envelope(PAYER_KEY, Purpose.CHANNEL_VOUCHER, voucher)

    async def fuel(self, asked: port.Fuel, _ctx: Ctx) -> port.Paid:
        oid, (req, old, j) = next((oid, one) for oid, one in self.paid.items() if one[2] == asked.call.j)
        self.in_flight[j] = int(asked.price_max_florins)
        offer = from_canonical(decode_signed(old, max_bytes=1_024).body, Voucher, max_bytes=1_024).offer
        voucher = self._voucher(j, oid, req, offer, int(asked.price_max_florins))
        self.paid[oid] = (req, voucher, j)
        return port.Paid(voucher=voucher, call=asked.call)

    async def settled(self, done: port.Settle, _ctx: Ctx) -> port.SettledCall:
        signed = decode_signed(done.answer, max_bytes=1_024)
        if not is_channel_signature(PAYEE_KEY.public_key.format(), Purpose.CHANNEL_ANSWER, signed.body, signed.sigs[0]):
            raise BadParams(detail="not the payee's signature")
        answer = from_canonical(signed.body, Answer, max_bytes=1_024)
        if answer.resp != done.resp:
            raise BadParams(detail="another response")
        if self.in_flight.pop(answer.j, None) is not None:
            self.spent += int(answer.charged_florins)
        return port.SettledCall(
            call=done.call, outcome=answer.outcome, charged_florins=answer.charged_florins, state=answer.outcome.name
        )

    async def refused_by(self, report: port.ReportRefusal, _ctx: Ctx) -> port.Advice:
        self.refused.append(report.reason)
        if report.drop:
            oid = next(oid for oid, one in self.paid.items() if one[2] == report.call.j)
            self.paid.pop(oid)
            self.in_flight.pop(report.call.j)
            return port.Advice(action="ended", state="REFUSED")
        voucher = next(one[1] for one in self.paid.values() if one[2] == report.call.j)
        return port.Advice(action="send", voucher=voucher)


class ToyInfo:
    """p2pd, as far as flopd asks it."""

    async def call(self, *_asked, **_more):
        class Info:
            did = PAYEE

        return Info


class World:
    """A seller and a buyer with all they need but the network between them."""

    def __init__(self, folder: Path, *, limits: Limits | None = None, **limited) -> None:
        self.escrow = ToyEscrow()
        self.clock = ManualClock()
        log = structlog.get_logger("test")
        table = MethodTable(log=log, clock=self.clock, randomness=SeededRandomness(1))
        self.escrow.serve(table)
        JwsMethods(ToyKeyring(), ToyInfo()).serve(table)
        self.client = LocalClient(table, "module")
        self.seller = Seller(
            escrowd=self.client, flopd=self.client, network=NETWORK, clock=self.clock, shelf=Shelf(folder / "shelf"),
            **limited,
        )  # fmt: skip
        allowed = limits or Limits(
            per_call_florins=Florins(100_000_000), per_day_florins=Florins(500_000_000), open_florins=Florins(10**9)
        )
        self.ledger = Ledger(folder / "ledger.sqlite", self.clock, allowed)
        self.purse = Purse(
            escrowd=self.client, coin_keys=ToyKeys(), network=NETWORK, ledger=self.ledger, random=SeededRandomness(2),
            open_wait_s=10, open_pause_s=0.05,
        )  # fmt: skip

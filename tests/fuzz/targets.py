"""Every parser of bytes from outside, each as a function that lets pass only what is meant to happen.

A target takes bytes and returns; it raises for a finding: an exception that is no named error, or a broken law (what
was accepted is canonical, pieces give what the whole gives, limits hold). `seeds` are honest examples to begin from.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import coincurve
import structlog

from common.blobs import Manifest, manifest_of, open_manifest
from common.chain import messages, wire
from common.chain.invalid import Invalid
from common.chain.partial_merkle import MerkleBlock, check_proof, decode_merkle_block, encode_merkle_block, prove
from common.channel_messages import NO_ROOT, Ack, Final, Hello, open_message
from common.clock import ManualClock
from common.codec import canonical, from_canonical, json_bytes
from common.contracts import p2p
from common.contracts.channel_carried import MESSAGE_BYTES_MAX, WISH_BYTES_MAX, CarriedMessage, CarriedOpen
from common.contracts.peer import namespaces, peer_methods, topics
from common.contracts.peer_channel import OpenReq
from common.contracts.peer_p2p import AskLog, FindNode
from common.errors import DuxError
from common.identity.did import did_bytes
from common.identity.disclosure import Disclosure, claims_of, disclose
from common.identity.log import decode_log, encode_log
from common.identity.news import LogNews, read_news
from common.identity.node_record import RECORD_BYTES_MAX, open_record
from common.identity.purposes import Purpose
from common.identity.signed import decode_signed
from common.jws import KEY_FRAGMENT, BadJws, OfferClaims, digest_of, opened, sealed, signer_of, signing_input
from common.nets import may_listen_at
from common.randomness import SeededRandomness
from common.receipts import ATTESTED_BYTES_MAX, Attested
from common.rpc.method import Method
from common.rpc.table import Ctx, MethodTable
from common.units import Florins
from dux_p2pd import lan_beacon
from dux_p2pd.blob_gather import read_chunk_headers
from dux_p2pd.calls import AnswerHead, RequestHead, answer_ok, head_in, request_head
from dux_p2pd.certs import LEAF_BYTES, SIGNATURE_BYTES, key_of_leaf, leaf_certificate, public_key
from dux_p2pd.circuits import PIECE_BYTES, REASON_BYTES, Pieces, last_piece, piece
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.frames import FIN, SYN, FrameReader, Kind, encode
from dux_p2pd.hello import HelloExchange
from dux_p2pd.lan_beacon import read_beacon
from dux_p2pd.mux import Mux
from dux_p2pd.mux_events import Received
from dux_p2pd.records import GossipBody, RecordBody, sign_gossip, sign_record, split_gossip, split_record
from dux_p2pd.rules import contact_at, gossip_fault, record_fault
from dux_p2pd.socks import SocksFault, parse_target, read_greeting, read_login, read_request
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.wire_errors import FramingBroken
from dux_p2pd.wire_limits import KNOWN, STRANGER, WINDOW_BYTES
from dux_pay.buying import BadOffer, offered_in
from dux_pay.headers import (
    SCHEME,
    Malformed,
    decode_payload,
    decode_required,
    decode_settlement,
    open_shown_answer,
    open_shown_voucher,
    show_answer,
    show_voucher,
)
from dux_pay.headers import encode as encode_header
from dux_pay.terms import Offered, required_of
from tests.fuzz.targets_files import FILE_TARGETS, file_seeds
from tests.fuzz.targets_lan import LAN_TARGETS, lan_seeds
from tests.fuzz.targets_papers import PAPER_TARGETS, paper_seeds
from tests.p2pd.wire_kit import ALPN, MADE_MS, TestPapers, myself, unread_bytes
from tests.pay import payments

Target = Callable[[bytes], None]
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

ME, THEM = TestPapers("fuzzed"), TestPapers("honest")
NOW_MS = MADE_MS + 1000
CONTEXTS = contexts_of_seed(bytes(32), ALPN)
LOOP = asyncio.new_event_loop()
KINDS = [
    *(kind for method in peer_methods().values() for kind in (method.params, method.result)),
    *(topic.payload for topic in topics().values()),
]

BY_NAME = {kind.__name__.encode(): kind for kind in KINDS}


def frames(data: bytes) -> None:
    """Any split gives the same frames or the same breach."""
    assert _frames_of([data]) == _frames_of([data[i : i + 3] for i in range(0, len(data), 3)])


def _frames_of(pieces: list[bytes]) -> tuple[list[Any], bool]:
    reader, found = FrameReader(), []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(frame)  # noqa: PERF402 - those before a breach count
    except FramingBroken:
        return found, True
    return found, False


def mux(data: bytes) -> None:
    """Streams and unread bytes stay within their limits, whatever comes."""
    limits = KNOWN if data[:1] > b"\x7f" else STRANGER
    state, now = Mux(dialler=data[1:2] > b"\x7f", limits=limits), 0.0
    state.open(b"ours", finish=False)
    with suppress(FramingBroken):
        for at in range(2, len(data), 64):
            for event in state.receive(data[at : at + 64], now):
                if isinstance(event, Received):
                    state.consumed(event.stream, len(event.data) // 2)
            now += 0.01
            state.take_output()
            assert state.open_streams - state.own_streams <= limits.streams
            assert unread_bytes(state) <= (limits.streams + 1) * WINDOW_BYTES + limits.credit_bytes


def introduction(data: bytes) -> None:
    """Nobody but the owner of the channel's key is introduced."""
    for dialler in (False, True):
        exchange = HelloExchange(
            myself(ME), dialler=dialler, peer_key=THEM.transport_key, expected_did=THEM.did if dialler else None,
            record_known=dialler,
        )  # fmt: skip
        exchange.start()
        with suppress(DuxError):
            step = exchange.receive(data)
            assert step.introduced is None or step.introduced.vouched.did == THEM.did


def stream_head(data: bytes) -> None:
    """A head is whole, waiting or a breach; a whole one is in its one form."""
    for kind in (RequestHead, AnswerHead):
        with suppress(FramingBroken):
            head, _ = head_in(data, kind) or (None, 0)
            if isinstance(head, RequestHead):
                with suppress(DuxError):
                    read_chunk_headers(head.headers)


def certificate(data: bytes) -> None:
    """What is taken is the template."""
    with suppress(DuxError):
        key = key_of_leaf(data)
        assert data[: LEAF_BYTES - SIGNATURE_BYTES] == leaf_certificate(key)[: LEAF_BYTES - SIGNATURE_BYTES]


def tls(data: bytes) -> None:
    """Noise never raises and never opens."""
    for server_side in (True, False):
        engine = TlsEngine(CONTEXTS, server_side=server_side)
        engine.start()
        step = engine.receive(data)
        assert step.phase is not Phase.OPEN
        assert step.plaintext == b""


def event_log(data: bytes) -> None:
    """A log that is taken encodes to what it was."""
    with suppress(DuxError):
        log = decode_log(data, now_ms=NOW_MS, inception_bits=0)
        assert encode_log(log) == data or len(log.events) < 256


def log_news(data: bytes) -> None:
    """News about a known log."""
    with suppress(DuxError):
        news = from_canonical(data, LogNews, max_bytes=65_536)
        list(read_news(news, THEM.log, now_ms=NOW_MS))


def node_record(data: bytes) -> None:
    """A record that is taken is its owner's."""
    with suppress(DuxError):
        record = open_record(decode_signed(data, max_bytes=RECORD_BYTES_MAX), THEM.log, now_ms=NOW_MS)
        assert record.did == THEM.did


def dht_record(data: bytes) -> None:
    """Envelope, body, and what its namespace makes of it."""
    with suppress(DuxError):
        signed, body = split_record(data)
        assert canonical(signed) == data
        assert canonical(body) == signed.body
        record_fault(body, namespaces().get(body.ns), NOW_MS)


def gossip(data: bytes) -> None:
    """Envelope, body, age, and the payload's type."""
    with suppress(DuxError):
        signed, body = split_gossip(data)
        assert canonical(signed) == data
        gossip_fault(body, NOW_MS)
        topic = topics().get(body.topic)
        if topic is not None:
            from_canonical(body.payload, topic.payload, max_bytes=topic.payload_bytes_max)


def peer_call(data: bytes) -> None:
    """Parameters and answers of every peer method, payloads of every topic: the name before the first 0 chooses."""
    name, _, body = data.partition(b"\0")
    kind = BY_NAME.get(name) or KINDS[len(name) % len(KINDS)]
    with suppress(DuxError):
        assert canonical(from_canonical(body, kind, max_bytes=1 << 20)) == body


def blob(data: bytes) -> None:
    """Manifests."""
    with suppress(DuxError):
        from_canonical(data, Manifest, max_bytes=1 << 20)
    with suppress(DuxError):
        open_manifest(data, "00" * 32)


def disclosure(data: bytes) -> None:
    """A disclosed claim."""
    with suppress(DuxError):
        from_canonical(data, Disclosure, max_bytes=1024)


def _table() -> MethodTable:
    table = MethodTable(log=structlog.get_logger(), clock=ManualClock(NOW_MS), randomness=SeededRandomness(1))
    for name in sorted(dir(p2p)):
        method = getattr(p2p, name)
        if isinstance(method, Method) and not method.once:  # those want a store for their answers
            table.serve(method, _answering(method))
    return table


def _answering(method: Method[Any, Any]) -> Callable[[Any, Ctx], Coroutine[Any, Any, Any]]:
    async def answer(_params: Any, _ctx: Ctx) -> Any:
        return method.example[1]

    return answer


TABLE = _table()


def rpc_door(data: bytes) -> None:
    """JSON-RPC: an answer to everything, never an internal error."""
    answer = LOOP.run_until_complete(TABLE.dispatch(data, caller="cli", deadline_s=5))
    assert b'"internal"' not in answer
    assert b"-32603" not in answer


def socks(data: bytes) -> None:
    """The egress' three messages, one after the other."""
    rest = memoryview(data)

    async def read(count: int) -> bytes:
        nonlocal rest
        if len(rest) < count:
            raise EOFError
        part, rest = bytes(rest[:count]), rest[count:]
        return part

    async def whole() -> None:
        await read_greeting(read)
        await read_login(read)
        await read_request(read)

    with suppress(SocksFault, EOFError, StopIteration):
        whole().send(None)


def endpoint(data: bytes) -> None:
    """Addresses and names as text."""
    text = data.decode("utf-8", "surrogateescape")
    may_listen_at(text)
    contact_at(text)
    with suppress(ValueError):
        parse_target(text)
    with suppress(DuxError):
        did_bytes(text)


COIN_READERS: tuple[Callable[[bytes], object], ...] = (
    messages.decode_version, messages.decode_invs, messages.decode_getheaders, messages.decode_headers,
    messages.decode_reject, messages.decode_addresses, wire.decode_tx, wire.decode_block,
)  # fmt: skip


def coin_message(data: bytes) -> None:
    """What a coin node sends, by the first byte; a transaction that is taken encodes to what it was."""
    read, body = COIN_READERS[(data[0] if data else 0) % len(COIN_READERS)], data[1:]
    with suppress(wire.DecodeError):
        found = read(body)
        if isinstance(found, wire.Tx):
            assert wire.encode_tx(found) == body


def coin_proof(data: bytes) -> None:
    """A merkle block: read, then walked."""
    with suppress(wire.DecodeError, Invalid):
        check_proof(decode_merkle_block(data, 80))


def coin_frame(data: bytes) -> None:
    """The head of a coin message."""
    if len(data) == messages.FRAME.size:
        with suppress(wire.DecodeError):
            messages.read_frame_head(data, b"\xfa\xbf\xb5\xda")


def beacon(data: bytes) -> None:
    """A datagram of the local network."""
    port = read_beacon(data, "net")
    assert port is None or lan_beacon.beacon("net", port) == data


def circuit(data: bytes) -> None:
    """A relay's framing: any split gives the same bytes, and at most one piece is held."""
    whole, parts, out = Pieces(), Pieces(), bytearray()
    with suppress(ValueError):
        expected = whole.take(data)
        for at in range(0, len(data), 5):
            out += parts.take(data[at : at + 5])
            assert len(parts._buffer) <= PIECE_BYTES + REASON_BYTES
        assert out == expected
        whole.reason()


def payment_header(data: bytes) -> None:
    """The three headers of the 402 exchange: taken whole, and then what they show is what was signed; or malformed."""
    text = base64.b64encode(data[1:]).decode() if data[:1] > b"\x7f" else data[1:].decode("latin-1")
    with suppress(Malformed):
        envelope, voucher = open_shown_voucher(decode_payload(text))
        assert show_voucher(envelope)["j"] == voucher.j
    with suppress(Malformed):
        envelope, answer = open_shown_answer(decode_settlement(text))
        assert show_answer(envelope)["oid"] == answer.oid
    with suppress(Malformed):
        wanted = decode_required(text)
        assert all(entry.scheme == SCHEME for entry in wanted.accepts)
        assert decode_required(encode_header(wanted)) == wanted
        with suppress(BadOffer):
            offered_in(wanted, wanted.accepts[0], "https://api.example/x")


def channel_message(data: bytes) -> None:
    """A channel message as an HTTP body: read down to what is signed, and the same bytes again; or refused by name."""
    with suppress(DuxError):
        message = from_canonical(data, CarriedMessage, max_bytes=MESSAGE_BYTES_MAX)
        assert canonical(message) == data
        if message.kind == "open":
            signed = from_canonical(message.body, Attested, max_bytes=ATTESTED_BYTES_MAX)
            wish = from_canonical(signed.body, CarriedOpen, max_bytes=MESSAGE_BYTES_MAX).wish
            assert canonical(from_canonical(wish, OpenReq, max_bytes=WISH_BYTES_MAX)) == wish
            return
        kind = Hello if message.kind == "hello" else Final
        open_message(
            message.body, kind, pubkey=JWS_KEY.public_key.format(), purpose=Purpose.CHANNEL_HELLO, max_bytes=2_048
        )


def payment_jws(data: bytes) -> None:
    """Offers and receipts as JWS: never opened by chance, whatever the text."""
    text = data.decode("latin-1")
    with suppress(BadJws):
        signer_of(text)
    with suppress(BadJws):
        opened(text, OfferClaims, coin_key=JWS_KEY.public_key.format())
        assert text == _jws()


TARGETS: dict[str, Target] = {
    one.__name__: one
    for one in (
        frames, mux, introduction, stream_head, certificate, tls, event_log, log_news, node_record, dht_record, gossip,
        peer_call, blob, disclosure, rpc_door, socks, endpoint, coin_message, coin_proof, coin_frame, beacon, circuit,
        payment_header, payment_jws, channel_message,
    )
}  # fmt: skip
TARGETS |= LAN_TARGETS | PAPER_TARGETS | FILE_TARGETS


JWS_KEY = coincurve.PrivateKey(b"\x07" * 32)


def _jws() -> str:
    claims = OfferClaims(
        resource_url="https://api.example/x", scheme=SCHEME, network="bip122:1", asset="FLOP", pay_to="02",
        amount="5", valid_until=1_800_000_000, valid_to=9,
    )  # fmt: skip
    text = signing_input(THEM.did + KEY_FRAGMENT, claims)
    return sealed(text, JWS_KEY.sign(digest_of(text), hasher=None))


def _payment_headers() -> list[bytes]:
    offered = Offered(envelope=b"\x92offer", valid_to=1_500, jws=_jws())
    required = required_of(payments.SCHEMES, payments.PRICE, offered, "https://api.example/x", "")
    shown = (
        required,
        payments.payload_of(payments.signed(payments.voucher())),
        payments.settlement_of(payments.answer()),
    )
    return [b"\xff" + base64.b64decode(encode_header(one)) for one in shown]


def _record() -> bytes:
    body = RecordBody(1, "service", "x", THEM.did, 0, NOW_MS, 60, b"payload")
    return sign_record(body, THEM.key)


def _gossip() -> bytes:
    return sign_gossip(GossipBody(1, min(topics()), THEM.did, 0, NOW_MS, 60, b"\x90", 0), THEM.key)


def _hello(*, wish: bool) -> bytes:
    expected = {} if wish else {"expected_did": ME.did, "record_known": True}
    return HelloExchange(myself(THEM), dialler=True, peer_key=ME.transport_key, **expected).start()  # type: ignore[arg-type]


def _tx() -> wire.Tx:
    return wire.Tx(1, (wire.TxIn(wire.OutPoint(bytes(32), 0), b"\x51", 2**32 - 1),), (wire.TxOut(5, b"\x51"),), 0)


def _proof() -> MerkleBlock:
    ids = [bytes([n]) * 32 for n in range(5)]
    return prove(ids, [False, True, False, False, True], bytes(80))


def _channel_messages() -> list[bytes]:
    """A signed hello, and a wish for a channel."""
    hello = Hello(v=1, chid=bytes(32), nonce=bytes(32), head=b"", ack=Ack(1, NO_ROOT, 0, Florins(0)))
    wish = OpenReq(
        nonce=bytes(32), network="net", payer_key=b"\x02" * 33, change_script=b"\xa9", fund_script=b"\xa9", tax_bps=500,
        developer_script=b"", royalty_bps=0, fee_rate_florins_per_kb=1_200_000, cap_florins=Florins(10**9), exp=10_080,
        profile="main",
    )  # fmt: skip
    asked = canonical(CarriedOpen(payee=THEM.did, wish=canonical(wish), stamp=0))
    signed = canonical(Attested(body=asked, did=ME.did, key_seq=0, signature=bytes(64)))
    said = payments.envelope(JWS_KEY, Purpose.CHANNEL_HELLO, hello)
    return [canonical(CarriedMessage("hello", said)), canonical(CarriedMessage("open", signed))]


def seeds() -> dict[str, list[bytes]]:
    """Honest bytes for every target."""
    head = request_head("dht.find", 5.0, (("blob", bytes(32)),))
    call = encode(Kind.DATA, SYN | FIN, 1, len(head), head)
    asked = (FindNode(key=bytes(32)), AskLog(did=THEM.did))
    calls = [type(one).__name__.encode() + b"\0" + canonical(one) for one in asked]
    claims = claims_of([("tier>=1", "yes"), ("bond>=5", "yes")], SeededRandomness(2))
    shown = disclose(claims, "tier>=1")
    assert shown is not None
    requests = [
        json_bytes({"jsonrpc": "2.0", "id": 1, "method": name, "params": method.example[0]})
        for name, method in TABLE.methods.items()
    ]
    return (
        lan_seeds()
        | paper_seeds()
        | file_seeds()
        | {
            "frames": [
                call,
                encode(Kind.PING, SYN, 0, 7),
                encode(Kind.CREDIT, 0, 1, 4096),
                encode(Kind.GO_AWAY, 0, 0, 0),
            ],
            "mux": [b"\xff\x00" + call * 2, b"\x00\x00" + call + encode(Kind.CREDIT, 8, 1, 0)],
            "introduction": [_hello(wish=False), _hello(wish=True)],
            "stream_head": [head, answer_ok()],
            "certificate": [leaf_certificate(public_key(bytes(32)))],
            "tls": [],  # a ClientHello is new each time: one is kept
            "event_log": [encode_log(THEM.log)],
            "log_news": [canonical(LogNews(THEM.did, 1, THEM.log.envelopes[:1], ()))],
            "node_record": [THEM.record()],
            "dht_record": [_record()],
            "gossip": [_gossip()],
            "peer_call": calls,
            "blob": [canonical(manifest_of(bytes(1000)))],
            "disclosure": [canonical(shown)],
            "rpc_door": requests[:40],
            "socks": [b"\x05\x01\x02\x01\x01a\x01b\x05\x01\x00\x03\x04name\x00\x50"],
            "coin_message": [
                bytes([6]) + wire.encode_tx(_tx()),
                bytes([1]) + messages.encode_invs(messages.Inv.TX, [bytes(32)]),
            ],
            "coin_proof": [encode_merkle_block(_proof().header, _proof())],
            "coin_frame": [messages.frame(b"\xfa\xbf\xb5\xda", "ping", bytes(8))[: messages.FRAME.size]],
            "beacon": [lan_beacon.beacon("net", 32570)],
            "circuit": [piece(b"hello") + piece(b"there") + last_piece("done")],
            "payment_header": _payment_headers(),
            "payment_jws": [_jws().encode()],
            "channel_message": _channel_messages(),
            "endpoint": [b"127.0.0.1:80", b"[::1]:443", THEM.did.encode()],
        }
    )

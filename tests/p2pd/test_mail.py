"""Letters: sealed so that only their recipient reads them, kept by others while it is off, and what liars meet."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from common.codec import canonical
from common.contracts import p2p, p2p_mail
from common.contracts.base import EventsSince
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_mail import MAIL_ACK, MAIL_COLLECT, MAIL_STORE, Acked, Collect, Parcel, Parcels
from common.errors import BadParams, PeerMisbehaved, RequestIdReused
from common.identity import mail
from common.identity.did import did_of
from common.identity.document import document
from common.identity.errors import BadLetter
from common.identity.keys import SigningKey
from common.identity.mail import Ack, Letter, key_id_of, letter_id, parcel_id, seal, unseal
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.randomness import SeededRandomness
from common.units import UnixMs
from dux_p2pd.abuse import Abuse
from dux_p2pd.mail_keys import KEY_KEPT_MS, KEY_LIFE_MS, MAILBOX_FILE, MailboxKeys
from dux_p2pd.mail_rules import (
    COPIES_ENOUGH,
    PER_RECIPIENT_MAX,
    PER_SENDER_MAX,
    RETRY_FIRST_MS,
    RETRY_MAX_MS,
    ROOM_BYTES_MAX,
    Room,
    deposit_fault,
    letter_fault,
    retry_ms,
)
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, network, wait_until

pytestmark = pytest.mark.patient

SEED, OTHER = b"m" * 32, b"o" * 32
PUBLIC = X25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
ONE, TWO = did_of(b"1" * 32), did_of(b"2" * 32)
NOW_MS = 1_790_000_000_000
LETTER = Letter(
    v=1, sender=ONE, key_seq=0, recipient=TWO, at_ms=UnixMs(NOW_MS), box="people", subject="hello", payload=b"text"
)
KEY = SigningKey(b"k" * 32)


# the seal


def _extract(salt: bytes, label: bytes, ikm: bytes, suite: bytes) -> bytes:
    mac = HMAC(salt or bytes(32), SHA256())
    mac.update(b"HPKE-v1" + suite + label + ikm)
    return mac.finalize()


def _expand(secret: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(algorithm=SHA256(), length=length, info=labelled).derive(secret)


def key_schedule(private: bytes, enc: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9180 §4.1 and §5.1, base mode, from primitives: the key and the first nonce at the receiver."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    key = X25519PrivateKey.from_private_bytes(private)
    context = enc + key.public_key().public_bytes_raw()
    shared = _extract(b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)), kem)
    shared = _expand(shared, b"shared_secret", context, 32, kem)
    whole = b"\0" + _extract(b"", b"psk_id_hash", b"", suite) + _extract(b"", b"info_hash", info, suite)
    secret = _extract(shared, b"secret", b"", suite)
    return _expand(secret, b"key", whole, 32, suite), _expand(secret, b"base_nonce", whole, 12, suite)


def test_the_seal_is_rfc_9180() -> None:
    """The key schedule from primitives gives the RFC's values (A.2.1), and the library opens what is sealed by it."""
    private = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    enc = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    key, nonce = key_schedule(private, enc, info)
    assert key.hex() == "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"
    assert nonce.hex() == "5c4d98150661b848853b547f"
    sealed = ChaCha20Poly1305(key).encrypt(nonce, b"Beauty is truth, truth beauty", b"Count-0")
    assert sealed.hex() == "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    plain = ChaCha20Poly1305(key).encrypt(nonce, b"no data beside it", b"")
    opened = mail._SUITE.decrypt(enc + plain, X25519PrivateKey.from_private_bytes(private), info=info)
    assert opened == b"no data beside it"


@given(st.binary(max_size=mail.LETTER_PAYLOAD_BYTES_MAX))
def test_a_letter_opens_as_it_was_written_and_its_length_says_little(payload: bytes) -> None:
    """Whatever is in it, a sealed letter has one of eight lengths."""
    letter = msgspec.structs.replace(LETTER, payload=payload)
    sealed = seal(letter, KEY, PUBLIC)
    mail.check_size(sealed)
    assert unseal(sealed, SEED, TWO)[1] == letter


@attack("mailbox", tries="opens a letter with another key or name, changed or cut", meets="it does not open")
def test_nothing_but_the_right_key_and_recipient_opens_it() -> None:
    """Another key, another DID, a flipped bit, a cut end."""
    sealed = seal(LETTER, KEY, PUBLIC)
    for data, seed, did in (
        (sealed, OTHER, TWO),
        (sealed, SEED, ONE),
        (sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:], SEED, TWO),
        (sealed[:-1], SEED, TWO),
        (b"", SEED, TWO),
    ):
        with pytest.raises(BadLetter):
            unseal(data, seed, did)
    with pytest.raises(BadLetter):
        seal(LETTER, KEY, bytes(32))


@attack(
    "mailbox",
    tries="seals a received letter on to a third node; hides bytes in the padding",
    meets="refused by whoever opens it",
)
def test_a_letter_sealed_on_to_somebody_else_is_refused_and_odd_padding_too() -> None:
    """Who opens a letter cannot seal it on as written to a third; what is behind the letter must be zeros."""
    signed = sign(KEY, Purpose.MAIL, LETTER)
    plain = canonical(signed)
    for did, framed in (
        (ONE, (len(plain).to_bytes(4, "big") + plain).ljust(512, b"\0")),
        (TWO, (len(plain).to_bytes(4, "big") + plain).ljust(512, b"x")),
        (TWO, (len(plain).to_bytes(4, "big") + plain).ljust(300, b"\0")),
        (TWO, (9999).to_bytes(4, "big") + plain),
    ):
        key = X25519PublicKey.from_public_bytes(PUBLIC)
        sealed = mail._SUITE.encrypt(framed, key, info=mail._info(did, PUBLIC))
        with pytest.raises(BadLetter):
            unseal(sealed, SEED, did)


@given(st.binary(max_size=600))
def test_random_bytes_are_no_letter_and_no_acknowledgement(data: bytes) -> None:
    """Nothing but the errors that are said."""
    with pytest.raises(PeerMisbehaved):
        unseal(data, SEED, TWO)
    with pytest.raises(BadParams):
        mail.open_ack(data)


# rules and keys


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"of_sender": PER_SENDER_MAX}, False),
        ({"of_recipient": PER_RECIPIENT_MAX}, False),
        ({"bytes_held": ROOM_BYTES_MAX}, False),
        ({"nearer_nodes": 40}, False),
        ({"of_sender": PER_SENDER_MAX - 1, "of_recipient": PER_RECIPIENT_MAX - 1, "nearer_nodes": 39}, True),
    ],
)
def test_a_parcel_is_kept_within_the_limits(changes: dict[str, int], kept: bool) -> None:  # noqa: FBT001
    """Four of a sender, sixty-four of a recipient, 64 MiB in all, and only near its place."""
    values = {"of_recipient": 0, "of_sender": 0, "bytes_held": 0, "nearer_nodes": 0, "near_max": 40} | changes
    assert (deposit_fault(1000, Room(**values)) is None) is kept


def test_a_letter_is_of_these_days() -> None:
    """Neither from the future, nor so old that its id may be forgotten."""
    assert letter_fault(LETTER, NOW_MS) is None
    assert letter_fault(LETTER, NOW_MS - 700_000) is not None
    assert letter_fault(LETTER, NOW_MS + 9 * 86_400_000) is not None


def test_mailbox_keys_turn_and_are_thrown_away(tmp_path: Path) -> None:
    """A new one after 30 days, the old one readable for 7 more; both survive a restart, for the owner alone."""
    random = SeededRandomness(1)
    keys = MailboxKeys(tmp_path, random, now_ms=NOW_MS)
    (first,) = keys.listed
    assert not keys.turn(NOW_MS + KEY_LIFE_MS - 1)
    assert keys.turn(NOW_MS + KEY_LIFE_MS)
    assert keys.listed[1] == first
    assert MailboxKeys(tmp_path, random, now_ms=NOW_MS + KEY_LIFE_MS).listed == keys.listed
    assert (tmp_path / MAILBOX_FILE).stat().st_mode & 0o777 == 0o600
    assert keys.seed_of(key_id_of(first)) is not None
    assert keys.turn(NOW_MS + KEY_KEPT_MS)
    assert keys.seed_of(key_id_of(first)) is None
    assert len(keys.listed) == 1


# between nodes


async def send(node: Node, to: Node, payload: bytes = b"text", request: str = "r1", caller: str = "cli") -> str:
    params = p2p_mail.SendMail(request_id=request, to=to.did, subject="hello", payload=payload)
    return (await node.as_caller(caller).call(p2p_mail.MAIL_SEND, params)).id


async def inbox(node: Node, caller: str = "cli", **more: Any) -> list[p2p_mail.LetterView]:
    return (await node.as_caller(caller).call(p2p_mail.MAIL_LIST, p2p_mail.ListMail(**more))).letters


async def arrived(node: Node, count: int = 1) -> list[p2p_mail.LetterView]:
    async def there() -> list[p2p_mail.LetterView]:
        found = await inbox(node)
        return found if len(found) >= count else []

    return await wait_until(there, "letters")


def parcels_of(node: Node, to: Node) -> int:
    return len(node.daemon.mailbox._table.waiting(to.did))


def parcel_to(sender: Node, to: Node, letter: Letter | None = None, signer: Any = None) -> Parcel:
    """A parcel as this node would make it, or with a letter and a signer of one's own."""
    letter = letter or letter_of(sender, to)
    public = to.daemon.mailbox._keys.listed[0]
    sealed = seal(letter, signer or sender.daemon.net.keeper.signer, public)
    return Parcel(recipient=to.did, key_id=key_id_of(public), sealed=sealed, stamp=0)


def letter_of(sender: Node, to: Node, payload: bytes = b"x") -> Letter:
    at_ms = sender.daemon.clock.unix_ms()
    return msgspec.structs.replace(LETTER, sender=sender.did, recipient=to.did, at_ms=at_ms, payload=payload)


async def test_a_letter_to_a_node_that_is_on_is_there_at_once() -> None:
    """Delivered, acknowledged, told as an event on both sides; a repeated request sends no second one."""
    async with network(3) as (one, two, _):
        identity = await send(one, two, b"\x00 bytes")
        assert await send(one, two, b"\x00 bytes") == identity
        (letter,) = await arrived(two)
        assert (letter.id, letter.sender, letter.subject, letter.payload) == (identity, one.did, "hello", b"\x00 bytes")
        await wait_until(lambda: one.daemon.mailbox._table.undelivered() == 0, "acknowledged")
        assert [view.delivered for view in await inbox(one, sent=True)] == [True]
        for node, kind in ((one, "MailDelivered"), (two, "MailArrived")):
            page = await node.as_caller("cli").call(p2p_mail.MAIL_EVENTS, EventsSince())
            assert [(event.kind, event.body["id"]) for event in page.events] == [(kind, identity)]
        with pytest.raises(RequestIdReused):
            await send(one, two, b"another")
        await two.as_caller("cli").call(p2p_mail.MAIL_DROP, p2p_mail.DropMail(request_id="d", ids=[identity]))
        assert await inbox(two) == []


async def test_a_daemon_s_letters_are_its_own() -> None:
    """What a person writes is not read as escrowd's, and no daemon reads another's box."""
    async with network(2) as (one, two):
        await send(one, two, caller="escrowd")
        await wait_until(lambda: two.daemon.mailbox._table.count("escrowd") == 1, "escrowd's letter")
        assert await inbox(two) == []
        assert await inbox(two, "taskd") == []
        assert len(await inbox(two, "escrowd")) == 1


async def test_letters_wait_for_who_is_off_and_survive_its_keepers_and_sender() -> None:
    """Sender and one keeper restart; the recipient fetches at its start and signs; the sender hears of it."""
    async with network(4) as (one, keeper, other, two):
        await wait_until(lambda: one.daemon.net.directory.get(two.did), "known")
        await two.stop()
        await wait_until(lambda: not one.daemon.net.peers.is_connected(two.did), "gone")
        identity = await send(one, two)
        await wait_until(lambda: parcels_of(keeper, two) + parcels_of(other, two) == 2, "kept by both")
        await one.stop()
        await keeper.stop()
        await keeper.start()
        await two.start()
        (letter,) = await arrived(two)
        assert (letter.id, letter.sender) == (identity, one.did)
        await wait_until(lambda: parcels_of(keeper, two) + parcels_of(other, two) == 0, "thrown away")
        await one.start()
        await wait_until(one.daemon.net.peers.sessions, "back")
        table = one.daemon.mailbox._table
        table.offered(bytes.fromhex(identity), 2, 0)
        one.daemon.mailbox._wake.set()
        await wait_until(lambda: table.undelivered() == 0, "acknowledged")
        assert len(await inbox(two)) == 1


@attack(
    "mailbox",
    tries="a keeper withholds a letter, or gives something else",
    meets="the others give it; the liar's is refused and not asked for again",
)
async def test_one_keeper_that_withholds_changes_nothing() -> None:
    """The others give the letter; what a liar gives instead is refused and not asked for again."""
    async with network(4) as (one, liar, honest, two):
        await two.stop()
        await wait_until(lambda: not one.daemon.net.peers.is_connected(two.did), "gone")
        await send(one, two)
        await wait_until(lambda: parcels_of(honest, two) == 1, "kept")
        junk = Parcel(recipient=two.did, key_id=bytes(8), sealed=bytes(304), stamp=0)

        async def lie(_params: Collect, _peer: object) -> Parcels:
            return Parcels(parcels=(junk,), more=True)

        liar.daemon.net.router.answer(MAIL_COLLECT, lie)
        await two.start()
        assert len(await arrived(two)) == 1
        assert parcel_id(two.did, junk.sealed) in two.daemon.mailbox._refused


@attack(
    "mailbox",
    tries="collects another's letters, acknowledges in another's name",
    meets="gets its own only; nothing is thrown away",
)
async def test_nobody_reads_or_signs_for_another_s_mailbox() -> None:
    """Collecting gives one's own letters only; an acknowledgement by another key throws nothing away."""
    async with network(4) as (one, keeper, thief, two):
        await two.stop()
        await wait_until(lambda: not one.daemon.net.peers.is_connected(two.did), "gone")
        await send(one, two)
        await wait_until(lambda: parcels_of(keeper, two) == 1, "kept")
        got = await thief.daemon.net.peers.call(keeper.did, MAIL_COLLECT, Collect(have=()))
        assert got.parcels == ()
        (kept,) = keeper.daemon.mailbox._table.waiting(two.did)
        for recipient, purpose in ((two.did, Purpose.MAIL_ACK), (thief.did, Purpose.MAIL_ACK), (two.did, Purpose.MAIL)):
            ack = Ack(v=1, recipient=recipient, key_seq=0, at_ms=thief.daemon.clock.unix_ms(), ids=(kept.id,))
            signed = canonical(sign(thief.daemon.net.keeper.signer, purpose, ack))
            for whom in (keeper, one):
                with suppress(PeerAnswered):  # bad-signature; its own is taken, and is about nothing here
                    taken = await thief.daemon.net.peers.call(whom.did, MAIL_ACK, Acked(ack=signed))
                    assert (recipient, taken.count) == (thief.did, 0)
        assert parcels_of(keeper, two) == 1
        assert one.daemon.mailbox._table.undelivered() == 1


@attack(
    "mailbox",
    tries="letters signed by another, written to another, too old, sealed to a foreign key",
    meets="nothing comes in",
)
async def test_what_is_not_its_sender_s_or_not_for_this_node_is_refused() -> None:
    """Signed by another, written to another, too old, sealed to a key that is not ours: nothing comes in."""
    async with network(3) as (one, liar, two):
        good = letter_of(one, two)
        old = msgspec.structs.replace(good, at_ms=UnixMs(good.at_ms - 9 * 86_400_000))
        cases = [
            parcel_to(one, two, good, signer=liar.daemon.net.keeper.signer),
            parcel_to(one, two, msgspec.structs.replace(good, recipient=liar.did)),
            parcel_to(one, two, old),
            msgspec.structs.replace(parcel_to(one, two, good), key_id=bytes(8)),
        ]
        for parcel in cases:
            answer = await liar.daemon.net.peers.call(two.did, MAIL_STORE, parcel)
            assert (answer.kept, answer.ack) == (False, b"")
        assert await inbox(two) == []
        assert (await one.daemon.net.peers.call(two.did, MAIL_STORE, parcel_to(one, two, good))).kept
        assert len(await inbox(two)) == 1


@attack("mailbox", tries="the same parcel again, and the same letter sealed anew", meets="delivered once")
async def test_a_letter_comes_once_however_often_it_is_given() -> None:
    """The same parcel again, the same letter sealed anew, and both after it was dropped."""
    async with network(3) as (one, liar, two):
        letter = letter_of(one, two)
        first, again = parcel_to(one, two, letter), parcel_to(one, two, letter)
        assert first != again
        for parcel in (first, first, again):
            assert (await liar.daemon.net.peers.call(two.did, MAIL_STORE, parcel)).kept
        assert len(await inbox(two)) == 1
        drop = p2p_mail.DropMail(request_id="d", ids=[letter_id(letter).hex()])
        await two.as_caller("cli").call(p2p_mail.MAIL_DROP, drop)
        await liar.daemon.net.peers.call(two.did, MAIL_STORE, again)
        assert await inbox(two) == []


@attack(
    "mailbox",
    tries="letters without end to one recipient",
    meets="four places a sender; odd sizes are refused first",
)
async def test_a_flood_fills_four_places_and_no_more() -> None:
    """A sender gets four letters per recipient kept here; odd sizes are refused before anything else."""
    async with network(3) as (one, keeper, two):
        letters = [parcel_to(one, two, letter_of(one, two, bytes([number]))) for number in range(7)]
        await two.stop()
        kept = [(await one.daemon.net.peers.call(keeper.did, MAIL_STORE, parcel)).kept for parcel in letters]
        assert kept == [True] * PER_SENDER_MAX + [False] * 3
        assert keeper.daemon.net.peers.abuse.of(Abuse.LETTER_REFUSED) == 3
        odd = msgspec.structs.replace(letters[0], sealed=bytes(300))
        with pytest.raises(PeerAnswered):
            await one.daemon.net.peers.call(keeper.did, MAIL_STORE, odd)


@attack("mailbox", tries="a stranger's letter without its stamp", meets="not kept")
async def test_a_stranger_s_letter_needs_work_and_gets_it() -> None:
    """Without the stamp it is not kept; mail.send makes one."""
    async with network(3, known_after_s=3600, stamp_bits=6) as (one, keeper, two):
        await two.stop()
        strange = 0
        for number in range(8):
            parcel = Parcel(recipient=two.did, key_id=bytes(8), sealed=bytes([number]) * 304, stamp=0)
            strange += not (await keeper.daemon.net.peers.call(one.did, MAIL_STORE, parcel)).kept
        assert strange >= 6, "one in 64 has the work by chance"
        await two.start()
        await wait_until(lambda: keeper.daemon.net.peers.is_connected(two.did), "back")
        await send(keeper, two)
        assert len(await arrived(two)) == 1


async def test_the_mailbox_key_stands_in_the_record_and_the_document() -> None:
    """The DID document's keyAgreement is filled from the node record; a turned key is announced."""
    async with network(2) as (one, two):
        known = one.daemon.net.directory.get(two.did)
        assert known is not None
        assert known.record is not None
        assert known.record.mailbox_keys == two.daemon.mailbox._keys.listed
        made: Any = document(known.log, known.record)
        assert [entry["type"] for entry in made["keyAgreement"]] == ["Multikey"]
        two.daemon.mailbox._keys.turn(two.daemon.clock.unix_ms() + KEY_LIFE_MS)
        resolved = await two.as_caller("cli").call(p2p.DID_RESOLVE, p2p.Resolve(did=two.did))
        assert resolved.document.count("X25519") == 0
        assert len(msgspec.json.decode(resolved.document)["keyAgreement"]) == 2


def test_a_letter_with_enough_copies_is_offered_again_once_an_hour() -> None:
    """With too few it is tried again soon, then ever later, at most an hour."""
    assert [retry_ms(tries, 0) for tries in (0, 1, 40)] == [RETRY_FIRST_MS, 2 * RETRY_FIRST_MS, RETRY_MAX_MS]
    assert retry_ms(0, COPIES_ENOUGH) == RETRY_MAX_MS

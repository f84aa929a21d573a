"""Parsers of papers that strangers hand over: TPM quotes, letters, frames of gossip, files of a network, payments.

As in `targets`: a target returns, or raises for a finding.
"""

from __future__ import annotations

import atexit
import base64
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from common import charter, council, parameter_file, tpm
from common.chain import psbt as partial
from common.chain.settle import MissingSignature
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput
from common.codec import canonical, from_plain, to_plain
from common.contracts.peer_p2p import GossipFrame, Offer
from common.contracts.wallet_errors import BadPartial
from common.errors import BadParams, BadSettings
from common.identity import mail
from common.identity.errors import BadLetter
from common.identity.log import encode_log
from common.identity.mail import Ack, Letter
from common.identity.purposes import Purpose
from common.identity.signed import sign
from common.network import NetworkProfile, load_profile, save_profile
from common.parameters import next_set, set_bytes
from common.receipt_keys import lot_keys, lots_in, lots_spent
from common.units import Florins, UnixMs
from common.yaml_file import read_yaml
from dux_p2pd.gossip import next_frame
from dux_p2pd.gossip_flow import LENGTH_BYTES, framed
from dux_p2pd.gossip_limits import FRAME_BYTES_MAX
from dux_p2pd.wire_errors import FramingBroken
from tests.chain import psbt_kit as payments
from tests.market import keyed as lots
from tests.market import recorded_quote as recorded
from tests.p2pd.wire_kit import MADE_MS, TestPapers

NOW_MS = MADE_MS + 1000
ME, THEM = TestPapers("reader"), TestPapers("writer")
FOLDER = Path(tempfile.mkdtemp(prefix="duxfuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

# scripts that a spend on the chain shows


def spent_lot(data: bytes) -> None:
    """Input scripts of strangers' transactions: keys come only from a script that is built anew to the last byte."""
    keys = lot_keys(data)
    assert keys is None or all(key in data for key in (keys.buyer, keys.seller))
    tx = Tx((TxInput(Outpoint("ab" * 32, 0), data),), (TxOutput(Florins(1), b""),))
    assert all(lot.outcomes for lot in (*lots_in(data), *lots_spent(tx)))


# TPM quotes

TPM_KEY = ec.derive_private_key(7, ec.SECP256R1())


def _public() -> bytes:
    """The recorded TPMT_PUBLIC around a key whose signatures we can make."""
    numbers = TPM_KEY.public_key().public_numbers()
    return recorded.PUBLIC[:-68] + b"".join(b"\0\x20" + part.to_bytes(32) for part in (numbers.x, numbers.y))


TPM_PUBLIC = _public()


def tpm_quote(data: bytes) -> None:
    """Three parts with their lengths, or an attestation that a key of ours signs: a quote over the nonce, or no."""
    body = data[1:]
    if data[:1] > b"\x7f":
        r, s = utils.decode_dss_signature(TPM_KEY.sign(body, ec.ECDSA(SHA256())))
        signature = b"\0\x18\0\x0b" + b"".join(b"\0\x20" + part.to_bytes(32) for part in (r, s))
        parts = [TPM_PUBLIC, body, signature]
    else:
        first, second = (int.from_bytes(body[at : at + 2]) for at in (0, 2))
        parts = [body[4 : 4 + first], body[4 + first : 4 + first + second], body[4 + first + second :]]
    with suppress(tpm.BadQuote):
        quote = tpm.check_quote(*parts, nonce=recorded.ASKED)
        assert parts[1][:6] == b"\xffTCG\x80\x18"
        assert recorded.ASKED in parts[1]
        assert quote.pcr_digest == parts[1][-32:]
        assert len(quote.key_name) == 34


# letters

MAIL_SEED = bytes(range(32))
MAIL_KEY = X25519PrivateKey.from_private_bytes(MAIL_SEED).public_key().public_bytes_raw()


def _sealed(framed_letter: bytes) -> bytes:
    size = mail.PADDED_BYTES_MIN
    while size < len(framed_letter):
        size *= 2
    key = mail.X25519PublicKey.from_public_bytes(MAIL_KEY)
    return mail._SUITE.encrypt(framed_letter.ljust(size, b"\0"), key, info=mail._info(ME.did, MAIL_KEY))


def letter(data: bytes) -> None:
    """What is sealed to us by anybody, and what only claims to be: our letter in its one form, or a named error."""
    for sealed in (data, _sealed(data), _sealed(len(data).to_bytes(4) + data)):
        with suppress(BadLetter, BadParams):
            signed, found = mail.unseal(sealed, MAIL_SEED, ME.did)
            assert found.recipient == ME.did
            assert canonical(found) == signed.body
    with suppress(BadParams):
        signed, ack = mail.open_ack(data)
        assert canonical(ack) == signed.body
        assert 1 <= len(ack.ids) <= 64


# gossip's frames


def gossip_frame(data: bytes) -> None:
    """Any cut gives the same frames or the same breach; a frame is in its one form; what waits is less than a frame."""
    assert _frames([data]) == _frames([data[at : at + 7] for at in range(0, len(data), 7)])


def _frames(pieces: list[bytes]) -> tuple[list[GossipFrame], bool]:
    buffer, found = bytearray(), []
    try:
        for piece in pieces:
            buffer += piece
            while True:
                before = bytes(buffer)
                frame = next_frame(buffer)
                if frame is None:
                    break
                assert framed(frame) == before[: len(before) - len(buffer)]
                found.append(frame)
            announced = int.from_bytes(buffer[:LENGTH_BYTES]) if len(buffer) >= LENGTH_BYTES else 0
            assert len(buffer) - LENGTH_BYTES < announced <= FRAME_BYTES_MAX or len(buffer) < LENGTH_BYTES
    except (FramingBroken, BadParams):
        return found, True
    return found, False


# files that founders hand each other


def network_file(data: bytes) -> None:
    """By the first byte: a profile, its signatures, parameter sets, a founder's card; written again it is the same."""
    path = FOLDER / "n.yaml"
    for beside in (path, charter.signatures_file(path), parameter_file.parameters_file(path)):
        beside.unlink(missing_ok=True)
    FILES[(data[0] if data else 0) % len(FILES)](path, data[1:])


def _profile(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with suppress(BadSettings):
        profile = load_profile(path)
        save_profile(profile, path)
        assert load_profile(path) == profile


def _signatures(path: Path, data: bytes) -> None:
    beside = charter.signatures_file(path)
    beside.write_bytes(data)
    with suppress(BadSettings):
        found = charter.read_signatures(path)
        assert charter.signers(PROFILE, found, now_ms=NOW_MS) <= {one.did for one in found}
        assert from_plain(to_plain(found), tuple[council.Signature, ...]) == found


def _sets(path: Path, data: bytes) -> None:
    beside = parameter_file.parameters_file(path)
    beside.write_bytes(data)
    with suppress(BadSettings):
        found = parameter_file.read_sets(beside)
        parameter_file.write_sets(beside, found)
        assert parameter_file.read_sets(beside) == found
        assert not found or parameter_file.signed_by(PROFILE, found[0], now_ms=NOW_MS) <= set(PROFILE.council)
        if not found or found[0].signatures:
            under = parameter_file.under(PROFILE, found, path=beside, now_ms=NOW_MS)
            assert len(under.parameter_sets) == (len(found) + 1 if found else 0)


def _card(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with suppress(BadSettings, BadParams):
        founder = from_plain(read_yaml(path), charter.Founder)
        assert from_plain(to_plain(founder), charter.Founder) == founder


PROFILE = NetworkProfile(name="f", chain="embedded", genesis="00" * 32, heights="demo", council=(THEM.did,))
FILES = (_profile, _signatures, _sets, _card)


# payments that several sign


def psbt(data: bytes) -> None:
    """Text, or bytes as base64: read and written again it is the same; what it spends is known or it is refused."""
    text = data[1:].decode("latin-1") if data[:1] > b"\x7f" else base64.b64encode(data[1:]).decode()
    with suppress(BadPartial, MissingSignature):
        found = partial.from_text(text)
        assert partial.from_text(partial.to_text(found)) == found
        assert partial.combine([found, found]) == found
        for at, spent in enumerate(partial.spent_outputs(found)):
            assert set(partial.right_signatures(found, at, spent)) <= set(partial.keys_of(found.inputs[at], spent)[1])
        assert [item.outpoint for item in partial.finish(found).inputs] == [item.outpoint for item in found.tx.inputs]


PAPER_TARGETS = {one.__name__: one for one in (tpm_quote, letter, gossip_frame, network_file, psbt, spent_lot)}


def paper_seeds() -> dict[str, list[bytes]]:
    """Honest bytes."""
    head = len(recorded.PUBLIC).to_bytes(2) + len(recorded.ATTEST).to_bytes(2)
    written = Letter(
        v=1,
        sender=THEM.did,
        key_seq=0,
        recipient=ME.did,
        at_ms=UnixMs(NOW_MS),
        box="people",
        subject="hi",
        payload=b"x",
    )
    ack = Ack(v=1, recipient=ME.did, key_seq=0, at_ms=UnixMs(NOW_MS), ids=(bytes(32),))
    frame = GossipFrame(
        topics=("t",), messages=(b"m" * 40,), offers=(Offer(topic="t", ids=(bytes(32),)),), wants=(bytes(32),),
        grafts=("t",), prunes=(),
    )  # fmt: skip
    return {
        "spent_lot": [lots.script(), lots.script(result_hash=b"\x07" * 32, arbiters=7), lots.spend(lots.LOT)],
        "tpm_quote": [b"\0" + head + recorded.PUBLIC + recorded.ATTEST + recorded.SIGNATURE, b"\xff" + recorded.ATTEST],
        "letter": [canonical(sign(THEM.key, Purpose.MAIL, written)), canonical(sign(THEM.key, Purpose.MAIL_ACK, ack))],
        "gossip_frame": [framed(frame) * 2],
        "network_file": _network_files(),
        "psbt": [
            b"\xff" + partial.to_text(payments.shared_and_own()).encode(),
            b"\0" + base64.b64decode(partial.to_text(payments.signed_by(payments.shared_and_own(), "anna", 0, 1))),
        ],
    }


def _signature(purpose: Purpose, words: bytes) -> council.Signature:
    log, signature = encode_log(THEM.log).hex(), THEM.key.sign(purpose, words).hex()
    return council.Signature(did=THEM.did, key_seq=0, log=log, signature=signature)


def _network_files() -> list[bytes]:
    from yaml import safe_dump  # noqa: PLC0415 - here alone

    later = next_set(PROFILE.first_parameters, from_height=9, tax_bps=400)
    founded = _signature(Purpose.NETWORK_PROFILE, charter.profile_bytes(PROFILE))
    agreed = parameter_file.SignedSet(parameters=later, signatures=(_signature(Purpose.PARAMETERS, set_bytes(later)),))
    card = charter.Founder(did=THEM.did, log="00", address="x", fund_pubkey="02", endpoint="127.0.0.1:1")
    small = {"name": "f", "chain": "embedded", "genesis": "00" * 32, "heights": "demo"}
    plain = (small, [to_plain(founded)], [to_plain(agreed)], to_plain(card))
    return [bytes([kind]) + safe_dump(one).encode() for kind, one in enumerate(plain)]

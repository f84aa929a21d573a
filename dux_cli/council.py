"""A founder's signature by the key that its node has now, and what a node knows of a council's names.

Promises: once p2pd has run here it signs itself, whose log knows rotations and recoveries and whose key may be in a
token; the keys that `init` left sign only before that. What is taken is judged by the newest logs that p2pd finds: a
name that it does not find counts for nothing, and without p2pd nothing is taken unless the caller says `--offline`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from common.errors import CallerMistake, DuxError, NeighbourDown

if TYPE_CHECKING:
    from common.council import Known, Signature
    from common.identity.log import Log
    from common.identity.purposes import Purpose
    from common.units import Did
    from dux_cli.command import Session

offline_option = click.option(
    "--offline", is_flag=True, help="Judge signatures by the logs that they carry; p2pd is not asked for newer ones."
)


class NoFounder(CallerMistake):
    """{path} is no founder's node: `duxnet network founder` makes its keys before there is a network."""

    code = 1141
    key = "no-founder"


# taking what was signed


def known_of(session: Session, council: Sequence[Did], *, offline: bool) -> Known:
    """What this node's p2pd knows of these names now; nothing beside the signatures when `offline`.

    Raises:
        NeighbourDown: p2pd does not run.
    """
    from common.council import AS_CARRIED, Known

    if offline:
        return AS_CARRIED
    found = [log for log in session.run(_logs_of(session, council)) if log is not None]
    return Known(logs=tuple(found), only=frozenset(log.did for log in found))


async def _logs_of(session: Session, council: Sequence[Did]) -> list[Log | None]:
    return await asyncio.gather(*(_log_of(session, did) for did in council))


async def _log_of(session: Session, did: Did) -> Log | None:
    """A name's log, confirmed as before a contract about money; None, and a word about it, when p2pd finds none."""
    from common.contracts.p2p import DID_RESOLVE, Resolve
    from common.peers import MONEY_MAX_AGE_S, MONEY_SOURCES, log_in

    try:
        told = await session.call(DID_RESOLVE, Resolve(did=did, max_age_s=MONEY_MAX_AGE_S, min_sources=MONEY_SOURCES))
    except NeighbourDown:
        raise
    except DuxError as error:
        session.out.step(f"{did} does not count: {error.message}")
        return None
    return log_in(told)


# signing


def founder_signs(
    session: Session, council: Sequence[Did], purpose: Purpose, words: bytes, *, inception_bits: int
) -> Signature:
    """This founder's signature under what the network's council signs.

    Raises:
        NoFounder: the node is none. NeighbourDown: p2pd, which alone knows this node's key, does not run.
        IdentityUnsure: the name does not stand, so that its signature counts nowhere.
    """
    made = _keys_sign if _has_fresh_keys(session) else _node_signs
    one = made(session, purpose, words, inception_bits)
    if one.did not in council:
        raise NoFounder(path=str(session.node.path))
    return one


def _has_fresh_keys(session: Session) -> bool:
    """Whether there are keys here that no p2pd has used yet; one that cannot even be looked at is a running node's."""
    folder = session.node.data / "p2pd"
    if not session.node.exists() and not folder.exists():
        raise NoFounder(path=str(session.node.path))
    return os.access(folder, os.R_OK | os.X_OK) and not (folder / "p2pd.sqlite").exists()


def _keys_sign(session: Session, purpose: Purpose, words: bytes, inception_bits: int) -> Signature:
    """By the key with which the log ends that the keys were made for: the inception's, or a recovery's."""
    from common.clock import SystemClock
    from common.council import signed_words
    from common.identity.log import encode_log, read_log
    from dux_p2pd.key_source import load_keys

    keys, now_ms = load_keys(session.node.data / "p2pd"), SystemClock().unix_ms()
    log = read_log(keys.first_events(inception_bits), now_ms=now_ms, inception_bits=inception_bits)
    seq = log.tip.seq
    return signed_words(purpose, words, log.did, encode_log(log), keys.signer(seq), seq)


def _node_signs(session: Session, purpose: Purpose, words: bytes, _inception_bits: int) -> Signature:
    """By p2pd's current key, with the log that ends with it."""
    from common.contracts.p2p import DID_RESOLVE, IDENTITY_SIGN, Resolve, Sign
    from common.council import Signature
    from common.identity.errors import IdentityUnsure

    wanted = Sign(purpose=purpose.value, body=words)
    made = session.ask(IDENTITY_SIGN, wanted)
    told = session.ask(DID_RESOLVE, Resolve(did=made.did))
    if told.disputed or told.frozen:
        raise IdentityUnsure(did=made.did, state="frozen" if told.frozen else "disputed")
    if told.key_seq != made.key_seq:  # it rotated between the two; the next rotation is an hour away
        made = session.ask(IDENTITY_SIGN, wanted)
    return Signature(did=made.did, key_seq=made.key_seq, log=told.log.hex(), signature=made.signature.hex())

"""Laws of merging, for any tree of valid events that thief and owner can grow, seen in any order.

What two verifiers may disagree on is only which branch they saw first, and then both know that the name is unsound.
"""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.identity.events import event_id, key_hash, sign_event
from common.identity.log import Log, encode_log, merge, recovers, split_of
from common.identity.news import fault_between, read_news
from common.identity.signed import Signed
from tests.identity.log_kit import ICP, LATER_MS, body_of, key, log, next_event

pytestmark = pytest.mark.patient

Choice = tuple[int, str, int]  # which chain grows, by which kind, and which of two twins


def grown(chain: tuple[Signed, ...], kind: str, twin: int) -> tuple[Signed, ...]:
    """The chain with one more valid event; owner and thief use the keys that the chain's tip commits to."""
    tip = body_of(chain[-1])
    epoch = sum(body_of(event).kind == "rec" for event in chain)
    made = f"{event_id(chain[-1]).hex()[:8]}{twin}"
    if kind == "rot":
        signer = KEYS[tip.next]
        event = next_event(chain[-1], "rot", signer, remember(f"n{made}"))
        return (*chain, sign_event(event, signer))
    recovery, fresh = key(f"R{epoch}"), key(remember(f"f{made}"))
    if kind == "end":
        return (*chain, sign_event(next_event(chain[-1], "end", fresh, "", next=b"", recover=b""), fresh, recovery))
    later = key_hash(key(f"R{epoch + 1}").public)
    event = next_event(chain[-1], "rec", fresh, remember(f"n{made}"), recover=later)
    return (*chain, sign_event(event, fresh, recovery))


KEYS = {key_hash(key("a1").public): key("a1")}


def remember(name: str) -> str:
    KEYS[key_hash(key(name).public)] = key(name)
    return name


@st.composite
def forests(draw: st.DrawFn) -> list[Log]:
    """Logs of one name: every prefix of a random tree of events."""
    chains = [(ICP,)]
    steps = st.tuples(st.integers(0, 99), st.sampled_from(["rot", "rot", "rot", "rec", "end"]), st.integers(0, 1))
    for which, kind, twin in draw(st.lists(steps, min_size=1, max_size=7)):
        chain = chains[which % len(chains)]
        if body_of(chain[-1]).kind != "end":
            chains.append(grown(chain, kind, twin))
    return [log(*chain) for chain in dict.fromkeys(chains)]


def seen(logs: list[Log]) -> Log:
    return reduce(merge, logs)


@given(forests(), st.data())
def test_two_verifiers_agree_whatever_they_saw_first(logs: list[Log], data: st.DataObject) -> None:
    """The same set of logs in any two orders: the same soundness, and when sound the same log."""
    one, other = seen(logs), seen(data.draw(st.permutations(logs)))
    assert one.sound == other.sound
    assert one.frozen == other.frozen
    if one.sound:
        assert one == other


@given(forests())
def test_seeing_something_again_changes_nothing(logs: list[Log]) -> None:
    """Merging is idempotent, and what is held afterwards is valid alone."""
    held = seen(logs)
    assert seen([held, *logs]) == held
    assert log(*held.envelopes).events == held.events


@given(forests(), st.data())
def test_only_a_recovery_shortens_a_log_and_nothing_drops_one(logs: list[Log], data: st.DataObject) -> None:
    """Step by step: what is held is continued, or a recovery took the place of rotations; recoveries stay."""
    held = logs[0]
    for offered in data.draw(st.permutations(logs)):
        after = merge(held, offered)
        split = split_of(held, after)
        if split < len(held.events):
            assert recovers(after, split)
            assert not recovers(held, split)
        held = after


@given(forests())
def test_frozen_stays_frozen_and_a_dispute_ends_by_recovery_only(logs: list[Log]) -> None:
    """Whatever is offered afterwards."""
    held = seen(logs)
    for offered in logs:
        after = merge(held, offered)
        assert after.frozen or not held.frozen
        if held.disputed and not after.disputed:
            assert recovers(after, split_of(held, after))


@given(forests(), st.data())
def test_a_proof_of_fault_convinces_whoever_holds_the_events_before(logs: list[Log], data: st.DataObject) -> None:
    """Both branches rebuilt from the proof alone leave a verifier with what the two logs themselves would."""
    one, other = data.draw(st.sampled_from(logs)), data.draw(st.sampled_from(logs))
    both = merge(one, other)
    proof = fault_between(one, other)
    assert (proof is None) == both.sound or both.ended
    if proof is not None:
        held = log(*one.envelopes[: proof.shared])
        told = seen([held, *read_news(proof, held, now_ms=LATER_MS)])
        assert (told.disputed, told.frozen) == (both.disputed, both.frozen)
        assert encode_log(told)

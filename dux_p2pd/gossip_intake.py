"""What is looked at before a gossip message is believed, in this order and no other: cheapest first.

Size, topic, the neighbour's allowance, seen before, age, stamp (strangers), key known, signature, the signer's
allowance; then it is marked as seen, and only then the owner is asked. A message's id covers its whole envelope, and it
is marked only after its signature has verified, so a copy with a garbage signature suppresses nothing.

Source: transport_identity.md §3.3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from common.clock import Clock
from common.codec import Canon
from common.errors import DuxError
from common.identity.did import did_bytes
from common.identity.keys import is_signed
from common.identity.log import was_valid
from common.identity.purposes import Purpose
from common.identity.signed import ENVELOPE_OVERHEAD_BYTES, Signed
from common.identity.stamp import has_stamp
from common.rpc.method import Topic
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.gossip_limits import BURST_S, PEERS_REMEMBERED
from dux_p2pd.gossip_memory import Seen
from dux_p2pd.meters import TokenBucket
from dux_p2pd.records import GOSSIP_BYTES_MAX, GossipBody, message_id, split_gossip
from dux_p2pd.rules import gossip_fault, stamped_gossip
from dux_p2pd.scores import Scores

ENVELOPE_BYTES_MAX = GOSSIP_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES


class Fault(Enum):
    """Why a message goes no further; `invalid` ones count against who brought it."""

    SIZE = "it is too long"
    FORM = "it is not canonical"
    TOPIC = "nobody here knows its topic"
    NEIGHBOUR_RATE = "who brought it brings too many"
    SEEN = "it was seen before"
    AGE = "its time is not now"
    STAMP = "a stranger's message without work"
    KEY = "its signer's event log is not known here"
    VERIFICATION_RATE = "who brought it had too many verified"
    SIGNATURE = "its signature does not verify"
    SIGNER_RATE = "its signer sends too many"

    @property
    def invalid(self) -> bool:
        """No honest node passes on such a message."""
        return self in (Fault.SIZE, Fault.FORM, Fault.STAMP, Fault.SIGNATURE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the making: its parts, and who brought it here."""

    identity: bytes
    envelope: bytes
    signed: Signed
    body: GossipBody
    topic: Topic[Canon]
    giver: Did


class Rates:
    """Token buckets by name; of too many names the oldest is forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()

    def take(self, who: str, what: str, per_s: float, now: float, *, cost: float = 1.0, burst: float = 0.0) -> bool:
        """Whether one more is within the rate."""
        bucket = self._buckets.get((who, what))
        if bucket is None:
            bucket = self._buckets[who, what] = TokenBucket(burst or per_s * BURST_S, per_s, now)
            if len(self._buckets) > PEERS_REMEMBERED:
                self._buckets.popitem(last=False)
        return bucket.take(cost, now)


class Intake:
    """The checks."""

    def __init__(
        self,
        topics: Mapping[str, Topic[Canon]],
        directory: Directory,
        scores: Scores,
        seen: Seen,
        *,
        clock: Clock,
        bits: int,
    ) -> None:
        self._topics = topics
        self._directory = directory
        self._scores = scores
        self._seen = seen
        self._clock = clock
        self._bits = bits
        self._rates = Rates()

    def look(self, envelope: bytes, giver: Did) -> Message | Fault:
        """Everything that costs no signature."""
        if len(envelope) > ENVELOPE_BYTES_MAX:
            return Fault.SIZE
        try:
            signed, body = split_gossip(envelope)
        except DuxError:
            return Fault.FORM
        topic = self._topics.get(body.topic)
        if topic is None or len(body.payload) > topic.payload_bytes_max:
            return Fault.SIZE if topic else Fault.TOPIC
        if not self._rates.take(giver, "from " + body.topic, topic.neighbour_per_s, self._clock.monotonic()):
            return Fault.NEIGHBOUR_RATE
        message = Message(message_id(envelope), envelope, signed, body, topic, giver)
        return self._first(BEFORE_THE_SIGNATURE, message) or message

    def verify(self, message: Message) -> Fault | None:
        """The signature and what comes after it; a message whose signature holds is marked as seen."""
        fault = self._first(THE_SIGNATURE, message)
        if fault is not None:
            return fault
        now = self._clock.monotonic()
        self._seen.mark(message.identity, now)
        within = self._rates.take(message.body.did, "by " + message.body.topic, message.topic.signer_per_s, now)
        return None if within else Fault.SIGNER_RATE

    def _first(self, checks: tuple[Check, ...], message: Message) -> Fault | None:
        """The first check that fails; what stands after it is not looked at."""
        for fault, fails in checks:
            if fails(self, message):
                return fault
        return None

    def is_seen(self, message: Message) -> bool:
        """Also asked again before the signature: another copy may be quicker while this one's log is fetched."""
        return message.identity in self._seen

    def names_nobody(self, message: Message) -> bool:
        """Its signer's name is no DID."""
        try:
            return self._directory.get(message.body.did) is None and not did_bytes(message.body.did)
        except DuxError:
            return True

    def is_not_of_now(self, message: Message) -> bool:
        """Too old or too young."""
        return gossip_fault(message.body, self._clock.unix_ms()) is not None

    def lacks_stamp(self, message: Message) -> bool:
        """A stranger's message without the work."""
        body = message.body
        return not self._directory.is_known(body.did) and not has_stamp(stamped_gossip(body), body.stamp, self._bits)

    def lacks_key(self, message: Message) -> bool:
        """The signer's log, as far as it is known, does not name the key."""
        known = self._directory.get(message.body.did)
        return known is None or known.log.key_of(message.body.key_seq) is None

    def over_verified(self, message: Message) -> bool:
        """Who brought it has had its share of signatures checked in this second."""
        return not self._scores.may_verify(message.giver)

    def is_forged(self, message: Message) -> bool:
        """Not signed by its signer's key of that time."""
        body, signed, known = message.body, message.signed, self._directory.get(message.body.did)
        key = known.log.key_of(body.key_seq) if known else None
        if known is None or key is None or len(signed.sigs) != 1:
            return True
        if not was_valid(known.log, body.key_seq, body.seq_ms):
            return True
        return not is_signed(key, Purpose.GOSSIP, signed.body, signed.sigs[0])

    def may_publish(self, topic: Topic[Canon], own: Did) -> bool:
        """Whether others would take one more message of this node."""
        return self._rates.take(own, "by " + topic.name, topic.signer_per_s, self._clock.monotonic())

    def may_tell(self, giver: Did, what: str, count: int, *, per_s: float, burst: float) -> bool:
        """Whether a neighbour may tell of, or ask for, so many ids more."""
        return count == 0 or self._rates.take(giver, what, per_s, self._clock.monotonic(), cost=count, burst=burst)


Check = tuple[Fault, Callable[[Intake, Message], bool]]
BEFORE_THE_SIGNATURE: tuple[Check, ...] = (
    (Fault.SEEN, Intake.is_seen),
    (Fault.AGE, Intake.is_not_of_now),
    (Fault.FORM, Intake.names_nobody),
    (Fault.STAMP, Intake.lacks_stamp),
)
THE_SIGNATURE: tuple[Check, ...] = (
    (Fault.SEEN, Intake.is_seen),
    (Fault.KEY, Intake.lacks_key),
    (Fault.VERIFICATION_RATE, Intake.over_verified),
    (Fault.SIGNATURE, Intake.is_forged),
)

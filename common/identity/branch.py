"""The operational branch: the file from which p2pd signs, and from which alone the node's DID follows.

Key making writes it once; it holds the parent of the operational keys, the *public* recovery key, and the time of
making. The inception event is a pure function of it and of the work that the network asks, so whoever makes keys for a
network knows the DIDs before any node has started. Neither the phrase nor a recovery key is in it.

Source: settled.md 1, transport_identity.md §2.3.
"""

from __future__ import annotations

from msgspec import structs

from common.codec import Wire, canonical, from_json, json_bytes
from common.identity.did import did_of
from common.identity.events import Event, event_id, inception, sign_event
from common.identity.keys import SigningKey, check_key
from common.identity.signed import Signed
from common.identity.slip10 import ROLE_OPERATIONAL, ROLE_RECOVERY, KeyNode, identity_node
from common.identity.work import has_work, solve
from common.units import Did, UnixMs

BRANCH_FILE = "operational.json"  # in p2pd's data directory, mode 0600


class OperationalBranch(Wire, frozen=True):
    """Hex of the branch's private key and chain code, hex of the public recovery key, and what its log begins with.

    An account's first branch begins with an inception of `made_ms` and `nonce`; a later one with `log` (hex of its
    canonical bytes), at whose end stands the recovery that moved here.
    """

    private: str
    chain_code: str
    recovery_key: str
    made_ms: UnixMs
    nonce: int = 0
    account: int = 0
    log: str = ""

    def __repr__(self) -> str:
        return f"OperationalBranch(recovery_key={self.recovery_key})"


def plain_branch(seed: bytes, *, net: int, account: int, made_ms: int) -> OperationalBranch:
    """The keys of a phrase's seed in one account; nothing is begun with them yet."""
    node = identity_node(seed, net, account, ROLE_OPERATIONAL)
    return OperationalBranch(
        private=node.private.hex(),
        chain_code=node.chain_code.hex(),
        recovery_key=recovery_key(seed, net=net, number=account).public.hex(),
        made_ms=UnixMs(made_ms),
        account=account,
    )


def recovery_key(seed: bytes, *, net: int, number: int) -> SigningKey:
    """The recovery key that stands after so many recoveries."""
    return identity_node(seed, net, 0, ROLE_RECOVERY).child(number).signing_key()


def make_branch(seed: bytes, *, net: int, account: int, made_ms: int, inception_bits: int) -> OperationalBranch:
    """The branch of a phrase's seed, with the nonce that its inception needs (about 2 s at 12 bits)."""
    branch = plain_branch(seed, net=net, account=account, made_ms=made_ms)
    event = solve(_plain_inception(branch), inception_bits)
    return structs.replace(branch, nonce=event.nonce)


def operational_key(branch: OperationalBranch, seq: int) -> SigningKey:
    """The signing key of event `seq` on this branch."""
    return SigningKey(operational_seed(branch, seq))


def operational_seed(branch: OperationalBranch, seq: int) -> bytes:
    """The secret of that key, to be moved into a token."""
    return KeyNode(bytes.fromhex(branch.private), bytes.fromhex(branch.chain_code)).child(seq).private


def _plain_inception(branch: OperationalBranch) -> Event:
    recovery = check_key(bytes.fromhex(branch.recovery_key))
    first, second = operational_key(branch, 0), operational_key(branch, 1)
    return inception(first.public, second.public, recovery, branch.made_ms, branch.nonce)


def inception_of(branch: OperationalBranch, inception_bits: int) -> Signed:
    """The event that starts the node's log; a nonce without the work is solved again, the same in every run."""
    event = _plain_inception(branch)
    if not has_work(canonical(event), inception_bits):
        event = solve(event, inception_bits)
    return sign_event(event, operational_key(branch, 0))


def did_of_branch(branch: OperationalBranch, inception_bits: int) -> Did:
    """The node's DID."""
    return did_of(event_id(inception_of(branch, inception_bits)))


def encode_branch(branch: OperationalBranch) -> bytes:
    """The file's content."""
    return json_bytes(branch)


def decode_branch(data: bytes) -> OperationalBranch:
    """The branch in a file's content.

    Raises:
        BadParams: not such a file.
    """
    return from_json(data, OperationalBranch)

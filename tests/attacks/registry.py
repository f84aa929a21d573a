"""The list of attacks: a test that attacks says on which layer, what it tries and what that must meet.

From the marks come `docs/attacks.md` (read from the source, so that the page cannot differ from the suite) and the
table of `./duxnet attacks` (with what each run really met). A test adds its measured outcome with `met`.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

LAYERS = (  # from the outside in; the page and `duxnet attacks` keep this order
    "TCP",
    "TLS",
    "certificate",
    "introduction",
    "framing",
    "flow control",
    "stream",
    "decoding",
    "call",
    "identity",
    "overlay",
    "reachability",
    "relay",
    "DHT",
    "gossip",
    "mailbox",
    "blobs",
    "egress",
    "presence",
    "registry",
    "escrow",
    "payment",
    "coin network",
)
MET: dict[str, list[str]] = {}  # test id -> what it measured


def attack(layer: str, *, tries: str, meets: str) -> Callable[[Any], Any]:
    """Mark a test as an attack. All three are literals: the page is made without running anything."""
    assert layer in LAYERS, f"{layer!r} is none of {LAYERS}"
    return pytest.mark.attack(layer=layer, tries=tries, meets=meets)


def met(outcome: str) -> None:
    """Tell what the attack of the running test has met."""
    MET.setdefault(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0], []).append(outcome)

"""What this node tells of where it is reached: candidates, and what other nodes found when they dialled them. Pure.

Promise: an endpoint that others could not reach is told no longer; one that they reached stays while somebody confirms
it within an hour. Before anybody has looked, the candidates are told as they are: the first two nodes of a network have
nobody to ask. What the operator wrote into the settings is always told. An address that only a peer claims to have seen
is told when as many independent peers as `needed` reached this node there: one liar moves nothing.

Source: network.md §3.
"""

from __future__ import annotations

from collections.abc import Callable

from common.identity.node_record import ENDPOINTS_MAX
from common.nets import net_of
from common.units import Did
from dux_p2pd.rules import contact_at

HOLDS_S = 3600.0  # a finding older than this counts no more
SEEN_MAX = 8  # addresses known from peers only


class Findings:
    """What dial-backs found at one endpoint: by finder's network, when, who."""

    def __init__(self) -> None:
        self.reached: dict[str, tuple[float, Did]] = {}
        self.missed: dict[str, tuple[float, Did]] = {}

    def note(self, net: str, now: float, by: Did, *, reached: bool) -> None:
        """The newest finding of a network counts."""
        kept, other = (self.reached, self.missed) if reached else (self.missed, self.reached)
        kept[net] = now, by
        other.pop(net, None)

    def forget_before(self, moment: float) -> None:
        """Old findings count no more."""
        for kept in (self.reached, self.missed):
            for net in [net for net, (at, _) in kept.items() if at < moment]:
                del kept[net]


class Endpoints:
    """Candidates and findings of one node."""

    def __init__(
        self, announce: Callable[[tuple[str, ...]], None], *, needed: int, fixed: tuple[str, ...] = ()
    ) -> None:
        """`announce` is given what to tell; `needed`: networks that must agree; `fixed`: the operator's word."""
        self._announce = announce
        self._needed = needed
        self._fixed = fixed
        self._own: tuple[str, ...] = ()
        self._mapped_by: dict[str, tuple[str, ...]] = {}
        self._findings: dict[str, Findings] = {}
        self._told: tuple[str, ...] | None = None

    # what comes in

    def own(self, texts: tuple[str, ...]) -> None:
        """Addresses of this machine that are listened on or in use."""
        self._own = texts
        self._tell()

    def mapped(self, texts: tuple[str, ...], of: str = "") -> None:
        """What gateways say that they have mapped to us, or let in to us; `of`: one word per kind of gateway.

        What was found of a mapping that has lapsed, or before it was made, is void.
        """
        before = self._mapped
        self._mapped_by[of] = texts
        for text in {*before} ^ {*self._mapped}:
            self._findings.pop(text, None)
        self._tell()

    @property
    def _mapped(self) -> tuple[str, ...]:
        return tuple(text for texts in self._mapped_by.values() for text in texts)

    def judged(self, text: str, by: Did, finder_host: str, now: float, *, reached: bool) -> None:
        """A peer dialled this endpoint: the address at which it sees us, and our port."""
        for findings in self._findings.values():
            findings.forget_before(now - HOLDS_S)
        unknown = text not in (*self._fixed, *self._own, *self._mapped)
        if text not in self._findings and unknown and len(self._findings) >= SEEN_MAX:
            self._findings = {one: found for one, found in self._findings.items() if found.reached or found.missed}
            if len(self._findings) >= SEEN_MAX * 2:
                return
        self._findings.setdefault(text, Findings()).note(net_of(finder_host), now, by, reached=reached)
        if unknown and not reached:  # seen at an address that is none of ours: there is a NAT between
            for own in self._own:
                if _same_family(own, text):
                    self._findings.setdefault(own, Findings()).note(net_of(finder_host), now, by, reached=False)
        self._tell()

    # what goes out

    def outside(self) -> str:
        """The host at which others saw us last, where it is none of ours: a NAT's. Empty: there is none known."""
        hosts = [address[0] for text in self._findings if (address := contact_at(text)) is not None]
        own = [address[0] for text in self._own if (address := contact_at(text)) is not None]
        return next((host for host in reversed(hosts) if host not in own and ":" not in host), "")

    def ports(self, listening: int) -> list[int]:
        """The ports at which others may find us: ours, and a gateway's for ours."""
        mapped = [address[1] for text in self._mapped if (address := contact_at(text)) is not None]
        return list(dict.fromkeys((listening, *mapped)))

    def verdict(self, text: str) -> str:
        """`verified`, `unreachable` or `unknown`."""
        found = self._findings.get(text)
        needed = 1 if text in (*self._fixed, *self._own, *self._mapped) else self._needed
        if found is not None and len(found.reached) >= needed:
            return "verified"
        if found is not None and len(found.missed) >= self._needed:
            return "unreachable"
        return "unknown"

    def verified_by(self, text: str) -> list[Did]:
        """Who reached us there."""
        found = self._findings.get(text)
        return sorted(by for _, by in found.reached.values()) if found else []

    def candidates(self) -> list[str]:
        """All there are, the operator's first."""
        seen = [text for text in self._findings if self.verdict(text) == "verified"]
        return list(dict.fromkeys((*self._fixed, *self._mapped, *self._own, *seen)))

    def told(self) -> tuple[str, ...]:
        """What others are told: verified ones first."""
        if self._fixed:
            return self._fixed
        good = [text for text in self.candidates() if self.verdict(text) == "verified"]
        open_ = [text for text in self.candidates() if self.verdict(text) == "unknown"]
        return tuple([*good, *open_][:ENDPOINTS_MAX])

    def how(self) -> str:
        """`direct`, `mapped` (verified ones), `unreachable`, or `unknown` while nobody has looked."""
        verdicts = {text: self.verdict(text) for text in self.candidates()}
        good = [text for text, verdict in verdicts.items() if verdict == "verified"]
        if good:
            return "mapped" if all(text in self._mapped for text in good) else "direct"
        has_missed = any(self.verdict(text) == "unreachable" for text in self._findings)
        return "unreachable" if has_missed else "unknown"

    def _tell(self) -> None:
        told = self.told()
        if told != self._told:
            self._told = told
            self._announce(told)


def _same_family(one: str, other: str) -> bool:
    left, right = contact_at(one), contact_at(other)
    return left is not None and right is not None and (":" in left[0]) == (":" in right[0])

"""Whose place is given to somebody else where a node keeps things for others and has no room left. Pure.

Promise: whoever takes most gives way to whoever takes less, so that a few names never hold a whole room; nodes that are
known to live go before strangers, so that names that cost nothing never keep them out. Nobody gives way to somebody
who would then hold as much: otherwise two could push each other out in turns.
"""

from __future__ import annotations

from collections.abc import Container, Mapping


def who_gives_way(held: Mapping[str, int], sender: str, more: int, known: Container[str] = ()) -> str | None:
    """Who loses something of what it `held` for `more` of the sender's; None: nobody, the sender is refused.

    `held`: how much of the room each one takes (places or bytes, as `more`); `known`: nodes that are known to live.
    """
    others = {name: size for name, size in held.items() if name != sender}
    strangers = {name: size for name, size in others.items() if name not in known}
    rivals = strangers or (others if sender in known else {})
    most = min(rivals, key=lambda name: (-rivals[name], name), default=None)
    if most is None:
        return None
    goes_first = sender in known and most not in known
    return most if goes_first or rivals[most] > held.get(sender, 0) + more else None

"""What goes wrong with channels, told so that the caller knows what to do next."""

from __future__ import annotations

from common.errors import CallerMistake, NotNow, PeerMisbehaved


class NoChannel(NotNow):
    """No channel to {payee} can carry {price_florins} now: {reason}; `duxnet channel open` opens one."""

    code = 3100
    key = "no-channel"


class BadChannelTerms(CallerMistake):
    """This channel cannot be entered: {reason}."""

    code = 3101
    key = "bad-channel-terms"


class ChannelBusy(NotNow):
    """Channel {chid} is {state}: {reason}; nothing was signed."""

    code = 3102
    key = "channel-busy"


class BadChannelMessage(PeerMisbehaved):
    """What came in channel {chid} does not hold: {reason}."""

    code = 3103
    key = "bad-channel-word"


class CallUnknown(CallerMistake):
    """Channel {chid} has no call {name}."""

    code = 3104
    key = "no-such-call"
    http_status = 404

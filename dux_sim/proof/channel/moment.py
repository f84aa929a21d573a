"""A moment of the channel's world as a value of numbers, and what no table knows: who did what, for the laws to ask."""

from __future__ import annotations

from typing import NamedTuple

from dux_sim.proof.channel.cast import Left
from dux_sim.proof.channel.chain import Chain


class Ghost(NamedTuple):
    """What happened, whatever the disks say. Tuples by oid have a place for each call that the application makes."""

    asks: int = 0  # calls that the payer's table took
    asked: tuple[bool, ...] = ()
    runs: tuple[int, ...] = ()  # how often the handler began
    earned: tuple[int, ...] = ()  # what the payee has stored as the charge, -1: nothing yet
    paid: tuple[int, ...] = ()  # what the payer's side was told it cost, -1: nothing yet
    signed: tuple[int, ...] = ()  # states of the present coin that the payer's key has signed
    shown: tuple[int, ...] = ()  # states of the present coin whose signature ever reached the payee
    nonces: int = 0  # of the payer's hellos
    heard: tuple[int, ...] = ()  # how often each hello was heard
    mirrored: int = 0  # the best voucher that lies elsewhere, for the present coin
    excused: int = 0  # what the payee may lose by a coin that moved
    forgot: int = 0  # work since the payee's copy of which no hello has told it again
    restored: tuple[bool, bool] = (False, False)
    moved: bool = False
    offline: bool = False  # the payee
    looked: bool = False  # the payee has seen that the closing zone is reached
    served: bool = False  # after that a block of the zone could have taken its close
    censored: bool = False  # the last block before EXP left out what waited, a watcher's close too


class Moment(NamedTuple):
    """The world at one moment, and what of the history's allowance is left."""

    edge: int
    nodes: tuple[int, int]
    copies: tuple[int, int]  # -1: none was made
    chain: Chain
    sent: int  # messages that ever left, a bit for each: any of them may arrive, again, later, or never
    running: tuple[int, ...]  # j of calls whose handler works: lost in a crash
    ghost: Ghost
    left: Left

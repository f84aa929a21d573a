"""What passes between nodes, whether they live in one process or in two: letters that arrive after a time.

Promises that a history does not depend on how many processes play it. Each node belongs to one of two regions; nothing
gets from one region to the other sooner than `AHEAD_S`, so each process may run so far ahead of the other without
missing a letter. Letters of one moment arrive in the order of their senders and of their numbers, and behind every
timer of that moment, wherever they come from.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

import msgspec

from dux_sim.world.loop import Stuck, VirtualLoop

AHEAD_S = 0.05  # between the regions
STEPS = 4  # letters are handed over so often in that time
STEP_S = AHEAD_S / STEPS
LETTERS_BITS = 36  # of one sender, in one history
REGIONS = 2
WITNESS = 1 << 20  # and above: the processes themselves; no node has such a number
SILENT_S = 600  # real ones: then the other process has stopped
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 4

Handler = Callable[..., None]


def region_of(number: int) -> int:
    """Evenly spread over liars, workers, and who comes first."""
    return number.bit_count() % REGIONS


class Border:
    """The way to the other process: parcels of bytes, one for each step, in order. It never waits to be rid of one."""

    def __init__(self, file: int) -> None:
        """`file`: one end of a socket pair."""
        os.set_blocking(file, False)
        self._file = file
        self._leaving, self._arriving = bytearray(), bytearray()
        self._parcels: deque[bytes] = deque()
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)

    def give(self, parcel: bytes) -> None:
        """Send it."""
        self._leaving += len(parcel).to_bytes(HEAD_BYTES) + parcel
        self._push()

    def take(self) -> bytes:
        """The other's next parcel.

        Raises:
            Stuck: there is no other any more.
        """
        while not self._parcels:
            self._wait()
            self._push()
            if not self._pull():
                raise Stuck("the other process has ended")
        return self._parcels.popleft()

    def finish(self) -> None:
        """This side has played to its end: what it gave gets there, and it waits for the other's end.

        So neither is gone while the other may still write to it or wait for its parcels.
        """
        is_told = has_ended = False
        with socket.socket(fileno=os.dup(self._file)) as line:
            while not (is_told and has_ended):
                if not self._leaving and not is_told:
                    line.shutdown(socket.SHUT_WR)
                    is_told = True
                    continue
                self._wait(reads=not has_ended)
                self._push()
                if not has_ended:
                    has_ended = not self._pull()

    def _wait(self, *, reads: bool = True) -> None:
        self._poll.modify(self._file, (select.POLLIN if reads else 0) | (select.POLLOUT if self._leaving else 0))
        if not self._poll.poll(SILENT_S * 1000):
            raise Stuck(f"the other process has said nothing for {SILENT_S} s")

    def _push(self) -> None:
        try:
            while self._leaving:
                del self._leaving[: os.write(self._file, self._leaving[:CHUNK_BYTES])]
        except BlockingIOError:
            return
        except OSError as error:
            raise Stuck("the other process has ended") from error

    def _pull(self) -> bool:
        """Take in what is there; whether more may come."""
        try:
            data = os.read(self._file, CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            raise Stuck("the other process has ended") from error
        self._arriving += data
        while len(self._arriving) >= HEAD_BYTES:
            end = HEAD_BYTES + int.from_bytes(self._arriving[:HEAD_BYTES])
            if len(self._arriving) < end:
                break
            self._parcels.append(bytes(self._arriving[HEAD_BYTES:end]))
            del self._arriving[:end]
        return bool(data)


class Letter(msgspec.Struct, array_like=True):
    """One that crosses the border."""

    at_s: float
    rank: int
    kind: str
    words: tuple[Any, ...]


PARCELS = msgspec.msgpack.Encoder()
LETTERS = msgspec.msgpack.Decoder(list[Letter])


class Post:
    """Letters to nodes of this process and of the other."""

    def __init__(self, loop: VirtualLoop, context: Context, border: Border | None = None, region: int = 0) -> None:
        """`border`: none where both regions are here; else `region` is the one that is."""
        self._loop, self._context, self._border, self._region = loop, context, border, region
        self._handlers: dict[str, Handler] = {}
        self._sent: dict[int, int] = {}
        self._leaving: list[Letter] = []
        self._steps = 0  # that were begun
        if border is not None:
            loop.on_horizon = self._step
            self._step()

    def on(self, kind: str, handler: Handler) -> None:
        """What is done with letters of a kind."""
        self._handlers[kind] = handler

    def is_here(self, number: int) -> bool:
        """Whether this process plays the node of a number."""
        return self._border is None or region_of(number) == self._region

    def send(self, source: int, target: int, at_s: float, kind: str, *words: Any) -> None:
        """From node to node, to arrive at a time."""
        rank = self._rank(source)
        if self._border is None or region_of(target) == self._region:
            self._loop.arrive(at_s, rank, self._handlers[kind], words, self._context)
        else:
            self._leaving.append(Letter(at_s, rank, kind, words))

    def tell(self, source: int, kind: str, *words: Any) -> None:
        """From a node to every process, this one among them; all hear it at the same moment."""
        rank, at_s = self._rank(source), self._loop.time() + AHEAD_S
        self._loop.arrive(at_s, rank, self._handlers[kind], words, self._context)
        if self._border is not None:
            self._leaving.append(Letter(at_s, rank, kind, words))

    def testify(self, kind: str, *words: Any) -> None:
        """The same from this process itself. Both may do so at one moment, each under a number of its own."""
        self.tell(WITNESS + self._region, kind, *words)

    def _rank(self, source: int) -> int:
        number = self._sent[source] = self._sent.get(source, 0) + 1
        return (source << LETTERS_BITS) + number

    def _step(self) -> None:
        """One step is over: its letters go, and what may arrive in the next one is waited for."""
        if self._border is None:
            return
        if self._steps:
            self._border.give(PARCELS.encode(self._leaving))
            self._leaving.clear()
        if self._steps >= STEPS:
            arrive, handlers, context = self._loop.arrive, self._handlers, self._context
            for one in LETTERS.decode(self._border.take()):
                arrive(one.at_s, one.rank, handlers[one.kind], one.words, context)
        self._steps += 1
        self._loop.horizon = self._steps * STEP_S

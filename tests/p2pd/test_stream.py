"""One stream without a connection: bytes come out as they went in, however they were cut."""

import asyncio
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from dux_p2pd.calls import RequestHead, answer_ok, request_head
from dux_p2pd.stream import WireStream

CHUNKS = st.lists(st.binary(min_size=1, max_size=60), max_size=12)


def stream_of(*, own):
    """With what it has told the mux to be read."""
    read = []
    mux = SimpleNamespace(consumed=lambda _stream, count: read.append(count), has=lambda _stream: True)
    carrier = SimpleNamespace(mux=mux, did="did:x", flush=lambda: None, has_room=True)
    return WireStream(carrier, 1, "m", 5.0, own=own), read


@given(CHUNKS, st.lists(st.integers(1, 90), max_size=30))
def test_every_byte_is_read_once_and_in_order(chunks, sizes):
    """Never more than was asked for, never nothing while there is something; what is read is what the mux is told of.

    Planted bugs noticed: a chunk that was read in part is given again from its start; its rest is counted as whole.
    """

    async def main():
        stream, told = stream_of(own=False)
        got, waiting = bytearray(), list(chunks)
        for size in sizes:
            if waiting:
                stream.take(waiting.pop(0))
            if stream._size_bytes:
                piece = await stream.read(size)
                assert 1 <= len(piece) <= size
                got += piece
        for chunk in waiting:
            stream.take(chunk)
        stream.end()
        got += await stream.read_all()
        assert bytes(got) == b"".join(chunks)
        assert sum(told) == len(got)
        assert await stream.read(9) == b""

    asyncio.run(main())


@given(st.binary(max_size=50), st.integers(1, 40), st.booleans())
def test_a_head_in_pieces_is_the_same_head(body, cut, own):
    """A request's or an answer's head may come in pieces; what follows it is the body, to the byte."""

    async def main():
        stream, told = stream_of(own=own)
        message = (answer_ok() if own else request_head("m", 5.0, ())) + body
        for at in range(0, len(message), cut):
            if not own and at < len(message) - len(body):
                assert stream.head_at_hand() is None
            stream.take(message[at : at + cut])
        stream.end()
        if not own:
            assert await stream.read_request_head() == RequestHead(method="m", deadline_ms=5000, headers=())
        assert await (stream.answer() if own else stream.read_all()) == body
        assert sum(told) == len(message)

    asyncio.run(main())

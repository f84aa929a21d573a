"""Two real nodes on loopback sockets."""

from tests.p2pd.wire_kit import tls_node, until


async def test_smoke():
    async with tls_node("a", host="127.0.1.1") as a, tls_node("b", host="127.0.2.1") as b:
        s = await a.dial(b)
        assert await s.request("echo", b"hello", deadline_s=5) == b"echo:hello"
        assert await s.request("echo", b"x" * 1_000_000, deadline_s=5) == b"echo:" + b"x" * 1_000_000
        await until(lambda: len(b.sessions) == 1)
        assert await b.sessions[0].request("echo", b"back", deadline_s=5) == b"echo:back"
        assert await a.dial(b) is s

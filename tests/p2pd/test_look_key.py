"""The look key: one for a node's life, private, and for registryd's purpose alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from common.contracts.p2p import Prove
from common.contracts.p2p_errors import NotYourPurpose
from common.errors import BadParams, BadSettings
from common.identity.ecvrf import public_of, verified
from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.randomness import SeededRandomness
from common.rpc.table import Ctx
from dux_p2pd.look_key import LOOK_FILE, LookKey, LookState
from dux_p2pd.methods import LookMethods


def asked_by(caller: str) -> Ctx:
    return Ctx(caller=caller, call_id="1", deadline=0.0, method="identity.prove", request_id="")


def test_it_is_made_once_and_nobody_else_reads_it(tmp_path: Path) -> None:
    """The same after a restart, mode 0600, another for another node, never in a text."""
    first = LookKey(tmp_path, SeededRandomness(1))
    assert LookKey(tmp_path, SeededRandomness(2)).public == first.public
    assert LookKey(None, SeededRandomness(2)).public != first.public
    assert LookKey(None, SeededRandomness(2), seed=b"s" * 32).public == public_of(b"s" * 32)
    assert stat.S_IMODE((tmp_path / LOOK_FILE).stat().st_mode) == 0o600
    assert "ab" * 32 not in repr(LookState(seed="ab" * 32))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"seed": "zz"}', b'{"seed": "00"}'])
def test_a_file_that_is_none_stops_the_start_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    """A key is not replaced without a word: for an hour this node would look at nobody."""
    (tmp_path / LOOK_FILE).write_bytes(content)
    with pytest.raises(BadSettings, match="remove it, and another key is made"):
        LookKey(tmp_path, SeededRandomness(1))


async def test_registryd_alone_has_it_prove_and_for_looks_alone() -> None:
    """Each body in its order, with the purpose in front; without bodies the key; unknown purposes are named."""
    key = LookKey(None, SeededRandomness(1))
    methods = LookMethods(key)
    made = await methods.prove(Prove(purpose="look", bodies=(b"one", b"two")), asked_by("registryd"))
    assert made.key == key.public
    for body, proof in zip((b"one", b"two"), made.proofs, strict=True):
        assert verified(made.key, tagged(Purpose.LOOK, body), proof) is not None
    assert (await methods.prove(Prove(purpose="look"), asked_by("registryd"))).proofs == ()
    for purpose, caller in (("look", "taskd"), ("event", "registryd"), ("draw", "registryd")):
        with pytest.raises(NotYourPurpose):
            await methods.prove(Prove(purpose=purpose, bodies=(b"one",)), asked_by(caller))
    with pytest.raises(BadParams, match="there is no 'spying'"):
        await methods.prove(Prove(purpose="spying"), asked_by("registryd"))

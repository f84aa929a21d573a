"""Coin keys in a PKCS#11 token (SoftHSM2): it signs what the network takes, and gives no key away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain.verify import is_signature

pytestmark = pytest.mark.patient

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
ROOT = Path(__file__).resolve().parents[2]
INNER = Path(__file__).with_name("token_run.py")
TOKEN_RUN = "DUX_TOKEN_RUN"

pytest.importorskip("pkcs11", reason="no python-pkcs11 (pip install python-pkcs11)")
from dux_flopd.coin_token import ORDER, der_low_s  # noqa: E402 - needs that library

needs_token = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not MODULE.exists(), reason="no SoftHSM2 (apt-get install softhsm2)"
)


@given(secret=st.integers(1, ORDER - 1), digest=st.binary(min_size=32, max_size=32))
def test_a_token_s_signature_becomes_one_that_nodes_relay(secret: int, digest: bytes) -> None:
    """R and s in any form: DER as coincurve writes it, with the low s."""
    key = coincurve.PrivateKey(secret.to_bytes(32, "big"))
    der = key.sign(digest, hasher=None)
    r_end = 4 + der[3]
    r, s = int.from_bytes(der[4:r_end], "big"), int.from_bytes(der[r_end + 2 :], "big")
    for one in (s, ORDER - s):
        found = der_low_s(r.to_bytes(32, "big") + one.to_bytes(32, "big"))
        assert found == der
        assert is_signature(key.public_key.format(), digest, found + b"\x01")


@needs_token
def test_payments_are_signed_by_the_token(tmp_path: Path) -> None:
    """In a process of its own: the module reads its settings once, and another test may have loaded it."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    environment = os.environ | {"SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"), TOKEN_RUN: str(tmp_path)}
    words = ["softhsm2-util", "--init-token", "--free", "--label", "coins", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(words, check=True, capture_output=True, env=environment)
    (tmp_path / "pin").write_text("1234\n")
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INNER)]
    done = subprocess.run(inner, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout, done.stdout[-500:]

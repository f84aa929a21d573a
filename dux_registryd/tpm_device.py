"""This machine's TPM 2.0, through tpm2-tools: its attestation key and a quote. The only file that starts a program.

The key is a restricted primary key of the owner hierarchy: made anew from the TPM's seed at each use, always the same,
never outside the TPM. Needs the packages `tpm2-tools` and, for a device, the right to open it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import Unavailable

CALL_S = 20.0
PAUSES_S = (0.2, 0.6)  # between tries
KEY = ("-C", "o", "-g", "sha256", "-G", "ecc256:ecdsa-sha256:null")
ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
PCRS = "sha256:0,1,2,3,4,5,6,7"


class NoTpm(Unavailable):
    """This machine's TPM does not answer: {detail}. Install tpm2-tools, and set `tpm` in registryd.yaml."""

    code = 5014
    key = "no-tpm"


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote as tpm2-tools write it: TPMT_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE."""

    public: bytes
    attest: bytes
    signature: bytes


class TpmDevice:
    """One TPM, by its TCTI: `device:/dev/tpmrm0`, or `swtpm:host=…,port=…` for a program that plays one."""

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti
        self._turn = asyncio.Lock()

    async def quote(self, nonce: bytes) -> Quoted:
        """The TPM's word on its PCRs and this nonce.

        Raises:
            NoTpm: it cannot be asked.
        """
        async with self._turn:
            for pause_s in PAUSES_S:
                try:
                    return await self._quote(nonce)
                except NoTpm:
                    await asyncio.sleep(pause_s)  # another program may hold it at the moment
            return await self._quote(nonce)

    async def _quote(self, nonce: bytes) -> Quoted:
        with tempfile.TemporaryDirectory(prefix="dux-tpm-") as name:
            folder = Path(name)
            key, public = folder / "key", folder / "public"
            attest, signature = folder / "attest", folder / "signature"
            asked = ("-c", str(key), "-l", PCRS, "-g", "sha256", "-q", nonce.hex())
            try:
                await self._run("tpm2_createprimary", *KEY, "-a", ATTRIBUTES, "-c", str(key))
                await self._run("tpm2_readpublic", "-c", str(key), "-o", str(public), "-f", "tpmt")
                await self._run("tpm2_quote", *asked, "-m", str(attest), "-s", str(signature), "-f", "tss")
            finally:
                await self._run("tpm2_flushcontext", "-t")  # without a resource manager it has room for three keys
            return Quoted(public.read_bytes(), attest.read_bytes(), signature.read_bytes())

    async def _run(self, *words: str) -> None:
        environment = os.environ | {"TPM2TOOLS_TCTI": self._tcti}
        try:
            program = await asyncio.create_subprocess_exec(
                words[0],
                *(() if words[0] == "tpm2_flushcontext" else ("-Q",)),
                *words[1:],
                env=environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise NoTpm(detail=f"{words[0]}: {error.strerror}") from error
        try:
            async with asyncio.timeout(CALL_S):
                _, told = await program.communicate()
        except TimeoutError as error:
            raise NoTpm(detail=f"{words[0]} took longer than {CALL_S:g} s") from error
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        if program.returncode:
            raise NoTpm(detail=f"{words[0]}: {told.decode(errors='replace').strip()[-200:]}")

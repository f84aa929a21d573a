"""`docker run` of the smallest useful container: on the engine that runs here, or on one started for this run alone.

Promises: an engine that is there is used and left as it was, but for one small image, which is removed; where none runs
and root may start one, it has its own socket, its own data and no bridge, and is ended. Otherwise it says why there is
none.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common.errors import Unavailable
from common.randomness import SystemRandomness

UP_WITHIN_S = 30.0
ANSWER_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
PROGRAM = "/usr/bin/true"
HARDENED = (
    "--rm", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only",
    "--pids-limit", "64", "--memory", "512m", "--user", "65534:65534", "--log-driver", "none",
)  # fmt: skip


class NoEngine(Unavailable):
    """docker run: {reason}."""

    code = 1341
    key = "no-engine"


class Docker:
    """An engine with our image in it."""

    def __init__(self, host: str) -> None:
        self._environment = os.environ | ({"DOCKER_HOST": host} if host else {})
        self.image = f"duxnet-bench-{SystemRandomness().bytes(4).hex()}"

    async def command(self, *words: str, given: bytes | None = None) -> str:
        """The output of one `docker` command.

        Raises:
            NoEngine: it failed or did not end, with its words.
        """
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            "docker", *words, stdin=null if given is None else pipe, stdout=pipe, stderr=pipe, env=self._environment
        )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                said, complaint = await process.communicate(given)
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise NoEngine(reason=f"`docker {words[0]}` did not end within {ANSWER_WITHIN_S:g} s") from error
        if process.returncode != 0:
            raise NoEngine(reason=f"`docker {words[0]}` failed: {complaint.decode(errors='replace').strip()[:200]}")
        return said.decode(errors="replace")

    async def run_once(self) -> None:
        """One hardened container that does nothing, from start to gone."""
        await self.command("run", *HARDENED, self.image, PROGRAM)


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Docker]:
    """An engine with the image.

    Raises:
        NoEngine: none runs and none can be started.
    """
    if shutil.which("docker") is None:
        raise NoEngine(reason="no docker command on this machine (apt-get install docker.io)")
    found = Docker("")
    try:
        await found.command("info")
    except NoEngine as error:
        async with _own_engine(folder, error) as own, _with_image(own):
            yield own
        return
    async with _with_image(found):
        yield found


@asynccontextmanager
async def _with_image(docker: Docker) -> AsyncIterator[None]:
    await docker.command("import", "-", docker.image, given=await asyncio.to_thread(image_tar))
    try:
        yield
    finally:
        await docker.command("rmi", "--force", docker.image)


@asynccontextmanager
async def _own_engine(folder: Path, reason: NoEngine) -> AsyncIterator[Docker]:
    """An engine of our own, ended by its process id."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngine(reason="no engine runs here, and only root with dockerd could start one") from reason
    host = f"unix://{folder}/docker.sock"
    places = (
        "--data-root",
        str(folder / "data"),
        "--exec-root",
        str(folder / "exec"),
        "--pidfile",
        str(folder / "pid"),
    )
    with (folder / "dockerd.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            "dockerd", "--host", host, *places, "--bridge", "none", "--iptables=false",
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
        )  # fmt: skip
    try:
        docker = Docker(host)
        await _answers(docker, process, folder / "dockerd.log")
        yield docker
    finally:
        await _end(process)


async def _answers(docker: Docker, process: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(UP_WITHIN_S):
            while process.returncode is None:
                try:
                    await docker.command("info")
                except NoEngine:
                    await asyncio.sleep(0.2)
                else:
                    return
    except TimeoutError:
        pass
    lines = log.read_text(errors="replace").strip().splitlines()
    raise NoEngine(reason=f"a dockerd of our own did not come up: {lines[-1][-200:] if lines else 'it said nothing'}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def image_tar() -> bytes:
    """A root file system with one program, its loader and its libraries, as a tar archive."""
    told = subprocess.run(["ldd", PROGRAM], check=True, capture_output=True, text=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in (PROGRAM, *re.findall(r"(/\S+) \(0x", told)):
            tar.add(os.path.realpath(path), arcname=path.lstrip("/"))
    return buffer.getvalue()

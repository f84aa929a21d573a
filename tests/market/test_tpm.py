"""TPM 2.0 quotes: a real program that plays a TPM (swtpm), tpm2-tools, our own reader; and every way to cheat it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.contracts import registry
from common.contracts.registry import ListNodes
from common.contracts.registry_machine import MachineAsked, MachineView
from common.errors import NotFound
from common.rpc.client import LocalClient
from common.tpm import BadQuote, check_quote
from dux_registryd.attesting import quoted_nonce
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.tpm_device import NoTpm, Quoted, TpmDevice
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, did_number, network, running, until
from tests.market.recorded_quote import ASKED, ATTEST, PUBLIC, SIGNATURE
from tests.market.test_benchmarks import RULES, SOON, _knows
from tests.market.test_registryd import register
from tests.ports import free_ports

NONCE = bytes(range(32))
swtpm = pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_quote")), reason="no swtpm (apt-get install swtpm tpm2-tools)"
)


def test_a_quote_is_read_as_the_library_writes_it() -> None:
    """Key name, PCR digest and nonce of a recorded quote; the name is the hash of the public area."""
    found = check_quote(PUBLIC, ATTEST, SIGNATURE, nonce=ASKED)
    assert found.key_name.hex() == "000b9c8195a5fba6a8698e123a6fa5e37a8085575c856a662535ce81cc5d068d6fb5"
    assert found.pcr_digest.hex().startswith("5341e6b2")


@attack(
    "registry",
    tries="a TPM quote with a field changed, cut off, or with something behind it",
    meets="proves nothing",
)
@pytest.mark.parametrize(
    ("part", "at", "value"),
    [
        ("public", 1, 0x01),  # an RSA key
        ("public", 5, 0x04),  # not restricted: it would sign anything that looks like a quote
        ("public", 7, 0x70),  # not fixed to its TPM
        ("public", 13, 0x14),  # another scheme
        ("public", 30, 0x00),  # another point
        ("attest", 0, 0x00),  # not made by the TPM
        ("attest", 5, 0x17),  # a certification instead of a quote
        ("attest", 50, 0xFF),  # another nonce
        ("attest", 107, 0x0F),  # fewer PCRs
        ("signature", 1, 0x14),
        ("signature", 40, 0x00),
    ],
)
def test_a_changed_byte_proves_nothing(part: str, at: int, value: int) -> None:
    """Each field that matters, changed, is noticed; so is a quote cut off or with something behind it."""
    parts = {"public": PUBLIC, "attest": ATTEST, "signature": SIGNATURE}
    changed = bytearray(parts[part])
    changed[at] = value
    with pytest.raises(BadQuote):
        check_quote(**parts | {part: bytes(changed)}, nonce=ASKED)


def test_cut_off_or_prolonged_or_for_somebody_else() -> None:
    """No length but the right one is read, and the nonce binds both names."""
    for cut in range(0, len(PUBLIC), 7):
        with pytest.raises(BadQuote):
            check_quote(PUBLIC[:cut], ATTEST, SIGNATURE, nonce=ASKED)
    for cut in range(0, len(ATTEST), 7):
        with pytest.raises(BadQuote):
            check_quote(PUBLIC, ATTEST[:cut], SIGNATURE, nonce=ASKED)
    with pytest.raises(BadQuote):
        check_quote(PUBLIC + b"\x00", ATTEST, SIGNATURE, nonce=ASKED)
    with pytest.raises(BadQuote):
        check_quote(PUBLIC, ATTEST, SIGNATURE + b"\x00", nonce=ASKED)
    with pytest.raises(BadQuote, match="another question"):
        check_quote(PUBLIC, ATTEST, SIGNATURE, nonce=NONCE)
    one, two, three = did_number(1), did_number(2), did_number(3)
    made = [(one, two, NONCE), (two, one, NONCE), (one, three, NONCE), (one, two, ASKED)]
    assert len({quoted_nonce(*parts) for parts in made}) == 4


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[str]:
    """A TPM of the test's own; its TCTI."""
    state = tmp_path / "tpm"
    state.mkdir()
    port = free_ports(2)  # tpm2-tools look for the control channel one above the other
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--pid", f"file={state}/pid", "--daemon"]
    words += ["--ctrl", f"type=tcp,port={port + 1}", "--server", f"type=tcp,port={port}"]
    subprocess.run([*words, "--flags", "not-need-init,startup-clear"], check=True, timeout=10)
    yield f"swtpm:host=127.0.0.1,port={port}"
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(int((state / "pid").read_text()), signal.SIGTERM)


@swtpm
async def test_a_tpm_quotes_and_its_key_stays_the_same(tpm: str) -> None:
    """Two quotes have one key; a nonce answered before does not answer the next; without a TPM it says what to do."""
    device = TpmDevice(tpm)
    first, second = await device.quote(NONCE), await device.quote(ASKED)
    one = check_quote(first.public, first.attest, first.signature, nonce=NONCE)
    two = check_quote(second.public, second.attest, second.signature, nonce=ASKED)
    assert (one.key_name, one.pcr_digest) == (two.key_name, two.pcr_digest)
    with pytest.raises(BadQuote):
        check_quote(first.public, first.attest, first.signature, nonce=ASKED)
    with pytest.raises(NoTpm, match="tpm2-tools"):
        await TpmDevice("swtpm:host=127.0.0.1,port=1").quote(NONCE)


class _Replay(TpmDevice):
    """A node that shows another machine's quote."""

    def __init__(self, device: TpmDevice) -> None:
        self._device = device

    async def quote(self, nonce: bytes) -> Quoted:
        return await self._device.quote(bytes(reversed(nonce)))


@attack(
    "registry",
    tries="two nodes show one TPM; one replays a quote",
    meets="one of them is attested, the other is not",
)
@swtpm
async def test_a_quote_is_vouched_for_and_a_key_serves_one_node(tmp_path: Path, tpm: str) -> None:
    """Of two nodes on one TPM one is attested; a node that replays is not; lists can ask for attested ones."""
    net, profile = FakeNet(), network(benchmark=RULES)
    async with contextlib.AsyncExitStack() as stack:
        made: dict[int, LocalClient] = {}
        for number, tcti in ((1, tpm), (2, tpm), (3, "")):
            kind = running(net.node(number), RegistryDaemon, tmp_path, profile=profile, **SOON | {"tpm": tcti})
            made[number] = await stack.enter_async_context(kind)
        for number, client in made.items():
            await client.call(registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1", cpu_cores=1))
        for client in made.values():
            await until(lambda client=client: _knows(client, 3))
        net.chain.height += RULES.period_blocks  # a period in which all draw from the same list
        await until(lambda: _quotes(made[3], 1, 2), within_s=20)
        await until(lambda: all_measured(net), within_s=20)
        views = [await machine(made[3], number) for number in (1, 2, 3)]
        assert sorted("tpm" in view.verified for view in views) == [False, False, True]
        assert (await made[3].call(registry.NODE_LIST, ListNodes(verified=("tpm",)))).total == 1
        assert views[2].quotes == ()


async def machine(client: LocalClient, number: int) -> MachineView:
    return await client.call(registry.MACHINE_SHOW, MachineAsked(node_id=did_number(number)))


async def _quotes(client: LocalClient, *numbers: int) -> bool:
    with contextlib.suppress(NotFound):
        return any([(await machine(client, number)).quotes for number in numbers])
    return False


def all_measured(net: FakeNet) -> bool:
    looking: list[Any] = [node.daemons["registryd"].benchmarker for node in net.nodes.values()]
    return sum(one.measured for one in looking) >= 4


@attack(
    "registry",
    tries="shows a quote over another nonce",
    meets="the machine is measured, its TPM is not vouched for",
)
@swtpm
async def test_a_replayed_quote_attests_nothing(tmp_path: Path, tpm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quote over another nonce is shown: the rest of the machine is measured, its TPM is not vouched for."""
    monkeypatch.setattr("dux_registryd.assembly_machines.TpmDevice", lambda tcti: _Replay(TpmDevice(tcti)))
    net, profile = FakeNet(), network(benchmark=RULES)
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, profile=profile, **SOON | {"tpm": tpm}) as one,
        running(net.node(2), RegistryDaemon, tmp_path, profile=profile, **SOON) as two,
    ):
        for number, client in ((1, one), (2, two)):
            await client.call(registry.NODE_REGISTER, register(ip_address=f"127.1.{number}.1", cpu_cores=1))
        looking = net.node(2).daemons["registryd"].benchmarker
        await until(lambda: looking.measured, within_s=20)
        await asyncio.sleep(0)
        view = await machine(two, 1)
        assert (view.quotes, "memory" in view.verified) == ((), True)

"""The example daemon: what its README promises to somebody who copies it."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.contracts.base import DISCOVER, EventsSince
from common.network import NetworkProfile, save_profile
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from common.settings import load_settings

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "daemon_template"


@pytest.fixture(scope="module")
def template() -> ModuleType:
    spec = importlib.util.spec_from_file_location("daemon_template", FOLDER / "daemon.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(template: ModuleType, tmp_path: Path) -> Any:
    """As shipped, but on any free port and in a folder of the test."""
    config = tmp_path / "config"
    save_profile(NetworkProfile(name="test", chain="embedded", genesis="ab" * 32, heights="demo"), config / "n.yaml")
    (config / "common.yaml").write_text(
        f"network_profile: n.yaml\ndata_dir: {tmp_path}/data\nrun_dir: {tmp_path}/run\n"
    )
    (config / "exampled.yaml").write_text((FOLDER / "config.yaml").read_text())
    return load_settings(config, "exampled", template.Settings, {"DUXNET_EXAMPLED_PORT": "0"})


@pytest.fixture
async def client(template: ModuleType, settings: Any, tmp_path: Path) -> AsyncIterator[HttpClient]:
    profile = NetworkProfile(name="test", chain="embedded", genesis="ab" * 32, heights="demo")
    daemon = template.ExampleDaemon(settings, profile)
    async with daemon.running():
        found = HttpClient("exampled", f"http://127.0.0.1:{daemon.port}/", tmp_path / "run" / "exampled" / "cli.token")
        yield found
        await found.close()


def test_the_shipped_settings_are_accepted(settings: Any) -> None:
    """`config.yaml` names keys that exist, and the environment overrides them."""
    assert (settings.port, settings.text_chars_max) == (0, 10_000)


async def test_it_counts_each_text_once_and_tells_it(template: ModuleType, client: HttpClient) -> None:
    """The same request_id is the same count; every count is an event that others may follow."""
    one = template.CountParams(request_id="r1", text="one two three")
    assert await client.call(template.COUNT, one) == template.CountResult(words=3, total=3)
    assert await client.call(template.COUNT, one) == template.CountResult(words=3, total=3)
    two = template.CountParams(request_id="r2", text="four")
    assert await client.call(template.COUNT, two) == template.CountResult(words=1, total=4)
    page = await client.call(template.EVENTS, EventsSince())
    assert [(event.kind, event.body) for event in page.events] == [
        ("TextCounted", {"words": 3, "total": 3}),
        ("TextCounted", {"words": 1, "total": 4}),
    ]


async def test_its_own_error_arrives_as_its_class(template: ModuleType, client: HttpClient) -> None:
    """A third party's code block works like ours: number, text with the figures, what to do."""
    with pytest.raises(template.TextTooLong, match="split it"):
        await client.call(template.COUNT, template.CountParams(request_id="r1", text="x" * 10_001))


async def test_it_describes_its_methods(client: HttpClient) -> None:
    """`rpc.discover` lists what the third party declared, without any code of its own."""
    document = (await client.call(DISCOVER, Empty())).document
    assert {"example.count", "example.events"} <= {method["name"] for method in document["methods"]}


def test_the_unit_names_the_files_that_are_there() -> None:
    """The systemd unit starts this file, checks its settings first and does not restart on unusable ones."""
    unit = (FOLDER / "duxos-daemon.service").read_text()
    assert unit.count("examples/daemon_template/daemon.py") == 2
    assert "Type=notify" in unit
    assert "RestartPreventExitStatus=78" in unit

"""The upscaling module: its bytes come from its source, its pictures are Lanczos', and bad input is refused."""

from __future__ import annotations

import importlib.util
import math
import os
import random  # noqa: TID251 - pixels of a test picture
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from common.clock import SystemClock
from common.work import Limits
from dux_cli.pictures import make_test_picture, picture_from_raw, raw_from_picture
from dux_taskd.sandbox.model import Ended, Outcome, Run
from dux_taskd.sandbox.wasm import WasmRunner

FOLDER = Path(__file__).parents[2] / "examples" / "image_upscaler"
LIMITS = Limits(fuel=5 * 10**9, memory_bytes=128 << 20, wall_s=30, output_bytes=32 << 20)


async def enlarge(raw: bytes, *args: str) -> Outcome:
    """Run the committed module."""
    package = (FOLDER / "upscaler.wasm").read_bytes()
    run = Run(package=package, entry="dux-wasm/1", args=args, input=raw, limits=LIMITS)
    return await WasmRunner(SystemClock()).run(run, deadline_s=30.0, progress=lambda _: None)


def psnr_db(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise; infinite for equal pictures."""
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    mean = sum(squares) / (one.width * one.height * len(squares))
    return math.inf if mean == 0 else 10 * math.log10(255**2 / mean)


def test_the_committed_module_is_what_its_source_makes(tmp_path: Path) -> None:
    """Same source, Debian's clang and lld: same bytes. Never skipped in CI."""
    if not (shutil.which("clang-14") and shutil.which("wasm-ld-14")):
        if os.environ.get("CI"):
            pytest.fail("clang-14 and wasm-ld-14 are missing: apt-get install clang lld")
        pytest.skip("clang-14 and wasm-ld-14 are missing, so the module is NOT compared with its source")
    built = tmp_path / "upscaler.wasm"
    command = ["make", "-s", "-C", str(FOLDER), f"OUT={built}", f"BUILD={tmp_path / 'build'}"]
    subprocess.run(command, check=True, capture_output=True)
    assert built.read_bytes() == (FOLDER / "upscaler.wasm").read_bytes()


def test_the_kernel_table_is_what_its_script_makes() -> None:
    """src/kernel.h holds Lanczos' kernel and nothing typed by hand."""
    spec = importlib.util.spec_from_file_location("make_kernel", FOLDER / "make_kernel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.header_text() == (FOLDER / "src" / "kernel.h").read_text(encoding="ascii")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("factor", [2, 3, 8])
async def test_it_is_lanczos_to_the_last_bit(mode: str, channels: int, factor: int) -> None:
    """On noise, where every error shows, it gives Pillow's own Lanczos picture, pixel for pixel."""
    noise = random.Random(factor).randbytes(53 * 37 * channels)  # noqa: S311
    picture = Image.frombytes(mode, (53, 37), noise)
    outcome = await enlarge(raw_from_picture(picture), f"scale={factor}")
    assert outcome.ended is Ended.DONE, outcome.detail
    expected = picture.resize((53 * factor, 37 * factor), Image.Resampling.LANCZOS)
    assert picture_from_raw(outcome.output).tobytes() == expected.tobytes()


async def test_it_restores_more_than_bicubic_and_far_more_than_nearest() -> None:
    """Shrink a picture, enlarge it again: as near to the original as Pillow's bicubic, well above repetition."""
    original = make_test_picture(256, 192)
    small = original.resize((128, 96), Image.Resampling.BOX)
    outcome = await enlarge(raw_from_picture(small), "scale=2")
    ours = psnr_db(original, picture_from_raw(outcome.output))
    bicubic = psnr_db(original, small.resize(original.size, Image.Resampling.BICUBIC))
    nearest = psnr_db(original, small.resize(original.size, Image.Resampling.NEAREST))
    assert ours >= bicubic - 0.01
    assert ours > nearest + 0.5


async def test_the_quality_measure_notices_a_planted_fault() -> None:
    """A picture moved by one pixel is far away in PSNR, so the tests above can fail."""
    picture = make_test_picture(64, 48)
    moved = ImageChops.offset(picture, 1, 0)
    assert psnr_db(picture, picture) == math.inf
    assert psnr_db(picture, moved) < 35


@pytest.mark.parametrize(
    ("raw", "args", "code"),
    [
        (raw_from_picture(make_test_picture(8, 8)), ("scale=9",), 1),
        (raw_from_picture(make_test_picture(8, 8)), ("scale=2", "scale=2"), 1),
        (b"not a picture at all", (), 2),
        (raw_from_picture(make_test_picture(8, 8))[:-1], (), 2),
        (b"DUXP\x01\x03\x00\x00" + b"\xff" * 8, (), 2),
        (b"DUXP\x01\x01\x00\x00" + (4096).to_bytes(4, "little") * 2 + bytes(4096 * 4096), ("scale=8",), 3),
    ],
)
async def test_what_it_cannot_do_it_refuses_with_a_code(raw: bytes, args: tuple[str, ...], code: int) -> None:
    """1 bad argument, 2 not a picture, 3 too large; never a trap, never a wrong picture."""
    outcome = await enlarge(raw, *args)
    assert outcome.ended is Ended.REFUSED, outcome
    assert outcome.detail.endswith(f"code {code}")
    assert outcome.output == b""

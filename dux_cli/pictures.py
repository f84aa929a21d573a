"""Pictures for the upscaling service: PNG or JPEG on a person's disk, raw "DUXP" bytes in a job, and a picture to try.

Promise: what is written from raw bytes has exactly those pixels (PNG; JPEG is lossy by nature). Files from a stranger
are decoded under Pillow's own limits and ours. It knows nothing of jobs or payments.

Source: examples/image_upscaler/src/picture.h (the raw form).
"""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING

from common.errors import CallerMistake
from dux_cli.out_files import write_out

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

MAGIC = b"DUXP"
HEADER = struct.Struct("<4sBBHII")  # magic, version, channels, zero, width, height
SIDE_MAX = 8_192  # pixels; twice that is the most the module makes
FILE_BYTES_MAX = 64 << 20
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
CHANNELS = {mode: channels for channels, mode in MODES.items()}
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class NotAPicture(CallerMistake):
    """{name}: {detail}. Give a PNG or JPEG file of at most 8192 pixels along a side."""

    code = 7101
    key = "not-a-picture"


def raw_from_file(path: Path) -> bytes:
    """The raw bytes of a PNG or JPEG file.

    Raises:
        NotAPicture: another kind of file, a damaged one, or one that is too large.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise NotAPicture(name=path.name, detail=f"more than {FILE_BYTES_MAX} bytes")
    return raw_from_encoded(path.read_bytes(), path.name)


def raw_from_encoded(data: bytes, name: str = "picture") -> bytes:
    """The raw bytes of an encoded picture (as `raw_from_file`)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > SIDE_MAX:
                raise NotAPicture(name=name, detail=f"{picture.width} x {picture.height} pixels")
            return raw_from_picture(_plain_mode(picture))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise NotAPicture(name=name, detail=str(error)[:200]) from error


def _plain_mode(picture: Image) -> Image:
    """Grey, RGB or RGBA: whichever loses nothing that an eight-bit picture can keep."""
    if picture.mode in CHANNELS:
        return picture.copy()
    has_alpha = "A" in picture.mode or "transparency" in picture.info
    return picture.convert("RGBA" if has_alpha else "RGB")


def raw_from_picture(picture: Image) -> bytes:
    """Header and pixels."""
    return HEADER.pack(MAGIC, 1, CHANNELS[picture.mode], 0, picture.width, picture.height) + picture.tobytes()


def picture_from_raw(raw: bytes) -> Image:
    """The picture in raw bytes.

    Raises:
        NotAPicture: the header and the length do not fit together.
    """
    from PIL import Image

    if len(raw) < HEADER.size:
        raise NotAPicture(name="result", detail="shorter than a header")
    magic, version, channels, zero, width, height = HEADER.unpack_from(raw)
    whole = (magic, version, zero) == (MAGIC, 1, 0) and channels in MODES and width and height
    if not whole or len(raw) - HEADER.size != width * height * channels:
        raise NotAPicture(name="result", detail="not the raw form of a picture")
    return Image.frombytes(MODES[channels], (width, height), raw[HEADER.size :])


def write_picture(raw: bytes, path: Path) -> tuple[int, int]:
    """Write raw bytes as the kind of file that the name's ending says; the size in pixels is returned.

    Raises:
        NotAPicture: another ending than .png, .jpg or .jpeg, or not a raw picture.
        Unusable: the place does not take it.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise NotAPicture(name=path.name, detail="the name must end in .png, .jpg or .jpeg")
    picture = picture_from_raw(raw)
    file = io.BytesIO()
    (picture.convert("RGB") if kind == "JPEG" else picture).save(file, kind)
    write_out(path, file.getvalue())
    return picture.size


def make_test_picture(width: int = 384, height: int = 256) -> Image:
    """A pond at dusk, the same for the same size: smooth sky, fine ripples, hard edges, to show any fault."""
    from PIL import Image, ImageDraw

    horizon = height * 3 // 5
    rows = [_sky(y / max(1, horizon)) if y < horizon else _water(y - horizon, width, height) for y in range(height)]
    pixels = b"".join(row * width if len(row) == len(MODES[3]) else row for row in rows)
    picture = Image.frombytes("RGB", (width, height), pixels)
    _draw_sun_and_duck(ImageDraw.Draw(picture), width, height)
    return picture


def _sky(depth: float) -> bytes:
    """One pixel of sky, 0 at the top, 1 at the horizon."""
    return bytes((int(40 + 200 * depth), int(60 + 110 * depth), int(120 + 20 * depth)))


def _water(y: int, width: int, height: int) -> bytes:
    """One row of water with ripples that get wider towards the viewer."""
    near = (y + 1) / height
    row = bytearray()
    for x in range(width):
        wave = math.sin(x / (1 + 12 * near) + 3 * math.sin(y / 3)) + math.sin(y * 40 / (height * near + 8))
        row += bytes((int(50 + 18 * wave), int(80 + 22 * wave), int(130 + 30 * wave)))
    return bytes(row)


def _draw_sun_and_duck(draw: object, width: int, height: int) -> None:
    """Hard edges and one-pixel lines, on which ringing and blur show first."""
    from PIL import ImageDraw

    assert isinstance(draw, ImageDraw.ImageDraw)  # noqa: S101 - the caller made it
    unit = min(width, height) / 16
    draw.ellipse([unit * 2, unit * 2, unit * 5, unit * 5], fill=(250, 220, 150))
    left, top = width * 0.55, height * 0.5
    draw.ellipse([left, top, left + 5 * unit, top + 3 * unit], fill=(235, 235, 225))
    draw.ellipse([left + 4 * unit, top - 2 * unit, left + 6 * unit, top + unit], fill=(235, 235, 225))
    draw.polygon([(left + 6 * unit, top - unit), (left + 7.5 * unit, top - unit / 2), (left + 6 * unit, top)], "orange")
    draw.ellipse([left + 5 * unit, top - 1.2 * unit, left + 5.4 * unit, top - 0.8 * unit], fill=(10, 10, 10))
    for step in range(8):
        draw.line([(unit + step * 3, height - unit), (unit + step * 3, height - 3 * unit)], fill=(20, 30, 20))

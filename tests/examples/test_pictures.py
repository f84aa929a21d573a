"""PNG and JPEG to the raw form and back."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from dux_cli import pictures


def encoded(picture: Image.Image, kind: str) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_png_to_raw_to_png_changes_no_pixel(tmp_path: Path, mode: str) -> None:
    """Every pixel of a PNG survives both conversions."""
    picture = pictures.make_test_picture(40, 24).convert(mode)
    raw = pictures.raw_from_encoded(encoded(picture, "PNG"))
    assert pictures.write_picture(raw, tmp_path / "out.png") == (40, 24)
    with Image.open(tmp_path / "out.png") as again:
        assert (again.mode, again.tobytes()) == (mode, picture.tobytes())


def test_palette_with_transparency_keeps_it() -> None:
    """A palette picture with a transparent colour becomes RGBA, one without becomes RGB."""
    plain = Image.new("P", (4, 4))
    assert pictures.raw_from_encoded(encoded(plain, "PNG"))[5] == 3
    buffer = io.BytesIO()
    plain.save(buffer, "PNG", transparency=0)
    assert pictures.raw_from_encoded(buffer.getvalue())[5] == 4


def test_jpeg_in_and_out(tmp_path: Path) -> None:
    """A JPEG is read; a result may be written as one."""
    raw = pictures.raw_from_encoded(encoded(pictures.make_test_picture(40, 24), "JPEG"))
    assert pictures.write_picture(raw, tmp_path / "out.jpg") == (40, 24)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(40), b"DUXP" + bytes(12)])
def test_other_files_are_refused_with_advice(data: bytes) -> None:
    """What is no PNG or JPEG gives an error that says what to give."""
    with pytest.raises(pictures.NotAPicture, match="PNG or JPEG"):
        pictures.raw_from_encoded(data, "file")


def test_too_large_a_picture_is_refused_before_it_is_decoded() -> None:
    """A small file may claim a huge picture; its header is enough to refuse it."""
    with pytest.raises(pictures.NotAPicture, match="9000"):
        pictures.raw_from_encoded(encoded(Image.new("L", (9000, 1)), "PNG"))


@pytest.mark.parametrize("raw", [b"", b"DUXP", pictures.HEADER.pack(b"DUXP", 1, 3, 0, 2, 2) + bytes(11)])
def test_raw_bytes_must_be_whole(raw: bytes) -> None:
    """A result with a wrong length or header is no picture."""
    with pytest.raises(pictures.NotAPicture):
        pictures.picture_from_raw(raw)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    """The ending says the kind; another one is refused with the three that work."""
    raw = pictures.raw_from_picture(pictures.make_test_picture(4, 4))
    with pytest.raises(pictures.NotAPicture, match=r"\.png"):
        pictures.write_picture(raw, tmp_path / "out.gif")

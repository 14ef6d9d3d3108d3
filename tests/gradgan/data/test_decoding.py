"""`gradgan.data.decoding`: files with good pixels, whatever else stands in them, and what counts as grey."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradgan.data.decoding import PNG, decode
from gradgan.data.folder import Folder

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
RAMP = np.tile(np.linspace(0, 65535, 16).astype(np.uint16), (16, 1))


def stored(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(name + content) ^ (not sound)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_with(extra: bytes, *, at_end: bool = False) -> bytes:
    """A PNG of NOISE with a further chunk, behind its header or before its end."""
    data = stored(Image.fromarray(NOISE), "PNG")
    place = len(data) - 12 if at_end else len(PNG) + 25
    return data[:place] + extra + data[place:]


LONG = b"Comment\0\0" + zlib.compress(b"long" * 2**20)
TURN = Image.Exif()
TURN[0x0112] = 3  # stored upside down
BAD_EXIF = b"MM\0*\0\0\0\x08\xff\xff\x01\x12"


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"zTXt", LONG)),
        png_with(chunk(b"zTXt", LONG), at_end=True),
        png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"long" * 2**20))),
        png_with(chunk(b"eXIf", b"nothing")),
        png_with(chunk(b"eXIf", BAD_EXIF, sound=False)),
        png_with(chunk(b"iCCP", b"profile\0\7damaged")),
        png_with(chunk(b"iCCP", b"profile\0\0damaged", sound=False)),
        png_with(chunk(b"tEXt", b"a\0b", sound=False)),
        stored(Image.fromarray(NOISE), "WEBP", lossless=True, exif=b"Exif\0\0nothing"),
    ],
    ids=[
        "text",
        "text at the end",
        "unicode",
        "exif",
        "exif sum",
        "icc method",
        "icc sum",
        "text sum",
        "webp",
    ],
)
def test_pixels_that_are_good_are_read_whatever_else_is_not(data):
    found = decode(data, 8, 3)
    assert np.array_equal(found.pixels, NOISE)
    assert found.unread


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_of_a_sound_file_everything_is_read(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(stored(Image.fromarray(NOISE), kind, **options), 8, 3)
    assert np.array_equal(found.pixels, NOISE)
    assert not found.unread


def test_a_picture_with_too_long_a_text_is_still_turned_upright():
    data = png_with(chunk(b"eXIf", TURN.tobytes()[6:]) + chunk(b"zTXt", LONG))
    assert np.array_equal(decode(data, 8, 3).pixels, NOISE[::-1, ::-1])


def test_pixels_that_are_damaged_are_refused_with_and_without_a_long_text():
    for data in (stored(Image.fromarray(NOISE), "PNG"), png_with(chunk(b"zTXt", LONG))):
        place = data.index(b"IDAT") + 20
        broken = data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]
        with pytest.raises(ValueError, match=r"\w"):
            decode(broken, 8, 3)


@pytest.mark.parametrize(
    "data",
    [
        stored(Image.fromarray(RAMP), "PNG"),
        b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes(),
        b"P5 16 16 1023\n" + (RAMP >> 6).astype(">u2").tobytes(),
        b"P5 16 16 255\n" + (RAMP >> 8).astype(np.uint8).tobytes(),
        b"P6 16 16 65535\n" + np.stack([RAMP] * 3, -1).astype(">u2").tobytes(),
    ],
    ids=["PNG", "PGM", "PGM of 10 bits", "PGM of 8 bits", "PPM"],
)
def test_a_ramp_of_any_depth_is_one_from_0_to_255(data):
    found = decode(data, 16, 1)
    assert np.abs(found.pixels[:, :, 0] - RAMP / 257).max() <= 1
    assert found.pixels[0, [0, -1], 0].tolist() == [0, 255]
    assert found.grey == (not data.startswith(b"P6"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "BMP"])
@pytest.mark.parametrize("grey", [True, False])
def test_a_palette_is_grey_where_its_colours_are(kind, grey):
    levels = NOISE[:, :, 0]
    picture = Image.fromarray(np.stack([levels] * 3, -1) if grey else NOISE).quantize(16)
    assert decode(stored(picture, kind), 8, 3).grey == grey


@pytest.mark.parametrize("colour", [(0, 0, 0), (250, 0, 0)])
def test_transparency_does_not_hide_a_colour_nor_make_one(colour):
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([*colour, 255, 0, 0])
    picture.putpixel((0, 0), 1)
    data = stored(picture, "PNG", transparency=1)  # the red pixel alone
    assert decode(data, 8, 3).grey == (colour == (0, 0, 0))


def test_what_cannot_be_read_is_said_once_for_all_files(tmp_path: Path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png_with(chunk(b"zTXt", LONG)))
    for name in ("c.jfif", "d.jpe"):
        (tmp_path / name).write_bytes(stored(Image.fromarray(NOISE), "JPEG"))
    (tmp_path / "e.pnm").write_bytes(b"P6 8 8 255\n" + NOISE.tobytes())
    given = {"size": 8, "channels": 3, "labels": True, "held_out": 0, "mixed": "error"}
    images = Folder(root=str(tmp_path), **given).load()
    assert len(images.train) == 5
    assert images.notes[1:] == (
        f"data.root={tmp_path}: 2 of 5 images have text, EXIF or a colour profile that cannot be read: "
        "a.png, b.png; their pixels are used as they are stored",
    )

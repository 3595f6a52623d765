# SPDX-License-Identifier: Apache-2.0
"""PNG files chunk by chunk: orientation in texts, what follows the end, transparent colours of every depth."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFile, ImageOps

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.image import check_image, inspect_image
from airflow_provider_wan.media.image_fit import fit_image

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def build_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def build_png(size: tuple[int, int], depth: int, colour: int, rows: list[bytes], *chunks: bytes) -> bytes:
    header = build_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = build_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + build_chunk(b"IEND", b"")


def draw_png() -> bytes:
    image = Image.new("RGB", (600, 400), "navy")
    image.paste("red", (0, 0, 300, 200))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def build_exif_text(orientation: int) -> bytes:
    """Build the text in which ImageMagick stores EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    digits = raw.hex().encode()
    lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return b"\nexif\n%8d\n" % len(raw) + lines + b"\n"


@pytest.mark.parametrize("place", [33, -12], ids=["before", "after"])
@pytest.mark.parametrize(
    "chunk",
    [
        build_chunk(b"eXIf", bytes.fromhex(build_exif_text(6).split(b"\n", 3)[3].decode())[6:]),
        build_chunk(b"tEXt", b"Raw profile type exif\0" + build_exif_text(6)),
        build_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(build_exif_text(6))),
        build_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        build_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        build_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP + b" " * 70_000),
    ],
    ids=["eXIf", "tEXt", "zTXt", "xmp", "compressed-xmp", "long-xmp"],
)
def test_an_orientation_is_read_wherever_a_png_has_it(chunk: bytes, place: int) -> None:
    png = draw_png()
    data = png[:place] + chunk + png[place:]
    image = Image.open(io.BytesIO(data))
    image.load()
    expected = ImageOps.exif_transpose(image)
    assert expected.size == (400, 600)

    assert check_image(data).orientation == 6
    assert decode(fit_image(data).data).tobytes() == expected.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "chunk",
    [
        build_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n4\nzz")),
        build_chunk(b"zTXt", b"Raw profile type exif\0\0nonsense"),
        build_chunk(b"zTXt", b"Raw profile type exif\0"),
        build_chunk(b"iTXt", b"XML:com.adobe.xmp\0"),
        build_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP[:20] + bytes(50_000_000))),
    ],
)
def test_a_broken_or_vast_text_is_no_reason_to_refuse_a_png(chunk: bytes) -> None:
    png = draw_png()

    assert fit_image(png[:33] + chunk + png[33:]).info.orientation == 1


def test_no_pixel_is_decoded_to_read_the_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loads.append)

    info = inspect_image(draw_png())

    assert (info.width, info.height) == (600, 400)
    assert loads == []


@pytest.mark.parametrize("size", [(13_300, 13_300), (9_000, 9_000)])
def test_a_png_of_too_many_pixels_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    loads: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loads.append)
    data = build_png(size, 8, 6, [bytes(1000)])

    for take in (fit_image, check_image):
        with pytest.raises(WanValidationError, match=rf"PNG of {size[0]}×{size[1]} pixels.*80000000 pixels.*as a JPEG"):
            take(data)

    assert loads == []


@pytest.mark.parametrize("length", [1, 4096, 5000, 3_000_000])
def test_what_follows_the_end_of_a_png_does_not_matter(length: int) -> None:
    png = draw_png()
    data = png + b"\0" * length

    assert check_image(data).width == 600
    assert fit_image(data).data is data
    for cut in (1, 6, 12):
        with pytest.raises(WanValidationError, match="broken or cut off"):
            check_image(png[:-cut])


# --- transparent colours --------------------------------------------------------------------------
def lay_on_white(size: tuple[int, int], levels: list[tuple[float, ...]], transparent: list[bool]) -> Image.Image:
    """Build an image of levels from 0 to 1, without Pillow's conversions."""
    pixels = bytearray()
    for level, is_transparent in zip(levels, transparent, strict=True):
        pixels += bytes([255] * 3 if is_transparent else [round(255 * value) for value in (level * 3)[:3]])
    return Image.frombytes("RGB", size, bytes(pixels))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_level_of_a_grey_png_is_compared_at_its_depth(depth: int) -> None:
    top = (1 << depth) - 1
    key = 1 if depth < 16 else 0x1234
    levels = [key, 0, top, key ^ 1, top // 2, 0x12 & top, 0x1235 & top, 0x0034 & top]
    row = [levels[x * len(levels) // 400] for x in range(400)]
    bits = "".join(f"{level:0{depth}b}" for level in row)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = build_png((400, 400), depth, 0, [packed] * 400, build_chunk(b"tRNS", struct.pack(">H", key)))

    fitted = decode(fit_image(data).data)

    expected = lay_on_white((400, 1), [(level / top,) for level in row], [level == key for level in row])
    extrema: Any = ImageChops.difference(fitted.crop((0, 9, 400, 10)), expected).getextrema()
    assert max(highest for _, highest in extrema) <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_compared_at_its_depth(depth: int) -> None:
    top, code = (1 << depth) - 1, ">B" if depth == 8 else ">H"
    key = (0x1234 & top, 0x5678 & top, 0x9ABC & top)
    others = [(key[0], key[1], key[2] ^ 1), (key[0] ^ 1, *key[1:]), (0x12, 0x56, 0x9A), (top, 0, top // 2)]
    row = [[key, *others][x * 5 // 400] for x in range(400)]
    packed = b"".join(struct.pack(code, value) for pixel in row for value in pixel)
    data = build_png((400, 400), depth, 2, [packed] * 400, build_chunk(b"tRNS", struct.pack(">HHH", *key)))

    fitted = decode(fit_image(data).data)

    expected = lay_on_white(
        (400, 1), [tuple(value / top for value in pixel) for pixel in row], [pixel == key for pixel in row]
    )
    extrema: Any = ImageChops.difference(fitted.crop((0, 9, 400, 10)), expected).getextrema()
    assert max(highest for _, highest in extrema) <= 1

# SPDX-License-Identifier: Apache-2.0
"""PNG files chunk by chunk: orientation in texts, what follows the end, transparent colours of every depth."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image, ImageFile, ImageOps

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

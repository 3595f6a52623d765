# SPDX-License-Identifier: Apache-2.0
"""What needs too much time or memory is refused before it is decoded, with what it is and what to do."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from PIL import Image, ImageFile, features

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media import image as image_module
from airflow_provider_wan.media import image_fit
from airflow_provider_wan.media.image_fit import Fit, FitOptions, fit_image
from airflow_provider_wan.media.image_parts import check_parts

PIXELS = 800 * 600


def save(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (800, 600)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is decoded."""
    loads: list[object] = []
    load = ImageFile.ImageFile.load

    def load_and_count(image: ImageFile.ImageFile) -> object:
        loads.append(image)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load_and_count)
    return loads


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "HEIF"])
def test_a_format_that_needs_more_memory_has_a_lower_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert 24_000_000 < image_module._FORMAT_PIXELS[kind] < image_module.MAX_SOURCE_PIXELS
    data = save(kind)
    monkeypatch.setitem(image_module._FORMAT_PIXELS, kind, PIXELS)
    fit_image(data)
    decoded.clear()
    monkeypatch.setitem(image_module._FORMAT_PIXELS, kind, PIXELS - 1)

    with pytest.raises(WanValidationError, match=rf"{kind} of 800×600 pixels.*at most {PIXELS - 1} pixels.*as a JPEG"):
        fit_image(data)

    assert decoded == []


def test_a_later_frame_of_a_gif_has_a_lower_limit(monkeypatch: pytest.MonkeyPatch, decoded: list[object]) -> None:
    data = save("GIF", "P", save_all=True, append_images=[Image.new("P", (800, 600), 1)])
    monkeypatch.setattr(image_module, "_MAX_FRAME_PIXELS", PIXELS - 1)

    fit_image(data, FitOptions(frame=0))
    decoded.clear()
    with pytest.raises(WanValidationError, match=r"animated GIF of 800×600 pixels.*as a JPEG"):
        fit_image(data, FitOptions(frame=1))

    assert decoded == []


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw"])
def test_a_tiff_of_one_large_strip_has_a_lower_limit(
    compression: str, monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    one_strip = save("TIFF", "RGBA", compression=compression, strip_size=2**31 - 1)
    strips = save("TIFF", "RGBA", compression=compression, strip_size=100_000)
    monkeypatch.setattr(image_module, "_MAX_FRAME_PIXELS", PIXELS - 1)
    monkeypatch.setattr(image_module, "_MAX_STRIP_BYTES", PIXELS * 4 - 1)

    fit_image(strips)
    decoded.clear()
    with pytest.raises(WanValidationError, match=r"TIFF in one strip of 800×600 pixels.*as a JPEG"):
        fit_image(one_strip)

    assert decoded == []


def test_a_png_of_16_bits_with_a_transparent_colour_has_a_lower_limit(
    monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    def build(colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
        header = struct.pack(">IIBBBBB", 800, 600, 16, colour, 0, 0, 0)
        pixels = zlib.compress(bytes(600 * (1 + 800 * (6 if colour == 2 else 2))))
        all_chunks = ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in all_chunks
        )

    monkeypatch.setattr(image_module, "_MAX_FRAME_PIXELS", PIXELS - 1)
    fit_image(build(2))
    fit_image(build(0, (b"tRNS", bytes(2))))
    decoded.clear()

    with pytest.raises(WanValidationError, match=r"PNG of 16 bits with a transparent colour of 800×600.*as a JPEG"):
        fit_image(build(2, (b"tRNS", bytes(6))))

    assert decoded == []


def test_a_jpeg_2000_is_limited_by_the_resolution_that_is_decoded(
    monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    buffer = io.BytesIO()
    source = Image.linear_gradient("L").resize((4200, 800)).convert("RGB")
    source.save(buffer, "JPEG2000", num_resolutions=1)
    whole = buffer.getvalue()
    buffer = io.BytesIO()
    source.save(buffer, "JPEG2000", num_resolutions=2)
    monkeypatch.setattr(image_fit, "MAX_JPEG2000_PIXELS", 2100 * 400)

    fitted = fit_image(buffer.getvalue())
    assert (fitted.info.width, fitted.info.height) == (2000, 381)
    decoded.clear()
    with pytest.raises(
        WanValidationError, match=r"JPEG 2000 without smaller resolutions, of 4200×800 pixels.*as a JPEG"
    ):
        fit_image(whole)

    assert decoded == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("PPM", b"P6 2000 1300 1023\n" + bytes(6)),
        ("PPM", b"P3 2000 1300 255\n0 0 0"),
        ("QOI", b"qoif" + struct.pack(">IIBB", 2000, 1300, 3, 0) + bytes(8)),
    ],
)
def test_what_pillow_decodes_in_python_has_a_lower_limit(kind: str, data: bytes, decoded: list[object]) -> None:
    with pytest.raises(
        WanValidationError, match=rf"{kind} of an encoding that is slow to read of 2000×1300.*as a JPEG"
    ):
        fit_image(data)

    assert decoded == []


def build_jpeg_of_three_scans() -> bytes:
    """Build a JPEG that is not progressive, with one scan for each component."""
    bands = [Image.linear_gradient("L").resize((800, 600)).rotate(90 * turn) for turn in range(3)]
    files = []
    for band in bands:
        buffer = io.BytesIO()
        band.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    head, first = files[0].split(b"\xff\xda", 1)
    start = head.index(b"\xff\xc0")
    components = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    frame = struct.pack(">HHBHHB", 0xFFC0, 17, 8, 600, 800, 3) + components
    scans = [first, *(file.split(b"\xff\xda", 1)[1] for file in files[1:])]
    body = b"".join(
        struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, number, 0, 0, 63, 0) + scan[8:-2]
        for number, scan in zip((1, 2, 3), scans, strict=True)
    )
    return head[:start] + frame + head[start + 13 :] + body + b"\xff\xd9"


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_of_several_scans_is_limited_by_its_coefficients(
    subsampling: int, monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    data = save("JPEG", progressive=True, subsampling=subsampling)
    coefficients = PIXELS * (3 if subsampling == 0 else 1.5)
    monkeypatch.setattr(image_module, "_MAX_COEFFICIENTS", int(coefficients))
    fit_image(data)
    decoded.clear()
    monkeypatch.setattr(image_module, "_MAX_COEFFICIENTS", int(coefficients) - 1)

    with pytest.raises(WanValidationError, match=r"JPEG of \d+ scans of 800×600 pixels"):
        fit_image(data)
    if subsampling == 0:
        with pytest.raises(WanValidationError, match=r"JPEG of \d+ scans of 800×600 pixels"):
            fit_image(build_jpeg_of_three_scans())
    fit_image(save("JPEG", subsampling=subsampling))

    assert len(decoded) == 1


def test_a_jpeg_with_a_scan_for_each_component_is_passed_through() -> None:
    data = build_jpeg_of_three_scans()

    assert fit_image(data).data is data


def test_a_jpeg_of_many_scans_is_refused_by_scans_and_pixels(
    monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    data = save("JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    monkeypatch.setattr(image_module, "_MAX_SCANNED_PIXELS", PIXELS * scans - 1)

    with pytest.raises(WanValidationError, match=rf"progressive JPEG of {scans} scans of 800×600 pixels.*as a JPEG"):
        fit_image(data)

    assert decoded == []


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_late_frame_of_an_animation_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (800, 600), colour) for colour in ("red", "lime", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    monkeypatch.setattr(image_module, "_MAX_ANIMATION_PIXELS", 2 * PIXELS)

    fit_image(buffer.getvalue(), FitOptions(frame=1))
    with pytest.raises(WanValidationError, match=rf"frame 2, .*{kind} of 800×600 pixels.*a picture of its own"):
        fit_image(buffer.getvalue(), FitOptions(frame=2))


# --- many parts -----------------------------------------------------------------------------------
def build_png_of_chunks(count: int) -> bytes:
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    png = save("PNG")
    return png[:33] + chunk * count + png[33:]


def build_jpeg_of_segments(count: int) -> bytes:
    jpeg = save("JPEG")
    return jpeg[:2] + b"\xff\xe5\0\2" * count + jpeg[2:]


def build_jpeg_of_fill_bytes(count: int) -> bytes:
    jpeg = save("JPEG")
    return jpeg[:2] + b"\xff" * count + jpeg[2:]


def build_gif_of_blocks(count: int) -> bytes:
    gif = save("GIF", "P")
    start = 13 + (6 << (gif[10] & 7) if gif[10] & 0x80 else 0)
    return gif[:start] + b"\x21\xfe" + b"\1x" * count + b"\0" + gif[start:]


def build_gif_of_frames(count: int) -> bytes:
    frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0"
    screen = b"GIF89a" + struct.pack("<HHBBB", 800, 600, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + frame * count + b";"


def build_tiff_of_images(count: int, order: str = "<") -> bytes:
    tags = [(256, 800), (257, 600), (258, 1), (259, 1), (262, 1), (273, 8), (277, 1), (278, 600), (279, 60_000)]
    body = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 60_008) + bytes(60_000))
    for number in range(count):
        following = len(body) + 6 + 12 * len(tags) if number < count - 1 else 0
        body += struct.pack(f"{order}H", len(tags))
        body += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
        body += struct.pack(f"{order}I", following)
    return bytes(body)


def build_large_tiff_of_images(count: int) -> bytes:
    tags = [(256, 800), (257, 600), (258, 1), (259, 1), (262, 1), (273, 16), (277, 1), (278, 600), (279, 60_000)]
    body = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 60_016) + bytes(60_000))
    for number in range(count):
        following = len(body) + 16 + 20 * len(tags) if number < count - 1 else 0
        body += struct.pack("<Q", len(tags))
        body += b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in tags)
        body += struct.pack("<Q", following)
    return bytes(body)


@pytest.mark.parametrize(
    ("build", "many", "few", "name"),
    [
        (build_png_of_chunks, 100_001, 5_000, "PNG of more than 100000 chunks"),
        (build_jpeg_of_segments, 100_001, 5_000, "JPEG of more than 100000 segments"),
        (build_jpeg_of_fill_bytes, 100_001, 5_000, "JPEG of more than 100000 segments"),
        (build_gif_of_blocks, 500_001, 5_000, "GIF of more than 500000 blocks"),
        (build_gif_of_frames, 170_000, 2_000, "GIF of more than 500000 blocks"),
        (build_tiff_of_images, 5_001, 500, "TIFF of more than 5000 images"),
        (partial(build_tiff_of_images, order=">"), 5_001, 500, "TIFF of more than 5000 images"),
        (build_large_tiff_of_images, 5_001, 500, "TIFF of more than 5000 images"),
    ],
)
def test_a_file_of_too_many_parts_is_refused_before_it_is_opened(
    build: Callable[[int], bytes], many: int, few: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit_image(build(few), FitOptions(frame=0)).info.width == 800
    monkeypatch.delattr(Image, "open")

    with pytest.raises(WanValidationError, match=rf"{name}.*takes too long to be read.*as a JPEG"):
        fit_image(build(many), FitOptions(frame=0))


@pytest.mark.parametrize(
    "build", [build_png_of_chunks, build_jpeg_of_segments, build_gif_of_blocks, build_tiff_of_images]
)
def test_the_parts_of_a_file_that_is_cut_off_anywhere_are_counted(build: Callable[[int], bytes]) -> None:
    data = build(3)
    for length in [*range(200), *range(len(data) - 300, len(data))]:
        check_parts(data[:length], "source")


def build_icon(kind: str, image: bytes) -> bytes:
    if kind == "ICO":
        return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(image), 22) + image
    return struct.pack(">4sI4sI", b"icns", len(image) + 16, b"ic10", len(image) + 8) + image


@pytest.mark.parametrize("embedded", ["PNG", "JPEG2000"])
@pytest.mark.parametrize("kind", ["ICO", "ICNS"])
def test_an_icon_with_a_vast_image_is_refused_before_it_is_opened(
    kind: str, embedded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1024, 1024), "navy").save(buffer, embedded)
    image = buffer.getvalue()
    if (kind, embedded) != ("ICO", "JPEG2000"):
        assert fit_image(build_icon(kind, image)).info.width == 1024
    vast = image.replace(struct.pack(">II", 1024, 1024), struct.pack(">II", 13_300, 13_300))
    monkeypatch.delattr(Image, "open")

    with pytest.raises(WanValidationError, match=r"icon with an image of 13300×13300 pixels.*as a JPEG"):
        fit_image(build_icon(kind, vast))


# --- transparency ---------------------------------------------------------------------------------
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("fit", [Fit.RESIZE, Fit.PAD, Fit.CROP])
def test_a_transparent_webp_is_laid_on_white(fit: Fit, lossless: bool) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (500, 400), (200, 0, 0, 128)).save(buffer, "WEBP", lossless=lossless)

    fitted = fit_image(buffer.getvalue(), FitOptions(fit))

    assert not fitted.info.has_alpha
    pixel: Any = Image.open(io.BytesIO(fitted.data)).convert("RGB").getpixel((9, 9))
    assert max(abs(one - other) for one, other in zip(pixel, (227, 127, 127), strict=True)) <= 3


def test_a_webp_whose_alpha_is_opaque_is_passed_through() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (500, 400), (200, 0, 0, 255)).save(buffer, "WEBP", exact=True, lossless=True)

    assert fit_image(buffer.getvalue()).data == buffer.getvalue()

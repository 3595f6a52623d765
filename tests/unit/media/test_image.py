# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.image import check_image, inspect_image
from airflow_provider_wan.media.image_fit import fit_image
from dev.testkit.media_files import noise, picture


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def get_pixel(image: Image.Image, x: int, y: int) -> Any:
    return image.getpixel((x, y))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """Build a tiny PNG whose header has huge dimensions."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_each_type_of_the_contract_passes_and_is_recognized_by_its_bytes(kind: str) -> None:
    data = picture(640, 480, kind)

    info = check_image(data)

    assert (info.format, info.width, info.height, info.size) == (kind, 640, 480, len(data))
    assert info.content_type == f"image/{kind.lower()}"
    assert info.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [(360, 360), (2000, 2000), (360, 2000)])
def test_the_limits_themselves_are_allowed(size: tuple[int, int]) -> None:
    assert check_image(picture(*size)).width == size[0]


@pytest.mark.parametrize("size", [(359, 500), (500, 359), (2001, 500), (500, 2001)])
def test_one_pixel_beyond_a_limit_is_refused_with_the_remedy(size: tuple[int, int]) -> None:
    with pytest.raises(WanValidationError, match=rf"{size[0]}×{size[1]} pixels.*360 to 2000.*fit=\"resize\""):
        check_image(picture(*size), field="img_url")


def test_sides_too_unlike_are_refused_with_another_remedy_than_resizing() -> None:
    with pytest.raises(WanValidationError, match='fit="pad" or fit="crop"'):
        check_image(picture(100, 3000))
    with pytest.raises(WanValidationError, match=r"100×3000 pixels.*5\.56 times.*Crop or pad"):
        fit_image(picture(100, 3000))


def test_more_than_10_mb_is_refused_and_fitted() -> None:
    data = noise(1900, 1900, "PNG")
    assert len(data) > 10_000_000
    with pytest.raises(WanValidationError, match=rf"{len(data)} bytes.*10000000 bytes"):
        check_image(data)

    fitted = fit_image(data)

    assert (fitted.info.format, fitted.info.width) == ("JPEG", 1900)
    assert fitted.info.size <= 10_000_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_an_image_cut_off_anywhere_is_refused(kind: str) -> None:
    data = picture(400, 400, kind)
    cuts = {*range(0, len(data), max(1, len(data) // 40)), *range(len(data) - 16, len(data))}

    for length in sorted(cuts):
        for take in (check_image, fit_image):
            with pytest.raises(WanValidationError):
                take(data[:length])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"%PDF-1.7\n1 0 obj", "a PDF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "a HEIC"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "an AVIF"),
        (b"GIF89a\x01\x00\x01\x00", "a GIF"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"", "nothing"),
        (b"\xff\xd8\xff\xe0", "a broken JPEG"),
    ],
)
def test_what_is_no_image_of_the_contract_is_named(data: bytes, named: str) -> None:
    with pytest.raises(WanValidationError, match=named):
        inspect_image(data)


def test_a_png_with_alpha_is_refused_and_laid_on_white() -> None:
    data = saved(Image.new("RGBA", (400, 400), (255, 0, 0, 0)), "PNG")
    with pytest.raises(WanValidationError, match="PNG with alpha"):
        check_image(data)

    fitted = fit_image(data)

    assert (fitted.info.format, fitted.info.has_alpha) == ("PNG", False)
    assert get_pixel(opened(fitted.data), 9, 9) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour_counts_as_alpha() -> None:
    palette = Image.new("P", (400, 400), 0)
    palette.putpalette([10, 20, 30])
    data = saved(palette, "PNG", transparency=0)
    with pytest.raises(WanValidationError, match="PNG with alpha"):
        check_image(data)
    assert get_pixel(opened(fit_image(data).data), 9, 9) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused_however_it_is_fitted(kind: str) -> None:
    frames = [Image.new("RGB", (400, 400), colour) for colour in ("red", "green")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for take in (check_image, fit_image):
        with pytest.raises(WanValidationError, match=r"2 images.*one image"):
            take(data)


def test_of_a_cameras_double_picture_the_first_is_taken_when_fitting() -> None:
    frames = [Image.new("RGB", (400, 400), colour) for colour in ("red", "green")]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    with pytest.raises(WanValidationError, match='fit="resize"'):
        check_image(data)
    red, green, _ = get_pixel(opened(fit_image(data).data), 9, 9)
    assert red > 200 > 50 > green


@pytest.mark.parametrize("size", [(20_000, 20_000), (9_000, 9_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    for take in (check_image, fit_image):
        with pytest.raises(WanValidationError, match=r"80000000 pixels|360 to 2000"):
            take(png_that_claims(*size))


def test_a_good_image_is_passed_through_byte_by_byte() -> None:
    data = picture(640, 480)

    fitted = fit_image(data)

    assert fitted.data is data
    assert not fitted.changed
    assert fitted.source_sha256 == fitted.info.sha256


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (2000, 1500)),
        ((300, 400), (360, 480)),
        ((100, 500), (360, 1800)),
        ((8001, 1441), (2000, 360)),
        ((6000, 1080), (2000, 360)),
    ],
)
def test_scaling_goes_just_as_far_as_needed_and_keeps_the_aspect(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    fitted = fit_image(picture(*size))
    assert (fitted.info.width, fitted.info.height) == expected
    assert fitted.source_sha256 != fitted.info.sha256


def test_an_exif_orientation_is_turned_upright_and_location_is_left_behind() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    exif.get_ifd(0x8825)[1] = "N"
    left_half_white = Image.new("RGB", (800, 400), "black")
    left_half_white.paste("white", (0, 0, 400, 400))
    data = saved(left_half_white, "JPEG", exif=exif)
    assert check_image(data).orientation == 6

    fitted = fit_image(data)

    assert (fitted.info.width, fitted.info.height) == (400, 800)
    assert b"Exif" not in fitted.data
    image = opened(fitted.data)
    assert get_pixel(image, 200, 100) > (250, 250, 250)
    assert get_pixel(image, 200, 700) < (5, 5, 5)


def test_cmyk_becomes_rgb_of_the_same_colour() -> None:
    fitted = fit_image(saved(Image.new("CMYK", (400, 400), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = get_pixel(opened(fitted.data), 9, 9)
    assert red > 200 > 60 > max(green, blue)


def test_16_bit_grey_keeps_its_shades() -> None:
    image = Image.new("I;16", (400, 400), 32768)
    assert get_pixel(opened(fit_image(saved(image, "PNG")).data), 9, 9) == (127, 127, 127)


def test_the_colours_of_another_profile_are_converted_and_the_profile_is_left_behind() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red_is_blue = profile.replace(b"rXYZ", b"____").replace(b"bXYZ", b"rXYZ").replace(b"____", b"bXYZ")
    data = saved(Image.new("RGB", (3000, 2000), (200, 100, 50)), "PNG", icc_profile=red_is_blue)

    image = opened(fit_image(data).data)

    assert "icc_profile" not in image.info
    assert all(abs(a - b) <= 2 for a, b in zip(get_pixel(image, 9, 9), (50, 100, 200), strict=True))


def test_a_type_that_is_not_allowed_here_is_refused_and_fitted() -> None:
    data = picture(400, 400, "BMP")
    with pytest.raises(WanValidationError, match="must be JPEG or PNG here"):
        check_image(data, formats=("JPEG", "PNG"))
    assert fit_image(data, formats=("JPEG", "PNG")).info.format == "PNG"

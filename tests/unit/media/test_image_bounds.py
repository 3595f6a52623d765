# SPDX-License-Identifier: Apache-2.0
"""What needs too much time or memory is refused before it is decoded, with what it is and what to do."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageFile, features

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media import image as image_module
from airflow_provider_wan.media import image_fit
from airflow_provider_wan.media.image_fit import Fit, FitOptions, fit_image

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


def test_a_jpeg_2000_is_limited_by_the_resolution_that_is_decoded(
    monkeypatch: pytest.MonkeyPatch, decoded: list[object]
) -> None:
    buffer = io.BytesIO()
    source = Image.linear_gradient("L").resize((4200, 2200)).convert("RGB")
    source.save(buffer, "JPEG2000", num_resolutions=1)
    whole = buffer.getvalue()
    buffer = io.BytesIO()
    source.save(buffer, "JPEG2000", num_resolutions=2)
    monkeypatch.setattr(image_fit, "MAX_JPEG2000_PIXELS", 2100 * 1100)

    fitted = fit_image(buffer.getvalue())
    assert (fitted.info.width, fitted.info.height) == (2000, 1048)
    decoded.clear()
    with pytest.raises(
        WanValidationError, match=r"JPEG 2000 of 4200×2200 pixels without smaller resolutions.*as a JPEG"
    ):
        fit_image(whole)

    assert decoded == []


@pytest.mark.parametrize("kind", ["QOI", "DDS", "PPM"])
def test_what_pillow_decodes_in_python_has_a_lower_limit(kind: str, decoded: list[object]) -> None:
    if kind == "PPM":
        data = b"P6 2000 1300 1023\n" + bytes(6)
    else:
        buffer = io.BytesIO()
        Image.new("RGB", (2000, 1300)).save(buffer, kind)
        data = buffer.getvalue()

    with pytest.raises(
        WanValidationError, match=rf"{kind} of an encoding that is slow to read of 2000×1300.*as a JPEG"
    ):
        fit_image(data)

    assert decoded == []


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

# SPDX-License-Identifier: Apache-2.0
"""Adapt an image of any format to the API's rules: upright, in sRGB, without alpha, of an allowed size and type."""

from __future__ import annotations

import hashlib
import io
import math
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from typing import Any, cast

from PIL import Image, ImageChops, ImageCms, ImageColor, ImageFilter, ImageOps

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.image import (
    CONTENT_TYPES,
    MAX_IMAGE_BYTES,
    MAX_SIDE,
    MAX_SOURCE_BYTES,
    MIN_SIDE,
    ImageInfo,
    OpenImage,
    can_scale,
    compute_target_size,
    decode_image,
    find_violation,
    format_size,
    inspect_image,
    open_image,
)

BLUR = "blur"
#: Maximum number of pixels of a JPEG 2000, at the resolution that is decoded.
MAX_JPEG2000_PIXELS = 16_000_000
_MAX_JPEG2000_BYTES = 20_000_000
_PLAIN_MODES = frozenset({"RGB", "L", "P", "1"})
_LOSSY_FORMATS = frozenset({"AVIF", "HEIF", "JPEG", "JPEG2000", "WEBP"})
_QUALITIES = (95, 90, 85, 75, 60, 40)
_STRIP_PIXELS = 2_000_000
_BLUR_RADIUS = 24
# Markers of a JPEG 2000.
_CODING_STYLE, _TILE_PART = 0xFF52, 0xFF90
# How far two colours may differ that are taken for the same.
_SAME_COLOUR = 2
_MODE_BY_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


class Fit(StrEnum):
    """What to do with an image that violates a rule."""

    ERROR = "error"
    """Refuse it."""
    RESIZE = "resize"
    """Adapt it, with its aspect ratio preserved."""
    PAD = "pad"
    """Adapt it, and pad it if its aspect ratio is too extreme."""
    CROP = "crop"
    """Adapt it, and crop it if its aspect ratio is too extreme."""


class CropAnchor(StrEnum):
    """Which part of an image is retained when it is cropped."""

    CENTER = "center"
    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


@dataclass(frozen=True)
class FitOptions:
    """How images are adapted.

    :param fit: what to do with an image that violates a rule.
    :param pad_fill: what padding shows: ``blur``, the blurred image; or a colour, such as ``black`` or ``#1a2b3c``.
    :param crop_anchor: what is retained when cropping: ``center``, ``left``, ``right``, ``top`` or ``bottom``.
    :param frame: index of the image to take of a file with several, from 0; None: such a file is refused.
    :raises WanValidationError: if an option is invalid.
    """

    fit: Fit = Fit.RESIZE
    pad_fill: str = BLUR
    crop_anchor: str = CropAnchor.CENTER
    frame: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.fit, str) or self.fit not in tuple(Fit):
            raise WanValidationError("fit", self.fit, f"must be one of {', '.join(Fit)}")
        if not isinstance(self.crop_anchor, str) or self.crop_anchor not in tuple(CropAnchor):
            raise WanValidationError("crop_anchor", self.crop_anchor, f"must be one of {', '.join(CropAnchor)}")
        if self.pad_fill != BLUR:
            try:
                ImageColor.getrgb(self.pad_fill)
            except (ValueError, AttributeError, TypeError):
                rule = "must be 'blur' or a colour such as 'black' or '#1a2b3c'"
                raise WanValidationError("pad_fill", self.pad_fill, rule) from None
        valid = self.frame is None or (isinstance(self.frame, int) and not isinstance(self.frame, bool))
        if not valid or (self.frame or 0) < 0:
            raise WanValidationError("frame", self.frame, "must be an index from 0, or None")


@dataclass(frozen=True)
class FittedImage:
    """An image that the API accepts.

    :param data: its bytes; those of the source if ``changed`` is false.
    :param info: properties of ``data``.
    :param changed: whether it was re-encoded.
    :param source_sha256: hash of the source's bytes, and of the frame, padding or crop if there is one: it identifies
        the picture. Unlike the hash of the result, it does not depend on Pillow's version.
    """

    data: bytes
    info: ImageInfo
    changed: bool
    source_sha256: str


def fit_image(
    data: bytes,
    options: FitOptions = FitOptions(),  # immutable
    *,
    field: str = "img_url",
    formats: Collection[str] = CONTENT_TYPES,
) -> FittedImage:
    """Adapt an image to the API's rules, if necessary.

    An image that satisfies them, is upright and has plain 8-bit pixels in sRGB is returned unchanged. Any other is
    turned upright by its EXIF orientation, converted to sRGB, flattened onto white if it is transparent, scaled as
    little as necessary, padded or cropped if its aspect ratio is too extreme, and encoded without metadata: as PNG if
    the source is lossless and the result is below 10 MB, else as JPEG.

    :param data: the whole file, of at most :data:`~airflow_provider_wan.media.image.MAX_SOURCE_BYTES`.
    :param options: how it is adapted.
    :param field: name of the argument, for the error.
    :param formats: allowed types of the result; JPEG must be among them.
    :raises WanValidationError: if it cannot be adapted.
    """
    if len(data) > MAX_SOURCE_BYTES:
        raise WanValidationError(field, f"{len(data)} bytes", f"at most {MAX_SOURCE_BYTES} bytes can be adapted")
    opened = open_image(data, field, any_format=True, frame=options.frame)
    info = opened.info
    if info.frames > 1 and options.frame is None and info.format != "JPEG":
        remedy = "Set frame to the index of the one to take, from 0"
        raise WanValidationError(field, f"{info.format} of {info.frames} images", "must be one image", remedy)
    upright = (info.height, info.width) if info.orientation >= 5 else (info.width, info.height)
    layout = _plan_layout(*upright, options)
    if layout is None:
        rule = f"one side may be at most {MAX_SIDE / MIN_SIDE:.2f} times the other"
        remedy = 'Crop or pad it first, or set fit="pad" or fit="crop"'
        raise WanValidationError(field, format_size(info), rule, remedy)
    if _is_acceptable(opened, formats):
        decode_image(opened, data, field)
        if opened.image.mode != "RGBA" or opened.image.getchannel("A").getextrema() == (255, 255):
            return FittedImage(data, info, changed=False, source_sha256=info.sha256)
    if info.frames > 1 and options.frame is not None:
        layout = replace(layout, variant=f"frame:{options.frame} {layout.variant}".strip())
    _decode_reduced(opened, data, field, layout)
    turned = _turn_upright(
        _convert(opened, data, _reduction(opened.image.size, layout, info.orientation), field), opened
    )
    fitted = _encode(layout.apply(turned), info, formats, field)
    source = info.sha256 if not layout.variant else _hash_variant(info.sha256, layout.variant)
    return FittedImage(fitted, inspect_image(fitted, field=field), changed=True, source_sha256=source)


def _hash_variant(sha256: str, variant: str) -> str:
    return hashlib.sha256(f"{sha256} {variant}".encode()).hexdigest()


def _is_acceptable(opened: OpenImage, formats: Collection[str]) -> bool:
    """Return whether the file needs no change."""
    info = opened.info
    modes = _PLAIN_MODES | ({"RGBA"} if info.format == "WEBP" else set())  # its transparency is found when decoding
    is_plain = info.orientation == 1 and info.mode in modes and info.frames == 1
    return is_plain and find_violation(info, formats) is None and _build_transform(opened) is None


# --- size ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Layout:
    """How an upright image is brought to its size.

    :param crop: part of the image that is retained, in fractions of its sides.
    :param size: the size of that part in the result.
    :param canvas: the size of the result.
    :param fill: what padding shows.
    :param variant: name of what is done besides scaling.
    """

    crop: tuple[float, float, float, float]
    size: tuple[int, int]
    canvas: tuple[int, int]
    fill: str = ""
    variant: str = ""

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the image in its final size.

        :param image: the upright image, in any size.
        """
        width, height = image.size
        box = (self.crop[0] * width, self.crop[1] * height, self.crop[2] * width, self.crop[3] * height)
        whole = box == (0, 0, width, height)
        if not whole or image.size != self.size:
            scaled = image.resize(self.size, Image.Resampling.LANCZOS, box=box)
        else:
            scaled = image
        if self.canvas == self.size:
            return scaled
        if self.fill == BLUR:
            padded = ImageOps.fit(scaled, self.canvas, Image.Resampling.BILINEAR)
            padded = padded.filter(ImageFilter.GaussianBlur(_BLUR_RADIUS))
        else:
            padded = Image.new("RGB", self.canvas, ImageColor.getrgb(self.fill)[:3])
        padded.paste(scaled, ((self.canvas[0] - self.size[0]) // 2, (self.canvas[1] - self.size[1]) // 2))
        return padded


_WHOLE = (0.0, 0.0, 1.0, 1.0)


def _plan_layout(width: int, height: int, options: FitOptions) -> _Layout | None:
    """Return the layout of an upright image; None if it cannot be scaled, and may not be padded or cropped."""
    if can_scale(width, height):
        size = compute_target_size(width, height)
        return _Layout(_WHOLE, size, size)
    long, short = max(width, height), min(width, height)
    if options.fit == Fit.PAD:
        scaled = max(1, round(short * MAX_SIDE / long))
        size, canvas = (MAX_SIDE, scaled), (MAX_SIDE, MIN_SIDE)
        if height > width:
            size, canvas = size[::-1], canvas[::-1]
        return _Layout(_WHOLE, size, canvas, options.pad_fill, f"pad:{options.pad_fill}")
    if options.fit != Fit.CROP:
        return None
    retained = short * MAX_SIDE // MIN_SIDE
    share = retained / long
    start = {"left": 0.0, "top": 0.0, "right": 1 - share, "bottom": 1 - share}
    is_wide = width > height
    relevant = ("left", "right") if is_wide else ("top", "bottom")
    offset = start[options.crop_anchor] if options.crop_anchor in relevant else (1 - share) / 2
    crop = (offset, 0.0, offset + share, 1.0) if is_wide else (0.0, offset, 1.0, offset + share)
    size = compute_target_size(retained, short) if is_wide else compute_target_size(short, retained)
    return _Layout(crop, size, size, variant=f"crop:{options.crop_anchor}")


def _stored_size(layout: _Layout, orientation: int) -> tuple[float, float]:
    """Return the size of the whole stored image at the scale of the result."""
    width = layout.size[0] / (layout.crop[2] - layout.crop[0])
    height = layout.size[1] / (layout.crop[3] - layout.crop[1])
    return (height, width) if orientation >= 5 else (width, height)


def _reduction(size: tuple[int, int], layout: _Layout, orientation: int) -> int:
    """Return by which factor an image can be averaged before it is scaled, without a visible difference."""
    needed = _stored_size(layout, orientation)
    return max(1, math.floor(min(size[0] / needed[0], size[1] / needed[1]) / 2))


def _decode_reduced(opened: OpenImage, data: bytes, field: str, layout: _Layout) -> None:
    """Decode an image, at a fraction of its size where its format allows that."""
    image, info = opened.image, opened.info
    width, height = _stored_size(layout, info.orientation)
    if info.format == "JPEG":
        # The result is never below the given size.
        mode = "RGB" if info.mode in ("RGB", "YCbCr") else info.mode
        image.draft(mode, (math.ceil(width), math.ceil(height)))
    elif info.format == "JPEG2000":
        useful = math.floor(math.log2(max(1.0, min(info.width / width, info.height / height))))
        levels = min(useful, _read_resolution_levels(data))
        pixels, size = info.width * info.height >> 2 * levels, len(data) >> 2 * levels
        if pixels > MAX_JPEG2000_PIXELS or size > _MAX_JPEG2000_BYTES:
            value = f"JPEG 2000 without smaller resolutions, of {format_size(info)} and {len(data)} bytes"
            rule = f"at most {MAX_JPEG2000_PIXELS} pixels and {_MAX_JPEG2000_BYTES} bytes of it are decoded"
            raise WanValidationError(field, value, rule, "Save it with fewer pixels, as a JPEG")
        any_image: Any = image
        any_image.reduce = levels
    decode_image(opened, data, field)


def _read_resolution_levels(data: bytes) -> int:
    """Return how many times a JPEG 2000 can be halved while decoding, from its main header."""
    at, marker = data.find(b"\xff\x4f\xff\x51") + 2, 0
    while at + 10 <= len(data) and marker != _TILE_PART:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _CODING_STYLE:
            return data[at + 9]
        at += 2 + length
    return 0


def _turn_upright(image: Image.Image, opened: OpenImage) -> Image.Image:
    transpose = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(opened.info.orientation)
    return image if transpose is None else image.transpose(transpose)


# --- colour -------------------------------------------------------------------------------------
def _convert(opened: OpenImage, data: bytes, factor: int, field: str) -> Image.Image:
    """Return the pixels in sRGB, with 8 bits per channel and without alpha, averaged by a factor.

    It works on strips: at no time there is a second image of the full size.
    """
    image = opened.image
    width, height = image.size
    to_8_bits, transform = _build_depth_conversion(opened, field), _build_transform(opened)
    build_alpha = _build_alpha(opened, data, field)
    converted = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
    rows = factor * max(1, _STRIP_PIXELS // (width * factor))
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        part = image.crop(box)
        strip = to_8_bits(part)
        if build_alpha is not None:
            strip.putalpha(build_alpha(part, box))
        strip = _flatten(strip)
        strip = transform(strip) if transform is not None else _to_rgb(strip)
        # Image.reduce: JPEG 2000 has an attribute of that name.
        converted.paste(strip if factor == 1 else strip.reduce(factor), (0, top // factor))
    return converted


def _build_alpha(
    opened: OpenImage, data: bytes, field: str
) -> Callable[[Image.Image, tuple[int, int, int, int]], Image.Image] | None:
    """Return what computes the alpha of a part of a PNG; None if Pillow does so.

    The file has its transparent colour in its own levels, and Pillow compares it with levels that are scaled to 8 bits.
    Of an animation in 16-bit colours it stays so: Pillow composes its frames in 8 bits.
    """
    image, depth = opened.image, opened.depth
    colour: Any = image.info.get("transparency")
    if opened.info.format != "PNG" or colour is None or depth not in (2, 4, 16) or image.mode == "P":
        return None
    if image.mode == "RGB":
        if opened.info.frames > 1:
            return None
        low = _decode_low_bytes(data, field)
        levels = [level for value in colour for level in divmod(value, 256)]

        def compare(part: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
            bands = zip(part.split(), low.crop(box).split(), strict=True)
            equal = map(_find_level, (band for pair in bands for band in pair), levels)
            return ImageChops.invert(reduce(ImageChops.darker, equal))

        return compare
    highest = 255 if image.mode == "L" else 65535
    alpha = [255] * (highest + 1)
    alpha[colour * highest // ((1 << depth) - 1) & highest] = 0
    return lambda part, box: (part if part.mode == "L" else part.convert("I")).point(alpha, "L")


def _decode_low_bytes(data: bytes, field: str) -> Image.Image:
    """Decode the lower bytes of a PNG of 16 bits per channel: Pillow decodes the higher ones."""
    image: Any = open_image(data, field, any_format=True).image
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return cast("Image.Image", image)


def _find_level(band: Image.Image, level: int) -> Image.Image:
    """Return 255 where a channel has a level, else 0."""
    return band.point([255 if each == level else 0 for each in range(256)])


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image laid on white, if it is transparent."""
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data and image.mode not in ("RGBa",):
        return image
    is_grey = image.mode == "LA"
    with_alpha = image.convert("RGBA")
    white = Image.new("RGBA", with_alpha.size, "white")
    flat = Image.alpha_composite(white, with_alpha)
    return flat.convert("L" if is_grey else "RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _apply(_make_transform(lab, "LAB"), image)
    return image.convert("RGB")


def _build_depth_conversion(opened: OpenImage, field: str) -> Callable[[Image.Image], Image.Image]:
    """Return what converts pixels of more than 8 bits to 8 bits.

    :raises WanValidationError: if the range of the values is not known.
    """
    image, mode = opened.image, opened.image.mode
    if not mode.startswith("I") and mode != "F":
        return lambda strip: strip
    if mode.startswith("I;16") or opened.depth is not None:
        scale = 255 / ((1 << (opened.depth or 16)) - 1)
        return lambda strip: _scale_levels(strip, scale)
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    limits = {"F": ((1.0, 255.0), (255.0, 1.0)), "I": ((255.0, 1.0), (65535.0, 1 / 257))}[mode]
    for limit, scale in limits:
        if low >= 0 and high <= limit:
            return lambda strip: _scale_levels(strip, scale)
    rule = "has pixels of an unknown range: 32-bit values must be from 0 to 1, 0 to 255 or 0 to 65535"
    raise WanValidationError(field, f"values from {low:g} to {high:g}", rule, "Convert it to 8 bits first")


def _scale_levels(image: Image.Image, scale: float) -> Image.Image:
    return image.convert("F").point(lambda level: level * scale).convert("L")


def _build_transform(opened: OpenImage) -> Callable[[Image.Image], Image.Image] | None:
    """Return what converts the colours to sRGB; None if there is no usable profile, or it is sRGB's."""
    if not opened.profile:
        return None
    mode = opened.info.mode
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.profile))
        source = _MODE_BY_SPACE[profile.profile.xcolor_space.strip()]
        is_grey, is_cmyk = mode in _GREY_MODES, mode == "CMYK"
        if (source == "L") != is_grey or (source == "CMYK") != is_cmyk or mode in ("LAB", "HSV"):
            return None
        transform = _make_transform(profile, source)
        if source != "CMYK" and _changes_nothing(transform, source):
            return None
    except Exception:  # a broken or unsuitable profile: the colours stay as they are
        return None
    return lambda image: _apply(transform, image if image.mode == source else image.convert(source))


def _make_transform(profile: Any, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    return image.convert("RGB") if converted is None else converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = (0, 51, 102, 153, 204, 255)
    if mode == "L":
        sample = Image.frombytes("L", (6, 1), bytes(steps))
    else:
        colours = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
        sample = Image.frombytes("RGB", (216, 1), colours)
    before, after = sample.convert("RGB").tobytes(), _apply(transform, sample).tobytes()
    return max(abs(one - other) for one, other in zip(before, after, strict=True)) <= _SAME_COLOUR


# --- encoding -----------------------------------------------------------------------------------
def _encode(image: Image.Image, source: ImageInfo, formats: Collection[str], field: str) -> bytes:
    if source.format not in _LOSSY_FORMATS and "PNG" in formats:
        encoded = _save(image, "PNG")
        if len(encoded) <= MAX_IMAGE_BYTES:
            return encoded
    for quality in _QUALITIES:
        encoded = _save(image, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        if len(encoded) <= MAX_IMAGE_BYTES:
            return encoded
    raise WanValidationError(field, f"{len(encoded)} bytes as JPEG", f"at most {MAX_IMAGE_BYTES} bytes")


def _save(image: Image.Image, image_format: str, **options: Any) -> bytes:
    # Only the pixels are copied, not what Pillow stores with them (EXIF, ICC, comments).
    copied = Image.new("RGB", image.size)
    copied.paste(image)
    buffer = io.BytesIO()
    copied.save(buffer, image_format, **options)
    return buffer.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""Validate images against the API's rules, and adapt them.

The rules: 360 to 2000 pixels on each side, at most 10 MB, one image; JPEG, PNG without alpha, BMP or WEBP. The type is
read from the bytes, never from a name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageCms, ImageOps

from airflow_provider_wan.api.errors import WanValidationError

MIN_SIDE = 360
MAX_SIDE = 2000
#: Bytes. "10 MB" is interpreted as the smaller value: an image that is refused here costs nothing.
MAX_IMAGE_BYTES = 10_000_000
#: Maximum size in bytes of a source that :func:`fit_image` accepts.
MAX_SOURCE_BYTES = 64_000_000
#: Maximum number of pixels that :func:`fit_image` decodes. Pillow itself only warns above 89 million.
MAX_SOURCE_PIXELS = 80_000_000

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp"}

_RULE_FORMAT = "must be a JPEG, a PNG without alpha, a BMP or a WEBP"
_RULE_SIDES = f"each side must have {MIN_SIDE} to {MAX_SIDE} pixels"
_RESIZE = 'Set fit="resize" to have it adapted'
_PLAIN_MODES = frozenset({"RGB", "L", "P", "1"})
_QUALITIES = (95, 90, 85, 75, 60, 40)
_ORIENTATION = 0x0112
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class ImageInfo:
    """Properties in the header of an image.

    :param format: ``JPEG``, ``PNG``, ``BMP`` or ``WEBP``.
    :param content_type: its media type.
    :param width: width in pixels as stored, before any EXIF orientation.
    :param height: height in pixels, likewise.
    :param has_alpha: whether it has an alpha channel or a transparent colour.
    :param size: size in bytes.
    :param sha256: hexadecimal hash of the bytes.
    :param frames: number of images in the file.
    :param orientation: EXIF orientation, 1 when upright.
    :param mode: Pillow's name of the pixel format.
    """

    format: str
    content_type: str
    width: int
    height: int
    has_alpha: bool
    size: int
    sha256: str
    frames: int = 1
    orientation: int = 1
    mode: str = "RGB"

    @property
    def extension(self) -> str:
        """The usual file name extension, without a dot."""
        return EXTENSIONS[self.format]


@dataclass(frozen=True)
class FittedImage:
    """An image that the API accepts.

    :param data: its bytes; those of the source if ``changed`` is false.
    :param info: properties of ``data``.
    :param changed: whether it was re-encoded.
    :param source_sha256: hash of the source's bytes. Unlike that of the result, it does not depend on Pillow's
        version.
    """

    data: bytes
    info: ImageInfo
    changed: bool
    source_sha256: str


def inspect_image(data: bytes, *, field: str = "img_url") -> ImageInfo:
    """Read the header, without decoding the pixels.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :raises WanValidationError: if it is not an image of a type that the API accepts.
    """
    with _open_image(data, field) as image:
        return _build_info(image, data)


def check_image(data: bytes, *, field: str = "img_url", formats: Collection[str] = CONTENT_TYPES) -> ImageInfo:
    """Validate an image against the API's rules, and decode it once to check that it is complete.

    An EXIF orientation is allowed: the API gets the bytes unchanged, and both sides have the same limits.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :param formats: allowed types, among those of :data:`CONTENT_TYPES`.
    :raises WanValidationError: if it violates a rule.
    """
    with _open_image(data, field) as image:
        info = _build_info(image, data)
        _refuse_frames(info, field)
        if violation := _find_violation(info, formats):
            value, rule = violation
            remedy = _RESIZE if _can_scale(info) else "Crop or pad it first: its sides are too unlike"
            raise WanValidationError(field, value, rule, remedy)
        _decode(image, info, data, field)
        return info


def fit_image(data: bytes, *, field: str = "img_url", formats: Collection[str] = CONTENT_TYPES) -> FittedImage:
    """Adapt an image to the API's rules, if necessary.

    An image that satisfies them, is upright and has plain 8-bit pixels is returned unchanged. Any other is turned
    upright by its EXIF orientation, converted to sRGB, flattened onto white if it is transparent, scaled as little as
    necessary with its aspect ratio preserved, and encoded without metadata: as PNG if the source is lossless (PNG, BMP)
    and the result is below 10 MB, else as JPEG.

    :param data: the whole file, of at most :data:`MAX_SOURCE_BYTES`.
    :param field: name of the argument, for the error.
    :param formats: allowed types of the result; JPEG must be among them.
    :raises WanValidationError: if it cannot be adapted (sides too different, animated, broken, too many pixels).
    """
    if len(data) > MAX_SOURCE_BYTES:
        raise WanValidationError(field, f"{len(data)} bytes", f"at most {MAX_SOURCE_BYTES} bytes can be adapted")
    with _open_image(data, field) as image:
        info = _build_info(image, data)
        if info.width * info.height > MAX_SOURCE_PIXELS:
            raise WanValidationError(
                field, _format_size(info), f"at most {MAX_SOURCE_PIXELS} pixels are decoded", "Scale it down first"
            )
        _refuse_frames(info, field, first_suffices=True)
        if not _can_scale(info):
            rule = f"one side may be at most {MAX_SIDE / MIN_SIDE:.2f} times the other"
            raise WanValidationError(field, _format_size(info), rule, "Crop or pad it first")
        is_plain = info.orientation == 1 and info.mode in _PLAIN_MODES | ({"RGBA"} if info.format == "WEBP" else set())
        if is_plain and info.frames == 1 and _find_violation(info, formats) is None:
            _decode(image, info, data, field)
            return FittedImage(data, info, changed=False, source_sha256=info.sha256)
        # Only JPEG can be decoded at a half, a quarter or an eighth; the result is never below the given size.
        image.draft("RGB" if info.mode in ("RGB", "YCbCr") else info.mode, (MAX_SIDE, MAX_SIDE))
        _decode(image, info, data, field)
        size = _compute_target_size(info.width, info.height)
        target_size = size[::-1] if info.orientation >= 5 else size
        fitted = _encode(_scale(_flatten(_turn_upright(image)), target_size), info, formats, field)
    return FittedImage(fitted, inspect_image(fitted, field=field), changed=True, source_sha256=info.sha256)


def _open_image(data: bytes, field: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=tuple(CONTENT_TYPES))
    except Image.DecompressionBombError:
        rule = f"at most {MAX_SOURCE_PIXELS} pixels are decoded"
        raise WanValidationError(field, f"{len(data)} bytes that unpack to a vast image", rule) from None
    except Exception:
        # Pillow's plugins raise errors of many types for bytes of other formats.
        description = _describe_content(data)
        if description.startswith(_BROKEN):
            raise WanValidationError(field, description, "is broken or cut off", "Provide the whole file") from None
        remedy = "Convert it first; the name's extension is not looked at" if data else "The source is empty"
        raise WanValidationError(field, description, _RULE_FORMAT, remedy) from None


def _build_info(image: Image.Image, data: bytes) -> ImageInfo:
    # A camera's JPEG that is followed by a second image (MPO) is a JPEG to all who read only the first.
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is not a reason to refuse an image
        orientation = 1
    return ImageInfo(
        format=image_format,
        content_type=CONTENT_TYPES[image_format],
        width=image.width,
        height=image.height,
        has_alpha=image.has_transparency_data,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        frames=int(getattr(image, "n_frames", 1)),
        orientation=orientation if orientation in range(1, 9) else 1,
        mode=image.mode,
    )


def _find_violation(info: ImageInfo, formats: Collection[str]) -> tuple[str, str] | None:
    """Return the first rule that is violated, with the value that violates it."""
    if info.format not in formats:
        return info.format, f"must be {' or '.join(formats)} here"
    if not (MIN_SIDE <= info.width <= MAX_SIDE and MIN_SIDE <= info.height <= MAX_SIDE):
        return _format_size(info), _RULE_SIDES
    if info.format == "PNG" and info.has_alpha:
        return "PNG with alpha", _RULE_FORMAT
    if info.size > MAX_IMAGE_BYTES:
        return f"{info.size} bytes", f"at most {MAX_IMAGE_BYTES} bytes"
    return None


def _refuse_frames(info: ImageInfo, field: str, *, first_suffices: bool = False) -> None:
    if info.frames == 1 or (first_suffices and info.format == "JPEG"):
        return
    remedy = _RESIZE if info.format == "JPEG" else "Choose one frame of it and save that"
    raise WanValidationError(field, f"{info.format} of {info.frames} images", "must be one image", remedy)


def _decode(image: Image.Image, info: ImageInfo, data: bytes, field: str) -> None:
    try:
        image.load()
        if info.format == "PNG" and _PNG_END not in data[-4096:]:
            raise OSError("its end is missing")  # Pillow accepts such a file, others do not
    except Exception as error:
        value = f"{info.format}, {_format_size(info)}, {info.size} bytes"
        raise WanValidationError(field, value, f"is broken or cut off ({error})", "Provide the whole file") from None


def _can_scale(info: ImageInfo) -> bool:
    width, height = _compute_target_size(info.width, info.height)
    return min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE


def _compute_target_size(width: int, height: int) -> tuple[int, int]:
    """Return the nearest size within the limits; one outside of them if there is none."""
    if max(width, height) > MAX_SIDE:
        scale = MAX_SIDE / max(width, height)
    elif min(width, height) < MIN_SIDE:
        scale = MIN_SIDE / min(width, height)
    else:
        return width, height
    return round(width * scale), round(height * scale)


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are valid, the tag is not
        return image


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image in sRGB, with 8 bits per channel and without alpha."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = image.convert("F").point(lambda level: level / 257).convert("L")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        image = Image.alpha_composite(white, with_alpha).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        with contextlib.suppress(Exception):  # a broken or unsuitable profile: the colours stay as they are
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")


def _scale(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _encode(image: Image.Image, source: ImageInfo, formats: Collection[str], field: str) -> bytes:
    if source.format in ("PNG", "BMP") and "PNG" in formats:
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


def _format_size(info: ImageInfo) -> str:
    return f"{info.width}×{info.height} pixels"


_BROKEN = "a broken "
_SIGNATURES = (
    (0, b"%PDF", "a PDF"),
    (0, b"GIF8", "a GIF"),
    (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"),
    (0, b"\x00\x00\x01\x00", "an ICO"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"<svg", "an SVG"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (4, b"ftypheic", "a HEIC"),
    (4, b"ftypheix", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\xd8\xff", _BROKEN + "JPEG"),
    (0, b"\x89PNG", _BROKEN + "PNG"),
    (0, b"BM", _BROKEN + "BMP"),
    (8, b"WEBP", _BROKEN + "WEBP"),
)


def _describe_content(data: bytes) -> str:
    """Describe what the bytes seem to be, for an error."""
    head = data[:512]
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith((b"<?xml", b"<svg")):
        return "an XML or SVG text"
    if not data:
        return "nothing"
    return f"{len(data)} bytes of an unknown type, beginning with {head[:8].hex()}"

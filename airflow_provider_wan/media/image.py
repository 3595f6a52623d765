# SPDX-License-Identifier: Apache-2.0
"""Is this an image that the API takes? And if not, make it one.

The rules are the API's: 360 to 2000 pixels on each side, at most 10 MB, one image; JPEG, PNG without
alpha, BMP or WEBP. The type is read from the bytes, never from a name.
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
#: Bytes. "10 MB" is read in its smaller meaning: an image that is refused here costs nothing.
MAX_IMAGE_BYTES = 10_000_000
#: Bytes of a source that :func:`fit_image` takes.
MAX_SOURCE_BYTES = 64_000_000
#: Pixels that :func:`fit_image` is willing to decode. Pillow itself only warns above 89 million.
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
    """What the header of an image says.

    :param format: ``JPEG``, ``PNG``, ``BMP`` or ``WEBP``.
    :param content_type: its media type.
    :param width: pixels as stored, before any EXIF orientation; likewise ``height``.
    :param has_alpha: whether it has an alpha channel or a transparent colour.
    :param size: bytes.
    :param sha256: hexadecimal hash of the bytes.
    :param frames: number of images within.
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
    """An image that the API takes.

    :param data: its bytes; those of the source when ``changed`` is false.
    :param info: of ``data``.
    :param changed: whether it had to be encoded anew.
    :param source_sha256: hash of the source's bytes. Unlike that of the result, it does not change with
        Pillow's version.
    """

    data: bytes
    info: ImageInfo
    changed: bool
    source_sha256: str


def inspect_image(data: bytes, *, field: str = "img_url") -> ImageInfo:
    """Read the header, without decoding the pixels.

    :param data: the whole file.
    :param field: the name that an error shall carry.
    :raises WanValidationError: when it is no image of a type that the API takes.
    """
    with _opened(data, field) as image:
        return _info(image, data)


def check_image(data: bytes, *, field: str = "img_url", formats: Collection[str] = CONTENT_TYPES) -> ImageInfo:
    """Hold an image against the API's rules, and decode it once to know that it is whole.

    An EXIF orientation is no fault: the API gets the bytes as they are, and both sides have the same limits.

    :param data: the whole file.
    :param field: the name that an error shall carry.
    :param formats: the types that are allowed here, among those of :data:`CONTENT_TYPES`.
    :raises WanValidationError: naming the field, the value, the rule, and the remedy.
    """
    with _opened(data, field) as image:
        info = _info(image, data)
        _refuse_frames(info, field)
        if fault := _fault(info, formats):
            value, rule = fault
            remedy = _RESIZE if _can_scale(info) else "Crop or pad it first: its sides are too unlike"
            raise WanValidationError(field, value, rule, remedy)
        _decode(image, info, data, field)
        return info


def fit_image(data: bytes, *, field: str = "img_url", formats: Collection[str] = CONTENT_TYPES) -> FittedImage:
    """Adapt an image to the API's rules, where it needs that.

    One that satisfies them, is upright and has plain 8-bit pixels is passed through, byte by byte. Any other is turned
    upright by its EXIF orientation, converted to sRGB, laid on white where it is transparent, scaled just as far as
    needed with its aspect kept, and encoded without metadata: as PNG when it came without loss (PNG, BMP) and stays
    under 10 MB, else as JPEG.

    :param data: the whole file, of at most :data:`MAX_SOURCE_BYTES`.
    :param field: the name that an error shall carry.
    :param formats: the types that the result may have; JPEG must be among them.
    :raises WanValidationError: when no scaling helps (sides too unlike, animated, broken, too many pixels).
    """
    if len(data) > MAX_SOURCE_BYTES:
        raise WanValidationError(field, f"{len(data)} bytes", f"at most {MAX_SOURCE_BYTES} bytes can be adapted")
    with _opened(data, field) as image:
        info = _info(image, data)
        if info.width * info.height > MAX_SOURCE_PIXELS:
            raise WanValidationError(
                field, _pixels(info), f"at most {MAX_SOURCE_PIXELS} pixels are decoded", "Scale it down first"
            )
        _refuse_frames(info, field, primary_will_do=True)
        if not _can_scale(info):
            rule = f"one side may be at most {MAX_SIDE / MIN_SIDE:.2f} times the other"
            raise WanValidationError(field, _pixels(info), rule, "Crop or pad it first")
        is_plain = info.orientation == 1 and info.mode in _PLAIN_MODES | ({"RGBA"} if info.format == "WEBP" else set())
        if is_plain and info.frames == 1 and _fault(info, formats) is None:
            _decode(image, info, data, field)
            return FittedImage(data, info, changed=False, source_sha256=info.sha256)
        # JPEG alone can be decoded at a half, a quarter or an eighth; never below what is asked for here.
        image.draft("RGB" if info.mode in ("RGB", "YCbCr") else info.mode, (MAX_SIDE, MAX_SIDE))
        _decode(image, info, data, field)
        size = _target(info.width, info.height)
        turned = size[::-1] if info.orientation >= 5 else size
        fitted = _encode(_scaled(_flattened(_upright(image)), turned), info, formats, field)
    return FittedImage(fitted, inspect_image(fitted, field=field), changed=True, source_sha256=info.sha256)


def _opened(data: bytes, field: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=tuple(CONTENT_TYPES))
    except Image.DecompressionBombError:
        rule = f"at most {MAX_SOURCE_PIXELS} pixels are decoded"
        raise WanValidationError(field, f"{len(data)} bytes that unpack to a vast image", rule) from None
    except Exception:
        # Pillow's plugins raise errors of many types on bytes that are not theirs.
        nature = _nature(data)
        if nature.startswith(_BROKEN):
            raise WanValidationError(field, nature, "is broken or cut off", "Provide the whole file") from None
        remedy = "Convert it first; the name's extension is not looked at" if data else "The source is empty"
        raise WanValidationError(field, nature, _RULE_FORMAT, remedy) from None


def _info(image: Image.Image, data: bytes) -> ImageInfo:
    # A camera's JPEG with a second picture behind it (MPO) is a JPEG to whoever reads the first.
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is no reason to refuse a picture
        orientation = 1
    return ImageInfo(
        format=kind,
        content_type=CONTENT_TYPES[kind],
        width=image.width,
        height=image.height,
        has_alpha=image.has_transparency_data,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        frames=int(getattr(image, "n_frames", 1)),
        orientation=orientation if orientation in range(1, 9) else 1,
        mode=image.mode,
    )


def _fault(info: ImageInfo, formats: Collection[str]) -> tuple[str, str] | None:
    """The first rule that is broken, with the value that breaks it."""
    if info.format not in formats:
        return info.format, f"must be {' or '.join(formats)} here"
    if not (MIN_SIDE <= info.width <= MAX_SIDE and MIN_SIDE <= info.height <= MAX_SIDE):
        return _pixels(info), _RULE_SIDES
    if info.format == "PNG" and info.has_alpha:
        return "PNG with alpha", _RULE_FORMAT
    if info.size > MAX_IMAGE_BYTES:
        return f"{info.size} bytes", f"at most {MAX_IMAGE_BYTES} bytes"
    return None


def _refuse_frames(info: ImageInfo, field: str, *, primary_will_do: bool = False) -> None:
    if info.frames == 1 or (primary_will_do and info.format == "JPEG"):
        return
    remedy = _RESIZE if info.format == "JPEG" else "Choose one frame of it and save that"
    raise WanValidationError(field, f"{info.format} of {info.frames} images", "must be one image", remedy)


def _decode(image: Image.Image, info: ImageInfo, data: bytes, field: str) -> None:
    try:
        image.load()
        if info.format == "PNG" and _PNG_END not in data[-4096:]:
            raise OSError("its end is missing")  # Pillow is content with the pixels, others are not
    except Exception as error:
        value = f"{info.format}, {_pixels(info)}, {info.size} bytes"
        raise WanValidationError(field, value, f"is broken or cut off ({error})", "Provide the whole file") from None


def _can_scale(info: ImageInfo) -> bool:
    width, height = _target(info.width, info.height)
    return min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE


def _target(width: int, height: int) -> tuple[int, int]:
    """The nearest size within the limits; outside of them when there is none."""
    if max(width, height) > MAX_SIDE:
        scale = MAX_SIDE / max(width, height)
    elif min(width, height) < MIN_SIDE:
        scale = MIN_SIDE / min(width, height)
    else:
        return width, height
    return round(width * scale), round(height * scale)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are good, the tag is not
        return image


def _flattened(image: Image.Image) -> Image.Image:
    """sRGB, 8 bits a channel, no alpha."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = image.convert("F").point(lambda level: level / 257).convert("L")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        image = Image.alpha_composite(white, with_alpha).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        with contextlib.suppress(Exception):  # a broken or unfit profile: the colours as they are
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _encode(image: Image.Image, source: ImageInfo, formats: Collection[str], field: str) -> bytes:
    if source.format in ("PNG", "BMP") and "PNG" in formats:
        encoded = _saved(image, "PNG")
        if len(encoded) <= MAX_IMAGE_BYTES:
            return encoded
    for quality in _QUALITIES:
        encoded = _saved(image, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        if len(encoded) <= MAX_IMAGE_BYTES:
            return encoded
    raise WanValidationError(field, f"{len(encoded)} bytes as JPEG", f"at most {MAX_IMAGE_BYTES} bytes")


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    # Copied pixel by pixel: what Pillow keeps beside them (EXIF, ICC, comments) stays behind.
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    buffer = io.BytesIO()
    bare.save(buffer, kind, **options)
    return buffer.getvalue()


def _pixels(info: ImageInfo) -> str:
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


def _nature(data: bytes) -> str:
    """What the bytes seem to be, in words for an error."""
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

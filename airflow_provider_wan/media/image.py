# SPDX-License-Identifier: Apache-2.0
"""Open images, and validate them against the API's rules.

The rules: 360 to 2000 pixels on each side, at most 10 MB, one image; JPEG, PNG without alpha, BMP or WEBP. The type is
read from the bytes, never from a name.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from PIL import Image, TiffImagePlugin

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.image_parts import PNG_START, check_parts, iterate_jpeg_segments, iterate_png_chunks

MIN_SIDE = 360
MAX_SIDE = 2000
#: Bytes. "10 MB" is interpreted as the smaller value: an image that is refused here costs nothing.
MAX_IMAGE_BYTES = 10_000_000
#: Maximum size in bytes of a source that :func:`~airflow_provider_wan.media.image_fit.fit_image` accepts.
MAX_SOURCE_BYTES = 64_000_000
#: Maximum number of pixels that are decoded. Pillow itself only warns above 89 million.
MAX_SOURCE_PIXELS = 80_000_000
#: Maximum number of pixels of a JPEG that is not progressive: it is decoded at a fraction of its size.
MAX_JPEG_PIXELS = 178_000_000

CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp"}

_RULE_FORMAT = "must be a JPEG, a PNG without alpha, a BMP or a WEBP"
_RULE_SIDES = f"each side must have {MIN_SIDE} to {MAX_SIDE} pixels"
_SHRINK = "Save it with fewer pixels, as a JPEG"
_RESIZE = 'Set fit="resize" to have it adapted'
#: Formats of Pillow that are not opened: they run other programs, are documents, need them to be decoded, or contain a
#: file of any other format.
_CLOSED_FORMATS = frozenset({"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "PDF", "WMF"})
#: Formats whose several images are sizes, layers or previews of one, which Pillow chooses.
_SINGLE_FORMATS = frozenset({"CUR", "HEIF", "ICNS", "ICO", "MPO", "PSD"})
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
#: Maximum numbers of pixels of formats whose decoders need more memory for each.
_FORMAT_PIXELS = {"WEBP": 26_000_000, "AVIF": 50_000_000, "HEIF": 50_000_000}
_MAX_FRAME_PIXELS = 40_000_000
#: Formats of which a frame is decoded after all those before it.
_ANIMATED_FORMATS = frozenset({"AVIF", "FLI", "GIF", "PNG", "WEBP"})
_MAX_ANIMATION_PIXELS = 120_000_000
# Of a JPEG that is stored in several scans.
_MAX_COEFFICIENTS = 225_000_000
_MAX_SCANNED_PIXELS = 1_600_000_000
_MAX_STRIP_BYTES = 160_000_000
#: Maximum numbers of pixels of encodings that Pillow decodes in Python, by its names.
_CODEC_PIXELS = {
    **dict.fromkeys(("BLP1", "BLP2", "dds_rgb", "fits_gzip", "ppm", "ppm_plain", "qoi"), 2_500_000),
    **dict.fromkeys(("bmp_rle", "xpm"), 8_000_000),
}
_MAX_UNPACKED_BYTES = 16_000_000
_MAX_TEXT_BYTES = 64_000
_ORIENTATION = 0x0112
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
#: Keywords of PNG texts that may have an orientation.
_METADATA_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")
_DEEP_COLOUR = bytes((16, 2))  # bits per channel, and the type of colours
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class ImageInfo:
    """Properties in the header of an image.

    :param format: Pillow's name of the format.
    :param content_type: its media type; empty if the API does not accept the format.
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


def inspect_image(data: bytes, *, field: str = "img_url") -> ImageInfo:
    """Read the header, without decoding the pixels.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :raises WanValidationError: if it is not an image of a type that the API accepts.
    """
    return open_image(data, field).info


def check_image(data: bytes, *, field: str = "img_url", formats: Collection[str] = CONTENT_TYPES) -> ImageInfo:
    """Validate an image against the API's rules, and decode it once to check that it is complete.

    An EXIF orientation is allowed: the API gets the bytes unchanged, and both sides have the same limits.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :param formats: allowed types, among those of :data:`CONTENT_TYPES`.
    :raises WanValidationError: if it violates a rule.
    """
    opened = open_image(data, field)
    info = opened.info
    if info.frames > 1:
        remedy = _RESIZE if info.format == "JPEG" else 'Set fit="resize", and frame to the index of one, from 0'
        raise WanValidationError(field, f"{info.format} of {info.frames} images", "must be one image", remedy)
    if violation := find_violation(info, formats):
        value, rule = violation
        remedy = (
            _RESIZE
            if can_scale(info.width, info.height)
            else 'Set fit="pad" or fit="crop": its aspect ratio is too extreme'
        )
        raise WanValidationError(field, value, rule, remedy)
    decode_image(opened, data, field)
    return info


@dataclass(frozen=True)
class OpenImage:
    """An open image, whose pixels are not decoded yet.

    :param image: Pillow's image.
    :param info: its properties.
    :param profile: its ICC profile.
    :param depth: bits per channel in the file; None if the header does not say.
    """

    image: Image.Image
    info: ImageInfo
    profile: bytes | None
    depth: int | None = None


def open_image(data: bytes, field: str, *, any_format: bool = False, frame: int | None = None) -> OpenImage:
    """Read the header of an image.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :param any_format: open every format that can be decoded, and not only those that the API accepts.
    :param frame: index of an image in the file, from 0; None: the only one, or the primary one.
    :raises WanValidationError: if it is not an image of such a format, or has too many pixels to be opened.
    """
    check_parts(data, field)
    readable, profile = (data, None) if not data.startswith(PNG_START) else _strip_png(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = _open_heif(data, field) if any_format and _is_heif(data) else _open_pillow(readable, any_format)
            _check_pixels(image, data, frame, field)
            if frame is not None:
                _seek(image, frame, field)
                _check_pixels(image, data, frame, field)
            depth = _read_depth(image, data)
            return OpenImage(image, _build_info(image, data), profile or image.info.get("icc_profile"), depth)
    except Image.DecompressionBombError:
        rule = f"at most {MAX_SOURCE_PIXELS} pixels are decoded"
        raise WanValidationError(field, f"{len(data)} bytes that unpack to a vast image", rule, _SHRINK) from None
    except WanValidationError:
        raise
    except Exception:
        # Pillow's plugins raise errors of many types for bytes of other formats.
        description = describe_content(data)
        if description.startswith(_BROKEN) or (any_format and description in _ADAPTABLE):
            raise WanValidationError(field, description, "is broken or cut off", "Provide the whole file") from None
        if any_format:
            rule, remedy = "can't be decoded", "Convert it to a JPEG or PNG first"
        else:
            rule = _RULE_FORMAT
            remedy = _RESIZE if description in _ADAPTABLE else "Convert it first; the name's extension is ignored"
        raise WanValidationError(field, description, rule, remedy if data else "The source is empty") from None


def _open_pillow(data: bytes, any_format: bool) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_list_formats() if any_format else (*CONTENT_TYPES, "MPO"))


@cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name not in _CLOSED_FORMATS)


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[8:40]


def _open_heif(data: bytes, field: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        remedy = "pip install 'airflow-provider-wan[heif]'"
        raise WanValidationError(field, describe_content(data), "needs pillow-heif to be read", remedy) from None
    return cast("Image.Image", HeifImageFile(io.BytesIO(data)))


def _seek(image: Image.Image, frame: int, field: str) -> None:
    if image.format == "PSD" and frame == 0:
        return  # its layers are counted from 1, and the whole is open
    count = int(getattr(image, "n_frames", 1))
    try:
        image.seek(frame)
    except EOFError:
        rule = f"the file has {count} images, counted from 0"
        raise WanValidationError(field, f"frame {frame}", rule) from None


def _check_pixels(image: Image.Image, data: bytes, frame: int | None, field: str) -> None:
    """Refuse what needs too much memory or time to be decoded."""
    pixels = image.width * image.height
    limit, description = _find_pixel_limit(image, data, frame)
    value = f"{description} of {image.width}×{image.height} pixels"
    if pixels > limit:
        raise WanValidationError(field, value, f"at most {limit} pixels of it are decoded", _SHRINK)
    if frame and image.format in _ANIMATED_FORMATS and pixels * (frame + 1) > _MAX_ANIMATION_PIXELS:
        rule = f"at most {_MAX_ANIMATION_PIXELS} pixels are decoded for a frame and those before it"
        raise WanValidationError(field, f"frame {frame}, {value}", rule, "Save the frame as a picture of its own")


def _find_pixel_limit(image: Image.Image, data: bytes, frame: int | None) -> tuple[int, str]:
    """Return the maximum number of pixels of an image, and what it is."""
    name = str(image.format)
    codec = next((tile[0] for tile in getattr(image, "tile", ())), "")
    if codec in _CODEC_PIXELS:
        return _CODEC_PIXELS[codec], f"{name} of an encoding that is slow to read"
    if name in ("JPEG", "MPO"):
        return _find_jpeg_limit(image, data)
    if name == "PNG" and data[24:26] == _DEEP_COLOUR and "transparency" in image.info:  # it is decoded twice
        return _MAX_FRAME_PIXELS, "PNG of 16 bits with a transparent colour"
    if name == "GIF" and frame:
        return _MAX_FRAME_PIXELS, "animated GIF"
    if name == "TIFF" and _measure_strip(image) > _MAX_STRIP_BYTES:
        return _MAX_FRAME_PIXELS, "TIFF in one strip"
    return _FORMAT_PIXELS.get(name, MAX_SOURCE_PIXELS), name


def _find_jpeg_limit(image: Any, data: bytes) -> tuple[int, str]:
    """Return the limit of a JPEG: one of several scans is decoded as a whole, scan by scan, before it is reduced."""
    *_, scan = iterate_jpeg_segments(data)
    if not image.info.get("progressive") and data[scan + 4] >= len(image.layer):
        return MAX_JPEG_PIXELS, "JPEG"
    samples = [across * down for _, across, down, _ in image.layer]
    largest = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    scans = max(1, data.count(b"\xff\xda"))
    limit = min(MAX_SOURCE_PIXELS, _MAX_COEFFICIENTS * largest // sum(samples), _MAX_SCANNED_PIXELS // scans)
    return limit, f"{'progressive ' if image.info.get('progressive') else ''}JPEG of {scans} scans"


def _measure_strip(image: Any) -> int:
    """Return the number of bytes of a strip or tile of a TIFF, which are decoded together."""
    tags = image.tag_v2
    width = tags.get(TiffImagePlugin.TILEWIDTH, image.width)
    height = tags.get(TiffImagePlugin.TILELENGTH) or tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height)
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) * tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return int(min(width, image.width) * min(height, image.height) * bits // 8)


def _strip_png(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a PNG without the texts and the profile that Pillow refuses because of their size; and the profile.

    What AI image tools write into a PNG exceeds Pillow's limits for texts, and a display's profile those for profiles.
    """
    retained: list[bytes] = [data[:8]]
    profile, stripped = None, False
    for kind, start, end in iterate_png_chunks(data):
        content = data[start + 8 : end - 4]
        if kind == b"iCCP":
            profile, stripped = _decompress_profile(content), True
        elif kind == b"zTXt" or (kind in (b"iTXt", b"tEXt") and _is_large_text(kind, content)):
            stripped = True
        else:
            retained.append(data[start:end])
    return (b"".join(retained), profile) if stripped else (data, None)


def _is_large_text(kind: bytes, content: bytes) -> bool:
    """Return whether a text is long, or compressed and may be long."""
    is_compressed = kind == b"iTXt" and content.partition(b"\0")[2][:1] != b"\0"
    return is_compressed or len(content) > _MAX_TEXT_BYTES


def _has_png_end(data: bytes) -> bool:
    return any(kind == b"IEND" and data[start:end].endswith(_PNG_END) for kind, start, end in iterate_png_chunks(data))


def _decompress_profile(content: bytes) -> bytes | None:
    """Return the profile of an iCCP chunk; None if it is broken or too long."""
    compressed = content.partition(b"\0")[2][1:]
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(compressed, _MAX_UNPACKED_BYTES)
    except zlib.error:
        return None
    return profile if decompressor.eof else None


def _build_info(image: Image.Image, data: bytes) -> ImageInfo:
    # A camera's JPEG that is followed by a second image (MPO) is a JPEG to all who read only the first.
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    orientation = _read_orientation(image, data)
    return ImageInfo(
        format=image_format,
        content_type=CONTENT_TYPES.get(image_format, ""),
        width=image.width,
        height=image.height,
        has_alpha=image.has_transparency_data,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        frames=1 if image.format in _SINGLE_FORMATS - {"MPO"} else int(getattr(image, "n_frames", 1)),
        orientation=orientation if orientation in range(1, 9) else 1,
        mode=image.mode,
    )


def _read_depth(image: Any, data: bytes) -> int | None:
    """Return the bits per channel where Pillow's mode does not say them."""
    if image.format == "PNG":
        return data[24]
    if image.format == "PPM" and image.mode == "I":  # scaled to that
        return 16
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return int(image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0])
    return None


def _read_orientation(image: Image.Image, data: bytes) -> int:
    if image.format in ("TIFF", "HEIF"):  # decoded upright
        return 1
    try:
        if image.format == "PNG":
            image.info.update(_read_png_metadata(data))
        # Not image.getexif(): that of a PNG decodes the pixels.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is not a reason to refuse an image
        return 1


def _read_png_metadata(data: bytes) -> dict[str, str | bytes]:
    """Return what an orientation is read from, by Pillow's names, wherever it is in the file."""
    found: dict[str, tuple[bytes, bytes]] = {}
    for kind, start, end in iterate_png_chunks(data):
        name = data[start + 8 : start + 88].partition(b"\0")[0]
        if kind == b"eXIf":
            found["exif"] = kind, b"Exif\0\0" + data[start + 8 : end - 4]
        elif kind in _PNG_TEXTS and name in _METADATA_TEXTS:
            found[name.decode()] = kind, data[start + 9 + len(name) : end - 4]
    return {
        name: content if kind == b"eXIf" else _parse_png_text(kind, content) for name, (kind, content) in found.items()
    }


def _parse_png_text(kind: bytes, content: bytes) -> str:
    """Return the text of a chunk whose keyword is removed, up to a maximum length."""
    is_compressed = kind == b"zTXt"
    if kind == b"zTXt":
        content = content[1:]
    elif kind == b"iTXt":
        is_compressed = content[:1] != b"\0"
        content = content[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
    if is_compressed:
        content = zlib.decompressobj().decompress(content, _MAX_UNPACKED_BYTES)
    return content.decode("latin-1")


def find_violation(info: ImageInfo, formats: Collection[str]) -> tuple[str, str] | None:
    """Return the first rule that is violated, with the value that violates it."""
    if info.format not in formats:
        return info.format, f"must be {' or '.join(formats)} here"
    if not (MIN_SIDE <= info.width <= MAX_SIDE and MIN_SIDE <= info.height <= MAX_SIDE):
        return format_size(info), _RULE_SIDES
    if info.format == "PNG" and info.has_alpha:
        return "PNG with alpha", _RULE_FORMAT
    if info.size > MAX_IMAGE_BYTES:
        return f"{info.size} bytes", f"at most {MAX_IMAGE_BYTES} bytes"
    return None


def decode_image(opened: OpenImage, data: bytes, field: str) -> None:
    """Decode the pixels.

    :param opened: the open image.
    :param data: the whole file.
    :param field: name of the argument, for the error.
    :raises WanValidationError: if it is broken or cut off.
    """
    info = opened.info
    try:
        opened.image.load()
        if info.format == "PNG" and not _has_png_end(data):
            raise OSError("its end is missing")  # Pillow accepts such a file, others do not
    except Exception as error:
        value = f"{info.format}, {format_size(info)}, {info.size} bytes"
        raise WanValidationError(field, value, f"is broken or cut off ({error})", "Provide the whole file") from None


def can_scale(width: int, height: int) -> bool:
    """Return whether scaling alone brings an image within the limits.

    :param width: its width in pixels.
    :param height: its height in pixels.
    """
    width, height = compute_target_size(width, height)
    return min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE


def compute_target_size(width: int, height: int) -> tuple[int, int]:
    """Return the nearest size within the limits; one outside of them if there is none.

    :param width: width of the image in pixels.
    :param height: height of the image in pixels.
    """
    if max(width, height) > MAX_SIDE:
        scale = MAX_SIDE / max(width, height)
    elif min(width, height) < MIN_SIDE:
        scale = MIN_SIDE / min(width, height)
    else:
        return width, height
    return round(width * scale), round(height * scale)


def format_size(info: ImageInfo) -> str:
    """Return the size of an image for an error.

    :param info: its properties.
    """
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
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (4, b"ftypheic", "a HEIC"),
    (4, b"ftypheix", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftypheim", "a HEIC"),
    (4, b"ftypheis", "a HEIC"),
    (4, b"ftyphevc", "a HEIC"),
    (4, b"ftypmsf1", "a HEIF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\xd8\xff", _BROKEN + "JPEG"),
    (0, b"\x89PNG", _BROKEN + "PNG"),
    (0, b"BM", _BROKEN + "BMP"),
    (8, b"WEBP", _BROKEN + "WEBP"),
)
#: Descriptions of formats that are adapted with fit="resize".
_ADAPTABLE = frozenset({"a GIF", "a TIFF", "an ICO", "a Photoshop file", "a JPEG 2000", "a HEIC", "a HEIF", "an AVIF"})


def describe_content(data: bytes) -> str:
    """Describe what the bytes seem to be, for an error.

    :param data: the whole file.
    """
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

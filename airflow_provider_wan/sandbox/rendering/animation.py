# SPDX-License-Identifier: Apache-2.0
"""The frames of a clip: the image under a slow camera move, with a light that sweeps over it.

The image is processed as YUV 4:2:0 planes from the start, which halves the work per frame.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

FPS = 30
PIXELS = {"720P": 1280 * 720, "1080P": 1920 * 1080}
ZOOM = 0.22
LIGHT = 64
MARK = "wan sandbox"


def output_size(width: int, height: int, resolution: str) -> tuple[int, int]:
    """Compute the size of a clip: the resolution's pixel count, the image's aspect ratio, sides multiples of 16."""
    pixels = PIXELS[resolution]
    wide = isqrt(pixels * width // height) // 16 * 16
    high = isqrt(pixels * height // width) // 16 * 16
    return wide, high


@dataclass(frozen=True)
class CameraPath:
    """A camera move over the image, in fractions of its size; the zoom is the fraction that is cropped."""

    zoom_from: float
    zoom_to: float
    x: float
    y: float

    def window(self, progress: float) -> tuple[float, float, float, float]:
        """Return the visible window (left, top, right, bottom) as fractions of the image."""
        eased = progress * progress * (3 - 2 * progress)
        cut = self.zoom_from + (self.zoom_to - self.zoom_from) * eased
        left, top = cut * self.x, cut * self.y
        return left, top, left + 1 - cut, top + 1 - cut


class Animation:
    """Frames of one clip.

    :param image: the image, RGB.
    :param size: width and height of the clip.
    :param seed: seed of the camera move and the light.
    :param cuts: two shots instead of one.
    :param mark: whether to draw a visible ``wan sandbox``.
    """

    def __init__(self, image: Image.Image, size: tuple[int, int], seed: str, cuts: bool, watermark: bool) -> None:
        roll = random.Random(f"motion:{seed}")
        self._size = size
        self._half = size[0] // 2, size[1] // 2
        self._shots = [CameraPath(0.0, ZOOM, roll.random(), roll.random())]
        if cuts:
            self._shots.append(CameraPath(ZOOM * 1.8, ZOOM * 0.8, roll.random(), roll.random()))
        self._planes = _planes(image, size)
        self._rightward = roll.random() < 0.5
        self._light = _light(size, slant=roll.uniform(-0.4, 0.4))
        self._watermark = _watermark(size) if watermark else None

    def frames(self, count: int) -> Iterator[bytes]:
        """Yield the bytes of each frame: its planes one after the other."""
        for index in range(count):
            yield self._frame(index / max(1, count - 1), index, count)

    def _frame(self, progress: float, index: int, count: int) -> bytes:
        from PIL import Image, ImageChops

        shot_index = min(len(self._shots) - 1, index * len(self._shots) // count)
        shot_progress = progress * len(self._shots) - shot_index
        left, top, right, bottom = self._shots[shot_index].window(shot_progress)
        planes = []
        for plane, size in zip(self._planes, (self._size, self._half, self._half), strict=True):
            box = (left * plane.width, top * plane.height, right * plane.width, bottom * plane.height)
            planes.append(plane.resize(size, Image.Resampling.BILINEAR, box=box))
        width, height = self._size
        light_progress = progress if self._rightward else 1 - progress
        offset = round((1 - light_progress) * (self._light.width - width))
        planes[0] = ImageChops.add(planes[0], self._light.crop((offset, 0, offset + width, height)))
        if self._watermark is not None:
            mask, place = self._watermark
            planes[0].paste(235, place, mask)
            for plane in planes[1:]:
                half = mask.resize((mask.width // 2, mask.height // 2))
                plane.paste(128, (place[0] // 2, place[1] // 2), half)
        return b"".join(plane.tobytes() for plane in planes)


def poster(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop and scale the image to the size of the clip."""
    from PIL import Image, ImageOps

    return ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def _planes(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, Image.Image, Image.Image]:
    import av
    import numpy as np
    from PIL import Image

    picture = np.asarray(poster(image, size))
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
    data = frame.to_ndarray().tobytes()
    luma = size[0] * size[1]
    chroma, half = luma // 4, (size[0] // 2, size[1] // 2)
    return (
        Image.frombytes("L", size, data[:luma]),
        Image.frombytes("L", half, data[luma : luma + chroma]),
        Image.frombytes("L", half, data[luma + chroma :]),
    )


def _light(size: tuple[int, int], slant: float) -> Image.Image:
    """Draw a slanted soft stripe in the middle of a dark strip three times as wide as the clip."""
    import numpy as np
    from PIL import Image

    width, height = size
    x = np.arange(width * 3, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    distance = (x - width * 1.5 - (y - height / 2) * slant) / (width * 0.16)
    glow = LIGHT * np.exp(-(distance**2))
    return Image.fromarray(glow.astype(np.uint8))


def _watermark(size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(16, size[1] // 22))
    left, top, right, bottom = font.getbbox(MARK)
    width, height = (int(right - left) + 9) // 2 * 2, (int(bottom - top) + 9) // 2 * 2
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).text((4 - left, 4 - top), MARK, fill=230, font=font)
    return mask, ((size[0] - width - 24) // 2 * 2, (size[1] - height - 24) // 2 * 2)

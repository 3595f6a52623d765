# SPDX-License-Identifier: Apache-2.0
"""Makes clips in worker threads, away from the server's loop."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.sandbox import fetch, motion, sound, video
from airflow_provider_wan.sandbox.blobs import FolderBlobs
from airflow_provider_wan.sandbox.boxes import free_box
from airflow_provider_wan.sandbox.checks import DEFAULTS
from airflow_provider_wan.sandbox.config import RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.job import Job, Rendered, RenderFailed

if TYPE_CHECKING:
    from PIL import Image

    from airflow_provider_wan.sandbox.sound import Samples

Done = Callable[[str, Rendered | RenderFailed], None]
INSTALL = "the sandbox makes videos with {missing}: pip install 'airflow-provider-wan[sandbox]'"


class MissingDependencyError(RuntimeError):
    """A package of the ``sandbox`` extra is not installed."""


def require_packages() -> None:
    """Check that clips can be made here.

    :raises MissingDependencyError: when a package is not installed; says how to install it.
    """
    missing = [name for name in ("av", "PIL", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(INSTALL.format(missing=", ".join(missing)))


@dataclass(frozen=True)
class Order:
    """What a worker needs to know of a request."""

    request_id: str
    payload: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, job: Job, config: SandboxConfig) -> Order:
        """The order for a request; one without a seed is given one, as the service does."""
        payload = {**DEFAULTS, **job.payload}
        drawn = hashlib.sha256(f"seed:{config.seed}:{job.number}".encode()).digest()
        return cls(job.request_id, payload, payload.get("seed", int.from_bytes(drawn[:4]) >> 1))

    def recipe(self, image: bytes) -> str:
        """What decides the clip's bytes: the seed, the parameters, the image's bytes (not its URL)."""
        told = {name: value for name, value in self.payload.items() if not name.endswith("_url")}
        told["seed"] = self.seed
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        digest.update(image)
        return digest.hexdigest()


class ThreadRenderer:
    """Makes clips with a few threads.

    :param config: time-outs, the mode, the number of threads.
    :param folder: where the files go.
    :param done: called in a worker thread with each clip, or the reason why there is none.
    :raises MissingDependencyError: when a package is not installed.
    """

    def __init__(self, config: SandboxConfig, folder: FolderBlobs, done: Done) -> None:
        require_packages()
        self._config = config
        self._folder = folder
        self._done = done
        self._begun: set[str] = set()
        self._closing = threading.Event()
        self._templates: dict[tuple[int, int, int, bool], bytes] = {}
        self._template_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(config.render_workers, thread_name_prefix="wan-sandbox-render")

    def start(self, job: Job) -> None:
        """Begin to make a request's clip, unless that has begun."""
        if job.request_id in self._begun or self._closing.is_set():
            return
        self._begun.add(job.request_id)
        self._pool.submit(self._work, Order.of(job, self._config))

    def close(self) -> None:
        """Stop; a clip in the making is given up."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, order: Order) -> None:
        try:
            result: Rendered | RenderFailed = self._make(order)
        except fetch.MediaError as problem:
            result = RenderFailed(str(problem))
        except video.Stopped:
            return
        except Exception as problem:
            result = RenderFailed(f"sandbox error: {type(problem).__name__}: {problem}")
        self._done(order.request_id, result)

    def _make(self, order: Order) -> Rendered:
        seconds = self._config.fetch_seconds
        data = fetch.download(order.payload["img_url"], seconds, fetch.IMAGE_BYTES)
        image = fetch.read_image(data)
        size = motion.output_size(image.width, image.height, order.payload["resolution"])
        recipe = order.recipe(data)
        duration = order.payload["duration"]
        samples: Samples | None = None
        if order.payload["audio_url"]:
            given = fetch.download(order.payload["audio_url"], seconds, fetch.AUDIO_BYTES)
            samples = sound.read_audio(given, duration)
        elif order.payload["audio"]:
            samples = sound.synthesize(recipe, duration)
        made = Rendered(f"{order.request_id}.mp4", f"{order.request_id}.jpg")
        if self._config.render is RenderMode.TINY:
            clip = self._template(size, duration, samples is not None) + free_box(recipe.encode())
            self._folder.put(made.video, clip)
        else:
            multi = order.payload["shot_type"] == "multi" and order.payload["prompt_extend"]
            film = motion.Film(image, size, recipe, multi, order.payload["watermark"])
            self._write(made.video, size, film, duration, samples)
        self._folder.put(f"{order.request_id}.jpg", _jpeg(motion.poster(image, size)))
        return made

    def _write(
        self, name: str, size: tuple[int, int], film: motion.Film, duration: int, samples: Samples | None
    ) -> None:
        temporary = self._folder.path(f".new-{name}")
        try:
            frames = film.frames(duration * motion.FPS)
            video.write_clip(temporary, size, frames, samples, self._closing.is_set)
            os.replace(temporary, self._folder.path(name))
        finally:
            temporary.unlink(missing_ok=True)

    def _template(self, size: tuple[int, int], duration: int, audio: bool) -> bytes:
        key = (*size, duration, audio)
        with self._template_lock:
            if key not in self._templates:
                self._templates[key] = self._make_template(size, duration, audio)
            return self._templates[key]

    def _make_template(self, size: tuple[int, int], duration: int, audio: bool) -> bytes:
        import numpy as np

        luma = size[0] * size[1]
        frame = bytes([60]) * luma + bytes([128]) * (luma // 2)
        samples = np.zeros((2, duration * sound.RATE), dtype=np.float32) if audio else None
        temporary = Path(self._folder.path(f".template-{size[0]}x{size[1]}-{duration}-{audio}.mp4"))
        try:
            count = duration * motion.FPS
            video.write_clip(temporary, size, (frame for _ in range(count)), samples, self._closing.is_set)
            return temporary.read_bytes()
        finally:
            temporary.unlink(missing_ok=True)


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return data.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""Rendering of clips in worker threads, outside the server's event loop."""

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

from airflow_provider_wan.sandbox.blob_store import FolderBlobStore
from airflow_provider_wan.sandbox.config import RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.contract import DEFAULTS
from airflow_provider_wan.sandbox.job import RenderedFiles, RenderFailure, SandboxJob
from airflow_provider_wan.sandbox.rendering import animation, media_download, sound, video
from airflow_provider_wan.sandbox.rendering.mp4_boxes import free_box

if TYPE_CHECKING:
    from PIL import Image

    from airflow_provider_wan.sandbox.rendering.sound import Samples

RenderCallback = Callable[[str, RenderedFiles | RenderFailure], None]
#: Fields that hold an image, of all models.
IMAGE_FIELDS = ("img_url", "first_frame", "last_frame", "image_url", "image")
INSTALL = "the sandbox makes videos with {missing}: pip install 'airflow-provider-wan[sandbox]'"


class MissingDependencyError(RuntimeError):
    """A package of the ``sandbox`` extra is not installed."""


def require_packages() -> None:
    """Check that the packages for rendering are installed.

    :raises MissingDependencyError: if a package is missing; the message says how to install it.
    """
    missing = [name for name in ("av", "PIL", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(INSTALL.format(missing=", ".join(missing)))


@dataclass(frozen=True)
class RenderTask:
    """Parameters of one clip to render."""

    request_id: str
    payload: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, job: SandboxJob, config: SandboxConfig) -> RenderTask:
        """Build the task of a request; a missing seed is drawn, as the service does."""
        given = {**job.payload, "duration": job.duration}
        given["img_url"] = next((given[name] for name in IMAGE_FIELDS if given.get(name)), None)
        given["audio_url"] = given.get("audio_url") or given.get("driving_audio")
        payload = {**DEFAULTS, **given}
        drawn = hashlib.sha256(f"seed:{config.seed}:{job.number}".encode()).digest()
        return cls(job.request_id, payload, payload.get("seed", int.from_bytes(drawn[:4]) >> 1))

    def recipe(self, image: bytes) -> str:
        """Hash everything that determines the clip: seed, parameters and image bytes (not the URL)."""
        parameters = {name: value for name, value in self.payload.items() if not name.endswith("_url")}
        parameters["seed"] = self.seed
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
        digest.update(image)
        return digest.hexdigest()


class ThreadRenderer:
    """Renderer with a pool of threads.

    :param config: timeouts, render mode and number of threads.
    :param folder: storage of the files.
    :param done: called in a worker thread with each clip or failure.
    :raises MissingDependencyError: if a package is not installed.
    """

    def __init__(self, config: SandboxConfig, folder: FolderBlobStore, done: RenderCallback) -> None:
        require_packages()
        self._config = config
        self._folder = folder
        self._done = done
        self._started: set[str] = set()
        self._closing = threading.Event()
        self._templates: dict[tuple[int, int, int, bool], bytes] = {}
        self._template_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(config.render_workers, thread_name_prefix="wan-sandbox-render")

    def start(self, job: SandboxJob) -> None:
        """Start rendering the clip of a request, unless that has been started already."""
        if job.request_id in self._started or self._closing.is_set():
            return
        self._started.add(job.request_id)
        self._pool.submit(self._run, RenderTask.of(job, self._config))

    def close(self) -> None:
        """Stop the threads; unfinished clips are abandoned."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, task: RenderTask) -> None:
        try:
            result: RenderedFiles | RenderFailure = self._render(task)
        except media_download.MediaError as problem:
            result = RenderFailure(str(problem))
        except video.RenderAborted:
            return
        except Exception as problem:
            result = RenderFailure(f"sandbox error: {type(problem).__name__}: {problem}")
        self._done(task.request_id, result)

    def _render(self, task: RenderTask) -> RenderedFiles:
        seconds = self._config.fetch_seconds
        url = task.payload["img_url"]
        data = b"" if url is None else media_download.download(url, seconds, media_download.IMAGE_BYTES)
        image = media_download.read_image(data) if data else _blank_image()
        size = animation.output_size(image.width, image.height, task.payload["resolution"])
        recipe = task.recipe(data)
        duration = task.payload["duration"]
        samples: Samples | None = None
        if task.payload["audio_url"]:
            given = media_download.download(task.payload["audio_url"], seconds, media_download.AUDIO_BYTES)
            samples = sound.read_audio(given, duration)
        elif task.payload["audio"]:
            samples = sound.synthesize(recipe, duration)
        made = RenderedFiles(f"{task.request_id}.mp4", f"{task.request_id}.jpg")
        if self._config.render is RenderMode.TINY:
            clip = self._template(size, duration, samples is not None) + free_box(recipe.encode())
            self._folder.put(made.video, clip)
        else:
            multi = task.payload["shot_type"] == "multi" and task.payload["prompt_extend"]
            animated = animation.Animation(image, size, recipe, multi, task.payload["watermark"])
            self._write(made.video, size, animated, duration, samples)
        self._folder.put(f"{task.request_id}.jpg", _jpeg(animation.poster(image, size)))
        return made

    def _write(
        self,
        name: str,
        size: tuple[int, int],
        animated: animation.Animation,
        duration: int,
        samples: Samples | None,
    ) -> None:
        temporary = self._folder.path(f".new-{name}")
        try:
            frames = animated.frames(duration * animation.FPS)
            video.write_clip(temporary, size, frames, samples, self._closing.is_set)
            os.replace(temporary, self._folder.path(name))
        finally:
            temporary.unlink(missing_ok=True)

    def _template(self, size: tuple[int, int], duration: int, audio: bool) -> bytes:
        key = (*size, duration, audio)
        with self._template_lock:
            if key not in self._templates:
                self._templates[key] = self._render_template(size, duration, audio)
            return self._templates[key]

    def _render_template(self, size: tuple[int, int], duration: int, audio: bool) -> bytes:
        import numpy as np

        luma = size[0] * size[1]
        frame = bytes([60]) * luma + bytes([128]) * (luma // 2)
        samples = np.zeros((2, duration * sound.RATE), dtype=np.float32) if audio else None
        temporary = Path(self._folder.path(f".template-{size[0]}x{size[1]}-{duration}-{audio}.mp4"))
        try:
            count = duration * animation.FPS
            video.write_clip(temporary, size, (frame for _ in range(count)), samples, self._closing.is_set)
            return temporary.read_bytes()
        finally:
            temporary.unlink(missing_ok=True)


def _blank_image() -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (1280, 720), (96, 96, 96))


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return data.getvalue()
